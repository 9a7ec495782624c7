//! What is stored of devices and of users themselves: read with what is not durable yet laid over the store, and
//! written lazily where nobody waits for it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{self, Excluded, Unbounded};

use bytes::Bytes;
use hongyan_protocol::wire::PresenceCause;
use hongyan_protocol::{DeviceId, Pos, Time, UserId};

use super::commit::{Effect, Mark, Pending, settle};
use super::deadlines::Timer;
use super::io::Verifier;
use super::limits::{CURSOR_DELAY_MS, DEVICES_PER_COMMIT, DEVICES_SCANNED_MAX};
use super::records::{
    DeviceRecord, UserRecord, decode, device_key, encode, prefix, prefix_end, second_of, user_key,
};
use super::relay::Relay;
use crate::store::{Order, Store, StoreError, Table};

/// A table of rows by user and device.
type ByDevice<T> = BTreeMap<UserId, BTreeMap<DeviceId, T>>;

#[derive(Default)]
pub(super) struct Devices {
    /// What devices said of themselves and that is in no commit yet: at most one record each.
    waiting: ByDevice<News>,
    /// Those after this user are to be written, once through all.
    round: Option<Bound<UserId>>,
    /// The commit that has some of them.
    written_in: Mark,
    /// Records that are in a commit which has not ended; `None` for one that was forgotten.
    ahead: ByDevice<(Option<DeviceRecord>, Mark)>,
    /// The same of users.
    users_ahead: BTreeMap<UserId, Pending<UserRecord>>,
    /// Devices whose sign-out is in a commit that has not ended.
    sign_outs: BTreeSet<(UserId, DeviceId)>,
}

#[derive(Default)]
struct News {
    cursor: Pos,
    about: Option<DeviceAbout>,
    seen: Option<Seen>,
}

/// What a hello says of its device.
pub(super) struct DeviceAbout {
    pub(super) kind: i32,
    pub(super) agent: String,
}

/// When a device was last known to be there, and how it ended if it did.
#[derive(Clone, Copy)]
pub(super) struct Seen {
    pub(super) time: Time,
    pub(super) ended: PresenceCause,
}

impl News {
    fn apply(&self, record: &mut DeviceRecord) {
        // A stored cursor never moves back (promise R1).
        record.cursor = record.cursor.max(self.cursor.0);
        if let Some(about) = &self.about {
            record.kind = about.kind;
            record.agent.clone_from(&about.agent);
        }
        if let Some(Seen { time, ended }) = self.seen {
            record.seen = record.seen.max(time.0);
            record.ended = ended.into();
        }
    }
}

impl<S: Store, V: Verifier> Relay<S, V> {
    /// A device's cursor, to be written after [`CURSOR_DELAY_MS`].
    pub(super) fn note_cursor(
        &mut self,
        user: &UserId,
        device: &DeviceId,
        cursor: Pos,
        about: Option<DeviceAbout>,
    ) {
        let news = self.news_of(user, device);
        news.cursor = news.cursor.max(cursor);
        if about.is_some() {
            news.about = about;
        }
    }

    /// When a device was seen, to be written as lazily.
    pub(super) fn note_seen(&mut self, user: &UserId, device: &DeviceId, seen: Seen) {
        self.news_of(user, device).seen = Some(seen);
    }

    /// The same of one that may have logged out: of that nothing is written any more, unless it is back.
    pub(super) fn note_last_seen(&mut self, user: &UserId, device: &DeviceId, seen: Seen) {
        let ahead = self.devices.ahead.get(user).and_then(|devices| devices.get(device));
        let is_forgotten = ahead.is_some_and(|(record, _)| record.is_none());
        let is_back = self.devices.waiting.get(user).is_some_and(|devices| devices.contains_key(device));
        if !is_forgotten || is_back {
            self.note_seen(user, device, seen);
        }
    }

    fn news_of(&mut self, user: &UserId, device: &DeviceId) -> &mut News {
        self.write_devices_later();
        let devices = self.devices.waiting.entry(user.clone()).or_default();
        devices.entry(device.clone()).or_default()
    }

    /// Its record could not be read: the news wait on.
    fn write_later(&mut self, user: &UserId, device: &DeviceId, news: News) {
        *self.news_of(user, device) = news;
    }

    /// Forgets a device, with the commit that gathers; for one that is signed out see [`Relay::has_sign_out`].
    pub(super) fn forget_device(&mut self, user: &UserId, device: &DeviceId) {
        if let Some(devices) = self.devices.waiting.get_mut(user) {
            devices.remove(device);
        }
        self.put_device_record(user, device, None);
    }

    /// Puts all that waits into the commit that gathers.
    pub(super) fn write_devices(&mut self) {
        for (user, devices) in core::mem::take(&mut self.devices.waiting) {
            self.write_devices_of(&user, devices);
        }
    }

    /// It is time to write what waits: once through all users, some in each commit.
    pub(super) fn begin_writing_devices(&mut self) {
        self.devices.round.get_or_insert(Unbounded);
    }

