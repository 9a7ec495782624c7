//! Groups that come by their logs: nothing is written per member. Who is connected is pushed the new messages, encoded
//! once for all; whoever lacks some pulls them as history. So a push is a hint that may be lost: who could not take
//! one is told later how far the log is, and every hello begins with that.
//!
//! A fan-out goes to many connections, so it is done in slices, and only so many pushes are on their way to sockets at
//! once: what else there is to do comes in between, in the core as well as in the sockets' tasks.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound::{Excluded, Unbounded};

use bytes::Bytes;
use hongyan_protocol::limits::{
    BATCH_BYTES_TARGET, BATCH_ENTRIES_MAX, GROUP_CHANGE_USERS_MAX, HELD_MEMBERS_MAX, LOG_HEADS_MAX,
};
use hongyan_protocol::wire::{self, relay_frame::Event};
use hongyan_protocol::{Code, ConversationId, DIRECT_MARK, GroupVersion, Seq, UserId};

use super::batches::{Change, LogFrame};
use super::commit::Effect;
use super::conversations::{Conversation, Group};
use super::deadlines::Timer;
use super::defects::{self, Defect};
use super::io::{ConnectionId, Moment, Verifier};
use super::limits::{LOG_PUSHES_IN_FLIGHT, LOG_PUSHES_PER_INPUT, LOG_STUCK_MS, LOG_WAITING_BYTES_MAX};
use super::records::{
    GroupMode, GroupRecord, MembershipRecord, Reference, Target, decode, encode, group_key, prefix, second_of,
};
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
    /// Connections of members. Who was removed hears nothing above the seq.
    listeners: BTreeMap<ConnectionId, Option<Seq>>,
    /// The group's version that was pushed last.
    told: GroupVersion,
    sending: Option<Sending>,
    waiting: Waiting,
    /// It comes by the queues again: it goes when everything was pushed.
    ended: bool,
}

/// What is being pushed, and to whom it was last.
struct Sending {
    frames: Vec<LogFrame>,
    after: Option<ConnectionId>,
}

/// What is to be pushed next.
#[derive(Default)]
struct Waiting {
    messages: Vec<(Seq, Bytes)>,
    bytes: usize,
    /// It was too much: only the head is told.
    overrun: bool,
    last: Seq,
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.messages.is_empty() && !self.overrun
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

/// A change of the way that is due.
pub(super) enum ChangeOver {
    /// To the log.
    Begins,
    /// To the queues of these.
    Ends(BTreeMap<UserId, GroupVersion>),
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

    /// A message that is durable now.
    pub(super) fn push(&mut self, id: &ConversationId, seq: Seq, message: Bytes) {
        let Some(log) = self.groups.get_mut(id) else { return };
        let waiting = &mut log.waiting;
        waiting.last = seq;
        if !waiting.overrun {
            waiting.bytes += message.len();
            waiting.messages.push((seq, message));
        }
        if waiting.bytes > LOG_WAITING_BYTES_MAX {
            *waiting = Waiting { overrun: true, last: seq, ..Waiting::default() };
        }
        if !self.line.contains(id) {
            self.line.push_back(id.clone());
        }
    }
}

impl Log {
    fn is_idle(&self) -> bool {
        self.sending.is_none() && self.waiting.is_empty()
    }
}

impl<S: Store, V: Verifier> Relay<S, V> {
    // ------------------------------------------------------------ who listens

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
                log.listeners.insert(connection, None);
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
        for connection in state.connections.iter() {
            log.listeners.insert(*connection, None);
            let session = self.connections.get_mut(connection).and_then(|state| state.session.as_mut());
            if let Some(session) = session {
                session.listening.groups.insert(id.clone());
            }
        }
    }

    /// The user is being removed, and hears nothing above what the log has now.
    pub(super) fn stop_listening(&mut self, id: &ConversationId, user: &UserId, last: Seq) {
        let Some(log) = self.logs.groups.get_mut(id) else { return };
        let Some(state) = self.users.get(user) else { return };
        for connection in state.connections.iter() {
            if let Some(until) = log.listeners.get_mut(connection) {
                *until = Some(last);
            }
        }
    }

    /// The user is no member any more.
    pub(super) fn unlisten(&mut self, user: &UserId, id: &ConversationId) {
        let Some(log) = self.logs.groups.get_mut(id) else { return };
        let Some(state) = self.users.get(user) else { return };
        for connection in state.connections.iter() {
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
            let Some(Conversation { durable, group: Some(group), .. }) = conversation else { continue };
            heads.push(head(id, *durable, group));
        }
        while !heads.is_empty() {
            let rest = heads.split_off(heads.len().min(LOG_HEADS_MAX));
            self.push_event(connection, Event::LogHeads(wire::LogHeads { heads }));
            heads = rest;
        }
        Ok(())
    }

    // ------------------------------------------------------------ fan-out

