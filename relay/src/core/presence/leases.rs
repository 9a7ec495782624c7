//! What happens to leases: hello takes one, goodbye, an ended connection and time let go of it.

use std::collections::BTreeMap;

use hongyan_protocol::wire;
use hongyan_protocol::{Code, DeviceId, Time, UserId};

use super::Holder;
use super::lease::{End, Fate, Lease, Order, Tab};
use super::present::{Device, Eyes, Present, resting_status};
use super::state::{Cause, Channel, Status};
use crate::core::deadlines::Timer;
use crate::core::defects::{self, Defect};
use crate::core::devices::Seen;
use crate::core::io::{ConnectionId, CoreConfig, Now, Verifier};
use crate::core::limits::LEASES_PER_USER_MAX;
use crate::core::records::DeviceRecord;
use crate::core::refusal::Refusal;
use crate::core::relay::Relay;
use crate::store::{Store, StoreError};

/// What a hello says of the lease that it takes.
pub(in crate::core) struct Claim {
    pub(in crate::core) user: UserId,
    pub(in crate::core) device: DeviceId,
    pub(in crate::core) kind: i32,
    pub(in crate::core) tab: Tab,
    pub(in crate::core) order: Order,
    pub(in crate::core) away: bool,
}

impl Claim {
    /// A lease that this one takes the place of.
    fn replaces(&self, tab: &Tab) -> bool {
        self.tab == Tab::Whole || self.tab == *tab
    }
}

impl<S: Store, V: Verifier> Relay<S, V> {
    /// Which open connections a hello would end; refused when it came late.
    pub(in crate::core) fn superseded_by(&self, claim: &Claim) -> Result<Vec<ConnectionId>, Refusal> {
        let device = self.presences.present.get(&claim.user).and_then(|user| user.devices.get(&claim.device));
        let Some(device) = device else { return Ok(Vec::new()) };
        if let Some(holder) = device.leases.get(&claim.tab)
            && holder.is_open()
            && claim.order.is_late_for(holder.order)
        {
            return Err(Refusal::end(Code::REPLACED));
        }
        let open = device.leases.iter().filter(|(tab, lease)| claim.replaces(tab) && lease.is_open());
        Ok(open.map(|(_, lease)| lease.connection).collect())
    }

    /// Gives the lease to a connection that said hello. What it replaces goes without a word to the watchers, and the
    /// connections of those end as superseded.
    pub(in crate::core) fn take_lease(
        &mut self,
        connection: ConnectionId,
        claim: Claim,
    ) -> Result<(), StoreError> {
        if !self.presences.present.contains_key(&claim.user) {
            // That she is invisible must be known. A damaged record of another device holds nobody off.
            let record = self.user_record(&claim.user)?;
            let devices = self.shown_device_records(&claim.user);
            let is_unread = devices.is_err();
            let devices = devices.unwrap_or_else(|error| {
                self.note_fault(&error);
                BTreeMap::new()
            });
            let mut present = Present::resting(record, &devices, self.recovering());
            present.is_unread = is_unread;
            self.presences.present.insert(claim.user.clone(), present);
        }
        let Some(present) = self.presences.present.get_mut(&claim.user) else { return Ok(()) };
        let device =
            present.devices.entry(claim.device.clone()).or_insert_with(|| Box::new(Device::new(claim.kind)));
        device.kind = claim.kind;
        present.awaited.remove(&claim.device);
        let channel = Channel::of(claim.kind);
        let mut open = Vec::new();
        device.leases.retain(|tab, lease| {
            if !claim.replaces(tab) {
                return true;
            }
            if !defects::is_on(Defect::OldEndEndsLease) {
                self.presences.holders.remove(&lease.connection);
            }
            open.extend(lease.is_open().then_some(lease.connection));
            false
        });
        let lease = Lease::new(connection, claim.order, channel, claim.away, &self.config, self.now);
        device.leases.insert(claim.tab.clone(), Box::new(lease));
        let Claim { user, device, tab, .. } = claim;
        self.presences.holders.insert(connection, Holder { user: user.clone(), device: device.clone(), tab });
        self.note_seen(&user, &device, Seen { time: self.now.time, ended: Cause::Unspecified });
        self.bound_leases(&user);
        self.refresh(&user, Some(&device));
        for connection in open {
            self.close(connection, Code::SUPERSEDED);
        }
        Ok(())
    }

    /// A lease whose connection has ended goes early when there are too many.
    fn bound_leases(&mut self, user: &UserId) {
        let Some(present) = self.presences.present.get(user) else { return };
        let leases = present.devices.values().flat_map(|device| device.leases.values());
        if leases.clone().count() <= LEASES_PER_USER_MAX {
            return;
        }
        let ended = leases.filter(|lease| !lease.is_open());
        let first = ended.min_by_key(|lease| (lease.deadline(), lease.connection));
        if let Some(connection) = first.map(|lease| lease.connection) {
            self.with_lease(connection, |_, _, _| Some(Fate::Ends(Cause::Closed)));
        }
    }

