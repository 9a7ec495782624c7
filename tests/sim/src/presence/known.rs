//! What the relay can know of who is there: a model of a few lines, made of what reached the relay and of DESIGN.md's
//! rules. Its times are moments of the relay's clock.

use std::collections::{BTreeMap, BTreeSet};

use hongyan_client::view::PresenceStatus as Status;
use hongyan_protocol::Code;
use hongyan_protocol::limits::RETURN_MS;
use hongyan_protocol::wire::{self, DeviceKind, PresenceCause as Cause};
use hongyan_relay::core::{ConnectionId, CoreConfig};

use crate::faults::Fault;

/// What may be shown of a user: one status, or one of two.
pub(crate) type Allowed = [Status; 2];

/// A status off the wire.
pub(super) fn status(status: wire::PresenceStatus) -> Status {
    match status {
        wire::PresenceStatus::Online => Status::Online,
        wire::PresenceStatus::Away => Status::Away,
        wire::PresenceStatus::Leaving => Status::Leaving,
        wire::PresenceStatus::Offline => Status::Offline,
        wire::PresenceStatus::Unknown | wire::PresenceStatus::Unspecified => Status::Unknown,
    }
}

/// What a hello said.
#[derive(Clone)]
pub(crate) struct Greeting {
    pub(crate) user: String,
    pub(crate) device: String,
    pub(crate) tab: String,
    pub(crate) kind: DeviceKind,
    /// Term and dial.
    pub(crate) order: (u64, u64),
    pub(crate) away: bool,
}

/// What holds a lease.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Held {
    Open,
    /// Its socket ended: shown as before until then.
    Lost(u64),
    /// It said that it certainly comes back: shown as before until then.
    Returning(u64),
    Leaving(u64),
    /// A mini-program without its socket, until its time in the background ends.
    Background,
}

struct Lease {
    connection: ConnectionId,
    by: Greeting,
    /// Until when a mini-program may be in the background; any other is away for as long as it is.
    away: Option<u64>,
    held: Held,
}

impl Lease {
    fn is_of(&self, by: &Greeting) -> bool {
        self.by.user == by.user && self.by.device == by.device
    }

    fn until(&self) -> Option<u64> {
        match self.held {
            Held::Open => None,
            Held::Lost(until) | Held::Returning(until) | Held::Leaving(until) => Some(until),
            Held::Background => self.away,
        }
    }

    fn status(&self) -> Status {
        match (self.by.kind, self.held) {
            (DeviceKind::Official, _) => Status::Unknown,
            (_, Held::Leaving(_)) => Status::Leaving,
            _ if self.away.is_some() => Status::Away,
            _ => Status::Online,
        }
    }
}

/// What is shown of a user now, and was before the last input.
#[derive(Clone, Copy)]
pub(crate) struct Shown {
    pub(crate) others: Allowed,
    pub(crate) own: Allowed,
    before_others: Allowed,
    before_own: Allowed,
}

impl Shown {
    /// What may be told within the input that made it so.
    pub(crate) fn may_be_told(&self, own: bool, status: Status) -> bool {
        let (now, before) = if own { (self.own, self.before_own) } else { (self.others, self.before_others) };
        now.contains(&status) || before.contains(&status)
    }

    pub(crate) fn now(&self, own: bool) -> Allowed {
        if own { self.own } else { self.others }
    }
}

/// The model.
#[derive(Default)]
pub(crate) struct Known {
    lost_hold_ms: u64,
    background_ms: u64,
    recovery_ms: u64,
    leases: Vec<Lease>,
    /// Devices, with their users, of which nobody can know that they are gone.
    without_channel: BTreeSet<(String, String)>,
    /// Devices that were there when the relay ended.
    awaited: BTreeSet<(String, String)>,
    recovers_until: Option<u64>,
    has_begun: bool,
    /// Users who are shown to nobody.
    pub(crate) invisible: BTreeSet<String>,
    /// Devices that log out, the connections that they have, and how many commits end until it is done.
    logouts: Vec<(Greeting, Vec<ConnectionId>, u32)>,
    /// Users who asked to be shown or hidden, and how many commits end until they are: some see it before.
    hiding: Vec<(String, u32)>,
    /// Users of whom the relay has ended a device's session within the present input.
    pub(crate) kicked: BTreeSet<String>,
    /// Users with a device whose own logout became durable within it: which end was the last nobody knows here.
    pub(crate) logged_out: BTreeSet<String>,
    /// The relay stops, and tells nothing any more.
    pub(crate) stops: bool,
    pub(crate) shown: BTreeMap<String, Shown>,
    dirty: bool,
}

