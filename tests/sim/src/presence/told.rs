//! What the relay tells its watchers, held against what it can know: at every input, and once more when a change has
//! had the time to be told.

use std::collections::{BTreeMap, BTreeSet};

use hongyan_client::view::PresenceStatus as Status;
use hongyan_protocol::wire::{self, DeviceKind};
use hongyan_protocol::{Code, ConversationId, UserId};
use hongyan_relay::core as relay;
use hongyan_relay::core::io::WatchPolicy;
use hongyan_relay::core::{ConnectionId, CoreConfig};
use hongyan_relay::store::{Batch, Table};

use super::known::{Greeting, Known, status};
use crate::disk::Tables;
use crate::faults::Fault;
use crate::truth;
use crate::world::{Happening, USERS, World};

/// The relay tells a change within this time: it has a pace of four in a second, and a store that could not be
/// read is read again.
const TOLD_MS: u64 = 1_000;
/// A deadline is looked at that much late, at most.
const SILENCE_SLACK_MS: u64 = 50;
/// A user who does not exist.
pub(super) const NOBODY: &str = "nobody";

/// What a connection is told.
#[derive(Default)]
pub(crate) struct Telling {
    pub(super) greeting: Option<Greeting>,
    /// The last of each user.
    pub(super) told: BTreeMap<String, wire::Presence>,
    /// The last beginning that was told of each user.
    since: BTreeMap<String, u64>,
    /// When the relay heard of it last.
    heard: u64,
    /// Bytes that the socket has not taken.
    pub(crate) backlog: usize,
}

impl Telling {
    /// These are not watched any more. If they are again, that begins anew.
    pub(crate) fn forget(&mut self, users: &[String]) {
        self.told.retain(|user, _| !users.contains(user));
        self.since.retain(|user, _| !users.contains(user));
    }
}

/// What the checker follows of the relay.
#[derive(Default)]
pub(crate) struct Tellings {
    pub(super) known: Known,
    /// Who may watch whom, as the relay knows it durably.
    contacts: BTreeSet<(String, String)>,
    /// Who typed where: conversation and user.
    pub(super) typed: BTreeSet<(String, String)>,
    /// The commit under way changes who may.
    contacts_change: bool,
    /// The commit that has just ended did.
    contacts_changed: bool,
    /// When a read failed last: of what was not read the relay tells what it knew until it reads again.
    read_failed_at: Option<u64>,
    /// Within the present input.
    welcomed: Vec<ConnectionId>,
    closed: Vec<(ConnectionId, Code)>,
    told: Vec<(ConnectionId, String, wire::Presence)>,
}

impl Tellings {
    pub(super) fn may_watch(&self, pair: &(String, String)) -> bool {
        self.contacts.contains(pair)
    }
}

impl World {
    pub(super) fn moment(&self) -> u64 {
        self.relay.clock.moment(self.now)
    }

    // ------------------------------------------------------------ the relay's life

    pub(crate) fn presence_starts(&mut self, config: &CoreConfig) {
        if self.shape.presence.is_none() {
            return;
        }
        let devices: Vec<_> = self
            .relay
            .store
            .look(|tables| USERS.iter().flat_map(|(user, _)| truth::devices(tables, user)).collect());
        self.tellings = Tellings { known: Known::starts(config, devices.into_iter()), ..Tellings::default() };
        self.contacts_are_durable();
        self.invisibility_is_durable();
    }

    /// Who may watch whom is read anew.
    fn contacts_are_durable(&mut self) {
        let policy = self.relay.config.watch;
        self.tellings.contacts = self.relay.store.look(|tables| {
            let pairs = USERS.iter().flat_map(|(one, _)| USERS.iter().map(move |(other, _)| (*one, *other)));
            let may = |(one, other): &(&str, &str)| {
                one == other
                    || match policy {
                        WatchPolicy::Members => are_contacts(tables, one, other),
                        WatchPolicy::Everyone => true,
                        WatchPolicy::Nobody => false,
                    }
            };
            pairs.filter(may).map(|(one, other)| (one.to_owned(), other.to_owned())).collect()
        });
    }

    fn invisibility_is_durable(&mut self) {
        let users = USERS.iter().map(|(user, _)| (*user).to_owned());
        let invisible =
            self.relay.store.look(|tables| users.filter(|user| truth::is_invisible(tables, user)).collect());
        self.tellings.known.hides(invisible);
    }

