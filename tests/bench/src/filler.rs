//! Fills a store fast: the relay's own core over the engine on disk, without sockets and without waiting for answers.

use std::path::Path;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use hongyan_load::tally::letters;
use hongyan_protocol::wire::client_frame::Verb;
use hongyan_protocol::wire::relay_frame::Event;
use hongyan_protocol::wire::{self, ClientFrame, DeviceKind, RelayFrame};
use hongyan_protocol::{ConversationId, Time, UserId, VERSION};
use hongyan_relay::core::io::{Identity, Verifier};
use hongyan_relay::core::limits::QUERY_MEMBERS_MAX;
use hongyan_relay::core::queries::{Answer, GroupQuery, GroupShown, Query, QueryId};
use hongyan_relay::core::queue::Diffusion;
use hongyan_relay::core::{ConnectionId, CoreConfig, Input, Moment, Now, Output, Relay};
use hongyan_relay::store::Store as _;
use hongyan_relay::store::disk::DiskStore;
use prost::Message as _;

/// Sends that are given to the core before it may commit: one commit for all.
const SENDS_PER_COMMIT: u64 = 2_000;
/// Conversations among which messages are spread.
const CONVERSATIONS: usize = 1_000;
/// Messages of a log that a device asks for at once.
const LOG_PAGE: u32 = 100;

/// Who owns large groups.
const OWNER: &str = "owner";

/// Who asks is who she says: nobody else can ask here.
struct Trusting;

impl Verifier for Trusting {
    fn verify(&self, token: &str) -> Result<Identity, String> {
        let user = UserId::new(token).map_err(|error| error.to_string())?;
        Ok(Identity { user, expires: Time(u64::MAX / 2), issued: None })
    }
}

/// Fills a store.
pub(crate) struct Filler {
    relay: Relay<DiskStore, Trusting>,
    store: DiskStore,
    begun: Instant,
    connections: u64,
    requests: u64,
    /// Groups that were made, in their order.
    made: Vec<String>,
    queries: u64,
    /// What the app's server was answered last.
    answer: Option<Answer>,
    /// Bytes of keys and values that were committed.
    committed: u64,
    /// What a connection that catches up was told, besides what is acknowledged to it.
    told: Vec<Event>,
}

impl Filler {
    /// Opens the store in a relay's data folder, or makes it.
    pub(crate) fn open(data: &Path) -> Result<Self, String> {
        std::fs::create_dir_all(data)
            .map_err(|error| format!("{} can't be made: {error}.", data.display()))?;
        let store = DiskStore::open(data).map_err(|error| error.to_string())?;
        let config = CoreConfig {
            sends_per_second: 1_000_000_000,
            sends_burst: 1_000_000_000,
            requests_per_second: 1_000_000_000,
            requests_burst: 1_000_000_000,
            // Nobody here answers a ping.
            silence_ms: 3_600_000,
            ..CoreConfig::default()
        };
        let relay =
            Relay::open(config, store.clone(), Trusting, [7; 32]).map_err(|error| error.to_string())?;
        Ok(Self {
            relay,
            store,
            begun: Instant::now(),
            connections: 0,
            requests: 0,
            made: Vec::new(),
            queries: 0,
            answer: None,
            committed: 0,
            told: Vec::new(),
        })
    }

    fn now(&self) -> Now {
        let ms = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { moment: Moment(ms(self.begun.elapsed())), time: Time(ms(time)) }
    }

