//! One lease: that a connection stands for a device or for one of its tabs, and what is shown after that connection
//! has ended.

use std::sync::Arc;

use hongyan_protocol::Code;
use hongyan_protocol::limits::{ID_BYTES_MAX, RETURN_MS};

use super::state::{Cause, Channel, Shown, Status};
use crate::core::defects::{self, Defect};
use crate::core::io::{ConnectionId, CoreConfig, Moment, Now};
use crate::core::refusal::Refusal;

/// For what of a device a connection stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::core) enum Tab {
    /// For all of it.
    Whole,
    /// For one tab, where the tabs can't share a connection.
    Named(Arc<str>),
}

impl Tab {
    /// From a hello.
    pub(in crate::core) fn new(tab: &str) -> Result<Self, Refusal> {
        if tab.len() > ID_BYTES_MAX || tab.chars().any(char::is_control) {
            return Err(Refusal::bad("The tab's name is too long or has control characters."));
        }
        Ok(if tab.is_empty() { Tab::Whole } else { Tab::Named(tab.into()) })
    }
}

/// Which of two connections of a device is the newer one, as the device says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::core) struct Order {
    pub(in crate::core) term: u64,
    pub(in crate::core) dial: u64,
}

impl Order {
    /// A hello with this order came late: the lease is held by one that is not older. Clients that don't order
    /// their connections count as the newest.
    pub(super) fn is_late_for(self, holder: Order) -> bool {
        self != Order { term: 0, dial: 0 } && self <= holder && !defects::is_on(Defect::LateHelloTaken)
    }
}

/// A lease. Its holder is the last connection that had it, and nobody else's end touches it.
pub(super) struct Lease {
    pub(super) connection: ConnectionId,
    pub(super) order: Order,
    channel: Channel,
    away: Option<Hidden>,
    held: Held,
}

/// Nobody looks at the device.
#[derive(Clone, Copy)]
struct Hidden {
    /// Of a mini-program: until when it is shown as away without a connection.
    until: Now,
    /// That time has passed, and only the open connection keeps it away.
    passed: bool,
}

/// What holds a lease.
#[derive(Clone, Copy)]
enum Held {
    /// Its open connection.
    Open,
    /// The connection ended without a goodbye: shown as before until then, for it may be back.
    Lost { until: Now },
    /// It said that it certainly comes back: shown as before until then.
    Returning { until: Now },
    /// It said goodbye, and may come back until then.
    Leaving { until: Now },
    /// A mini-program whose connection was taken away while it was hidden.
    Background,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::core) enum End {
    /// Without a goodbye, just now.
    Lost,
    /// Without a goodbye, and longer ago than the silence bound.
    Silent,
    /// The relay ended the session: superseded, revoked, signed out.
    Kicked,
}

impl End {
    /// Of a connection that the relay ended with this code.
    pub(in crate::core) fn of(code: Code) -> Self {
        match code {
            Code::SILENT => End::Silent,
            Code::SUPERSEDED | Code::KICKED | Code::LOGGED_OUT | Code::TOKEN_REVOKED => End::Kicked,
            _ => End::Lost,
        }
    }
}

/// What becomes of a lease.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Stays,
    Ends(Cause),
}