    /// Pushes go on: a slice of each group's in turn, as long as there is room on the way.
    pub(super) fn push_logs(&mut self) {
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
            let group = self.conversations.get(id).and_then(|conversation| {
                let group = conversation.group.as_ref()?;
                Some(head(id, conversation.durable, group))
            });
            let Some(frames) = log.begin(id, group) else { return false };
            log.sending = Some(Sending { frames, after: None });
        }
        let Some(Sending { frames, mut after }) = log.sending.take() else { return false };
        loop {
            if *budget == 0 || self.logs.window.in_flight >= LOG_PUSHES_IN_FLIGHT {
                if let Some(log) = self.logs.groups.get_mut(id) {
                    log.sending = Some(Sending { frames, after });
                }
                return true;
            }
            let Some(log) = self.logs.groups.get(id) else { return false };
            let from = after.map_or(Unbounded, Excluded);
            let Some((connection, until)) = log.listeners.range((from, Unbounded)).next() else {
                return !log.is_idle();
            };
            let (connection, until) = (*connection, *until);
            after = Some(connection);
            *budget -= 1;
            self.push_to(connection, id, &frames, until);
        }
    }

    fn push_to(
        &mut self,
        connection: ConnectionId,
        id: &ConversationId,
        frames: &[LogFrame],
        until: Option<Seq>,
    ) {
        for frame in frames {
            if until.is_some_and(|until| frame.last > until) {
                return;
            }
            if !self.has_room_for_news(connection) {
                if let Some(session) = self.session_mut(connection)
                    && !defects::is_on(Defect::LogHintForgotten)
                {
                    session.listening.behind.insert(id.clone());
                }
                return;
            }
            let (number, now) = (self.logs.window.number, self.now.moment);
            if let Some(session) = self.session_mut(connection)
                && session.listening.pushed != Some(number)
            {
                session.listening.pushed = Some(number);
                self.logs.window.in_flight += 1;
                self.logs.window.moved = now;
            }
            self.transmit(connection, frame.bytes.clone());
        }
    }

    /// The socket took what was on its way to it: there is room for another, and for what it was not told.
    pub(super) fn log_written(&mut self, connection: ConnectionId) {
        let Some(state) = self.connections.get_mut(&connection) else { return };
        let is_empty = state.outgoing == 0;
        let Some(session) = state.session.as_mut() else { return };
        if is_empty {
            let pushed = session.listening.pushed.take();
            self.push_taken(pushed);
        }
        self.tell_behind(connection);
    }

    fn tell_behind(&mut self, connection: ConnectionId) {
        if !self.has_room_for_news(connection) {
            return;
        }
        let Some(session) = self.session_mut(connection) else { return };
        if session.listening.behind.is_empty() {
            return;
        }
        let behind = core::mem::take(&mut session.listening.behind);
        if let Err(error) = self.tell_heads(connection, &behind) {
            self.note_fault(&error);
            if let Some(session) = self.session_mut(connection) {
                session.listening.behind = behind;
            }
        }
    }

    fn push_taken(&mut self, pushed: Option<u64>) {
        let window = &mut self.logs.window;
        if pushed == Some(window.number) {
            window.in_flight = window.in_flight.saturating_sub(1);
            window.moved = self.now.moment;
        }
    }

    // ------------------------------------------------------------ changing over

    /// Whether a group of so many members is to come by its log.
    fn is_by_log(&self, mode: GroupMode, was: bool, members: usize) -> bool {
        let most = self.config.log_members;
        match mode {
            _ if members > HELD_MEMBERS_MAX => true,
            GroupMode::Log => true,
            GroupMode::Copy | GroupMode::Reference => false,
            // Not to and fro with each who comes and goes.
            GroupMode::Auto if was => members > most / 2,
            GroupMode::Auto => members > most,
        }
    }

    /// The change of the way that is due once the group has so many members; those whom it needs are in memory then.
    pub(super) fn change_over_due(
        &mut self,
        id: &ConversationId,
        members: usize,
    ) -> Result<Option<ChangeOver>, StoreError> {
        let Some(Conversation { group: Some(group), .. }) = self.conversations.get(id) else {
            return Ok(None);
        };
        let was = group.facts.by_log;
        let is = self.is_by_log(group.mode, was, members);
        if is == was {
            return Ok(None);
        }
        let Some(Conversation { group: Some(group), .. }) = self.conversations.get(id) else {
            return Ok(None);
        };
        // Before the change there may be as many more as it names.
        let most = HELD_MEMBERS_MAX + GROUP_CHANGE_USERS_MAX;
        let all = group.members.page(&self.store, id, None, most)?;
        for user in all.keys() {
            self.users.load(&self.store, user)?;
        }
        Ok(Some(if is { ChangeOver::Begins } else { ChangeOver::Ends(all) }))
    }

    /// The group's messages come the other way from here on. Everybody in it is in memory, so that it cannot fail.
    pub(super) fn change_over(&mut self, id: &ConversationId, over: ChangeOver) {
        let mark = self.commits.mark();
        let Some(conversation) = self.conversations.get_mut(id) else { return };
        let Some(group) = &mut conversation.group else { return };
        let begins = matches!(over, ChangeOver::Begins);
        if let ChangeOver::Ends(members) = over {
            group.members.hold(members);
        }
        let members: Vec<UserId> = group.members.all_held().cloned().collect();
        if begins {
            group.members.let_go();
        }
        group.facts.by_log = begins;
        group.commit = mark;
        conversation.commit = mark;
        conversation.set_users();
        let mut seq = conversation.assigned;
        if defects::is_on(Defect::ChangeOverOffByOne) {
            seq = seq.next();
        }
        self.conversations.weigh(id);
        self.put_group(id);
        if begins {
            self.commits.put(Table::Logs, group_key(id), Bytes::new());
            self.logs.groups.entry(id.clone()).or_default().ended = false;
            for user in &members {
                self.listen_too(user, id);
            }
        } else {
            self.commits.delete(Table::Logs, group_key(id));
        }
        let target = if begins { Target::LogBegins(seq.0) } else { Target::LogEnds(seq.0) };
        let reference = encode(&Reference { conversation: id.as_str().to_owned(), target: Some(target) });
        let change = Change::Diffusion(diffusion(id, seq.0, begins));
        for user in &members {
            self.enqueue(user, &reference, &change);
        }
    }

    /// The same, for a change that nobody is told of.
    pub(super) fn keep_group(&mut self, id: &ConversationId) {
        let mark = self.commits.mark();
        if let Some(conversation) = self.conversations.get_mut(id) {
            conversation.commit = mark;
            if let Some(group) = &mut conversation.group {
                group.commit = mark;
            }
        }
        self.put_group(id);
    }

    /// The group's record, and what is known of it, as they are now.
    pub(super) fn put_group(&mut self, id: &ConversationId) {
        let Some(Conversation { group: Some(group), .. }) = self.conversations.get(id) else { return };
        let facts = group.facts.clone();
        let record = GroupRecord {
            title: facts.title.as_ref().to_owned(),
            owner: facts.owner.as_ref().map(|owner| owner.as_str().to_owned()).unwrap_or_default(),
            version: facts.version.0,
            members: facts.member_count,
            by_log: facts.by_log,
            mode: group.mode.into(),
            called_all: facts.called_all.0,
        };
        self.commits.put(Table::Groups, group_key(id), encode(&record));
        self.commits.then(Effect::Group(id.clone(), facts));
    }

    /// What is known of the group is durable: if it comes by the queues, its log is forgotten once everything was pushed.
    pub(super) fn end_log(&mut self, id: &ConversationId) {
        let Some(log) = self.logs.groups.get_mut(id) else { return };
        let group = self.conversations.get(id).and_then(|conversation| conversation.group.as_ref());
        // A later change may have begun it anew.
        if group.is_some_and(|group| !group.facts.by_log) {
            log.ended = true;
            if !self.logs.line.contains(id) {
                self.logs.line.push_back(id.clone());
            }
        }
    }

    fn forget_log(&mut self, id: &ConversationId) {
        let Some(log) = self.logs.groups.remove(id) else { return };
        for connection in log.listeners.keys() {
            if let Some(session) = self.session_mut(*connection) {
                session.listening.groups.remove(id);
                session.listening.behind.remove(id);
            }
        }
    }
}