    /// One input; what the core wants to have committed is left for [`Filler::settle`].
    fn input(&mut self, input: Input) -> Result<Vec<Input>, String> {
        self.relay.handle(self.now(), input);
        let mut follow = Vec::new();
        while let Some(output) = self.relay.poll() {
            match output {
                Output::Transmit(connection, bytes) => {
                    follow.push(Input::Written(vec![(connection, bytes.len())]));
                    let frame = RelayFrame::from_bytes(bytes).map_err(|error| error.to_string())?;
                    match frame.event {
                        Some(Event::Reject(reject)) => return Err(format!("refused: {}", reject.reason)),
                        Some(Event::GroupDone(done)) => self.made.push(done.conversation),
                        Some(event @ (Event::Batch(_) | Event::HistoryPage(_))) => self.told.push(event),
                        _ => {}
                    }
                }
                Output::Commit(ticket, batch) => {
                    let bytes = |value: &Option<Bytes>| value.as_ref().map_or(0, Bytes::len);
                    let changes = batch.changes.iter();
                    self.committed +=
                        changes.map(|(_, key, value)| (key.len() + bytes(value)) as u64).sum::<u64>();
                    let committed = self.store.commit(&batch);
                    follow.push(Input::Committed(ticket, committed));
                }
                Output::Close(_, code) => return Err(format!("a connection was closed: {code}")),
                Output::Failed(sentence) => return Err(sentence),
                Output::Answer(_, answer) => self.answer = Some(answer),
                Output::Drained => {}
            }
        }
        Ok(follow)
    }

    /// All that follows from these inputs.
    fn settle(&mut self, mut inputs: Vec<Input>) -> Result<(), String> {
        while !inputs.is_empty() {
            let mut follow = Vec::new();
            for input in inputs {
                follow.extend(self.input(input)?);
            }
            inputs = follow;
        }
        Ok(())
    }

    /// Asks as the app's server does, of a group.
    fn ask(&mut self, query: Query) -> Result<GroupShown, String> {
        self.queries += 1;
        self.settle(vec![Input::Query(QueryId(self.queries), query)])?;
        match self.answer.take() {
            Some(Answer::Group(group)) => Ok(group),
            _ => Err("The core did not do what the app's server asked.".into()),
        }
    }

    /// A connection of this user.
    fn connect(&mut self, user: &str) -> Result<ConnectionId, String> {
        let connection = self.connect_at(user, 0)?;
        self.told.clear();
        Ok(connection)
    }

    /// A connection of this user whose device has applied the queue up to `cursor`.
    fn connect_at(&mut self, user: &str, cursor: u64) -> Result<ConnectionId, String> {
        self.connections += 1;
        let connection = ConnectionId(self.connections);
        self.settle(vec![Input::Connected(connection)])?;
        let hello = wire::Hello {
            version: VERSION,
            token: user.into(),
            user: user.into(),
            device: format!("filler-{user}"),
            device_kind: DeviceKind::Server.into(),
            epoch: self.relay.epoch().as_str().to_owned(),
            cursor,
            ..wire::Hello::default()
        };
        let frame = self.frame(connection, Verb::Hello(hello))?;
        self.settle(vec![frame])?;
        Ok(connection)
    }

    fn frame(&mut self, connection: ConnectionId, verb: Verb) -> Result<Input, String> {
        self.requests += 1;
        let bytes: Bytes =
            ClientFrame { request: self.requests, verb: Some(verb) }.to_bytes().map_err(|e| e.to_string())?;
        Ok(Input::Frame(connection, bytes))
    }

    /// Asks for all of these at once, and returns the groups that were made or changed, in that order.
    fn call_all(
        &mut self,
        connection: ConnectionId,
        verbs: impl IntoIterator<Item = Verb>,
    ) -> Result<Vec<String>, String> {
        let frames =
            verbs.into_iter().map(|verb| self.frame(connection, verb)).collect::<Result<Vec<_>, _>>()?;
        self.made.clear();
        self.settle(frames)?;
        Ok(std::mem::take(&mut self.made))
    }

    /// Messages in turn to these conversations; each is (connection, conversation).
    fn send(
        &mut self,
        to: &[(ConnectionId, String)],
        first: u64,
        count: u64,
        text_bytes: usize,
    ) -> Result<(), String> {
        let mut inputs = Vec::new();
        for number in first..first + count {
            let turn = usize::try_from(number).unwrap_or_default() % to.len();
            let (connection, conversation) = &to[turn];
            let content = wire::Content { text: letters(number, text_bytes), ..wire::Content::default() };
            let send = wire::Send {
                conversation: conversation.clone(),
                key: format!("fill-{number}"),
                content: content.encode_to_vec().into(),
                ..wire::Send::default()
            };
            inputs.push(self.frame(*connection, Verb::Send(send))?);
            if inputs.len() as u64 >= SENDS_PER_COMMIT {
                self.settle(std::mem::take(&mut inputs))?;
            }
        }
        self.settle(inputs)
    }
}

