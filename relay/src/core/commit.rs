//! Group commit: what is accepted gathers while the commit before is under way, then goes to the store at once.

use std::collections::BTreeMap;

use hongyan_protocol::wire::relay_frame::Event;
use hongyan_protocol::{ChangeNumber, ConversationId, DeviceId, Key, Pos, Seq, Time, UserId};

use super::batches::Change;
use super::io::{ConnectionId, Ticket};
use super::limits::WAITING_ANSWER_BYTES;
use super::queries::{Answer, QueryId};
use super::queue::rows::{Reference, Row, pieces};
use super::records::{MembershipRecord, UserRecord, queue_key};
use super::users::Users;
use crate::store::{Batch, Table};
use bytes::Bytes;

/// Names the commit that makes something durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Mark(u64);

impl Mark {
    /// Nothing to wait for.
    pub(super) const NONE: Self = Self(0);
}

/// What happens when a commit has ended.
pub(super) enum Effect {
    /// A request is answered.
    Answer(ConnectionId, u64, Event),
    /// The device's session ended, and with it these connections, those that ended before included; the first of them
    /// said so itself.
    LoggedOut(UserId, DeviceId, Vec<ConnectionId>),
    /// The log has grown.
    Log(ConversationId, Seq),
    /// The message is durable as it is here, and so is its conversation's change of this number.
    Changed(ConversationId, Seq, Bytes, ChangeNumber),
    /// What is known of the group is now durable.
    Group(ConversationId, super::conversations::GroupFacts),
    /// The answer to a key can be read from the store.
    Key(UserId, Key),
    /// The user's profile is durable as it is here: others are to be told.
    Profile(UserId, Bytes),
    /// The membership is durable as it is here.
    Membership(UserId, ConversationId, MembershipRecord),
    /// The device's record can be read from the store.
    Device(UserId, DeviceId),
    /// The user's record is durable as it is here: sessions with a token that it revokes end.
    User(UserId, UserRecord),
    /// The user is invisible to others or not, since then; the connection asked for it.
    Invisible(UserId, ConnectionId, bool, Time),
    /// A step for the user's queue is done; true when there is more to do.
    Tended(UserId, bool),
    /// The device is signed out for good: its sessions end.
    SignedOut(UserId, DeviceId),
    /// The app's server is answered.
    Reply(QueryId, Answer),
}

/// New entries of one queue.
#[derive(Default)]
pub(super) struct Pushes {
    /// The last of them.
    pub(super) head: Pos,
    /// All of them, or none when nobody was connected to receive them as they were made.
    pub(super) entries: Vec<(Pos, Change)>,
    /// All of them, until the commit starts and they are packed into rows.
    references: Vec<Reference>,
}

impl Pushes {
    /// One entry.
    pub(super) fn new(pos: Pos, change: Change) -> Self {
        Self { head: pos, entries: vec![(pos, change)], references: Vec::new() }
    }
}

/// What a commit does besides its batch.
#[derive(Default)]
pub(super) struct Outcome {
    pub(super) pushes: BTreeMap<UserId, Pushes>,
    /// Messages of groups that come by their logs.
    pub(super) logs: Vec<(ConversationId, LogNews)>,
    pub(super) effects: Vec<Effect>,
    bytes: usize,
}

/// What is new of a group that comes by its log, encoded.
pub(super) enum LogNews {
    /// A `wire::Message`.
    Message(Seq, Bytes),
    /// A `wire::MessageChange`.
    Change(ChangeNumber, Bytes),
}

/// A record that a commit changes.
pub(super) struct Pending<R> {
    /// As the store had it before; `None` when it is new.
    pub(super) durable: Option<R>,
    pub(super) assigned: R,
    pub(super) commit: Mark,
}

/// What was answered, or will be when it is durable.
#[derive(Clone)]
pub(super) struct PendingKey {
    pub(super) answer: Event,
    pub(super) commit: Mark,
}

#[derive(Default)]
pub(super) struct Commits {
    batch: Batch,
    gathering: Outcome,
    under_way: Option<Outcome>,
    /// The last commit that has ended.
    ended: u64,
    /// Overlays of the store: what is not durable yet, or was not when the commit under way began.
    pub(super) keys: BTreeMap<(UserId, Key), PendingKey>,
    pub(super) memberships: BTreeMap<(UserId, ConversationId), Pending<MembershipRecord>>,
    /// Messages that are changed, each a `wire::Message`.
    pub(super) messages: BTreeMap<(ConversationId, Seq), Pending<Bytes>>,
    /// Profiles, each a `wire::Profile`.
    pub(super) profiles: BTreeMap<UserId, Pending<Bytes>>,
    /// Answers that wait.
    waiting: usize,
}

impl Commits {
    /// The commit that gathers.
    pub(super) fn mark(&self) -> Mark {
        Mark(self.ended + 1 + u64::from(self.under_way.is_some()))
    }

    pub(super) fn is_durable(&self, mark: Mark) -> bool {
        mark.0 <= self.ended
    }

