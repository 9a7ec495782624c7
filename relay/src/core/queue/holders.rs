//! Which devices hold a queue back, and those that do not come any more.

use std::collections::BTreeSet;

use hongyan_protocol::wire::PresenceCause;
use hongyan_protocol::{DeviceId, Pos, UserId};

use crate::core::devices::Seen;
use crate::core::io::Verifier;
use crate::core::limits::{DEVICE_FORGOTTEN_MS, DEVICES_SCANNED_MAX};
use crate::core::relay::Relay;
use crate::store::{Store, StoreError};

impl<S: Store, V: Verifier> Relay<S, V> {
    /// How far every active device of a user has come, durably; `None` when there is none, or nobody can tell because
    /// there are too many.
    pub(super) fn slowest_cursor(&self, user: &UserId) -> Result<Option<Pos>, StoreError> {
        let records = self.device_cursors(user)?;
        if records.len() >= DEVICES_SCANNED_MAX {
            return Ok(None);
        }
        let connected = self.connected_devices(user);
        let (now, expiry) = (self.now.time.0, self.config.queue.device_expiry_ms);
        let active = records.iter().filter(|(device, record)| {
            let is_expired = record.seen.saturating_add(expiry) <= now;
            record.signed_out == 0 && (connected.contains(*device) || !is_expired)
        });
        Ok(active.map(|(_, record)| Pos(record.cursor)).min())
    }

    /// Of who is connected for long it is written down now and then that she is, and who did not come for very long
    /// is forgotten. What such a user was last seen stays with the user.
    pub(super) fn look_after_devices(&mut self, user: &UserId) -> Result<(), StoreError> {
        let connected = self.connected_devices(user);
        let now = self.now.time;
        for (device, record) in self.device_records(user)? {
            let unseen_ms = now.0.saturating_sub(record.seen);
            if connected.contains(&device) {
                if unseen_ms > self.config.queue.device_expiry_ms / 4 {
                    self.note_seen(user, &device, Seen { time: now, ended: PresenceCause::Unspecified });
                }
            } else if unseen_ms > DEVICE_FORGOTTEN_MS.max(self.config.queue.device_expiry_ms)
                && record.signed_out == 0
            {
                let mut kept = self.user_record(user)?.unwrap_or_default();
                if record.seen > kept.seen {
                    (kept.seen, kept.ended) = (record.seen, record.ended);
                    self.put_user_record(user, kept)?;
                }
                self.forget_device(user, &device);
                self.tending.counters.forgotten_devices += 1;
            }
        }
        Ok(())
    }

    fn connected_devices(&self, user: &UserId) -> BTreeSet<DeviceId> {
        let connections = self.users.get(user).into_iter().flat_map(|user| &user.connections);
        let sessions = connections
            .filter_map(|connection| self.connections.get(connection)?.session.as_ref())
            .filter(|session| !session.leaving);
        sessions.map(|session| session.device.clone()).collect()
    }
}
