//! A relay core with a fake verifier, a clock that is set by hand, and commits that end when the test says so.

#![allow(dead_code, unreachable_pub, missing_docs, clippy::unwrap_used)]

pub mod presence;

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use hongyan_protocol::wire::{self, MessageChangeKind, client_frame::Verb, relay_frame::Event};
use hongyan_protocol::{Code, ConversationId, Time, UserId};
use hongyan_relay::core::io::{Identity, Verifier};
use hongyan_relay::core::queries::{Answer, Query, QueryId};
use hongyan_relay::core::{ConnectionId, CoreConfig, Input, Moment, Now, Output, Relay, Ticket};
use hongyan_relay::store::{Batch, MemoryStore, Store, StoreError};
use prost::Message as _;

/// A token is `user@end` or `user@end@issued`, with times in milliseconds since 1970.
pub struct FakeVerifier;

impl Verifier for FakeVerifier {
    fn verify(&self, token: &str) -> Result<Identity, String> {
        let (user, expires) = token.split_once('@').ok_or("it has no @")?;
        let (expires, issued) = match expires.split_once('@') {
            Some((expires, issued)) => (expires, Some(issued)),
            None => (expires, None),
        };
        let user = UserId::new(user).map_err(|error| error.to_string())?;
        let expires = Time(expires.parse().map_err(|_| "its end is no number")?);
        let issued = issued.map(|issued| issued.parse().map(Time)).transpose();
        let issued = issued.map_err(|_| "its beginning is no number")?;
        Ok(Identity { user, expires, issued })
    }
}

pub const START: u64 = 1_000_000;

pub struct World<S: Store = MemoryStore> {
    pub relay: Relay<S, FakeVerifier>,
    pub store: S,
    pub now: u64,
    /// Commits end as they begin.
    pub auto_commit: bool,
    /// Sockets take everything at once.
    pub auto_write: bool,
    /// What is due at once is done at once.
    pub auto_tick: bool,
    pub pending: VecDeque<(Ticket, Batch)>,
    pub inbox: BTreeMap<ConnectionId, VecDeque<wire::RelayFrame>>,
    /// Bytes given to a connection that its socket has not taken.
    pub unwritten: BTreeMap<ConnectionId, usize>,
    pub closed: BTreeMap<ConnectionId, Code>,
    /// What the app's server was answered.
    pub answers: BTreeMap<QueryId, Answer>,
    pub drained: bool,
    pub failed: Option<String>,
    /// Whether `trace` is kept.
    pub keeps_trace: bool,
    /// Every output, as text, for comparing two runs.
    pub trace: Vec<String>,
    next_connection: u64,
    next_request: u64,
    next_query: u64,
}

impl World {
    pub fn new() -> Self {
        Self::with(CoreConfig::default())
    }

    pub fn with(config: CoreConfig) -> Self {
        Self::over(MemoryStore::new(), config)
    }
}

impl<S: Store> World<S> {
    pub fn over(store: S, config: CoreConfig) -> Self {
        let relay = Relay::open(config, store.clone(), FakeVerifier, [7; 32]).unwrap();
        Self {
            relay,
            store,
            now: START,
            auto_commit: true,
            auto_write: true,
            auto_tick: true,
            pending: VecDeque::new(),
            inbox: BTreeMap::new(),
            unwritten: BTreeMap::new(),
            closed: BTreeMap::new(),
            answers: BTreeMap::new(),
            drained: false,
            failed: None,
            keeps_trace: false,
            trace: Vec::new(),
            next_connection: 0,
            next_request: 0,
            next_query: 0,
        }
    }

    fn now(&self) -> Now {
        Now { moment: Moment(self.now), time: Time(1_700_000_000_000 + self.now) }
    }