impl Known {
    /// A relay has started over a store with these devices: user, id, kind, and how it ended (0: it has not).
    pub(crate) fn starts(
        config: &CoreConfig,
        devices: impl Iterator<Item = (String, String, i32, i32)>,
    ) -> Self {
        let mut known = Self {
            lost_hold_ms: config.lost_hold_ms,
            background_ms: config.background_lease_ms,
            recovery_ms: config.recovery_ms,
            dirty: true,
            ..Self::default()
        };
        for (user, device, kind, ended) in devices {
            let is_gone = [Cause::Logout, Cause::Kicked].map(i32::from).contains(&ended);
            if [DeviceKind::Miniprogram, DeviceKind::Official].map(i32::from).contains(&kind) && !is_gone {
                known.without_channel.insert((user.clone(), device.clone()));
            }
            if ended == 0 {
                known.awaited.insert((user, device));
            }
        }
        known
    }

    /// Time begins with the first input.
    pub(crate) fn begins(&mut self, now: u64) {
        if !std::mem::replace(&mut self.has_begun, true) {
            self.recovers_until = Some(now + self.recovery_ms);
        }
    }

    /// A newer connection of the same tab holds the lease.
    pub(crate) fn is_late(&self, by: &Greeting) -> bool {
        let holder = |lease: &&Lease| lease.is_of(by) && lease.by.tab == by.tab && lease.held == Held::Open;
        by.order != (0, 0) && self.leases.iter().find(holder).is_some_and(|lease| by.order <= lease.by.order)
    }

    /// A hello was taken; what it was for the device.
    pub(crate) fn greets(&mut self, connection: ConnectionId, by: Greeting, now: u64) -> Option<Fault> {
        self.dirty = true;
        let mut was = None;
        self.leases.retain(|lease| {
            let stays = !lease.is_of(&by) || (!by.tab.is_empty() && lease.by.tab != by.tab);
            if !stays {
                was = Some(lease.held);
            }
            stays
        });
        let device = (by.user.clone(), by.device.clone());
        let was_awaited = self.awaited.remove(&device);
        if matches!(by.kind, DeviceKind::Miniprogram | DeviceKind::Official) {
            self.without_channel.insert(device);
        }
        let away = by.away.then_some(now + self.background_ms);
        self.leases.push(Lease { connection, by, away, held: Held::Open });
        match was {
            Some(Held::Open) => Some(Fault::Takeover),
            Some(Held::Lost(_)) => Some(Fault::QuickReconnect),
            Some(Held::Returning(_) | Held::Leaving(_)) => Some(Fault::Reload),
            Some(Held::Background) => None,
            None if was_awaited && self.recovers_until.is_some() => Some(Fault::Recovered),
            None => None,
        }
    }

    fn of(&mut self, connection: ConnectionId) -> Option<&mut Lease> {
        let stops = self.stops;
        self.leases.iter_mut().find(|lease| lease.connection == connection).filter(|_| !stops)
    }

    /// It holds a lease, or did last.
    pub(crate) fn knew(&self, connection: ConnectionId) -> bool {
        self.leases.iter().any(|lease| lease.connection == connection)
    }

    /// Its device logs out.
    pub(crate) fn logs_out_now(&self, connection: ConnectionId) -> bool {
        self.logouts.iter().any(|(_, connections, _)| connections.contains(&connection))
    }

    /// A goodbye came; false when there is no lease, or it has said so before.
    pub(crate) fn says_goodbye(
        &mut self,
        connection: ConnectionId,
        returns_in: u32,
        returns: bool,
        now: u64,
    ) -> bool {
        let Some(lease) = self.of(connection) else { return false };
        if matches!(lease.held, Held::Returning(_) | Held::Leaving(_)) {
            return false;
        }
        let until = now + u64::from(returns_in.clamp(*RETURN_MS.start(), *RETURN_MS.end()));
        lease.held = if returns { Held::Returning(until) } else { Held::Leaving(until) };
        if returns_in == 0 {
            self.leases.retain(|lease| lease.connection != connection);
        }
        self.dirty = true;
        true
    }

