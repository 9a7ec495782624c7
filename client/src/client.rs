//! The one way in and the one way out, and what all parts share.

use core::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use bytes::Bytes;
use hongyan_protocol::wire::client_frame::Verb;
use hongyan_protocol::wire::{ClientFrame, Content};
use hongyan_protocol::{Code, ConversationId, DeviceId, Pos, UserId};
use prost::Message as _;

use crate::cache::{After, Cache, Transaction};
use crate::conversations::{self, Conversations, Line};
use crate::defects::{self, Defect};
use crate::io::{
    ChatError, Config, Event, Input, Moment, Now, Output, RequestId, Restored, Storage, Ticket, Write,
};
use crate::outbox::{Entry, Outbox};
use crate::presence::Presences;
use crate::profiles::Profiles;
use crate::queue::Queue;
use crate::random::Random;
use crate::records::{MetaRecord, RECORDS_VERSION};
use crate::requests::Asks;
use crate::session::{Phase, Session};
use crate::sorted::SortedMap;
use crate::table::{self, Kind, Rule};
use crate::timers::{Timer, Timers};
use crate::typing::Typings;
use crate::view::{Conversation, State};

/// One device's client.
pub struct Client {
    pub(crate) user: UserId,
    pub(crate) config: Config,
    pub(crate) device: Option<DeviceId>,
    pub(crate) random: Random,
    pub(crate) timers: Timers,
    pub(crate) session: Session,
    pub(crate) queue: Queue,
    pub(crate) cache: Cache,
    pub(crate) conversations: Conversations,
    pub(crate) outbox: Outbox,
    pub(crate) asks: Asks,
    pub(crate) presences: Presences,
    pub(crate) profiles: Profiles,
    pub(crate) typings: Typings,
    outputs: VecDeque<Output>,
    /// The state that the application was told last.
    told: Option<State>,
}

