//! What people do about presence: they watch each other, type, look away and back, reload, leave, and hide.

use hongyan_client::{Command, HostEvent};
use hongyan_protocol::UserId;
use hongyan_protocol::wire::DeviceKind;
use hongyan_relay::core::CoreConfig;
use hongyan_relay::core::io::WatchPolicy;

use crate::chance::Chance;
use crate::device::Asked;
use crate::faults::Fault;
use crate::world::{Happening, USERS, World};

/// What is decided of presence before anything happens.
#[derive(Clone, Copy)]
pub(crate) struct PresenceShape {
    lost_hold_ms: u64,
    background_lease_ms: u64,
    recovery_ms: u64,
    silence_ms: u64,
    watch: WatchPolicy,
    /// Alice's second device is another tab of her first.
    pub(crate) has_tabs: bool,
    /// A step brings something of presence so many times in a hundred.
    often: u64,
}

impl PresenceShape {
    /// Most worlds have some.
    pub(crate) fn of(seed: u64) -> Option<Self> {
        let mut chance = Chance::new(seed, 3);
        chance.percent(75).then(|| Self {
            lost_hold_ms: *chance.pick(&[300, 700, 2_000]),
            background_lease_ms: *chance.pick(&[2_000, 8_000]),
            recovery_ms: *chance.pick(&[2_000, 6_000, 20_000]),
            silence_ms: *chance.pick(&[5_000, 15_000]),
            watch: chance.weighted(&[
                (17, WatchPolicy::Members),
                (2, WatchPolicy::Everyone),
                (1, WatchPolicy::Nobody),
            ]),
            has_tabs: chance.percent(40),
            often: *chance.pick(&[15, 40, 70]),
        })
    }

    pub(crate) fn configure(&self, config: &mut CoreConfig) {
        config.lost_hold_ms = self.lost_hold_ms;
        config.background_lease_ms = self.background_lease_ms;
        config.recovery_ms = self.recovery_ms;
        config.silence_ms = self.silence_ms;
        config.ping_interval_ms = self.silence_ms / 2 - 400;
        config.watch = self.watch;
    }
}

/// The kind of the device that is added as number `index`.
pub(crate) fn kind(seed: u64, index: usize) -> DeviceKind {
    Chance::new(seed, 1_000 + index as u64).weighted(&[
        (11, DeviceKind::Web),
        (3, DeviceKind::Android),
        (4, DeviceKind::Miniprogram),
        (2, DeviceKind::Official),
    ])
}

#[derive(Clone, Copy)]
enum Doing {
    Watch,
    Type,
    Look,
    Reload,
    Leave,
    GoBack,
    Background,
    Hide,
}

const DOINGS: &[(u64, Doing)] = &[
    (10, Doing::Watch),
    (16, Doing::Type),
    (18, Doing::Look),
    (18, Doing::Reload),
    (8, Doing::Leave),
    (8, Doing::GoBack),
    (10, Doing::Background),
    (6, Doing::Hide),
];

impl World {
    /// What a step brings of presence.
    pub(crate) fn presence_step(&mut self, step: u32) {
        let Some(shape) = self.shape.presence else { return };
        let mut chance = Chance::new(self.scenario.seed, 1_000_000 + u64::from(step));
        if !chance.percent(shape.often) {
            return;
        }
        let index = chance.index(self.devices.len());
        if self.devices[index].client.is_none() {
            return;
        }
        match chance.weighted(DOINGS) {
            Doing::Watch => self.watches_others(index, &mut chance),
            Doing::Type => self.types_somewhere(index, &mut chance),
            Doing::Look => {
                let visible = !self.devices[index].app.visible;
                self.host(index, HostEvent::Visible(visible));
            }
            Doing::Reload => self.reloads(index, &mut chance),
            Doing::Leave => {
                self.leaves(index, chance.percent(20), 500, &mut chance);
                self.pass(chance.between(0, 60));
                self.device_ends(index, true);
                self.schedule(self.now + chance.between(3_000, 45_000), Happening::DeviceStarts(index));
            }
            Doing::GoBack => self.goes_back(index, &mut chance),
            Doing::Background => self.goes_to_background(index, &mut chance),
            Doing::Hide => {
                let invisible = chance.percent(55);
                self.note(|| format!("device {index} asks to be invisible: {invisible}"));
                self.ask(index, Command::SetInvisible(invisible), Asked::Other);
            }
        }
    }

    fn watches_others(&mut self, index: usize, chance: &mut Chance) {
        let by = chance.index(super::seen::ASKERS);
        let most = chance.below(100);
        let names = USERS.iter().map(|(user, _)| *user).chain([super::told::NOBODY]);
        let users: Vec<_> = names.filter(|_| chance.percent(most)).collect();
        let users = users.into_iter().filter_map(|user| UserId::new(user).ok()).collect();
        self.app_watches(index, by, users);
    }

    fn types_somewhere(&mut self, index: usize, chance: &mut Chance) {
        let conversation = self.conversation(index, chance);
        let user = self.devices[index].user.clone();
        self.types(&user, &conversation);
        self.ask(index, Command::Typing(conversation), Asked::Other);
    }

    /// Says goodbye; now and then it gets lost on the socket.
    fn leaves(&mut self, index: usize, returns: bool, returns_in: u32, chance: &mut Chance) {
        if self.fault(Fault::GoodbyeLost, 15)
            && let Some(id) = self.link_of(index)
        {
            if let Some(link) = self.links.get_mut(&id) {
                link.up.dead.get_or_insert(Fault::GoodbyeLost);
            }
            if chance.percent(60) {
                let at = self.now + chance.between(0, 400);
                self.schedule(at, Happening::RelayLearns(id));
            }
        }
        self.note(|| format!("device {index} leaves, back in {returns_in} ms, for certain: {returns}"));
        self.host(index, HostEvent::Leave { returns_in_ms: returns_in, returns });
    }

    fn reloads(&mut self, index: usize, chance: &mut Chance) {
        let returns_in = u32::try_from(chance.between(500, 4_000)).unwrap_or(500);
        let returns = chance.percent(35);
        self.leaves(index, returns, returns_in, chance);
        self.pass(chance.between(0, 60));
        self.device_ends(index, true);
        let returns_in = u64::from(returns_in);
        let back = if chance.percent(75) {
            chance.between(50, returns_in * 4 / 5)
        } else {
            chance.between(returns_in, returns_in + 8_000)
        };
        self.schedule(self.now + back, Happening::DeviceStarts(index));
    }

    /// The page is kept for going back to, and wakes.
    fn goes_back(&mut self, index: usize, chance: &mut Chance) {
        let returns_in = u32::try_from(chance.between(500, 1_500)).unwrap_or(500);
        self.leaves(index, false, returns_in, chance);
        let life = (index, self.devices[index].life);
        self.schedule(self.now + chance.between(20, 12_000), Happening::Host(life, HostEvent::Wake));
        self.mattered(Fault::BackForward);
    }

    /// A mini-program is hidden, and its host takes its connection and then its life away.
    fn goes_to_background(&mut self, index: usize, chance: &mut Chance) {
        let minis = self.devices.iter().filter(|device| device.kind == DeviceKind::Miniprogram);
        let minis: Vec<_> = minis.map(|device| device.index).collect();
        let index = if minis.is_empty() { index } else { *chance.pick(&minis) };
        if self.devices[index].client.is_none() {
            return;
        }
        self.host(index, HostEvent::Visible(false));
        self.pass(chance.between(0, 300));
        self.device_ends(index, chance.percent(80));
        self.schedule(self.now + chance.between(100, 25_000), Happening::DeviceStarts(index));
    }
}
