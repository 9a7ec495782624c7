//! A bed for one client: virtual time, a cache that survives crashes, and a relay whose frames the test writes.
#![allow(dead_code, unreachable_pub)]

pub mod changes;

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use hongyan_client::limits::GATHERED_ENTRIES;
use hongyan_client::view::{Message, SessionStatus, Status};
use hongyan_client::{
    Answer, ChatError, Client, Command, Config, Event, Generation, HostEvent, Input, Moment, Now, Output,
    RequestId, Restored, Storage, Ticket, Write,
};
use hongyan_protocol::wire::client_frame::Verb;
use hongyan_protocol::wire::{
    self, ClientFrame, Content, DeviceKind, RelayFrame, entry::Change, relay_frame,
};
use hongyan_protocol::{Code, ConversationId, Key, Seq, Time, UserId};
use prost::Message as _;

pub fn user(id: &str) -> UserId {
    UserId::new(id).unwrap()
}

pub fn conversation(id: &str) -> ConversationId {
    ConversationId::new(id).unwrap()
}

/// The direct conversation of alice (the client of each test) and another.
pub fn with(peer: &str) -> ConversationId {
    ConversationId::direct(&user("alice"), &user(peer))
}

pub fn text(text: &str) -> Content {
    Content { text: text.into(), ..Content::default() }
}

pub fn log_message(conversation: &ConversationId, seq: u64, from: &str, key: &str) -> wire::Message {
    wire::Message {
        conversation: conversation.as_str().into(),
        seq,
        key: key.into(),
        from: from.into(),
        time: 1_000 + seq,
        content: text(key).encode_to_vec().into(),
        ..wire::Message::default()
    }
}

pub fn entry(pos: u64, change: Change) -> wire::Entry {
    wire::Entry { pos, change: Some(change) }
}

pub fn batch(entries: Vec<wire::Entry>) -> relay_frame::Event {
    let head = entries.last().map_or(0, |entry| entry.pos);
    relay_frame::Event::Batch(wire::Batch { entries, head })
}

/// Positions `from`..=`to`, each bob's message of the same seq.
pub fn bobs(from: u64, to: u64) -> relay_frame::Event {
    batch(
        (from..=to)
            .map(|n| entry(n, Change::Message(log_message(&with("bob"), n, "bob", &format!("b{n}")))))
            .collect(),
    )
}

/// What survives a crash.
#[derive(Clone, Default)]
pub struct Disk {
    pub meta: Option<Bytes>,
    pub conversations: BTreeMap<ConversationId, Bytes>,
    pub outbox: BTreeMap<u64, Bytes>,
    pub messages: BTreeMap<(ConversationId, u64), Bytes>,
    pub profiles: BTreeMap<UserId, Bytes>,
}

impl Disk {
    pub fn apply(&mut self, writes: &[Write]) {
        for write in writes {
            match write {
                Write::Clear => *self = Self::default(),
                Write::Meta(record) => self.meta = Some(record.clone()),
                Write::Conversation(id, record) => {
                    self.conversations.insert(id.clone(), record.clone());
                }
                Write::ConversationGone(id) => {
                    self.conversations.remove(id);
                    self.messages.retain(|(of, _), _| of != id);
                }
                Write::Message(id, seq, record) => {
                    self.messages.insert((id.clone(), seq.0), record.clone());
                }
                Write::MessagesBelow(id, bound) => {
                    self.messages.retain(|(of, seq), _| of != id || *seq >= bound.0);
                }
                Write::Profile(user, record) => {
                    self.profiles.insert(user.clone(), record.clone());
                }
                Write::ProfileGone(user) => {
                    self.profiles.remove(user);
                }
                Write::Outbox(order, record) => {
                    self.outbox.insert(*order, record.clone());
                }
                Write::OutboxGone(order) => {
                    self.outbox.remove(order);
                }
            }
        }
    }

    pub fn restored(&self) -> Restored {
        Restored {
            meta: self.meta.clone(),
            conversations: self.conversations.values().cloned().collect(),
            outbox: self.outbox.iter().map(|(order, record)| (*order, record.clone())).collect(),
            profiles: self.profiles.values().cloned().collect(),
            term: 0,
        }
    }

