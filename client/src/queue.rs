//! The user's queue as this device applies it.
//!
//! *Invariant:* entries are applied in the order of their positions, each once; `durable` ≤ `received`; both only
//! grow while the epoch is the same.

use bytes::Bytes;
use hongyan_protocol::wire::client_frame::Verb;
use hongyan_protocol::wire::{self, ConversationState, GroupChangeKind, ResetCause, entry::Change};
use hongyan_protocol::{
    ChangeNumber, ConversationId, ConversationKind, GroupVersion, Key, Pos, Seq, Time, UserId,
};
use prost::Message as _;

use crate::cache::After;
use crate::changes::ChangeCursor;
use crate::client::Client;
use crate::conversations::{self, Line};
use crate::defects::{self, Defect};
use crate::io::{Event, Now, Write};
use crate::limits::{ACK_DELAY_MS, ACK_ENTRIES, CONVERSATIONS_MAX, GATHER_MS, UNSAVED_ENTRIES_MAX};
use crate::logs::{LogCursor, Way};
use crate::session::Pending;
use crate::sorted::SortedMap;
use crate::timers::Timer;
use crate::view::{GroupUpdate, GroupUpdateKind};

/// Where the device is in its user's queue.
#[derive(Default)]
pub(crate) struct Queue {
    /// Of the positions below; empty on a new device.
    pub(crate) epoch: String,
    /// Applied in memory: what is streamed again up to here is passed over.
    pub(crate) received: Pos,
    /// In the cache: the cursor that a hello gives, and where a new process begins.
    pub(crate) durable: Pos,
    /// What the relay was told, or was given in the hello.
    pub(crate) acked: Pos,
    /// What this connection streamed, or its hello gave: the relay takes no acknowledgement above it.
    streamed: Pos,
    /// Where this connection's stream began.
    begun: Pos,
    /// Entries durable since then.
    unacked: u64,
    /// The head as the welcome named it.
    welcome_head: Pos,
    /// The head as this connection heard last.
    head: Pos,
    /// Counts the resets: what was to follow from an older life is void.
    pub(crate) life: u64,
    stream: Stream,
    /// How far logs are, heard while a reset is due or its snapshot gathers.
    hints: SortedMap<ConversationId, (Seq, ChangeNumber)>,
}

/// What the next batch means.
#[derive(Default)]
enum Stream {
    /// It continues `received`.
    #[default]
    Continues,
    /// A gap was seen and `Resume` sent: what does not fit is passed over until what fits comes.
    Resuming,
    /// Too much waits for the cache: batches are passed over until it is durable, then asked for again.
    Overrun,
    /// The welcome was of another epoch, or behind the cursor: a reset must follow before anything is applied.
    AwaitsReset,
    /// The snapshot gathers. The device `begins` with it when it had nothing before: then nothing is missing.
    Resetting { epoch: String, pos: Pos, begins: bool, states: Vec<ConversationState> },
}

impl Queue {
    /// The device holds everything that the welcome named.
    pub(crate) fn is_caught_up(&self) -> bool {
        match self.stream {
            Stream::Continues | Stream::Resuming | Stream::Overrun => self.durable >= self.welcome_head,
            Stream::AwaitsReset | Stream::Resetting { .. } => false,
        }
    }

    /// A reset is due or its snapshot gathers: what is known here may be of another log.
    pub(crate) fn is_resetting(&self) -> bool {
        matches!(self.stream, Stream::AwaitsReset | Stream::Resetting { .. })
    }

    /// The relay has the cursor that the hello gave, and lacks what was received after it: it does not know that a
    /// reset is due.
    pub(crate) fn must_ask_for_reset(&self) -> bool {
        matches!(self.stream, Stream::AwaitsReset)
            && self.received > self.welcome_head
            && self.durable <= self.welcome_head
    }

    /// How far a log is, for when the snapshot is complete.
    pub(crate) fn keep_hint(&mut self, id: ConversationId, seq: Seq, changes: ChangeNumber) {
        if self.hints.len() < CONVERSATIONS_MAX || self.hints.contains_key(&id) {
            let known = self.hints.get_or_insert_with(id, Default::default);
            *known = (seq.max(known.0), changes.max(known.1));
        }
    }

