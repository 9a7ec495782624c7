//! The relay's core: inputs in, outputs out.

use std::collections::VecDeque;

use bytes::Bytes;
use hongyan_protocol::wire::{self, relay_frame::Event};
use hongyan_protocol::{Code, Epoch, Pos, UserId};

use super::commit::{Commits, Effect, Outcome};
use super::conversations::Conversations;
use super::counters::Counters;
use super::deadlines::{Deadlines, Timer};
use super::defects::{self, Defect};
use super::devices::Devices;
use super::entropy::Entropy;
use super::epoch::open_epoch;
use super::io::{ConnectionId, CoreConfig, Input, Moment, Now, Output, Ticket, Verifier};
use super::limits::{
    DEADLINES_PER_INPUT, PROFILE_CHANGES_AT_ONCE, PROFILE_CHANGES_PER_SECOND, REFUSALS_PER_SECOND_MAX,
};
use super::logs::Logs;
use super::presence::{End, Presences};
use super::profiles::Telling;
use super::queries::Answer;
use super::queue::tending::Tending;
use super::rate::Rate;
use super::refusal::{Refusal, Reject};
use super::sessions::{Connection, Connections, Session};
use super::users::Users;
use super::verbs;
use crate::store::{Store, StoreError};

/// The relay over a store; `verifier` knows whose a token is.
pub struct Relay<S, V> {
    pub(super) config: CoreConfig,
    pub(super) store: S,
    pub(super) verifier: V,
    pub(super) entropy: Entropy,
    pub(super) epoch: Epoch,
    pub(super) now: Now,
    phase: Phase,
    pub(super) connections: Connections,
    pub(super) users: Users,
    pub(super) conversations: Conversations,
    pub(super) logs: Logs,
    pub(super) commits: Commits,
    pub(super) devices: Devices,
    pub(super) presences: Presences,
    pub(super) tending: Tending,
    pub(super) telling: Telling,
    pub(super) deadlines: Deadlines,
    pub(super) line: VecDeque<ConnectionId>,
    pub(super) send_rate: Rate,
    pub(super) request_rate: Rate,
    pub(super) profile_rate: Rate,
    pub(super) outputs: VecDeque<Output>,
    counters: Counters,
    fault: Option<String>,
}

/// Where the relay is in its life.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Serving,
    /// Nothing new is taken; what was accepted is being committed.
    Draining,
    Drained,
    /// A commit failed.
    Failed,
}

impl<S: Store, V: Verifier> Relay<S, V> {
    /// Takes a store, new or used. `seed` must differ at each start.
    ///
    /// # Errors
    /// [`StoreError`] when the store fails, or is of a format that this version does not know.
    pub fn open(mut config: CoreConfig, store: S, verifier: V, seed: [u8; 32]) -> Result<Self, StoreError> {
        config.content_bytes_max = config.content_bytes_max.min(hongyan_protocol::limits::CONTENT_BYTES_MAX);
        let mut entropy = Entropy::new(seed);
        let epoch = open_epoch(&store, &mut entropy)?;
        let presences = Presences::new(&mut entropy);
        let logs = Logs::open(&store)?;
        let telling = Telling::open(&store)?;
        Ok(Self {
            send_rate: Rate::new(config.sends_per_second, config.sends_burst),
            request_rate: Rate::new(config.requests_per_second, config.requests_burst),
            profile_rate: Rate::new(PROFILE_CHANGES_PER_SECOND, PROFILE_CHANGES_AT_ONCE),
            config,
            store,
            verifier,
            entropy,
            epoch,
            now: Now::default(),
            phase: Phase::Serving,
            connections: Connections::new(),
            users: Users::new(),
            conversations: Conversations::new(),
            logs,
            commits: Commits::default(),
            devices: Devices::default(),
            presences,
            tending: Tending::default(),
            telling,
            deadlines: Deadlines::default(),
            line: VecDeque::new(),
            outputs: VecDeque::new(),
            counters: Counters::default(),
            fault: None,
        })
    }

