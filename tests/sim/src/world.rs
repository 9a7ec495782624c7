//! The world: one clock, one seed, one relay, some devices, and a network between them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use hongyan_client as client;
use hongyan_client::Generation;
use hongyan_protocol::wire::DeviceKind;
use hongyan_protocol::{Code, ConversationId, Seq, UserId};
use hongyan_relay::core::ConnectionId;
use hongyan_relay::core::queries::QueryId;

use crate::cache::Cache;
use crate::chance::Chance;
use crate::clock::Clock;
use crate::device::Device;
use crate::disk::Tables;
use crate::ends::{Ends, EndsShape};
use crate::faults::{Coverage, Fault};
use crate::logs::LogShape;
use crate::network::Link;
use crate::presence::{self, PresenceShape, Tellings};
use crate::queues::QueueShape;
use crate::relay_process::RelayProcess;
use crate::report::Breach;
use crate::scenario::Scenario;
use crate::tabs::{Browser, TabHappening, TabsShape};
use crate::watch::Watch;

/// More steps than that are a world that spins.
const TURNS_MAX: u64 = 2_000_000;
/// Lines of the last events that a report shows.
const TRACE_LINES: usize = 200;

/// Who lives in a world, and with how many devices at most.
pub(crate) const USERS: [(&str, u64); 5] = [("alice", 3), ("bob", 2), ("carol", 2), ("dora", 1), ("erin", 1)];

/// Whose first device is a browser with several tabs.
const BROWSES: &str = "carol";

/// A device in one of its lives.
pub(crate) type Life = (usize, u32);

/// What will happen.
pub(crate) enum Happening {
    Opened(ConnectionId),
    Up(ConnectionId, Bytes),
    /// The device's end of the connection, behind its frames.
    UpClosed(ConnectionId),
    Down(ConnectionId, Bytes),
    DownClosed(ConnectionId, Code),
    Written(ConnectionId, usize),
    /// The relay's machine learns that a connection is gone.
    RelayLearns(ConnectionId),
    /// Readers may see the commit, it is synced, its end is reported; in this life of the relay.
    CommitShown(u32),
    CommitSynced(u32),
    CommitEnds(u32, Option<String>),
    Token(Life, Result<String, String>),
    SaveDurable(Life),
    SaveEnds(Life, Option<String>),
    Load(Life, client::Ticket, ConversationId, Seq, Seq),
    RelayStarts,
    DeviceStarts(usize),
    Host(Life, client::HostEvent),
    /// A beacon of this connection, to the relay in this life.
    Beacon(ConnectionId, u32, Bytes),
    /// Another process takes the device over from one that is gone without a word.
    Takeover(Life),
    /// A change of this user's presence must have been told.
    PresenceDue(String),
    /// The app's server waits no longer for an answer.
    OrderDue(QueryId),
    /// Something of a device's tab.
    Tab(usize, u64, TabHappening),
}

/// What is decided of a world before anything happens.
pub(crate) struct Shape {
    /// Faults happen at all.
    pub(crate) faulty: bool,
    /// The relay's buffers and windows are small.
    pub(crate) small: bool,
    /// The relay lets few requests through.
    pub(crate) strict: bool,
    /// The longest of the usual delays of a frame, milliseconds.
    pub(crate) latency_ms: u64,
    pub(crate) steps: u32,
    /// People watch each other.
    pub(crate) presence: Option<PresenceShape>,
    /// Queues keep little.
    pub(crate) queue: Option<QueueShape>,
    /// Small groups come by their logs.
    pub(crate) logs: Option<LogShape>,
    /// Sessions are ended.
    pub(crate) ends: Option<EndsShape>,
    /// A device has tabs that share its connection.
    pub(crate) tabs: Option<TabsShape>,
}

/// One world.
pub struct World {
    pub(crate) scenario: Scenario,
    pub(crate) shape: Shape,
    pub(crate) chance: Chance,
    fault_chances: Vec<Chance>,
    /// Faults happen at present.
    pub(crate) faulty: bool,
    /// True time since the world began, milliseconds.
    pub(crate) now: u64,
    queue: BTreeMap<(u64, u64), Happening>,
    order: u64,
    turns: u64,
    pub(crate) relay: RelayProcess,
    /// What stores of earlier epochs held at last.
    pub(crate) archive: BTreeMap<String, Tables>,
    pub(crate) links: BTreeMap<ConnectionId, Link>,
    pub(crate) connections: u64,
    pub(crate) devices: Vec<Device>,
    pub(crate) groups: Vec<ConversationId>,
    pub(crate) watch: Watch,
    pub(crate) tellings: Tellings,
    pub(crate) ends: Ends,
    pub(crate) coverage: Coverage,
    pub(crate) breach: Option<Breach>,
    trace: Option<VecDeque<String>>,
}

