//! How watched users are.

use hongyan_protocol::{Time, UserId, wire};

use crate::view::{Presence, PresenceCause, PresenceStatus};

/// Nothing is known of her.
pub(crate) fn unknown(user: UserId) -> Presence {
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

/// Zero on the wire is a time that nobody knows.
pub(crate) fn time(time: u64) -> Option<Time> {
    (time > 0).then_some(Time(time))
}
