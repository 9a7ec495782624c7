//! The world: one clock, one seed, one relay, some devices, and a network between them.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use hongyan_client as client;
use hongyan_client::{Answer, Command, Generation, HostEvent, RequestId};
use hongyan_protocol::wire::Content;
use hongyan_protocol::{Code, ConversationId, Seq, Time, UserId};
use hongyan_relay::core as relay;
use hongyan_relay::core::io::{Identity, Verifier};
use hongyan_relay::core::{ConnectionId, CoreConfig, Relay};
use hongyan_relay::store::{Batch, MemoryStore, Store as _};
use hongyan_tests::CacheStore as _;

use super::chance::Chance;
use super::device::{Asked, Device};

/// The machine's clock when the world begins.
const EPOCH_MS: u64 = 1_790_000_000_000;
/// More steps than that are a world that spins.
const STEPS_MAX: u64 = 3_000_000;

/// A token is `user@end`.
struct OpenVerifier;

impl Verifier for OpenVerifier {
    fn verify(&self, token: &str) -> Result<Identity, String> {
        let (user, expires) = token.split_once('@').ok_or("The token has no end.")?;
        let user = UserId::new(user).map_err(|error| error.to_string())?;
        Ok(Identity { user, expires: Time(expires.parse().map_err(|_| "The token's end is no number.")?) })
    }
}

/// A device in one of its lives.
type Life = (usize, u32);

enum Happening {
    Dial(Life, Generation),
    Opened(ConnectionId),
    Up(ConnectionId, Bytes),
    UpClosed(ConnectionId),
    Down(ConnectionId, Bytes),
    DownClosed(ConnectionId, Code),
    Written(ConnectionId, usize),
    /// The relay's commit ends, in this life of the relay.
    Committed(u32),
    Token(Life),
    Saved(Life),
    Load(Life, client::Ticket, ConversationId, Seq, Seq),
    RelayStarts,
    DeviceStarts(usize),
    Network(Life, bool),
}

struct Link {
    device: Life,
    generation: Generation,
    /// Frames that are under way get lost, and so does everything after them.
    broken: bool,
    /// Both directions keep their order: nothing arrives before what went before it.
    up_at: u64,
    down_at: u64,
}

pub(crate) struct World {
    pub(crate) chance: Chance,
    pub(crate) now: u64,
    queue: BTreeMap<(u64, u64), Happening>,
    order: u64,
    steps: u64,
    relay: Option<Relay<MemoryStore, OpenVerifier>>,
    relay_life: u32,
    /// What is durable: all that a restart finds.
    store: MemoryStore,
    committing: Option<(relay::Ticket, Batch)>,
    links: BTreeMap<ConnectionId, Link>,
    connections: u64,
    pub(crate) devices: Vec<Device>,
    pub(crate) groups: Vec<ConversationId>,
    /// What went wrong on purpose.
    pub(crate) faults: u64,
}

impl World {
    pub(crate) fn new(seed: u64, users: &[&str]) -> Self {
        let mut world = Self {
            chance: Chance::new(seed),
            now: 1,
            queue: BTreeMap::new(),
            order: 0,
            steps: 0,
            relay: None,
            relay_life: 0,
            store: MemoryStore::new(),
            committing: None,
            links: BTreeMap::new(),
            connections: 0,
            devices: Vec::new(),
            groups: Vec::new(),
            faults: 0,
        };
        world.relay_starts();
        for user in users {
            world.add_device(user);
        }
        world
    }

    /// A new device, at cursor 0.
    pub(crate) fn add_device(&mut self, user: &str) -> usize {
        self.devices.push(Device::new(UserId::new(user).unwrap()));
        let device = self.devices.len() - 1;
        self.device_starts(device);
        device
    }

    // ------------------------------------------------------------ time

    /// Lets this much time pass.
    pub(crate) fn pass(&mut self, ms: u64) {
        let end = self.now + ms;
        while self.step(end) {}
        self.now = end;
    }

