//! A user's devices as she may know and end them: which there are, sign-outs, and how many of a kind may be connected.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use hongyan_protocol::limits::DEVICES_MAX;
use hongyan_protocol::wire::{self, DeviceKind, PresenceStatus};
use hongyan_protocol::{Code, DeviceId, UserId};

use super::commit::{Effect, Mark};
use super::defects::{self, Defect};
use super::io::{ConnectionId, Moment, Verifier};
use super::limits::SIGNED_OUT_KEPT_MS;
use super::records::DeviceRecord;
use super::refusal::Refusal;
use super::relay::Relay;
use super::sessions::Session;
use crate::store::Store;

/// How many devices of each kind a user may have connected at once; 0 for any number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DevicesMax {
    /// Browser profiles.
    pub web: usize,
    /// WebViews of apps.
    pub webview: usize,
    /// Mini-programs.
    pub miniprogram: usize,
    /// Official-account channels.
    pub official: usize,
    /// Android apps.
    pub android: usize,
    /// iOS apps.
    pub ios: usize,
    /// Bots and other servers.
    pub server: usize,
}

impl DevicesMax {
    /// The bound for a kind; `None` when there is none.
    fn of(&self, kind: DeviceKind) -> Option<usize> {
        let max = match kind {
            DeviceKind::Web => self.web,
            DeviceKind::Webview => self.webview,
            DeviceKind::Miniprogram => self.miniprogram,
            DeviceKind::Official => self.official,
            DeviceKind::Android => self.android,
            DeviceKind::Ios => self.ios,
            DeviceKind::Server => self.server,
            DeviceKind::Unspecified => 0,
        };
        (max > 0).then_some(max)
    }
}

impl<S: Store, V: Verifier> Relay<S, V> {
    /// A user's devices that are not signed out: the best first, then the last seen. What it tells is durable with the
    /// mark.
    pub(super) fn devices(&mut self, user: &UserId) -> Result<(Vec<wire::Device>, Mark), Refusal> {
        let records = self.device_records(user)?;
        self.forget_old_sign_outs(user, &records);
        let mark = self.device_records_mark(user);
        let connected: BTreeSet<_> = self.sessions(user).map(|(_, session)| &session.device).collect();
        let mut devices: Vec<_> = records
            .into_iter()
            .filter(|(_, record)| record.signed_out == 0)
            .map(|(device, record)| wire::Device {
                status: self.device_status(user, &device, &record).into(),
                seen: if connected.contains(&device) { self.now.time.0 } else { record.seen },
                device: device.as_str().to_owned(),
                kind: record.kind,
                agent: record.agent,
            })
            .collect();
        devices.sort_by_key(|device| Reverse((rank(device.status()), device.seen)));
        devices.truncate(DEVICES_MAX);
        Ok((devices, mark))
    }

    /// A device that did not come for so long will not come any more, and need not be told.
    fn forget_old_sign_outs(&mut self, user: &UserId, records: &BTreeMap<DeviceId, DeviceRecord>) {
        if self.may_write().is_err() {
            return;
        }
        for (device, record) in records {
            let is_old = record.signed_out.saturating_add(SIGNED_OUT_KEPT_MS) <= self.now.time.0;
            if record.signed_out > 0 && is_old {
                self.put_device_record(user, device, None);
            }
        }
    }

    /// Signs a device out with the commit that gathers: then come `answer` and the ends of its connections. False
    /// when the user has no such device.
    pub(super) fn sign_out(
        &mut self,
        user: &UserId,
        device: &DeviceId,
        answer: Effect,
    ) -> Result<bool, Refusal> {
        self.may_write()?;
        if !self.knows_device(user, device)? {
            return Ok(false);
        }
        // What may fail comes first: a sign-out that is refused is not answered as well.
        let record = self.device_record(user, device)?.unwrap_or_default();
        if record.signed_out > 0 {
            let mark = self.device_records_mark(user);
            self.run_at(mark, answer);
        } else {
            // The answer may go to the device itself, so it comes before the end.
            if defects::is_on(Defect::SignOutToldEarly) {
                self.run(answer);
            } else {
                self.commits.then(answer);
            }
            if defects::is_on(Defect::SignedOutEarly) {
                self.close_sessions(user, Code::LOGGED_OUT, |session| session.device == *device);
            }
            self.put_sign_out(user, device, record);
        }
        Ok(true)
    }

    /// The connections that end when this device says hello: of those devices of its kind that are connected the
    /// longest, as many as are too many.
    pub(super) fn outnumbered_by(&self, user: &UserId, device: &DeviceId, kind: i32) -> Vec<ConnectionId> {
        let max = DeviceKind::try_from(kind).ok().and_then(|kind| self.config.devices_max.of(kind));
        let Some(max) = max else { return Vec::new() };
        let of_kind =
            || self.sessions(user).filter(|(_, session)| session.kind == kind && session.device != *device);
        let mut since: BTreeMap<&DeviceId, (Moment, ConnectionId)> = BTreeMap::new();
        for (connection, session) in of_kind() {
            let begun = (session.began.moment, connection);
            let first = since.entry(&session.device).or_insert(begun);
            *first = begun.min(*first);
        }
        let mut devices: Vec<_> = since.into_iter().map(|(device, since)| (since, device)).collect();
        devices.sort_unstable();
        if defects::is_on(Defect::NewestSuperseded) {
            devices.reverse();
        }
        let others_max = if defects::is_on(Defect::DevicesMaxOffByOne) { max } else { max - 1 };
        devices.truncate(devices.len().saturating_sub(others_max));
        of_kind()
            .filter(|(_, session)| devices.iter().any(|(_, device)| **device == session.device))
            .map(|(connection, _)| connection)
            .collect()
    }

    /// Ends those of a user's sessions that fit, and tells how many they were.
    pub(super) fn close_sessions(
        &mut self,
        user: &UserId,
        code: Code,
        fits: impl Fn(&Session) -> bool,
    ) -> usize {
        let connections: Vec<_> = self
            .sessions(user)
            .filter(|(_, session)| fits(session))
            .map(|(connection, _)| connection)
            .collect();
        for connection in &connections {
            self.close(*connection, code);
        }
        connections.len()
    }

    /// A user's sessions, without those that log out.
    fn sessions(&self, user: &UserId) -> impl Iterator<Item = (ConnectionId, &Session)> {
        let connections = self.users.get(user).into_iter().flat_map(|user| &user.connections);
        connections
            .filter_map(|connection| {
                Some((*connection, self.connections.get(connection)?.session.as_deref()?))
            })
            .filter(|(_, session)| !session.leaving)
    }
}

/// What is better comes first in a list.
fn rank(status: PresenceStatus) -> u8 {
    match status {
        PresenceStatus::Online => 4,
        PresenceStatus::Away => 3,
        PresenceStatus::Leaving => 2,
        PresenceStatus::Unknown => 1,
        PresenceStatus::Offline | PresenceStatus::Unspecified => 0,
    }
}