impl World {
    /// The world of a scenario, before its first step; `trace` keeps the last events for a report.
    #[must_use]
    pub fn new(scenario: Scenario, trace: bool) -> Self {
        let seed = scenario.seed;
        let mut chance = Chance::new(seed, 1);
        let shape = Shape {
            faulty: !chance.percent(4),
            small: chance.percent(30),
            strict: chance.percent(20),
            latency_ms: *chance.pick(&[2, 10, 60, 250]),
            steps: u32::try_from(chance.between(20, u64::from(crate::scenario::STEPS_MAX))).unwrap_or(20),
            presence: PresenceShape::of(seed).filter(|_| scenario.presence),
            queue: QueueShape::of(seed).filter(|_| scenario.queues),
            logs: LogShape::of(seed).filter(|_| scenario.logs),
            ends: EndsShape::of(seed).filter(|_| scenario.ends),
            tabs: TabsShape::of(seed).filter(|_| scenario.tabs),
        };
        let clock = Clock::new(0, chance.below(1_000_000), 1_000, 0);
        let mut world = Self {
            fault_chances: (0..Fault::ALL.len() as u64).map(|kind| Chance::new(seed, 100 + kind)).collect(),
            faulty: shape.faulty,
            now: 1,
            queue: BTreeMap::new(),
            order: 0,
            turns: 0,
            relay: RelayProcess::new(clock),
            archive: BTreeMap::new(),
            links: BTreeMap::new(),
            connections: 0,
            devices: Vec::new(),
            groups: Vec::new(),
            watch: Watch::default(),
            tellings: Tellings::default(),
            ends: Ends::default(),
            coverage: Coverage::default(),
            breach: None,
            trace: trace.then(VecDeque::new),
            scenario,
            shape,
            chance,
        };
        world.relay_starts();
        for (user, most) in USERS {
            let devices = world.chance.between(1, most);
            for _ in 0..devices {
                world.add_device(user);
            }
        }
        world
    }

    fn add_device(&mut self, user: &str) {
        let Ok(user) = UserId::new(user) else { return };
        let index = self.devices.len();
        let clock = self.new_clock();
        self.devices.push(Device::new(index, user, clock));
        self.becomes_a_kind(index);
        if self.shape.tabs.is_some() && self.devices[index].user.as_str() == BROWSES {
            let is_first = self.devices[..index].iter().all(|device| device.user.as_str() != BROWSES);
            if is_first {
                self.devices[index].kind = DeviceKind::Web;
                self.devices[index].browser = Some(Browser::default());
            }
        }
        self.device_starts(index);
    }

    /// In a world with presence devices are of several kinds, and one may be another tab of the one before.
    fn becomes_a_kind(&mut self, index: usize) {
        let Some(shape) = self.shape.presence else { return };
        let seed = self.scenario.seed;
        let has_tabs = shape.has_tabs && index < 2;
        self.devices[index].kind = if has_tabs { DeviceKind::Web } else { presence::kind(seed, index) };
        if has_tabs {
            self.devices[index].tab = format!("tab {index}");
        }
        if has_tabs && index == 1 && self.devices[1].user == self.devices[0].user {
            let first = self.devices[0].client.as_ref().and_then(client::Client::device).cloned();
            if let Some(device) = first {
                self.devices[1].disk = Cache::of_device(&self.devices[1].user, &device);
            }
        }
    }

    pub(crate) fn new_clock(&mut self) -> Clock {
        let origin = self.chance.below(10_000_000);
        Clock::new(self.now, origin, 1_000, 0)
    }

    // ------------------------------------------------------------ time

    /// Lets this much time pass.
    pub(crate) fn pass(&mut self, ms: u64) {
        let end = self.now + ms;
        while self.breach.is_none() && self.turn(end) {}
        self.now = end;
    }

    /// Does the next thing that is due until `end`; false when there is none.
    fn turn(&mut self, end: u64) -> bool {
        self.turns += 1;
        if self.turns > TURNS_MAX {
            self.broke("R3", "the world comes to rest", format!("it spins at {} ms", self.now));
            return false;
        }
        let happening = self.queue.keys().next().map(|(at, _)| *at);
        let relay = self.relay.next_deadline().map(|at| at.max(self.now));
        let devices = self
            .devices
            .iter()
            .filter_map(|device| Some((device.next_deadline()?.max(self.now), device.index)));
        let device = devices.min();
        let next = [happening, relay, device.map(|(at, _)| at)].into_iter().flatten().min();
        let Some(next) = next.filter(|next| *next <= end) else { return false };
        self.now = next;
        if happening == Some(next) {
            if let Some((_, happening)) = self.queue.pop_first() {
                self.happen(happening);
            }
        } else if relay == Some(next) {
            self.relay_input(hongyan_relay::core::Input::Tick);
        } else if let Some((_, index)) = device {
            self.device_input(index, client::Input::Tick);
        }
        true
    }