impl Lease {
    pub(super) fn new(
        connection: ConnectionId,
        order: Order,
        channel: Channel,
        away: bool,
        config: &CoreConfig,
        now: Now,
    ) -> Self {
        let mut lease = Self { connection, order, channel, away: None, held: Held::Open };
        lease.set_away(away, config, now);
        lease
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self.held, Held::Open)
    }

    /// Its connection has said goodbye.
    fn has_said_goodbye(&self) -> bool {
        matches!(self.held, Held::Returning { .. } | Held::Leaving { .. })
    }

    pub(super) fn set_away(&mut self, away: bool, config: &CoreConfig, now: Now) {
        let hidden = || Hidden { until: now.after_ms(config.background_lease_ms), passed: false };
        self.away = away.then(|| self.away.unwrap_or_else(hidden));
    }

    /// What its device would be shown as, were it the only lease.
    pub(super) fn shown(&self, now: Now) -> Shown {
        let (status, cause, until) = match (self.channel, self.held, self.away) {
            (Channel::None, ..) => (Status::Unknown, Cause::NoChannel, None),
            (_, Held::Leaving { until }, _) => (Status::Leaving, Cause::Closed, Some(until)),
            (Channel::WhileShown, _, Some(hidden)) if !hidden.passed => {
                (Status::Away, Cause::Background, Some(hidden.until))
            }
            (_, _, Some(_)) => (Status::Away, Cause::Background, None),
            (_, _, None) => (Status::Online, Cause::Unspecified, None),
        };
        Shown { status, cause, since: now.time, until: until.map(|until| until.time) }
    }

    /// When something of it ends by itself.
    pub(super) fn deadline(&self) -> Option<Moment> {
        match (self.held, self.away) {
            (Held::Lost { until } | Held::Returning { until } | Held::Leaving { until }, _) => {
                Some(until.moment)
            }
            (Held::Open | Held::Background, Some(hidden)) => {
                (self.channel == Channel::WhileShown && !hidden.passed).then_some(hidden.until.moment)
            }
            (Held::Open | Held::Background, None) => None,
        }
    }

    /// Its connection ended without a goodbye.
    pub(super) fn end(&mut self, end: End, config: &CoreConfig, now: Now) -> Fate {
        match (self.held, end) {
            // What was said goodbye to goes its way.
            (Held::Leaving { .. } | Held::Returning { .. }, End::Lost | End::Silent) => Fate::Stays,
            (_, End::Kicked) => Fate::Ends(Cause::Kicked),
            _ if self.hides_on(now) => {
                self.held = Held::Background;
                Fate::Stays
            }
            (_, End::Silent) => Fate::Ends(Cause::Lost),
            _ if defects::is_on(Defect::LostHoldSkipped) => Fate::Ends(Cause::Lost),
            _ => {
                self.held = Held::Lost { until: now.after_ms(config.lost_hold_ms) };
                Fate::Stays
            }
        }
    }

    /// A mini-program that may be hidden without a connection for some time yet.
    fn hides_on(&self, now: Now) -> bool {
        self.channel == Channel::WhileShown
            && self.away.is_some_and(|hidden| !hidden.passed && hidden.until.moment > now.moment)
    }

    /// Its connection says goodbye, for the first time; `None` when that is not so.
    pub(super) fn say_goodbye(&mut self, returns_in_ms: u32, returns: bool, now: Now) -> Option<Fate> {
        if self.has_said_goodbye() {
            return None;
        }
        if returns_in_ms == 0 || defects::is_on(Defect::GoodbyeIsFinal) {
            return Some(Fate::Ends(Cause::Closed));
        }
        let until = now.after_ms(u64::from(returns_in_ms.clamp(*RETURN_MS.start(), *RETURN_MS.end())));
        self.held = if returns { Held::Returning { until } } else { Held::Leaving { until } };
        Some(Fate::Stays)
    }

    /// Looks whether its time has come.
    pub(super) fn look(&mut self, now: Now) -> Fate {
        if self.deadline().is_none_or(|deadline| deadline > now.moment)
            || defects::is_on(Defect::LeaseNeverExpires)
        {
            return Fate::Stays;
        }
        match self.held {
            Held::Open => {
                if let Some(hidden) = &mut self.away {
                    hidden.passed = true;
                }
                Fate::Stays
            }
            Held::Lost { .. } => Fate::Ends(Cause::Lost),
            Held::Returning { .. } | Held::Leaving { .. } => Fate::Ends(Cause::Closed),
            Held::Background => Fate::Ends(Cause::NoChannel),
        }
    }
}
