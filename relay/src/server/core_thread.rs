//! The core's thread and the thread that commits.
//!
//! The core lives on one thread of the operating system; everything reaches it through bounded lines of inputs (`lines`),
//! so a connection that floods waits for its turn like everybody. Commits run on a second thread, one at a time, and
//! meanwhile the core gathers the next.
//!
//! *Invariant:* the core's thread never waits for a socket or the disk; when either thread ends in a panic the
//! program ends, loudly.

use std::any::Any;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hongyan_protocol::{Code, Time};
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep_until;

use super::lines::{CoreHandle, Inbound, Lines, Order, lines};
use super::outgoing::Outgoing;
use super::traffic::{Traffic, Wakes};
use crate::core::queries::{Answer, QueryId};
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

/// What the core tells of itself, each once.
pub(crate) struct CoreEvents {
    /// After [`CoreHandle::drain`]: nothing waits for a commit any more.
    pub(crate) drained: oneshot::Receiver<()>,
    /// It ended. Comes before the threads have let go of the store …
    pub(crate) end: mpsc::UnboundedReceiver<End>,
    /// … which is when this one joins.
    pub(crate) thread: thread::JoinHandle<()>,
}

/// Starts both threads.
///
/// For `news_bytes` see [`Traffic::new`].
///
/// # Errors
/// When the system gives no thread.
pub(crate) fn spawn(
    machine: impl Machine,
    commit: Commit,
    news_bytes: usize,
) -> std::io::Result<(CoreHandle, CoreEvents)> {
    let traffic = Arc::new(Traffic::new(news_bytes));
    let (handle, lines, orders) = lines(Arc::clone(&traffic));
    let (drained, drained_rx) = oneshot::channel();
    let (end, end_rx) = mpsc::unbounded_channel();

    // One commit is under way at most, so neither side ever waits to hand over.
    let (batches, batches_rx) = std::sync::mpsc::sync_channel(1);
    let (committed, committed_rx) = mpsc::channel(1);
    let committer_end = end.clone();
    let committer = thread::Builder::new().name("commit".into()).spawn(move || {
        guard(&committer_end, "the thread that commits", || run_commits(commit, &batches_rx, &committed));
    })?;

    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let core = thread::Builder::new().name("core".into()).spawn(move || {
        guard(&end, "the core", || {
            let actor = Actor {
                machine,
                clock: Clock::start(),
                connections: HashMap::new(),
                queries: HashMap::new(),
                queried: 0,
                traffic,
                wakes: Wakes::default(),
                batches,
                drained: Some(drained),
                failed: None,
            };
            let outcome = runtime.block_on(actor.run(orders, committed_rx, lines));
            let _ = end.send(outcome);
        });
        // The store is closed when both are through with it.
        let _ = committer.join();
    })?;
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
    committed: &mpsc::Sender<Committed>,
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

/// How a commit ended.
type Committed = (Ticket, Result<(), StoreError>);

struct Actor<M> {
    machine: M,
    clock: Clock,
    connections: HashMap<ConnectionId, Arc<Outgoing>>,
    /// Who waits for an answer. Bounded by the API, which lets few requests ask at once.
    queries: HashMap<QueryId, oneshot::Sender<Answer>>,
    /// How many asked so far.
    queried: u64,
    traffic: Arc<Traffic>,
    wakes: Wakes,
    batches: std::sync::mpsc::SyncSender<(Ticket, Batch)>,
    drained: Option<oneshot::Sender<()>>,
    /// Why it must end.
    failed: Option<End>,
}

impl<M: Machine> Actor<M> {
    async fn run(
        mut self,
        mut orders: mpsc::UnboundedReceiver<Order>,
        mut committed: mpsc::Receiver<Committed>,
        mut lines: Lines,
    ) -> End {
        let mut inputs = Vec::new();
        loop {
            let deadline = self.machine.next_deadline().map(|moment| self.clock.instant(moment));
            let mut is_due = false;
            let mut ended = None;
            tokio::select! {
                biased;
                order = orders.recv() => match order {
                    Some(Order::Drain { spread }) => {
                        let spread_ms = u64::try_from(spread.as_millis()).unwrap_or(u64::MAX);
                        self.step(Input::Drain { spread_ms });
                    }
                    Some(Order::CloseAll(code)) => self.close_all(code),
                    Some(Order::Stop) | None => return End::Stopped,
                },
                commit = committed.recv() => ended = commit,
                () = sleep_until(deadline.unwrap_or_else(Instant::now).into()), if deadline.is_some() => is_due = true,
                () = self.traffic.news() => {}
                () = lines.wait() => {}
            }
            // Whatever ended the wait, nobody's news waits behind a flood of another kind. What was written comes
            // first: a deadline may be that of a reader who was slow.
            let written = self.traffic.take_written();
            if !written.is_empty() {
                self.step(Input::Written(written));
            }
            if let Some((ticket, result)) = ended {
                self.step(Input::Committed(ticket, result));
            }
            if is_due {
                self.step(Input::Tick);
            }
            lines.take(&mut inputs);
            for inbound in inputs.drain(..) {
                self.take(inbound);
            }
            if let Some(fault) = self.machine.take_fault() {
                tracing::error!("The store failed a read: {fault}");
            }
            self.wakes.wake(&self.traffic);
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
            Inbound::First(connection, frame, taken) => {
                self.step(Input::Frame(connection, frame));
                // Who is gone need not know.
                let _ = taken.send(());
            }
            Inbound::Frame(connection, frame) => self.step(Input::Frame(connection, frame)),
            Inbound::Closed(connection) => {
                let outgoing = self.connections.remove(&connection);
                if outgoing.is_some_and(|outgoing| outgoing.retire()) {
                    self.traffic.came();
                }
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
                        self.wakes.give(outgoing, frame);
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
    use crate::core::queries::Query;
    use crate::server::limits::SETTLED_WAITING_MAX;
    use bytes::Bytes;
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
        spawn(Echo::default(), commit, 1).unwrap()
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
        let count = 3 * SETTLED_WAITING_MAX;
        core.introduce(ConnectionId(1), Bytes::from_static(b"0")).await;
        for n in 1..count {
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
        core.introduce(ConnectionId(1), Bytes::from_static(b"t")).await;
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
