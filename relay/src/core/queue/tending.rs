//! Keeps queues within their bounds: drops what nobody needs or what is not kept any longer, and moves what is beyond
//! the capacity into the overflow.
//!
//! Users stand in a line, and each `handle` does one bounded step for one of them, in the commit that gathers; a user's
//! next step waits until that is durable. Only what is durable is touched, and never the newest row, so the head stays
//! where it is. A user comes into the line when the hot part has a segment's worth too much, and with each sweep, a slow
//! walk over all queues.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use hongyan_protocol::{Pos, Time, UserId};

use super::read::{end_row, row};
use super::rows::{Reference, Row};
use crate::core::commit::Effect;
use crate::core::counters::QueueCounters;
use crate::core::deadlines::Timer;
use crate::core::defects::{self, Defect};
use crate::core::io::Verifier;
use crate::core::limits::{SWEEP_PACE_MS, TRIMMED_ROWS_PER_STEP};
use crate::core::records::{first_of, prefix, prefix_end, queue_key};
use crate::core::relay::Relay;
use crate::store::{Order, Store, StoreError, Table};

/// Who is to be tended, and what came of it.
#[derive(Default)]
pub(in crate::core) struct Tending {
    line: VecDeque<UserId>,
    /// Who stands there; true when it is for the sweep.
    in_line: BTreeMap<UserId, bool>,
    /// Those whose step is in a commit that has not ended, and up to where their queues are dropped with it.
    under_way: BTreeMap<UserId, Pos>,
    /// The first sweep is set.
    has_begun: bool,
    /// The sweep has come so far; `None` between two of them.
    swept: Option<UserId>,
    /// What this sweep has found so far.
    found: QueueCounters,
    pub(in crate::core) counters: QueueCounters,
}

/// What a part of a queue holds.
#[derive(Clone, Copy, Default)]
struct Held {
    entries: u64,
    bytes: u64,
}

/// One part of a queue: its first and its last row.
struct Part {
    first: Row,
    last: Row,
    /// Bytes of the last row, its key included.
    last_bytes: u64,
}

impl Part {
    fn held(&self) -> Held {
        Held {
            entries: self.last.last.0.saturating_sub(self.first.first().0).saturating_add(1),
            bytes: self.last.bytes.saturating_sub(self.first.bytes).saturating_add(self.last_bytes),
        }
    }
}

impl<S: Store, V: Verifier> Relay<S, V> {
    /// The user's queue may have become too long.
    pub(in crate::core) fn tend_if_long(&mut self, user: &UserId) {
        let Some(state) = self.users.get(user) else { return };
        let hot = state.durable.0.saturating_add(1).saturating_sub(state.hot_first.0);
        if hot >= self.config.queue.hot_max() {
            self.tend(user.clone(), false);
        }
    }

    fn tend(&mut self, user: UserId, is_swept: bool) {
        match self.tending.in_line.get_mut(&user) {
            Some(before) => *before |= is_swept,
            None => {
                self.tending.in_line.insert(user.clone(), is_swept);
                self.tending.line.push_back(user);
            }
        }
    }

    /// One step for one user; the deadline of the others is now.
    pub(in crate::core) fn tend_next(&mut self) {
        if self.may_write().is_ok()
            && let Some(user) = self.tending.line.pop_front()
        {
            let is_swept = self.tending.in_line.remove(&user).unwrap_or_default();
            if !self.tending.under_way.contains_key(&user)
                && let Err(error) = self.tend_step(&user, is_swept)
            {
                // The next sweep looks at the queue again.
                self.note_fault(&error);
            }
        }
        if self.tending.line.is_empty() || !self.is_serving() {
            self.deadlines.cancel(&Timer::Tend);
        } else if self.may_write().is_ok() {
            self.deadlines.set(Timer::Tend, self.now.moment);
        }
    }

    /// Up to where a user's queue is dropped with a commit that has not ended.
    pub(super) fn dropped_until(&self, user: &UserId) -> Pos {
        self.tending.under_way.get(user).copied().unwrap_or(Pos::ZERO)
    }

    /// The user's step is durable.
    pub(in crate::core) fn tended(&mut self, user: &UserId, more: bool) {
        self.tending.under_way.remove(user);
        if more {
            self.tend(user.clone(), false);
        }
    }

    // ------------------------------------------------------------ the sweep