    pub fn input(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            self.relay.handle(self.now(), input);
            while let Some(output) = self.relay.poll() {
                match output {
                    Output::Transmit(connection, bytes) => {
                        self.note(|| format!("transmit {connection:?} {bytes:?}"));
                        let frame = wire::RelayFrame::from_bytes(bytes.clone()).unwrap();
                        self.inbox.entry(connection).or_default().push_back(frame);
                        if self.auto_write {
                            inputs.push_back(Input::Written(vec![(connection, bytes.len())]));
                        } else {
                            *self.unwritten.entry(connection).or_default() += bytes.len();
                        }
                    }
                    Output::Close(connection, code) => {
                        self.note(|| format!("close {connection:?} {code:?}"));
                        assert!(self.closed.insert(connection, code).is_none(), "closed twice");
                        inputs.push_back(Input::Closed(connection));
                    }
                    Output::Commit(ticket, batch) => {
                        self.note(|| format!("commit {ticket:?} {batch:?}"));
                        assert!(self.pending.is_empty(), "one commit at most is under way");
                        self.pending.push_back((ticket, batch));
                    }
                    Output::Answer(id, answer) => {
                        self.note(|| format!("answer {id:?}"));
                        assert!(self.answers.insert(id, answer).is_none(), "answered twice");
                    }
                    Output::Drained => self.drained = true,
                    Output::Failed(sentence) => {
                        assert!(self.failed.replace(sentence).is_none());
                    }
                }
            }
            if self.auto_commit
                && let Some((ticket, batch)) = self.pending.pop_front()
            {
                inputs.push_back(Input::Committed(ticket, self.store.commit(&batch)));
            }
            // Deadlines that are due at once: streams that still have something to send.
            if self.auto_tick
                && inputs.is_empty()
                && self.relay.next_deadline().is_some_and(|at| at <= Moment(self.now))
            {
                inputs.push_back(Input::Tick);
            }
        }
    }

    fn note(&mut self, output: impl FnOnce() -> String) {
        if self.keeps_trace {
            self.trace.push(output());
        }
    }

    /// Ends the commit under way.
    pub fn commit(&mut self) {
        let (ticket, batch) = self.pending.pop_front().expect("a commit is under way");
        let result = self.store.commit(&batch);
        self.input(Input::Committed(ticket, result));
    }

    /// Commits until nothing is left.
    pub fn commit_all(&mut self) {
        while !self.pending.is_empty() {
            self.commit();
        }
    }

    pub fn fail_commit(&mut self) {
        let (ticket, _) = self.pending.pop_front().expect("a commit is under way");
        self.input(Input::Committed(ticket, Err(StoreError::Engine("the disk is full".into()))));
    }

    /// Lets time pass, deadline by deadline.
    pub fn pass(&mut self, ms: u64) {
        let end = self.now + ms;
        while let Some(Moment(at)) = self.relay.next_deadline()
            && at <= end
        {
            self.now = self.now.max(at);
            self.input(Input::Tick);
        }
        self.now = end;
        self.input(Input::Tick);
    }

    pub fn open(&mut self) -> ConnectionId {
        self.next_connection += 1;
        let connection = ConnectionId(self.next_connection);
        self.input(Input::Connected(connection));
        connection
    }

    pub fn bytes(&mut self, connection: ConnectionId, bytes: impl Into<Bytes>) {
        self.input(Input::Frame(connection, bytes.into()));
    }

    pub fn frame(&mut self, connection: ConnectionId, request: u64, verb: Verb) {
        let frame = wire::ClientFrame { request, verb: Some(verb) };
        self.bytes(connection, frame.encode_to_vec());
    }

    /// Sends a request, and gives its number.
    pub fn ask(&mut self, connection: ConnectionId, verb: Verb) -> u64 {
        self.next_request += 1;
        self.frame(connection, self.next_request, verb);
        self.next_request
    }

    /// Everything that came, of any kind.
    pub fn take(&mut self, connection: ConnectionId) -> Vec<Event> {
        let frames = self.inbox.remove(&connection).unwrap_or_default();
        frames.into_iter().filter_map(|frame| frame.event).collect()
    }

    /// The answer to a request, if it came.
    pub fn answer(&mut self, connection: ConnectionId, request: u64) -> Option<Event> {
        let inbox = self.inbox.get_mut(&connection)?;
        let at = inbox.iter().position(|frame| frame.request == request)?;
        inbox.remove(at)?.event
    }

    /// Asks and takes the answer.
    pub fn call(&mut self, connection: ConnectionId, verb: Verb) -> Event {
        let request = self.ask(connection, verb);
        self.answer(connection, request).expect("an answer")
    }

    /// Asks and takes the code of its refusal.
    pub fn refused(&mut self, connection: ConnectionId, verb: Verb) -> Code {
        match self.call(connection, verb) {
            Event::Reject(reject) => {
                assert!(!reject.reason.is_empty());
                Code(reject.code.try_into().unwrap())
            }
            event => panic!("not refused but {}", name(&event)),
        }
    }

    /// The socket takes what was given to it.
    pub fn written_all(&mut self, connection: ConnectionId) {
        if let Some(bytes) = self.unwritten.remove(&connection) {
            self.input(Input::Written(vec![(connection, bytes)]));
        }
    }

    /// Does what is due at once.
    pub fn settle(&mut self) {
        while self.relay.next_deadline().is_some_and(|at| at <= Moment(self.now)) {
            self.input(Input::Tick);
        }
    }

    /// Asks as the app's server does, and gives the query's id.
    pub fn query(&mut self, query: Query) -> QueryId {
        self.next_query += 1;
        let id = QueryId(self.next_query);
        self.input(Input::Query(id, query));
        id
    }

    /// Asks as the app's server does, and takes the answer.
    pub fn answered(&mut self, query: Query) -> Answer {
        let id = self.query(query);
        self.answers.remove(&id).expect("an answer")
    }

    /// A new connection that says hello, for a device from a cursor.
    pub fn login_at(&mut self, user: &str, device: &str, epoch: &str, cursor: u64) -> ConnectionId {
        let connection = self.open();
        let mut hello = hello(user, device);
        (hello.epoch, hello.cursor) = (epoch.into(), cursor);
        let event = self.call(connection, Verb::Hello(hello));
        assert!(matches!(event, Event::Welcome(_)), "welcome, not {}", name(&event));
        connection
    }

    /// A connection that stands for one tab of the device, beside those of others.
    pub fn login_tab(&mut self, user: &str, device: &str, tab: &str) -> ConnectionId {
        let connection = self.open();
        let hello = wire::Hello { tab: tab.into(), ..hello(user, device) };
        let event = self.call(connection, Verb::Hello(hello));
        assert!(matches!(event, Event::Welcome(_)), "welcome, not {}", name(&event));
        connection
    }

    pub fn login(&mut self, user: &str, device: &str) -> ConnectionId {
        self.login_at(user, device, "", 0)
    }

    pub fn epoch(&self) -> String {
        self.relay.epoch().as_str().into()
    }

    /// The entries that came, checked to be without a gap, and everything else left out.
    pub fn entries(&mut self, connection: ConnectionId) -> Vec<wire::Entry> {
        let mut entries: Vec<wire::Entry> = Vec::new();
        for event in self.take(connection) {
            if let Event::Batch(batch) = event {
                for entry in batch.entries {
                    assert!(entry.pos <= batch.head);
                    if let Some(last) = entries.last() {
                        assert_eq!(entry.pos, last.pos + 1);
                    }
                    entries.push(entry);
                }
            }
        }
        entries
    }

    /// The texts of the messages among the entries that came.
    pub fn texts(&mut self, connection: ConnectionId) -> Vec<String> {
        let entries = self.entries(connection);
        entries.iter().filter_map(|entry| message(entry).map(text)).collect()
    }

    pub fn send(
        &mut self,
        connection: ConnectionId,
        conversation: &str,
        key: &str,
        text: &str,
    ) -> wire::Sent {
        match self.call(connection, send(conversation, key, text)) {
            Event::Sent(sent) => sent,
            event => panic!("not sent but {}", name(&event)),
        }
    }

    pub fn group(&mut self, connection: ConnectionId, key: &str, members: &[&str]) -> String {
        let members = members.iter().map(|user| (*user).into()).collect();
        let create = wire::CreateGroup { key: key.into(), title: "Geese".into(), members };
        match self.call(connection, Verb::CreateGroup(create)) {
            Event::GroupDone(done) => done.conversation,
            event => panic!("no group but {}", name(&event)),
        }
    }
}

