//! What users show of themselves: the queue tells it of the user herself and of who has a direct conversation with her; of
//! others, and where nothing is here, the relay is asked.
//!
//! *Invariant:* of each user one profile is known, and its version only grows while she is known and the epoch is the same;
//! each that becomes known is told once, when it is durable. At most `PROFILES_MAX` users are known; whoever is waited for
//! stays, and who was forgotten is told of anew.

use bytes::Bytes;
use hongyan_protocol::limits::{self, PROFILE_AVATAR_BYTES_MAX, PROFILE_NAME_BYTES_MAX};
use hongyan_protocol::wire::client_frame::Verb;
use hongyan_protocol::{Class, Code, Key, UserId, wire};
use prost::Message as _;

use crate::cache::{After, Cache};
use crate::client::Client;
use crate::conversations::time;
use crate::defects::{self, Defect};
use crate::io::{Answer, ChatError, Event, Now, RequestId, Write};
use crate::limits::{
    PROFILES_AT_ONCE_MAX, PROFILES_DELAY_MS, PROFILES_IN_FLIGHT_MAX, PROFILES_MAX, PROFILES_WAITED_MAX,
};
use crate::requests::What;
use crate::sending::later;
use crate::session::Pending;
use crate::sorted::SortedMap;
use crate::timers::Timer;
use crate::view::{Profile, SessionStatus};

/// A relay that has more to do is asked again as after so many failures: within four seconds.
const PUT_OFF_TIMES: u32 = 4;

/// Whether the relay was asked for a profile on this connection.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Asked {
    /// It was not, and need not be.
    #[default]
    No,
    /// It answered.
    Heard,
    /// It is to be asked.
    Due,
    /// The request is on the wire.
    Waits,
}

#[derive(Default)]
struct Known {
    /// Of version 0 while nothing is known for certain of this epoch; what it says may be of another one then, or empty.
    profile: wire::Profile,
    asked: Asked,
    /// It may be old without being told so. The cache has it as of version 0 until the relay has answered, so that a later
    /// process asks, too.
    in_doubt: bool,
    /// So many of the application's requests wait for it.
    waits: u32,
    /// Counts with each use: what was not used for longest goes first.
    used: u64,
}

impl Known {
    fn record(&self) -> Bytes {
        let mut record = self.profile.clone();
        if self.in_doubt {
            record.version = 0;
        }
        record.encode_to_vec().into()
    }

    /// There is something to show, of whichever epoch.
    fn is_shown(&self) -> bool {
        !self.profile.name.is_empty() || !self.profile.avatar.is_empty()
    }
}

/// All profiles that are known, or asked for.
#[derive(Default)]
pub(crate) struct Profiles {
    users: SortedMap<UserId, Known>,
    uses: u64,
}

impl Profiles {
    /// What a record holds; says whether it could be read.
    pub(crate) fn restore(&mut self, record: &Bytes, writes: &mut Vec<Write>) -> bool {
        let Ok(profile) = wire::Profile::decode(record.clone()) else { return false };
        let Ok(user) = UserId::new(&profile.user) else { return false };
        let known = self.entry(&user, writes);
        if profile.version == 0 {
            known.asked = Asked::Due;
        }
        known.profile = profile;
        true
    }

    /// The user, brought in if she is not there; who goes for her is in `writes`.
    fn entry(&mut self, user: &UserId, writes: &mut Vec<Write>) -> &mut Known {
        if self.users.len() >= PROFILES_MAX && !self.users.contains_key(user) {
            let idle = self.users.iter().filter(|(_, known)| known.waits == 0 && known.asked != Asked::Waits);
            let oldest = idle.min_by_key(|(_, known)| (known.asked > Asked::Heard, known.used));
            if let Some(gone) = oldest.map(|(user, _)| user.clone()) {
                self.users.remove(&gone);
                writes.push(Write::ProfileGone(gone));
            }
        }
        self.uses += 1;
        let known = self.users.get_or_insert_with(user.clone(), Known::default);
        known.used = self.uses;
        known
    }

    /// With so many more that are waited for there may be none left to go for another.
    fn is_full(&self, users: usize) -> bool {
        let waited = self.users.values().filter(|known| known.waits > 0).count();
        waited + users > PROFILES_WAITED_MAX
    }

