//! Groups that come by their logs: nothing is written per member. Who is connected is pushed the new messages, encoded
//! once for all; whoever lacks some pulls them as history. So a push is a hint that may be lost: who could not take
//! one is told later how far the log is, and every hello begins with that.
//!
//! A fan-out goes to many connections, so it is done in slices, and only so many pushes are on their way to sockets at
//! once: what else there is to do comes in between, in the core as well as in the sockets' tasks.

mod change_over;
mod fanout;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use hongyan_protocol::limits::LOG_HEADS_MAX;
use hongyan_protocol::wire::{self, relay_frame::Event};
use hongyan_protocol::{ChangeNumber, Code, ConversationId, DIRECT_MARK, GroupVersion, Seq, UserId};

pub(super) use self::change_over::diffusion;
use super::conversations::Conversation;
use super::io::{ConnectionId, Moment, Verifier};
use super::records::{MembershipRecord, decode, prefix, second_of};
use super::relay::Relay;
use crate::store::{Order, Store, StoreError, Table};

/// Which groups come by their logs, and who listens.
#[derive(Default)]
pub(super) struct Logs {
    groups: BTreeMap<ConversationId, Log>,
    /// Groups with something to push, each once, in turn.
    line: VecDeque<ConversationId>,
    window: Window,
}

#[derive(Default)]
struct Log {
    /// Connections of members. Who is removed hears what was committed before that, and nothing of its commit.
    listeners: BTreeSet<ConnectionId>,
    /// The group's version that was pushed last.
    told: GroupVersion,
    sending: Option<Sending>,
    waiting: Waiting,
    /// It comes by the queues again: it goes when everything was pushed.
    ended: bool,
}

/// What is being pushed, and to whom it was last.
struct Sending {
    frames: Vec<Bytes>,
    after: Option<ConnectionId>,
}

/// What is to be pushed next.
#[derive(Default)]
struct Waiting {
    messages: Vec<(Seq, Bytes)>,
    changes: Vec<Bytes>,
    bytes: usize,
    /// It was too much: only the heads are told.
    overrun: bool,
    last: Seq,
    last_change: ChangeNumber,
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.changes.is_empty() && !self.overrun
    }
}

/// Pushes that are on their way to sockets.
#[derive(Default)]
struct Window {
    in_flight: usize,
    /// Counts the windows; pushes of an older one are not waited for any more.
    number: u64,
    /// When a push was last given or taken.
    moved: Moment,
}

/// A session's part of it.
#[derive(Default)]
pub(super) struct Listening {
    groups: BTreeSet<ConversationId>,
    /// Those of which it was not told everything.
    behind: BTreeSet<ConversationId>,
    /// The window in which something is on its way to it.
    pushed: Option<u64>,
}

impl Logs {
    /// All of them, from the store.
    pub(super) fn open(store: &impl Store) -> Result<Self, StoreError> {
        let mut logs = Self::default();
        let mut fault = None;
        store.scan(Table::Logs, b"", &[0xff], Order::Ascending, &mut |key, _| {
            let id = key.split_last().and_then(|(_, id)| core::str::from_utf8(id).ok());
            match id.map(ConversationId::new) {
                Some(Ok(id)) => drop(logs.groups.insert(id, Log::default())),
                _ => fault = Some(StoreError::Damaged("a row of logs names no valid group".into())),
            }
            fault.is_none()
        })?;
        fault.map_or(Ok(logs), Err)
    }

    pub(super) fn len(&self) -> usize {
        self.groups.len()
    }
}