    pub fn load(&self, id: &ConversationId, from: Seq, to: Seq) -> Vec<(Seq, Bytes)> {
        (from.0..=to.0)
            .filter_map(|seq| Some((Seq(seq), self.messages.get(&(id.clone(), seq))?.clone())))
            .collect()
    }
}

pub struct Bed {
    pub client: Client,
    pub now: u64,
    pub disk: Disk,
    /// Saves are answered at once; else they wait in `saves`.
    pub saves_at_once: bool,
    pub saves: VecDeque<(Ticket, Vec<Write>)>,
    pub loads_at_once: bool,
    pub loads: VecDeque<(Ticket, ConversationId, Seq, Seq)>,
    pub frames: VecDeque<ClientFrame>,
    pub beacons: Vec<wire::Beacon>,
    pub prepared: Vec<Vec<Event>>,
    pub events: Vec<Event>,
    pub replies: BTreeMap<u64, Result<Answer, ChatError>>,
    pub tokens_asked: usize,
    pub dials: Vec<Generation>,
    pub hangups: Vec<Code>,
    pub socket: Generation,
    /// The host's counter of takeovers.
    pub term: u64,
    /// Other tabs listen.
    pub shared: bool,
    /// The kinds of outputs since the last input of the test.
    pub said_last: Vec<&'static str>,
    commands: u64,
    seed: u8,
}

fn config(seed: u8, storage: Storage, shared: bool) -> Config {
    Config {
        user: user("alice"),
        device_kind: DeviceKind::Web,
        agent: "test/1".into(),
        tab: String::new(),
        shared,
        storage,
        gathered_entries: GATHERED_ENTRIES,
        seed: [seed; 32],
    }
}

impl Bed {
    /// A client that was made and not restored.
    pub fn fresh() -> Self {
        Self {
            client: Client::new(config(1, Storage::IndexedDb, false)),
            now: 1_000,
            disk: Disk::default(),
            saves_at_once: true,
            saves: VecDeque::new(),
            loads_at_once: true,
            loads: VecDeque::new(),
            frames: VecDeque::new(),
            beacons: Vec::new(),
            prepared: Vec::new(),
            events: Vec::new(),
            replies: BTreeMap::new(),
            tokens_asked: 0,
            dials: Vec::new(),
            hangups: Vec::new(),
            socket: Generation(0),
            term: 1,
            shared: false,
            said_last: Vec::new(),
            commands: 0,
            seed: 1,
        }
    }

    /// Restored from an empty cache; it has asked for its token.
    pub fn new() -> Self {
        let mut bed = Self::fresh();
        bed.restore();
        bed
    }

    /// Online at an empty queue.
    pub fn online() -> Self {
        let mut bed = Self::new();
        bed.go_online(0);
        bed
    }

    pub fn restore(&mut self) {
        let restored = Restored { term: self.term, ..self.disk.restored() };
        self.feed(Input::Restored(restored));
    }

    /// The process ends without a word, and a new one starts with what the disk has.
    pub fn crash(&mut self) {
        self.seed += 1;
        self.client = Client::new(config(self.seed, Storage::IndexedDb, self.shared));
        self.saves.clear();
        self.loads.clear();
        self.frames.clear();
        self.restore();
    }

    /// Token, dial and welcome with the epoch `e1`.
    pub fn go_online(&mut self, head: u64) -> wire::Hello {
        let hello = self.greet();
        self.say(0, welcome("e1", head));
        assert_eq!(self.client.state().status, SessionStatus::Online);
        hello
    }

    /// As far as the hello.
    pub fn greet(&mut self) -> wire::Hello {
        while self.client.state().status == SessionStatus::Offline {
            let at = self.client.state().retry_at.expect("a next try");
            self.until(at.0);
        }
        let before = self.dials.len();
        if self.tokens_asked > 0 && self.client.state().status == SessionStatus::Connecting {
            self.feed(Input::Token(Ok("token".into())));
        }
        assert!(self.dials.len() >= before);
        let generation = *self.dials.last().expect("a dial");
        self.socket = generation;
        self.frames.clear();
        self.feed(Input::Opened(generation));
        match self.frame().verb {
            Some(Verb::Hello(hello)) => hello,
            _ => panic!("the first frame is a hello"),
        }
    }