/// One large group, which its owner writes to; nobody is connected but her.
pub(crate) struct Large {
    filler: Filler,
    owner: ConnectionId,
    group: ConversationId,
    written: u64,
}

/// How far a member's device is.
#[derive(Clone, Copy, Default)]
pub(crate) struct Applied {
    /// In the queue.
    cursor: u64,
    /// In the group's log, where the messages come by it.
    seq: u64,
}

impl Large {
    /// Opens the store, and makes the group.
    pub(crate) fn open(data: &Path, diffusion: Diffusion) -> Result<Self, String> {
        let mut filler = Filler::open(data)?;
        let group = filler.ask(geese(diffusion)?)?.id;
        let owner = filler.connect(OWNER)?;
        Ok(Self { filler, owner, group, written: 0 })
    }

    /// Makes another group of hers.
    pub(crate) fn another(&mut self, diffusion: Diffusion) -> Result<ConversationId, String> {
        Ok(self.filler.ask(geese(diffusion)?)?.id)
    }

    /// From here on it is about that group, and the other one is there.
    pub(crate) fn swap(&mut self, group: &mut ConversationId) {
        std::mem::swap(&mut self.group, group);
    }

    /// Adds the users of these numbers, as the app's server does.
    pub(crate) fn add(&mut self, from: u64, to: u64) -> Result<(), String> {
        let mut next = from;
        while next < to {
            let end = to.min(next + QUERY_MEMBERS_MAX as u64);
            let users = (next..end).filter_map(|n| UserId::new(&member(n)).ok()).collect();
            self.filler.ask(Query::Group(self.group.clone(), GroupQuery::Add(users)))?;
            next = end;
        }
        Ok(())
    }

    /// So many messages, a few of them in each commit.
    pub(crate) fn write(&mut self, count: u64, per_commit: u64, text_bytes: usize) -> Result<(), String> {
        let to = [(self.owner, self.group.as_str().to_owned())];
        let end = self.written + count;
        while self.written < end {
            let some = per_commit.min(end - self.written);
            self.filler.send(&to, self.written, some, text_bytes)?;
            self.written += some;
        }
        Ok(())
    }
}

impl Large {
    /// A member's device connects, and catches up: with the queue, and with the log if the messages come by it. Gives how
    /// many messages that brought.
    pub(crate) fn catch_up(
        &mut self,
        number: u64,
        applied: &mut Applied,
        by_log: bool,
    ) -> Result<u64, String> {
        let filler = &mut self.filler;
        filler.told.clear();
        let connection = filler.connect_at(&member(number), applied.cursor)?;
        let mut messages = 0;
        let mut ask = by_log;
        loop {
            let mut inputs = Vec::new();
            for event in std::mem::take(&mut filler.told) {
                match event {
                    Event::Batch(batch) => {
                        let is_message = |entry: &&wire::Entry| {
                            matches!(entry.change, Some(wire::entry::Change::Message(_)))
                        };
                        messages += batch.entries.iter().filter(is_message).count() as u64;
                        applied.cursor = batch.entries.last().map_or(applied.cursor, |entry| entry.pos);
                    }
                    Event::HistoryPage(page) => {
                        messages += page.messages.len() as u64;
                        applied.seq = page.messages.last().map_or(applied.seq, |message| message.seq);
                        ask = applied.seq < page.last_seq;
                    }
                    _ => {}
                }
                inputs.push(filler.frame(connection, Verb::Ack(wire::Ack { cursor: applied.cursor }))?);
            }
            if std::mem::take(&mut ask) {
                // The wire has no "after nothing": the log's first message comes alone, as the client asks for it.
                let (before, after, limit) =
                    if applied.seq == 0 { (2, 0, 1) } else { (0, applied.seq, LOG_PAGE) };
                let page =
                    wire::History { conversation: self.group.as_str().to_owned(), before, after, limit };
                inputs.push(filler.frame(connection, Verb::History(page))?);
            }
            if inputs.is_empty() {
                break;
            }
            filler.settle(inputs)?;
        }
        filler.settle(vec![Input::Closed(connection)])?;
        Ok(messages)
    }