    /// The first sweep begins some time after the start.
    pub(in crate::core) fn begin_sweeps(&mut self) {
        if !self.tending.has_begun {
            self.tending.has_begun = true;
            self.deadlines.set(Timer::Sweep, self.now.moment.after_ms(self.config.queue.sweep_interval_ms));
        }
    }

    /// The next user of the sweep; at its end the next sweep is set.
    pub(in crate::core) fn sweep(&mut self) {
        let from = self.tending.swept.as_ref().map_or(Bytes::new(), |user| prefix_end(user.as_str()));
        match self.queue_owner_after(&from) {
            Ok(Some(user)) => {
                self.tending.swept = Some(user.clone());
                self.tend(user, true);
                self.deadlines.set(Timer::Sweep, self.now.moment.after_ms(SWEEP_PACE_MS));
                return;
            }
            Ok(None) => {
                let found = core::mem::take(&mut self.tending.found);
                let counters = &mut self.tending.counters;
                (counters.hot_entries, counters.hot_bytes) = (found.hot_entries, found.hot_bytes);
                (counters.overflow_entries, counters.overflow_bytes) =
                    (found.overflow_entries, found.overflow_bytes);
                counters.sweeps += 1;
            }
            Err(error) => self.note_fault(&error),
        }
        self.tending.swept = None;
        self.deadlines.set(Timer::Sweep, self.now.moment.after_ms(self.config.queue.sweep_interval_ms));
    }

    fn queue_owner_after(&self, from: &[u8]) -> Result<Option<UserId>, StoreError> {
        let mut found = Ok(None);
        self.store.scan(Table::Queue, from, &[0xff], Order::Ascending, &mut |key, _| {
            found = first_of(key).and_then(|user| {
                let user = UserId::new(user)
                    .map_err(|_| StoreError::Damaged("a queue is of no valid user".into()))?;
                Ok(Some(user))
            });
            false
        })?;
        found
    }

    // ------------------------------------------------------------ a step

    fn tend_step(&mut self, user: &UserId, is_swept: bool) -> Result<(), StoreError> {
        let Some(hot) = self.part(Table::Queue, user)? else { return Ok(()) };
        let overflow = self.part(Table::Overflow, user)?;
        let slowest = self.slowest_cursor(user)?;
        // A commit under way may be seen before it is durable.
        let head = self.users.get(user).map_or(hot.last.last, |state| state.durable.min(hot.last.last));
        if is_swept {
            self.count_found(&hot, overflow.as_ref());
            self.look_after_devices(user)?;
        }

        let config = &self.config.queue;
        let (capacity, segment) = (config.capacity, config.segment_entries as u64);
        let passed = slowest.unwrap_or(Pos::ZERO).0;
        let passed = match defects::is_on(Defect::TrimBeyondSlowest) {
            true => passed.saturating_add(1),
            // The newest entries stay: for devices that come with an older cache, and for new ones.
            false => passed.min(head.0.saturating_sub(capacity)),
        };
        let (held, in_overflow) = (hot.held(), overflow.as_ref().map(Part::held).unwrap_or_default());
        let until = Pos(passed.max(head.0.saturating_sub(config.retention_entries_max)));
        let older = Time(self.now.time.0.saturating_sub(config.retention_ms));
        let mut bytes = (held.bytes + in_overflow.bytes).saturating_sub(config.retention_bytes_max);
        let mut rows_left = TRIMMED_ROWS_PER_STEP;
        let mut trimmed = Vec::new();
        let mut newest_trimmed = None;
        for table in [Table::Overflow, Table::Queue] {
            let mut is_kept = false;
            self.each_row(table, user, &mut |row, len| {
                let goes = row.last <= until || row.time <= older || bytes > 0;
                is_kept = !goes || row.last >= head || rows_left == 0;
                if !is_kept {
                    rows_left -= 1;
                    bytes = bytes.saturating_sub(len);
                    newest_trimmed = Some(row.last);
                    trimmed.push((table, row.last, row.entries.len() as u64));
                }
                !is_kept
            })?;
            if is_kept {
                break;
            }
        }
        for (table, last, entries) in &trimmed {
            self.commits.delete(*table, queue_key(user, *last));
            self.tending.counters.trimmed_rows += 1;
            self.tending.counters.trimmed_entries += entries;
        }
        let mut hot_first = hot.first.first();
        if let Some(last) = newest_trimmed {
            hot_first = hot_first.max(last.next());
        }
        let mut more = rows_left == 0;
        let mut has_changed = !trimmed.is_empty();
        let hot_entries = head.0.saturating_add(1).saturating_sub(hot_first.0);
        let is_long = hot_entries >= capacity.saturating_add(segment);
        if !more && is_long {
            let before = overflow.map_or(0, |part| part.last.bytes.saturating_add(part.last_bytes));
            hot_first = self.merge(user, hot_first, before)?;
            has_changed = true;
            let hot_entries = head.0.saturating_add(1).saturating_sub(hot_first.0);
            more = hot_entries >= capacity.saturating_add(segment);
        }
        if let Some(state) = self.users.get_mut(user) {
            state.hot_first = state.hot_first.max(hot_first);
        }
        if has_changed {
            self.tending.under_way.insert(user.clone(), newest_trimmed.unwrap_or(Pos::ZERO));
            self.commits.then(Effect::Tended(user.clone(), more));
        }
        Ok(())
    }