    pub fn time(&self) -> Now {
        Now { moment: Moment(self.now), time: Time(1_000_000 + self.now) }
    }

    pub fn feed(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        self.said_last.clear();
        while let Some(input) = inputs.pop_front() {
            self.client.handle(self.time(), input);
            while let Some(output) = self.client.poll() {
                self.said_last.push(kind(&output));
                match output {
                    Output::NeedToken => self.tokens_asked += 1,
                    Output::Dial(generation) => self.dials.push(generation),
                    Output::Transmit(generation, bytes) => {
                        assert_eq!(Some(&generation), self.dials.last(), "only on the newest socket");
                        self.frames.push_back(ClientFrame::from_bytes(bytes).unwrap());
                    }
                    Output::Hangup { generation, code } => {
                        assert_eq!(Some(&generation), self.dials.last());
                        self.hangups.push(code);
                    }
                    Output::Save(ticket, writes) if self.saves_at_once => {
                        self.disk.apply(&writes);
                        inputs.push_back(Input::Saved(ticket));
                    }
                    Output::Save(ticket, writes) => {
                        assert!(self.saves.is_empty(), "one save at a time");
                        self.saves.push_back((ticket, writes));
                    }
                    Output::Load { ticket, conversation, from, to } if self.loads_at_once => {
                        inputs.push_back(Input::Loaded(ticket, self.disk.load(&conversation, from, to)));
                    }
                    Output::Load { ticket, conversation, from, to } => {
                        self.loads.push_back((ticket, conversation, from, to));
                    }
                    Output::Beacon(bytes) => self.beacons.push(wire::Beacon::decode(bytes).unwrap()),
                    Output::Prepare(events) => self.prepared.push(events),
                    Output::Event(event) => self.events.push(event),
                    Output::Reply(request, answer) => {
                        assert!(self.replies.insert(request.0, answer).is_none(), "one reply each");
                    }
                }
            }
            assert!(
                self.client.next_deadline().is_none_or(|at| at.0 > self.now),
                "no deadline is left in the past"
            );
        }
    }

    /// The save that is under way becomes durable.
    pub fn save(&mut self) -> bool {
        let Some((ticket, writes)) = self.saves.pop_front() else { return false };
        self.disk.apply(&writes);
        self.feed(Input::Saved(ticket));
        true
    }

    /// Time passes; ticks come when they are due.
    pub fn until(&mut self, moment: u64) {
        while let Some(due) = self.client.next_deadline().filter(|due| due.0 <= moment) {
            self.now = self.now.max(due.0);
            self.feed(Input::Tick);
        }
        self.now = self.now.max(moment);
    }

    pub fn pass(&mut self, ms: u64) {
        self.until(self.now + ms);
    }

    /// The relay says this.
    pub fn say(&mut self, request: u64, event: relay_frame::Event) {
        let bytes = RelayFrame::of(request, event).to_bytes().unwrap();
        self.feed(Input::Frame(self.socket, bytes));
    }

    pub fn reject(&mut self, request: u64, code: Code, retry_after_ms: u32) {
        let reject = wire::Reject { code: code.0.into(), reason: String::new(), retry_after_ms };
        self.say(request, relay_frame::Event::Reject(reject));
    }

    pub fn close(&mut self, code: Code) {
        self.feed(Input::Closed { generation: self.socket, code, reason: String::new() });
    }

    pub fn host(&mut self, event: HostEvent) {
        self.feed(Input::Host(event));
    }

    /// The next frame that the client sent.
    pub fn frame(&mut self) -> ClientFrame {
        self.frames.pop_front().expect("a frame")
    }

    /// The next send on the wire.
    pub fn sent(&mut self) -> (u64, wire::Send) {
        match self.frame() {
            ClientFrame { request, verb: Some(Verb::Send(send)) } => (request, send),
            _ => panic!("a send"),
        }
    }

    pub fn acks(&mut self) -> Vec<u64> {
        let mut acks = Vec::new();
        self.frames.retain(|frame| match &frame.verb {
            Some(Verb::Ack(ack)) => {
                acks.push(ack.cursor);
                false
            }
            _ => true,
        });
        acks
    }

    pub fn command(&mut self, command: Command) -> u64 {
        self.commands += 1;
        self.feed(Input::Command(RequestId(self.commands), command));
        self.commands
    }