    /// What an input lets the relay know, before it is given.
    pub(crate) fn presence_input(&mut self, input: &relay::Input) {
        if self.shape.presence.is_none() {
            return;
        }
        let now = self.moment();
        let known = &mut self.tellings.known;
        known.begins(now);
        match input {
            relay::Input::Closed(id) => drop(known.ends(*id, Code(1006), now)),
            relay::Input::Committed(_, Ok(())) => {
                known.commits();
                self.tellings.contacts_changed = std::mem::take(&mut self.tellings.contacts_change);
            }
            relay::Input::Drain { .. } => known.stops = true,
            _ => {}
        }
    }

    pub(crate) fn presence_commit(&mut self, batch: &Batch) {
        let tells = |table: Table| matches!(table, Table::Members | Table::Memberships);
        self.tellings.contacts_change |= batch.changes.iter().any(|(table, ..)| tells(*table));
    }

    /// All that the input brought is told: it is held against what is known now.
    pub(crate) fn presence_settles(&mut self, has_committed: bool) {
        if self.shape.presence.is_none() {
            return;
        }
        let now = self.moment();
        if has_committed {
            self.invisibility_is_durable();
        }
        for id in std::mem::take(&mut self.tellings.welcomed) {
            let Some(greeting) = self.links.get(&id).and_then(|link| link.telling.greeting.clone()) else {
                continue;
            };
            if self.tellings.known.is_late(&greeting) {
                let whose = format!("{}'s device {:?}", greeting.user, greeting.device);
                return self.broke(
                    "late hello",
                    format!("the older hello {:?} of {whose} is refused", greeting.order),
                    "it was welcomed",
                );
            }
            let mattered = self.tellings.known.greets(id, greeting, now);
            mattered.into_iter().for_each(|fault| self.mattered(fault));
        }
        for (id, code) in std::mem::take(&mut self.tellings.closed) {
            let mattered = self.tellings.known.ends(id, code, now);
            mattered.into_iter().for_each(|fault| self.mattered(fault));
        }
        for fault in self.tellings.known.expires(now) {
            self.mattered(fault);
        }
        let users = USERS.iter().map(|(user, _)| (*user).to_owned());
        for user in self.tellings.known.look(users) {
            let own = self.tellings.known.shown.get(&user).map(|shown| shown.now(true));
            self.note(|| format!("known: {user} is {own:?}"));
            self.schedule(self.now + TOLD_MS, Happening::PresenceDue(user));
        }
        let mut contacts_before = BTreeSet::new();
        if std::mem::take(&mut self.tellings.contacts_changed) {
            contacts_before.clone_from(&self.tellings.contacts);
            self.contacts_are_durable();
        }
        for (id, watcher, presence) in std::mem::take(&mut self.tellings.told) {
            self.judge_kicked(&watcher, &presence);
            self.judge_told_presence(id, &watcher, presence, &contacts_before);
        }
        self.tellings.known.kicked.clear();
        self.tellings.known.logged_out.clear();
    }

    // ------------------------------------------------------------ frames

    pub(crate) fn presence_hello(&mut self, id: ConnectionId, hello: &wire::Hello) {
        if self.shape.presence.is_none() {
            return;
        }
        if let Some(link) = self.links.get_mut(&id) {
            link.telling.greeting = Some(Greeting {
                user: hello.user.clone(),
                device: hello.device.clone(),
                tab: hello.tab.clone(),
                kind: DeviceKind::try_from(hello.device_kind).unwrap_or_default(),
                order: (hello.term, hello.dial),
                away: hello.away,
            });
        }
    }

    pub(crate) fn presence_bye(&mut self, id: ConnectionId, bye: &wire::Bye) {
        if self.shape.presence.is_none() {
            return;
        }
        let now = self.moment();
        if bye.logout {
            let ahead = u32::from(!self.relay.is_quiet());
            self.tellings.known.logs_out(id, ahead);
        } else {
            self.tellings.known.says_goodbye_on_socket(id, bye.returns_in_ms, bye.returns, now);
        }
    }

    pub(crate) fn presence_away(&mut self, id: ConnectionId, away: bool) {
        if self.shape.presence.is_some() {
            let now = self.moment();
            self.tellings.known.is_away(id, away, now);
            if away {
                self.mattered(Fault::AwayTold);
            }
        }
    }

