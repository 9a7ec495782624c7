//! The pushes: a slice of each group's listeners in turn.

use std::collections::BTreeSet;
use std::ops::Bound::{Excluded, Unbounded};

use bytes::Bytes;
use hongyan_protocol::limits::{BATCH_BYTES_TARGET, BATCH_ENTRIES_MAX};
use hongyan_protocol::wire;
use hongyan_protocol::{ConversationId, GroupVersion};

use super::{Log, Logs, Sending, Waiting, head};
use crate::core::batches::{log_changes, log_head, log_messages};
use crate::core::commit::LogNews;
use crate::core::deadlines::Timer;
use crate::core::defects::{self, Defect};
use crate::core::io::{ConnectionId, Verifier};
use crate::core::limits::{LOG_PUSHES_IN_FLIGHT, LOG_PUSHES_PER_INPUT, LOG_STUCK_MS, LOG_WAITING_BYTES_MAX};
use crate::core::relay::Relay;
use crate::store::Store;

impl Logs {
    /// Something that is durable now.
    pub(in crate::core) fn push(&mut self, id: &ConversationId, news: LogNews) {
        let Some(log) = self.groups.get_mut(id) else { return };
        let waiting = &mut log.waiting;
        match news {
            LogNews::Message(seq, message) => {
                waiting.last = seq;
                waiting.bytes += message.len();
                waiting.messages.push((seq, message));
            }
            LogNews::Change(number, change) => {
                waiting.last_change = number;
                waiting.bytes += change.len();
                waiting.changes.push(change);
            }
        }
        if waiting.overrun || waiting.bytes > LOG_WAITING_BYTES_MAX {
            let Waiting { last, last_change, .. } = *waiting;
            *waiting = Waiting { overrun: true, last, last_change, ..Waiting::default() };
        }
        if !self.line.contains(id) {
            self.line.push_back(id.clone());
        }
    }
}

impl<S: Store, V: Verifier> Relay<S, V> {
    /// Pushes go on: a slice of each group's in turn, as long as there is room on the way.
    pub(in crate::core) fn push_logs(&mut self) {
        let window = &mut self.logs.window;
        if self.logs.line.is_empty() {
            self.deadlines.cancel(&Timer::Logs);
            return;
        }
        if window.in_flight >= LOG_PUSHES_IN_FLIGHT && self.now.moment.since(window.moved) >= LOG_STUCK_MS {
            // Sockets that take nothing hold up nobody for longer than that.
            window.in_flight = 0;
            window.number += 1;
        }
        let mut budget = LOG_PUSHES_PER_INPUT;
        while budget > 0 && self.logs.window.in_flight < LOG_PUSHES_IN_FLIGHT {
            let Some(id) = self.logs.line.pop_front() else { break };
            let before = budget;
            if self.push_slice(&id, &mut budget) {
                self.logs.line.push_back(id);
            } else if self.logs.groups.get(&id).is_some_and(|log| log.ended && log.is_idle()) {
                self.forget_log(&id);
            }
            // Who listens and takes nothing costs a look, too.
            budget = budget.min(before.saturating_sub(1));
        }
        let at = if self.logs.line.is_empty() {
            return self.deadlines.cancel(&Timer::Logs);
        } else if self.logs.window.in_flight < LOG_PUSHES_IN_FLIGHT {
            self.now.moment
        } else {
            self.logs.window.moved.after_ms(LOG_STUCK_MS)
        };
        self.deadlines.set(Timer::Logs, at);
    }

    /// Some of the group's listeners; whether there is more to do.
    fn push_slice(&mut self, id: &ConversationId, budget: &mut usize) -> bool {
        let Some(log) = self.logs.groups.get_mut(id) else { return false };
        if log.sending.is_none() {
            let group = self.conversations.get(id).and_then(|conversation| head(id, conversation));
            let Some(frames) = log.begin(id, group) else { return false };
            log.sending = Some(Sending { frames, after: None });
        }
        let Some(Sending { frames, after }) = log.sending.take() else { return false };
        // The least of what the budget and the window leave: each of them takes one of both at most.
        let slice = (*budget).min(LOG_PUSHES_IN_FLIGHT.saturating_sub(self.logs.window.in_flight));
        let from = after.map_or(Unbounded, Excluded);
        let listeners: Vec<_> = log.listeners.range((from, Unbounded)).take(slice).copied().collect();
        *budget -= listeners.len();
        for connection in &listeners {
            self.push_to(*connection, id, &frames);
        }
        let Some(log) = self.logs.groups.get_mut(id) else { return false };
        if listeners.len() == slice {
            log.sending = Some(Sending { frames, after: listeners.last().copied().or(after) });
            return true;
        }
        !log.is_idle()
    }