    /// Puts some of what is to be written into the commit that gathers, unless it has some already: its end is the next
    /// occasion. So nobody waits for a crowd that came or went at once.
    pub(super) fn write_some_devices(&mut self) {
        if self.devices.round.is_none() || self.devices.written_in >= self.commits.mark() {
            return;
        }
        let (mut looked, mut written) = (0, 0);
        while looked < DEVICES_PER_COMMIT
            && let Some(from) = self.devices.round.take()
        {
            let next = self.devices.waiting.range((from, Unbounded)).next();
            let Some(user) = next.map(|(user, _)| user.clone()) else { break };
            let devices = self.devices.waiting.remove(&user).unwrap_or_default();
            looked += devices.len();
            written += self.write_devices_of(&user, devices);
            self.devices.round = Some(Excluded(user));
        }
        if written > 0 {
            self.devices.written_in = self.commits.mark();
        }
        if self.devices.round.is_none() {
            // Who came meanwhile, and those of whom nothing could be read.
            if !self.devices.waiting.is_empty() {
                self.write_devices_later();
            }
        } else if written == 0 {
            self.deadlines.set(Timer::Cursors, self.now.moment);
        }
    }

    /// How many records that changes.
    fn write_devices_of(&mut self, user: &UserId, devices: BTreeMap<DeviceId, News>) -> usize {
        let mut written = 0;
        for (device, news) in devices {
            let before = match self.device_record(user, &device) {
                Ok(record) => record.unwrap_or_default(),
                Err(error) => {
                    self.note_fault(&error);
                    self.write_later(user, &device, news);
                    continue;
                }
            };
            let mut record = before.clone();
            news.apply(&mut record);
            if record != before {
                self.put_device_record(user, &device, Some(record));
                written += 1;
            }
        }
        written
    }

    fn write_devices_later(&mut self) {
        self.deadlines.set_at_latest(Timer::Cursors, self.now.moment.after_ms(CURSOR_DELAY_MS));
    }

    /// A device's record as the last commit will leave it.
    pub(super) fn device_record(
        &self,
        user: &UserId,
        device: &DeviceId,
    ) -> Result<Option<DeviceRecord>, StoreError> {
        if let Some((record, _)) = self.devices.ahead.get(user).and_then(|devices| devices.get(device)) {
            return Ok(record.clone());
        }
        let record = self.store.get(Table::Devices, &device_key(user, device))?;
        record.map(|record| decode(record, "devices")).transpose()
    }

    /// Changes a device's record, or forgets it, with the commit that gathers.
    pub(super) fn put_device_record(
        &mut self,
        user: &UserId,
        device: &DeviceId,
        record: Option<DeviceRecord>,
    ) {
        let key = device_key(user, device);
        match &record {
            Some(record) => self.commits.put(Table::Devices, key, encode(record)),
            None => self.commits.delete(Table::Devices, key),
        }
        let mark = self.commits.mark();
        let ahead = self.devices.ahead.entry(user.clone()).or_default();
        ahead.insert(device.clone(), (record, mark));
        self.commits.then(Effect::Device(user.clone(), device.clone()));
    }

    /// The records of a user's devices, with all that is not durable yet; of very many only the first by id.
    pub(super) fn device_records(
        &self,
        user: &UserId,
    ) -> Result<BTreeMap<DeviceId, DeviceRecord>, StoreError> {
        let mut records = self.committed_device_records(user)?;
        for (device, news) in self.devices.waiting.get(user).into_iter().flatten() {
            news.apply(records.entry(device.clone()).or_default());
        }
        Ok(records)
    }

    /// The same as it may be shown to others: a sign-out that is not durable yet was none.
    pub(super) fn shown_device_records(
        &self,
        user: &UserId,
    ) -> Result<BTreeMap<DeviceId, DeviceRecord>, StoreError> {
        let mut records = self.device_records(user)?;
        for (_, device) in self.devices.sign_outs.iter().filter(|(of, _)| of == user) {
            if let Some(record) = records.get_mut(device) {
                record.signed_out = 0;
            }
        }
        Ok(records)
    }

    /// The same with cursors as the commit that gathers leaves them.
    pub(super) fn device_cursors(
        &self,
        user: &UserId,
    ) -> Result<BTreeMap<DeviceId, DeviceRecord>, StoreError> {
        let mut records = self.committed_device_records(user)?;
        for (device, news) in self.devices.waiting.get(user).into_iter().flatten() {
            let record = records.entry(device.clone()).or_default();
            let cursor = record.cursor;
            news.apply(record);
            record.cursor = cursor;
        }
        Ok(records)
    }

    fn committed_device_records(
        &self,
        user: &UserId,
    ) -> Result<BTreeMap<DeviceId, DeviceRecord>, StoreError> {
        let mut records = BTreeMap::new();
        let mut fault = None;
        let (from, to) = (prefix(user.as_str()), prefix_end(user.as_str()));
        self.store.scan(Table::Devices, &from, &to, Order::Ascending, &mut |key, value| {
            let row = second_of(key).and_then(|device| {
                let device = DeviceId::new(device)
                    .map_err(|_| StoreError::Damaged("a device has no valid id".into()))?;
                Ok((device, decode(Bytes::copy_from_slice(value), "devices")?))
            });
            match row {
                Ok((device, record)) => drop(records.insert(device, record)),
                Err(error) => fault = Some(error),
            }
            fault.is_none() && records.len() < DEVICES_SCANNED_MAX
        })?;
        if let Some(fault) = fault {
            return Err(fault);
        }
        for (device, (record, _)) in self.devices.ahead.get(user).into_iter().flatten() {
            match record {
                Some(record) => drop(records.insert(device.clone(), record.clone())),
                None => drop(records.remove(device)),
            }
        }
        Ok(records)
    }