    pub(crate) fn presence_hides(&mut self, id: ConnectionId) {
        let user = self.links.get(&id).and_then(|link| link.telling.greeting.as_ref());
        if let Some(user) = user.map(|greeting| greeting.user.clone()) {
            let ahead = u32::from(!self.relay.is_quiet());
            self.tellings.known.asks_to_hide(&user, ahead);
        }
    }

    pub(crate) fn presence_signed_out(&mut self, user: &str, device: &str) {
        if self.shape.presence.is_some() {
            self.tellings.known.is_signed_out(user, device);
        }
    }

    pub(crate) fn presence_welcome(&mut self, id: ConnectionId) {
        self.tellings.welcomed.push(id);
    }

    pub(crate) fn presence_rejected(&mut self, id: ConnectionId, code: Code) {
        let Some(greeting) = self.links.get(&id).and_then(|link| link.telling.greeting.clone()) else {
            return;
        };
        match code {
            Code::REPLACED if self.tellings.known.is_late(&greeting) => self.mattered(Fault::HelloLate),
            Code::REPLACED => {
                let whose = format!("{}'s device {:?}", greeting.user, greeting.device);
                self.broke(
                    "late hello",
                    format!("the hello {:?} of {whose} is taken", greeting.order),
                    "it was refused",
                );
            }
            Code::STORAGE_FAILED => self.tellings.known.stays_logged_in(&greeting),
            _ => {}
        }
    }

    pub(crate) fn presence_closed(&mut self, id: ConnectionId, code: Code) {
        self.tellings.closed.push((id, code));
    }

    pub(crate) fn presence_told(&mut self, id: ConnectionId, watcher: &str, presence: wire::Presence) {
        self.tellings.told.push((id, watcher.to_owned(), presence));
    }

    // ------------------------------------------------------------ the judgement

    fn judge_told_presence(
        &mut self,
        id: ConnectionId,
        watcher: &str,
        presence: wire::Presence,
        contacts_before: &BTreeSet<(String, String)>,
    ) {
        let user = presence.user.clone();
        let whose = || format!("{watcher}, on connection {}, is told of {}", id.0, user);
        let pair = (watcher.to_owned(), user.clone());
        let (status, since) = (status(presence.status()), presence.since);
        let own = watcher == user;
        if presence.refused {
            if user != NOBODY {
                self.mattered(Fault::NotAContact);
            }
            if own {
                return self.broke("contacts", format!("{watcher} may watch himself"), "it is refused");
            }
            let Some(link) = self.links.get_mut(&id) else { return };
            // That ends the watch: the next one begins anew.
            link.telling.since.remove(&user);
            let before = link.telling.told.insert(user.clone(), presence);
            if before.is_some_and(|before| !before.refused) {
                self.mattered(Fault::ContactLost);
            }
            return;
        }
        if !self.tellings.contacts.contains(&pair) && !contacts_before.contains(&pair) {
            return self.broke(
                "contacts",
                format!("{watcher} may not watch {user}, and is refused"),
                format!("told {status:?}"),
            );
        }
        let Some(shown) = self.tellings.known.shown.get(&user).copied() else {
            return self.broke(
                "contacts",
                format!("{user} does not exist"),
                format!("{} {status:?}", whose()),
            );
        };
        let is_unread = status == Status::Unknown && self.has_just_failed_to_read();
        if !shown.may_be_told(own, status) && !is_unread {
            let expected = shown.now(own);
            return self.broke(
                rule(expected, status),
                format!("{} {expected:?}", whose()),
                format!("{status:?}"),
            );
        }
        if !own && self.tellings.known.invisible.contains(&user) && shown.own[0] != Status::Offline {
            self.mattered(Fault::InvisibleThere);
        }
        if status == Status::Unknown {
            self.mattered(Fault::NobodyKnows);
        }
        let Some(link) = self.links.get_mut(&id) else { return };
        let before = link.telling.since.insert(user.clone(), since).unwrap_or(0);
        link.telling.told.insert(user.clone(), presence);
        if since < before {
            self.broke(
                "since",
                format!("{} a state since {before} or later", whose()),
                format!("{status:?} since {since}"),
            );
        }
    }

