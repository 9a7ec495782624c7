//! The queue's way to the devices: one mechanism for catching up and for following.
//!
//! Each session knows the last entry it was `sent`. Who has been sent everything durable gets the entries of a commit
//! as it ends, from memory. Everybody else stands in the line and in each turn gets one batch from the store, as long
//! as there is room: bytes that wait in the connection, and entries that the device has not acknowledged.

use bytes::Bytes;
use hongyan_protocol::wire::{self, ResetCause, relay_frame::Event};
use hongyan_protocol::{Code, Pos, UserId};

use super::batches::{BatchBuilder, Change};
use super::commit::Pushes;
use super::deadlines::Timer;
use super::defects::{self, Defect};
use super::io::{ConnectionId, CoreConfig, Verifier};
use super::limits::TURNS_PER_INPUT;
use super::queue::rows::Reference;
use super::relay::Relay;
use super::sessions::Connection;
use super::snapshot::SnapshotProgress;
use crate::store::{Store, StoreError};

impl Connection {
    /// May be sent an entry, or a piece of a snapshot, now.
    fn has_room(&self, config: &CoreConfig) -> bool {
        self.outgoing < config.outgoing_bytes_target && self.window(config) > 0
    }

    /// Entries that may be sent before the device acknowledges some.
    fn window(&self, config: &CoreConfig) -> u64 {
        let unacknowledged =
            self.session.as_ref().map_or(0, |session| session.sent.0.saturating_sub(session.acknowledged.0));
        let max = config.unacknowledged_max + u64::from(defects::is_on(Defect::WindowOffByOne));
        max.saturating_sub(unacknowledged)
    }
}

impl<S: Store, V: Verifier> Relay<S, V> {
    /// The connection may have something to get: it stands in the line if so.
    pub(super) fn line_up(&mut self, connection: ConnectionId) {
        let Some(state) = self.connections.get_mut(&connection) else { return };
        let Some(session) = &state.session else { return };
        let head = self.users.get(&session.user).map_or(Pos::ZERO, |user| user.durable);
        let waits = session.snapshot.is_some() || session.sent < head;
        if waits && !state.in_line && state.has_room(&self.config) {
            state.in_line = true;
            self.line.push_back(connection);
        }
    }

    /// Some of those in the line get one batch each; the deadline of the others is now.
    pub(super) fn take_turns(&mut self) {
        for _ in 0..TURNS_PER_INPUT {
            let Some(connection) = self.line.pop_front() else { break };
            let Some(state) = self.connections.get_mut(&connection) else { continue };
            state.in_line = false;
            if let Err(error) = self.take_turn(connection) {
                self.note_fault(&error);
                self.close(connection, Code::STORAGE_FAILED);
            }
            self.line_up(connection);
        }
        if self.line.is_empty() {
            self.deadlines.cancel(&Timer::Turn);
        } else {
            self.deadlines.set(Timer::Turn, self.now.moment);
        }
    }

    fn take_turn(&mut self, connection: ConnectionId) -> Result<(), StoreError> {
        let Some(state) = self.connections.get(&connection) else { return Ok(()) };
        let window = state.window(&self.config);
        let Some(session) = &state.session else { return Ok(()) };
        if session.snapshot.is_some() {
            return self.send_snapshot(connection);
        }
        let (user, sent) = (session.user.clone(), session.sent);
        let head = self.durable_head(&user);
        let until = Pos(head.0.min(sent.0.saturating_add(window)));
        if sent >= until {
            return Ok(());
        }
        match self.read_batch(&user, sent, until)? {
            Some((last, batch)) => self.send_batch(connection, last, batch.finish(head)),
            // The retention has overtaken the stream.
            None if defects::is_on(Defect::ExpiredNotReset) => {
                if let Some(session) = self.session_mut(connection) {
                    session.sent = head;
                }
            }
            None => self.stream_from(connection, sent, false)?,
        }
        Ok(())
    }

    fn send_batch(&mut self, connection: ConnectionId, last: Pos, frame: Bytes) {
        if let Some(session) = self.session_mut(connection) {
            session.sent = last;
            session.sent_max = session.sent_max.max(last);
            self.count_batch();
            self.transmit(connection, frame);
        }
    }

