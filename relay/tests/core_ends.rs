//! Random orders of hellos, sign-outs, revocations, kicks and commits: sessions end when they must, nobody is told of an
//! end that is not durable, and whoever asks is answered once.

#![allow(clippy::unwrap_used)] // The helpers are outside of test functions.

mod core_world;

use std::collections::BTreeMap;

use core_world::*;
use hongyan_protocol::wire::{self, DeviceKind, client_frame::Verb, relay_frame::Event};
use hongyan_protocol::{Code, DeviceId};
use hongyan_relay::core::queries::{Answer, Query, QueryId};
use hongyan_relay::core::{ConnectionId, CoreConfig, DevicesMax, Input};
use hongyan_relay::store::{MemoryStore, Store, Table};
use proptest::prelude::*;
use prost::Message as _;

const USERS: [&str; 2] = ["alice", "bob"];
const DEVICES: [&str; 4] = ["one", "two", "three", "four"];
/// How many of the kind `web` may be connected; the devices `one` to `three` are of it.
const WEB_MAX: usize = 2;

#[derive(Clone, Debug)]
enum Step {
    /// With a token that was issued so long ago.
    Hello(usize, usize, u64),
    Renew(usize, u64),
    Drop(usize),
    Leave(usize, bool),
    /// By a connection's own request.
    SignOut(usize, usize),
    /// By the app's server.
    Ask(usize, usize, u8),
    List(usize),
    /// The engine shows the commit that is under way to readers.
    Show,
    Commit,
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let (user, device, at) = (0..USERS.len(), 0..DEVICES.len(), 0usize..20);
    prop_oneof![
        8 => (user.clone(), device.clone(), 0u64..4_000).prop_map(|(u, d, age)| Step::Hello(u, d, age)),
        2 => (at.clone(), 0u64..4_000).prop_map(|(at, age)| Step::Renew(at, age)),
        2 => at.clone().prop_map(Step::Drop),
        1 => (at.clone(), any::<bool>()).prop_map(|(at, logout)| Step::Leave(at, logout)),
        3 => (at.clone(), device.clone()).prop_map(|(at, device)| Step::SignOut(at, device)),
        4 => (user, device, 0u8..6).prop_map(|(u, d, what)| Step::Ask(u, d, what)),
        2 => at.prop_map(Step::List),
        3 => Just(Step::Show),
        6 => Just(Step::Commit),
        2 => (0u64..3_000).prop_map(Step::Pass),
    ]
}

/// What this test needs of the store's records.
#[derive(Clone, PartialEq, prost::Message)]
struct Device {
    #[prost(uint64, tag = "5")]
    signed_out: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct User {
    #[prost(uint64, tag = "2")]
    revoked_before: u64,
}

struct Session {
    user: usize,
    device: usize,
    issued: u64,
}

struct Run {
    world: World,
    /// What is durable, and what the relay may tell.
    durable: MemoryStore,
    /// Those that were let in and have not ended.
    sessions: BTreeMap<ConnectionId, Session>,
    asked: Vec<(QueryId, usize, usize, Vec<bool>)>,
    /// Requests to sign out: connection, request, user, device.
    requested: Vec<(ConnectionId, u64, usize, usize)>,
}

impl Run {
    fn new() -> Self {
        let devices_max = DevicesMax { web: WEB_MAX, ..Default::default() };
        let mut world = World::with(CoreConfig { devices_max, ..Default::default() });
        world.auto_commit = false;
        world.now = 10_000;
        let durable = MemoryStore::new();
        Self { world, durable, sessions: BTreeMap::new(), asked: Vec::new(), requested: Vec::new() }
    }

    fn clock(&self) -> u64 {
        1_700_000_000_000 + self.world.now
    }

