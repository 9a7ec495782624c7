//! Telling the watchers: a change is encoded once, and goes around in rounds.
//!
//! A round tells the watched user's present state to every watcher who was told another. What changes while it goes
//! around, or before the next may begin, is told by the next one, so that the last state always arrives, and a user
//! who flaps costs no more than the pace allows. A watcher that reads slowly is passed over and told when it has
//! caught up.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use hongyan_protocol::UserId;
use hongyan_protocol::wire::{self, relay_frame::Event};

use super::present::Eyes;
use crate::core::deadlines::Timer;
use crate::core::defects::{self, Defect};
use crate::core::io::{ConnectionId, Verifier};
use crate::core::limits::{PRESENCE_PUSHES_PER_INPUT, PRESENCE_REREAD_MS, PRESENCE_WATCHERS_AT_ONCE};
use crate::core::rate::Usage;
use crate::core::relay::Relay;
use crate::store::{Store, StoreError};

/// A user whom somebody watches.
pub(super) struct Watched {
    watchers: BTreeMap<ConnectionId, Watcher>,
    others: View,
    own: View,
    /// Something has changed since the last round began.
    has_news: bool,
    round: Option<Round>,
    /// The next round may not begin yet; a timer is set.
    is_paced: bool,
    /// The store could not be read to say how the user is now; a timer is set.
    is_unread: bool,
    usage: Usage,
}

/// How far a round has come.
struct Round {
    after: Option<ConnectionId>,
}

/// One who watches.
struct Watcher {
    eyes: Eyes,
    /// The version of the view that it was told; 0 while it waits for its answer.
    told: u64,
}

/// A user as she is seen.
struct View {
    presence: wire::Presence,
    /// Counts the changes.
    version: u64,
    /// What tells it, once it is made.
    frame: Option<Bytes>,
}

impl View {
    fn new(presence: wire::Presence) -> Self {
        Self { presence, version: 1, frame: None }
    }

    /// Whether that is a change. What was told never moves back: the clock may have jumped, or the store know of an
    /// earlier beginning only.
    fn become_as(&mut self, mut presence: wire::Presence) -> bool {
        if !defects::is_on(Defect::SinceMovesBack) {
            presence.since = presence.since.max(self.presence.since);
        }
        let changes = presence != self.presence;
        if changes {
            *self = Self { presence, version: self.version + 1, frame: None };
        }
        changes
    }

    fn frame(&mut self) -> Option<Bytes> {
        if self.frame.is_none() {
            let event = Event::Presence(self.presence.clone());
            self.frame = wire::RelayFrame::push(event).to_bytes().ok();
        }
        self.frame.clone()
    }
}

impl Watched {
    fn new(others: wire::Presence, own: wire::Presence) -> Self {
        Self {
            watchers: BTreeMap::new(),
            others: View::new(others),
            own: View::new(own),
            has_news: false,
            round: None,
            is_paced: false,
            is_unread: false,
            usage: Usage::default(),
        }
    }

    fn view(&mut self, eyes: Eyes) -> &mut View {
        match eyes {
            Eyes::Others => &mut self.others,
            Eyes::Own => &mut self.own,
        }
    }

    pub(super) fn watchers(&self) -> impl Iterator<Item = ConnectionId> {
        self.watchers.keys().copied()
    }

    /// Tells this one of changes, too, when its answer was given.
    pub(super) fn add(&mut self, watcher: ConnectionId, eyes: Eyes) {
        self.watchers.entry(watcher).or_insert(Watcher { eyes, told: 0 });
    }

    /// Whether nobody watches any more.
    pub(super) fn remove(&mut self, watcher: ConnectionId) -> bool {
        self.watchers.remove(&watcher);
        self.watchers.is_empty()
    }

    /// As it is told to a watcher now, in a frame of its own or in an answer.
    fn tell(&mut self, watcher: ConnectionId) -> Option<&mut View> {
        let Watcher { eyes, told } = self.watchers.get_mut(&watcher)?;
        let view = match eyes {
            Eyes::Others => &mut self.others,
            Eyes::Own => &mut self.own,
        };
        *told = view.version;
        Some(view)
    }

    pub(super) fn answer(&mut self, watcher: ConnectionId) -> Option<wire::Presence> {
        self.tell(watcher).map(|view| view.presence.clone())
    }

    /// The next watchers of the round that were told another version, after looking at so many at most; and whether
    /// the round has ended.
    fn next_watchers(&mut self, looks: usize) -> (Vec<ConnectionId>, usize, bool) {
        let Some(round) = &mut self.round else { return (Vec::new(), 0, true) };
        let from = round.after.map_or(Bound::Unbounded, Bound::Excluded);
        let (mut next, mut looked) = (Vec::new(), 0);
        for (watcher, Watcher { eyes, told }) in self.watchers.range_mut((from, Bound::Unbounded)) {
            if looked == looks {
                return (next, looked, false);
            }
            looked += 1;
            round.after = Some(*watcher);
            let view = if *eyes == Eyes::Own { &self.own } else { &self.others };
            // Who waits for the answer is told there.
            if *told != 0 && *told != view.version {
                next.push(*watcher);
            }
        }
        self.round = None;
        (next, looked, true)
    }
}

