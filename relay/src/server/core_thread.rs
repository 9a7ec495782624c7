//! The core's thread and the thread that commits.
//!
//! The core lives on one thread of the operating system; everything reaches it through one bounded line of inputs,
//! served in the order of coming, so a connection that floods waits for its turn like everybody. Commits run on a
//! second thread, one at a time, and meanwhile the core gathers the next.
//!
//! *Invariant:* the core's thread never waits for a socket or the disk; when either thread ends in a panic the
//! program ends, loudly.

use std::any::Any;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use hongyan_protocol::{Code, Time};
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep_until;

use super::limits::{INPUTS_PER_TURN_MAX, INPUTS_WAITING_MAX};
use super::outgoing::{Outgoing, WrittenBoard};
use crate::core::queries::{Answer, Query, QueryId};
use crate::core::{ConnectionId, Input, Moment, Now, Output, Ticket};
use crate::store::{Batch, StoreError};

/// The core, as this thread uses it.
pub(crate) trait Machine: Send + 'static {
    /// Takes one input; [`Machine::poll`] has given `None` before.
    fn handle(&mut self, now: Now, input: Input);
    /// The next thing to do.
    fn poll(&mut self) -> Option<Output>;
    /// When [`Input::Tick`] is due.
    fn next_deadline(&self) -> Option<Moment>;
    /// A read that the store failed since, for the log.
    fn take_fault(&mut self) -> Option<String>;
}

/// Makes a batch durable.
pub(crate) type Commit = Box<dyn FnMut(&Batch) -> Result<(), StoreError> + Send>;

/// What a connection's task tells the core.
pub(crate) enum Inbound {
    /// A WebSocket is open.
    Connected(ConnectionId, Arc<Outgoing>),
    /// It sent a binary message.
    Frame(ConnectionId, Bytes),
    /// It is gone.
    Closed(ConnectionId),
    /// Somebody sent a goodbye besides the socket.
    Goodbye(Bytes),
    /// The app's server asks, and waits.
    Query(Query, oneshot::Sender<Answer>),
}

enum Order {
    Drain { spread: Duration },
    CloseAll(Code),
    Stop,
}

/// How the core came to its end.
#[derive(Debug)]
pub(crate) enum End {
    /// It was told to stop.
    Stopped,
    /// The store failed; the sentence says how.
    Failed(String),
    /// A defect of the relay.
    Panicked(&'static str),
}

/// The way to the core. Cheap to clone.
#[derive(Clone)]
pub(crate) struct CoreHandle {
    inbound: mpsc::Sender<Inbound>,
    orders: mpsc::UnboundedSender<Order>,
    written: Arc<WrittenBoard>,
}

/// What the core tells of itself, each once.
pub(crate) struct CoreEvents {
    /// After [`CoreHandle::drain`]: nothing waits for a commit any more.
    pub(crate) drained: oneshot::Receiver<()>,
    /// It ended. Comes before the threads have let go of the store …
    pub(crate) end: mpsc::UnboundedReceiver<End>,
    /// … which is when this one joins.
    pub(crate) thread: thread::JoinHandle<()>,
}

impl CoreHandle {
    /// Hands an input over, and waits while the line is full. False when the core has ended.
    pub(crate) async fn send(&self, inbound: Inbound) -> bool {
        self.inbound.send(inbound).await.is_ok()
    }

    /// Asks the core. `None` when it has ended.
    pub(crate) async fn ask(&self, query: Query) -> Option<Answer> {
        let (answer, answered) = oneshot::channel();
        self.inbound.send(Inbound::Query(query, answer)).await.ok()?;
        answered.await.ok()
    }

    /// A socket took so many bytes.
    pub(crate) fn written(&self, connection: ConnectionId, bytes: usize) {
        self.written.report(connection, bytes);
    }