    /// What a hello tells. More may become durable before the welcome, and the relay does not know that.
    pub(crate) fn hello(&mut self) -> Pos {
        let cursor = if defects::is_on(Defect::HelloBeforeDurable) { self.received } else { self.durable };
        self.acked = cursor;
        self.streamed = cursor;
        self.begun = cursor;
        cursor
    }

    /// What may be acknowledged. While a reset is due, positions are of another queue than the relay's.
    fn tellable(&self) -> Pos {
        if defects::is_on(Defect::AckBeforeDurable) {
            self.received
        } else if defects::is_on(Defect::AckBeyondStream) {
            self.durable
        } else if self.is_resetting() {
            self.acked
        } else {
            self.durable.min(self.streamed)
        }
    }

    /// A connection begins.
    pub(crate) fn welcome(&mut self, epoch: String, head: Pos) {
        self.welcome_head = head;
        self.head = head;
        self.hints.clear();
        self.unacked = 0;
        self.stream = Stream::Continues;
        if self.epoch != epoch {
            // Even with nothing received there may be messages of the log before: one's own, confirmed by an answer.
            let is_early = defects::is_on(Defect::EpochBeforeReset) && self.received == Pos::ZERO;
            if self.epoch.is_empty() || is_early {
                self.epoch = epoch;
            } else {
                self.stream = Stream::AwaitsReset;
            }
        } else if self.received > head {
            self.stream = Stream::AwaitsReset;
        }
    }
}

impl Client {
    /// Consecutive entries came.
    pub(crate) fn batch(&mut self, now: Now, batch: wire::Batch) {
        match self.queue.stream {
            Stream::Continues | Stream::Resuming => {}
            Stream::Overrun | Stream::AwaitsReset | Stream::Resetting { .. } => return,
        }
        if self.cache.entries_unsaved() >= UNSAVED_ENTRIES_MAX {
            self.queue.stream = Stream::Overrun;
            return;
        }
        self.queue.head = self.queue.head.max(Pos(batch.head));
        self.cache.is_applying = true;
        let mut applied = 0;
        for entry in batch.entries {
            let pos = Pos(entry.pos);
            if pos <= self.queue.received && !defects::is_on(Defect::AppliedTwice) {
                self.queue.streamed = self.queue.streamed.max(pos);
                continue;
            }
            if pos > self.queue.received && pos != self.queue.received.next() {
                self.resume(now);
                break;
            }
            self.queue.received = pos;
            self.queue.streamed = self.queue.streamed.max(pos);
            applied += 1;
            if matches!(self.queue.stream, Stream::Resuming) {
                self.queue.stream = Stream::Continues;
                self.forget_resume();
            }
            match entry.change {
                Some(Change::Message(message)) => self.apply_message(message),
                Some(Change::Read(mark)) => self.apply_read(&mark),
                Some(Change::Group(change)) => self.apply_group(change),
                Some(Change::Diffusion(change)) => self.apply_diffusion(&change),
                Some(Change::MessageChange(change)) => self.apply_change(change, Way::Queue),
                Some(Change::Profile(profile)) => self.apply_profile(profile),
                // A kind of a newer version, or told by a later entry: it takes its position and means nothing here.
                None => {}
            }
            if self.fill(applied) {
                applied = 0;
            }
        }
        self.applied(applied);
        self.cache.is_applying = false;
        self.ask_refused(now);
        self.pump_pulls(now);
        // What was passed over may be durable already, and the relay waits to hear so.
        self.acknowledge_soon(now);
    }

    /// So many entries up to `received` go into the transaction that gathers.
    pub(crate) fn applied(&mut self, entries: u64) {
        if entries > 0 {
            self.session.brought();
            self.cache.gathering.entries += entries;
            self.cache.gathering.meta = true;
            let (life, pos) = (self.queue.life, self.queue.received);
            self.cache.after(After::Durable { life, pos, entries });
        }
    }

