//! The verbs of profiles: to change one's own, and to ask for others'.

use hongyan_protocol::limits::{PROFILE_AVATAR_BYTES_MAX, PROFILE_NAME_BYTES_MAX, PROFILES_MAX};
use hongyan_protocol::wire::{self, relay_frame::Event};
use hongyan_protocol::{Key, ProfileVersion, UserId};

use super::Caller;
use super::keys::Keyed;
use crate::core::io::Verifier;
use crate::core::records::{KeyRecord, decode};
use crate::core::refusal::Refusal;
use crate::core::relay::Relay;
use crate::store::Store;

pub(super) fn set<S: Store, V: Verifier>(
    relay: &mut Relay<S, V>,
    caller: &Caller,
    body: wire::SetProfile,
) -> Result<(), Refusal> {
    relay.may_write()?;
    let key = Key::new(&body.key)?;
    check(body.name.as_deref(), PROFILE_NAME_BYTES_MAX, "The name is too long, or has control characters.")?;
    check(
        body.avatar.as_deref(),
        PROFILE_AVATAR_BYTES_MAX,
        "The picture's URL is too long, or has control characters.",
    )?;
    // A repeated change is answered with what is now, whatever has happened since.
    if relay.answer_known_key(caller, &key, Keyed::Profile)? {
        return Ok(());
    }
    let user = &caller.user;
    let before = relay.profile(user)?;
    let mut profile: wire::Profile = match &before {
        Some(before) => decode(before.clone(), "profiles")?,
        None => wire::Profile { user: user.as_str().to_owned(), ..wire::Profile::default() },
    };
    let was = profile.clone();
    profile.name = body.name.unwrap_or(profile.name);
    profile.avatar = body.avatar.unwrap_or(profile.avatar);
    let set = |profile| Event::ProfileSet(wire::ProfileSet { key: body.key, profile: Some(profile) });
    relay.users.load(&relay.store, user)?;

    // Nothing below can fail: all of it is accepted together. A change of nothing uses its key, too: repeated, it would
    // take back what was changed meanwhile.
    if profile != was {
        profile.version = was.version.saturating_add(1);
        profile.time = relay.now.time.0;
        relay.put_profile(user, before, &profile);
    }
    let known = KeyRecord {
        profile: profile.version,
        time: relay.now.time.0,
        key: key.as_str().to_owned(),
        ..KeyRecord::default()
    };
    relay.remember_key(caller, key, &known, set(profile));
    Ok(())
}

pub(super) fn get<S: Store, V: Verifier>(
    relay: &mut Relay<S, V>,
    caller: &Caller,
    body: wire::GetProfiles,
) -> Result<(), Refusal> {
    if body.users.len() > PROFILES_MAX {
        return Err(Refusal::bad("Too many users are named in one request."));
    }
    let known = body.users.iter().map(|one| Ok((UserId::new(&one.user)?, ProfileVersion(one.version))));
    let known = known.collect::<Result<_, Refusal>>()?;
    relay.ask_for_profiles(caller.connection, caller.request, known)
}

fn check(text: Option<&str>, bytes_max: usize, why: &'static str) -> Result<(), Refusal> {
    let is_bad = |text: &str| text.len() > bytes_max || text.chars().any(char::is_control);
    if text.is_some_and(is_bad) { Err(Refusal::bad(why)) } else { Ok(()) }
}