    /// See [`Input::Drain`].
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

/// Starts both threads.
///
/// # Errors
/// When the system gives no thread.
pub(crate) fn spawn(machine: impl Machine, commit: Commit) -> std::io::Result<(CoreHandle, CoreEvents)> {
    let (inbound, inbound_rx) = mpsc::channel(INPUTS_WAITING_MAX);
    let (orders, orders_rx) = mpsc::unbounded_channel();
    let (drained, drained_rx) = oneshot::channel();
    let (end, end_rx) = mpsc::unbounded_channel();
    let written = Arc::new(WrittenBoard::default());

    // One commit is under way at most, so neither side ever waits to hand over.
    let (batches, batches_rx) = std::sync::mpsc::sync_channel(1);
    let (committed, committed_rx) = mpsc::channel(1);
    let committer_end = end.clone();
    let committer = thread::Builder::new().name("commit".into()).spawn(move || {
        guard(&committer_end, "the thread that commits", || run_commits(commit, &batches_rx, &committed));
    })?;

    let core_written = Arc::clone(&written);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let core = thread::Builder::new().name("core".into()).spawn(move || {
        guard(&end, "the core", || {
            let actor = Actor {
                machine,
                clock: Clock::start(),
                connections: HashMap::new(),
                queries: HashMap::new(),
                queried: 0,
                touched: Vec::new(),
                batches,
                drained: Some(drained),
                failed: None,
            };
            let lines = Lines { inbound: inbound_rx, orders: orders_rx, committed: committed_rx };
            let outcome = runtime.block_on(actor.run(lines, &core_written));
            let _ = end.send(outcome);
        });
        // The store is closed when both are through with it.
        let _ = committer.join();
    })?;
    let handle = CoreHandle { inbound, orders, written };
    Ok((handle, CoreEvents { drained: drained_rx, end: end_rx, thread: core }))
}

/// Runs a thread's body, and reports its panic; the panic hook has said where.
fn guard(end: &mpsc::UnboundedSender<End>, who: &'static str, body: impl FnOnce()) {
    let outcome: Result<(), Box<dyn Any + Send>> = catch_unwind(AssertUnwindSafe(body));
    if outcome.is_err() {
        let _ = end.send(End::Panicked(who));
    }
}

fn run_commits(
    mut commit: Commit,
    batches: &std::sync::mpsc::Receiver<(Ticket, Batch)>,
    committed: &mpsc::Sender<(Ticket, Result<(), StoreError>)>,
) {
    while let Ok((ticket, batch)) = batches.recv() {
        let result = commit(&batch);
        drop(batch);
        if committed.blocking_send((ticket, result)).is_err() {
            return;
        }
    }
}

/// Both clocks.
struct Clock {
    origin: Instant,
}

impl Clock {
    fn start() -> Self {
        Self { origin: Instant::now() }
    }

    fn now(&self) -> Now {
        let moment = u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX);
        // A clock before 1970 counts as 1970.
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { moment: Moment(moment), time: Time(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)) }
    }

    fn instant(&self, moment: Moment) -> Instant {
        // A deadline beyond what the clock can say is as good as none.
        let far = Duration::from_secs(3600);
        let now = self.now().moment;
        Instant::now() + Duration::from_millis(moment.0.saturating_sub(now.0)).min(far)
    }
}

struct Lines {
    inbound: mpsc::Receiver<Inbound>,
    orders: mpsc::UnboundedReceiver<Order>,
    committed: mpsc::Receiver<(Ticket, Result<(), StoreError>)>,
}

struct Actor<M> {
    machine: M,
    clock: Clock,
    connections: HashMap<ConnectionId, Arc<Outgoing>>,
    /// Who waits for an answer. Bounded by the API, which lets few requests ask at once.
    queries: HashMap<QueryId, oneshot::Sender<Answer>>,
    /// How many asked so far.
    queried: u64,
    /// Connections to wake at the end of the turn; one may be there twice.
    touched: Vec<Arc<Outgoing>>,
    batches: std::sync::mpsc::SyncSender<(Ticket, Batch)>,
    drained: Option<oneshot::Sender<()>>,
    /// Why it must end.
    failed: Option<End>,
}