    /// Bytes that are not durable yet.
    pub(super) fn bytes(&self) -> usize {
        self.gathering.bytes + self.under_way.as_ref().map_or(0, |outcome| outcome.bytes)
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    pub(super) fn is_idle(&self) -> bool {
        self.under_way.is_none() && !self.has_gathered()
    }

    fn has_gathered(&self) -> bool {
        !self.batch.is_empty() || !self.gathering.pushes.is_empty() || !self.gathering.effects.is_empty()
    }

    pub(super) fn put(&mut self, table: Table, key: Bytes, value: Bytes) {
        self.gathering.bytes += key.len() + value.len();
        self.batch.put(table, key, value);
    }

    pub(super) fn delete(&mut self, table: Table, key: Bytes) {
        self.gathering.bytes += key.len();
        self.batch.delete(table, key);
    }

    /// With the commit that gathers.
    pub(super) fn then(&mut self, effect: Effect) {
        self.then_at(self.mark(), effect);
    }

    /// With a commit that has not ended.
    pub(super) fn then_at(&mut self, mark: Mark, effect: Effect) {
        self.waiting += answers(core::slice::from_ref(&effect));
        let gathers = self.mark();
        let outcome = match &mut self.under_way {
            Some(outcome) if mark < gathers => outcome,
            _ => &mut self.gathering,
        };
        outcome.bytes += WAITING_ANSWER_BYTES
            + match &effect {
                Effect::Answer(_, _, event) => event.encoded_len(),
                _ => 0,
            };
        outcome.effects.push(effect);
    }

    /// An entry of a queue; its change is kept when somebody is there to receive it.
    pub(super) fn push(&mut self, user: &UserId, pos: Pos, reference: Reference, change: Option<Change>) {
        self.gathering.bytes += reference.weight();
        let pushes = match self.gathering.pushes.get_mut(user) {
            Some(pushes) => pushes,
            None => self.gathering.pushes.entry(user.clone()).or_default(),
        };
        pushes.head = pos;
        pushes.references.push(reference);
        if let Some(change) = change {
            pushes.entries.push((pos, change));
        }
    }

    /// Something new of a group that comes by its log.
    pub(super) fn push_log(&mut self, id: &ConversationId, news: LogNews) {
        self.gathering.logs.push((id.clone(), news));
    }

    /// A message as it durably is, where the store had this.
    pub(super) fn durable_message(&self, id: &ConversationId, seq: Seq, stored: Bytes) -> Bytes {
        if self.messages.is_empty() {
            return stored;
        }
        let pending = self.messages.get(&(id.clone(), seq));
        pending.and_then(|pending| pending.durable.clone()).unwrap_or(stored)
    }

    /// The next commit, when none is under way and there is something to commit. What it brings to a user is one row of
    /// the queue.
    pub(super) fn start(&mut self, users: &mut Users, time: Time) -> Option<(Ticket, Batch)> {
        if self.under_way.is_some() || !self.has_gathered() {
            return None;
        }
        for (user, pushes) in &mut self.gathering.pushes {
            let references = core::mem::take(&mut pushes.references);
            let Some(state) = users.get_mut(user) else { continue };
            for (last, entries) in pieces(references, pushes.head) {
                let hot = last.next().0.saturating_sub(state.hot_first.0);
                let row = Row { last, time, hot, bytes: state.hot_bytes, entries };
                let (key, value) = (queue_key(user, last), row.encode());
                state.hot_bytes = state.hot_bytes.saturating_add((key.len() + value.len()) as u64);
                self.batch.put(Table::Queue, key, value);
            }
        }
        let Mark(ticket) = self.mark();
        self.under_way = Some(core::mem::take(&mut self.gathering));
        Some((Ticket(ticket), core::mem::take(&mut self.batch)))
    }

    /// The commit under way has ended well. `None` for another ticket than the one under way.
    pub(super) fn end(&mut self, ticket: Ticket) -> Option<Outcome> {
        if ticket.0 != self.ended + 1 {
            return None;
        }
        let outcome = self.under_way.take()?;
        self.ended = ticket.0;
        self.waiting -= answers(&outcome.effects);
        Some(outcome)
    }

    /// A membership is durable as given; a later change of it may still be pending.
    pub(super) fn settle_membership(&mut self, user: &UserId, id: &ConversationId, record: MembershipRecord) {
        let durable = self.durable();
        settle(&mut self.memberships, &(user.clone(), id.clone()), record, durable);
    }

    /// The same of a message.
    pub(super) fn settle_message(&mut self, id: &ConversationId, seq: Seq, message: &Bytes) {
        let durable = self.durable();
        settle(&mut self.messages, &(id.clone(), seq), message.clone(), durable);
    }

    /// The same of a profile.
    pub(super) fn settle_profile(&mut self, user: &UserId, profile: &Bytes) {
        let durable = self.durable();
        settle(&mut self.profiles, user, profile.clone(), durable);
    }

    /// The last commit that has ended.
    pub(super) fn durable(&self) -> Mark {
        Mark(self.ended)
    }

    /// The store failed: everything that waits, first come first.
    pub(super) fn abandon(&mut self) -> Vec<Effect> {
        self.batch = Batch::default();
        self.waiting = 0;
        let mut effects = self.under_way.take().map(|outcome| outcome.effects).unwrap_or_default();
        effects.append(&mut core::mem::take(&mut self.gathering).effects);
        effects
    }
}

/// A record is durable as given; a later change of it may still be pending.
pub(super) fn settle<K: Ord, R>(pending: &mut BTreeMap<K, Pending<R>>, key: &K, record: R, durable: Mark) {
    match pending.get_mut(key) {
        Some(pending) if pending.commit > durable => pending.durable = Some(record),
        _ => drop(pending.remove(key)),
    }
}

fn answers(effects: &[Effect]) -> usize {
    effects.iter().filter(|effect| matches!(effect, Effect::Answer(..) | Effect::Reply(..))).count()
}