pub fn user(id: &str) -> UserId {
    UserId::new(id).unwrap()
}

pub fn direct(one: &str, other: &str) -> String {
    ConversationId::direct(&user(one), &user(other)).as_str().into()
}

pub fn token(user: &str, ends: u64) -> String {
    format!("{user}@{}", 1_700_000_000_000 + ends)
}

pub fn hello(user: &str, device: &str) -> wire::Hello {
    wire::Hello {
        version: 1,
        token: token(user, 1_000_000_000),
        user: user.into(),
        device: device.into(),
        device_kind: wire::DeviceKind::Web.into(),
        agent: "test".into(),
        ..Default::default()
    }
}

pub fn content(text: &str) -> Bytes {
    wire::Content { text: text.into(), ..Default::default() }.encode_to_vec().into()
}

pub fn send(conversation: &str, key: &str, text: &str) -> Verb {
    Verb::Send(wire::Send {
        conversation: conversation.into(),
        key: key.into(),
        content: content(text),
        ..Default::default()
    })
}

pub fn add(group: &str, users: &[&str]) -> Verb {
    let users = users.iter().map(|user| (*user).into()).collect();
    Verb::AddMembers(wire::AddMembers { conversation: group.into(), users })
}

pub fn remove(group: &str, users: &[&str]) -> Verb {
    let users = users.iter().map(|user| (*user).into()).collect();
    Verb::RemoveMembers(wire::RemoveMembers { conversation: group.into(), users })
}