impl<S: Store, V: Verifier> Relay<S, V> {
    /// The groups of a user that come by their logs, as they durably are.
    pub(super) fn logs_of(&self, user: &UserId) -> Result<BTreeSet<ConversationId>, StoreError> {
        let mut groups = BTreeSet::new();
        if self.logs.groups.is_empty() {
            return Ok(groups);
        }
        // Ids of groups lie before those of direct conversations.
        let to = [prefix(user.as_str()).as_ref(), DIRECT_MARK.to_string().as_bytes()].concat();
        let mut fault = None;
        self.store.scan(
            Table::Memberships,
            &prefix(user.as_str()),
            &to,
            Order::Ascending,
            &mut |key, value| {
                let id = second_of(key).and_then(|id| {
                    ConversationId::new(id)
                        .map_err(|_| StoreError::Damaged("a membership names no valid conversation".into()))
                });
                let stored = decode::<MembershipRecord>(Bytes::copy_from_slice(value), "memberships");
                match (id, stored) {
                    (Ok(id), Ok(stored)) if self.logs.groups.contains_key(&id) => {
                        let record = match self.commits.memberships.get(&(user.clone(), id.clone())) {
                            Some(pending) => pending.durable,
                            None => Some(stored),
                        };
                        if record.is_some_and(|record| record.left == 0) {
                            groups.insert(id);
                        }
                    }
                    (Ok(_), Ok(_)) => {}
                    (Err(error), _) | (_, Err(error)) => fault = Some(error),
                }
                fault.is_none()
            },
        )?;
        fault.map_or(Ok(groups), Err)
    }

    /// The connection has said hello: it hears these from now on, and how far they are.
    pub(super) fn listen(&mut self, connection: ConnectionId, groups: BTreeSet<ConversationId>) {
        for id in &groups {
            if let Some(log) = self.logs.groups.get_mut(id) {
                log.listeners.insert(connection);
            }
        }
        let told = self.tell_heads(connection, &groups);
        if let Some(session) = self.session_mut(connection) {
            session.listening.groups = groups;
        }
        if let Err(error) = told {
            self.note_fault(&error);
            self.close(connection, Code::STORAGE_FAILED);
        }
    }

    /// The connections of a user hear the group from now on: it came to be one that comes by its log, or she joined.
    pub(super) fn listen_too(&mut self, user: &UserId, id: &ConversationId) {
        let Some(log) = self.logs.groups.get_mut(id) else { return };
        let Some(state) = self.users.get(user) else { return };
        for connection in &state.connections {
            log.listeners.insert(*connection);
            let session = self.connections.get_mut(connection).and_then(|state| state.session.as_mut());
            if let Some(session) = session {
                session.listening.groups.insert(id.clone());
            }
        }
    }

    /// The user is no member any more.
    pub(super) fn unlisten(&mut self, user: &UserId, id: &ConversationId) {
        let Some(log) = self.logs.groups.get_mut(id) else { return };
        let Some(state) = self.users.get(user) else { return };
        for connection in &state.connections {
            log.listeners.remove(connection);
            let session = self.connections.get_mut(connection).and_then(|state| state.session.as_mut());
            if let Some(session) = session {
                session.listening.groups.remove(id);
                session.listening.behind.remove(id);
            }
        }
    }

    /// The connection has ended.
    pub(super) fn forget_listening(&mut self, connection: ConnectionId, listening: &Listening) {
        for id in &listening.groups {
            if let Some(log) = self.logs.groups.get_mut(id) {
                log.listeners.remove(&connection);
            }
        }
        self.push_taken(listening.pushed);
    }

    /// Tells how far these groups are.
    fn tell_heads(
        &mut self,
        connection: ConnectionId,
        groups: &BTreeSet<ConversationId>,
    ) -> Result<(), StoreError> {
        let Some(session) = self.session_mut(connection) else { return Ok(()) };
        let user = session.user.clone();
        let mut heads = Vec::new();
        for id in groups {
            let conversation = self.conversations.load(&self.store, id, &user)?;
            if let Some(head) = conversation.and_then(|conversation| head(id, conversation)) {
                heads.push(head);
            }
        }
        while !heads.is_empty() {
            let rest = heads.split_off(heads.len().min(LOG_HEADS_MAX));
            self.push_event(connection, Event::LogHeads(wire::LogHeads { heads }));
            heads = rest;
        }
        Ok(())
    }
}

/// How far a group is, and what it is; `None` of what is no group.
fn head(id: &ConversationId, conversation: &Conversation) -> Option<wire::LogHead> {
    let facts = &conversation.group.as_ref()?.durable;
    Some(wire::LogHead {
        conversation: id.as_str().to_owned(),
        last_seq: conversation.durable.0,
        title: facts.title.as_ref().to_owned(),
        owner: facts.owner.as_ref().map(|owner| owner.as_str().to_owned()).unwrap_or_default(),
        member_count: facts.member_count,
        version: facts.version.0,
        called_all: facts.called_all.0,
        changes: conversation.changes_durable.0,
    })
}