    /// What is due waits for more: nobody waits for it, and enough entries to gather are known to come soon. As many as this
    /// connection brought already are enough, so the first ones are told at once, and a page that has just begun is not
    /// given much to do in one task. A hidden page has no timers to rely on.
    pub(crate) fn gathers(&mut self, now: Now) -> bool {
        let queue = &self.queue;
        let enough = queue.durable.0.saturating_sub(queue.begun.0).min(self.config.gathered_entries);
        let known = queue.head.0.saturating_sub(queue.received.0);
        let is_known = |entries| entries < enough && enough <= entries + known;
        let gathers = self.cache.unhurried().is_some_and(is_known)
            && self.session.is_online()
            && self.session.visible
            && matches!(queue.stream, Stream::Continues);
        if gathers && self.timers.get(Timer::Save).is_none() {
            self.timers.set(Timer::Save, now.moment.after_ms(GATHER_MS));
        }
        gathers
    }

    /// Asks for the queue after `received`, once until it comes.
    pub(crate) fn resume(&mut self, now: Now) {
        if !matches!(self.queue.stream, Stream::Resuming) {
            self.queue.stream = Stream::Resuming;
            let cursor = self.queue.received.0;
            self.request(now, Pending::Resume, Verb::Resume(wire::Resume { cursor }));
        }
    }

    fn apply_message(&mut self, message: wire::Message) {
        let Some(view) = conversations::view(&message) else { return };
        let id = view.conversation.clone();
        let peer = id.peer_of(&self.user);
        if id.kind() == ConversationKind::Direct && peer.is_none() {
            return;
        }
        if self.conversations.get(&id).is_some_and(|line| line.log.is_some()) {
            return self.log_message(message, Way::Queue);
        }
        let own = view.from == self.user;
        if let Some(peer) = peer {
            self.may_be_permitted(Some(&peer));
        }
        self.note_message(&id, &message, own);
        if defects::is_on(Defect::ToldBeforeDurable) {
            self.event(Event::Message(view.clone()));
        } else {
            self.cache.after(After::Event(Event::Message(view.clone())));
        }
        if own {
            self.confirm_by_queue(&view);
        }
    }

    /// A message of the log is known: it goes into the list and into the cache.
    pub(crate) fn note_message(&mut self, id: &ConversationId, message: &wire::Message, own: bool) {
        let line = self.conversations.entry(id, &mut self.cache.gathering.writes);
        let before = line.last_seq;
        line.take(message, own);
        let seq = Seq(message.seq);
        if !own && conversations::calls(message, &self.user) {
            line.call(seq);
        }
        let now_at = line.last_seq;
        let record: Bytes = message.encode_to_vec().into();
        self.cache.write(Write::Message(id.clone(), seq, record));
        self.trim(id, before, now_at);
        self.cache.changed(id);
    }

    /// A log has grown: what of it is not kept in the cache any more goes.
    pub(crate) fn trim(&mut self, id: &ConversationId, before: Seq, now_at: Seq) {
        if let Some(below) = conversations::trim(before, now_at) {
            self.cache.write(Write::MessagesBelow(id.clone(), below));
        }
    }

    fn apply_read(&mut self, mark: &wire::ReadMark) {
        let Ok(id) = ConversationId::new(&mark.conversation) else { return };
        let seq = Seq(mark.seq);
        let Some(line) = self.conversations.get_mut(&id) else { return };
        let confirmed = line.read_pending && seq >= line.read_seq;
        if confirmed {
            line.read_pending = false;
        }
        if line.read(seq) || confirmed {
            self.cache.changed(&id);
        }
    }

