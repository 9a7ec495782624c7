//! A client with its host: cache, socket, clocks, and what must hold of everything that comes out.

use core::mem::{Discriminant, discriminant};
use std::collections::{BTreeMap, BTreeSet, HashSet};

use bytes::Bytes;
use hongyan_client::{
    Client, Command, Config, Event, Generation, Input, Moment, Now, Output, RequestId, Restored, Storage,
    Ticket, Write,
};
use hongyan_protocol::wire::{ClientFrame, DeviceKind, RelayFrame, client_frame::Verb, relay_frame};
use hongyan_protocol::{ConversationId, Seq, Time, UserId};

use crate::names::TIME;

/// What outlives the process.
#[derive(Clone, Default)]
pub(crate) struct Disk {
    /// Counts the processes.
    pub(crate) term: u64,
    pub(crate) meta: Option<Bytes>,
    pub(crate) conversations: BTreeMap<ConversationId, Bytes>,
    pub(crate) outbox: BTreeMap<u64, Bytes>,
    messages: BTreeMap<(ConversationId, u64), Bytes>,
    profiles: BTreeMap<UserId, Bytes>,
}

impl Disk {
    fn apply(&mut self, writes: Vec<Write>) {
        for write in writes {
            match write {
                Write::Clear => *self = Self::default(),
                Write::Meta(record) => self.meta = Some(record),
                Write::Conversation(id, record) => drop(self.conversations.insert(id, record)),
                Write::ConversationGone(id) => {
                    self.conversations.remove(&id);
                    self.messages.retain(|(of, _), _| *of != id);
                }
                Write::Message(id, seq, record) => drop(self.messages.insert((id, seq.0), record)),
                Write::MessagesBelow(id, bound) => {
                    self.messages.retain(|(of, seq), _| *of != id || *seq >= bound.0);
                }
                Write::Outbox(order, record) => drop(self.outbox.insert(order, record)),
                Write::OutboxGone(order) => drop(self.outbox.remove(&order)),
                Write::Profile(user, record) => drop(self.profiles.insert(user, record)),
                Write::ProfileGone(user) => drop(self.profiles.remove(&user)),
            }
        }
    }

    pub(crate) fn restored(&self) -> Restored {
        Restored {
            meta: self.meta.clone(),
            conversations: self.conversations.values().cloned().collect(),
            outbox: self.outbox.iter().map(|(order, record)| (*order, record.clone())).collect(),
            profiles: self.profiles.values().cloned().collect(),
            term: self.term,
        }
    }

    fn load(&self, id: &ConversationId, from: Seq, to: Seq) -> Vec<(Seq, Bytes)> {
        let rows = self.messages.range((id.clone(), from.0)..=(id.clone(), to.0));
        rows.map(|((_, seq), record)| (Seq(*seq), record.clone())).collect()
    }
}

/// Messages that the client wants to read.
struct Load {
    ticket: Ticket,
    conversation: ConversationId,
    from: Seq,
    to: Seq,
}

/// One device's client and its host.
pub(crate) struct Host {
    pub(crate) client: Client,
    pub(crate) disk: Disk,
    /// The disk as it was when a save failed: what came later is in memory only.
    kept: Option<Disk>,
    pub(crate) moment: u64,
    pub(crate) time: u64,
    pub(crate) inputs: usize,
    saving: Option<(Ticket, Vec<Write>)>,
    loads: Vec<Load>,
    token_asked: bool,
    /// The socket that exists, and whether it is open.
    pub(crate) socket: Option<(Generation, bool)>,
    commands: u64,
    unanswered: BTreeSet<u64>,
    /// The epoch of the last welcome that was taken.
    pub(crate) epoch: String,
    /// The last hello of this process: epoch and cursor.
    hello: Option<(String, u64)>,
    /// The last acknowledgement: epoch and cursor.
    acked: Option<(String, u64)>,
    /// The highest cursor of a hello: what follows is near it.
    pub(crate) cursor: u64,
    /// The last message that was told, by conversation.
    told: BTreeMap<ConversationId, Seq>,
    /// All that came of messages was of the one queue.
    honest: bool,
    processes: u8,
    /// The kinds of verbs that the client sent.
    pub(crate) said: HashSet<Discriminant<Verb>>,
}