    fn is_signed_out(&self, user: usize, device: usize) -> bool {
        let key = format!("{}\0{}\0", USERS[user], DEVICES[device]);
        let record = self.durable.get(Table::Devices, key.as_bytes()).unwrap();
        record.is_some_and(|record| Device::decode(record).unwrap().signed_out > 0)
    }

    fn revoked_before(&self, user: usize) -> u64 {
        let record = self.durable.get(Table::Users, format!("{}\0", USERS[user]).as_bytes()).unwrap();
        record.map_or(0, |record| User::decode(record).unwrap().revoked_before)
    }

    fn is_revoked(&self, user: usize, issued: u64) -> bool {
        issued <= self.revoked_before(user)
    }

    fn token(&self, user: usize, age: u64) -> (String, u64) {
        let issued = self.clock() - age;
        (format!("{}@{issued}", token(USERS[user], 1 << 40)), issued)
    }

    fn commit(&mut self) {
        if let Some((_, batch)) = self.world.pending.front() {
            self.durable.commit(batch).unwrap();
            self.world.commit();
        }
    }

    fn nth(&self, at: usize) -> Option<ConnectionId> {
        self.sessions.keys().nth(at).copied()
    }

    fn hello(&mut self, user: usize, device: usize, age: u64) {
        let (token, issued) = self.token(user, age);
        let kind = if device < 3 { DeviceKind::Web } else { DeviceKind::Ios };
        let hello = wire::Hello { token, device_kind: kind.into(), ..hello(USERS[user], DEVICES[device]) };
        let connection = self.world.open();
        match self.world.call(connection, Verb::Hello(hello)) {
            Event::Welcome(_) => {
                assert!(!self.is_signed_out(user, device) && !self.is_revoked(user, issued));
                self.sessions.insert(connection, Session { user, device, issued });
            }
            Event::Reject(reject) if reject.code == u32::from(Code::LOGGED_OUT.0) => {
                assert!(self.is_signed_out(user, device), "told before it is durable");
            }
            Event::Reject(reject) if reject.code == u32::from(Code::TOKEN_REVOKED.0) => {
                assert!(self.is_revoked(user, issued), "told before it is durable");
            }
            event => panic!("{}", name(&event)),
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Hello(user, device, age) => self.hello(user, device, age),
            Step::Renew(at, age) => {
                let Some(connection) = self.nth(at) else { return };
                let user = self.sessions[&connection].user;
                let (token, issued) = self.token(user, age);
                if let Event::Renewed(_) = self.world.call(connection, Verb::Renew(wire::Renew { token })) {
                    self.sessions.get_mut(&connection).unwrap().issued = issued;
                }
            }
            Step::Drop(at) => {
                if let Some(connection) = self.nth(at) {
                    self.sessions.remove(&connection);
                    self.world.input(Input::Closed(connection));
                }
            }
            Step::Leave(at, logout) => {
                if let Some(connection) = self.nth(at) {
                    let left = self.sessions.remove(&connection).unwrap();
                    if logout {
                        // With all of its device.
                        self.sessions.retain(|_, it| (it.user, it.device) != (left.user, left.device));
                    }
                    self.world.frame(connection, 0, Verb::Bye(wire::Bye { logout, ..Default::default() }));
                }
            }
            Step::SignOut(at, device) => {
                if let Some(connection) = self.nth(at) {
                    let user = self.sessions[&connection].user;
                    let body = wire::SignOut { device: DEVICES[device].into() };
                    let request = self.world.ask(connection, Verb::SignOut(body));
                    self.requested.push((connection, request, user, device));
                }
            }
            Step::Ask(user, device, what) => {
                let (name, id) = (core_world::user(USERS[user]), DeviceId::new(DEVICES[device]).unwrap());
                let query = match what {
                    0 => Query::Presence(vec![name]),
                    1 => Query::Devices(name),
                    2 => Query::Kick(name, None),
                    3 => Query::Kick(name, Some(id)),
                    4 => Query::RevokeTokens(name),
                    _ => Query::SignOut(name, id),
                };
                let query = self.world.query(query);
                // A list tells how things were when it was asked for.
                let signed_out = (0..DEVICES.len()).map(|n| self.is_signed_out(user, n)).collect();
                self.asked.push((query, user, device, signed_out));
            }
            Step::List(at) => {
                if let Some(connection) = self.nth(at) {
                    self.world.ask(connection, Verb::Devices(wire::Devices {}));
                }
            }
            Step::Show => {
                if let Some((_, batch)) = self.world.pending.front() {
                    self.world.store.commit(batch).unwrap();
                }
            }
            Step::Commit => self.commit(),
            Step::Pass(ms) => self.world.pass(ms),
        }
    }