    /// The commit that makes the records of a user's devices durable, as far as they are in one.
    pub(super) fn device_records_mark(&self, user: &UserId) -> Mark {
        let ahead = self.devices.ahead.get(user).into_iter().flat_map(BTreeMap::values);
        ahead.map(|(_, mark)| *mark).max().unwrap_or(Mark::NONE)
    }

    /// The device said hello, and was not forgotten since.
    pub(super) fn knows_device(&self, user: &UserId, device: &DeviceId) -> Result<bool, StoreError> {
        let is_waiting = self.devices.waiting.get(user).is_some_and(|devices| devices.contains_key(device));
        Ok(is_waiting || self.device_record(user, device)?.is_some())
    }

    /// Signs a device of this record out with the commit that gathers. It is known until its time by a record that
    /// stays.
    pub(super) fn put_sign_out(&mut self, user: &UserId, device: &DeviceId, record: DeviceRecord) {
        // 0 would say that it is not signed out, and a clock may stand there.
        let record = DeviceRecord { signed_out: self.now.time.0.max(1), ..record };
        self.put_device_record(user, device, Some(record));
        self.devices.sign_outs.insert((user.clone(), device.clone()));
        self.commits.then(Effect::SignedOut(user.clone(), device.clone()));
    }

    /// Whether the device is signed out, be it with a commit that has not ended. Its record then stays whatever else
    /// comes: it has to learn of it.
    pub(super) fn has_sign_out(&self, user: &UserId, device: &DeviceId) -> Result<bool, StoreError> {
        Ok(self.device_record(user, device)?.is_some_and(|record| record.signed_out > 0))
    }

    /// Whether the device is signed out for good. One whose sign-out still waits for its commit is let in, and its
    /// session ends with that.
    pub(super) fn is_signed_out(&self, user: &UserId, device: &DeviceId) -> Result<bool, StoreError> {
        let is_pending = self.devices.sign_outs.contains(&(user.clone(), device.clone()));
        Ok(!is_pending && self.has_sign_out(user, device)?)
    }

    /// A user's record as the last commit will leave it.
    pub(super) fn user_record(&self, user: &UserId) -> Result<Option<UserRecord>, StoreError> {
        match self.devices.users_ahead.get(user) {
            Some(pending) => Ok(Some(pending.assigned)),
            None => self.stored_user_record(user),
        }
    }

    /// A user's record as it is durable.
    pub(super) fn durable_user_record(&self, user: &UserId) -> Result<Option<UserRecord>, StoreError> {
        match self.devices.users_ahead.get(user) {
            Some(pending) => Ok(pending.durable),
            None => self.stored_user_record(user),
        }
    }

    fn stored_user_record(&self, user: &UserId) -> Result<Option<UserRecord>, StoreError> {
        let record = self.store.get(Table::Users, &user_key(user))?;
        record.map(|record| decode(record, "users")).transpose()
    }

    /// The commit that makes a user's record durable.
    pub(super) fn user_record_mark(&self, user: &UserId) -> Mark {
        self.devices.users_ahead.get(user).map_or(Mark::NONE, |pending| pending.commit)
    }

    /// Changes a user's record with the commit that gathers.
    pub(super) fn put_user_record(&mut self, user: &UserId, record: UserRecord) -> Result<(), StoreError> {
        let durable = self.durable_user_record(user)?;
        let pending = Pending { durable, assigned: record, commit: self.commits.mark() };
        self.devices.users_ahead.insert(user.clone(), pending);
        self.commits.put(Table::Users, user_key(user), encode(&record));
        self.commits.then(Effect::User(user.clone(), record));
        Ok(())
    }

    /// A commit with a device's record has ended; a later change of it may still be pending.
    pub(super) fn settle_device(&mut self, user: &UserId, device: &DeviceId) {
        let Some(devices) = self.devices.ahead.get_mut(user) else { return };
        if devices.get(device).is_some_and(|(_, mark)| self.commits.is_durable(*mark)) {
            devices.remove(device);
        }
        if devices.is_empty() {
            self.devices.ahead.remove(user);
        }
    }

    /// The same of a user's record.
    pub(super) fn settle_user(&mut self, user: &UserId, record: UserRecord) {
        settle(&mut self.devices.users_ahead, user, record, self.commits.durable());
    }

    /// The same of a sign-out, of which there is one at most: a second waits for the first.
    pub(super) fn settle_sign_out(&mut self, user: &UserId, device: &DeviceId) {
        self.devices.sign_outs.remove(&(user.clone(), device.clone()));
    }
}
