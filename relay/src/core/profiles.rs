//! Profiles as they are, and telling of them.
//!
//! A change is told to those who have a direct conversation with the user, by a reference in the queue of each. They may
//! be many, so that goes on over many commits, some in each; until all are told a row says that it is so, and after a
//! restart it begins anew. It begins when the change is durable: so whoever has a direct conversation by then is found in
//! the store, and whoever begins one later is told with its first message. A newer change goes on where the older one had
//! come, and once round: who changes it again and again leaves nobody untold.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use bytes::Bytes;
use hongyan_protocol::wire::{self, relay_frame::Event};
use hongyan_protocol::{ConversationId, Key, ProfileVersion, Seq, UserId};

use super::batches::Change;
use super::commit::{Effect, Mark, Pending};
use super::deadlines::Timer;
use super::defects::{self, Defect};
use super::io::{Moment, Verifier};
use super::limits::{PROFILE_REREAD_MS, PROFILE_REREAD_MS_MAX, PROFILE_TOLD_PER_COMMIT};
use super::queue::rows::{Reference, Target};
use super::records::{
    KeyRecord, decode, directs_range, encode, prefix, prefix_end, profile_key, second_of, telling_key,
};
use super::relay::Relay;
use crate::store::{Order, Store, StoreError, Table};

/// Whose profiles are still to be told, and how far that has come.
#[derive(Default)]
pub(super) struct Telling {
    waiting: BTreeMap<UserId, Round>,
    /// Up to which direct conversation an older profile is told while the newer one is not durable.
    places: BTreeMap<UserId, ConversationId>,
    /// Whose turn was last.
    last: Option<UserId>,
    /// The commit that tells some already.
    told_in: Mark,
    /// The store could not be read; not before this.
    not_before: Moment,
    /// Those of whom something damaged was read, and when that is tried again.
    aside: BTreeMap<(Moment, UserId), Round>,
}

/// Once through all direct conversations of a user, from anywhere on.
#[derive(Clone, Default)]
struct Round {
    /// The one up to which it is told; none at the beginning.
    told: Option<ConversationId>,
    /// After the last one it goes on at the beginning and ends with this one.
    until: Option<ConversationId>,
    /// How long it was set aside the last time in a row, in milliseconds.
    aside_ms: u64,
}

impl Round {
    fn after(place: Option<ConversationId>) -> Self {
        Self { told: place.clone(), until: place, aside_ms: 0 }
    }

    /// Whether what it goes through now ends with [`Round::until`].
    fn is_at_its_end(&self) -> bool {
        self.until.is_none() || self.told < self.until
    }
}

impl Telling {
    /// What an earlier life of the relay has not come to an end with.
    pub(super) fn open(store: &impl Store) -> Result<Self, StoreError> {
        let mut telling = Self::default();
        if defects::is_on(Defect::TellingForgotten) {
            return Ok(telling);
        }
        let mut fault = None;
        store.scan(Table::Profiles, &prefix(""), &prefix_end(""), Order::Ascending, &mut |key, _| {
            let user = second_of(key).and_then(|user| {
                UserId::new(user).map_err(|_| StoreError::Damaged("a profile is of no valid user".into()))
            });
            match user {
                Ok(user) => drop(telling.waiting.insert(user, Round::default())),
                Err(error) => fault = Some(error),
            }
            fault.is_none()
        })?;
        fault.map_or(Ok(telling), Err)
    }

    /// Each in turn.
    fn next(&mut self) -> Option<(UserId, Round)> {
        let after = self.last.take().map_or(Unbounded, Excluded);
        let mut next = self.waiting.range((after, Unbounded));
        let (user, round) = next.next().or_else(|| self.waiting.first_key_value())?;
        self.last = Some(user.clone());
        Some((user.clone(), round.clone()))
    }

    /// Who is not told of this profile is told of the next one.
    fn hold(&mut self, user: &UserId) {
        let aside = self.aside.keys().find(|(_, other)| other == user).cloned();
        let round = match aside {
            Some(aside) => self.aside.remove(&aside),
            None => self.waiting.remove(user),
        };
        if let Some(place) = round.and_then(|round| round.told) {
            self.places.insert(user.clone(), place);
        }
    }

    /// For longer each time.
    fn set_aside(&mut self, user: UserId, now: Moment) {
        let Some(mut round) = self.waiting.remove(&user) else { return };
        round.aside_ms = (2 * round.aside_ms).clamp(PROFILE_REREAD_MS, PROFILE_REREAD_MS_MAX);
        self.aside.insert((now.after_ms(round.aside_ms), user), round);
    }

