//! What decides between `copy` and `reference`: time and bytes of both, written and read, over sizes of groups and of
//! messages; and how fast references are read. The core over the engine on disk, without sockets.
//!
//! `cargo run --release -p hongyan-relay --example diffusion`
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a program that measures, for people")]

use std::time::{Duration, Instant};

use bytes::Bytes;
use hongyan_protocol::limits::GROUP_CHANGE_USERS_MAX;
use hongyan_protocol::wire::{self, ClientFrame, RelayFrame, client_frame::Verb, relay_frame::Event};
use hongyan_protocol::{Time, UserId};
use hongyan_relay::core::io::{Identity, Verifier};
use hongyan_relay::core::queue::{Diffusion, DiffusionConfig, QueueConfig};
use hongyan_relay::core::{ConnectionId, CoreConfig, Input, Moment, Now, Output, Relay};
use hongyan_relay::store::Store;
use hongyan_relay::store::fjall::FjallStore;
use prost::Message as _;

const MEMBERS: [usize; 4] = [2, 10, 100, 1_000];
const BODIES: [usize; 5] = [50, 200, 1_000, 4_000, 16_000];
/// Sends that gather for one commit, at most …
const SENDS_PER_COMMIT: usize = 64;
/// … with so many bytes of copies.
const BYTES_PER_COMMIT: usize = 16 * 1024 * 1024;
/// Entries written for one figure, at most …
const ENTRIES: usize = 20_000;
/// … with bodies of so many bytes in all.
const BYTES: usize = 48 * 1024 * 1024;
/// Members whose reading is measured.
const READERS: usize = 10;
/// References that one device catches up with.
const CAUGHT_UP: usize = 100_000;

struct Everybody;

impl Verifier for Everybody {
    fn verify(&self, token: &str) -> Result<Identity, String> {
        let user = UserId::new(token).map_err(|error| error.to_string())?;
        Ok(Identity { user, expires: Time(u64::MAX / 2), issued: None })
    }
}

struct Bed {
    relay: Relay<FjallStore, Everybody>,
    store: FjallStore,
    connections: u64,
    requests: u64,
    written: usize,
    group: String,
    _folder: tempfile::TempDir,
}

impl Bed {
    fn new(mode: Diffusion) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = FjallStore::open(folder.path()).unwrap();
        let config = CoreConfig {
            sends_per_second: 1_000_000,
            sends_burst: 1_000_000,
            requests_per_second: 1_000_000,
            requests_burst: 1_000_000,
            // Everything stays in the hot part: what is compared is what commits write.
            queue: QueueConfig { capacity: 1_000_000, ..QueueConfig::default() },
            diffusion: DiffusionConfig { mode, ..DiffusionConfig::default() },
            ..CoreConfig::default()
        };
        let relay = Relay::open(config, store.clone(), Everybody, [3; 32]).unwrap();
        let group = String::new();
        Self { relay, store, connections: 0, requests: 0, written: 0, group, _folder: folder }
    }

    /// Gives an input, and gives back the commit that begins and what is transmitted.
    fn input(&mut self, input: Input) -> (Vec<Input>, Vec<(ConnectionId, Bytes)>) {
        let now = Now { moment: Moment(1), time: Time(1_800_000_000_000) };
        self.relay.handle(now, input);
        let (mut commits, mut told) = (Vec::new(), Vec::new());
        while let Some(output) = self.relay.poll() {
            match output {
                Output::Transmit(connection, bytes) => told.push((connection, bytes)),
                Output::Commit(ticket, batch) => {
                    let sizes = batch.changes.iter();
                    self.written += sizes
                        .map(|(_, key, value)| key.len() + value.as_ref().map_or(0, Bytes::len))
                        .sum::<usize>();
                    let result = self.store.commit(&batch);
                    commits.push(Input::Committed(ticket, result));
                }
                Output::Close(_, code) => panic!("a connection was closed: {code}"),
                Output::Failed(sentence) => panic!("{sentence}"),
                Output::Drained | Output::Answer(..) => {}
            }
        }
        (commits, told)
    }

    /// Gives inputs together, and then their commits until nothing waits.
    fn all(&mut self, inputs: Vec<Input>) -> Vec<(ConnectionId, Bytes)> {
        let (mut held, mut told) = (Vec::new(), Vec::new());
        for input in inputs {
            let (commits, more) = self.input(input);
            held.extend(commits);
            told.extend(more);
        }
        while let Some(commit) = held.pop() {
            let (commits, more) = self.input(commit);
            held.extend(commits);
            told.extend(more);
        }
        told
    }

    fn frame(&mut self, connection: ConnectionId, verb: Verb) -> Input {
        self.requests += 1;
        Input::Frame(connection, ClientFrame::of(self.requests, verb).to_bytes().unwrap())
    }

    fn login(&mut self, user: &str) -> (ConnectionId, Vec<(ConnectionId, Bytes)>) {
        self.connections += 1;
        let connection = ConnectionId(self.connections);
        let epoch = self.relay.epoch().as_str().to_owned();
        let hello = wire::Hello {
            version: 1,
            token: user.into(),
            user: user.into(),
            device: "d".into(),
            epoch,
            ..Default::default()
        };
        let hello = self.frame(connection, Verb::Hello(hello));
        let told = self.all(vec![Input::Connected(connection), hello]);
        (connection, told)
    }

    fn group(&mut self, owner: ConnectionId, members: usize) {
        let users: Vec<String> = (1..members).map(|n| format!("user-{n:06}")).collect();
        let mut chunks = users.chunks(GROUP_CHANGE_USERS_MAX);
        let first = chunks.next().unwrap_or_default().to_vec();
        let create = wire::CreateGroup { key: "group".into(), title: "Geese".into(), members: first };
        let create = self.frame(owner, Verb::CreateGroup(create));
        for (_, bytes) in self.all(vec![create]) {
            if let Some(Event::GroupDone(done)) = RelayFrame::from_bytes(bytes).unwrap().event {
                self.group = done.conversation;
            }
        }
        for users in chunks {
            let add = wire::AddMembers { conversation: self.group.clone(), users: users.to_vec() };
            let add = self.frame(owner, Verb::AddMembers(add));
            self.all(vec![add]);
        }
    }

    fn send_all(&mut self, from: ConnectionId, members: usize, messages: usize, body: usize) {
        let together = (BYTES_PER_COMMIT / members / body).clamp(1, SENDS_PER_COMMIT);
        let content = wire::Content { text: "x".repeat(body), ..Default::default() };
        let content: Bytes = content.encode_to_vec().into();
        for first in (0..messages).step_by(together) {
            let mut inputs = Vec::new();
            for n in first..messages.min(first + together) {
                let send = wire::Send {
                    conversation: self.group.clone(),
                    key: format!("key-{n}"),
                    content: content.clone(),
                    ..Default::default()
                };
                inputs.push(self.frame(from, Verb::Send(send)));
            }
            for (connection, bytes) in self.all(inputs) {
                self.all(vec![Input::Written(connection, bytes.len())]);
            }
        }
    }

    /// A device reads its whole queue; how many entries.
    fn read_all(&mut self, user: &str) -> usize {
        let (connection, mut told) = self.login(user);
        let (mut count, mut cursor) = (0, 0);
        while !told.is_empty() {
            let mut inputs = Vec::new();
            for (to, bytes) in told {
                inputs.push(Input::Written(to, bytes.len()));
                if to != connection {
                    continue;
                }
                if let Some(Event::Batch(batch)) = RelayFrame::from_bytes(bytes).unwrap().event {
                    count += batch.entries.len();
                    cursor = batch.entries.last().map_or(cursor, |entry| entry.pos);
                }
            }
            inputs.push(self.frame(connection, Verb::Ack(wire::Ack { cursor })));
            inputs.push(Input::Tick);
            told = self.all(inputs);
        }
        count
    }
}

