//! The lines in which inputs wait for the core.
//!
//! There are two, both bounded. Frames of connections that said hello wait in one; in the other stands who comes or
//! goes. In each turn the core takes all of the first and a few of the second, so a crowd that comes at once waits for
//! itself, and those who talk meanwhile do not wait for it.
//!
//! *Invariant:* of one connection, inputs are taken in the order in which they were given, since its first message goes
//! by [`CoreHandle::introduce`].

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hongyan_protocol::Code;
use tokio::sync::{mpsc, oneshot};

use super::limits::{NEWCOMERS_PER_TURN_MAX, NEWCOMERS_WAITING_MAX, SETTLED_WAITING_MAX};
use super::outgoing::Outgoing;
use super::traffic::Traffic;
use crate::core::ConnectionId;
use crate::core::queries::{Answer, Query};

/// What a connection's task tells the core.
pub(crate) enum Inbound {
    /// A WebSocket is open.
    Connected(ConnectionId, Arc<Outgoing>),
    /// It sent its first message, which is binary. The core says when it has taken it: what follows it waits in the
    /// other line, so it must not be sent before.
    First(ConnectionId, Bytes, oneshot::Sender<()>),
    /// It sent another binary message.
    Frame(ConnectionId, Bytes),
    /// It is gone.
    Closed(ConnectionId),
    /// Somebody sent a goodbye besides the socket.
    Goodbye(Bytes),
    /// The app's server asks, and waits.
    Query(Query, oneshot::Sender<Answer>),
}

/// What the host tells the core.
pub(crate) enum Order {
    Drain { spread: Duration },
    CloseAll(Code),
    Stop,
}

/// The way to the core. Cheap to clone.
#[derive(Clone)]
pub(crate) struct CoreHandle {
    settled: mpsc::Sender<Inbound>,
    newcomers: mpsc::Sender<Inbound>,
    orders: mpsc::UnboundedSender<Order>,
    traffic: Arc<Traffic>,
}

/// The core's end of it.
pub(crate) struct Lines {
    settled: mpsc::Receiver<Inbound>,
    newcomers: mpsc::Receiver<Inbound>,
    /// What ended a wait.
    first_settled: Option<Inbound>,
    first_newcomer: Option<Inbound>,
}

/// Both ends, and what the host orders, which waits in no line. `traffic` hears what sockets took.
pub(crate) fn lines(traffic: Arc<Traffic>) -> (CoreHandle, Lines, mpsc::UnboundedReceiver<Order>) {
    let (settled, settled_rx) = mpsc::channel(SETTLED_WAITING_MAX);
    let (newcomers, newcomers_rx) = mpsc::channel(NEWCOMERS_WAITING_MAX);
    let (orders, orders_rx) = mpsc::unbounded_channel();
    let handle = CoreHandle { settled, newcomers, orders, traffic };
    let lines =
        Lines { settled: settled_rx, newcomers: newcomers_rx, first_settled: None, first_newcomer: None };
    (handle, lines, orders_rx)
}

impl CoreHandle {
    /// Hands an input over, and waits while its line is full. False when the core has ended.
    pub(crate) async fn send(&self, inbound: Inbound) -> bool {
        let line = match &inbound {
            Inbound::Frame(..) | Inbound::Query(..) => &self.settled,
            Inbound::Connected(..) | Inbound::First(..) | Inbound::Closed(_) | Inbound::Goodbye(_) => {
                &self.newcomers
            }
        };
        line.send(inbound).await.is_ok()
    }

    /// Hands a connection's first message over, and waits until the core has taken it. False when the core has ended.
    pub(crate) async fn introduce(&self, connection: ConnectionId, frame: Bytes) -> bool {
        let (taken, is_taken) = oneshot::channel();
        self.send(Inbound::First(connection, frame, taken)).await && is_taken.await.is_ok()
    }