    /// Does something with the lease that a connection holds or held last. Whether it was done.
    fn with_lease(
        &mut self,
        connection: ConnectionId,
        what: impl FnOnce(&mut Lease, &CoreConfig, Now) -> Option<Fate>,
    ) -> bool {
        // While the relay stops everybody goes, and is soon back: nothing of that is worth telling.
        if !self.is_serving() {
            return false;
        }
        let Some(Holder { user, device, tab }) = self.presences.holders.get(&connection).cloned() else {
            return false;
        };
        let present = self.presences.present.get_mut(&user);
        let lease = present.and_then(|user| user.devices.get_mut(&device)?.leases.get_mut(&tab));
        let Some(lease) = lease else { return false };
        let Some(fate) = what(lease, &self.config, self.now) else { return false };
        if let Fate::Ends(cause) = fate {
            self.end_lease(&user, &device, &tab, cause);
        }
        self.refresh(&user, Some(&device));
        true
    }

    /// A connection is gone: of its lease, if it still is its own, the watchers hear as it is due.
    pub(in crate::core) fn lease_lost(&mut self, connection: ConnectionId, end: End) {
        self.with_lease(connection, |lease, config, now| Some(lease.end(end, config, now)));
    }

    /// A connection says goodbye. False when it has no lease, or has said so before.
    pub(in crate::core) fn say_goodbye(&mut self, connection: ConnectionId, bye: &wire::Bye) -> bool {
        self.with_lease(connection, |lease, _, now| lease.say_goodbye(bye.returns_in_ms, bye.returns, now))
    }

    pub(in crate::core) fn set_away(&mut self, connection: ConnectionId, away: bool) {
        self.with_lease(connection, |lease, config, now| {
            lease.set_away(away, config, now);
            Some(Fate::Stays)
        });
    }

    /// The connections that hold a device's leases, or held them last.
    pub(in crate::core) fn lease_holders(&self, user: &UserId, device: &DeviceId) -> Vec<ConnectionId> {
        let device = self.presences.present.get(user).and_then(|user| user.devices.get(device));
        device.into_iter().flat_map(|device| device.leases.values()).map(|lease| lease.connection).collect()
    }

    /// A device's session has ended for good: it is offline, whatever kind it is. Its record may be gone, so the
    /// user's keeps when she was last seen.
    pub(in crate::core) fn end_device(&mut self, user: &UserId, device: &DeviceId, cause: Cause) {
        let recovers_until = self.presences.recovery.window(self.now).map(|(_, end)| end.time);
        let Some(present) = self.presences.present.get_mut(user) else {
            // Its lease had ended before; of a device without a channel it is known now.
            return self.tell_watchers(user);
        };
        present.awaited.remove(device);
        let Some(state) = present.devices.remove(device) else { return self.refresh(user, None) };
        for lease in state.leases.values() {
            self.presences.holders.remove(&lease.connection);
        }
        present.end(cause, recovers_until);
        present.update(self.now);
        if let Err(error) = self.keep_last_seen(user, cause) {
            self.note_fault(&error);
        }
        self.refresh(user, None);
    }

    /// Ends a lease. Its device is offline if it has no other, or unknown if nobody can know.
    fn end_lease(&mut self, user: &UserId, device: &DeviceId, tab: &Tab, cause: Cause) {
        let recovers_until = self.presences.recovery.window(self.now).map(|(_, end)| end.time);
        let Some(present) = self.presences.present.get_mut(user) else { return };
        let Some(state) = present.devices.get_mut(device) else { return };
        if let Some(lease) = state.leases.remove(tab) {
            self.presences.holders.remove(&lease.connection);
        }
        if !state.leases.is_empty() {
            return state.update(self.now);
        }
        let is_known = state.channel() == Channel::Steady
            || cause == Cause::Kicked
            || defects::is_on(Defect::MiniprogramGuessedOffline);
        let (time, ended) = if is_known {
            present.devices.remove(device);
            present.end(cause, recovers_until);
            present.update(self.now);
            (self.now.time.max(present.since()), cause)
        } else {
            state.update(self.now);
            let since = state.shown().since;
            present.bound_unknown();
            (since, Cause::NoChannel)
        };
        self.note_last_seen(user, device, Seen { time, ended });
    }

