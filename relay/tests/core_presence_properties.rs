//! Any order of hellos, goodbyes, broken sockets, late news and time: what a watcher sees is what a model of a few
//! lines says. So there is no ghost, nobody is offline who came back in time, and no old connection ends a newer one.

#![allow(clippy::unwrap_used)] // The helpers are outside of test functions.

mod core_world;

use std::collections::BTreeMap;

use bytes::Bytes;
use core_world::presence::*;
use core_world::*;
use hongyan_protocol::wire::{self, DeviceKind, client_frame::Verb, relay_frame::Event};
use hongyan_relay::core::{ConnectionId, CoreConfig, Input};
use proptest::prelude::*;

/// Every time in here is a multiple of it.
const TICK: u64 = 50;
const LOST_HOLD: u64 = 600;
const BACKGROUND_LEASE: u64 = 1_500;

const DEVICES: [(&str, DeviceKind); 3] =
    [("desk", DeviceKind::Web), ("phone", DeviceKind::Android), ("mini", DeviceKind::Miniprogram)];
const TABS: [&str; 3] = ["", "1", "2"];

#[derive(Clone, Debug)]
enum Step {
    Hello {
        device: usize,
        tab: usize,
        order: (u64, u64),
        away: bool,
    },
    /// Of any connection there ever was, as all below.
    Bye {
        of: usize,
        returns_in: u64,
        returns: bool,
    },
    Beacon {
        of: usize,
        returns_in: u64,
        returns: bool,
    },
    Away {
        of: usize,
        away: bool,
    },
    Closed(usize),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let order = prop_oneof![2 => Just((0, 0)), 3 => (1u64..3, 0u64..4)];
    let returns_in = prop_oneof![1 => Just(0), 4 => (0u64..90).prop_map(|n| n * TICK)];
    let tab = prop_oneof![2 => Just(0), 1 => 1..TABS.len()];
    let of = 0usize..6;
    prop_oneof![
        6 => (0..DEVICES.len(), tab, order, any::<bool>())
            .prop_map(|(device, tab, order, away)| Step::Hello { device, tab, order, away }),
        3 => (of.clone(), returns_in.clone(), any::<bool>())
            .prop_map(|(of, returns_in, returns)| Step::Bye { of, returns_in, returns }),
        3 => (of.clone(), returns_in, any::<bool>())
            .prop_map(|(of, returns_in, returns)| Step::Beacon { of, returns_in, returns }),
        3 => (of.clone(), any::<bool>()).prop_map(|(of, away)| Step::Away { of, away }),
        4 => of.prop_map(Step::Closed),
        8 => (1u64..40).prop_map(|n| Step::Pass(n * TICK)),
    ]
}

/// What holds a lease in the model.
#[derive(Clone, Copy, PartialEq)]
enum Held {
    Open,
    /// Shown as before until then.
    Kept(u64),
    Leaving(u64),
    Background,
}

struct Lease {
    connection: ConnectionId,
    order: (u64, u64),
    /// Until when a mini-program may be hidden; `None` when it is not away.
    away: Option<u64>,
    held: Held,
}

#[derive(Default)]
struct Model {
    now: u64,
    leases: BTreeMap<(usize, usize), Lease>,
    /// Devices of which nobody will ever know that they are gone.
    unknown: bool,
}

impl Model {
    fn is_mini(device: usize) -> bool {
        DEVICES[device].1 == DeviceKind::Miniprogram
    }

    /// 5 is online, 1 offline.
    fn status(&self) -> u8 {
        let leases = self.leases.values().map(|lease| match (lease.held, lease.away) {
            (Held::Leaving(_), _) => 3,
            (_, Some(_)) => 4,
            (_, None) => 5,
        });
        leases.max().unwrap_or(0).max(if self.unknown { 2 } else { 1 })
    }

    fn hello(
        &mut self,
        connection: ConnectionId,
        (device, tab): (usize, usize),
        order: (u64, u64),
        away: bool,
    ) -> bool {
        let late = |lease: &Lease| lease.held == Held::Open && order != (0, 0) && order <= lease.order;
        if self.leases.get(&(device, tab)).is_some_and(late) {
            return false;
        }
        self.leases.retain(|of, _| of.0 != device || (tab != 0 && of.1 != tab));
        let away = away.then_some(self.now + BACKGROUND_LEASE);
        self.leases.insert((device, tab), Lease { connection, order, away, held: Held::Open });
        self.unknown |= Self::is_mini(device);
        true
    }

    /// The lease that a connection held last, if nobody took it over.
    fn of(&mut self, connection: ConnectionId) -> Option<((usize, usize), &mut Lease)> {
        let found = self.leases.iter_mut().find(|(_, lease)| lease.connection == connection);
        found.map(|(of, lease)| (*of, lease))
    }

    fn bye(&mut self, connection: ConnectionId, returns_in: u64, returns: bool) {
        let now = self.now;
        let Some((of, lease)) = self.of(connection) else { return };
        let until = now + returns_in.clamp(500, 4_000);
        lease.held = match (returns_in, returns) {
            (0, _) => {
                self.leases.remove(&of);
                return;
            }
            (_, true) => Held::Kept(until),
            (_, false) => Held::Leaving(until),
        };
    }

    fn closed(&mut self, connection: ConnectionId) {
        let now = self.now;
        let Some(((device, _), lease)) = self.of(connection) else { return };
        if lease.held == Held::Open {
            let hides = Self::is_mini(device) && lease.away.is_some_and(|until| until > now);
            lease.held = if hides { Held::Background } else { Held::Kept(now + LOST_HOLD) };
        }
    }