    fn take_back(&mut self, now: Moment) {
        while let Some(aside) = self.aside.first_entry()
            && aside.key().0 <= now
        {
            let ((_, user), round) = aside.remove_entry();
            self.waiting.insert(user, round);
        }
    }
}

impl<S: Store, V: Verifier> Relay<S, V> {
    /// A profile as it is assigned.
    pub(super) fn profile(&self, user: &UserId) -> Result<Option<Bytes>, StoreError> {
        match self.commits.profiles.get(user) {
            Some(pending) => Ok(Some(pending.assigned.clone())),
            None => self.store.get(Table::Profiles, &profile_key(user)),
        }
    }

    /// A profile as it durably is.
    pub(super) fn profile_durable(&self, user: &UserId) -> Result<Option<Bytes>, StoreError> {
        match self.commits.profiles.get(user) {
            Some(pending) => Ok(pending.durable.clone()),
            None => self.store.get(Table::Profiles, &profile_key(user)),
        }
    }

    /// Changes a profile from what [`Relay::profile`] gave; the user is in memory.
    pub(super) fn put_profile(&mut self, user: &UserId, before: Option<Bytes>, profile: &wire::Profile) {
        let commit = self.commits.mark();
        let bytes = encode(profile);
        let durable = match self.commits.profiles.get(user) {
            Some(pending) => pending.durable.clone(),
            None => before,
        };
        let pending = Pending { durable, assigned: bytes.clone(), commit };
        self.commits.profiles.insert(user.clone(), pending);
        self.commits.put(Table::Profiles, profile_key(user), bytes.clone());
        self.telling.hold(user);
        self.commits.put(Table::Profiles, telling_key(user), Bytes::new());
        self.commits.then(Effect::Profile(user.clone(), bytes.clone()));
        self.refer_to_profile(user, user, ProfileVersion(profile.version), bytes);
    }

    fn refer_to_profile(&mut self, whom: &UserId, of: &UserId, version: ProfileVersion, profile: Bytes) {
        let (conversation, target) = (ConversationId::direct(whom, of), Target::Profile(version.0));
        let reference = Reference { conversation, target, copy: None };
        self.enqueue(whom, &reference, &Change::Profile(profile));
    }

    /// Those of these profiles that are newer than what is known of them.
    pub(super) fn profiles_after(
        &self,
        known: &BTreeMap<UserId, ProfileVersion>,
    ) -> Result<wire::ProfileList, StoreError> {
        let mut profiles = Vec::new();
        for (user, version) in known {
            let Some(profile) = self.profile_durable(user)? else { continue };
            let profile: wire::Profile = decode(profile, "profiles")?;
            if profile.version > version.0 {
                profiles.push(profile);
            }
        }
        Ok(wire::ProfileList { profiles })
    }

    /// The answer to a change of a profile that was asked for under this key.
    pub(super) fn profile_set_before(
        &self,
        user: &UserId,
        key: &Key,
        record: &KeyRecord,
    ) -> Result<Event, StoreError> {
        let profile = match self.profile_durable(user)? {
            Some(profile) => decode(profile, "profiles")?,
            // Nothing was what there was to change.
            None if record.profile == 0 => {
                wire::Profile { user: user.as_str().to_owned(), ..Default::default() }
            }
            None => return Err(StoreError::Damaged(format!("the profile of {user} is missing"))),
        };
        let profile = Some(profile);
        Ok(Event::ProfileSet(wire::ProfileSet { key: key.as_str().to_owned(), profile }))
    }

    // ------------------------------------------------------------ who begins to write to each other

    /// The next message of the conversation is the first of two users.
    pub(super) fn is_new_direct(&self, id: &ConversationId) -> bool {
        let conversation = self.conversations.get(id);
        conversation.is_some_and(|it| it.group.is_none() && it.assigned == Seq::ZERO)
    }

    /// The profiles of two users, as far as they have any; of one who writes to herself, none.
    pub(super) fn profiles_of(&self, users: &Arc<[UserId]>) -> Result<Vec<(UserId, Bytes)>, StoreError> {
        let mut profiles = Vec::new();
        if users.len() > 1 {
            for user in users.iter() {
                profiles.extend(self.profile(user)?.map(|profile| (user.clone(), profile)));
            }
        }
        Ok(profiles)
    }

    /// Tells two users of each other.
    pub(super) fn introduce(&mut self, id: &ConversationId, profiles: Vec<(UserId, Bytes)>) {
        if defects::is_on(Defect::NotIntroduced) {
            return;
        }
        for (of, profile) in profiles {
            // What was written here can be read.
            let version = decode::<wire::Profile>(profile.clone(), "profiles").map_or(0, |it| it.version);
            if let Some(whom) = id.peer_of(&of) {
                self.refer_to_profile(&whom, &of, ProfileVersion(version), profile);
            }
        }
    }

