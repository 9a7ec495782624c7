//! What applications see: as it was told on the present connection, or unknown; and never against what is true.

use std::collections::{BTreeMap, BTreeSet};

use hongyan_client::limits::PRESENCE_STALE_MS;
use hongyan_client::view::{Presence, PresenceStatus, SessionStatus};
use hongyan_client::{Client, Command, HostEvent};
use hongyan_protocol::UserId;
use hongyan_protocol::wire::{self, DeviceKind};
use hongyan_relay::core::ConnectionId;
use hongyan_relay::core::io::WatchPolicy;

use super::known::status;
use super::typing::Typing;
use crate::device::Asked;
use crate::faults::Fault;
use crate::network::Link;
use crate::world::{USERS, World};

/// A clock may be that slow, in thousandths.
const RATE_MIN: u64 = 800;
/// What frames may be under way: the slowest ones behind each other.
const UNDER_WAY_MS: u64 = 15_000;
/// Looks, a quarter of a second apart, for one who comes back: longer than any back-off (30 s) and time-out together.
const RETURN_TRIES_MAX: u32 = 400;
/// What a state needs to be told and to arrive when nothing is under way.
const SETTLED_MS: u64 = 2_000;
/// Those of an application that watch.
pub(super) const ASKERS: usize = 2;

/// A device's application, as far as presence goes, and what its host knows.
#[derive(Default)]
pub(crate) struct App {
    /// Whom each asker watches.
    pub(super) watched: [Vec<UserId>; ASKERS],
    seen: BTreeMap<UserId, Presence>,
    /// What came with the present frame.
    arrived: Vec<wire::Presence>,
    pub(super) typing: Typing,
    online: bool,
    /// Since when it is online, or is not.
    online_changed: u64,
    pub(super) visible: bool,
    visible_changed: u64,
    /// The page has left, and may wake.
    pub(super) left: bool,
    /// Since when nobody is there: the process has ended or has left.
    gone_since: u64,
}

impl App {
    fn union(&self) -> BTreeSet<&UserId> {
        self.watched.iter().flatten().collect()
    }
}

impl World {
    // ------------------------------------------------------------ the application

    /// A process starts: its application watches those it shows.
    pub(crate) fn app_starts(&mut self, index: usize) {
        if self.shape.presence.is_none() {
            return;
        }
        let mut users = Vec::new();
        for name in USERS.iter().map(|(user, _)| *user).chain([super::told::NOBODY]) {
            if self.chance.percent(85)
                && let Ok(user) = UserId::new(name)
            {
                users.push(user);
            }
        }
        self.app_watches(index, 0, users);
    }

    /// Before its first input.
    pub(crate) fn app_begins(&mut self, index: usize) {
        let now = self.now;
        let app = &mut self.devices[index].app;
        *app = App { online_changed: now, visible: true, visible_changed: now, ..App::default() };
    }

    pub(crate) fn app_ends(&mut self, index: usize) {
        let now = self.now;
        let app = &mut self.devices[index].app;
        app.gone_since = if app.left { app.gone_since } else { now };
    }

    pub(super) fn app_watches(&mut self, index: usize, by: usize, users: Vec<UserId>) {
        let app = &mut self.devices[index].app;
        app.watched[by].clone_from(&users);
        let union: BTreeSet<_> = app.union().into_iter().cloned().collect();
        app.seen.retain(|user, _| union.contains(user));
        let number = u32::try_from(by).unwrap_or(0);
        self.ask(index, Command::Watch { by: number, users }, Asked::Watch);
    }

    /// Its watching was answered.
    pub(crate) fn app_answered(&mut self, index: usize, presences: Vec<Presence>) {
        for presence in presences {
            let app = &mut self.devices[index].app;
            if app.union().contains(&presence.user) {
                app.seen.insert(presence.user.clone(), presence);
            }
        }
    }

    pub(crate) fn app_sees(&mut self, index: usize, presence: Presence) {
        let app = &mut self.devices[index].app;
        let (user, status) = (presence.user.clone(), presence.status);
        let is_watched = app.union().contains(&user);
        let before = app.seen.insert(user.clone(), presence);
        if !is_watched || before.is_none() || before == app.seen.get(&user).cloned() {
            self.broke(
                "live truth",
                format!("device {index} is told a change of somebody it watches"),
                format!("{user}, watched: {is_watched}, {status:?}"),
            );
        }
    }

    /// Its connection is online or not.
    pub(crate) fn app_state(&mut self, index: usize, online: bool) {
        let now = self.now;
        let app = &mut self.devices[index].app;
        if app.online != online {
            (app.online, app.online_changed) = (online, now);
        }
    }

