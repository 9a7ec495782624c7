//! How watched users are: what the relay told, and for how long that may be shown.
//!
//! *Invariant:* what is told was said by the relay on the present connection, or on one that ended less than
//! `PRESENCE_STALE_MS` ago; otherwise it is unknown. A presence is told only if it differs from what was told of that
//! user last. At most `WATCHED_MAX` users are watched.

use core::mem;

use hongyan_protocol::limits::{PRESENCE_DEVICES_MAX, WATCH_USERS_MAX, WATCHED_MAX};
use hongyan_protocol::wire::client_frame::Verb;
use hongyan_protocol::{Class, Code, Time, UserId, wire};

use crate::client::Client;
use crate::defects::{self, Defect};
use crate::io::{Answer, ChatError, Event, Now, RequestId};
use crate::limits::{PRESENCE_STALE_MS, REFUSED_ASK_MS, WATCHERS_MAX, WATCHES_IN_FLIGHT_MAX};
use crate::requests::{What, names};
use crate::sending::later;
use crate::session::Pending;
use crate::sorted::{SortedMap, SortedSet};
use crate::timers::Timer;
use crate::view::{DevicePresence, Presence, PresenceCause, PresenceStatus, SessionStatus};

/// A watched user.
#[derive(Default)]
struct Watched {
    /// What the application knows, or will by the answer to its watching; `None` before the first word.
    presence: Option<Presence>,
    /// The application was answered, so changes are told.
    told: bool,
    /// The request is on the wire of this connection, or was answered there.
    asked: bool,
    /// The relay answered on this connection.
    heard: bool,
    /// She was refused, and something happened since that may permit her.
    again: bool,
}

/// All watched users.
#[derive(Default)]
pub(crate) struct Presences {
    /// Whom each asker watches; never empty.
    askers: SortedMap<u32, SortedSet<UserId>>,
    /// Whom any asker watches.
    users: SortedMap<UserId, Watched>,
    /// How often in a row the relay put a request off.
    put_off: u32,
}

impl Presences {
    /// Whom any asker watches, in order.
    fn union(&self) -> Vec<UserId> {
        let mut union = SortedSet::default();
        for user in self.askers.values().flat_map(SortedSet::as_slice) {
            union.insert(user.clone());
        }
        union.into_vec()
    }

    /// The relay answered for all of them; who is not watched any more needs no answer.
    fn heard_all(&self, users: &[UserId]) -> bool {
        users.iter().all(|user| self.users.get(user).is_none_or(|watched| watched.heard))
    }
}

impl Client {
    /// The asker watches these users from now on, and no others.
    pub(crate) fn watch(&mut self, now: Now, request: RequestId, by: u32, users: Vec<UserId>) {
        if let Some(error) = self.stopped_by() {
            self.reply(request, Err(error));
            return;
        }
        if users.len() > WATCHED_MAX {
            self.reply(request, Err(ChatError::new(Code::WATCH_FULL)));
            return;
        }
        let before = self.presences.askers.remove(&by);
        if !users.is_empty() {
            self.presences.askers.insert(by, users.iter().cloned().collect());
        }
        let union = self.presences.union();
        if union.len() > WATCHED_MAX || self.presences.askers.len() > WATCHERS_MAX {
            self.presences.askers.remove(&by);
            if let Some(before) = before {
                self.presences.askers.insert(by, before);
            }
            self.reply(request, Err(ChatError::new(Code::WATCH_FULL)));
            return;
        }
        self.unwatch(&union);
        for user in union {
            self.presences.users.get_or_insert_with(user, Watched::default);
        }
        self.pump_watch(now);
        let may_be_answered = match self.session.status() {
            SessionStatus::Online | SessionStatus::Connecting => !self.presences.heard_all(&users),
            SessionStatus::Offline | SessionStatus::Stopped => false,
        };
        if may_be_answered {
            self.ask(now, request, What::Watch(users));
        } else {
            let presences = self.tell_presences(users);
            self.reply(request, Ok(Answer::Presences(presences)));
        }
        // Those that waited for nobody else but who is not watched any more.
        self.watches_answered();
    }

    /// Forgets who is not among `union`, here and at the relay.
    fn unwatch(&mut self, union: &[UserId]) {
        let mut gone = Vec::new();
        self.presences.users.retain(|user, watched| {
            let stays = union.binary_search(user).is_ok();
            if !stays && watched.asked {
                gone.push(user.clone());
            }
            stays
        });
        if self.session.is_online() {
            for users in gone.chunks(WATCH_USERS_MAX) {
                self.say(Verb::Unwatch(wire::Unwatch { users: names(users) }));
            }
        }
    }

