//! What is shown of a device or a user.

use hongyan_protocol::Time;
pub(super) use hongyan_protocol::wire::{PresenceCause as Cause, PresenceStatus as Status};

/// A status with what belongs to it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) status: Status,
    pub(super) cause: Cause,
    /// When the status began; it never moves back. 0 when nobody knows.
    pub(super) since: Time,
    /// When it changes by itself at the latest.
    pub(super) until: Option<Time>,
}

impl Shown {
    /// Becomes `next`, and keeps its beginning while the status is the same.
    pub(super) fn become_as(&mut self, next: Shown) {
        let since = if next.status == self.status { self.since } else { next.since.max(self.since) };
        *self = Shown { since, ..next };
    }

    /// Its last device has ended.
    pub(super) fn end(&mut self, cause: Cause) {
        (self.status, self.cause, self.until) = (Status::Offline, cause, None);
    }

    /// For finding the best: the better status, and of one status what lasts longer.
    pub(super) fn rank(&self) -> (u8, Time) {
        let status = match self.status {
            Status::Online => 5,
            Status::Away => 4,
            Status::Leaving => 3,
            Status::Unknown => 2,
            Status::Offline | Status::Unspecified => 1,
        };
        (status, self.until.unwrap_or(Time(u64::MAX)))
    }
}

/// What can be known of a device of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Channel {
    /// Its connection tells: when that is gone, so is the device.
    Steady,
    /// A mini-program: its host takes the connection away while it is hidden, and nobody tells what becomes of it.
    WhileShown,
    /// An official account: there is no connection that tells anything.
    None,
}

impl Channel {
    /// Of a kind as it is on the wire; one that this version does not know has a connection that tells.
    pub(super) fn of(kind: i32) -> Self {
        use hongyan_protocol::wire::DeviceKind;
        match DeviceKind::try_from(kind) {
            Ok(DeviceKind::Miniprogram) => Channel::WhileShown,
            Ok(DeviceKind::Official) => Channel::None,
            _ => Channel::Steady,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_the_one_of_the_design() {
        let of = |status| Shown { status, cause: Cause::Unspecified, since: Time(1), until: None };
        let order = [Status::Online, Status::Away, Status::Leaving, Status::Unknown, Status::Offline];
        assert!(order.windows(2).all(|pair| of(pair[0]).rank() > of(pair[1]).rank()));
        let ends = Shown { until: Some(Time(9)), ..of(Status::Away) };
        assert!(of(Status::Away).rank() > ends.rank());
    }

    #[test]
    fn a_beginning_stays_while_the_status_does_and_never_moves_back() {
        let of = |status, since| Shown { status, cause: Cause::Unspecified, since: Time(since), until: None };
        let mut shown = of(Status::Online, 5);
        shown.become_as(of(Status::Online, 9));
        assert_eq!(shown.since, Time(5));
        shown.become_as(of(Status::Offline, 3));
        assert!(shown == of(Status::Offline, 5));
    }
}
