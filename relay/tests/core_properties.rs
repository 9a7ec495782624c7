//! Random interleavings: nothing is told before it is durable, nothing is lost, doubled or reordered, and the same
//! inputs give the same outputs.

#![allow(clippy::unwrap_used)] // The helpers are outside of test functions.

mod core_world;

use std::collections::{BTreeMap, BTreeSet};

use core_world::*;
use hongyan_protocol::wire::{self, client_frame::Verb, relay_frame::Event};
use hongyan_relay::core::{ConnectionId, CoreConfig, Input};
use hongyan_relay::store::{MemoryStore, Order, Store, Table};
use proptest::prelude::*;

const USERS: [&str; 4] = ["alice", "bob", "carol", "dora"];

#[derive(Clone, Debug)]
enum Step {
    Login(usize),
    /// From the cursor that the last connection of this user reached.
    Return(usize),
    Drop(usize),
    Send {
        from: usize,
        to: usize,
        key: u8,
    },
    Group {
        from: usize,
        change: u8,
        whom: usize,
    },
    Read {
        who: usize,
        other: usize,
        seq: u64,
    },
    History {
        who: usize,
        other: usize,
    },
    Ack(usize),
    Write(usize, usize),
    /// The engine shows the commit that is under way to readers.
    Show,
    Commit,
    Pass(u64),
    Garbage(usize, Vec<u8>),
}

fn step() -> impl Strategy<Value = Step> {
    let user = 0..USERS.len();
    prop_oneof![
        2 => user.clone().prop_map(Step::Login),
        2 => user.clone().prop_map(Step::Return),
        1 => user.clone().prop_map(Step::Drop),
        12 => (user.clone(), 0..USERS.len() + 1, 0u8..40).prop_map(|(from, to, key)| Step::Send { from, to, key }),
        4 => (user.clone(), 0u8..4, user.clone()).prop_map(|(from, change, whom)| Step::Group { from, change, whom }),
        3 => (user.clone(), user.clone(), 0u64..9).prop_map(|(who, other, seq)| Step::Read { who, other, seq }),
        3 => (user.clone(), user.clone()).prop_map(|(who, other)| Step::History { who, other }),
        3 => user.clone().prop_map(Step::Ack),
        6 => (user.clone(), 1usize..2_000).prop_map(|(who, bytes)| Step::Write(who, bytes)),
        3 => Just(Step::Show),
        6 => Just(Step::Commit),
        2 => (0u64..3_000).prop_map(Step::Pass),
        1 => (user, prop::collection::vec(any::<u8>(), 0..40)).prop_map(|(who, bytes)| Step::Garbage(who, bytes)),
    ]
}

/// What a run has seen, to be compared with the store.
#[derive(Default)]
struct Seen {
    /// A user's newest connection.
    connections: BTreeMap<usize, ConnectionId>,
    users: BTreeMap<ConnectionId, usize>,
    /// The last entry that a connection was sent.
    cursors: BTreeMap<ConnectionId, u64>,
    entries: BTreeMap<(usize, u64), wire::Entry>,
    answers: BTreeMap<(usize, String), wire::Sent>,
}

struct Run {
    world: World,
    /// What is durable, and what the relay may tell.
    durable: MemoryStore,
    seen: Seen,
    group: Option<String>,
}

impl Run {
    fn new() -> Self {
        let config =
            CoreConfig { outgoing_bytes_target: 500, outgoing_bytes_max: 1 << 20, ..Default::default() };
        let mut world = World::with(config);
        world.auto_commit = false;
        world.auto_write = false;
        world.keeps_trace = true;
        let durable = MemoryStore::new();
        Self { world, durable, seen: Seen::default(), group: None }
    }

    fn commit(&mut self) {
        if let Some((_, batch)) = self.world.pending.front() {
            self.durable.commit(batch).unwrap();
            self.world.commit();
        }
    }

    fn conversation(&self, one: usize, other: usize) -> String {
        match USERS.get(other) {
            Some(other) => direct(USERS[one], other),
            None => self.group.clone().unwrap_or_else(|| "gnone".into()),
        }
    }

    fn login(&mut self, user: usize, cursor: u64) {
        let epoch = if cursor == 0 { String::new() } else { self.world.epoch() };
        let connection = self.world.open();
        let device = format!("{}'s", USERS[user]);
        let hello = wire::Hello { epoch, cursor, ..hello(USERS[user], &device) };
        self.world.ask(connection, Verb::Hello(hello));
        self.seen.connections.insert(user, connection);
        self.seen.users.insert(connection, user);
        self.seen.cursors.insert(connection, cursor);
    }