    fn apply_group(&mut self, change: wire::GroupChange) {
        let Ok(id) = ConversationId::new(&change.conversation) else { return };
        let kind = change.kind();
        let (Ok(by), ConversationKind::Group) = (UserId::new(&change.by), id.kind()) else { return };
        let known = self.conversations.get(&id);
        let version = GroupVersion(change.version);
        // What a log's head told is not the same: it tells how the group is, not what happened to this user.
        if known.is_some_and(|line| version <= line.applied) {
            return;
        }
        let new = known.is_none_or(|line| line.group.is_none() && line.last_seq == Seq::ZERO);
        self.may_be_permitted(None);
        let users = conversations::users(&change.users);
        let concerned = users.contains(&self.user);
        let gone = match kind {
            GroupChangeKind::Removed => concerned,
            GroupChangeKind::Left => concerned || by == self.user,
            GroupChangeKind::Unspecified
            | GroupChangeKind::Created
            | GroupChangeKind::Added
            | GroupChangeKind::Renamed => false,
        };
        let line = self.conversations.entry(&id, &mut self.cache.gathering.writes);
        let (head, changes) = (Seq(change.last_seq), ChangeNumber(change.changes));
        let mut is_of_now = true;
        // The answer to one's own first message may have come before this: then the conversation is not new, but who
        // is named here joined all the same.
        let joins = matches!(kind, GroupChangeKind::Created | GroupChangeKind::Added)
            && concerned
            && !defects::is_on(Defect::JoinOvertaken);
        let joined = new || joins || (line.left && !gone);
        line.last_seq = line.last_seq.max(head);
        if joined {
            line.read(head);
        }
        line.left = gone || (line.left && !concerned);
        line.time = line.time.max(Time(change.time));
        line.applied = version;
        if gone {
            // What was not pulled yet never will be. What was told beyond is of a later membership, of which the queue
            // is yet to tell.
            let ended = line.log.take_if(|log| log.told <= head);
            if let Some(gap) = ended.and_then(|log| log.missed(&id, head)) {
                self.cache.after(After::Event(gap));
            }
        } else if joined {
            line.log = LogCursor::of_membership(line.log, head, change.by_log);
            is_of_now = line.group.is_none() || line.changes.told >= changes;
            line.changes = ChangeCursor::at(changes.max(line.changes.told));
            if change.by_log {
                line.changes.doubt();
            }
        }
        let changed = conversations::group(change.title, &change.owner, change.member_count, change.version);
        if line.group.as_ref().is_none_or(|group| group.version <= version) {
            line.group.clone_from(&changed);
        }
        let group = changed;
        if !is_of_now {
            // What is kept of an earlier membership may have changed since.
            self.forget_messages(&id);
        }
        self.cache.changed(&id);
        let kind = match kind {
            GroupChangeKind::Created => GroupUpdateKind::Created,
            GroupChangeKind::Added => GroupUpdateKind::Added,
            GroupChangeKind::Removed => GroupUpdateKind::Removed,
            GroupChangeKind::Left => GroupUpdateKind::Left,
            GroupChangeKind::Renamed => GroupUpdateKind::Renamed,
            // A newer version's change: the group is shown as it is now, what happened has no name here.
            GroupChangeKind::Unspecified => return,
        };
        if let Some(group) = group {
            let update = GroupUpdate { conversation: id, kind, by, users, group, time: Time(change.time) };
            self.cache.after(After::Event(Event::Group(update)));
        }
    }

    /// The queue can't be continued.
    pub(crate) fn reset(&mut self, reset: wire::Reset) {
        self.forget_resume();
        let begins = reset.cause() == ResetCause::NewDevice && self.queue.received == Pos::ZERO;
        self.queue.stream =
            Stream::Resetting { epoch: reset.epoch, pos: Pos(reset.pos), begins, states: Vec::new() };
    }

    /// A part of the list as it is now.
    pub(crate) fn snapshot(&mut self, now: Now, snapshot: wire::Snapshot) {
        let Stream::Resetting { states, .. } = &mut self.queue.stream else { return };
        let room = CONVERSATIONS_MAX.saturating_sub(states.len());
        states.extend(snapshot.conversations.into_iter().take(room));
        if snapshot.done
            && let Stream::Resetting { epoch, pos, begins, states } = core::mem::take(&mut self.queue.stream)
        {
            self.replace(epoch, pos, begins, states);
            self.histories_begin_anew();
            self.may_be_permitted(None);
            self.ask_refused(now);
            self.pump_reads(now);
            self.pump_pulls(now);
            self.pump_asks(now);
            self.pump_profiles(now);
        }
    }