    // ------------------------------------------------------------ telling of a change

    /// The user's profile is durable: all who have a direct conversation with her are to be told, but not while a newer
    /// one is on its way, whose mark would go with the end of this telling.
    pub(super) fn tell_profile(&mut self, user: UserId) {
        if !self.commits.profiles.contains_key(&user) {
            let round = Round::after(self.telling.places.remove(&user));
            self.telling.waiting.insert(user, round);
        }
    }

    /// Some are told of somebody's profile, unless the commit that gathers tells some already: its end is the next
    /// occasion. Else the deadline of the rest is now.
    pub(super) fn tell_of_profiles(&mut self) {
        let may_write = self.may_write().is_ok();
        self.telling.take_back(self.now.moment);
        if may_write
            && self.now.moment >= self.telling.not_before
            && self.telling.told_in < self.commits.mark()
            && let Some((user, round)) = self.telling.next()
        {
            match self.tell_some(&user, round) {
                Ok(true) => self.telling.told_in = self.commits.mark(),
                // Nobody was there to be told; the next turn is now.
                Ok(false) => {}
                Err(error) => {
                    self.note_fault(&error);
                    match error {
                        // Others need not wait for that.
                        StoreError::Damaged(_) => self.telling.set_aside(user, self.now.moment),
                        StoreError::Engine(_) => {
                            self.telling.not_before = self.now.moment.after_ms(PROFILE_REREAD_MS);
                        }
                    }
                }
            }
        }
        let waits = self.telling.waiting.is_empty() || self.telling.told_in >= self.commits.mark();
        let next = (!waits).then(|| self.now.moment.max(self.telling.not_before));
        let aside = self.telling.aside.first_key_value().map(|((at, _), _)| *at);
        match next.into_iter().chain(aside).min() {
            Some(at) if self.is_serving() => {
                if may_write {
                    self.deadlines.set(Timer::Profiles, at);
                }
            }
            _ => self.deadlines.cancel(&Timer::Profiles),
        }
    }

    /// False when there was nothing to write.
    fn tell_some(&mut self, user: &UserId, round: Round) -> Result<bool, StoreError> {
        let Some(profile) = self.profile(user)? else {
            return Err(StoreError::Damaged(format!("the profile of {user} is missing")));
        };
        let version = ProfileVersion(decode::<wire::Profile>(profile.clone(), "profiles")?.version);
        let is_at_its_end = round.is_at_its_end();
        let mut directs = self.directs_after(user, round.told.as_ref())?;
        let is_through = directs.len() < PROFILE_TOLD_PER_COMMIT;
        let mut is_last = is_at_its_end && is_through;
        if is_at_its_end && let Some(until) = &round.until {
            is_last |= directs.last().is_some_and(|last| last >= until);
            directs.retain(|id| id <= until);
        }
        let mut peers = Vec::new();
        for peer in directs.iter().filter_map(|id| id.peer_of(user)).filter(|peer| peer != user) {
            self.users.load(&self.store, &peer)?;
            peers.push(peer);
        }
        if defects::is_on(Defect::ProfileToldToOneLess) {
            peers.pop();
        }
        for peer in &peers {
            self.refer_to_profile(peer, user, version, profile.clone());
        }
        if is_last {
            self.telling.waiting.remove(user);
            self.commits.delete(Table::Profiles, telling_key(user));
        } else {
            let told = if is_through { None } else { directs.pop() };
            self.telling.waiting.insert(user.clone(), Round { told, until: round.until, aside_ms: 0 });
        }
        Ok(is_last || !peers.is_empty())
    }

    /// Some of the user's direct conversations, ascending; none when there are no more.
    fn directs_after(
        &self,
        user: &UserId,
        after: Option<&ConversationId>,
    ) -> Result<Vec<ConversationId>, StoreError> {
        let mut directs = Vec::new();
        let mut fault = None;
        let (from, to) = directs_range(user, after);
        self.store.scan(Table::Memberships, &from, &to, Order::Ascending, &mut |key, _| {
            let id = second_of(key).and_then(|id| {
                ConversationId::new(id)
                    .map_err(|_| StoreError::Damaged("a membership names no valid conversation".into()))
            });
            match id {
                Ok(id) => directs.push(id),
                Err(error) => fault = Some(error),
            }
            fault.is_none() && directs.len() < PROFILE_TOLD_PER_COMMIT
        })?;
        fault.map_or(Ok(directs), Err)
    }
}
