//! The relay's core under a program of inputs: hostile clients, late and failing commits, clocks that jump.
//!
//! What must hold whatever comes: nothing panics; nothing is sent to a connection after its end; nothing is told
//! before it is durable; each request is answered once at most, and what the app's server asks exactly once; an entry of a queue is always the same, and comes
//! without a gap; nobody is told of another's conversation; what waits for a connection or a commit is bounded; and
//! when the program is over, every queue can be read to its head.

use core::mem::Discriminant;
use std::collections::{BTreeMap, HashSet, VecDeque};

use bytes::Bytes;
use hongyan_protocol::limits::{CLIENT_FRAME_BYTES_MAX, RELAY_FRAME_BYTES_MAX, WATCHED_MAX};
use hongyan_protocol::wire::{self, ClientFrame, client_frame::Verb, relay_frame::Event};
use hongyan_protocol::{Code, Time, UserId};
use hongyan_relay::core::io::{Identity, Verifier};
use hongyan_relay::core::limits::{LEASES_PER_USER_MAX, REFUSALS_PER_SECOND_MAX};
use hongyan_relay::core::queries::{Answer, QueryId};
use hongyan_relay::core::queue::DiffusionConfig;
use hongyan_relay::core::{ConnectionId, CoreConfig, Input, Moment, Now, Output, Relay, Ticket};
use hongyan_relay::store::{Batch, MemoryStore, Order, Store, StoreError, Table};
use prost::Message as _;

use crate::names::{TIME, USERS};
use crate::peer::{Heard, Peer, has_entry};
use crate::program::Program;
use crate::queries;
use crate::verbs::{self, Known};

/// Inputs of one program at most, so that a long one is no slow one.
const INPUTS_MAX: usize = 6_000;
/// What one request may add to what waits for a commit: a change of a group with everybody in it.
const REQUEST_BYTES_MAX: usize = 2 * CLIENT_FRAME_BYTES_MAX;

/// Takes a token as the id of its user; `id@end` also ends, and says that it was issued then, so that some outlive a
/// revocation.
pub(crate) struct Permissive;

impl Verifier for Permissive {
    fn verify(&self, token: &str) -> Result<Identity, String> {
        let (user, end) = token.split_once('@').unwrap_or((token, ""));
        let user = UserId::new(user).map_err(|error| error.to_string())?;
        let end = end.parse().map(Time).ok();
        Ok(Identity { user, expires: end.unwrap_or(Time(u64::MAX)), issued: end })
    }
}

/// The relay's core under any inputs.
pub fn relay_core(data: &[u8]) {
    reach_of_relay_core(data);
}

/// The kinds of what the relay said.
#[derive(Default)]
pub struct Reach {
    /// To connections.
    pub events: HashSet<Discriminant<Event>>,
    /// To the app's server.
    pub answers: HashSet<Discriminant<Answer>>,
}

/// The same; tells how far it reached, so that a test knows how far a corpus does.
pub fn reach_of_relay_core(data: &[u8]) -> Reach {
    let mut program = Program::new(data);
    let mut world = World::new(program.byte());
    while !program.is_over() && world.inputs < INPUTS_MAX {
        world.step(&mut program);
    }
    world.settle();
    Reach { events: world.heard.kinds, answers: world.answers }
}

/// One relay, its store, and who is connected to it.
struct World {
    relay: Relay<MemoryStore, Permissive>,
    config: CoreConfig,
    /// What the relay reads. The engine may show a commit before it is reported.
    visible: MemoryStore,
    /// What was reported as durable.
    durable: MemoryStore,
    under_way: Option<(Ticket, Batch)>,
    moment: u64,
    time: u64,
    peers: BTreeMap<u64, Peer>,
    opened: u64,
    heard: Heard,
    /// What welcomes gave to say goodbye with.
    tickets: Vec<Bytes>,
    /// What the app's server asked and was not answered yet, with the row in which it becomes true.
    asked: BTreeMap<QueryId, Option<(Table, Bytes)>>,
    queried: u64,
    /// The kinds of answers.
    answers: HashSet<Discriminant<Answer>>,
    drains: bool,
    drained: bool,
    failed: bool,
    inputs: usize,
}