    /// Everything that was known goes, what the snapshot told comes, and the outbox stays: one transaction.
    fn replace(&mut self, epoch: String, pos: Pos, begins: bool, states: Vec<ConversationState>) {
        let same_epoch = self.queue.epoch == epoch;
        self.queue.life += 1;
        self.queue.epoch = epoch;
        self.queue.received = pos;
        // Until the snapshot is in the cache, a hello tells what is there: of the same queue that is the cursor of before.
        if !same_epoch || self.queue.durable > pos {
            self.queue.durable = Pos::ZERO;
        }
        self.queue.acked = self.queue.durable;
        self.queue.streamed = pos;
        self.queue.unacked = 0;
        self.cache.clear();
        self.cache.gathering.meta = true;
        let mut pending = Vec::new();
        for (id, line) in self.conversations.iter() {
            // Marks that the relay does not have yet are the user's doing; they stay if the log is the same one.
            if line.read_pending && same_epoch {
                pending.push((id.clone(), line.read_seq));
            }
        }
        self.conversations.clear();
        self.profiles.begin_anew(same_epoch, &mut self.cache);
        for state in states {
            if let Some((id, line)) = Line::from_state(state) {
                let last = line.last.clone();
                if let Some(last) = last {
                    self.cache.write(Write::Message(id.clone(), Seq(last.seq), last.encode_to_vec().into()));
                }
                self.cache.changed(&id);
                self.conversations.insert(id, line);
            }
        }
        for (id, line) in self.conversations.iter_mut() {
            if let Some((seq, changes)) = self.queue.hints.get(id) {
                line.hint(*seq);
                line.changes.hint(*changes);
            }
        }
        self.queue.hints.clear();
        for (id, seq) in pending {
            if let Some(line) = self.conversations.get_mut(&id)
                && line.read(seq.min(line.last_seq))
            {
                line.read_pending = true;
            }
        }
        let kept: Vec<_> = self
            .outbox
            .entries
            .iter()
            .map(|(order, entry)| (*order, entry.record(), entry.conversation.clone()))
            .collect();
        for (order, record, id) in kept {
            if !defects::is_on(Defect::ResetLosesOutbox) {
                self.cache.write(Write::Outbox(order, record));
            }
            self.conversations.entry(&id, &mut self.cache.gathering.writes);
            self.cache.changed(&id);
        }
        if !begins {
            self.cache.after(After::Event(Event::Gap));
        }
        self.cache.after(After::Durable { life: self.queue.life, pos, entries: 0 });
    }

    /// The cache holds the queue up to `pos`.
    pub(crate) fn durable(&mut self, life: u64, pos: Pos, entries: u64) {
        if life != self.queue.life {
            return;
        }
        debug_assert!(pos >= self.queue.durable && pos <= self.queue.received);
        self.queue.durable = self.queue.durable.max(pos);
        self.queue.unacked += entries;
    }

    /// Acknowledges when enough is due, or after a while.
    pub(crate) fn acknowledge_soon(&mut self, now: Now) {
        if self.queue.tellable() > self.queue.acked {
            if self.queue.unacked >= ACK_ENTRIES {
                self.acknowledge();
            } else if self.timers.get(Timer::Ack).is_none() && self.session.is_online() {
                self.timers.set(Timer::Ack, now.moment.after_ms(ACK_DELAY_MS));
            }
        }
    }

    /// Tells the relay what is durable.
    pub(crate) fn acknowledge(&mut self) {
        let told = self.queue.tellable();
        if self.session.is_online() && told > self.queue.acked {
            self.queue.acked = told;
            self.queue.unacked = 0;
            self.timers.clear(Timer::Ack);
            self.transmit(0, Verb::Ack(wire::Ack { cursor: self.queue.acked.0 }));
        }
    }

    /// Goes on after an overrun, once little enough waits for the cache.
    pub(crate) fn resume_after_overrun(&mut self, now: Now) {
        if matches!(self.queue.stream, Stream::Overrun)
            && self.session.is_online()
            && self.cache.entries_unsaved() < UNSAVED_ENTRIES_MAX / 2
        {
            self.resume(now);
        }
    }

    /// One's own message is in the log: if it waits in the outbox, it need not any more.
    pub(crate) fn confirm_by_queue(&mut self, message: &crate::view::Message) {
        let key: &Key = &message.key;
        if let (Some(order), Some(seq)) = (self.outbox.find(key), message.seq) {
            self.confirm(order, seq, message.time, Some(message));
        }
    }
}
