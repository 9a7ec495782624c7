//! A user's devices, and what others see of her.

use std::collections::{BTreeMap, BTreeSet};

use hongyan_protocol::limits::PRESENCE_DEVICES_MAX;
use hongyan_protocol::wire;
use hongyan_protocol::{DeviceId, Time, UserId};

use super::lease::{Lease, Tab};
use super::state::{Cause, Channel, Shown, Status};
use crate::core::defects::{self, Defect};
use crate::core::io::{Moment, Now};
use crate::core::records::{DeviceRecord, UserRecord};

/// Who looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::core) enum Eyes {
    /// The user herself.
    Own,
    /// Anybody else, to whom she may be invisible.
    Others,
}

/// A user with her devices: of those that are not there, only the ones of which nobody can know.
pub(super) struct Present {
    /// In boxes, like the leases: most have one of each, and a map keeps room for eleven.
    pub(super) devices: BTreeMap<DeviceId, Box<Device>>,
    /// What is shown when no device is there.
    rest: Shown,
    /// Devices that were there when the relay ended, and are not back; until the recovery ends nobody knows of them.
    pub(super) awaited: BTreeSet<DeviceId>,
    /// Her devices could not be read when she came: what is shown when none is there any more has to be.
    pub(super) is_unread: bool,
    own: Shown,
    others: Shown,
    /// Others see her as offline since then.
    invisible: Option<Time>,
    /// Nothing is shown to others as having begun before: she was invisible until then.
    shown_from: Time,
}

pub(super) struct Device {
    pub(super) kind: i32,
    pub(super) leases: BTreeMap<Tab, Box<Lease>>,
    shown: Shown,
}

/// A device of which nobody can know without a lease.
const NO_CHANNEL: Shown =
    Shown { status: Status::Unknown, cause: Cause::NoChannel, since: Time::ZERO, until: None };

/// Whether nobody can know of a device without a lease.
fn has_no_channel(record: &DeviceRecord) -> bool {
    let is_gone =
        record.signed_out > 0 || [Cause::Kicked, Cause::Logout].map(i32::from).contains(&record.ended);
    Channel::of(record.kind) != Channel::Steady
        && !is_gone
        && !defects::is_on(Defect::MiniprogramGuessedOffline)
}

/// Whether the device was there when the relay ended, and may be on its way back.
fn is_awaited(record: &DeviceRecord) -> bool {
    record.signed_out == 0 && record.ended == i32::from(Cause::Unspecified)
}

/// How a device without a lease is.
pub(super) fn resting_status(record: &DeviceRecord, recovering: Option<(Time, Time)>) -> Status {
    let may_be_back = |(began, _)| Time(record.seen) < began || is_awaited(record);
    if has_no_channel(record) || recovering.is_some_and(may_be_back) {
        Status::Unknown
    } else {
        Status::Offline
    }
}

impl Device {
    pub(super) fn new(kind: i32) -> Self {
        let shown = Shown { status: Status::Offline, cause: Cause::Unspecified, ..NO_CHANNEL };
        Self { kind, leases: BTreeMap::new(), shown }
    }

    pub(super) fn channel(&self) -> Channel {
        Channel::of(self.kind)
    }

    pub(super) fn shown(&self) -> Shown {
        self.shown
    }

    /// Is as the best of its leases.
    pub(super) fn update(&mut self, now: Now) {
        let best = self.leases.values().map(|lease| lease.shown(now)).max_by_key(Shown::rank);
        self.shown.become_as(best.unwrap_or(Shown { since: now.time, ..NO_CHANNEL }));
    }
}

impl Present {
    /// As the store knows her; while devices come back after the relay's start, until then nobody knows.
    pub(super) fn resting(
        record: Option<UserRecord>,
        devices: &BTreeMap<DeviceId, DeviceRecord>,
        recovering: Option<(Time, Time)>,
    ) -> Self {
        let record = record.unwrap_or_default();
        let last = devices.values().map(|device| (Time(device.seen), device.ended));
        let last = last.chain([(Time(record.seen), record.ended)]).max_by_key(|(seen, _)| *seen);
        let (seen, ended) = last.unwrap_or_default();
        let cause = match Cause::try_from(ended) {
            // The relay ended before the device did.
            Ok(Cause::Unspecified) if seen > Time::ZERO => Cause::Lost,
            Ok(cause) => cause,
            Err(_) => Cause::Unspecified,
        };
        let mut rest = Shown { status: Status::Offline, cause, since: seen, until: None };
        let mut awaited = BTreeSet::new();
        if let Some((began, until)) = recovering {
            let were_there = devices.iter().filter(|(_, device)| is_awaited(device));
            awaited.extend(were_there.map(|(id, _)| id.clone()));
            if seen < began || !awaited.is_empty() {
                rest = Shown { until: Some(until), since: seen, ..NO_CHANNEL };
            }
        }
        let without_channel = devices.iter().filter(|(_, device)| has_no_channel(device));
        let mut latest: Vec<_> = without_channel.collect();
        latest.sort_by_key(|(_, device)| core::cmp::Reverse(device.seen));
        let devices = latest.into_iter().take(PRESENCE_DEVICES_MAX).map(|(id, device)| {
            let shown = Shown { since: Time(device.seen), ..NO_CHANNEL };
            (id.clone(), Box::new(Device { kind: device.kind, leases: BTreeMap::new(), shown }))
        });
        let mut present = Self {
            devices: devices.collect(),
            rest,
            awaited,
            is_unread: false,
            own: rest,
            others: rest,
            invisible: None,
            shown_from: Time::ZERO,
        };
        let best = present.best();
        present.own = Shown { since: seen.max(best.since), ..best };
        present.others = present.own;
        present.set_invisible(record.invisible, Time(record.invisible_set));
        if record.invisible {
            present.others = present.hidden();
        } else {
            present.others.since = present.others.since.max(present.shown_from);
        }
        present
    }