    /// Asks for those who were not asked for on this connection.
    pub(crate) fn pump_watch(&mut self, now: Now) {
        if !self.session.is_online() || self.timers.get(Timer::Watch).is_some() {
            return;
        }
        let pending = self.session.pending.values();
        let in_flight = pending.filter(|(pending, _)| matches!(pending, Pending::Watch(_))).count();
        for _ in in_flight..WATCHES_IN_FLIGHT_MAX {
            let due = self.presences.users.iter_mut().filter(|(_, watched)| !watched.asked);
            let users: Vec<_> = due
                .take(WATCH_USERS_MAX)
                .map(|(user, watched)| {
                    watched.asked = true;
                    user.clone()
                })
                .collect();
            if users.is_empty() {
                return;
            }
            let verb = wire::Watch { users: names(&users) };
            self.request(now, Pending::Watch(users), Verb::Watch(verb));
        }
    }

    /// The relay told how the users of a request are.
    pub(crate) fn watched(&mut self, now: Now, users: &[UserId], watched: wire::Watched) {
        self.presences.put_off = 0;
        for presence in watched.presences {
            let Some(presence) = view(presence) else { continue };
            if let Some(watched) = self.presences.users.get_mut(&presence.user) {
                watched.heard = true;
            }
            self.presence_is(presence);
        }
        self.heard_nothing_of_others(users);
        self.watches_answered();
        self.pump_watch(now);
    }

    pub(crate) fn watch_rejected(
        &mut self,
        now: Now,
        users: &[UserId],
        error: &ChatError,
        retry_after_ms: u64,
    ) {
        if error.class() == Class::Stop {
            self.heard_nothing_of_others(users);
            self.watches_answered();
            return;
        }
        for user in users {
            if let Some(watched) = self.presences.users.get_mut(user) {
                watched.asked = false;
            }
        }
        // Several may be put off at once; that is one time.
        if self.timers.get(Timer::Watch).is_none() {
            let at = later(&mut self.random, now, self.presences.put_off, retry_after_ms);
            self.presences.put_off = self.presences.put_off.saturating_add(1);
            self.timers.set(Timer::Watch, at);
        }
    }

    /// Of those who were asked for and not named in the answer, nothing is known.
    fn heard_nothing_of_others(&mut self, users: &[UserId]) {
        for user in users {
            let watched = self.presences.users.get_mut(user).filter(|watched| !watched.heard);
            if let Some(watched) = watched {
                watched.heard = true;
                self.presence_is(unknown(user.clone()));
            }
        }
    }

    /// Answers the commands whose users are all known now.
    fn watches_answered(&mut self) {
        self.heard_answers();
        if self.presences.users.values().all(|watched| watched.heard) {
            self.timers.clear(Timer::Stale);
        }
    }

    /// The same of what waits to hear of users in any way.
    pub(crate) fn heard_answers(&mut self) {
        let waiting = self.asks.waiting.iter();
        let numbers: Vec<_> = waiting
            .filter(|(_, ask)| match &ask.what {
                What::Watch(users) => self.presences.heard_all(users),
                What::Profiles(users) => self.profiles.heard_all(users),
                What::Verb(_) | What::History(_) => false,
            })
            .map(|(number, _)| *number)
            .collect();
        for number in numbers {
            self.answer_watch(number);
        }
    }

    /// Answers with what is known.
    pub(crate) fn answer_watch(&mut self, number: u64) {
        match self.asks.waiting.get_mut(&number).map(|ask| &mut ask.what) {
            Some(What::Watch(users)) => {
                let users = mem::take(users);
                let presences = self.tell_presences(users);
                self.end_ask(number, Ok(Answer::Presences(presences)));
            }
            Some(What::Profiles(users)) => {
                let profiles = self.profiles.views(users);
                self.end_ask(number, Ok(Answer::Profiles(profiles)));
            }
            _ => {}
        }
    }

    /// How these users are; from here on their changes are told.
    fn tell_presences(&mut self, users: Vec<UserId>) -> Vec<Presence> {
        let tell = |user: UserId| match self.presences.users.get_mut(&user) {
            Some(watched) => {
                watched.told = true;
                watched.presence.get_or_insert_with(|| unknown(user)).clone()
            }
            None => unknown(user),
        };
        users.into_iter().map(tell).collect()
    }

    /// The relay told a change.
    pub(crate) fn presence_came(&mut self, presence: wire::Presence) {
        if let Some(presence) = view(presence) {
            self.presence_is(presence);
        }
    }

    fn presence_is(&mut self, presence: Presence) {
        let Some(watched) = self.presences.users.get_mut(&presence.user) else { return };
        if watched.presence.as_ref() == Some(&presence) {
            return;
        }
        watched.presence = Some(presence.clone());
        if watched.told {
            self.event(Event::Presence(presence));
        }
    }

    /// A connection ended, or could not be made: nothing is heard on it any more.
    pub(crate) fn presences_disconnected(&mut self, now: Now, was_online: bool) {
        if !defects::is_on(Defect::PresenceKeptAsLive) {
            for watched in self.presences.users.values_mut() {
                (watched.asked, watched.heard, watched.again) = (false, false, false);
            }
        }
        self.presences.put_off = 0;
        // Who was not heard of since an earlier end waits since that one.
        if was_online
            && self.timers.get(Timer::Stale).is_none()
            && !self.presences.users.is_empty()
            && !defects::is_on(Defect::PresenceNeverStale)
        {
            self.timers.set(Timer::Stale, now.moment.after_ms(PRESENCE_STALE_MS));
        }
        for number in self.asks.watches() {
            self.answer_watch(number);
        }
    }