    fn push_to(&mut self, connection: ConnectionId, id: &ConversationId, frames: &[Bytes]) {
        for frame in frames {
            let Some(state) = self.connections.get_mut(&connection) else { return };
            let Some(session) = &mut state.session else { return };
            if state.outgoing >= self.config.outgoing_bytes_target {
                if !defects::is_on(Defect::LogHintForgotten) {
                    session.listening.behind.insert(id.clone());
                }
                return;
            }
            let window = &mut self.logs.window;
            if session.listening.pushed != Some(window.number) {
                session.listening.pushed = Some(window.number);
                window.in_flight += 1;
                window.moved = self.now.moment;
            }
            self.transmit(connection, frame.clone());
        }
    }

    /// The socket took what was on its way to it: there is room for another, and for what it was not told.
    pub(in crate::core) fn log_written(&mut self, connection: ConnectionId) {
        let Some(state) = self.connections.get_mut(&connection) else { return };
        let (is_empty, has_room) = (state.outgoing == 0, state.outgoing < self.config.outgoing_bytes_target);
        let Some(session) = state.session.as_mut() else { return };
        let pushed = if is_empty { session.listening.pushed.take() } else { None };
        let behind = if has_room { core::mem::take(&mut session.listening.behind) } else { BTreeSet::new() };
        self.push_taken(pushed);
        if !behind.is_empty() {
            self.tell_behind(connection, behind);
        }
    }

    fn tell_behind(&mut self, connection: ConnectionId, behind: BTreeSet<ConversationId>) {
        if let Err(error) = self.tell_heads(connection, &behind) {
            self.note_fault(&error);
            if let Some(session) = self.session_mut(connection) {
                session.listening.behind = behind;
            }
        }
    }

    pub(super) fn push_taken(&mut self, pushed: Option<u64>) {
        let window = &mut self.logs.window;
        if pushed == Some(window.number) {
            window.in_flight = window.in_flight.saturating_sub(1);
            window.moved = self.now.moment;
        }
    }
}

impl Log {
    fn is_idle(&self) -> bool {
        self.sending.is_none() && self.waiting.is_empty()
    }

    /// What waits becomes frames; `None` when nothing does.
    fn begin(&mut self, id: &ConversationId, group: Option<wire::LogHead>) -> Option<Vec<Bytes>> {
        if self.waiting.is_empty() {
            return None;
        }
        let Waiting { messages, changes, overrun, last, last_change, .. } =
            core::mem::take(&mut self.waiting);
        if overrun {
            // What the group is besides is told with the next message.
            let head = wire::LogHead {
                conversation: id.as_str().to_owned(),
                last_seq: last.0,
                changes: last_change.0,
                ..wire::LogHead::default()
            };
            return Some(log_head(head).into_iter().collect());
        }
        // It travels with a message.
        let mut news = group.filter(|group| GroupVersion(group.version) > self.told && !messages.is_empty());
        if let Some(news) = &news {
            self.told = GroupVersion(news.version);
        }
        let (mut frames, mut page, mut bytes) = (Vec::new(), Vec::new(), 0);
        let mut messages = messages.into_iter().peekable();
        while let Some((_, message)) = messages.next() {
            bytes += message.len() + 8;
            page.push(message);
            if page.len() >= BATCH_ENTRIES_MAX || bytes >= BATCH_BYTES_TARGET || messages.peek().is_none() {
                frames.push(log_messages(core::mem::take(&mut page), news.take()));
                bytes = 0;
            }
        }
        let mut changes = changes.into_iter().peekable();
        while let Some(change) = changes.next() {
            bytes += change.len() + 8;
            page.push(change);
            if page.len() >= BATCH_ENTRIES_MAX || bytes >= BATCH_BYTES_TARGET || changes.peek().is_none() {
                frames.push(log_changes(id, core::mem::take(&mut page)));
                bytes = 0;
            }
        }
        Some(frames)
    }
}