    /// It said goodbye on its socket, which is not heard while its device logs out.
    pub(crate) fn says_goodbye_on_socket(
        &mut self,
        connection: ConnectionId,
        returns_in: u32,
        returns: bool,
        now: u64,
    ) {
        if !self.logs_out_now(connection) {
            self.says_goodbye(connection, returns_in, returns, now);
        }
    }

    pub(crate) fn is_away(&mut self, connection: ConnectionId, away: bool, now: u64) {
        let until = now + self.background_ms;
        if self.logs_out_now(connection) {
            return;
        }
        if let Some(lease) = self.of(connection) {
            lease.away = away.then(|| lease.away.unwrap_or(until));
            self.dirty = true;
        }
    }

    /// A connection has ended without a goodbye, or the relay has ended it with this code.
    pub(crate) fn ends(&mut self, connection: ConnectionId, code: Code, now: u64) -> Option<Fault> {
        let lost = now + self.lost_hold_ms;
        let is_last =
            |leases: &[Lease], by: &Greeting| leases.iter().filter(|lease| lease.is_of(by)).count() == 1;
        let at = self.leases.iter().position(|lease| lease.connection == connection && !self.stops)?;
        let lease = &self.leases[at];
        let hides = lease.by.kind == DeviceKind::Miniprogram && lease.away.is_some_and(|until| until > now);
        self.dirty = true;
        if [Code::SUPERSEDED, Code::KICKED, Code::LOGGED_OUT, Code::TOKEN_REVOKED].contains(&code) {
            self.kicked.insert(lease.by.user.clone());
            if is_last(&self.leases, &lease.by) {
                self.without_channel.remove(&(lease.by.user.clone(), lease.by.device.clone()));
            }
            self.leases.remove(at);
            return None;
        }
        if lease.held != Held::Open {
            return None;
        }
        if hides {
            self.leases[at].held = Held::Background;
            return None;
        }
        if code == Code::SILENT {
            self.leases.remove(at);
            return Some(Fault::SilentEnd);
        }
        self.leases[at].held = Held::Lost(lost);
        None
    }

    /// The device of a connection logs out with the commit that gathers now, behind `ahead` others.
    pub(crate) fn logs_out(&mut self, connection: ConnectionId, ahead: u32) {
        if let Some(lease) = self.leases.iter().find(|lease| lease.connection == connection) {
            let leases = self.leases.iter().filter(|other| other.is_of(&lease.by));
            let connections = leases.map(|lease| lease.connection).collect();
            self.logouts.push((lease.by.clone(), connections, ahead + 1));
            self.dirty = true;
        }
    }

    /// A user asks to be shown or hidden with the commit that gathers now, behind `ahead` others.
    pub(crate) fn asks_to_hide(&mut self, user: &str, ahead: u32) {
        self.hiding.push((user.to_owned(), ahead + 1));
        self.dirty = true;
    }

    /// A device is signed out, and that is durable: whatever held its lease, it is gone.
    pub(crate) fn is_signed_out(&mut self, user: &str, device: &str) {
        let of = (user.to_owned(), device.to_owned());
        self.dirty = true;
        let is_its = |lease: &mut Lease| (lease.by.user.as_str(), lease.by.device.as_str()) == (user, device);
        if self.leases.extract_if(.., is_its).count() > 0 {
            self.kicked.insert(of.0.clone());
        }
        self.without_channel.remove(&of);
        self.awaited.remove(&of);
    }

    /// It was refused after all.
    pub(crate) fn stays_logged_in(&mut self, by: &Greeting) {
        self.logouts.retain(|(other, ..)| (&other.user, &other.device) != (&by.user, &by.device));
    }

    /// A commit has ended.
    pub(crate) fn commits(&mut self) {
        let lefts = self.logouts.iter_mut().map(|(.., left)| left);
        lefts.chain(self.hiding.iter_mut().map(|(_, left)| left)).for_each(|left| *left -= 1);
        self.dirty |= self.hiding.extract_if(.., |(_, left)| *left == 0).count() > 0;
        for (by, connections, _) in self.logouts.extract_if(.., |(.., left)| *left == 0) {
            self.dirty = true;
            self.logged_out.insert(by.user.clone());
            // It may have logged in again meanwhile.
            if self.leases.iter().any(|lease| lease.is_of(&by) && !connections.contains(&lease.connection)) {
                continue;
            }
            self.leases.retain(|lease| !lease.is_of(&by));
            self.without_channel.remove(&(by.user.clone(), by.device.clone()));
            self.awaited.remove(&(by.user, by.device));
        }
    }