impl World {
    fn new(variant: u8) -> Self {
        let tight = CoreConfig {
            content_bytes_max: 300,
            sends_per_second: 20,
            sends_burst: 30,
            requests_per_second: 20,
            requests_burst: 30,
            connections_per_user_max: 2,
            connections_max: 6,
            outgoing_bytes_target: 400,
            outgoing_bytes_max: 6_000,
            uncommitted_bytes_max: 4_000,
            diffusion: DiffusionConfig { log_members: 2, ..DiffusionConfig::default() },
            ..CoreConfig::default()
        };
        let config = if variant & 1 == 0 { tight } else { CoreConfig::default() };
        let (visible, durable) = (MemoryStore::new(), MemoryStore::new());
        let relay =
            Relay::open(config.clone(), visible.clone(), Permissive, [variant; 32]).expect("a new store");
        copy(&visible, &durable);
        Self {
            relay,
            config,
            visible,
            durable,
            under_way: None,
            moment: 1_000,
            time: TIME,
            peers: BTreeMap::new(),
            opened: 0,
            heard: Heard::default(),
            tickets: Vec::new(),
            asked: BTreeMap::new(),
            queried: 0,
            answers: HashSet::new(),
            drains: false,
            drained: false,
            failed: false,
            inputs: 0,
        }
    }

    fn step(&mut self, program: &mut Program<'_>) {
        match program.below(24) {
            0 => self.connect(),
            1 => {
                let at = program.byte();
                let bytes = Bytes::copy_from_slice(program.bytes());
                self.frame(at, bytes);
            }
            2 | 3 => {
                self.connect();
                let known = Known { epoch: self.relay.epoch().as_str(), groups: &self.heard.groups };
                let hello = verbs::hello(program, &known);
                self.verb(u8::MAX, program.byte().into(), Verb::Hello(hello));
            }
            4 => {
                let at = program.byte();
                if let Some((id, unwritten)) = self.peer(at).map(|(id, peer)| (*id, peer.unwritten)) {
                    let bytes = usize::try_from(program.number()).unwrap_or(usize::MAX).min(unwritten);
                    self.written(id, bytes);
                }
            }
            5 => self.write_all(),
            6 => {
                let at = program.byte();
                if let Some(id) = self.peer(at).map(|(id, _)| *id) {
                    self.peers.remove(&id);
                    self.input(Input::Closed(ConnectionId(id)));
                }
            }
            7 | 8 => self.commit(),
            9 => {
                // The engine shows it before it says so.
                if let Some((_, batch)) = &self.under_way {
                    self.visible.commit(batch).expect("memory");
                }
            }
            10 => {
                if program.below(8) == 0 {
                    self.fail_commit();
                }
            }
            11 => {
                let (at, which) = (program.byte(), program.below(4));
                let bye = (which > 0).then(|| verbs::bye(program));
                match self.peer(at).map(|(_, peer)| peer.ticket.clone()) {
                    _ if which == 0 => self.input(Input::Tick),
                    // Of somebody who may have gone, of somebody who is there, and what was made up.
                    Some(ticket) if which == 1 => self.goodbye(wire::Beacon { ticket, bye }),
                    _ if which == 2 => {
                        let ticket = self.tickets.get(usize::from(at)).cloned().unwrap_or_default();
                        self.goodbye(wire::Beacon { ticket, bye });
                    }
                    _ => {
                        let body = Bytes::copy_from_slice(program.bytes());
                        self.input(Input::Goodbye(body));
                    }
                }
            }
            12 => {
                self.moment += program.number() % 100_000;
                self.input(Input::Tick);
            }
            13 => {
                let by = program.number();
                self.time =
                    if program.flag() { self.time.saturating_add(by) } else { self.time.saturating_sub(by) };
                // A token that is issued later stays possible.
                self.time = self.time.min(u64::MAX / 2);
            }
            14 => {
                if program.below(16) == 0 {
                    self.drains = true;
                    self.input(Input::Drain { spread_ms: program.number() });
                }
            }
            15 => {
                if program.below(8) == 0 {
                    self.restart(program.flag());
                }
            }
            16 => {
                // The same verb over and over.
                let (at, count) = (program.byte(), program.number() % 1_200);
                let (request, verb) = self.draw(program);
                for _ in 0..count {
                    self.verb(at, request, verb.clone());
                }
            }
            17 => {
                self.queried += 1;
                let id = QueryId(self.queried);
                let query = queries::query(program, &self.heard.groups);
                self.asked.insert(id, queries::row(&query));
                self.input(Input::Query(id, query));
            }
            _ => {
                let at = program.byte();
                let (request, verb) = self.draw(program);
                self.verb(at, request, verb);
            }
        }
    }