impl Host {
    /// With a client that waits for its cache.
    pub(crate) fn new() -> Self {
        Self {
            client: client(0),
            disk: Disk::default(),
            kept: None,
            moment: 1_000,
            time: TIME,
            inputs: 0,
            saving: None,
            loads: Vec::new(),
            token_asked: false,
            socket: None,
            commands: 0,
            unanswered: BTreeSet::new(),
            epoch: String::new(),
            hello: None,
            acked: None,
            cursor: 0,
            told: BTreeMap::new(),
            honest: true,
            processes: 0,
            said: HashSet::new(),
        }
    }

    /// The process ends without a word; a new one has what the disk has.
    pub(crate) fn crash(&mut self) {
        self.processes = self.processes.wrapping_add(1);
        self.client = client(self.processes);
        if let Some(kept) = self.kept.take() {
            self.disk = kept;
            self.acked = None;
        }
        self.disk.term = self.processes.into();
        self.saving = None;
        self.loads.clear();
        self.token_asked = false;
        self.socket = None;
        self.unanswered.clear();
        self.hello = None;
        self.told.clear();
    }

    /// The records are not what the client wrote: nothing follows from what was before.
    pub(crate) fn forget(&mut self) {
        self.acked = None;
        self.hello = None;
    }

    // ------------------------------------------------------------ inputs

    pub(crate) fn command(&mut self, command: Command) {
        self.commands += 1;
        self.unanswered.insert(self.commands);
        self.input(Input::Command(RequestId(self.commands), command));
    }

    /// The provider answers, if it was asked.
    pub(crate) fn token(&mut self, token: Result<String, String>) {
        if core::mem::take(&mut self.token_asked) {
            self.input(Input::Token(token));
        }
    }

    pub(crate) fn opened(&mut self) {
        if let Some((generation, open @ false)) = &mut self.socket {
            *open = true;
            let generation = *generation;
            self.input(Input::Opened(generation));
        }
    }

    /// The relay says these bytes; `drawn` from its queue, or any.
    pub(crate) fn frame(&mut self, bytes: Bytes, drawn: bool) {
        let Some((generation, true)) = self.socket else { return };
        match RelayFrame::from_bytes(bytes.clone()).ok().and_then(|frame| frame.event) {
            Some(relay_frame::Event::Welcome(welcome)) if self.greets() => self.epoch = welcome.epoch,
            Some(relay_frame::Event::Reset(_) | relay_frame::Event::Snapshot(_)) => self.forget(),
            Some(relay_frame::Event::Batch(_)) if !drawn => self.honest = false,
            // Messages of a log that are drawn from nowhere.
            Some(relay_frame::Event::LogMessages(_)) => self.honest = false,
            _ => {}
        }
        self.input(Input::Frame(generation, bytes));
    }

    /// The hello is out, and was not answered.
    pub(crate) fn greets(&self) -> bool {
        use hongyan_client::view::SessionStatus;
        self.socket.is_some_and(|(_, open)| open) && self.client.state().status == SessionStatus::Connecting
    }

    /// The oldest save ends.
    pub(crate) fn save(&mut self) -> bool {
        let Some((ticket, writes)) = self.saving.take() else { return false };
        self.disk.apply(writes);
        self.input(Input::Saved(ticket));
        true
    }

    pub(crate) fn fail_save(&mut self) {
        if let Some((ticket, _)) = self.saving.take() {
            self.kept.get_or_insert_with(|| self.disk.clone());
            self.input(Input::SaveFailed(ticket, "The quota is used up.".into()));
        }
    }

    /// A read ends, with what is there or with something else.
    pub(crate) fn load(&mut self, at: usize, other: Option<Vec<(Seq, Bytes)>>) {
        if self.loads.is_empty() {
            return;
        }
        let load = self.loads.remove(at % self.loads.len());
        let found = other.unwrap_or_else(|| self.disk.load(&load.conversation, load.from, load.to));
        self.input(Input::Loaded(load.ticket, found));
    }

