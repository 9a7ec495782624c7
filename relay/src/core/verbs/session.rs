//! The verbs of the session itself.

use hongyan_protocol::wire::{self, PresenceCause, relay_frame::Event};
use hongyan_protocol::{Code, Pos};

use super::Caller;
use super::hello::token_expires_in_ms;
use crate::core::commit::Effect;
use crate::core::defects::{self, Defect};
use crate::core::io::Verifier;
use crate::core::refusal::Refusal;
use crate::core::relay::Relay;
use crate::store::Store;

/// A newer token for the open connection. One that is refused ends the connection, as at hello: an app whose user
/// may no longer be here must not stay connected by sending a bad token.
pub(super) fn renew<S: Store, V: Verifier>(
    relay: &mut Relay<S, V>,
    caller: &Caller,
    body: wire::Renew,
) -> Result<(), Refusal> {
    let identity = relay.identify(&body.token, &caller.user)?;
    if let Some(session) = relay.session_mut(caller.connection) {
        (session.expires, session.issued) = (identity.expires, identity.issued());
    }
    relay.look_later(caller.connection);
    let token_expires_in_ms = token_expires_in_ms(identity.expires, relay.now.time);
    relay.answer(caller.connection, caller.request, Event::Renewed(wire::Renewed { token_expires_in_ms }));
    Ok(())
}

/// The client saw a gap and wants the stream again from after its cursor.
pub(super) fn resume<S: Store, V: Verifier>(
    relay: &mut Relay<S, V>,
    caller: &Caller,
    body: wire::Resume,
) -> Result<(), Refusal> {
    Ok(relay.stream_from(caller.connection, Pos(body.cursor), false)?)
}

/// The device has durably applied everything up to here.
pub(super) fn ack<S: Store, V: Verifier>(
    relay: &mut Relay<S, V>,
    caller: &Caller,
    body: wire::Ack,
) -> Result<(), Refusal> {
    let cursor = Pos(body.cursor);
    let Some(session) = relay.session_mut(caller.connection) else { return Ok(()) };
    if cursor > session.sent_max {
        return Err(Refusal::Close(Code::BAD_FRAME));
    }
    if cursor > session.acknowledged {
        session.acknowledged = cursor;
        relay.note_cursor(&caller.user, &caller.device, cursor, None);
        relay.line_up(caller.connection);
    }
    Ok(())
}

pub(super) fn ping<S: Store, V: Verifier>(
    relay: &mut Relay<S, V>,
    caller: &Caller,
    body: wire::Ping,
) -> Result<(), Refusal> {
    relay.answer(caller.connection, caller.request, Event::Pong(wire::Pong { nonce: body.nonce }));
    Ok(())
}

/// That something was heard is all it tells.
pub(super) fn pong<S: Store, V: Verifier>(
    _: &mut Relay<S, V>,
    _: &Caller,
    _: wire::Pong,
) -> Result<(), Refusal> {
    Ok(())
}

/// The client leaves on purpose, and says how soon it may be back; with `logout` its device is forgotten, and with it
/// all its connections.
pub(super) fn bye<S: Store, V: Verifier>(
    relay: &mut Relay<S, V>,
    caller: &Caller,
    body: wire::Bye,
) -> Result<(), Refusal> {
    if !body.logout {
        relay.say_goodbye(caller.connection, &body);
        return Err(Refusal::Close(Code(1000)));
    }
    // What may fail comes first: a logout that is refused changes nothing.
    let is_signed_out =
        relay.has_sign_out(&caller.user, &caller.device)? && !defects::is_on(Defect::LogoutForgetsSignOut);
    relay.keep_last_seen(&caller.user, PresenceCause::Logout)?;
    let mut connections = vec![caller.connection];
    if let Some(user) = relay.users.get(&caller.user) {
        connections.extend(user.connections.iter().filter(|other| **other != caller.connection));
    }
    connections.retain(|connection| match relay.session_mut(*connection) {
        Some(session) if session.device == caller.device => {
            session.leaving = true;
            true
        }
        _ => false,
    });
    // Those that ended, and whose leases wait for a return, too: who holds one later has logged in again.
    let ended = relay.lease_holders(&caller.user, &caller.device);
    connections.extend(ended.into_iter().filter(|ended| !connections.contains(ended)).collect::<Vec<_>>());
    if !is_signed_out {
        relay.forget_device(&caller.user, &caller.device);
    }
    relay.commits.then(Effect::LoggedOut(caller.user.clone(), caller.device.clone(), connections));
    Ok(())
}