    /// Bytes of keys and values that were committed so far.
    pub(crate) fn committed(&self) -> u64 {
        self.filler.committed
    }

    /// Writes all that was committed to the tables.
    pub(crate) fn flush(&self) -> Result<(), String> {
        self.filler.store.flush().map_err(|error| error.to_string())
    }
}

fn geese(mode: Diffusion) -> Result<Query, String> {
    let owner = UserId::new(OWNER).map_err(|error| error.to_string())?;
    Ok(Query::CreateGroup { title: "Geese".into(), owner, members: Vec::new(), mode })
}

fn member(number: u64) -> String {
    format!("member-{number:07}")
}

/// A store of groups with one writer, for history.
pub(crate) struct Groups {
    filler: Filler,
    writer: ConnectionId,
    ids: Vec<String>,
}

impl Groups {
    /// Opens the store, and makes the groups unless they are `known`.
    pub(crate) fn open(data: &Path, known: &[String]) -> Result<Self, String> {
        let mut filler = Filler::open(data)?;
        let writer = filler.connect("writer")?;
        let ids = if known.is_empty() {
            let creates = (0..CONVERSATIONS).map(|number| {
                Verb::CreateGroup(wire::CreateGroup {
                    key: format!("group-{number}"),
                    title: format!("Geese {number}"),
                    members: Vec::new(),
                })
            });
            filler.call_all(writer, creates)?
        } else {
            known.to_vec()
        };
        if ids.len() == CONVERSATIONS {
            Ok(Self { filler, writer, ids })
        } else {
            Err("Groups are missing.".into())
        }
    }

    /// The ids of the groups.
    pub(crate) fn ids(&self) -> Vec<String> {
        self.ids.clone()
    }

    /// Writes messages number `first` and so many after it, in turn to all groups.
    pub(crate) fn write(&mut self, first: u64, count: u64, text_bytes: usize) -> Result<(), String> {
        let to: Vec<_> = self.ids.iter().map(|id| (self.writer, id.clone())).collect();
        self.filler.send(&to, first, count, text_bytes)
    }

    /// Has everything in the tables, and then writes messages from number `first` on until so many bytes of commits are in
    /// the journal only. Gives how many messages these are.
    pub(crate) fn write_into_the_journal(
        &mut self,
        first: u64,
        bytes: u64,
        text_bytes: usize,
    ) -> Result<u64, String> {
        self.filler.store.flush().map_err(|error| error.to_string())?;
        let (before, mut count) = (self.filler.committed, 0);
        while self.filler.committed - before < bytes {
            self.write(first + count, CONVERSATIONS as u64, text_bytes)?;
            count += CONVERSATIONS as u64;
        }
        Ok(count)
    }

    /// Adds users to all groups; what was there before costs them nothing.
    pub(crate) fn add(&mut self, users: &[UserId]) -> Result<(), String> {
        let users: Vec<String> = users.iter().map(|user| user.as_str().to_owned()).collect();
        let adds = self
            .ids
            .iter()
            .map(|id| Verb::AddMembers(wire::AddMembers { conversation: id.clone(), users: users.clone() }));
        self.filler.call_all(self.writer, adds).map(drop)
    }
}

/// Writes messages for one user, from a hundred others.
pub(crate) fn fill_inbox(data: &Path, user: &str, messages: u64, text_bytes: usize) -> Result<(), String> {
    let to = UserId::new(user).map_err(|error| format!("--user is no user id: {error}."))?;
    let mut filler = Filler::open(data)?;
    let mut ways = Vec::new();
    for number in 0..100 {
        let name = format!("writer-{number}");
        let connection = filler.connect(&name)?;
        let writer = UserId::new(&name).map_err(|error| error.to_string())?;
        ways.push((connection, ConversationId::direct(&writer, &to).as_str().to_owned()));
    }
    filler.send(&ways, 0, messages, text_bytes)
}