    /// Moves the oldest entries of the hot part into a segment. Copies stay behind: the log has the messages. Returns
    /// the first position that is hot now.
    fn merge(&mut self, user: &UserId, first: Pos, bytes_before: u64) -> Result<Pos, StoreError> {
        let size = self.config.queue.segment_entries;
        let mut entries: Vec<Reference> = Vec::new();
        let mut merged = Vec::new();
        let (mut time, mut rest) = (Time::ZERO, None);
        self.each_row(Table::Queue, user, &mut |mut row, _| {
            if row.last < first {
                return true;
            }
            time = row.time;
            let room = size - entries.len();
            if row.entries.len() > room {
                let len = row.encode().len() as u64;
                let mut after = row.entries.split_off(room);
                if defects::is_on(Defect::OverflowOffByOne) {
                    after.remove(0);
                }
                entries.append(&mut row.entries);
                row.entries = after;
                row.bytes += len.saturating_sub(row.encode().len() as u64);
                rest = Some(row);
                return false;
            }
            merged.push(row.last);
            entries.append(&mut row.entries);
            entries.len() < size
        })?;
        if entries.len() < size {
            return Err(StoreError::Damaged(format!("the hot part of {user}'s queue has a gap")));
        }
        for entry in &mut entries {
            entry.copy = None;
        }
        let last = Pos(first.0 + size as u64 - 1);
        if defects::is_on(Defect::MergeLosesEntry) {
            entries.remove(0);
        }
        if defects::is_on(Defect::MergeDoublesEntry)
            && let Some(entry) = entries.first().cloned()
        {
            entries.pop();
            entries.insert(0, entry);
        }
        for last in merged {
            self.commits.delete(Table::Queue, queue_key(user, last));
        }
        if let Some(rest) = rest {
            self.commits.put(Table::Queue, queue_key(user, rest.last), rest.encode());
        }
        let segment = Row { last, time, hot: 0, bytes: bytes_before, entries };
        self.commits.put(Table::Overflow, queue_key(user, last), segment.encode());
        self.tending.counters.segments += 1;
        Ok(last.next())
    }

    /// The rows of one part of a queue, with their bytes, until `visit` returns false.
    fn each_row(
        &self,
        table: Table,
        user: &UserId,
        visit: &mut dyn FnMut(Row, u64) -> bool,
    ) -> Result<(), StoreError> {
        let (from, to) = (prefix(user.as_str()), prefix_end(user.as_str()));
        let mut fault = None;
        self.store.scan(table, &from, &to, Order::Ascending, &mut |key, value| match row(key, value) {
            Ok(row) => visit(row, (key.len() + value.len()) as u64),
            Err(error) => {
                fault = Some(error);
                false
            }
        })?;
        fault.map_or(Ok(()), Err)
    }

    fn part(&self, table: Table, user: &UserId) -> Result<Option<Part>, StoreError> {
        let first = end_row(&self.store, table, user, Order::Ascending)?;
        let last = end_row(&self.store, table, user, Order::Descending)?;
        Ok(first.zip(last).map(|((first, _), (last, last_bytes))| Part { first, last, last_bytes }))
    }

    fn count_found(&mut self, hot: &Part, overflow: Option<&Part>) {
        let found = &mut self.tending.found;
        let held = hot.held();
        found.hot_entries += held.entries;
        found.hot_bytes += held.bytes;
        let held = overflow.map(Part::held).unwrap_or_default();
        found.overflow_entries += held.entries;
        found.overflow_bytes += held.bytes;
    }
}
