//! The relay over a store in which some rows are not what was written: typed errors, no panic, no end.

use std::collections::VecDeque;
use std::sync::OnceLock;

use bytes::Bytes;
use hongyan_protocol::limits::RELAY_FRAME_BYTES_MAX;
use hongyan_protocol::wire::{self, ClientFrame, RelayFrame, client_frame::Verb, relay_frame::Event};
use hongyan_protocol::{Code, Time};
use hongyan_relay::core::queue::QueueConfig;
use hongyan_relay::core::{ConnectionId, CoreConfig, Input, Moment, Now, Output, Relay};
use hongyan_relay::store::{Batch, MemoryStore, Order, Store, Table};

use crate::names::{TIME, direct, user};
use crate::program::Program;
use crate::relay_core::{Permissive, copy};
use crate::verbs::{self, Known};

/// A row of the store.
type Row = (Table, Bytes, Bytes);

/// The relay's core over a damaged store.
pub fn stored_records(data: &[u8]) {
    let (rows, group) = written();
    let mut program = Program::new(data);
    let store = MemoryStore::new();
    let mut batch = Batch::default();
    for (table, key, value) in rows {
        batch.put(*table, key.clone(), value.clone());
    }
    for _ in 0..program.below(5) {
        damage(&mut program, rows, &mut batch);
    }
    store.commit(&batch).expect("memory");
    let mut bed = match Bed::open(&store) {
        Ok(bed) => bed,
        Err(sentence) => return assert!(!sentence.is_empty()),
    };
    let groups = [group.clone()];
    let epoch = bed.relay.epoch().as_str().to_owned();
    // Everything that reads, as alice, and then what the program asks for.
    for (epoch, cursor) in [(epoch.as_str(), 0), ("another", 1), (epoch.as_str(), program.number())] {
        bed.login("alice", epoch, cursor);
    }
    for conversation in [direct(0, 1), direct(0, 2), group.clone()] {
        bed.ask(Verb::History(wire::History { conversation: conversation.clone(), ..Default::default() }));
        bed.ask(Verb::Members(wire::Members { conversation: conversation.clone(), ..Default::default() }));
        bed.ask(Verb::MarkRead(wire::MarkRead { conversation: conversation.clone(), seq: u64::MAX }));
        bed.ask(send(&conversation, "k1"));
        bed.ask(send(&conversation, "new"));
    }
    while !program.is_over() && bed.asked < 200 {
        if program.below(8) == 0 {
            let (user, cursor) = (user(&mut program), program.number());
            bed.login(&user, &epoch, cursor);
        }
        bed.ask(verbs::verb(&mut program, &Known { epoch: &epoch, groups: &groups }));
        bed.tick(program.number() % 3_000);
    }
}

/// Changes a row, takes it away, or puts one where none was.
fn damage(program: &mut Program<'_>, rows: &[Row], batch: &mut Batch) {
    let (table, key, value) = program.pick(rows);
    match program.below(6) {
        0 => batch.delete(*table, key.clone()),
        1 => batch.put(*table, key.clone(), Bytes::copy_from_slice(program.bytes())),
        2 => {
            // One byte of the value is another one.
            let mut value = value.to_vec();
            let at = usize::from(program.byte());
            if let Some(byte) = value.get_mut(at) {
                *byte ^= program.byte();
            }
            batch.put(*table, key.clone(), value);
        }
        3 => {
            // The value of another row.
            let (_, _, other) = program.pick(rows);
            batch.put(*table, key.clone(), other.clone());
        }
        4 => {
            // A row of another number, or of another second id.
            let mut other = key.to_vec();
            let number = program.number().to_be_bytes();
            let at = other.len().saturating_sub(number.len());
            other.truncate(at);
            other.extend_from_slice(&number);
            batch.put(*table, other, value.clone());
        }
        _ => {
            let mut other = key.to_vec();
            other.truncate(program.byte().into());
            other.extend_from_slice(program.bytes());
            batch.put(*table, other, value.clone());
        }
    }
}