pub fn history(conversation: &str, before: u64, after: u64, limit: u32) -> Verb {
    Verb::History(wire::History { conversation: conversation.into(), before, after, limit })
}

pub fn edit(conversation: &str, seq: u64, key: &str, text: &str) -> Verb {
    Verb::ChangeMessage(wire::ChangeMessage {
        kind: MessageChangeKind::Edited.into(),
        content: content(text),
        ..change(conversation, seq, key)
    })
}

pub fn recall(conversation: &str, seq: u64, key: &str) -> Verb {
    let kind = MessageChangeKind::Recalled.into();
    Verb::ChangeMessage(wire::ChangeMessage { kind, ..change(conversation, seq, key) })
}

pub fn react(conversation: &str, seq: u64, key: &str, reaction: &str) -> Verb {
    let (kind, reaction) = (MessageChangeKind::Reacted.into(), reaction.into());
    Verb::ChangeMessage(wire::ChangeMessage { kind, reaction, ..change(conversation, seq, key) })
}

pub fn unreact(conversation: &str, seq: u64, key: &str, reaction: &str) -> Verb {
    let (kind, reaction) = (MessageChangeKind::Unreacted.into(), reaction.into());
    Verb::ChangeMessage(wire::ChangeMessage { kind, reaction, ..change(conversation, seq, key) })
}

fn change(conversation: &str, seq: u64, key: &str) -> wire::ChangeMessage {
    let (conversation, key) = (conversation.into(), key.into());
    wire::ChangeMessage { conversation, seq, key, ..wire::ChangeMessage::default() }
}

pub fn changes(conversation: &str, after: u64) -> Verb {
    Verb::Changes(wire::Changes { conversation: conversation.into(), after, limit: 0 })
}

pub fn set_profile(key: &str, name: Option<&str>, avatar: Option<&str>) -> Verb {
    let (name, avatar) = (name.map(str::to_owned), avatar.map(str::to_owned));
    Verb::SetProfile(wire::SetProfile { key: key.into(), name, avatar })
}

pub fn get_profiles(known: &[(&str, u64)]) -> Verb {
    let known =
        known.iter().map(|(user, version)| wire::KnownProfile { user: (*user).into(), version: *version });
    Verb::GetProfiles(wire::GetProfiles { users: known.collect() })
}

pub fn mark_read(conversation: &str, seq: u64) -> Verb {
    Verb::MarkRead(wire::MarkRead { conversation: conversation.into(), seq })
}

pub fn message(entry: &wire::Entry) -> Option<&wire::Message> {
    match &entry.change {
        Some(wire::entry::Change::Message(message)) => Some(message),
        _ => None,
    }
}

pub fn group_change(entry: &wire::Entry) -> Option<&wire::GroupChange> {
    match &entry.change {
        Some(wire::entry::Change::Group(change)) => Some(change),
        _ => None,
    }
}

pub fn text(message: &wire::Message) -> String {
    wire::Content::decode(message.content.clone()).unwrap().text
}

pub fn name(event: &Event) -> String {
    match event {
        Event::Welcome(_) => "welcome".into(),
        Event::Renewed(_) => "renewed".into(),
        Event::Reset(_) => "reset".into(),
        Event::Snapshot(_) => "snapshot".into(),
        Event::LogHeads(_) => "log heads".into(),
        Event::LogMessages(_) => "log messages".into(),
        Event::LogChanges(_) => "log changes".into(),
        Event::Batch(_) => "batch".into(),
        Event::Ping(_) => "ping".into(),
        Event::Pong(_) => "pong".into(),
        Event::Reject(reject) => format!("reject {} {}", reject.code, reject.reason),
        Event::Retire(_) => "retire".into(),
        Event::Sent(_) => "sent".into(),
        Event::MarkedRead(_) => "marked read".into(),
        Event::HistoryPage(_) => "history page".into(),
        Event::GroupDone(_) => "group done".into(),
        Event::MemberPage(_) => "member page".into(),
        Event::Watched(_) => "watched".into(),
        Event::Presence(_) => "presence".into(),
        Event::Typed(_) => "typed".into(),
        Event::DeviceList(_) => "device list".into(),
        Event::SignedOut(_) => "signed out".into(),
        Event::Invisible(_) => "invisible".into(),
        Event::MessageChanged(_) => "message changed".into(),
        Event::ChangePage(_) => "change page".into(),
        Event::ProfileSet(_) => "profile set".into(),
        Event::ProfileList(_) => "profile list".into(),
    }
}
