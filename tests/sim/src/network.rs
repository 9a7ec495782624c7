//! The network: connections that delay, break and go silent.
//!
//! Under a WebSocket lies TCP: within a connection frames keep their order, come whole or never, and never twice, at
//! whichever byte the connection ends. So what a network can do to the cores is this: delay a direction, end a
//! connection with any number of frames under way lost, let a direction go silent without anybody learning it, and
//! let frames of different connections overtake each other. Repeats come from the clients, who send again.

use std::collections::BTreeMap;

use bytes::Bytes;
use hongyan_client as client;
use hongyan_client::Generation;
use hongyan_protocol::Code;
use hongyan_protocol::wire::{RelayFrame, relay_frame};
use hongyan_relay::core as relay;
use hongyan_relay::core::ConnectionId;

use crate::device::Gap;
use crate::faults::Fault;
use crate::presence::Telling;
use crate::world::{Happening, Life, World};

/// One direction of a connection.
#[derive(Default)]
pub(crate) struct Lane {
    /// Nothing arrives before what went before it.
    at: u64,
    /// Frames on the way.
    pub(crate) under_way: u32,
    /// What goes in here is lost, by this fault.
    pub(crate) dead: Option<Fault>,
}

/// A connection.
pub(crate) struct Link {
    /// `None`: a stranger's.
    pub(crate) device: Option<Life>,
    pub(crate) generation: Generation,
    pub(crate) up: Lane,
    pub(crate) down: Lane,
    /// Of this life of the relay, and known to it.
    pub(crate) at_relay: Option<u32>,
    pub(crate) at_device: bool,
    /// The device reads nothing before.
    pub(crate) reads_at: u64,
    /// The reset that is being told, as the device hears it.
    pub(crate) reset: Option<Gap>,
    /// Positions as the relay told them and as the device acknowledged them.
    pub(crate) window: (u64, u64),
    /// The last change of each conversation's messages that the relay told by its log.
    pub(crate) changes: BTreeMap<String, u64>,
    pub(crate) telling: Telling,
}

impl Link {
    /// Frames arrive both ways.
    pub(crate) fn is_alive(&self) -> bool {
        self.up.dead.is_none() && self.down.dead.is_none()
    }
}

impl World {
    pub(crate) fn dial(&mut self, life: Life, generation: Generation) {
        self.connections += 1;
        let id = ConnectionId(self.connections);
        let link = Link {
            device: Some(life),
            generation,
            up: Lane::default(),
            down: Lane::default(),
            at_relay: None,
            at_device: true,
            reads_at: 0,
            reset: None,
            window: (0, 0),
            changes: BTreeMap::new(),
            telling: Telling::default(),
        };
        let half_open = self
            .links
            .values()
            .any(|link| link.at_relay.is_some() && link.device.is_some_and(|other| other.0 == life.0));
        self.links.insert(id, link);
        if self.fault(Fault::DialLost, 4) {
            self.mattered(Fault::DialLost);
            if let Some(link) = self.links.get_mut(&id) {
                (link.up.dead, link.down.dead) = (Some(Fault::DialLost), Some(Fault::DialLost));
            }
            return;
        }
        if !self.relay.is_up() {
            self.coverage.happened(Fault::DialRefused);
            self.mattered(Fault::DialRefused);
            self.soon(1, 30, Happening::DownClosed(id, Code(1006)));
            return;
        }
        if half_open {
            self.mattered(Fault::HalfOpen);
        }
        if let Some(link) = self.links.get_mut(&id) {
            link.at_relay = Some(self.relay.life);
        }
        self.relay_input(relay::Input::Connected(id));
        let latency = self.shape.latency_ms;
        self.soon(1, 1 + latency, Happening::Opened(id));
    }

    /// Mostly quick, sometimes slow, now and then very slow.
    fn delay(&mut self) -> u64 {
        if self.fault(Fault::Slow, 1) {
            self.mattered(Fault::Slow);
            return self.fate(Fault::Slow).between(500, 5_000);
        }
        let latency = self.shape.latency_ms;
        if self.chance.percent(10) {
            self.chance.between(0, latency * 4)
        } else {
            self.chance.between(0, latency)
        }
    }

    pub(crate) fn send_up(&mut self, id: ConnectionId, happening: Happening) {
        let at = self.now + self.delay();
        let Some(link) = self.links.get_mut(&id) else { return };
        link.up.at = link.up.at.max(at);
        link.up.under_way += 1;
        let at = link.up.at;
        self.schedule(at, happening);
    }

    /// A hello gets stuck, and meanwhile another process takes the device over.
    pub(crate) fn hello_is_late(&mut self, life: Life, id: ConnectionId) {
        let now = self.now;
        let is_first = self.links.get(&id).is_some_and(|link| link.up.at == 0);
        if is_first && self.shape.presence.is_some() && self.fault(Fault::HelloLate, 2) {
            let (late, dies) = (
                self.fate(Fault::HelloLate).between(600, 6_000),
                self.fate(Fault::HelloLate).between(0, 300),
            );
            if let Some(link) = self.links.get_mut(&id) {
                link.up.at = now + late;
            }
            self.schedule(now + dies, Happening::Takeover(life));
        }
    }

    pub(crate) fn send_down(&mut self, id: ConnectionId, happening: Happening) {
        let at = self.now + self.delay();
        let Some(link) = self.links.get_mut(&id) else { return };
        link.down.at = link.down.at.max(at).max(link.reads_at);
        link.down.under_way += 1;
        let (at, written) = (link.down.at, link.reads_at.max(self.now));
        let is_dead = link.down.dead.is_some();
        // What the socket takes goes into the system's buffers at once, unless the reader lets them fill.
        if let Happening::Down(_, bytes) = &happening
            && !is_dead
        {
            let written = written + self.chance.between(0, 3);
            self.schedule(written, Happening::Written(id, bytes.len()));
        }
        self.schedule(at, happening);
    }