    /// The connection is gone for too long, or the new one did not answer yet.
    pub(crate) fn presences_stale(&mut self, now: Now) {
        let until = self.session.online_since.after_ms(PRESENCE_STALE_MS);
        if self.session.is_online() && until > now.moment {
            self.timers.set(Timer::Stale, until);
            return;
        }
        let stale: Vec<_> = self
            .presences
            .users
            .iter()
            .filter(|(_, watched)| !watched.heard)
            .filter(|(_, watched)| {
                let presence = watched.presence.as_ref();
                presence.is_some_and(|presence| presence.status != PresenceStatus::Unknown)
            })
            .map(|(user, _)| user.clone())
            .collect();
        for user in stale {
            self.presence_is(Presence { since: Some(now.time), ..unknown(user) });
        }
    }

    /// For good: nobody is watched any more.
    pub(crate) fn presences_stopped(&mut self, now: Now) {
        for watched in self.presences.users.values_mut() {
            watched.heard = false;
        }
        self.presences_stale(now);
        self.presences = Presences::default();
    }

    /// Something happened between the user and `peer`, or in a group: who was refused may be permitted now.
    pub(crate) fn may_be_permitted(&mut self, peer: Option<&UserId>) {
        let permit = |watched: &mut Watched| {
            watched.again |= watched.presence.as_ref().is_some_and(|presence| presence.refused);
        };
        if peer.is_none() {
            self.profiles.may_be_seen();
        }
        match peer {
            Some(peer) => self.presences.users.get_mut(peer).into_iter().for_each(permit),
            None => self.presences.users.values_mut().for_each(permit),
        }
    }

    /// Asks again for those who may be permitted now, at most once in a while.
    pub(crate) fn ask_refused(&mut self, now: Now) {
        if !self.session.is_online() || self.timers.get(Timer::Refused).is_some() {
            return;
        }
        let mut any = false;
        for watched in self.presences.users.values_mut() {
            if mem::take(&mut watched.again) {
                watched.asked = false;
                any = true;
            }
        }
        if any {
            self.timers.set(Timer::Refused, now.moment.after_ms(REFUSED_ASK_MS));
            self.pump_watch(now);
        }
    }
}

/// Takes a presence off the wire; `None` when its user is no user.
fn view(presence: wire::Presence) -> Option<Presence> {
    let user = UserId::new(&presence.user).ok()?;
    let device = |device: &wire::DevicePresence| DevicePresence {
        kind: device.kind(),
        status: status(device.status()),
        cause: cause(device.cause()),
        since: time(device.since),
        until: time(device.until),
    };
    Some(Presence {
        user,
        status: status(presence.status()),
        cause: cause(presence.cause()),
        since: time(presence.since),
        until: time(presence.until),
        devices: presence.devices.iter().take(PRESENCE_DEVICES_MAX).map(device).collect(),
        refused: presence.refused,
    })
}

/// Nothing is known of her.
fn unknown(user: UserId) -> Presence {
    Presence {
        user,
        status: PresenceStatus::Unknown,
        cause: Some(PresenceCause::NoChannel),
        since: None,
        until: None,
        devices: Vec::new(),
        refused: false,
    }
}

/// Takes a status off the wire; a newer version's is no guess.
pub(crate) const fn status(status: wire::PresenceStatus) -> PresenceStatus {
    match status {
        wire::PresenceStatus::Online => PresenceStatus::Online,
        wire::PresenceStatus::Away => PresenceStatus::Away,
        wire::PresenceStatus::Leaving => PresenceStatus::Leaving,
        wire::PresenceStatus::Offline => PresenceStatus::Offline,
        wire::PresenceStatus::Unspecified | wire::PresenceStatus::Unknown => PresenceStatus::Unknown,
    }
}

const fn cause(cause: wire::PresenceCause) -> Option<PresenceCause> {
    match cause {
        wire::PresenceCause::Unspecified => None,
        wire::PresenceCause::Closed => Some(PresenceCause::Closed),
        wire::PresenceCause::Lost => Some(PresenceCause::Lost),
        wire::PresenceCause::Logout => Some(PresenceCause::Logout),
        wire::PresenceCause::Kicked => Some(PresenceCause::Kicked),
        wire::PresenceCause::Background => Some(PresenceCause::Background),
        wire::PresenceCause::NoChannel => Some(PresenceCause::NoChannel),
    }
}

/// Zero on the wire is a time that nobody knows.
pub(crate) fn time(time: u64) -> Option<Time> {
    (time > 0).then_some(Time(time))
}
