//! The first frame of a connection: who it is, and from where its stream begins.

use hongyan_protocol::limits::{AGENT_BYTES_MAX, TOKEN_BYTES_MAX};
use hongyan_protocol::wire::{self, relay_frame::Event};
use hongyan_protocol::{Code, DeviceId, Epoch, Pos, Time, UserId, VERSION, VERSION_MIN};

use crate::core::defects::{self, Defect};
use crate::core::devices::DeviceAbout;
use crate::core::io::{ConnectionId, Identity, Verifier};
use crate::core::logs::Listening;
use crate::core::presence::{Claim, Order, Tab, Watching};
use crate::core::refusal::{Refusal, Reject};
use crate::core::relay::Relay;
use crate::core::sessions::Session;
use crate::store::Store;

pub(super) fn hello<S: Store, V: Verifier>(
    relay: &mut Relay<S, V>,
    connection: ConnectionId,
    request: u64,
    body: wire::Hello,
) -> Result<(), Refusal> {
    relay.may_write()?;
    if !(VERSION_MIN..=VERSION).contains(&body.version) {
        return Err(Refusal::end(Code::VERSION_UNSUPPORTED));
    }
    let user = UserId::new(&body.user)?;
    let device = DeviceId::new(&body.device)?;
    let epoch = if body.epoch.is_empty() { None } else { Some(Epoch::new(&body.epoch)?) };
    if body.agent.len() > AGENT_BYTES_MAX {
        return Err(Refusal::bad("The agent's name is too long."));
    }
    let claim = Claim {
        user: user.clone(),
        device: device.clone(),
        kind: body.device_kind,
        tab: Tab::new(&body.tab)?,
        order: Order { term: body.term, dial: body.dial },
        away: body.away,
    };
    let identity = relay.identify(&body.token, &user)?;
    if relay.is_signed_out(&user, &device)? && !defects::is_on(Defect::SignedOutLetIn) {
        return Err(Refusal::end(Code::LOGGED_OUT));
    }
    relay.users.load(&relay.store, &user)?;
    // Those of the same device, and those of others that are too many by the policy: none is both.
    let superseded = relay.superseded_by(&claim)?.len();
    let outnumbered = relay.outnumbered_by(&user, &device, body.device_kind);
    let connections = relay.users.get(&user).map_or(0, |user| user.connections.len());
    let leaves = superseded.saturating_add(outnumbered.len());
    if connections >= relay.config.connections_per_user_max.saturating_add(leaves) {
        return Err(Refusal::end(Code::TOO_MANY_CONNECTIONS));
    }
    let invisible = relay.user_record(&user)?.is_some_and(|record| record.invisible);

    let logs = relay.logs_of(&user)?;
    let cursor = Pos(body.cursor);
    let reset = match &epoch {
        None if cursor == Pos::ZERO => None,
        Some(epoch) if *epoch == relay.epoch => None,
        _ => Some(wire::ResetCause::EpochUnknown),
    };
    let reset = match reset {
        None => relay.stream_reset(&user, cursor, epoch.is_none())?,
        reset => reset,
    };
    let session = Session {
        user: user.clone(),
        device: device.clone(),
        kind: body.device_kind,
        began: relay.now,
        expires: identity.expires,
        issued: identity.issued(),
        sent: Pos::ZERO,
        sent_max: Pos::ZERO,
        acknowledged: Pos::ZERO,
        snapshot: None,
        leaving: false,
        watching: Watching::default(),
        listening: Listening::default(),
    };
    relay.take_lease(connection, claim)?;
    relay.begin_session(connection, session);
    // Only now: the user is there all the time, and her watchers see nothing.
    for outnumbered in outnumbered {
        relay.close(outnumbered, Code::SUPERSEDED);
    }
    let head = relay.durable_head(&user);
    let applied = if reset.is_none() && cursor <= head { cursor } else { Pos::ZERO };
    let about = DeviceAbout { kind: body.device_kind, agent: body.agent };
    relay.note_cursor(&user, &device, applied, Some(about));
    let config = &relay.config;
    let welcome = wire::Welcome {
        version: body.version,
        epoch: relay.epoch.as_str().to_owned(),
        head: head.0,
        token_expires_in_ms: token_expires_in_ms(identity.expires, relay.now.time),
        ping_interval_ms: u32::try_from(config.ping_interval_ms).unwrap_or(u32::MAX),
        silence_ms: u32::try_from(config.silence_ms).unwrap_or(u32::MAX),
        content_bytes_max: u32::try_from(config.content_bytes_max).unwrap_or(u32::MAX),
        time: relay.now.time.0,
        bye_ticket: relay.ticket_of(connection),
        invisible,
    };
    relay.answer(connection, request, Event::Welcome(welcome));
    relay.listen(connection, logs);
    relay.begin_stream(connection, cursor, reset);
    Ok(())
}

pub(super) fn token_expires_in_ms(expires: Time, now: Time) -> u64 {
    expires.0.saturating_sub(now.0)
}

impl<S: Store, V: Verifier> Relay<S, V> {
    /// Whose the token is, if it is this user's, has not ended and was not revoked.
    pub(super) fn identify(&self, token: &str, user: &UserId) -> Result<Identity, Refusal> {
        if token.len() > TOKEN_BYTES_MAX {
            let reason = "The token is too long.";
            return Err(Refusal::End(Reject { reason, ..Reject::new(Code::TOKEN_INVALID) }));
        }
        // The verifier's sentence is for the operator; a client that guesses at tokens learns nothing from it.
        let identity = self.verifier.verify(token).map_err(|_| Refusal::end(Code::TOKEN_INVALID))?;
        if identity.expires.0.saturating_add(self.config.token_leeway_ms) <= self.now.time.0
            && !defects::is_on(Defect::TokenEndIgnored)
        {
            return Err(Refusal::end(Code::TOKEN_EXPIRED));
        }
        if identity.user != *user {
            return Err(Refusal::end(Code::TOKEN_USER_MISMATCH));
        }
        if self.is_revoked(user, identity.issued())? && !defects::is_on(Defect::RevokedTaken) {
            return Err(Refusal::end(Code::TOKEN_REVOKED));
        }
        Ok(identity)
    }
}