impl Log {
    /// What waits becomes frames; `None` when nothing does.
    fn begin(&mut self, id: &ConversationId, group: Option<wire::LogHead>) -> Option<Vec<LogFrame>> {
        if self.waiting.is_empty() {
            return None;
        }
        let Waiting { messages, overrun, last, .. } = core::mem::take(&mut self.waiting);
        if overrun {
            // What the group is besides is told with the next message.
            let head = wire::LogHead {
                conversation: id.as_str().to_owned(),
                last_seq: last.0,
                ..wire::LogHead::default()
            };
            return Some(LogFrame::head(head).into_iter().collect());
        }
        let mut news = group.filter(|group| GroupVersion(group.version) > self.told);
        if let Some(news) = &news {
            self.told = GroupVersion(news.version);
        }
        let (mut frames, mut page, mut bytes) = (Vec::new(), Vec::new(), 0);
        let mut messages = messages.into_iter().peekable();
        while let Some((seq, message)) = messages.next() {
            bytes += message.len() + 8;
            page.push(message);
            if page.len() >= BATCH_ENTRIES_MAX || bytes >= BATCH_BYTES_TARGET || messages.peek().is_none() {
                frames.push(LogFrame::messages(core::mem::take(&mut page), seq, news.take()));
                bytes = 0;
            }
        }
        Some(frames)
    }
}

fn head(id: &ConversationId, last: Seq, group: &Group) -> wire::LogHead {
    let facts = &group.durable;
    wire::LogHead {
        conversation: id.as_str().to_owned(),
        last_seq: last.0,
        title: facts.title.as_ref().to_owned(),
        owner: facts.owner.as_ref().map(|owner| owner.as_str().to_owned()).unwrap_or_default(),
        member_count: facts.member_count,
        version: facts.version.0,
        called_all: facts.called_all.0,
    }
}

/// What the queue tells of a change of the way.
pub(super) fn diffusion(id: &ConversationId, seq: u64, by_log: bool) -> Bytes {
    encode(&wire::Diffusion { conversation: id.as_str().to_owned(), seq, by_log })
}
