//! People change what they show of themselves, and look at others; and the checker of that: what is told is durable and for
//! whoever may see it, a version is told once and none after a newer one, and in the end everybody shows of who has a
//! direct conversation with her what is true.

use hongyan_client::view::Profile;
use hongyan_client::{Answer, ChatError, Command};
use hongyan_protocol::wire;
use hongyan_protocol::{ConversationId, ConversationKind, UserId};

use crate::chance::Chance;
use crate::device::Asked;
use crate::disk::Tables;
use crate::faults::Fault;
use crate::truth;
use crate::world::World;

impl World {
    /// Beside what else happens in a step.
    pub(crate) fn profile_step(&mut self, step: u32) {
        if !self.scenario.profiles {
            return;
        }
        let mut chance = Chance::new(self.scenario.seed, 5_000_000 + u64::from(step));
        if !chance.percent(25) {
            return;
        }
        let index = chance.index(self.devices.len());
        if chance.percent(40) {
            let users = self.users().into_iter().filter(|_| chance.percent(40)).collect();
            self.ask(index, Command::Profiles(users), Asked::Profiles);
            return;
        }
        for _ in 0..chance.weighted(&[(5, 1), (1, 3)]) {
            let name = chance.percent(80).then(|| format!("name {}", chance.below(1_000)));
            let avatar = chance.percent(30).then(|| format!("https://pictures/{}", chance.below(1_000)));
            self.note(|| format!("device {index} shows {name:?} {avatar:?}"));
            self.ask(index, Command::SetProfile { key: None, name, avatar }, Asked::Profile);
        }
    }

    /// A change of one's own is answered when it is durable.
    pub(crate) fn profile_answered(&mut self, index: usize, answer: Result<Answer, ChatError>) {
        match answer {
            Ok(Answer::Profiles(profiles)) => {
                if let Some(profile) = profiles.iter().find(|it| it.version > 0 && !self.was_profile(it)) {
                    self.broke(
                        "R4",
                        format!("a profile that is answered to device {index} is durable"),
                        format!("it never was {profile:?}"),
                    );
                }
            }
            Err(_) => {}
            Ok(_) => self.broke("R6", "a change is answered with the profile", "it is answered otherwise"),
        }
    }

    /// What is given is never older than what was told before.
    pub(crate) fn profiles_answered(&mut self, index: usize, answer: Result<Answer, ChatError>) {
        let Ok(Answer::Profiles(profiles)) = answer else { return };
        // Nothing stays of who was signed out, and what was known before a gap is not known any more.
        let device = &self.devices[index];
        if device.is_logged_out() || !device.told.gaps.is_empty() {
            return;
        }
        for profile in profiles {
            let told = self.devices[index].told.profiles.get(profile.user.as_str()).copied();
            if told.is_some_and(|told| profile.version < told) {
                return self.broke(
                    "profile",
                    format!("device {index} shows version {told:?} of {} or a later one", profile.user),
                    format!("it shows {}", profile.version),
                );
            }
        }
    }

    /// An application hears of a profile: each version once, and none after a newer one.
    pub(crate) fn watch_profile(&mut self, index: usize, profile: &Profile) {
        self.mattered(Fault::ProfileTold);
        let told = self.devices[index].told.profiles.insert(profile.user.as_str().into(), profile.version);
        // What was shown since a gap, as of no version, is no more.
        let is_none = (profile.version, &profile.name, &profile.avatar) == (0, &None, &None);
        if told.is_some_and(|told| told >= profile.version && !(is_none && told == 0)) {
            return self.broke(
                "profile",
                format!("after version {told:?} of {} device {index} is told a later one", profile.user),
                format!("it is told {}", profile.version),
            );
        }
        if !is_none && !self.was_profile(profile) {
            self.broke(
                "R4",
                format!("a profile that device {index} is told is durable"),
                format!("it never was {profile:?}"),
            );
        }
    }

    fn was_profile(&self, shown: &Profile) -> bool {
        let is_so = |tables: &Tables| {
            truth::profiles(tables, shown.user.as_str()).any(|profile| {
                let text = |text: &String| (!text.is_empty()).then(|| text.clone());
                (profile.version, text(&profile.name), text(&profile.avatar))
                    == (shown.version, shown.name.clone(), shown.avatar.clone())
            })
        };
        self.relay.store.look(is_so) || self.archive.values().any(is_so)
    }

    // ------------------------------------------------------------ what the relay tells

    /// An entry of a queue tells of a profile, made for this version or an earlier one.
    pub(crate) fn watch_told_entry_profile(
        &mut self,
        user: &str,
        profile: &wire::Profile,
        made_for: Option<u64>,
    ) {
        let Some(made_for) = made_for.filter(|version| *version <= profile.version) else {
            return self.broke(
                "R4",
                format!("{user} is told what is durable in the queue, a profile of version {made_for:?}"),
                format!("version {} of {}", profile.version, profile.user),
            );
        };
        if profile.version > made_for {
            self.mattered(Fault::ProfileLate);
        }
        let may =
            self.relay.store.look(|tables| profile.user == user || has_direct(tables, user, &profile.user));
        self.watch_told_profile(user, profile, may);
    }