    pub fn send(&mut self, to: &ConversationId, key: &str) -> u64 {
        self.command(Command::Send {
            conversation: to.clone(),
            key: Some(Key::new(key).unwrap()),
            content: text(key),
            reply_to: None,
            mentions: Vec::new(),
        })
    }

    pub fn confirm(&mut self, request: u64, send: &wire::Send, seq: u64) {
        let sent = wire::Sent {
            key: send.key.clone(),
            conversation: send.conversation.clone(),
            seq,
            time: 1_000 + seq,
        };
        self.say(request, relay_frame::Event::Sent(sent));
    }

    pub fn history(
        &mut self,
        of: &ConversationId,
        before: Option<u64>,
        after: Option<u64>,
        limit: usize,
    ) -> u64 {
        self.command(Command::History {
            conversation: of.clone(),
            before: before.map(Seq),
            after: after.map(Seq),
            limit,
        })
    }

    pub fn history_reply(&mut self, request: u64) -> Vec<Message> {
        match self.replies.remove(&request) {
            Some(Ok(Answer::History(messages))) => messages,
            Some(Err(error)) => panic!("{error:?}"),
            _ => panic!("no history"),
        }
    }

    pub fn seqs(&mut self, request: u64) -> Vec<u64> {
        self.history_reply(request).iter().map(|message| message.seq.map_or(0, |seq| seq.0)).collect()
    }

    pub fn error(&mut self, request: u64) -> Code {
        match self.replies.remove(&request) {
            Some(Err(error)) => error.code,
            Some(Ok(_)) => panic!("no error"),
            None => panic!("no reply"),
        }
    }

    pub fn answered(&mut self, request: u64) -> bool {
        matches!(self.replies.get(&request), Some(Ok(_)))
    }

    /// Keys of the message events so far.
    pub fn messages(&self) -> Vec<String> {
        self.events
            .iter()
            .filter_map(|event| match event {
                Event::Message(message) => Some(message.key.as_str().to_owned()),
                _ => None,
            })
            .collect()
    }

    /// Key, status and error code of the outbox events so far.
    pub fn outbox_events(&self) -> Vec<(String, Status, Option<Code>)> {
        self.events
            .iter()
            .filter_map(|event| match event {
                Event::Outbox(message, error) => Some((
                    message.key.as_str().to_owned(),
                    message.status,
                    error.as_ref().map(|error| error.code),
                )),
                _ => None,
            })
            .collect()
    }

    pub fn gaps(&self) -> usize {
        self.events.iter().filter(|event| matches!(event, Event::Gap)).count()
    }

    pub fn list(&mut self) -> Vec<hongyan_client::view::Conversation> {
        let request = self.command(Command::Conversations { limit: 100, before: None });
        match self.replies.remove(&request) {
            Some(Ok(Answer::Conversations(list))) => list,
            _ => panic!("no list"),
        }
    }

    pub fn line(&mut self, id: &ConversationId) -> hongyan_client::view::Conversation {
        self.list().into_iter().find(|line| line.id == *id).expect("the conversation")
    }

    pub fn status(&self) -> SessionStatus {
        self.client.state().status
    }

    pub fn reason(&self) -> Option<Code> {
        self.client.state().reason.map(|reason| reason.code)
    }
}

fn kind(output: &Output) -> &'static str {
    match output {
        Output::NeedToken => "token",
        Output::Dial(_) => "dial",
        Output::Transmit(..) => "transmit",
        Output::Hangup { .. } => "hangup",
        Output::Save(..) => "save",
        Output::Load { .. } => "load",
        Output::Beacon(_) => "beacon",
        Output::Prepare(_) => "prepare",
        Output::Event(_) => "event",
        Output::Reply(..) => "reply",
    }
}

pub fn welcome(epoch: &str, head: u64) -> relay_frame::Event {
    relay_frame::Event::Welcome(wire::Welcome {
        version: 1,
        epoch: epoch.into(),
        head,
        token_expires_in_ms: 3_600_000,
        ping_interval_ms: 7_000,
        silence_ms: 15_000,
        content_bytes_max: 64 * 1024,
        time: 1,
        ..wire::Welcome::default()
    })
}