    /// What the host tells the core.
    pub(crate) fn app_host(&mut self, index: usize, event: HostEvent) {
        let now = self.now;
        let app = &mut self.devices[index].app;
        match event {
            HostEvent::Visible(visible) if app.visible != visible => {
                (app.visible, app.visible_changed) = (visible, now);
            }
            HostEvent::Leave { .. } => (app.left, app.gone_since) = (true, now),
            HostEvent::Wake => app.left = false,
            HostEvent::Visible(_) | HostEvent::Network(_) => {}
        }
    }

    pub(crate) fn app_arrives(&mut self, index: usize, presences: &[wire::Presence]) {
        self.devices[index].app.arrived.extend_from_slice(presences);
    }

    /// The core has taken a frame: what it told is seen.
    pub(crate) fn app_is_told(&mut self, index: usize) {
        let app = &mut self.devices[index].app;
        for told in std::mem::take(&mut app.arrived) {
            let Ok(user) = UserId::new(&told.user) else { continue };
            let Some(seen) = app.seen.get(&user) else { continue };
            if !is_as_told(seen, &told) {
                let seen = (seen.status, seen.since, seen.refused);
                return self.broke(
                    "live truth",
                    format!(
                        "device {index} sees {user} as told: {:?} since {}",
                        status(told.status()),
                        told.since
                    ),
                    format!("{seen:?}"),
                );
            }
        }
    }

    // ------------------------------------------------------------ the judgement

    /// At a moment between two steps.
    pub(crate) fn look_around(&mut self) {
        if self.shape.presence.is_none() {
            return;
        }
        self.look_at_silence();
        for index in 0..self.devices.len() {
            if self.breach.is_some() {
                return;
            }
            if self.devices[index].client.is_some() {
                self.look_at_stale(index);
                self.look_at_typing(index);
                self.look_at_lease(index);
                self.look_at_seen(index);
            }
        }
    }

    /// What was heard on a connection that is gone for long is not shown any more.
    fn look_at_stale(&mut self, index: usize) {
        let device = &self.devices[index];
        let limit = PRESENCE_STALE_MS * 1_000 / RATE_MIN + 200;
        if device.app.online
            || device.throttled_until > self.now
            || device.app.online_changed + limit > self.now
        {
            return;
        }
        let stale = device.app.seen.values().find(|seen| seen.status != PresenceStatus::Unknown);
        if let Some(seen) = stale {
            let happened = format!("{} is {:?}", seen.user, seen.status);
            return self.broke(
                "live truth",
                format!("device {index} without a connection knows of nobody"),
                happened,
            );
        }
        if device.app.seen.values().any(|seen| !seen.refused && seen.since.is_some()) {
            self.mattered(Fault::Stale);
        }
    }

    /// The connection that a device is online with, when frames arrive both ways and none is on its way up.
    fn live_link(&self, index: usize) -> Option<(ConnectionId, &Link)> {
        let device = &self.devices[index];
        let is_online =
            device.client.as_ref().is_some_and(|client| client.state().status == SessionStatus::Online);
        let id = self.link_of(index).filter(|_| is_online)?;
        let link = self.links.get(&id)?;
        let is_live = link.is_alive() && link.at_relay == Some(self.relay.life) && link.up.under_way == 0;
        (is_live && self.relay.is_up() && !self.tellings.known.stops).then_some((id, link))
    }

    /// The relay knows of a device that is there, and whether somebody looks.
    fn look_at_lease(&mut self, index: usize) {
        let Some((id, _)) = self.live_link(index) else { return };
        let hidden = !self.devices[index].app.visible;
        if self.tellings.known.lease(id) != Some(hidden) && !self.tellings.known.logs_out_now(id) {
            let known = self.tellings.known.lease(id);
            self.broke(
                "live truth",
                format!("the relay knows that device {index} is there, and away: {hidden}"),
                format!("the lease of connection {}, and away: {known:?}", id.0),
            );
        }
    }

    /// Nobody is seen as there who is truly gone for long, and nobody as gone who is truly there.
    fn look_at_seen(&mut self, index: usize) {
        let Some((_, link)) = self.live_link(index) else { return };
        let is_told = link.down.under_way == 0
            && link.reads_at <= self.now
            && link.telling.backlog < self.relay.config.outgoing_bytes_target;
        if !is_told {
            return;
        }
        let device = &self.devices[index];
        for seen in device.app.seen.values() {
            let user = seen.user.as_str();
            if seen.refused || !link.telling.told.contains_key(user) {
                continue;
            }
            let is_own = seen.user == device.user;
            let is_seen_there = !matches!(seen.status, PresenceStatus::Offline | PresenceStatus::Unknown);
            let is_hidden = !is_own && self.tellings.known.may_be_hidden(user);
            let expected = if is_hidden {
                continue;
            } else if is_seen_there && self.are_gone(user) {
                "no ghost"
            } else if seen.status != PresenceStatus::Online && self.is_truly_there(user) {
                "no flap"
            } else {
                continue;
            };
            let happened = format!("{:?} since {:?}", seen.status, seen.since);
            return self.broke(expected, format!("device {index} sees the truth of {user}"), happened);
        }
    }