    /// Whose last session the relay has ended just now is told to be gone for that reason.
    fn judge_kicked(&mut self, watcher: &str, presence: &wire::Presence) {
        let (user, known) = (&presence.user, &self.tellings.known);
        // What could not be read when she came is read now, and may say something else.
        let is_sure = known.kicked.contains(user)
            && !known.logged_out.contains(user)
            && self.tellings.read_failed_at.is_none();
        let is_seen = watcher == user || !known.may_be_hidden(user);
        let is_gone = presence.status() == wire::PresenceStatus::Offline;
        if is_sure && is_seen && is_gone && presence.cause() != wire::PresenceCause::Kicked {
            let happened = format!("{watcher} is told {}", presence.cause().as_str_name());
            self.broke("ends", format!("{user} was kicked, and is told to be offline for that"), happened);
        }
    }

    /// The relay hears something of a connection.
    pub(crate) fn presence_hears(&mut self, id: ConnectionId) {
        let now = self.moment();
        if let Some(link) = self.links.get_mut(&id) {
            link.telling.heard = now;
        }
    }

    /// A connection of which nothing is heard for the silence bound stands for nobody.
    pub(super) fn look_at_silence(&mut self) {
        let (now, bound) = (self.moment(), self.relay.config.silence_ms + SILENCE_SLACK_MS);
        let silent = self
            .links
            .iter()
            .find(|(id, link)| link.telling.heard + bound < now && self.tellings.known.lease(**id).is_some());
        if let Some((id, link)) = silent.filter(|_| self.relay.is_up() && !self.tellings.known.stops) {
            let (expected, silence) =
                (format!("connection {} ends when it is silent", id.0), now - link.telling.heard);
            self.broke("no ghost", expected, format!("nothing was heard of it for {silence} ms"));
        }
    }

    pub(crate) fn presence_read_failed(&mut self) {
        self.tellings.read_failed_at = Some(self.now);
    }

    fn has_just_failed_to_read(&self) -> bool {
        self.tellings.read_failed_at.is_some_and(|at| at + TOLD_MS > self.now)
    }

    /// A change has had the time to be told.
    pub(crate) fn presence_due(&mut self, user: &str) {
        let Some(shown) = self.tellings.known.shown.get(user).copied() else { return };
        if !self.relay.is_up() || self.tellings.known.stops {
            return;
        }
        if self.has_just_failed_to_read() {
            return self.schedule(self.now + TOLD_MS, Happening::PresenceDue(user.to_owned()));
        }
        let backlog_max = self.relay.config.outgoing_bytes_target;
        let mut wrong = None;
        for (id, link) in &self.links {
            let Some(told) = link.telling.told.get(user).filter(|told| !told.refused) else { continue };
            if link.at_relay != Some(self.relay.life) {
                continue;
            }
            // Who reads slowly is told when there is room.
            let own = link.telling.greeting.as_ref().is_some_and(|greeting| greeting.user == user);
            if link.telling.backlog < backlog_max && !shown.now(own).contains(&status(told.status())) {
                wrong = Some((*id, shown.now(own), status(told.status())));
            }
        }
        // Meanwhile it may have changed again, and have had less time.
        let changes =
            |happening: &Happening| matches!(happening, Happening::PresenceDue(other) if other == user);
        if let Some((id, expected, status)) = wrong
            && !self.is_due(changes)
        {
            self.broke(
                rule(expected, status),
                format!("connection {} was told within {TOLD_MS} ms that {user} is {expected:?}", id.0),
                format!("it was told {status:?} last"),
            );
        }
    }
}

/// Which promise of presence is broken by telling this.
fn rule(expected: [Status; 2], told: Status) -> &'static str {
    let is_there = |status: &Status| matches!(status, Status::Online | Status::Away | Status::Leaving);
    match told {
        Status::Offline if expected.iter().any(is_there) => "no flap",
        Status::Offline => "no guess",
        _ if is_there(&told) && !expected.iter().any(is_there) => "no ghost",
        _ => "live truth",
    }
}

/// They have a direct conversation, or are in one group.
fn are_contacts(tables: &Tables, one: &str, other: &str) -> bool {
    let (Ok(user), Ok(peer)) = (UserId::new(one), UserId::new(other)) else { return false };
    let direct = ConversationId::direct(&user, &peer);
    let memberships = truth::memberships(tables, one);
    let in_both = |group: &String| [one, other].iter().all(|user| truth::is_member(tables, group, user));
    memberships.contains_key(direct.as_str()) || memberships.keys().any(in_both)
}
