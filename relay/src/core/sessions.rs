//! Connections: who is there, what was sent to them, and when to look after them.

use std::collections::BTreeMap;

use hongyan_protocol::{DeviceId, Pos, Time, UserId};

use super::io::{ConnectionId, CoreConfig, Moment, Now};
use super::logs::Listening;
use super::presence::Watching;
use super::snapshot::SnapshotProgress;

/// A connection, from its opening.
pub(super) struct Connection {
    pub(super) opened: Moment,
    /// When something was last heard from it.
    pub(super) heard: Moment,
    /// When it was last pinged.
    pub(super) pinged: Moment,
    /// Bytes given to `Transmit` that the socket has not taken.
    pub(super) outgoing: usize,
    /// When the socket last took some, or when `outgoing` last became more than 0.
    pub(super) moved: Moment,
    /// When it is looked after next: its deadline, as their table has it.
    pub(super) look_at: Moment,
    /// Its stream stands in the line for a turn.
    pub(super) in_line: bool,
    /// The second in which `refusals` were counted.
    pub(super) refusals_since: Moment,
    pub(super) refusals: u32,
    /// Since hello. In a box, since the map of connections keeps room for more than there are.
    pub(super) session: Option<Box<Session>>,
}

/// A connection that said hello.
pub(super) struct Session {
    pub(super) user: UserId,
    pub(super) device: DeviceId,
    /// What its hello said; a number that this version does not know is kept.
    pub(super) kind: i32,
    /// When it said hello.
    pub(super) began: Now,
    /// The end of its token.
    pub(super) expires: Time,
    /// When its token was issued; 0 when nobody says.
    pub(super) issued: Time,
    /// The last entry of the queue that was sent.
    pub(super) sent: Pos,
    /// The highest that ever was sent on this connection; `sent` may go back (resume). No cursor may be above.
    pub(super) sent_max: Pos,
    /// The device's cursor, as far as this connection said.
    pub(super) acknowledged: Pos,
    /// What of a snapshot is still to be sent, before any entry.
    pub(super) snapshot: Option<SnapshotProgress>,
    /// It logs out: nothing is taken from it any more.
    pub(super) leaving: bool,
    /// Whose presence it is told.
    pub(super) watching: Watching,
    /// Groups that come by their logs.
    pub(super) listening: Listening,
}

impl Connection {
    pub(super) fn new(now: Moment) -> Self {
        Self {
            opened: now,
            heard: now,
            pinged: now,
            outgoing: 0,
            moved: now,
            look_at: now,
            in_line: false,
            refusals_since: now,
            refusals: 0,
            session: None,
        }
    }

    /// When it must be looked after, at the latest.
    pub(super) fn next_look(&self, config: &CoreConfig, now: Now) -> Moment {
        let Some(session) = &self.session else { return self.opened.after_ms(config.hello_ms) };
        let mut at = self.heard.after_ms(config.silence_ms).min(self.next_ping(config));
        if self.outgoing > 0 {
            at = at.min(self.moved.after_ms(config.stalled_ms));
        }
        at.min(now.moment.after_ms(session.token_left_ms(config, now.time)))
    }

    pub(super) fn next_ping(&self, config: &CoreConfig) -> Moment {
        self.heard.max(self.pinged).after_ms(config.ping_interval_ms)
    }
}

impl Session {
    /// How long its token is still taken, leeway included.
    pub(super) fn token_left_ms(&self, config: &CoreConfig, time: Time) -> u64 {
        self.expires.0.saturating_add(config.token_leeway_ms).saturating_sub(time.0)
    }
}

/// All of them, by id.
pub(super) type Connections = BTreeMap<ConnectionId, Connection>;