    /// A request of the application's waits for these users, or does not any more.
    pub(crate) fn wait(&mut self, users: &[UserId], waits: bool) {
        for user in users {
            if let Some(known) = self.users.get_mut(user) {
                known.waits = if waits { known.waits + 1 } else { known.waits.saturating_sub(1) };
            }
        }
    }

    /// Something is known of all of them, or the relay has answered.
    pub(crate) fn heard_all(&self, users: &[UserId]) -> bool {
        let is_open = |known: &Known| known.profile.version == 0 && known.asked > Asked::Heard;
        users.iter().all(|user| !self.users.get(user).is_some_and(is_open))
    }

    pub(crate) fn views(&self, users: &[UserId]) -> Vec<Profile> {
        let view = |user: &UserId| match self.users.get(user) {
            Some(known) => view(user.clone(), &known.profile),
            None => view(user.clone(), &wire::Profile::default()),
        };
        users.iter().map(view).collect()
    }

    /// Moves all from where they are to another state.
    fn turn(&mut self, turn: fn(&Known) -> Asked) {
        for known in self.users.values_mut() {
            known.asked = turn(known);
        }
    }

    /// Who may see whom may have changed: who seemed to have no profile is asked for again when she is wanted.
    pub(crate) fn may_be_seen(&mut self) {
        self.turn(|known| match known.asked {
            Asked::Heard if known.profile.version == 0 => Asked::No,
            asked => asked,
        });
    }

    /// What is known may be old without being told so: all of it is asked for again, by a later process if need be, and shown
    /// until the relay tells what there is now. The cache was emptied.
    pub(crate) fn begin_anew(&mut self, is_same_epoch: bool, cache: &mut Cache) {
        for (user, known) in self.users.iter_mut() {
            known.asked = Asked::Due;
            known.in_doubt = true;
            if !is_same_epoch {
                known.profile.version = 0;
            }
            if known.profile.version > 0 || known.is_shown() {
                cache.write(Write::Profile(user.clone(), known.record()));
            }
        }
    }

    /// A connection ended. What it was asked and did not answer is asked on the next.
    pub(crate) fn disconnected(&mut self) {
        self.turn(|known| if known.asked > Asked::Heard { Asked::Due } else { Asked::No });
    }
}

impl Client {
    /// Answers with what is here; what is not, or was not asked for on this connection, the relay is asked.
    pub(crate) fn get_profiles(&mut self, now: Now, request: RequestId, users: Vec<UserId>) {
        if let Some(error) = self.stopped_by() {
            return self.reply(request, Err(error));
        }
        if users.len() > PROFILES_AT_ONCE_MAX {
            return self.reply(request, Err(ChatError::new(Code::BAD_REQUEST)));
        }
        if self.profiles.is_full(users.len()) {
            return self.refuse_busy(request);
        }
        for user in &users {
            let known = self.profiles.entry(user, &mut self.cache.gathering.writes);
            if known.asked == Asked::No {
                known.asked = Asked::Due;
            }
        }
        // Others may be asked for in a moment: one request for all.
        if self.timers.get(Timer::Profiles).is_none() {
            self.timers.set(Timer::Profiles, now.moment.after_ms(PROFILES_DELAY_MS));
        }
        let may_be_answered =
            matches!(self.session.status(), SessionStatus::Online | SessionStatus::Connecting);
        if may_be_answered && !self.profiles.heard_all(&users) {
            self.ask(now, request, What::Profiles(users));
        } else {
            let profiles = self.profiles.views(&users);
            self.reply(request, Ok(Answer::Profiles(profiles)));
        }
    }

    /// Asks for those who are due.
    pub(crate) fn pump_profiles(&mut self, now: Now) {
        // While a reset is due an answer is of another life than what is known here.
        if !self.session.is_online()
            || self.queue.is_resetting()
            || self.timers.get(Timer::Profiles).is_some()
        {
            return;
        }
        let pending = self.session.pending.values();
        let in_flight = pending.filter(|(pending, _)| matches!(pending, Pending::Profiles(_))).count();
        for _ in in_flight..PROFILES_IN_FLIGHT_MAX {
            let due = self.profiles.users.iter_mut().filter(|(_, known)| known.asked == Asked::Due);
            let (users, asked): (Vec<_>, Vec<_>) = due
                .take(limits::PROFILES_MAX)
                .map(|(user, known)| {
                    known.asked = Asked::Waits;
                    let version = known.profile.version;
                    (wire::KnownProfile { user: user.as_str().into(), version }, user.clone())
                })
                .unzip();
            if asked.is_empty() {
                return;
            }
            let verb = Verb::GetProfiles(wire::GetProfiles { users });
            self.request(now, Pending::Profiles(asked), verb);
        }
    }