    /// Her last device has ended. Another one may still come back, if the relay recovers until then.
    pub(super) fn end(&mut self, cause: Cause, recovers_until: Option<Time>) {
        match recovers_until {
            Some(until) if !self.awaited.is_empty() => self.rest = Shown { until: Some(until), ..NO_CHANNEL },
            _ => self.rest.end(cause),
        }
    }

    pub(super) fn set_invisible(&mut self, invisible: bool, set: Time) {
        self.invisible = invisible.then_some(set);
        self.shown_from = if invisible { self.shown_from } else { set };
    }

    /// Has a lease.
    pub(super) fn is_there(&self) -> bool {
        self.devices.values().any(|device| !device.leases.is_empty())
    }

    /// Of the devices without a lease only the latest are kept: no more are shown.
    pub(super) fn bound_unknown(&mut self) {
        let unknown = self.devices.iter().filter(|(_, device)| device.leases.is_empty());
        if unknown.clone().count() > PRESENCE_DEVICES_MAX
            && let Some((first, _)) = unknown.min_by_key(|(_, device)| device.shown.since)
        {
            let first = first.clone();
            self.devices.remove(&first);
        }
    }

    /// When something of it ends by itself.
    pub(super) fn deadline(&self) -> Option<Moment> {
        self.devices
            .values()
            .flat_map(|device| device.leases.values())
            .filter_map(|lease| lease.deadline())
            .min()
    }

    fn best(&self) -> Shown {
        let best = self.devices.values().map(|device| device.shown()).max_by_key(Shown::rank);
        best.unwrap_or(self.rest)
    }

    fn hidden(&self) -> Shown {
        let since = self.invisible.unwrap_or_default();
        Shown { status: Status::Offline, cause: Cause::Closed, since, until: None }
    }

    /// Her devices have changed.
    pub(super) fn update(&mut self, now: Now) {
        let best = self.best();
        if defects::is_on(Defect::SinceMovesBack) {
            self.own = best;
        } else {
            self.own.become_as(Shown { since: now.time.max(self.own.since), ..best });
        }
        let seen = if self.invisible.is_some() { self.hidden() } else { self.own };
        if defects::is_on(Defect::SinceMovesBack) {
            self.others = seen;
        } else {
            self.others.become_as(Shown { since: seen.since.max(self.shown_from), ..seen });
        }
    }

    /// As one sees her.
    pub(super) fn view(&self, user: &UserId, eyes: Eyes) -> wire::Presence {
        let (shown, from) = match eyes {
            Eyes::Own => (self.own, Time::ZERO),
            Eyes::Others => (self.others, self.shown_from),
        };
        let is_hidden = eyes == Eyes::Others && self.invisible.is_some();
        let mut devices: Vec<&Device> =
            if is_hidden { Vec::new() } else { self.devices.values().map(Box::as_ref).collect() };
        devices.sort_by_key(|device| core::cmp::Reverse(device.shown.rank()));
        devices.truncate(PRESENCE_DEVICES_MAX);
        let devices = devices.into_iter().map(|device| wire::DevicePresence {
            kind: device.kind,
            status: device.shown.status.into(),
            cause: device.shown.cause.into(),
            since: device.shown.since.max(from).0,
            until: device.shown.until.unwrap_or_default().0,
        });
        wire::Presence {
            user: user.as_str().to_owned(),
            status: shown.status.into(),
            cause: shown.cause.into(),
            since: shown.since.0,
            until: shown.until.unwrap_or_default().0,
            devices: devices.collect(),
            refused: false,
        }
    }

    /// When her present status began, as she sees it.
    pub(super) fn since(&self) -> Time {
        self.own.since
    }

    /// Others see nothing of her.
    pub(super) fn is_invisible(&self) -> bool {
        self.invisible.is_some()
    }
}