    /// Profiles that were asked for.
    pub(crate) fn watch_told_profiles(&mut self, user: &str, list: &wire::ProfileList) {
        for profile in &list.profiles {
            // Who has left a group may be told while the relay does not know that this is durable.
            let commits = !self.relay.is_quiet();
            let may = self.relay.store.look(|tables| {
                profile.user == user
                    || has_direct(tables, user, &profile.user)
                    || shares_group(tables, user, &profile.user)
                    || (commits && shared_group(tables, user, &profile.user))
            });
            self.watch_told_profile(user, profile, may);
        }
    }

    fn watch_told_profile(&mut self, user: &str, profile: &wire::Profile, may: bool) {
        if !may {
            return self.broke(
                "R8",
                format!("{user} sees profiles of who shares a conversation with {user}"),
                format!("{user} was told of {}", profile.user),
            );
        }
        let is_durable = |tables: &Tables| truth::profiles(tables, &profile.user).any(|it| it == *profile);
        if !self.relay.store.look(is_durable) {
            self.broke(
                "R4",
                format!("a profile that {user} is told is durable"),
                format!("version {} of {} is not", profile.version, profile.user),
            );
        }
    }

    // ------------------------------------------------------------ at the end

    /// Nobody is still to be told of a profile.
    pub(crate) fn all_profiles_are_told(&self) -> bool {
        self.relay.store.look(|tables| truth::telling(tables) == 0)
    }

    /// Every device knows, of its user and of who has a direct conversation with her, what is true; one that began with
    /// the list may have to ask.
    pub(crate) fn judge_profiles(&mut self, index: usize) {
        if !self.scenario.profiles {
            return;
        }
        let device = &self.devices[index];
        let (user, epoch) = (device.user.clone(), device.cache().meta().epoch);
        let kept = device.cache().profiles();
        let begins_late = device.cache().from.0 == epoch && device.cache().from.1 > 0;
        let truth = self.relay.store.look(|tables| {
            let others = truth::memberships(tables, user.as_str()).into_keys();
            let mut users: Vec<UserId> =
                others.filter_map(|id| ConversationId::new(&id).ok()?.peer_of(&user)).collect();
            users.push(user.clone());
            let now = |user: UserId| {
                let now = truth::profile(tables, user.as_str()).map_or(0, |profile| profile.version);
                (user, now)
            };
            users.into_iter().map(now).collect::<Vec<_>>()
        });
        for (of, now) in &truth {
            let known = kept.get(of.as_str()).copied();
            if known != Some(*now) && *now > 0 && !(known.is_none() && begins_late) {
                return self.broke(
                    "profile",
                    format!("device {index} of {user} knows version {now} of {of}"),
                    format!("it knows {known:?}"),
                );
            }
            let told = self.devices[index].told.profiles.get(of.as_str()).copied();
            if known.is_some_and(|known| known > 0) && told != known {
                return self.broke(
                    "profile",
                    format!("device {index} of {user} was told version {known:?} of {of}, which it knows"),
                    format!("it was told {told:?}"),
                );
            }
        }
        // A token may end in between: then it is answered with what is here, and asked again.
        let users: Vec<UserId> = truth.iter().map(|(user, _)| user.clone()).collect();
        let mut shown = Vec::new();
        for _ in 0..3 {
            let Some(Ok(Answer::Profiles(profiles))) = self.call(index, Command::Profiles(users.clone()))
            else {
                return;
            };
            shown = profiles.into_iter().map(|profile| profile.version).collect();
            if truth.iter().map(|(_, now)| now).eq(&shown) {
                return;
            }
            self.pass(10_000);
        }
        self.broke(
            "profile",
            format!("device {index} of {user} shows what is true when it is asked, {truth:?}"),
            format!("it shows {shown:?}"),
        );
    }
}

fn has_direct(tables: &Tables, one: &str, other: &str) -> bool {
    let (Ok(user), Ok(other)) = (UserId::new(one), UserId::new(other)) else { return false };
    truth::memberships(tables, one).contains_key(ConversationId::direct(&user, &other).as_str())
}

/// They were in a group together at some time.
fn shared_group(tables: &Tables, one: &str, other: &str) -> bool {
    truth::memberships(tables, one).keys().any(|id| {
        let changes = truth::group_changes(tables, id);
        (1..=changes.len()).any(|until| {
            let members = truth::members_at(&changes[..until], u64::MAX);
            members.contains(one) && members.contains(other)
        })
    })
}

fn shares_group(tables: &Tables, one: &str, other: &str) -> bool {
    truth::memberships(tables, one).iter().any(|(id, membership)| {
        let is_group = ConversationId::new(id).is_ok_and(|id| id.kind() == ConversationKind::Group);
        is_group && membership.left == 0 && truth::is_member(tables, id, other)
    })
}