    /// Does the next thing that is due until `end`; false when there is none.
    fn step(&mut self, end: u64) -> bool {
        self.steps += 1;
        assert!(self.steps < STEPS_MAX, "the world spins at {} ms", self.now);
        let happening = self.queue.keys().next().map(|(at, _)| *at);
        let relay = self.relay.as_ref().and_then(Relay::next_deadline).map(|at| at.0.max(self.now));
        let devices = self.devices.iter().enumerate().filter_map(|(index, device)| {
            let at = device.client.as_ref()?.next_deadline()?;
            Some((at.0.max(self.now), index))
        });
        let device = devices.min();
        let next = [happening, relay, device.map(|(at, _)| at)].into_iter().flatten().min();
        let Some(next) = next.filter(|next| *next <= end) else { return false };
        self.now = next;
        if happening == Some(next) {
            if let Some((_, happening)) = self.queue.pop_first() {
                self.happen(happening);
            }
        } else if relay == Some(next) {
            self.relay_input(relay::Input::Tick);
        } else if let Some((_, index)) = device {
            self.device_input(index, client::Input::Tick);
        }
        true
    }

    fn schedule(&mut self, at: u64, happening: Happening) {
        self.order += 1;
        self.queue.insert((at, self.order), happening);
    }

    fn soon(&mut self, low: u64, high: u64, happening: Happening) {
        let at = self.now + self.chance.between(low, high);
        self.schedule(at, happening);
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Dial(life, generation) => self.dial(life, generation),
            Happening::Opened(link) => self.reach_device(link, client::Input::Opened),
            Happening::Down(link, bytes) => {
                self.reach_device(link, |generation| client::Input::Frame(generation, bytes));
            }
            Happening::DownClosed(link, code) => self.reach_device(link, |generation| {
                client::Input::Closed { generation, code, reason: String::new() }
            }),
            Happening::Up(link, bytes) => self.reach_relay(link, relay::Input::Frame(link, bytes)),
            Happening::UpClosed(link) => {
                self.links.remove(&link);
                self.relay_input(relay::Input::Closed(link));
            }
            Happening::Written(link, bytes) => self.reach_relay(link, relay::Input::Written(link, bytes)),
            Happening::Committed(life) if life == self.relay_life => {
                if let Some((ticket, batch)) = self.committing.take() {
                    let result = self.store.commit(&batch);
                    self.relay_input(relay::Input::Committed(ticket, result));
                }
            }
            Happening::Committed(_) => {}
            Happening::Token(life) => {
                let ends = EPOCH_MS + self.now + self.chance.between(8_000, 120_000);
                let token = format!("{}@{ends}", self.devices[life.0].user);
                self.life_input(life, client::Input::Token(Ok(token)));
            }
            Happening::Saved(life) => self.saved(life),
            Happening::Load(life, ticket, of, from, to) => {
                let messages = self.devices[life.0].cache.load(&of, from, to);
                self.life_input(life, client::Input::Loaded(ticket, messages));
            }
            Happening::RelayStarts => self.relay_starts(),
            Happening::DeviceStarts(device) => self.device_starts(device),
            Happening::Network(life, up) => {
                self.life_input(life, client::Input::Host(HostEvent::Network(up)));
            }
        }
    }

    // ------------------------------------------------------------ network

    fn dial(&mut self, life: Life, generation: Generation) {
        if self.devices[life.0].life != life.1 || self.devices[life.0].client.is_none() {
            return;
        }
        self.connections += 1;
        let link = ConnectionId(self.connections);
        let (up_at, down_at) = (self.now, self.now);
        self.links.insert(link, Link { device: life, generation, broken: false, up_at, down_at });
        if self.relay.is_none() {
            self.soon(1, 30, Happening::DownClosed(link, Code(1006)));
        } else if self.chance.percent(95) {
            self.relay_input(relay::Input::Connected(link));
            self.soon(1, 30, Happening::Opened(link));
        }
        // Otherwise nobody answers, and nobody says so.
    }

    /// Mostly quick, sometimes very slow, always in order.
    fn delay(&mut self) -> u64 {
        match self.chance.below(40) {
            0 => self.chance.between(500, 4_000),
            1..10 => self.chance.between(20, 200),
            _ => self.chance.between(0, 10),
        }
    }

    fn send_up(&mut self, link: ConnectionId, happening: Happening) {
        let at = self.now + self.delay();
        if let Some(state) = self.links.get_mut(&link) {
            state.up_at = state.up_at.max(at);
            let at = state.up_at;
            self.schedule(at, happening);
        }
    }

    fn send_down(&mut self, link: ConnectionId, happening: Happening) {
        let at = self.now + self.delay();
        if let Some(state) = self.links.get_mut(&link) {
            state.down_at = state.down_at.max(at);
            let at = state.down_at;
            self.schedule(at, happening);
        }
    }

    fn reach_device(&mut self, link: ConnectionId, input: impl FnOnce(Generation) -> client::Input) {
        let Some(state) = self.links.get(&link) else { return };
        let input = input(state.generation);
        // A socket's end is known to the device's own system even when the network is gone.
        if !state.broken || matches!(input, client::Input::Closed { .. }) {
            self.life_input(state.device, input);
        }
    }

    fn reach_relay(&mut self, link: ConnectionId, input: relay::Input) {
        if self.links.get(&link).is_some_and(|state| !state.broken) {
            self.relay_input(input);
        }
    }

    /// The link of a device's open socket.
    fn link_of(&self, device: usize) -> Option<ConnectionId> {
        let (life, socket) = (self.devices[device].life, self.devices[device].socket?);
        let found =
            self.links.iter().find(|(_, link)| link.device == (device, life) && link.generation == socket);
        found.map(|(id, _)| *id)
    }

    /// A device's connection breaks; either side may learn so, or have to find out.
    pub(crate) fn break_link(&mut self, device: usize) {
        let Some(link) = self.link_of(device) else { return };
        self.faults += 1;
        if let Some(state) = self.links.get_mut(&link) {
            state.broken = true;
        }
        if self.chance.percent(60) {
            self.soon(0, 500, Happening::DownClosed(link, Code(1006)));
        }
        if self.chance.percent(60) {
            self.soon(0, 500, Happening::UpClosed(link));
        }
    }

    // ------------------------------------------------------------ relay

    fn relay_starts(&mut self) {
        if self.relay.is_some() {
            return;
        }
        self.relay_life += 1;
        // Small bounds, so that every one of them is reached.
        let config = CoreConfig {
            sends_per_second: 20,
            sends_burst: 20,
            outgoing_bytes_target: 2 * 1024,
            ..CoreConfig::default()
        };
        let seed = self.chance.seed();
        let opened = Relay::open(config, self.store.clone(), OpenVerifier, seed);
        self.relay = Some(opened.expect("what is durable can be opened"));
    }

    /// The relay's process ends at once. Of its last commit nobody knows.
    pub(crate) fn crash_relay(&mut self) {
        if self.relay.take().is_none() {
            return;
        }
        self.faults += 1;
        if let Some((_, batch)) = self.committing.take()
            && self.chance.percent(50)
        {
            self.store.commit(&batch).unwrap();
        }
        let links: Vec<_> = self.links.keys().copied().collect();
        for link in links {
            if let Some(state) = self.links.get_mut(&link) {
                state.broken = true;
            }
            if self.chance.percent(80) {
                self.soon(0, 200, Happening::DownClosed(link, Code(1006)));
            }
        }
        self.soon(100, 8_000, Happening::RelayStarts);
    }

    /// The relay is gone, at a moment when nothing is under way, until [`World::heal`].
    pub(crate) fn stop_relay(&mut self) {
        if self.relay.take().is_none() {
            return;
        }
        assert!(self.committing.is_none(), "something is under way");
        for link in std::mem::take(&mut self.links).into_values() {
            let closed = client::Input::Closed {
                generation: link.generation,
                code: Code(1006),
                reason: String::new(),
            };
            self.life_input(link.device, closed);
        }
    }

    /// The relay stops in good order; it comes back when it has drained.
    pub(crate) fn drain_relay(&mut self) {
        self.relay_input(relay::Input::Drain { spread_ms: 2_000 });
    }

    fn relay_input(&mut self, input: relay::Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let now = relay::Now { moment: relay::Moment(self.now), time: Time(EPOCH_MS + self.now) };
            let Some(core) = &mut self.relay else { return };
            core.handle(now, input);
            let outputs: Vec<_> = std::iter::from_fn(|| core.poll()).collect();
            if let Some(fault) = core.take_fault() {
                panic!("the store failed a read: {fault}");
            }
            let mut drained = false;
            for output in outputs {
                match output {
                    relay::Output::Transmit(link, bytes) => {
                        self.soon(0, 20, Happening::Written(link, bytes.len()));
                        self.send_down(link, Happening::Down(link, bytes));
                    }
                    relay::Output::Close(link, code) => {
                        self.send_down(link, Happening::DownClosed(link, code));
                        inputs.push_back(relay::Input::Closed(link));
                    }
                    relay::Output::Commit(ticket, batch) => {
                        assert!(self.committing.replace((ticket, batch)).is_none(), "one commit at a time");
                        let life = self.relay_life;
                        self.soon(1, 40, Happening::Committed(life));
                    }
                    relay::Output::Drained => drained = true,
                    relay::Output::Failed(sentence) => panic!("the relay failed: {sentence}"),
                }
            }
            if drained {
                self.relay = None;
                self.soon(100, 3_000, Happening::RelayStarts);
                return;
            }
        }
    }

    // ------------------------------------------------------------ devices

    fn device_starts(&mut self, device: usize) {
        if self.devices[device].client.is_some() {
            return;
        }
        let seed = self.chance.seed();
        self.devices[device].start(seed);
        let restored = self.devices[device].cache.restore();
        self.device_input(device, client::Input::Restored(restored));
    }

    /// A device's process ends at once, and comes back. Of its last transaction nobody knows.
    pub(crate) fn crash_device(&mut self, device: usize) {
        if self.devices[device].client.is_none() {
            return;
        }
        self.faults += 1;
        let link = self.link_of(device);
        let keep = self.chance.percent(50);
        self.devices[device].crash(keep);
        if let Some(link) = link {
            if let Some(state) = self.links.get_mut(&link) {
                state.broken = true;
            }
            if self.chance.percent(60) {
                self.soon(0, 300, Happening::UpClosed(link));
            }
        }
        self.soon(10, 6_000, Happening::DeviceStarts(device));
    }

    /// A device is closed in good order, as far as its cache is concerned, and started again.
    pub(crate) fn restart_device(&mut self, device: usize) {
        self.pass(1_000);
        assert!(self.devices[device].saving.is_none(), "something is under way");
        self.devices[device].crash(true);
        self.device_starts(device);
    }

    /// The device's system says that there is no network, and later that there is one.
    pub(crate) fn flicker(&mut self, device: usize) {
        let life = (device, self.devices[device].life);
        self.break_link(device);
        self.soon(0, 50, Happening::Network(life, false));
        self.soon(100, 5_000, Happening::Network(life, true));
    }

    fn saved(&mut self, life: Life) {
        let device = &mut self.devices[life.0];
        if device.life == life.1
            && device.client.is_some()
            && let Some((ticket, writes)) = device.saving.take()
        {
            device.cache.save(&writes).unwrap();
            device.saves.1 += 1;
            self.device_input(life.0, client::Input::Saved(ticket));
        }
    }

    fn life_input(&mut self, life: Life, input: client::Input) {
        if self.devices[life.0].life == life.1 {
            self.device_input(life.0, input);
        }
    }

    fn device_input(&mut self, index: usize, input: client::Input) {
        let now = client::Now { moment: client::Moment(self.now), time: Time(EPOCH_MS + self.now) };
        let Some(core) = &mut self.devices[index].client else { return };
        core.handle(now, input);
        let outputs: Vec<_> = std::iter::from_fn(|| core.poll()).collect();
        let life = (index, self.devices[index].life);
        for output in outputs {
            self.device_output(life, output);
        }
    }

    fn device_output(&mut self, life: Life, output: client::Output) {
        let device = &mut self.devices[life.0];
        match output {
            client::Output::NeedToken => self.soon(1, 100, Happening::Token(life)),
            client::Output::Dial(generation) => {
                device.socket = Some(generation);
                self.soon(1, 60, Happening::Dial(life, generation));
            }
            client::Output::Transmit(generation, bytes) => {
                assert_eq!(device.socket, Some(generation), "a frame for a socket that is not open");
                device.check_cursor(&bytes);
                if let Some(link) = self.link_of(life.0) {
                    self.send_up(link, Happening::Up(link, bytes));
                }
            }
            client::Output::Hangup { generation, .. } => {
                assert_eq!(device.socket, Some(generation), "a socket is hung up once");
                if let Some(link) = self.link_of(life.0) {
                    self.send_up(link, Happening::UpClosed(link));
                }
                self.devices[life.0].socket = None;
            }
            client::Output::Save(ticket, writes) => {
                assert!(device.saving.replace((ticket, writes)).is_none(), "one transaction at a time");
                device.saves.0 += 1;
                let slowest = if self.chance.percent(15) { 400 } else { 15 };
                self.soon(0, slowest, Happening::Saved(life));
            }
            client::Output::Load { ticket, conversation, from, to } => {
                self.soon(0, 10, Happening::Load(life, ticket, conversation, from, to));
            }
            client::Output::Event(event) => device.event(event),
            client::Output::Reply(request, answer) => self.answered(life.0, request, answer),
        }
    }

    fn answered(&mut self, device: usize, request: RequestId, answer: Result<Answer, client::ChatError>) {
        let device = &mut self.devices[device];
        match (device.asked.remove(&request), &answer) {
            (Some(Asked::Send(text, _)), Ok(Answer::Sent(message))) => {
                let seq = message.seq.expect("a sent message has a seq");
                device.sent.push((message.conversation.clone(), seq, text));
            }
            (Some(Asked::Send(text, _)), Err(_)) => device.refused.push(text),
            (Some(Asked::CreateGroup), Ok(Answer::Group(id))) => self.groups.push(id.clone()),
            (Some(_), _) => {}
            (None, _) => panic!("an answer to nothing, or the second one"),
        }
        device.answers.insert(request, answer);
    }

    // ------------------------------------------------------------ applications

    /// An application sends a text.
    pub(crate) fn write(&mut self, device: usize, conversation: ConversationId, text: String) {
        let content = Content { text: text.clone(), ..Content::default() };
        let command = Command::Send {
            conversation: conversation.clone(),
            key: None,
            content,
            reply_to: None,
            mentions: Vec::new(),
        };
        // What is asked now is in the next transaction that begins, at the latest.
        let next = self.devices[device].saves.0 + 1;
        if self.ask(device, command, Asked::Send(text.clone(), next)).is_some() {
            self.devices[device].wrote.push((conversation, text));
        }
    }

    /// An application asks; `None` when its device is down.
    pub(crate) fn ask(&mut self, device: usize, command: Command, asked: Asked) -> Option<RequestId> {
        let state = &mut self.devices[device];
        state.client.as_ref()?;
        state.requests += 1;
        let request = RequestId(state.requests);
        state.asked.insert(request, asked);
        self.device_input(device, client::Input::Command(request, command));
        Some(request)
    }

    /// Asks and waits for the answer.
    pub(crate) fn call(&mut self, device: usize, command: Command) -> Result<Answer, client::ChatError> {
        let request = self.ask(device, command, Asked::Other).expect("the device is up");
        for _ in 0..3_000 {
            if let Some(answer) = self.devices[device].answers.remove(&request) {
                return answer;
            }
            self.pass(10);
        }
        panic!("{} has no answer after 30 s", self.devices[device].user);
    }

    /// Everything is up, and everybody may reach everybody.
    pub(crate) fn heal(&mut self) {
        self.relay_starts();
        for device in 0..self.devices.len() {
            self.device_starts(device);
            let life = (device, self.devices[device].life);
            self.life_input(life, client::Input::Host(HostEvent::Network(true)));
        }
    }
}