impl<S: Store, V: Verifier> Relay<S, V> {
    /// A user whom nobody watches yet.
    pub(super) fn begin_to_watch(&mut self, user: &UserId) -> Result<(), StoreError> {
        if !self.presences.watched.contains_key(user) {
            let others = self.presence_of(user, Eyes::Others)?;
            let own = self.presence_of(user, Eyes::Own)?;
            self.presences.watched.insert(user.clone(), Watched::new(others, own));
        }
        Ok(())
    }

    /// Something of a user may have changed: if so, her watchers hear.
    pub(super) fn tell_watchers(&mut self, user: &UserId) {
        if !self.presences.watched.contains_key(user) {
            return;
        }
        for eyes in [Eyes::Others, Eyes::Own] {
            let presence = match self.presence_of(user, eyes) {
                Ok(presence) => presence,
                Err(error) => {
                    self.note_fault(&error);
                    return self.tell_watchers_later(user);
                }
            };
            if let Some(watched) = self.presences.watched.get_mut(user) {
                watched.has_news |= watched.view(eyes).become_as(presence);
            }
        }
        self.begin_round(user);
    }

    /// Nobody knows now how the user is; her watchers are not left with what was.
    fn tell_watchers_later(&mut self, user: &UserId) {
        if let Some(watched) = self.presences.watched.get_mut(user) {
            watched.is_unread = true;
            let at = self.now.moment.after_ms(PRESENCE_REREAD_MS);
            self.deadlines.set_at_latest(Timer::Push(user.clone()), at);
        }
    }

    /// Begins a round if one is due and may begin; a later change is told by the one that goes around, or the next.
    fn begin_round(&mut self, user: &UserId) {
        let Some(watched) = self.presences.watched.get_mut(user) else { return };
        if watched.round.is_some() || watched.is_paced || !watched.has_news {
            return;
        }
        let is_many = watched.watchers.len() > PRESENCE_WATCHERS_AT_ONCE;
        let pace = if is_many { self.presences.slow_pace } else { self.presences.pace };
        match pace.take(&mut watched.usage, self.now.moment) {
            Ok(()) => {
                watched.has_news = false;
                watched.round = Some(Round { after: None });
                self.presences.fanouts.push_back(user.clone());
            }
            Err(wait_ms) => {
                watched.is_paced = true;
                self.deadlines.set(Timer::Push(user.clone()), self.now.moment.after_ms(wait_ms));
            }
        }
    }

    /// A round that had to wait may begin.
    pub(in crate::core) fn end_pace(&mut self, user: &UserId) {
        if let Some(watched) = self.presences.watched.get_mut(user) {
            watched.is_paced = false;
            if core::mem::take(&mut watched.is_unread) {
                self.tell_watchers(user);
            }
            self.begin_round(user);
        }
    }

    /// Rounds go on for some watchers; the deadline of the others is now.
    pub(in crate::core) fn go_around(&mut self) {
        let mut looks = PRESENCE_PUSHES_PER_INPUT;
        while looks > 0
            && let Some(user) = self.presences.fanouts.front().cloned()
        {
            let next = self.presences.watched.get_mut(&user).map(|watched| watched.next_watchers(looks));
            let (watchers, looked, has_ended) = next.unwrap_or((Vec::new(), 0, true));
            // A round costs something even when nobody is told.
            looks = looks.saturating_sub(looked.max(1));
            for watcher in watchers {
                self.push_presence(watcher, &user);
            }
            if has_ended {
                self.presences.fanouts.pop_front();
                self.begin_round(&user);
            }
        }
        if self.presences.fanouts.is_empty() {
            self.deadlines.cancel(&Timer::Fanout);
        } else {
            self.deadlines.set(Timer::Fanout, self.now.moment);
        }
    }

    /// Tells a watcher how a user is now, or owes it until the watcher has room.
    fn push_presence(&mut self, watcher: ConnectionId, user: &UserId) {
        let Some(state) = self.connections.get_mut(&watcher) else { return };
        let Some(session) = &mut state.session else { return };
        if state.outgoing >= self.config.outgoing_bytes_target {
            session.watching.owed.insert(user.clone());
            return;
        }
        let watched = self.presences.watched.get_mut(user);
        let frame = watched.and_then(|watched| watched.tell(watcher)).and_then(View::frame);
        if let Some(frame) = frame {
            self.presences.pushes += 1;
            self.transmit(watcher, frame);
        }
    }

    /// The connection has read some: it is told what it is owed, as far as it has room.
    pub(in crate::core) fn pay_presence(&mut self, watcher: ConnectionId) {
        while let Some(state) = self.connections.get_mut(&watcher)
            && state.outgoing < self.config.outgoing_bytes_target
            && let Some(session) = &mut state.session
            && let Some(user) = session.watching.owed.pop_first()
        {
            self.push_presence(watcher, &user);
        }
    }
}