impl<M: Machine> Actor<M> {
    async fn run(mut self, mut lines: Lines, written: &WrittenBoard) -> End {
        let mut inputs = Vec::with_capacity(INPUTS_PER_TURN_MAX);
        loop {
            let deadline = self.machine.next_deadline().map(|moment| self.clock.instant(moment));
            tokio::select! {
                biased;
                order = lines.orders.recv() => match order {
                    Some(Order::Drain { spread }) => {
                        let spread_ms = u64::try_from(spread.as_millis()).unwrap_or(u64::MAX);
                        self.step(Input::Drain { spread_ms });
                    }
                    Some(Order::CloseAll(code)) => self.close_all(code),
                    Some(Order::Stop) | None => return End::Stopped,
                },
                Some((ticket, result)) = lines.committed.recv() => {
                    self.step(Input::Committed(ticket, result));
                }
                () = sleep_until(deadline.unwrap_or_else(Instant::now).into()), if deadline.is_some() => {
                    self.step(Input::Tick);
                }
                () = written.news() => {}
                _ = lines.inbound.recv_many(&mut inputs, INPUTS_PER_TURN_MAX) => {}
            }
            // Whatever ended the wait, nobody's news waits behind a flood of another kind.
            for (connection, bytes) in written.take() {
                self.step(Input::Written(connection, bytes));
            }
            while inputs.len() < INPUTS_PER_TURN_MAX
                && let Ok(inbound) = lines.inbound.try_recv()
            {
                inputs.push(inbound);
            }
            for inbound in inputs.drain(..) {
                self.take(inbound);
            }
            if let Some(fault) = self.machine.take_fault() {
                tracing::error!("The store failed a read: {fault}");
            }
            for outgoing in self.touched.drain(..) {
                outgoing.wake();
            }
            if let Some(end) = self.failed.take() {
                return end;
            }
        }
    }

    fn take(&mut self, inbound: Inbound) {
        match inbound {
            Inbound::Connected(connection, outgoing) => {
                self.connections.insert(connection, outgoing);
                self.step(Input::Connected(connection));
            }
            Inbound::Frame(connection, frame) => self.step(Input::Frame(connection, frame)),
            Inbound::Closed(connection) => {
                self.connections.remove(&connection);
                self.step(Input::Closed(connection));
            }
            Inbound::Goodbye(body) => self.step(Input::Goodbye(body)),
            Inbound::Query(query, answer) => {
                self.queried += 1;
                let id = QueryId(self.queried);
                self.queries.insert(id, answer);
                self.step(Input::Query(id, query));
            }
        }
    }

    fn step(&mut self, input: Input) {
        if self.failed.is_some() {
            return;
        }
        self.machine.handle(self.clock.now(), input);
        while let Some(output) = self.machine.poll() {
            match output {
                Output::Transmit(connection, frame) => {
                    // What is due to a connection that is gone is due to nobody.
                    if let Some(outgoing) = self.connections.get(&connection) {
                        outgoing.push(frame);
                        if self.touched.last().is_none_or(|last| !Arc::ptr_eq(last, outgoing)) {
                            self.touched.push(Arc::clone(outgoing));
                        }
                    }
                }
                Output::Close(connection, code) => {
                    if let Some(outgoing) = self.connections.get(&connection) {
                        outgoing.end(code);
                    }
                }
                Output::Commit(ticket, batch) => {
                    if self.batches.try_send((ticket, batch)).is_err() {
                        self.failed = Some(End::Panicked("the thread that commits"));
                    }
                }
                Output::Answer(id, answer) => {
                    // Who asked may have gone.
                    if let Some(asker) = self.queries.remove(&id) {
                        let _ = asker.send(answer);
                    }
                }
                Output::Drained => {
                    if let Some(drained) = self.drained.take() {
                        let _ = drained.send(());
                    }
                }
                Output::Failed(sentence) => {
                    self.failed = Some(End::Failed(sentence));
                    self.close_all(Code::GOING_AWAY);
                }
            }
        }
    }