    fn pass(&mut self) {
        self.now += TICK;
        let now = self.now;
        self.leases.retain(|_, lease| match lease.held {
            Held::Open => true,
            Held::Kept(until) | Held::Leaving(until) => until > now,
            Held::Background => lease.away.is_some_and(|until| until > now),
        });
    }
}

fn rank(presence: &wire::Presence) -> u8 {
    match presence.status() {
        wire::PresenceStatus::Online => 5,
        wire::PresenceStatus::Away => 4,
        wire::PresenceStatus::Leaving => 3,
        wire::PresenceStatus::Unknown => 2,
        wire::PresenceStatus::Offline => 1,
        wire::PresenceStatus::Unspecified => 0,
    }
}

struct Run {
    world: World,
    model: Model,
    watcher: ConnectionId,
    connections: Vec<(ConnectionId, Bytes)>,
    said_goodbye: Vec<ConnectionId>,
    last_status: u8,
    last_since: u64,
}

impl Run {
    fn new() -> Self {
        let config = CoreConfig {
            silence_ms: 3_600_000,
            ping_interval_ms: 3_000_000,
            requests_per_second: 1_000_000,
            requests_burst: 1_000_000,
            recovery_ms: 0,
            background_lease_ms: BACKGROUND_LEASE,
            ..CoreConfig::default()
        };
        let mut world = World::with(config);
        let watcher = world.login("bob", "b");
        world.send(watcher, &direct("alice", "bob"), "first", "hello");
        world.watch(watcher, &["alice"]);
        Self {
            world,
            model: Model::default(),
            watcher,
            connections: Vec::new(),
            said_goodbye: Vec::new(),
            last_status: 1,
            last_since: 0,
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Hello { device, tab, order, away } => {
                let connection = self.world.open();
                let mut body = hello("alice", DEVICES[device].0);
                body.device_kind = DEVICES[device].1.into();
                (body.tab, body.away) = (TABS[tab].into(), away);
                (body.term, body.dial) = order;
                let answer = self.world.call(connection, Verb::Hello(body));
                let is_taken = self.model.hello(connection, (device, tab), order, away);
                match answer {
                    Event::Welcome(welcome) => {
                        assert!(is_taken);
                        self.connections.push((connection, welcome.bye_ticket));
                    }
                    Event::Reject(_) => assert!(!is_taken),
                    event => panic!("{}", name(&event)),
                }
            }
            Step::Bye { of, returns_in, returns } => {
                let Some((connection, _)) = self.connection(of) else { return };
                if !self.is_closed(connection) {
                    self.model.bye(connection, returns_in, returns);
                    self.said_goodbye.push(connection);
                }
                let ms = u32::try_from(returns_in).unwrap();
                self.world.frame(connection, 0, bye(ms, returns));
            }
            Step::Beacon { of, returns_in, returns } => {
                let Some((connection, ticket)) = self.connection(of) else { return };
                if !self.said_goodbye.contains(&connection) {
                    self.model.bye(connection, returns_in, returns);
                    self.said_goodbye.push(connection);
                }
                let ms = u32::try_from(returns_in).unwrap();
                self.world.input(beacon(&ticket, ms, returns));
            }
            Step::Away { of, away } => {
                let Some((connection, _)) = self.connection(of) else { return };
                if !self.is_closed(connection) {
                    let until = self.model.now + BACKGROUND_LEASE;
                    if let Some((_, lease)) = self.model.of(connection) {
                        lease.away = away.then(|| lease.away.unwrap_or(until));
                    }
                }
                self.world.frame(connection, 0, set_away(away));
            }
            Step::Closed(of) => {
                let Some((connection, _)) = self.connection(of) else { return };
                if !self.is_closed(connection) {
                    self.model.closed(connection);
                    // From now on it is a late word.
                    self.world.closed.insert(connection, hongyan_protocol::Code(1006));
                }
                self.world.input(Input::Closed(connection));
            }
            Step::Pass(ms) => {
                for _ in 0..ms / TICK {
                    self.world.pass(TICK);
                    self.model.pass();
                    self.compare();
                }
            }
        }
        self.compare();
    }

    /// One of the latest, the newest for 0.
    fn connection(&self, of: usize) -> Option<(ConnectionId, Bytes)> {
        let at = self.connections.len().checked_sub(of + 1)?;
        self.connections.get(at).cloned()
    }

    fn is_closed(&self, connection: ConnectionId) -> bool {
        self.world.closed.contains_key(&connection)
    }

    fn compare(&mut self) {
        let status = self.model.status();
        let pushed = self.world.pushed(self.watcher);
        let now = self.world.watch(self.watcher, &["alice"]).remove(0);
        assert_eq!(rank(&now), status, "{}", seen(&now));
        for presence in pushed.iter().chain([&now]) {
            // What was told at some moment was so before or is so now: nothing flaps in between.
            assert!([self.last_status, status].contains(&rank(presence)), "{}", seen(presence));
            assert!(presence.since >= self.last_since, "since moved back");
            self.last_since = presence.since;
        }
        self.last_status = status;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_watcher_sees_what_the_model_says(steps in prop::collection::vec(step(), 1..80)) {
        let mut run = Run::new();
        for step in &steps {
            run.step(step);
        }
        // Everybody goes: no ghost after its bound.
        for (connection, _) in run.connections.clone() {
            if !run.is_closed(connection) {
                run.model.closed(connection);
                run.world.cut(connection);
            }
        }
        run.step(&Step::Pass(4_500));
        prop_assert_eq!(run.world.relay.counters().leases, 1, "the watcher's");
        prop_assert!(run.model.status() <= 2);
    }
}