    /// Asks the core. `None` when it has ended.
    pub(crate) async fn ask(&self, query: Query) -> Option<Answer> {
        let (answer, answered) = oneshot::channel();
        if !self.send(Inbound::Query(query, answer)).await {
            return None;
        }
        answered.await.ok()
    }

    /// What sockets took.
    pub(crate) fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// See [`crate::core::Input::Drain`].
    pub(crate) fn drain(&self, spread: Duration) {
        self.order(Order::Drain { spread });
    }

    /// Ends every connection.
    pub(crate) fn close_all(&self, code: Code) {
        self.order(Order::CloseAll(code));
    }

    /// Ends the core's thread, and lets go of the store.
    pub(crate) fn stop(&self) {
        self.order(Order::Stop);
    }

    fn order(&self, order: Order) {
        // A core that has ended has nothing left to do.
        let _ = self.orders.send(order);
    }
}

impl Lines {
    /// Waits until something is in a line.
    pub(crate) async fn wait(&mut self) {
        tokio::select! {
            biased;
            Some(inbound) = self.settled.recv() => self.first_settled = Some(inbound),
            Some(inbound) = self.newcomers.recv() => self.first_newcomer = Some(inbound),
            // Nobody is left who could say anything; the orders tell how it ends.
            else => std::future::pending().await,
        }
    }

    /// Takes one turn's inputs, without waiting.
    pub(crate) fn take(&mut self, inputs: &mut Vec<Inbound>) {
        // Looked at before the settled, though handled after them: what a connection sent before its end is then
        // either handled already, or among the settled that are taken now.
        let mut newcomers: Vec<_> = self.first_newcomer.take().into_iter().collect();
        while newcomers.len() < NEWCOMERS_PER_TURN_MAX
            && let Ok(inbound) = self.newcomers.try_recv()
        {
            newcomers.push(inbound);
        }
        inputs.extend(self.first_settled.take());
        for _ in 0..SETTLED_WAITING_MAX {
            let Ok(inbound) = self.settled.try_recv() else { break };
            inputs.push(inbound);
        }
        inputs.append(&mut newcomers);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: ConnectionId = ConnectionId(1);

    fn frame() -> Inbound {
        Inbound::Frame(ALICE, Bytes::new())
    }

    #[tokio::test]
    async fn a_crowd_of_newcomers_is_behind_all_who_talk() {
        let (core, mut lines, _orders) = lines(Arc::new(Traffic::new(1)));
        for _ in 0..NEWCOMERS_WAITING_MAX {
            assert!(core.send(Inbound::Connected(ConnectionId(2), Arc::default())).await);
        }
        for _ in 0..SETTLED_WAITING_MAX {
            assert!(core.send(frame()).await);
        }
        assert!(core.newcomers.try_send(frame()).is_err() && core.settled.try_send(frame()).is_err());
        let mut inputs = Vec::new();
        lines.wait().await;
        lines.take(&mut inputs);
        assert_eq!(inputs.len(), SETTLED_WAITING_MAX + NEWCOMERS_PER_TURN_MAX);
        assert!(inputs[..SETTLED_WAITING_MAX].iter().all(|inbound| matches!(inbound, Inbound::Frame(..))));
    }

    #[tokio::test]
    async fn what_a_connection_sent_comes_before_its_end() {
        let (core, mut lines, _orders) = lines(Arc::new(Traffic::new(1)));
        assert!(core.send(Inbound::Closed(ConnectionId(2))).await);
        lines.wait().await;
        for _ in 0..SETTLED_WAITING_MAX {
            assert!(core.send(frame()).await);
        }
        assert!(core.send(Inbound::Closed(ALICE)).await);
        let mut inputs = Vec::new();
        lines.take(&mut inputs);
        assert_eq!(inputs.len(), SETTLED_WAITING_MAX + 2);
        assert!(matches!(inputs.last(), Some(Inbound::Closed(ALICE))));
    }
}