    fn close_all(&mut self, code: Code) {
        for outgoing in self.connections.values() {
            outgoing.end(code);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hongyan_protocol::UserId;
    use std::collections::VecDeque;
    use std::sync::Mutex;

    /// Answers every frame with itself, commits a batch for the frame `c`, panics at the frame `p`.
    #[derive(Default)]
    struct Echo {
        outputs: VecDeque<Output>,
        deadline: Option<Moment>,
        ticks: Arc<Mutex<usize>>,
    }

    impl Machine for Echo {
        fn handle(&mut self, now: Now, input: Input) {
            assert!(self.outputs.is_empty());
            match input {
                Input::Frame(_, frame) if frame == "p" => panic!("a defect"),
                Input::Frame(_, frame) if frame == "c" => {
                    self.outputs.push_back(Output::Commit(Ticket(1), Batch::default()));
                }
                Input::Frame(_, frame) if frame == "t" => self.deadline = Some(now.moment.after_ms(5)),
                Input::Frame(connection, frame) => {
                    self.outputs.push_back(Output::Transmit(connection, frame));
                }
                Input::Query(id, Query::Kick(..)) => {
                    self.outputs.push_back(Output::Answer(id, Answer::Kicked(3)));
                }
                Input::Committed(_, Ok(())) => self.outputs.push_back(Output::Drained),
                Input::Committed(_, Err(error)) => self.outputs.push_back(Output::Failed(error.to_string())),
                Input::Tick if self.deadline.is_some_and(|deadline| now.moment >= deadline) => {
                    self.deadline = None;
                    *self.ticks.lock().unwrap() += 1;
                    self.outputs.push_back(Output::Transmit(ConnectionId(1), Bytes::from_static(b"tick")));
                }
                _ => {}
            }
        }

        fn poll(&mut self) -> Option<Output> {
            self.outputs.pop_front()
        }

        fn next_deadline(&self) -> Option<Moment> {
            self.deadline
        }

        fn take_fault(&mut self) -> Option<String> {
            None
        }
    }

    fn start(commit: Commit) -> (CoreHandle, CoreEvents) {
        spawn(Echo::default(), commit).unwrap()
    }

    async fn send(core: &CoreHandle, frame: &'static str) {
        core.send(Inbound::Frame(ConnectionId(1), Bytes::from_static(frame.as_bytes()))).await;
    }

    #[tokio::test]
    async fn frames_go_through_in_order_and_gather() {
        let (core, mut events) = start(Box::new(|_| Ok(())));
        let outgoing = Arc::new(Outgoing::default());
        core.send(Inbound::Connected(ConnectionId(1), Arc::clone(&outgoing))).await;
        // More than the line holds, so the sender has waited.
        let count = 3 * INPUTS_WAITING_MAX;
        for n in 0..count {
            core.send(Inbound::Frame(ConnectionId(1), Bytes::from(n.to_string()))).await;
        }
        let mut received = Vec::new();
        while received.len() < count {
            received.extend(outgoing.take().await.frames);
        }
        assert!(received.iter().enumerate().all(|(n, frame)| *frame == n.to_string()));
        core.close_all(Code::GOING_AWAY);
        assert_eq!(outgoing.take().await.end, Some(Code::GOING_AWAY));
        core.stop();
        assert!(matches!(events.end.recv().await, Some(End::Stopped)));
        events.thread.join().unwrap();
    }

    #[tokio::test]
    async fn deadlines_come_by_themselves() {
        let (core, _events) = start(Box::new(|_| Ok(())));
        let outgoing = Arc::new(Outgoing::default());
        core.send(Inbound::Connected(ConnectionId(1), Arc::clone(&outgoing))).await;
        send(&core, "t").await;
        assert_eq!(outgoing.take().await.frames, ["tick"]);
    }

    #[tokio::test]
    async fn who_asks_is_answered_while_the_core_lives() {
        let (core, _events) = start(Box::new(|_| Ok(())));
        let kick = || Query::Kick(UserId::new("alice").unwrap(), None);
        assert!(matches!(core.ask(kick()).await, Some(Answer::Kicked(3))));
        core.stop();
        // One of them finds the core gone.
        while core.ask(kick()).await.is_some() {}
    }

    #[tokio::test]
    async fn what_is_committed_is_told() {
        let (core, events) = start(Box::new(|_| Ok(())));
        send(&core, "c").await;
        events.drained.await.unwrap();
    }

    #[tokio::test]
    async fn a_failed_commit_ends_it_with_the_sentence() {
        let (core, mut events) = start(Box::new(|_| Err(StoreError::Engine("the disk is full".into()))));
        let outgoing = Arc::new(Outgoing::default());
        core.send(Inbound::Connected(ConnectionId(1), Arc::clone(&outgoing))).await;
        send(&core, "c").await;
        let Some(End::Failed(sentence)) = events.end.recv().await else { panic!("it went on") };
        assert!(sentence.contains("the disk is full"));
        assert_eq!(outgoing.take().await.end, Some(Code::GOING_AWAY));
        assert!(!core.send(Inbound::Closed(ConnectionId(1))).await);
    }

    #[tokio::test]
    async fn a_panic_on_either_thread_is_an_end() {
        let (core, mut events) = start(Box::new(|_| Ok(())));
        send(&core, "p").await;
        assert!(matches!(events.end.recv().await, Some(End::Panicked("the core"))));
        let (core, mut events) = start(Box::new(|_| panic!("a defect")));
        send(&core, "c").await;
        assert!(matches!(events.end.recv().await, Some(End::Panicked("the thread that commits"))));
    }
}