    pub(crate) fn opened(&mut self, id: ConnectionId) {
        let Some(Link { device: Some(life), generation, at_device: true, down, .. }) = self.links.get(&id)
        else {
            return;
        };
        if down.dead.is_none() {
            let (life, generation) = (*life, *generation);
            self.life_input(life, client::Input::Opened(generation));
        }
    }

    pub(crate) fn up(&mut self, id: ConnectionId, bytes: Bytes) {
        let Some(link) = self.links.get_mut(&id) else { return };
        link.up.under_way -= 1;
        if let Some(fault) = link.up.dead {
            return self.mattered(fault);
        }
        if link.at_relay == Some(self.relay.life) {
            self.presence_hears(id);
            self.watch_up(id, &bytes);
            self.relay_input(relay::Input::Frame(id, bytes));
        }
    }

    pub(crate) fn up_closed(&mut self, id: ConnectionId) {
        let Some(link) = self.links.get_mut(&id) else { return };
        link.up.under_way = link.up.under_way.saturating_sub(1);
        if link.up.dead.is_none() {
            self.relay_learns(id);
        }
    }

    pub(crate) fn relay_learns(&mut self, id: ConnectionId) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let known = link.at_relay.take() == Some(self.relay.life);
        let is_over = !link.at_device;
        if is_over {
            self.links.remove(&id);
        }
        if known {
            self.relay_input(relay::Input::Closed(id));
        }
    }

    pub(crate) fn down(&mut self, id: ConnectionId, bytes: Bytes) {
        let Some(link) = self.links.get_mut(&id) else { return };
        link.down.under_way -= 1;
        if let Some(fault) = link.down.dead {
            return self.mattered(fault);
        }
        let (Some(life), true) = (link.device, link.at_device) else { return };
        let generation = link.generation;
        if self.devices[life.0].life == life.1 && self.devices[life.0].client.is_some() {
            let hears = self.can_hear_ends(life, generation);
            let refused = if hears { refused(&bytes) } else { None };
            self.watch_down(id, life.0, &bytes);
            self.device_input(life.0, client::Input::Frame(generation, bytes));
            if let Some(code) = refused {
                self.ends_heard(life, code);
            }
            if self.devices[life.0].life == life.1 {
                self.app_is_told(life.0);
            }
        }
    }

    /// The device's system learns that the connection is over.
    pub(crate) fn down_closed(&mut self, id: ConnectionId, code: Code) {
        let Some(link) = self.links.get_mut(&id) else { return };
        // A silent direction also keeps the end of the connection to itself.
        if link.down.dead == Some(Fault::SilentDown) && link.at_device {
            return;
        }
        let (life, generation, was_there) = (link.device, link.generation, link.at_device);
        link.at_device = false;
        if link.at_relay.is_none() {
            self.links.remove(&id);
        }
        if let (Some(life), true) = (life, was_there) {
            let hears = self.can_hear_ends(life, generation);
            self.life_input(life, client::Input::Closed { generation, code, reason: String::new() });
            if hears {
                self.ends_heard(life, code);
            }
        }
    }

    pub(crate) fn written(&mut self, id: ConnectionId, bytes: usize) {
        let Some(link) = self.links.get_mut(&id) else { return };
        if link.at_relay == Some(self.relay.life) && link.down.dead.is_none() {
            link.telling.backlog = link.telling.backlog.saturating_sub(bytes);
            self.relay_input(relay::Input::Written(vec![(id, bytes)]));
        }
    }

    /// The device's end of its connection goes: its system tells the relay, or its machine is gone without a word.
    pub(crate) fn device_end_goes(&mut self, device: usize, tells: bool) {
        let Some(id) = self.link_of(device) else { return };
        if let Some(link) = self.links.get_mut(&id) {
            link.at_device = false;
        }
        if tells {
            self.send_up(id, Happening::UpClosed(id));
        }
    }

    /// Ends a connection with what is under way; each side learns of it, or has to find out.
    pub(crate) fn cut(&mut self, device: usize) {
        let Some(id) = self.link_of(device) else { return };
        let mut chance = self.fate(Fault::Cut).clone();
        let (relay_learns, device_learns) = (chance.percent(75), chance.percent(75));
        *self.fate(Fault::Cut) = chance;
        if let Some(link) = self.links.get_mut(&id) {
            (link.up.dead, link.down.dead) = (Some(Fault::Cut), Some(Fault::Cut));
        }
        self.note(|| format!("the connection {} of device {device} is cut", id.0));
        if relay_learns {
            self.soon(0, 300, Happening::RelayLearns(id));
        }
        if device_learns {
            self.soon(0, 300, Happening::DownClosed(id, Code(1006)));
        }
    }

    /// One direction goes silent.
    pub(crate) fn silence(&mut self, device: usize, fault: Fault) {
        let Some(id) = self.link_of(device) else { return };
        self.note(|| format!("the connection {} of device {device}: {}", id.0, fault.name()));
        if let Some(link) = self.links.get_mut(&id) {
            let lane = if fault == Fault::SilentUp { &mut link.up } else { &mut link.down };
            lane.dead.get_or_insert(fault);
        }
    }
}

/// The code that a frame refuses something with.
fn refused(bytes: &Bytes) -> Option<Code> {
    match RelayFrame::from_bytes(bytes.clone()).ok()?.event? {
        relay_frame::Event::Reject(reject) => u16::try_from(reject.code).ok().map(Code),
        _ => None,
    }
}