    /// Leases of a user end by themselves.
    pub(in crate::core) fn look_at_presence(&mut self, user: &UserId) {
        let now = self.now;
        if !self.is_serving() {
            return;
        }
        let Some(present) = self.presences.present.get_mut(user) else { return };
        let mut looked = Vec::new();
        for (device, state) in &mut present.devices {
            for (tab, lease) in &mut state.leases {
                if lease.deadline().is_some_and(|deadline| deadline <= now.moment) {
                    looked.push((device.clone(), tab.clone(), lease.look(now)));
                }
            }
        }
        for (device, tab, fate) in &looked {
            if let Fate::Ends(cause) = fate {
                self.end_lease(user, device, tab, *cause);
            } else if let Some(present) = self.presences.present.get_mut(user)
                && let Some(state) = present.devices.get_mut(device)
            {
                state.update(now);
            }
        }
        self.refresh(user, None);
    }

    /// Something of a user has changed, of this device if it is one: what is shown follows, and the watchers hear.
    pub(super) fn refresh(&mut self, user: &UserId, device: Option<&DeviceId>) {
        if let Some(present) = self.presences.present.get_mut(user) {
            if let Some(state) = device.and_then(|device| present.devices.get_mut(device)) {
                state.update(self.now);
            }
            present.update(self.now);
            match present.deadline() {
                // A defect must not make the clock stand still.
                Some(at) if !defects::is_on(Defect::LeaseNeverExpires) => {
                    self.deadlines.set(Timer::Presence(user.clone()), at);
                }
                _ => self.deadlines.cancel(&Timer::Presence(user.clone())),
            }
        }
        // What was not read when she came is read now, rather than guessed.
        if self.presences.present.get(user).is_some_and(|present| present.is_unread && !present.is_there()) {
            self.presences.present.remove(user);
        }
        self.tell_watchers(user);
        // Of who is not there, the store and the watchers' interest know all there is to know.
        if self.presences.present.get(user).is_some_and(|present| !present.is_there()) {
            self.presences.present.remove(user);
        }
    }

    /// The relay stops: of those who are there it is kept that they were.
    pub(in crate::core) fn note_all_seen(&mut self) {
        let holders: Vec<Holder> = self.presences.holders.values().cloned().collect();
        for Holder { user, device, .. } in holders {
            self.note_last_seen(&user, &device, Seen { time: self.now.time, ended: Cause::Unspecified });
        }
    }

    /// A user without a lease, as the store knows her.
    pub(super) fn resting(&self, user: &UserId) -> Result<Present, StoreError> {
        let devices = self.shown_device_records(user)?;
        Ok(Present::resting(self.user_record(user)?, &devices, self.recovering()))
    }

    /// Since when devices come back after the relay's start, and until when.
    fn recovering(&self) -> Option<(Time, Time)> {
        self.presences.recovery.window(self.now).map(|(began, end)| (began.time, end.time))
    }

    /// A user as one sees her, permitted or not: the one function that tells it.
    pub(in crate::core) fn presence_of(
        &self,
        user: &UserId,
        eyes: Eyes,
    ) -> Result<wire::Presence, StoreError> {
        Ok(match self.presences.present.get(user) {
            Some(present) => present.view(user, eyes),
            None => self.resting(user)?.view(user, eyes),
        })
    }

    /// Keeps with the commit that gathers when a user was last seen, in which the record of her device goes.
    pub(in crate::core) fn keep_last_seen(&mut self, user: &UserId, cause: Cause) -> Result<(), StoreError> {
        let since = self.presences.present.get(user).map_or(Time::ZERO, Present::since);
        let mut record = self.user_record(user)?.unwrap_or_default();
        record.seen = record.seen.max(self.now.time.max(since).0);
        record.ended = cause.into();
        self.put_user_record(user, record)
    }

    /// The user is shown to others from now on, or no more; durably so.
    pub(in crate::core) fn show_or_hide(&mut self, user: &UserId, invisible: bool, set: Time) {
        if let Some(present) = self.presences.present.get_mut(user) {
            present.set_invisible(invisible, set);
        }
        self.refresh(user, None);
    }

    /// Others see nothing of the user.
    pub(in crate::core) fn is_invisible(&self, user: &UserId) -> Result<bool, StoreError> {
        match self.presences.present.get(user) {
            Some(present) => Ok(present.is_invisible()),
            None => Ok(self.durable_user_record(user)?.is_some_and(|record| record.invisible)),
        }
    }

    /// How one of a user's devices is, as she sees it.
    pub(in crate::core) fn device_status(
        &self,
        user: &UserId,
        device: &DeviceId,
        record: &DeviceRecord,
    ) -> Status {
        let state = self.presences.present.get(user).and_then(|user| user.devices.get(device));
        match state {
            Some(state) => state.shown().status,
            None => resting_status(record, self.recovering()),
        }
    }
}