    /// A commit with these entries has ended: who had everything before gets them now.
    pub(super) fn deliver(&mut self, user: &UserId, pushes: &Pushes) {
        let Some(state) = self.users.get_mut(user) else { return };
        state.durable = state.durable.max(pushes.head);
        let connections: Vec<_> = state.connections.iter().copied().collect();
        self.tend_if_long(user);
        if connections.is_empty() {
            return;
        }
        let frames = self.frames(pushes);
        for connection in connections {
            for (first, last, frame) in &frames {
                let Some(state) = self.connections.get(&connection) else { break };
                let Some(session) = &state.session else { break };
                let follows = session.snapshot.is_none() && session.sent.next() == *first;
                let fits = last.0 - first.0 < state.window(&self.config);
                if follows && fits && state.has_room(&self.config) {
                    self.send_batch(connection, *last, frame.clone());
                }
            }
            self.line_up(connection);
        }
    }

    /// A commit's entries as frames: first, last, bytes.
    fn frames(&self, pushes: &Pushes) -> Vec<(Pos, Pos, Bytes)> {
        let mut frames = Vec::new();
        let mut entries = pushes.entries.iter().peekable();
        while let Some((first, change)) = entries.next() {
            let (mut batch, mut last) = (BatchBuilder::default(), *first);
            batch.push(*first, Some(change.clone()));
            // There is a gap where an entry was made while nobody was connected.
            while let Some((pos, change)) =
                entries.next_if(|(pos, _)| !batch.is_full() && *pos == last.next())
            {
                batch.push(*pos, Some(change.clone()));
                last = *pos;
            }
            frames.push((*first, last, batch.finish(pushes.head)));
        }
        frames
    }

    /// A new entry in a user's queue. The user is in memory.
    pub(super) fn enqueue(&mut self, user: &UserId, reference: &Reference, change: &Change) {
        let mark = self.commits.mark();
        let Some(state) = self.users.get_mut(user) else { return };
        let pos = state.assigned.next();
        state.assigned = pos;
        state.commit = mark;
        let change = (!state.connections.is_empty()).then(|| change.clone());
        if defects::is_on(Defect::ToldBeforeSync)
            && let Some(change) = &change
        {
            self.deliver(user, &Pushes::new(pos, change.clone()));
        }
        self.commits.push(user, pos, reference.clone(), change);
    }

    /// Streams the queue from a cursor, or from a snapshot if it can't be continued there.
    pub(super) fn stream_from(
        &mut self,
        connection: ConnectionId,
        cursor: Pos,
        is_new: bool,
    ) -> Result<(), StoreError> {
        let Some(session) = self.session_mut(connection) else { return Ok(()) };
        let user = session.user.clone();
        let reset = self.stream_reset(&user, cursor, is_new)?;
        self.begin_stream(connection, cursor, reset);
        Ok(())
    }

    /// Streams the queue from a cursor, or from a snapshot for a reason.
    pub(super) fn begin_stream(&mut self, connection: ConnectionId, cursor: Pos, reset: Option<ResetCause>) {
        let Some(session) = self.session_mut(connection) else { return };
        let user = session.user.clone();
        let head = self.durable_head(&user);
        let start = match reset {
            Some(_) if defects::is_on(Defect::ResetAheadOfDurable) => {
                self.users.get(&user).map_or(head, |user| user.assigned)
            }
            Some(_) => head,
            None if defects::is_on(Defect::StreamOffByOne) && cursor < head => cursor.next(),
            None => cursor,
        };
        if let Some(session) = self.session_mut(connection) {
            session.sent = start;
            session.sent_max = session.sent_max.max(start);
            session.acknowledged = start;
            session.snapshot = reset.map(|_| SnapshotProgress::default());
        }
        if let Some(cause) = reset {
            self.tending.counters.count_reset(cause);
            let epoch = self.epoch.as_str().to_owned();
            let reset = wire::Reset { epoch, pos: start.0, cause: cause.into() };
            self.push_event(connection, Event::Reset(reset));
        }
        self.line_up(connection);
    }
}