    /// All devices of a user are gone for longer than every bound.
    fn are_gone(&self, user: &str) -> bool {
        let config = &self.relay.config;
        let bound = config.silence_ms + config.lost_hold_ms + config.background_lease_ms + 4_000;
        let bound = bound * 1_000 / RATE_MIN + UNDER_WAY_MS;
        self.devices.iter().filter(|device| device.user.as_str() == user).all(|device| {
            (device.client.is_none() || device.app.left) && device.app.gone_since + bound < self.now
        })
    }

    /// A device whose connection tells is there for a while, and somebody looks at it.
    fn is_truly_there(&self, user: &str) -> bool {
        self.devices.iter().filter(|device| device.user.as_str() == user).any(|device| {
            let app = &device.app;
            device.kind != DeviceKind::Official
                && app.online
                && app.visible
                && app.online_changed.max(app.visible_changed) + SETTLED_MS < self.now
                && self.live_link(device.index).is_some_and(|(id, _)| !self.tellings.known.logs_out_now(id))
        })
    }

    /// Everything is quiet: what everybody sees is what the relay answers now, and is true.
    pub(crate) fn judge_presence(&mut self) {
        for index in 0..self.devices.len() {
            let mut wrong = None;
            for _ in 0..6 {
                self.await_connection(index);
                wrong = self.wrongly_seen(index);
                if wrong.is_none() || self.breach.is_some() {
                    break;
                }
                // A token may have ended meanwhile.
                self.pass(3_000);
            }
            if let Some((expected, happened)) = wrong {
                return self.broke("live truth", expected, happened);
            }
        }
    }

    /// Everybody was connected, but looking at the others took time, and this one's token may have ended: what it sees
    /// counts when it is back and was answered.
    fn await_connection(&mut self, index: usize) {
        for _ in 0..RETURN_TRIES_MAX {
            let app = &self.devices[index].app;
            if self.breach.is_some() || (app.online && app.online_changed + SETTLED_MS < self.now) {
                return;
            }
            self.pass(250);
        }
    }

    fn wrongly_seen(&mut self, index: usize) -> Option<(String, String)> {
        let watched = self.devices[index].app.watched.clone();
        let before = self.devices[index].app.seen.clone();
        let watcher = self.devices[index].user.as_str().to_owned();
        for (by, _) in watched.iter().enumerate() {
            self.app_watches(index, by, Vec::new());
        }
        for (by, users) in watched.into_iter().enumerate() {
            self.app_watches(index, by, users);
        }
        let waits =
            |world: &World| world.devices[index].asked.values().any(|asked| matches!(asked, Asked::Watch));
        while self.breach.is_none() && waits(self) {
            self.pass(20);
        }
        for (user, seen) in before {
            let fresh = self.devices[index].app.seen.get(&user);
            if fresh != Some(&seen) {
                let line = |seen: &Presence| {
                    format!("{:?} since {:?}, refused: {}", seen.status, seen.since, seen.refused)
                };
                // Who existed for nobody when asked for is told of by a later connection only.
                if self.relay.config.watch == WatchPolicy::Everyone && seen.refused {
                    continue;
                }
                return Some((
                    format!(
                        "device {index} of {watcher} sees {user} as the relay answers: {:?}",
                        fresh.map(line)
                    ),
                    line(&seen),
                ));
            }
            let is_own = user.as_str() == watcher;
            let pair = (watcher.clone(), user.as_str().to_owned());
            let may = self.tellings.may_watch(&pair);
            let shown = self.tellings.known.shown.get(user.as_str()).map(|shown| shown.now(is_own));
            let is_true = shown.is_some_and(|shown| shown.contains(&seen.status));
            if seen.refused == may || (may && !is_true) {
                return Some((
                    format!("device {index} of {watcher} may see {user}: {may}, {shown:?}"),
                    format!("{:?}, refused: {}", seen.status, seen.refused),
                ));
            }
        }
        None
    }

    /// The faults stop: pages that left wake.
    pub(crate) fn app_heals(&mut self, index: usize) {
        if self.shape.presence.is_some() && self.devices[index].client.as_ref().map(Client::user).is_some() {
            self.host(index, HostEvent::Wake);
        }
    }
}

fn is_as_told(seen: &Presence, told: &wire::Presence) -> bool {
    seen.status == status(told.status())
        && seen.since.map_or(0, |since| since.0) == told.since
        && seen.until.map_or(0, |until| until.0) == told.until
        && seen.devices.len() == told.devices.len()
        && seen.refused == told.refused
}