    /// The relay told what is newer than what is known of these users.
    pub(crate) fn profiles_came(&mut self, now: Now, users: &[UserId], list: wire::ProfileList) {
        for profile in list.profiles {
            self.apply_profile(profile);
        }
        for user in users {
            let Some(known) = self.profiles.users.get_mut(user) else { continue };
            if known.profile.version == 0 && known.is_shown() {
                // It was of another life, and in this one there is nothing that may be seen.
                let nothing = wire::Profile { user: user.as_str().into(), ..wire::Profile::default() };
                self.put_profile(user.clone(), nothing);
            } else if core::mem::take(&mut known.in_doubt) && known.profile.version > 0 {
                let record = known.record();
                self.cache.write(Write::Profile(user.clone(), record));
            }
        }
        self.profiles_are(users, Asked::Heard);
        self.pump_profiles(now);
    }

    fn profiles_are(&mut self, users: &[UserId], asked: Asked) {
        for user in users {
            if let Some(known) = self.profiles.users.get_mut(user) {
                known.asked = asked;
            }
        }
        self.heard_answers();
    }

    pub(crate) fn profiles_rejected(
        &mut self,
        now: Now,
        users: &[UserId],
        class: Class,
        retry_after_ms: u64,
    ) {
        if class == Class::Stop {
            // A relay that knows no profiles, mostly.
            return self.profiles_are(users, Asked::Heard);
        }
        self.profiles_are(users, Asked::Due);
        self.timers.set(Timer::Profiles, later(&mut self.random, now, PUT_OFF_TIMES, retry_after_ms));
    }

    /// A profile is durable at the relay.
    pub(crate) fn apply_profile(&mut self, profile: wire::Profile) {
        let Ok(user) = UserId::new(&profile.user) else { return };
        let is_large =
            profile.name.len() > PROFILE_NAME_BYTES_MAX || profile.avatar.len() > PROFILE_AVATAR_BYTES_MAX;
        let known = self.profiles.users.get(&user).map_or(0, |known| known.profile.version);
        let is_old = profile.version <= known && !defects::is_on(Defect::OlderProfileTaken);
        if is_large || is_old {
            return;
        }
        self.put_profile(user, profile);
    }

    fn put_profile(&mut self, user: UserId, profile: wire::Profile) {
        let known = self.profiles.entry(&user, &mut self.cache.gathering.writes);
        let before = core::mem::replace(&mut known.profile, profile).version;
        known.in_doubt = false;
        let (event, record) = (Event::Profile(view(user.clone(), &known.profile)), known.record());
        if !defects::is_on(Defect::ProfileNotKept) {
            self.cache.write(Write::Profile(user, record));
        }
        if before == 0 || !defects::is_on(Defect::NewerProfileUntold) {
            self.cache.after(After::Event(event));
        }
    }

    /// Changes the user's own.
    pub(crate) fn set_profile(
        &mut self,
        now: Now,
        request: RequestId,
        key: Option<Key>,
        name: Option<String>,
        avatar: Option<String>,
    ) {
        let len = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        if len(&name) > PROFILE_NAME_BYTES_MAX || len(&avatar) > PROFILE_AVATAR_BYTES_MAX {
            return self.reply(request, Err(ChatError::new(Code::BAD_REQUEST)));
        }
        let key = self.name_of(key);
        self.ask_verb(now, request, Verb::SetProfile(wire::SetProfile { key, name, avatar }));
    }

    /// The user's own is durably so; another device may have changed it since.
    pub(crate) fn profile_set(&mut self, set: wire::ProfileSet) -> Option<Answer> {
        self.apply_profile(set.profile?);
        Some(Answer::Profiles(self.profiles.views(core::slice::from_ref(&self.user))))
    }
}

fn view(user: UserId, profile: &wire::Profile) -> Profile {
    let text = |text: &String| (!text.is_empty()).then(|| text.clone());
    Profile {
        user,
        name: text(&profile.name),
        avatar: text(&profile.avatar),
        version: profile.version,
        time: time(profile.time),
    }
}