    /// Users who are shown to nobody, as is durable now.
    pub(crate) fn hides(&mut self, invisible: BTreeSet<String>) {
        self.dirty |= self.invisible != invisible;
        self.invisible = invisible;
    }

    /// The user is shown to nobody, or will be when that is durable.
    pub(crate) fn may_be_hidden(&self, user: &str) -> bool {
        self.invisible.contains(user) || self.hiding.iter().any(|(other, _)| other == user)
    }

    /// What has come to its end; what it mattered for.
    pub(crate) fn expires(&mut self, now: u64) -> Vec<Fault> {
        if self.stops {
            return Vec::new();
        }
        if self.recovers_until.is_some_and(|until| until <= now) {
            self.recovers_until = None;
            self.awaited.clear();
            self.dirty = true;
        }
        let ended = self.leases.extract_if(.., |lease| lease.until().is_some_and(|until| until <= now));
        let ended: Vec<_> = ended.collect();
        self.dirty |= !ended.is_empty();
        let mut faults = Vec::new();
        for lease in ended {
            if self.leases.iter().any(|other| other.is_of(&lease.by) && other.held == Held::Open) {
                faults.push(Fault::TabEnded);
            }
            faults.push(match lease.held {
                Held::Lost(_) | Held::Open => Fault::LostEnd,
                Held::Returning(_) | Held::Leaving(_) => Fault::GoodbyeEnd,
                Held::Background => Fault::BackgroundEnd,
            });
        }
        faults
    }

    /// Looks at what is shown of each user now; gives those of whom it has changed.
    pub(crate) fn look(&mut self, users: impl Iterator<Item = String>) -> Vec<String> {
        for shown in self.shown.values_mut() {
            (shown.before_others, shown.before_own) = (shown.others, shown.own);
        }
        if !std::mem::take(&mut self.dirty) {
            return Vec::new();
        }
        let mut changed = Vec::new();
        for user in users {
            let own = self.status(&user);
            let others = if self.hiding.iter().any(|(other, _)| *other == user) && own[0] != Status::Offline {
                [own[0], Status::Offline]
            } else if self.invisible.contains(&user) {
                [Status::Offline; 2]
            } else {
                own
            };
            let fresh = Shown { others, own, before_others: others, before_own: own };
            let shown = self.shown.entry(user.clone()).or_insert(fresh);
            if (shown.others, shown.own) != (others, own) {
                changed.push(user);
            }
            (shown.others, shown.own) = (others, own);
        }
        changed
    }

    fn status(&self, user: &str) -> Allowed {
        let rank = |status: &Status| match status {
            Status::Online => 4,
            Status::Away => 3,
            Status::Leaving => 2,
            Status::Unknown => 1,
            Status::Offline => 0,
        };
        let leases = self.leases.iter().filter(|lease| lease.by.user == user);
        let best = leases.map(Lease::status).max_by_key(rank);
        let is_of = |(of, _): &(String, String)| of == user;
        let logs_out = self.logouts.iter().any(|(by, ..)| by.user == user);
        let nobody_knows = self.without_channel.iter().any(is_of) || self.awaited.iter().any(is_of);
        match best {
            Some(best) => [best; 2],
            // It is known, and not yet durable.
            None if nobody_knows && logs_out => [Status::Unknown, Status::Offline],
            None if nobody_knows => [Status::Unknown; 2],
            // Who was offline before the relay's start may be shown so, or as unknown.
            None if self.recovers_until.is_some() => [Status::Offline, Status::Unknown],
            None => [Status::Offline; 2],
        }
    }

    /// Whether the connection holds its lease now, and whether it is away.
    pub(crate) fn lease(&self, connection: ConnectionId) -> Option<bool> {
        let lease = self.leases.iter().find(|lease| lease.connection == connection)?;
        (lease.held == Held::Open).then_some(lease.away.is_some())
    }
}
