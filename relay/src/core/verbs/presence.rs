//! The verbs of presence: to watch others, and to be away or invisible oneself.

use hongyan_protocol::limits::WATCH_USERS_MAX;
use hongyan_protocol::wire::{self, relay_frame::Event};
use hongyan_protocol::{Time, UserId};

use super::Caller;
use crate::core::commit::Effect;
use crate::core::io::Verifier;
use crate::core::refusal::Refusal;
use crate::core::relay::Relay;
use crate::store::Store;

/// Nobody looks at the device any more, or somebody does again.
pub(super) fn set_away<S: Store, V: Verifier>(
    relay: &mut Relay<S, V>,
    caller: &Caller,
    body: wire::SetAway,
) -> Result<(), Refusal> {
    relay.set_away(caller.connection, body.away);
    Ok(())
}

/// How these users are, and from now on what changes.
pub(super) fn watch<S: Store, V: Verifier>(
    relay: &mut Relay<S, V>,
    caller: &Caller,
    body: wire::Watch,
) -> Result<(), Refusal> {
    let users = users(&body.users)?;
    relay.watch(caller.connection, caller.request, users)
}

pub(super) fn unwatch<S: Store, V: Verifier>(
    relay: &mut Relay<S, V>,
    caller: &Caller,
    body: wire::Unwatch,
) -> Result<(), Refusal> {
    let users = users(&body.users)?;
    relay.unwatch(caller.connection, users)
}

fn users(named: &[String]) -> Result<Vec<UserId>, Refusal> {
    if named.len() > WATCH_USERS_MAX {
        return Err(Refusal::bad("Too many users are named in one request."));
    }
    named.iter().map(|user| UserId::new(user).map_err(Refusal::from)).collect()
}

/// Shows the user to others or not, on all devices and for good; others see it when it is durable.
pub(super) fn set_invisible<S: Store, V: Verifier>(
    relay: &mut Relay<S, V>,
    caller: &Caller,
    body: wire::SetInvisible,
) -> Result<(), Refusal> {
    relay.may_write()?;
    let user = &caller.user;
    let mut record = relay.user_record(user)?.unwrap_or_default();
    if record.invisible != body.invisible {
        record.invisible = body.invisible;
        record.invisible_set = record.invisible_set.max(relay.now.time.0);
        relay.put_user_record(user, record)?;
        let set = Time(record.invisible_set);
        relay.commits.then(Effect::Invisible(user.clone(), caller.connection, record.invisible, set));
    }
    let invisible = record.invisible;
    let answer = Event::Invisible(wire::Invisible { invisible });
    let mark = relay.user_record_mark(user);
    relay.answer_at(mark, caller.connection, caller.request, answer);
    Ok(())
}