    fn step(&mut self, step: Step) {
        let connection = |run: &Run, user: usize| run.seen.connections.get(&user).copied();
        match step {
            Step::Login(user) => self.login(user, 0),
            Step::Return(user) => {
                let cursor = connection(self, user).map_or(0, |connection| self.seen.cursors[&connection]);
                self.login(user, cursor);
            }
            Step::Drop(user) => {
                if let Some(connection) = connection(self, user) {
                    self.world.input(Input::Closed(connection));
                }
            }
            Step::Send { from, to, key } => {
                let conversation = self.conversation(from, to);
                if let Some(connection) = connection(self, from) {
                    self.world.ask(connection, send(&conversation, &format!("k{key}"), "text"));
                }
            }
            Step::Group { from, change, whom } => {
                let Some(connection) = connection(self, from) else { return };
                let conversation = self.group.clone().unwrap_or_default();
                let users = vec![USERS[whom].to_owned()];
                let verb = match change {
                    0 => Verb::CreateGroup(wire::CreateGroup {
                        key: "g".into(),
                        title: "Geese".into(),
                        members: users,
                    }),
                    1 => Verb::AddMembers(wire::AddMembers { conversation, users }),
                    2 => Verb::RemoveMembers(wire::RemoveMembers { conversation, users }),
                    _ => Verb::LeaveGroup(wire::LeaveGroup { conversation }),
                };
                self.world.ask(connection, verb);
            }
            Step::Read { who, other, seq } => {
                let conversation = self.conversation(who, other);
                if let Some(connection) = connection(self, who) {
                    self.world.ask(connection, mark_read(&conversation, seq));
                }
            }
            Step::History { who, other } => {
                let conversation = self.conversation(who, other);
                if let Some(connection) = connection(self, who) {
                    self.world.ask(connection, history(&conversation, 0, 0, 0));
                }
            }
            Step::Ack(user) => {
                if let Some(connection) = connection(self, user) {
                    let cursor = self.seen.cursors[&connection];
                    self.world.frame(connection, 0, Verb::Ack(wire::Ack { cursor }));
                }
            }
            Step::Write(user, bytes) => {
                if let Some(connection) = connection(self, user) {
                    self.write(connection, bytes);
                }
            }
            Step::Show => {
                if let Some((_, batch)) = self.world.pending.front() {
                    self.world.store.commit(batch).unwrap();
                }
            }
            Step::Commit => self.commit(),
            Step::Pass(ms) => self.world.pass(ms),
            Step::Garbage(user, bytes) => {
                if let Some(connection) = connection(self, user) {
                    self.world.bytes(connection, bytes);
                }
            }
        }
    }

    fn write(&mut self, connection: ConnectionId, bytes: usize) {
        let unwritten = self.world.unwritten.entry(connection).or_default();
        let bytes = bytes.min(*unwritten);
        *unwritten -= bytes;
        if bytes > 0 {
            self.world.input(Input::Written(vec![(connection, bytes)]));
        }
    }

    /// Whether everything that came is durable already, and as it was told before.
    fn look(&mut self) {
        let connections: Vec<_> =
            self.seen.users.iter().map(|(connection, user)| (*connection, *user)).collect();
        for (connection, user) in connections {
            for event in self.world.take(connection) {
                match event {
                    Event::Batch(batch) => {
                        for entry in batch.entries {
                            self.entry(connection, user, entry, batch.head);
                        }
                    }
                    Event::Sent(sent) => {
                        let record = format!("{}\0{}\0", USERS[user], sent.key);
                        assert!(
                            self.has(Table::Keys, record.as_bytes()),
                            "a send is answered before it is durable"
                        );
                        let first = self.seen.answers.entry((user, sent.key.clone())).or_insert(sent.clone());
                        assert!(*first == sent, "a key is answered with the first result");
                    }
                    Event::HistoryPage(page) => {
                        assert_eq!(page.messages.len() as u64, page.last_seq.min(50));
                        for message in page.messages {
                            assert!(self.has_message(&message));
                        }
                    }
                    Event::GroupDone(done) => {
                        assert!(self.has(Table::Groups, &[done.conversation.as_bytes(), &[0]].concat()));
                        self.group.get_or_insert(done.conversation);
                    }
                    Event::MarkedRead(marked) if marked.seq > 0 => {
                        let key = format!("{}\0{}\0", USERS[user], marked.conversation);
                        let record = self.durable.get(Table::Memberships, key.as_bytes()).unwrap().unwrap();
                        let [0x08, seq, ..] = record.as_ref() else { panic!("no mark in the store") };
                        assert!(u64::from(*seq) >= marked.seq);
                    }
                    _ => {}
                }
            }
        }
    }

