//! A user's devices as she may know and end them: which there are, sign-outs, and how many of a kind may be connected.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use bytes::Bytes;
use hongyan_protocol::limits::DEVICES_MAX;
use hongyan_protocol::wire::{self, DeviceKind, PresenceStatus};
use hongyan_protocol::{Code, DeviceId, Time, UserId};

use super::commit::{Effect, Mark};
use super::io::{ConnectionId, Moment, Verifier};
use super::limits::{DEVICES_SCANNED_MAX, SIGNED_OUT_KEPT_MS};
use super::records::{DeviceRecord, decode, device_key, encode, prefix, prefix_end, second_of};
use super::refusal::Refusal;
use super::relay::Relay;
use super::sessions::Session;
use crate::store::{Order, Store, StoreError, Table};

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
    /// How a device is.
    fn device_status(&self, user: &UserId, device: &DeviceId) -> PresenceStatus {
        if self.sessions(user).any(|(_, session)| session.device == *device) {
            PresenceStatus::Online
        } else {
            PresenceStatus::Offline
        }
    }

    /// How a user is.
    pub(super) fn presence_of(&self, user: &UserId) -> wire::Presence {
        let mut devices: BTreeMap<&DeviceId, wire::DevicePresence> = BTreeMap::new();
        for (_, session) in self.sessions(user) {
            let since = session.began.time.0;
            let device = devices.entry(&session.device).or_insert_with(|| wire::DevicePresence {
                kind: session.kind,
                status: PresenceStatus::Online.into(),
                since,
                ..Default::default()
            });
            device.since = device.since.min(since);
        }
        let status = if devices.is_empty() { PresenceStatus::Offline } else { PresenceStatus::Online };
        wire::Presence {
            user: user.as_str().to_owned(),
            status: status.into(),
            since: devices.values().map(|device| device.since).min().unwrap_or(0),
            devices: devices.into_values().collect(),
            ..Default::default()
        }
    }

    /// A user's devices that are not signed out: the connected ones first, then the last seen. What it tells is
    /// durable with the mark.
    pub(super) fn devices(&mut self, user: &UserId) -> Result<(Vec<wire::Device>, Mark), Refusal> {
        let mut records = self.device_records(user)?;
        self.forget_old_sign_outs(user, &records);
        for (_, session) in self.sessions(user) {
            // What a hello said may not be in the store yet.
            let record = records.entry(session.device.clone()).or_default();
            record.kind = session.kind;
            let waiting = self.cursors.waiting.get(&(user.clone(), session.device.clone()));
            if let Some((_, Some(about))) = waiting {
                record.agent.clone_from(&about.agent);
            }
        }
        let mut mark = Mark::NONE;
        records.retain(|device, record| {
            let pending = self.commits.sign_outs.get(&(user.clone(), device.clone()));
            mark = mark.max(pending.map_or(Mark::NONE, |(_, commit)| *commit));
            record.signed_out == 0 && pending.is_none()
        });
        let mut devices: Vec<_> = records
            .into_iter()
            .map(|(device, record)| wire::Device {
                status: self.device_status(user, &device).into(),
                device: device.as_str().to_owned(),
                kind: record.kind,
                agent: record.agent,
                seen: 0,
            })
            .collect();
        devices.sort_by_key(|device| (device.status() != PresenceStatus::Online, Reverse(device.seen)));
        devices.truncate(DEVICES_MAX);
        Ok((devices, mark))
    }

    fn device_records(&self, user: &UserId) -> Result<BTreeMap<DeviceId, DeviceRecord>, StoreError> {
        let mut records = BTreeMap::new();
        let mut fault = None;
        let (from, to) = (prefix(user.as_str()), prefix_end(user.as_str()));
        self.store.scan(Table::Devices, &from, &to, Order::Ascending, &mut |key, value| {
            match read_device(key, value) {
                Ok((device, record)) => drop(records.insert(device, record)),
                Err(error) => fault = Some(error),
            }
            fault.is_none() && records.len() < DEVICES_SCANNED_MAX
        })?;
        fault.map_or(Ok(records), Err)
    }

    /// A device that did not come for so long will not come any more, and need not be told.
    fn forget_old_sign_outs(&mut self, user: &UserId, records: &BTreeMap<DeviceId, DeviceRecord>) {
        if self.may_write().is_err() {
            return;
        }
        for (device, record) in records {
            let is_old = record.signed_out.saturating_add(SIGNED_OUT_KEPT_MS) <= self.now.time.0;
            if record.signed_out > 0 && is_old {
                self.commits.delete(Table::Devices, device_key(user, device));
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
        let pair = (user.clone(), device.clone());
        if let Some((_, commit)) = self.commits.sign_outs.get(&pair) {
            self.commits.then_at(*commit, answer);
            return Ok(true);
        }
        let key = device_key(user, device);
        let stored = self.store.get(Table::Devices, &key)?;
        let stored = stored.map(|record| decode::<DeviceRecord>(record, "devices")).transpose()?;
        if stored.as_ref().is_some_and(|record| record.signed_out > 0) {
            self.run_at(Mark::NONE, answer);
            return Ok(true);
        }
        let is_connected = self.sessions(user).any(|(_, session)| session.device == *device);
        if stored.is_none() && !is_connected && !self.cursors.waiting.contains_key(&pair) {
            return Ok(false);
        }
        // 0 would say that it is not signed out, and a clock may stand there.
        let signed_out = self.now.time.0.max(1);
        let record = DeviceRecord { signed_out, ..stored.unwrap_or_default() };
        self.commits.put(Table::Devices, key, encode(&record));
        let mark = self.commits.mark();
        self.commits.sign_outs.insert(pair, (Time(signed_out), mark));
        self.commits.then(answer);
        self.commits.then(Effect::SignedOut(user.clone(), device.clone()));
        Ok(true)
    }

    /// Whether the device is signed out for good. One whose sign-out still waits for its commit is let in, and its
    /// session ends with that.
    pub(super) fn is_signed_out(&self, user: &UserId, device: &DeviceId) -> Result<bool, StoreError> {
        if self.commits.sign_outs.contains_key(&(user.clone(), device.clone())) {
            return Ok(false);
        }
        let stored = self.store.get(Table::Devices, &device_key(user, device))?;
        let record = stored.map(|record| decode::<DeviceRecord>(record, "devices")).transpose()?;
        Ok(record.is_some_and(|record| record.signed_out > 0))
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
        devices.truncate((devices.len() + 1).saturating_sub(max));
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
            .filter_map(|connection| Some((*connection, self.connections.get(connection)?.session.as_ref()?)))
            .filter(|(_, session)| !session.leaving)
    }
}

fn read_device(key: &[u8], value: &[u8]) -> Result<(DeviceId, DeviceRecord), StoreError> {
    let device = DeviceId::new(second_of(key)?)
        .map_err(|_| StoreError::Damaged("a key of devices names no valid device".into()))?;
    Ok((device, decode(Bytes::copy_from_slice(value), "devices")?))
}