impl Client {
    /// A client that waits for [`Input::Restored`].
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            user: config.user.clone(),
            random: Random::new(&config.seed),
            config,
            device: None,
            timers: Timers::default(),
            session: Session::default(),
            queue: Queue::default(),
            cache: Cache::default(),
            conversations: Conversations::default(),
            outbox: Outbox::default(),
            asks: Asks::default(),
            presences: Presences::default(),
            profiles: Profiles::default(),
            typings: Typings::default(),
            outputs: VecDeque::new(),
            told: None,
        }
    }

    /// Takes one input. What is to be done then comes out of [`Client::poll`].
    ///
    /// # Panics
    /// When outputs of the input before were not polled until `None`: their order against what this input brings
    /// would be lost.
    pub fn handle(&mut self, now: Now, input: Input) {
        assert!(self.outputs.is_empty(), "poll until None before the next input");
        self.dispatch(now, input);
        self.settle(now);
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Input::Tick`] is due at the latest; it may change with every input.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Moment> {
        self.timers.next()
    }

    /// Saves what has gathered behind a save that is under way: the last thing of a process that ends. Nothing that
    /// waits for a save happens any more.
    pub fn flush(&mut self) {
        while self.cache.is_waiting() && !defects::is_on(Defect::OutboxLostOnLeaderChange) {
            self.begin_save();
        }
    }

    /// Who logs in.
    #[must_use]
    pub fn user(&self) -> &UserId {
        &self.user
    }

    /// This device's id; known after [`Input::Restored`].
    #[must_use]
    pub fn device(&self) -> Option<&DeviceId> {
        self.device.as_ref()
    }

    /// The direct conversation with a user.
    #[must_use]
    pub fn direct(&self, peer: &UserId) -> ConversationId {
        ConversationId::direct(&self.user, peer)
    }

    /// Connection and storage as they are now.
    #[must_use]
    pub fn state(&self) -> State {
        State {
            status: self.session.status(),
            reason: self.session.reason(),
            retry_at: self.session.retry_at(),
            storage: self.config.storage,
            caught_up: self.session.phase == Phase::Online && self.queue.is_caught_up(),
            invisible: self.session.invisible,
        }
    }

    fn dispatch(&mut self, now: Now, input: Input) {
        let rule = table::rule(self.session.phase, Kind::of(&input));
        if rule == Rule::Ignored {
            return;
        }
        match input {
            Input::Restored(restored) => self.restore(now, restored),
            Input::Token(token) => self.token_came(now, token),
            Input::Opened(generation) => self.opened(now, generation),
            Input::Frame(generation, bytes) => self.frame_came(now, generation, bytes),
            Input::Closed { generation, code, reason } => self.closed(now, generation, code, reason),
            Input::Saved(ticket) => self.saved(now, ticket),
            Input::SaveFailed(ticket, _) => self.save_failed(now, ticket),
            Input::Loaded(ticket, messages) => self.loaded(now, ticket, messages),
            Input::Command(request, _) if rule == Rule::Refused => {
                let message = "The cache is still being read; try again when it is.".into();
                self.reply(request, Err(ChatError { code: Code::BUSY, message }));
            }
            Input::Command(request, command) => self.command(now, request, command),
            Input::Host(event) if rule == Rule::Keeps => self.session.note(now.moment, event),
            Input::Host(event) => self.host(now, event),
            Input::Tick => {}
        }
        while let Some((timer, due)) = self.timers.expired(now.moment) {
            self.timer(now, timer, due);
        }
    }

    /// What the cache held becomes what is shown. A cache that can't be trusted is dropped, but for the outbox.
    fn restore(&mut self, now: Now, restored: Restored) {
        self.session.term = restored.term;
        let empty = restored.meta.is_none()
            && restored.conversations.is_empty()
            && restored.outbox.is_empty()
            && restored.profiles.is_empty();
        let meta = restored.meta.and_then(|record| MetaRecord::decode(record).ok());
        let trusted = meta.as_ref().filter(|meta| {
            meta.version == RECORDS_VERSION
                && meta.user == self.user.as_str()
                && DeviceId::new(&meta.device).is_ok()
        });
        // What can't be read ends the list, which is too short then.
        let lines: Vec<_> = restored.conversations.iter().map_while(|record| Line::restore(record)).collect();
        let entries: Vec<_> = restored
            .outbox
            .iter()
            .filter_map(|(order, record)| Some((*order, Entry::restore(record)?)))
            .collect();
        let (mut profiles, mut gone) = (Profiles::default(), Vec::new());
        let is_whole = lines.len() == restored.conversations.len()
            && entries.len() == restored.outbox.len()
            && restored.profiles.iter().all(|record| profiles.restore(record, &mut gone));
        let trusted = trusted.filter(|_| is_whole);
        if let Some(meta) = trusted {
            self.queue.epoch.clone_from(&meta.epoch);
            self.queue.received = Pos(meta.cursor);
            self.queue.durable = Pos(meta.cursor);
            self.profiles = profiles;
            self.cache.gathering.writes.extend(gone);
            for (id, line) in lines {
                self.conversations.insert(id, line);
            }
        } else if !empty {
            self.cache.clear();
        }
        let is_kept = trusted.is_some();
        // What waits in the outbox is nowhere else, so it stays whatever else is dropped, unless another user wrote it.
        let is_own = meta.as_ref().is_none_or(|meta| meta.user == self.user.as_str());
        for (order, entry) in entries.into_iter().filter(|_| is_own) {
            if !is_kept {
                self.cache.write(Write::Outbox(order, entry.record()));
            }
            self.conversations.entry(&entry.conversation, &mut Vec::new());
            self.outbox.restore(order, entry);
        }
        // Another user's device is another device.
        self.device = meta.filter(|_| is_own).and_then(|meta| DeviceId::new(&meta.device).ok());
        if self.device.is_none() {
            self.device = DeviceId::new(&self.random.name()).ok();
            self.cache.gathering.meta = true;
        }
        if self.cache.clears() {
            self.cache.gathering.meta = true;
        }
        let waiting: Vec<_> = self
            .outbox
            .entries
            .values()
            .map(|entry| (entry.view(&self.user), entry.failed.clone()))
            .collect();
        for (message, failed) in waiting {
            self.event(Event::Outbox(message, failed));
        }
        self.start(now);
    }

    /// After each input: what gathered is persisted, and the application learns of a changed state.
    fn settle(&mut self, now: Now) {
        self.slow_deadline();
        // Pages of logs and lists of profiles gather too, while a save is under way.
        self.fill(0);
        if self.cache.is_due() && !self.gathers(now) {
            self.begin_save();
        }
        self.finish_closing();
        debug_assert!(self.session.phase != Phase::Online || self.session.socket.is_some());
        let state = self.state();
        if self.session.phase != Phase::Fresh && self.told.as_ref() != Some(&state) {
            self.told = Some(state.clone());
            self.event(Event::State(state));
        }
    }

    /// If what gathered is enough for one transaction, with so many entries of the queue more, the next gathers from here on.
    pub(crate) fn fill(&mut self, entries: u64) -> bool {
        let is_full = self.cache.gathering.is_full(entries);
        if is_full {
            self.applied(entries);
            let transaction = self.gathered();
            self.cache.push(transaction);
        }
        is_full
    }

    /// What gathered, with the records of what changed as they are now.
    fn gathered(&mut self) -> Transaction {
        let mut transaction = core::mem::take(&mut self.cache.gathering);
        for id in transaction.changed.as_slice() {
            if let Some(line) = self.conversations.get(id) {
                transaction.writes.push(Write::Conversation(id.clone(), line.record(id).into()));
            }
        }
        if transaction.meta
            && let Some(device) = &self.device
        {
            let record = MetaRecord {
                version: RECORDS_VERSION,
                user: self.user.as_str().into(),
                device: device.as_str().into(),
                epoch: self.queue.epoch.clone(),
                cursor: self.queue.received.0,
            };
            transaction.writes.push(Write::Meta(record.encode_to_vec().into()));
        }
        if defects::is_on(Defect::CursorBeforeBatch) {
            let is_message = |write: &mut Write| matches!(write, Write::Message(..));
            let late: Vec<_> = transaction.writes.extract_if(.., is_message).collect();
            self.cache.gathering.writes.extend(late);
        }
        transaction
    }

    fn begin_save(&mut self) {
        self.timers.clear(Timer::Save);
        let ticket = self.cache.ticket();
        let transaction = match self.cache.pop() {
            Some(full) => full,
            None => self.gathered(),
        };
        if self.config.shared {
            let events = self.announced(&transaction);
            self.outputs.push_back(Output::Prepare(events));
        }
        let writes = self.cache.begin(ticket, transaction);
        self.outputs.push_back(Output::Save(ticket, writes));
    }

    /// What will be told once the transaction is durable.
    fn announced(&self, transaction: &Transaction) -> Vec<Event> {
        let events = transaction.after.iter().filter_map(|after| match after {
            After::Event(event) => Some(event.clone()),
            After::Reply(..) | After::Durable { .. } | After::Queued(_) => None,
        });
        let changed = transaction.changed.as_slice().iter();
        events.chain(changed.filter_map(|id| self.view_of(id).map(Event::Conversation))).collect()
    }

    fn saved(&mut self, now: Now, ticket: Ticket) {
        if let Some(transaction) = self.cache.end(ticket) {
            self.follow(now, transaction);
        }
    }

    /// The transaction is durable: what waited for it happens.
    fn follow(&mut self, now: Now, transaction: Transaction) {
        for after in transaction.after {
            match after {
                After::Event(event) => self.tell(event),
                After::Reply(request, answer) => self.reply(request, answer),
                After::Durable { life, pos, entries } => self.durable(life, pos, entries),
                After::Queued(order) => {
                    if let Some(entry) = self.outbox.entries.get_mut(&order) {
                        entry.durable = true;
                    }
                }
            }
        }
        self.acknowledge_soon(now);
        for id in transaction.changed.as_slice() {
            if let Some(conversation) = self.view_of(id) {
                self.event(Event::Conversation(conversation));
            }
        }
        self.resume_after_overrun(now);
        self.pump_pulls(now);
        self.pump_outbox(now);
    }

    /// Tells what is durable. Who wrote a message has ceased to write it.
    fn tell(&mut self, event: Event) {
        let written = match &event {
            Event::Message(message) => Some((message.conversation.clone(), message.from.clone())),
            _ => None,
        };
        self.event(event);
        if let Some((conversation, user)) = written {
            self.typing_ceased(&conversation, &user);
        }
    }

    /// The host keeps the cache in memory from here on, so the same writes go there once more. If even that fails,
    /// the cache is only a cache: what was to follow follows.
    fn save_failed(&mut self, now: Now, ticket: Ticket) {
        let Some(transaction) = self.cache.end(ticket) else { return };
        if self.config.storage == Storage::Memory || defects::is_on(Defect::FailedSaveForgotten) {
            self.follow(now, transaction);
            return;
        }
        self.config.storage = Storage::Memory;
        let ticket = self.cache.ticket();
        let writes = self.cache.begin(ticket, transaction);
        self.outputs.push_back(Output::Save(ticket, writes));
    }

    /// A conversation as the application sees it.
    pub(crate) fn view_of(&self, id: &ConversationId) -> Option<Conversation> {
        let line = self.conversations.get(id)?;
        let waiting = self.outbox.of(id).next_back().map(|entry| entry.view(&self.user));
        Some(conversations::conversation(id, line, &self.user, waiting))
    }

    /// The list, newest first; equal times by id.
    pub(crate) fn list(&self, limit: usize, before: Option<&ConversationId>) -> Vec<Conversation> {
        let mut waiting = SortedMap::new();
        for entry in self.outbox.entries.values() {
            waiting.insert(&entry.conversation, entry);
        }
        let time = |id: &ConversationId, line: &Line| {
            waiting.get(&id).map_or(line.time, |entry| entry.time.max(line.time))
        };
        // A heap: only as many as are wanted come out in order.
        let lines = self.conversations.iter();
        let mut newest: BinaryHeap<_> = lines.map(|(id, line)| (time(id, line), Reverse(id))).collect();
        if let Some(before) = before {
            while newest.pop().is_some_and(|(_, Reverse(id))| id != before) {}
        }
        core::iter::from_fn(|| newest.pop())
            .take(limit)
            .filter_map(|(_, Reverse(id))| {
                let waiting = waiting.get(&id).map(|entry| entry.view(&self.user));
                let line = self.conversations.get(id)?;
                Some(conversations::conversation(id, line, &self.user, waiting))
            })
            .collect()
    }

    pub(crate) fn output(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    pub(crate) fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    pub(crate) fn reply(&mut self, request: RequestId, answer: Result<crate::io::Answer, ChatError>) {
        self.outputs.push_back(Output::Reply(request, answer));
    }

    /// Puts a frame on the open socket. Frames are within their limit because what is in them was checked; one
    /// that is not is left out, and its request fails by its deadline. Gives the verb back.
    pub(crate) fn transmit(&mut self, request: u64, verb: Verb) -> Option<Verb> {
        let frame = ClientFrame::of(request, verb);
        if let Some(generation) = self.session.socket
            && let Ok(bytes) = frame.to_bytes()
        {
            self.outputs.push_back(Output::Transmit(generation, bytes));
        }
        frame.verb
    }
}

/// A content's bytes, as they go on the wire.
pub(crate) fn content_bytes(content: &Content) -> Bytes {
    content.encode_to_vec().into()
}