    /// After each step.
    fn check(&mut self) {
        for (connection, code) in &self.world.closed {
            let Some(session) = self.sessions.remove(connection) else { continue };
            let (user, device) = (session.user, session.device);
            match *code {
                Code::LOGGED_OUT => assert!(self.is_signed_out(user, device), "ended before it is durable"),
                Code::TOKEN_REVOKED => assert!(self.revoked_before(user) > 0, "ended before it is durable"),
                Code::KICKED | Code::SUPERSEDED | Code::SILENT => {}
                code => panic!("ended with {code:?}"),
            }
        }
        for session in self.sessions.values() {
            assert!(!self.is_signed_out(session.user, session.device), "a signed-out device goes on");
            assert!(!self.is_revoked(session.user, session.issued), "a revoked token goes on");
        }
        for user in 0..USERS.len() {
            let of_user = self.sessions.values().filter(|session| session.user == user && session.device < 3);
            let mut devices: Vec<_> = of_user.map(|session| session.device).collect();
            devices.sort_unstable();
            devices.dedup();
            assert!(devices.len() <= WEB_MAX, "too many of a kind");
        }
        let asked = std::mem::take(&mut self.asked);
        for (id, user, device, signed_out) in asked {
            match self.world.answers.remove(&id) {
                None => self.asked.push((id, user, device, signed_out)),
                Some(Answer::SignedOut) => assert!(self.is_signed_out(user, device), "told too early"),
                Some(Answer::TokensRevoked(time)) => assert!(self.is_revoked(user, time.0), "told too early"),
                Some(Answer::Devices(list)) => {
                    for (id, is_signed_out) in DEVICES.iter().zip(signed_out) {
                        let is_listed = list.iter().any(|listed| listed.device == *id);
                        assert!(!is_listed || !is_signed_out, "a signed-out device is listed");
                    }
                }
                Some(Answer::Refused(code)) => panic!("refused with {code:?}"),
                Some(
                    Answer::Presence(_) | Answer::Kicked(_) | Answer::NoSuchDevice | Answer::Counters(_),
                ) => {}
            }
        }
        let requested = std::mem::take(&mut self.requested);
        for (connection, request, user, device) in requested {
            match self.world.answer(connection, request) {
                None => self.requested.push((connection, request, user, device)),
                Some(Event::SignedOut(_)) => assert!(self.is_signed_out(user, device), "told too early"),
                Some(Event::Reject(reject)) => assert_eq!(reject.code, u32::from(Code::BAD_REQUEST.0)),
                Some(event) => panic!("{}", name(&event)),
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..Default::default() })]

    #[test]
    fn sessions_end_when_they_must_and_never_before(steps in prop::collection::vec(step(), 1..80)) {
        let mut run = Run::new();
        for step in steps {
            run.step(step);
            run.check();
        }
        while !run.world.pending.is_empty() {
            run.commit();
            run.check();
        }
        prop_assert!(run.asked.is_empty(), "a query was not answered");
        // Whoever was closed meanwhile is answered by that.
        let waits = |connection| run.sessions.contains_key(connection);
        prop_assert!(!run.requested.iter().any(|(connection, ..)| waits(connection)), "a request was not answered");
    }
}