/// What a relay wrote while people used it: messages, a group that changed, read marks, devices; and the group.
fn written() -> &'static (Vec<Row>, String) {
    static WRITTEN: OnceLock<(Vec<Row>, String)> = OnceLock::new();
    WRITTEN.get_or_init(|| {
        let store = MemoryStore::new();
        let mut bed = Bed::open(&store).expect("a new store");
        bed.login("alice", "", 0);
        for (other, key) in [(1, "k1"), (1, "k2"), (2, "k3")] {
            bed.ask(send(&direct(0, other), key));
        }
        let (key, title) = ("k4".to_owned(), "Geese".to_owned());
        let members = vec!["bob".to_owned(), "carol".to_owned()];
        bed.ask(Verb::CreateGroup(wire::CreateGroup { key, title, members }));
        let group = bed.group.clone().expect("a group was made");
        bed.ask(send(&group, "k5"));
        let users = vec!["carol".to_owned()];
        bed.ask(Verb::RemoveMembers(wire::RemoveMembers { conversation: group.clone(), users }));
        bed.ask(Verb::MarkRead(wire::MarkRead { conversation: direct(0, 1), seq: 1 }));
        let (key, name) = ("k6".to_owned(), Some("Alice".to_owned()));
        bed.ask(Verb::SetProfile(wire::SetProfile { key, name, avatar: None }));
        bed.login("bob", "", 0);
        bed.ask(send(&direct(0, 1), "k1"));
        bed.ask(Verb::Ack(wire::Ack { cursor: 3 }));
        bed.tick(5_000);
        assert_eq!(bed.relay.counters().store_faults + bed.relay.counters().refusals, 0);
        let rows = MemoryStore::new();
        copy(&store, &rows);
        let mut written = Vec::new();
        for table in Table::ALL {
            let mut take = |key: &[u8], value: &[u8]| {
                written.push((table, Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
                true
            };
            store.scan(table, &[], &[0xff; 300], Order::Ascending, &mut take).expect("memory");
        }
        (written, group)
    })
}

fn send(conversation: &str, key: &str) -> Verb {
    let (conversation, key) = (conversation.to_owned(), key.to_owned());
    Verb::Send(wire::Send { conversation, key, ..Default::default() })
}

/// A relay whose commits and sockets are as fast as they can be.
struct Bed {
    relay: Relay<MemoryStore, Permissive>,
    store: MemoryStore,
    moment: u64,
    connection: u64,
    asked: u64,
    group: Option<String>,
}

impl Bed {
    fn open(store: &MemoryStore) -> Result<Self, String> {
        // Little is kept hot, so that there is an overflow to be damaged, too.
        let queue = QueueConfig { capacity: 2, segment_entries: 2, ..QueueConfig::default() };
        let config = CoreConfig { queue, ..CoreConfig::default() };
        let relay =
            Relay::open(config, store.clone(), Permissive, [5; 32]).map_err(|error| error.to_string())?;
        Ok(Self { relay, store: store.clone(), moment: 1_000, connection: 0, asked: 0, group: None })
    }

    fn login(&mut self, user: &str, epoch: &str, cursor: u64) {
        self.connection += 1;
        self.input(Input::Connected(ConnectionId(self.connection)));
        self.ask(Verb::Hello(wire::Hello {
            version: 1,
            token: user.into(),
            user: user.into(),
            device: "tab".into(),
            epoch: epoch.into(),
            cursor,
            ..Default::default()
        }));
    }

    fn ask(&mut self, verb: Verb) {
        self.asked += 1;
        if let Ok(bytes) = ClientFrame::of(self.asked, verb).to_bytes() {
            self.input(Input::Frame(ConnectionId(self.connection), bytes));
        }
    }

    fn tick(&mut self, ms: u64) {
        self.moment += ms;
        self.input(Input::Tick);
    }

    fn input(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        let mut rounds = 0;
        while let Some(input) = inputs.pop_front() {
            rounds += 1;
            assert!(rounds < 10_000, "the relay does not come to rest");
            let time = Time(TIME + self.moment);
            self.relay.handle(Now { moment: Moment(self.moment), time }, input);
            while let Some(output) = self.relay.poll() {
                match output {
                    Output::Transmit(connection, bytes) => {
                        inputs.push_back(Input::Written(vec![(connection, bytes.len())]));
                        self.heard(bytes);
                    }
                    Output::Close(connection, code) => {
                        assert!(code == Code(1000) || Code::ALL.contains(&code));
                        inputs.push_back(Input::Closed(connection));
                    }
                    Output::Commit(ticket, batch) => {
                        inputs.push_back(Input::Committed(ticket, self.store.commit(&batch)));
                    }
                    Output::Drained | Output::Failed(_) | Output::Answer(..) => {
                        panic!("no commit failed, nobody drains and nobody asked")
                    }
                }
            }
            let due = self.relay.next_deadline().is_some_and(|at| at <= Moment(self.moment));
            if inputs.is_empty() && due {
                inputs.push_back(Input::Tick);
            }
        }
    }

    fn heard(&mut self, bytes: Bytes) {
        assert!(bytes.len() <= RELAY_FRAME_BYTES_MAX);
        // A damaged message's bytes are passed on as they are, so a batch may be one that nobody can read.
        if let Ok(RelayFrame { event: Some(Event::GroupDone(done)), .. }) = RelayFrame::from_bytes(bytes) {
            self.group.get_or_insert(done.conversation);
        }
    }
}