    fn entry(&mut self, connection: ConnectionId, user: usize, entry: wire::Entry, head: u64) {
        let cursor = self.seen.cursors.get_mut(&connection).unwrap();
        assert_eq!(entry.pos, *cursor + 1, "without a gap, and none twice");
        assert!(entry.pos <= head);
        *cursor = entry.pos;
        assert!(self.has_entry(USERS[user], entry.pos), "an entry is told before it is durable");
        if let Some(message) = message(&entry) {
            assert!(self.has_message(message));
        }
        let first = self.seen.entries.entry((user, entry.pos)).or_insert_with(|| entry.clone());
        assert!(*first == entry, "an entry is always the same");
    }

    fn has(&self, table: Table, key: &[u8]) -> bool {
        self.durable.get(table, key).unwrap().is_some()
    }

    /// A row ends with the position that its key names, and holds what comes before.
    fn has_entry(&self, user: &str, pos: u64) -> bool {
        let from = [user.as_bytes(), &[0], &pos.to_be_bytes()].concat();
        let to = [user.as_bytes(), &[1]].concat();
        let mut is_there = false;
        let mut see = |_: &[u8], _: &[u8]| {
            is_there = true;
            false
        };
        self.durable.scan(Table::Queue, &from, &to, Order::Ascending, &mut see).unwrap();
        is_there
    }

    fn has_message(&self, message: &wire::Message) -> bool {
        let key = [message.conversation.as_bytes(), &[0], &message.seq.to_be_bytes()].concat();
        self.has(Table::Messages, &key)
    }

    /// Faults stop: everything is committed, everybody reads and acknowledges.
    fn settle(&mut self) {
        for user in 0..USERS.len() {
            self.login(user, 0);
        }
        loop {
            while !self.world.pending.is_empty() {
                self.commit();
            }
            let mut moved = false;
            for user in 0..USERS.len() {
                let connection = self.seen.connections[&user];
                let before = self.seen.cursors[&connection];
                self.write(connection, usize::MAX);
                self.look();
                moved |= self.seen.cursors[&connection] > before;
            }
            if !moved && self.world.pending.is_empty() {
                return;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn only_what_is_durable_is_told_and_all_of_it(steps in prop::collection::vec(step(), 1..120)) {
        let mut run = Run::new();
        for user in 0..USERS.len() {
            run.login(user, 0);
        }
        for step in steps.clone() {
            run.step(step);
            run.look();
        }
        run.settle();
        // Every device has reached the head of its queue, and each message is once in each member's queue.
        for (user, name) in USERS.iter().enumerate() {
            let cursor = run.seen.cursors[&run.seen.connections[&user]];
            prop_assert!(!run.has_entry(name, cursor + 1));
            let mut messages = BTreeSet::new();
            for entry in run.seen.entries.range((user, 0)..(user + 1, 0)).map(|(_, entry)| entry) {
                if let Some(message) = message(entry) {
                    prop_assert!(messages.insert((message.conversation.clone(), message.seq)));
                }
            }
        }
        for ((user, key), sent) in &run.seen.answers {
            let told = run.seen.entries.values().any(|entry| {
                message(entry).is_some_and(|message| {
                    message.from == USERS[*user]
                        && message.key == *key
                        && (message.conversation.as_str(), message.seq) == (&sent.conversation, sent.seq)
                })
            });
            prop_assert!(told, "what was answered is in the queues");
        }
        prop_assert_eq!(run.world.relay.counters().waiting, 0);
        prop_assert_eq!(run.world.relay.counters().store_faults, 0);

        // The same again.
        let mut again = Run::new();
        for user in 0..USERS.len() {
            again.login(user, 0);
        }
        for step in steps {
            again.step(step);
            again.look();
        }
        again.settle();
        prop_assert!(!run.world.trace.is_empty());
        prop_assert!(again.world.trace == run.world.trace, "the same inputs give the same outputs");
    }

    #[test]
    fn hostile_bytes_never_panic(
        frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..20), cut in 0usize..100, flip in any::<(usize, u8)>(),
    ) {
        use prost::Message as _;
        let mut world = World::new();
        let group = wire::CreateGroup { key: "g".into(), title: "t".into(), members: vec!["bob".into()] };
        let verbs = [Verb::Hello(hello("alice", "a")), send(&direct("alice", "bob"), "k", "x"), Verb::CreateGroup(group)];
        for verb in verbs {
            let bytes = wire::ClientFrame { request: 1, verb: Some(verb) }.encode_to_vec();
            let connection = world.login("alice", "a");
            world.bytes(connection, bytes[..bytes.len() - cut.min(bytes.len())].to_vec());
            let connection = world.login("alice", "a");
            let mut flipped = bytes;
            let at = flip.0 % flipped.len();
            flipped[at] ^= flip.1;
            world.bytes(connection, flipped);
        }
        for bytes in frames {
            let connection = world.login("carol", "c");
            world.bytes(connection, bytes.clone());
            let connection = world.open();
            world.bytes(connection, bytes);
        }
        let bob = world.login("bob", "b");
        world.send(bob, &direct("bob", "dora"), "k", "others notice nothing");
    }
}