#[allow(clippy::cast_precision_loss, reason = "figures for people")]
fn each(time: Duration, count: usize) -> f64 {
    time.as_secs_f64() * 1e6 / count.max(1) as f64
}

/// Microseconds and bytes for each entry: written, read, bytes.
#[allow(clippy::cast_precision_loss, reason = "figures for people")]
fn measure(mode: Diffusion, members: usize, body: usize) -> (f64, f64, f64) {
    let mut bed = Bed::new(mode);
    let (owner, _) = bed.login("user-000000");
    bed.group(owner, members);
    let messages = (ENTRIES / members).min(BYTES / members / body).clamp(8, 2_000);
    bed.written = 0;
    let begun = Instant::now();
    bed.send_all(owner, members, messages, body);
    let write = each(begun.elapsed(), messages * members);
    let bytes = bed.written as f64 / (messages * members) as f64;
    let readers = READERS.min(members - 1);
    let begun = Instant::now();
    let mut count = 0;
    for n in 1..=readers {
        count += bed.read_all(&format!("user-{n:06}"));
    }
    assert!(count >= readers * messages, "{count} of {messages} entries were read by {readers}");
    (write, each(begun.elapsed(), count), bytes)
}

fn main() {
    println!(
        "{:>8} {:>7}  {:>34}  {:>34}",
        "members", "body", "copy: write, read µs, bytes", "reference: the same"
    );
    for members in MEMBERS {
        for body in BODIES {
            let (copy, reference) =
                (measure(Diffusion::Copy, members, body), measure(Diffusion::Reference, members, body));
            println!(
                "{members:>8} {body:>7}  {:>10.1} {:>10.2} {:>12.0}  {:>10.1} {:>10.2} {:>12.0}  copy/reference {:.2}",
                copy.0,
                copy.1,
                copy.2,
                reference.0,
                reference.1,
                reference.2,
                (copy.0 + copy.1) / (reference.0 + reference.1)
            );
        }
    }
    let mut bed = Bed::new(Diffusion::Reference);
    let (owner, _) = bed.login("user-000000");
    bed.group(owner, 2);
    bed.send_all(owner, 2, CAUGHT_UP, 100);
    let begun = Instant::now();
    let count = bed.read_all("user-000001");
    let time = begun.elapsed();
    println!(
        "{count} references of 100 bytes caught up with in {} ms: {:.2} µs each",
        time.as_millis(),
        each(time, count)
    );
}