    fn draw(&self, program: &mut Program<'_>) -> (u64, Verb) {
        let known = Known { epoch: self.relay.epoch().as_str(), groups: &self.heard.groups };
        (program.number(), verbs::verb(program, &known))
    }

    /// The connection at a place, the newest one for the highest.
    fn peer(&self, at: u8) -> Option<(&u64, &Peer)> {
        match at {
            u8::MAX => self.peers.last_key_value(),
            at => self.peers.iter().nth(usize::from(at) % self.peers.len().max(1)),
        }
    }

    // ------------------------------------------------------------ inputs

    fn connect(&mut self) {
        self.opened += 1;
        self.peers.insert(self.opened, Peer::default());
        self.input(Input::Connected(ConnectionId(self.opened)));
    }

    fn verb(&mut self, at: u8, request: u64, verb: Verb) {
        if let Ok(bytes) = (ClientFrame { request, verb: Some(verb) }).to_bytes() {
            self.frame(at, bytes);
        }
    }

    fn frame(&mut self, at: u8, bytes: Bytes) {
        let Some(id) = self.peer(at).map(|(id, _)| *id) else { return };
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.says(&bytes);
        }
        self.input(Input::Frame(ConnectionId(id), bytes));
    }

    fn goodbye(&mut self, beacon: wire::Beacon) {
        self.input(Input::Goodbye(beacon.encode_to_vec().into()));
    }

    fn written(&mut self, id: u64, bytes: usize) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.unwritten -= bytes;
            self.input(Input::Written(vec![(ConnectionId(id), bytes)]));
        }
    }

    fn write_all(&mut self) {
        let waiting: Vec<_> = self.peers.iter().map(|(id, peer)| (*id, peer.unwritten)).collect();
        for (id, bytes) in waiting.into_iter().filter(|(_, bytes)| *bytes > 0) {
            // It may have got more, or ended, meanwhile.
            self.written(id, bytes);
        }
    }

    fn commit(&mut self) {
        if let Some((ticket, batch)) = self.under_way.take() {
            self.visible.commit(&batch).expect("memory");
            self.durable.commit(&batch).expect("memory");
            self.input(Input::Committed(ticket, Ok(())));
        }
    }

    fn fail_commit(&mut self) {
        if let Some((ticket, _)) = self.under_way.take() {
            self.failed = true;
            self.input(Input::Committed(ticket, Err(StoreError::Engine("the disk is full".into()))));
        }
    }

    /// The process ends without a word; a commit that was under way may be durable all the same.
    fn restart(&mut self, keeps: bool) {
        if let Some((_, batch)) = self.under_way.take().filter(|_| keeps) {
            self.durable.commit(&batch).expect("memory");
        }
        self.visible = MemoryStore::new();
        copy(&self.durable, &self.visible);
        let epoch = self.relay.epoch().clone();
        let seed = [u8::try_from(self.opened & 255).unwrap_or(0); 32];
        self.relay = Relay::open(self.config.clone(), self.visible.clone(), Permissive, seed)
            .expect("what the relay wrote it can open");
        assert!(*self.relay.epoch() == epoch, "a restart changed the epoch");
        self.peers.clear();
        self.asked.clear();
        self.moment = 1_000;
        (self.drains, self.drained, self.failed) = (false, false, false);
    }

    fn input(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            self.inputs += 1;
            let now = Now { moment: Moment(self.moment), time: Time(self.time) };
            self.relay.handle(now, input);
            while let Some(output) = self.relay.poll() {
                self.output(output, &mut inputs);
            }
            self.check();
        }
    }

    // ------------------------------------------------------------ outputs

    fn output(&mut self, output: Output, inputs: &mut VecDeque<Input>) {
        match output {
            Output::Transmit(ConnectionId(id), bytes) => {
                let peer = self.peers.get_mut(&id).expect("nothing is sent to who is gone");
                assert!(bytes.len() <= RELAY_FRAME_BYTES_MAX);
                peer.unwritten += bytes.len();
                peer.hears(bytes, self.moment, &self.durable, &mut self.heard);
                if !peer.ticket.is_empty() && self.tickets.last() != Some(&peer.ticket) {
                    self.tickets.push(peer.ticket.clone());
                }
            }
            Output::Close(connection, _) => {
                assert!(self.peers.remove(&connection.0).is_some(), "who is gone is closed");
                inputs.push_back(Input::Closed(connection));
            }
            Output::Commit(ticket, batch) => {
                assert!(self.under_way.is_none(), "one commit at most is under way");
                self.under_way = Some((ticket, batch));
            }
            Output::Answer(id, answer) => {
                let row = self.asked.remove(&id).expect("who asks is answered once");
                assert!(queries::is_true(&answer, row.as_ref(), &self.durable), "told before it is durable");
                assert!(self.failed || !matches!(answer, Answer::Refused(Code::STORAGE_FAILED)));
                self.answers.insert(core::mem::discriminant(&answer));
            }
            Output::Drained => {
                assert!(
                    self.drains && !self.drained && self.under_way.is_none(),
                    "drained too early or twice"
                );
                self.drained = true;
            }
            Output::Failed(sentence) => {
                assert!(self.failed && sentence.ends_with('.'), "it failed although no commit did");
            }
        }
    }

    /// After each input.
    fn check(&mut self) {
        let counters = self.relay.counters();
        assert_eq!(counters.connections, self.peers.len(), "the relay and the host know other connections");
        for peer in self.peers.values() {
            assert!(peer.unwritten <= self.config.outgoing_bytes_max, "a slow reader's queue grows");
            assert!(peer.refusals <= 2 * REFUSALS_PER_SECOND_MAX, "a flood is answered for ever");
        }
        assert!(
            counters.uncommitted_bytes <= self.config.uncommitted_bytes_max + REQUEST_BYTES_MAX,
            "{} bytes and {} answers wait for a commit",
            counters.uncommitted_bytes,
            counters.waiting
        );
        // Leases of who is gone, too, but with their own bound.
        assert!(counters.leases <= self.peers.len() + USERS.len() * LEASES_PER_USER_MAX);
        assert!(counters.watched <= self.peers.len() * WATCHED_MAX);
        assert_eq!(counters.store_faults, 0, "{:?}", self.relay.take_fault());
    }

    // ------------------------------------------------------------ the end

    /// Faults stop: what waits is committed and written, and every queue can be read to its head.
    fn settle(&mut self) {
        self.rest();
        let leaving: Vec<_> = self.peers.keys().copied().collect();
        for id in leaving {
            self.peers.remove(&id);
            self.input(Input::Closed(ConnectionId(id)));
        }
        if self.drains || self.failed {
            self.restart(true);
        }
        self.rest();
        self.time = TIME;
        for user in USERS {
            self.connect();
            let id = self.opened;
            let hello = wire::Hello {
                version: 1,
                // Revoked it never is, nor signed out.
                token: format!("{user}@{}", u64::MAX),
                user: user.into(),
                device: "what reads it all when it is over".into(),
                epoch: self.relay.epoch().as_str().into(),
                ..Default::default()
            };
            self.verb(u8::MAX, 1, Verb::Hello(hello));
            self.rest();
            let peer = self.peers.remove(&id).expect("a welcome guest");
            let more = has_entry(&self.durable, user, peer.cursor + 1);
            assert!(!more, "{user}'s queue goes on after {}", peer.cursor);
            self.input(Input::Closed(ConnectionId(id)));
        }
        self.rest();
        assert_eq!(self.relay.counters().waiting, 0, "answers are left over");
        assert!(self.asked.is_empty(), "the app's server is not answered");
        // No ghost: of who is gone nothing is left when its time is over.
        for _ in 0..400 {
            self.moment += 1_000;
            self.rest();
        }
        assert_eq!(self.relay.counters().leases, 0, "a lease is left of nobody");
    }

    /// Until nothing more happens by itself at this moment.
    fn rest(&mut self) {
        for _ in 0..10_000 {
            let due = self.relay.next_deadline().is_some_and(|at| at <= Moment(self.moment));
            let unwritten = self.peers.values().any(|peer| peer.unwritten > 0);
            if self.under_way.is_some() {
                self.commit();
            } else if unwritten {
                self.write_all();
            } else if due {
                self.input(Input::Tick);
            } else {
                return;
            }
        }
        panic!("the relay does not come to rest");
    }
}

/// Puts all rows of one store into another.
pub(crate) fn copy(from: &MemoryStore, to: &MemoryStore) {
    let mut batch = Batch::default();
    for table in Table::ALL {
        let mut put = |key: &[u8], value: &[u8]| {
            batch.put(table, Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
            true
        };
        from.scan(table, &[], &[0xff; 300], Order::Ascending, &mut put).expect("memory");
    }
    to.commit(&batch).expect("memory");
}