    /// Takes one input. [`Relay::poll`] must have given `None` before.
    ///
    /// # Panics
    /// When outputs of the input before were not taken: they would come out of order.
    pub fn handle(&mut self, now: Now, input: Input) {
        assert!(self.outputs.is_empty(), "poll the relay until None before its next input");
        self.now = Now { moment: self.now.moment.max(now.moment), time: now.time };
        self.begin_recovery();
        self.begin_sweeps();
        match input {
            Input::Connected(connection) => self.connected(connection),
            Input::Frame(connection, bytes) => self.frame(connection, bytes),
            Input::Written(written) => {
                for (connection, bytes) in written {
                    self.written(connection, bytes);
                }
            }
            Input::Closed(connection) => self.forget(connection, End::Lost),
            Input::Goodbye(body) => self.beacon(body),
            Input::Committed(ticket, result) => self.committed(ticket, result),
            Input::Drain { spread_ms } => self.drain(spread_ms),
            Input::Query(id, query) => self.query(id, query),
            Input::Tick => {}
        }
        self.look_at_deadlines();
        self.take_turns();
        self.take_watch_turns();
        self.go_around();
        self.push_logs();
        self.tend_next();
        self.tell_of_profiles();
        self.write_some_devices();
        if let Some((ticket, batch)) = self.commits.start(&mut self.users, self.now.time) {
            self.outputs.push_back(Output::Commit(ticket, batch));
        }
        self.finish_drain();
        self.users.evict(&self.commits);
        self.conversations.evict(&self.commits);
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Input::Tick`] is due at the latest. A moment that has passed means: at once, though other inputs may
    /// come before.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Moment> {
        self.deadlines.next()
    }

    /// The store's epoch.
    #[must_use]
    pub fn epoch(&self) -> &Epoch {
        &self.epoch
    }

    /// What there is and what happened, for statistics.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let (leases, watched, presence_pushes) = self.presences.counts();
        Counters {
            leases,
            watched,
            presence_pushes,
            queue: self.tending.counters,
            connections: self.connections.len(),
            users: self.users.len(),
            conversations: self.conversations.len(),
            logs: self.logs.len(),
            waiting: self.commits.waiting(),
            uncommitted_bytes: self.commits.bytes(),
            ..self.counters
        }
    }

    /// The last read that the store failed, once, as a sentence for the log.
    pub fn take_fault(&mut self) -> Option<String> {
        self.fault.take()
    }

    // ------------------------------------------------------------ inputs

    fn connected(&mut self, connection: ConnectionId) {
        let refusal = match self.phase {
            Phase::Serving if self.connections.len() < self.config.connections_max => None,
            Phase::Serving => Some(Code::BUSY),
            Phase::Draining | Phase::Drained => Some(Code::GOING_AWAY),
            Phase::Failed => Some(Code::STORAGE_FAILED),
        };
        match refusal {
            Some(code) => self.outputs.push_back(Output::Close(connection, code)),
            None => {
                self.connections.insert(connection, Connection::new(self.now.moment));
                self.look_later(connection);
            }
        }
    }

    fn frame(&mut self, connection: ConnectionId, bytes: Bytes) {
        let Some(state) = self.connections.get_mut(&connection) else { return };
        state.heard = self.now.moment;
        if state.session.as_ref().is_some_and(|session| session.leaving) {
            return;
        }
        let Ok(frame) = wire::ClientFrame::from_bytes(bytes) else {
            return self.close(connection, Code::BAD_FRAME);
        };
        let request = frame.request;
        let result = match self.phase {
            Phase::Failed => Err(Refusal::reject(Code::STORAGE_FAILED)),
            _ => verbs::dispatch(self, connection, frame),
        };
        if let Err(refusal) = result {
            self.refuse(connection, request, refusal);
        }
    }

    fn written(&mut self, connection: ConnectionId, bytes: usize) {
        let Some(state) = self.connections.get_mut(&connection) else { return };
        let was_full = state.outgoing >= self.config.outgoing_bytes_target;
        state.outgoing = state.outgoing.saturating_sub(bytes);
        state.moved = self.now.moment;
        if was_full {
            // Otherwise its stream stood in the line already, if it had anything to send.
            self.line_up(connection);
        }
        self.log_written(connection);
        self.pay_presence(connection);
    }

    fn committed(&mut self, ticket: Ticket, result: Result<(), StoreError>) {
        if let Err(error) = result
            && !defects::is_on(Defect::FailedCommitForgotten)
        {
            return self.fail(&error);
        }
        let Some(Outcome { pushes, logs, effects, .. }) = self.commits.end(ticket) else { return };
        self.counters.commits += 1;
        for effect in &effects {
            self.settle(effect);
        }
        for (user, pushes) in pushes {
            self.deliver(&user, &pushes);
        }
        for (id, news) in logs {
            self.logs.push(&id, news);
        }
        for effect in effects {
            self.run(effect);
        }
    }

    fn fail(&mut self, error: &StoreError) {
        if self.phase == Phase::Failed {
            return;
        }
        self.phase = Phase::Failed;
        for effect in self.commits.abandon() {
            match effect {
                Effect::Answer(connection, request, _) => {
                    self.refuse(connection, request, Refusal::reject(Code::STORAGE_FAILED));
                }
                Effect::LoggedOut(.., connections) => {
                    for connection in connections {
                        self.close(connection, Code::STORAGE_FAILED);
                    }
                }
                Effect::Reply(id, _) => self.reply(id, Answer::Refused(Code::STORAGE_FAILED)),
                _ => {}
            }
        }
        self.outputs.push_back(Output::Failed(format!("A commit failed, so the relay stops: {error}.")));
    }

    fn drain(&mut self, spread_ms: u64) {
        if self.phase != Phase::Serving {
            return;
        }
        self.phase = Phase::Draining;
        self.hold_recovery();
        self.note_all_seen();
        self.write_devices();
        let connections: Vec<_> = self.connections.keys().copied().collect();
        for connection in connections {
            let after = self.entropy.up_to(spread_ms);
            let retry_after_ms = u32::try_from(after).unwrap_or(u32::MAX);
            self.push_event(connection, Event::Retire(wire::Retire { retry_after_ms }));
        }
    }

    fn finish_drain(&mut self) {
        if self.phase != Phase::Draining || !self.commits.is_idle() {
            return;
        }
        self.phase = Phase::Drained;
        let connections: Vec<_> = self.connections.keys().copied().collect();
        for connection in connections {
            self.close(connection, Code::GOING_AWAY);
        }
        self.outputs.push_back(Output::Drained);
    }

    // ------------------------------------------------------------ deadlines

    fn look_at_deadlines(&mut self) {
        for _ in 0..DEADLINES_PER_INPUT {
            match self.deadlines.pop(self.now.moment) {
                None => return,
                // The turns are taken after every input.
                Some(Timer::Turn | Timer::Tend) => {}
                Some(Timer::Sweep) => self.sweep(),
                Some(Timer::Cursors) => self.begin_writing_devices(),
                // So are these.
                Some(Timer::Watches | Timer::Fanout | Timer::Logs | Timer::Profiles) => {}
                Some(Timer::Recovery) => self.end_recovery(),
                Some(Timer::Presence(user)) => self.look_at_presence(&user),
                Some(Timer::Push(user)) => self.end_pace(&user),
                Some(Timer::Connection(connection)) => self.look_at(connection),
            }
        }
    }

    fn look_at(&mut self, connection: ConnectionId) {
        let (now, config) = (self.now, &self.config);
        let Some(state) = self.connections.get_mut(&connection) else { return };
        let code = match &state.session {
            None if now.moment >= state.opened.after_ms(config.hello_ms) => Some(Code::HELLO_TIMED_OUT),
            None => None,
            Some(_) if state.outgoing > 0 && now.moment >= state.moved.after_ms(config.stalled_ms) => {
                Some(Code::SLOW_READER)
            }
            Some(_) if now.moment >= state.heard.after_ms(config.silence_ms) => Some(Code::SILENT),
            Some(session) if session.token_left_ms(config, now.time) == 0 => Some(Code::TOKEN_EXPIRED),
            Some(_) => None,
        };
        if let Some(code) = code {
            return self.close(connection, code);
        }
        if state.session.is_some() && now.moment >= state.next_ping(config) {
            state.pinged = now.moment;
            let nonce = now.moment.0;
            self.push_event(connection, Event::Ping(wire::Ping { nonce }));
        }
        self.look_later(connection);
    }

    /// Sets the connection's deadline anew.
    pub(super) fn look_later(&mut self, connection: ConnectionId) {
        if let Some(state) = self.connections.get_mut(&connection) {
            state.look_at = state.next_look(&self.config, self.now);
            self.deadlines.set(Timer::Connection(connection), state.look_at);
        }
    }

    // ------------------------------------------------------------ outputs

    /// An answer whose request needs no commit, or whose commit has ended.
    pub(super) fn answer(&mut self, connection: ConnectionId, request: u64, event: Event) {
        match wire::RelayFrame::of(request, event).to_bytes() {
            Ok(bytes) => self.transmit(connection, bytes),
            // The limits make every answer fit; were it not so, the request is refused rather than left alone.
            Err(_) => self.refuse(connection, request, Refusal::reject(Code::BUSY)),
        }
    }

    pub(super) fn push_event(&mut self, connection: ConnectionId, event: Event) {
        self.answer(connection, 0, event);
    }

    pub(super) fn transmit(&mut self, connection: ConnectionId, bytes: Bytes) {
        let Some(state) = self.connections.get_mut(&connection) else { return };
        if state.outgoing == 0 {
            state.moved = self.now.moment;
            let at = self.now.moment.after_ms(self.config.stalled_ms);
            if at < state.look_at {
                state.look_at = at;
                self.deadlines.set(Timer::Connection(connection), at);
            }
        }
        state.outgoing += bytes.len();
        let is_slow = state.outgoing > self.config.outgoing_bytes_max;
        self.outputs.push_back(Output::Transmit(connection, bytes));
        if is_slow {
            self.close(connection, Code::SLOW_READER);
        }
    }

    pub(super) fn refuse(&mut self, connection: ConnectionId, request: u64, refusal: Refusal) {
        let (Reject { code, reason, retry_after_ms }, ends) = match refusal {
            Refusal::Reject(reject) => (reject, false),
            Refusal::End(reject) => (reject, true),
            Refusal::Close(code) => return self.close(connection, code),
            Refusal::Fault(error) => {
                self.note_fault(&error);
                (Reject::new(Code::STORAGE_FAILED), false)
            }
        };
        self.counters.refusals += 1;
        let Some(state) = self.connections.get_mut(&connection) else { return };
        if self.now.moment.since(state.refusals_since) >= 1_000 {
            (state.refusals_since, state.refusals) = (self.now.moment, 0);
        }
        state.refusals += 1;
        let is_flood = state.refusals > REFUSALS_PER_SECOND_MAX;
        // Before hello there is nothing to stay for.
        let ends = ends || state.session.is_none();
        let reject = wire::Reject {
            code: u32::from(code.0),
            reason: reason.into(),
            retry_after_ms: u32::try_from(retry_after_ms).unwrap_or(u32::MAX),
        };
        self.answer(connection, request, Event::Reject(reject));
        if ends {
            self.close(connection, code);
        } else if is_flood {
            self.close(connection, Code::BUSY);
        }
    }

    /// A read failed and there is no request to refuse for it.
    pub(super) fn note_fault(&mut self, error: &StoreError) {
        self.counters.store_faults += 1;
        self.fault = Some(error.to_string());
    }

    /// Ends a connection from this side; it is forgotten at once.
    pub(super) fn close(&mut self, connection: ConnectionId, code: Code) {
        if self.connections.contains_key(&connection) {
            self.outputs.push_back(Output::Close(connection, code));
            self.forget(connection, End::of(code));
        }
    }

    fn forget(&mut self, connection: ConnectionId, end: End) {
        let Some(state) = self.connections.remove(&connection) else { return };
        self.deadlines.cancel(&Timer::Connection(connection));
        if let Some(session) = state.session {
            self.counters.sessions -= 1;
            self.users.disconnect(&session.user, connection);
            self.forget_watches(connection, &session.watching);
            self.forget_listening(connection, &session.listening);
            if end != End::Kicked || !defects::is_on(Defect::EndLeavesLease) {
                self.lease_lost(connection, end);
            }
            if defects::is_on(Defect::OldGoodbyeEndsNew) {
                let is_same =
                    |other: &Session| (&other.user, &other.device) == (&session.user, &session.device);
                for other in self.connections.values_mut() {
                    other.session.take_if(|other| is_same(other));
                }
            }
        }
    }

    // ------------------------------------------------------------ for the verbs

    pub(super) fn session_mut(&mut self, connection: ConnectionId) -> Option<&mut Session> {
        self.connections.get_mut(&connection)?.session.as_deref_mut()
    }

    /// The connection has said hello.
    pub(super) fn begin_session(&mut self, connection: ConnectionId, session: Session) {
        let Some(state) = self.connections.get_mut(&connection) else { return };
        self.users.connect(&session.user, connection);
        state.session = Some(Box::new(session));
        self.counters.sessions += 1;
        self.look_later(connection);
    }

    /// Neither stopping nor failed.
    pub(super) fn is_serving(&self) -> bool {
        self.phase == Phase::Serving
    }

    /// What is only of the moment may be told to the connection now; what it can't read in time it need not know.
    pub(super) fn has_room_for_news(&self, connection: ConnectionId) -> bool {
        self.connections
            .get(&connection)
            .is_some_and(|state| state.outgoing < self.config.outgoing_bytes_target)
    }

    /// Whether something new may be accepted now.
    pub(super) fn may_write(&self) -> Result<(), Refusal> {
        match self.phase {
            Phase::Serving if self.commits.bytes() < self.config.uncommitted_bytes_max => Ok(()),
            Phase::Serving => Err(Refusal::reject(Code::BUSY)),
            Phase::Draining | Phase::Drained => Err(Refusal::reject(Code::GOING_AWAY)),
            Phase::Failed => Err(Refusal::reject(Code::STORAGE_FAILED)),
        }
    }

    /// Nothing becomes durable any more.
    pub(super) fn has_failed(&self) -> bool {
        self.phase == Phase::Failed
    }

    pub(super) fn count_send(&mut self) {
        self.counters.sends += 1;
    }

    pub(super) fn count_batch(&mut self) {
        self.counters.batches += 1;
    }

    /// The durable head of a user's queue.
    pub(super) fn durable_head(&self, user: &UserId) -> Pos {
        self.users.get(user).map_or(Pos::ZERO, |user| user.durable)
    }
}