    pub(crate) fn input(&mut self, input: Input) {
        self.inputs += 1;
        if let Input::Closed { generation, .. } = &input
            && self.socket.is_some_and(|(socket, _)| socket == *generation)
        {
            self.socket = None;
        }
        self.client.handle(Now { moment: Moment(self.moment), time: Time(self.time) }, input);
        while let Some(output) = self.client.poll() {
            self.output(output);
        }
        let next = self.client.next_deadline();
        assert!(
            next.is_none_or(|at| at.0 > self.moment),
            "a deadline is left in the past: {next:?} at {} in {:?}",
            self.moment,
            self.client.state()
        );
    }

    // ------------------------------------------------------------ outputs

    fn output(&mut self, output: Output) {
        match output {
            Output::NeedToken => {
                assert!(!self.token_asked, "the provider is asked while it is asked");
                self.token_asked = true;
            }
            Output::Dial(generation) => {
                assert!(self.socket.is_none(), "a second socket");
                self.socket = Some((generation, false));
            }
            Output::Transmit(generation, bytes) => {
                assert!(self.socket == Some((generation, true)), "a frame on a socket that is not open");
                let frame = ClientFrame::from_bytes(bytes).expect("the client's frames can be read");
                self.says(frame.verb.expect("the client sends no empty frames"));
            }
            Output::Hangup { generation, .. } => {
                let socket = self.socket.take().expect("there is a socket");
                assert!(socket.0 == generation, "another socket is closed");
            }
            Output::Save(ticket, writes) => {
                assert!(self.saving.replace((ticket, writes)).is_none(), "one save at most is under way");
            }
            Output::Load { ticket, conversation, from, to } => {
                assert!(from <= to, "a read of nothing");
                self.loads.push(Load { ticket, conversation, from, to });
            }
            Output::Beacon(_) | Output::Prepare(_) => {}
            Output::Event(event) => self.told(event),
            Output::Reply(request, _) => {
                assert!(self.unanswered.remove(&request.0), "a command is answered twice, or none was");
            }
        }
    }

    fn says(&mut self, verb: Verb) {
        self.said.insert(discriminant(&verb));
        match verb {
            Verb::Hello(hello) => {
                let before = [self.hello.take(), self.acked.clone()];
                for (_, cursor) in before.into_iter().flatten().filter(|(epoch, _)| *epoch == hello.epoch) {
                    assert!(
                        hello.cursor >= cursor,
                        "the cursor moves back from {cursor} to {}",
                        hello.cursor
                    );
                }
                self.cursor = hello.cursor;
                self.hello = Some((hello.epoch, hello.cursor));
            }
            Verb::Ack(ack) => {
                let before = self.acked.take().filter(|(epoch, _)| *epoch == self.epoch);
                assert!(
                    before.is_none_or(|(_, cursor)| ack.cursor >= cursor),
                    "an acknowledgement moves back"
                );
                self.cursor = self.cursor.max(ack.cursor);
                self.acked = Some((self.epoch.clone(), ack.cursor));
            }
            _ => {}
        }
    }

    fn told(&mut self, event: Event) {
        match event {
            Event::Gap => self.told.clear(),
            Event::Message(message) if self.honest => {
                let seq = message.seq.expect("a message of the log has its seq");
                let before = self.told.insert(message.conversation, seq);
                assert!(before.is_none_or(|before| before < seq), "{seq} is told after {before:?}");
            }
            _ => {}
        }
    }

    // ------------------------------------------------------------ the end

    /// The application closes: everything that it asked is answered.
    pub(crate) fn close(&mut self) {
        let restored = self.disk.restored();
        self.input(Input::Restored(restored));
        self.command(Command::Close);
        for _ in 0..10_000 {
            if !self.save() {
                assert!(
                    self.unanswered.is_empty(),
                    "{} commands are left without an answer",
                    self.unanswered.len()
                );
                assert!(self.socket.is_none(), "a socket is left open");
                return;
            }
        }
        panic!("the client saves for ever");
    }
}

fn client(process: u8) -> Client {
    Client::new(Config {
        user: UserId::new("alice").expect("an id"),
        device_kind: DeviceKind::Web,
        agent: "fuzz".into(),
        tab: String::new(),
        shared: false,
        storage: Storage::IndexedDb,
        gathered_entries: u64::from(process),
        seed: [process; 32],
    })
}