    pub(crate) fn schedule(&mut self, at: u64, happening: Happening) {
        self.order += 1;
        self.queue.insert((at, self.order), happening);
    }

    /// Whether something of that kind is still to happen.
    pub(crate) fn is_due(&self, kind: impl Fn(&Happening) -> bool) -> bool {
        self.queue.values().any(kind)
    }

    pub(crate) fn soon(&mut self, low: u64, high: u64, happening: Happening) {
        let at = self.now + self.chance.between(low, high);
        self.schedule(at, happening);
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Opened(link) => self.opened(link),
            Happening::Up(link, bytes) => self.up(link, bytes),
            Happening::UpClosed(link) => self.up_closed(link),
            Happening::Down(link, bytes) => self.down(link, bytes),
            Happening::DownClosed(link, code) => self.down_closed(link, code),
            Happening::Written(link, bytes) => self.written(link, bytes),
            Happening::RelayLearns(link) => self.relay_learns(link),
            Happening::CommitShown(life) => self.commit_shown(life),
            Happening::CommitSynced(life) => self.commit_synced(life),
            Happening::CommitEnds(life, error) => self.commit_ends(life, error),
            Happening::Token(life, token) => self.life_input(life, client::Input::Token(token)),
            Happening::SaveDurable(life) => self.save_durable(life),
            Happening::SaveEnds(life, error) => self.save_ends(life, error),
            Happening::Load(life, ticket, of, from, to) => {
                let messages = self.devices[life.0].cache().load(&of, from, to);
                self.life_input(life, client::Input::Loaded(ticket, messages));
            }
            Happening::RelayStarts => self.relay_starts(),
            Happening::DeviceStarts(device) => self.device_starts(device),
            Happening::Host(life, event) => self.life_input(life, client::Input::Host(event)),
            Happening::Beacon(link, life, bytes) => self.beacon_comes(link, life, bytes),
            Happening::Takeover(life) if self.devices[life.0].life == life.1 => {
                self.device_ends(life.0, false);
                self.device_starts(life.0);
            }
            Happening::Takeover(_) => {}
            Happening::PresenceDue(user) => self.presence_due(&user),
            Happening::OrderDue(id) => self.order_due(id),
            Happening::Tab(index, tab, happening) => self.tab_happens(index, tab, happening),
        }
    }

    /// Gives an input to a device, if it still is in that life.
    pub(crate) fn life_input(&mut self, life: Life, input: client::Input) {
        if self.devices[life.0].life == life.1 {
            self.device_input(life.0, input);
        }
    }

    /// The socket that a device holds.
    pub(crate) fn link_of(&self, device: usize) -> Option<ConnectionId> {
        let (life, socket): (Life, Generation) =
            ((device, self.devices[device].life), self.devices[device].socket?);
        let found =
            self.links.iter().find(|(_, link)| link.device == Some(life) && link.generation == socket);
        found.map(|(id, _)| *id)
    }

    // ------------------------------------------------------------ faults

    /// Whether a fault of this kind happens now.
    pub(crate) fn fault(&mut self, fault: Fault, percent: u64) -> bool {
        if !self.faulty || self.scenario.without.contains(&fault) {
            return false;
        }
        let happens = self.fault_chances[fault as usize].percent(percent);
        if happens {
            self.coverage.happened(fault);
        }
        happens
    }

    /// A draw that belongs to a kind of fault.
    pub(crate) fn fate(&mut self, fault: Fault) -> &mut Chance {
        &mut self.fault_chances[fault as usize]
    }

    pub(crate) fn mattered(&mut self, fault: Fault) {
        self.coverage.mattered(fault);
    }

    // ------------------------------------------------------------ the report

    /// A promise is broken; the first one counts.
    pub(crate) fn broke(
        &mut self,
        promise: &'static str,
        expected: impl Into<String>,
        happened: impl Into<String>,
    ) {
        if self.breach.is_none() {
            let last = self.trace.iter().flatten().cloned().collect();
            self.breach =
                Some(Breach { promise, expected: expected.into(), happened: happened.into(), last });
        }
    }

    /// A line for the report.
    pub(crate) fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            if trace.len() >= TRACE_LINES {
                trace.pop_front();
            }
            trace.push_back(format!("{:>9} ms  {}", self.now, line()));
        }
    }

    /// What the relay's store holds durably, for an epoch.
    pub(crate) fn with_tables<T>(&self, epoch: &str, look: impl FnOnce(&Tables) -> T) -> Option<T> {
        match self.archive.get(epoch) {
            Some(tables) => Some(look(tables)),
            None if epoch == self.relay.epoch => Some(self.relay.store.look(look)),
            None => None,
        }
    }

    /// The users of the world.
    pub(crate) fn users(&self) -> BTreeSet<UserId> {
        self.devices.iter().map(|device| device.user.clone()).collect()
    }
}
