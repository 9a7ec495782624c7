//! The relay's store over a simulated disk.
//!
//! The engine is the simulator's own, small on purpose: ordered maps in memory and one journal. A batch is one record
//! of the journal: its length, its checksum, its bytes. What was synced stays. When the machine stops during a sync,
//! of the sectors that were to be written any subset is on the disk, each whole, because a disk writes 512 bytes or
//! none of them. Opening replays the journal up to the first record that is not whole and cuts off the rest.
//!
//! Readers may see a batch before it is synced: the contract of [`Store`] permits that, and real engines do it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, Deref};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Buf, BufMut, Bytes};
use hongyan_relay::store::{Batch, Order, Store, StoreError, Table};

use crate::chance::Chance;

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// The engine's maps.
#[derive(Clone, Default, PartialEq)]
pub struct Tables {
    rows: BTreeMap<Table, BTreeMap<Bytes, Bytes>>,
    /// The queues as commits brought them, by user and last position: also what was moved or dropped since.
    pub queues: BTreeMap<Bytes, Bytes>,
    /// Messages as they ever were, by conversation and seq: as written, and as each change left them.
    pub states: BTreeMap<Bytes, Vec<Bytes>>,
}

impl Deref for Tables {
    type Target = BTreeMap<Table, BTreeMap<Bytes, Bytes>>;

    fn deref(&self) -> &Self::Target {
        &self.rows
    }
}

/// What a crash left of the batch that was under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// There was none.
    Nothing,
    /// No byte of it reached the disk.
    Lost,
    /// Some sectors did; the record is not whole and was cut off.
    Torn,
    /// All of it did.
    Kept,
}

/// The medium: it survives the process and the machine.
#[derive(Default)]
struct Medium {
    journal: Vec<u8>,
    /// What the synced part of the journal holds; the same as replaying it.
    synced: Tables,
    /// Where the synced part ends.
    synced_bytes: usize,
    /// Sectors that were written and not synced.
    writing: Vec<(usize, [u8; SECTOR])>,
    writing_end: usize,
    /// The batch of those sectors.
    batch: Option<Batch>,
}

#[derive(Default)]
struct Inner {
    medium: Medium,
    /// What a reader sees.
    seen: Tables,
    /// Keys that a reader sees and that are not synced.
    unsynced: BTreeSet<(Table, Bytes)>,
    /// So many of the next reads pass …
    reads_until_fault: Option<u64>,
    /// … and how often one failed since.
    read_faults: u64,
    /// Every second fault is of the other kind.
    faults_ever: u64,
    seen_early: u64,
}

/// Clones are handles of the same store.
#[derive(Clone, Default)]
pub struct SimStore(Arc<Mutex<Inner>>);

impl SimStore {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// One that holds what a backup holds.
    #[must_use]
    pub fn from_backup(tables: &Tables) -> Self {
        let store = Self::new();
        let mut batch = Batch::default();
        store.lock().medium.synced.queues.clone_from(&tables.queues);
        store.lock().medium.synced.states.clone_from(&tables.states);
        for (table, rows) in &**tables {
            for (key, value) in rows {
                batch.put(*table, key.clone(), value.clone());
            }
        }
        store.write(&batch);
        store.show();
        store.sync();
        store
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is synced now.
    #[must_use]
    pub fn synced(&self) -> Tables {
        self.lock().medium.synced.clone()
    }

    /// Looks at what is synced.
    pub fn look<T>(&self, look: impl FnOnce(&Tables) -> T) -> T {
        look(&self.lock().medium.synced)
    }

    /// Writes a batch; nothing of it is certain before [`SimStore::sync`].
    pub fn write(&self, batch: &Batch) {
        self.lock().medium.write(batch);
    }

    /// Lets readers see the batch that was written.
    pub fn show(&self) {
        let mut inner = self.lock();
        let Inner { medium, seen, unsynced, .. } = &mut *inner;
        if let Some(batch) = &medium.batch {
            apply(seen, batch);
            unsynced.extend(batch.changes.iter().map(|(table, key, _)| (*table, key.clone())));
        }
    }

    /// Makes the batch that was written durable, and lets readers see it.
    pub fn sync(&self) {
        self.show();
        let mut inner = self.lock();
        inner.medium.sync();
        inner.unsynced.clear();
    }

    /// The machine stops; tells what is left of the batch that was under way.
    pub fn crash(&self, chance: &mut Chance) -> Left {
        let mut inner = self.lock();
        let left = inner.medium.crash(chance);
        inner.seen = inner.medium.synced.clone();
        inner.unsynced.clear();
        inner.reads_until_fault = None;
        left
    }

    /// One of the next reads fails.
    pub fn fail_a_read(&self, after: u64) {
        self.lock().reads_until_fault = Some(after);
    }

    /// No read fails any more.
    pub fn heal(&self) {
        self.lock().reads_until_fault = None;
    }

    /// How many reads failed, and how many saw what was not synced, since this was last asked.
    pub fn take_counts(&self) -> (u64, u64) {
        let mut inner = self.lock();
        (std::mem::take(&mut inner.read_faults), std::mem::take(&mut inner.seen_early))
    }
}

impl Inner {
    fn read(&mut self) -> Result<(), StoreError> {
        match &mut self.reads_until_fault {
            None => Ok(()),
            Some(0) => {
                self.reads_until_fault = None;
                self.read_faults += 1;
                self.faults_ever += 1;
                Err(match self.faults_ever % 2 {
                    0 => StoreError::Damaged("the simulated disk gave something else".into()),
                    _ => StoreError::Engine("the simulated disk could not be read".into()),
                })
            }
            Some(rest) => {
                *rest -= 1;
                Ok(())
            }
        }
    }

    fn note(&mut self, table: Table, key: &Bytes) {
        if !self.unsynced.is_empty() && self.unsynced.contains(&(table, key.clone())) {
            self.seen_early += 1;
        }
    }
}

impl Medium {
    fn write(&mut self, batch: &Batch) {
        let record = record(batch);
        let begin = self.synced_bytes;
        let end = begin + record.len();
        let first = begin / SECTOR;
        let mut image = self.journal[first * SECTOR..begin].to_vec();
        image.extend_from_slice(&record);
        self.writing = image
            .chunks(SECTOR)
            .enumerate()
            .map(|(at, bytes)| {
                let mut sector = [0; SECTOR];
                sector[..bytes.len()].copy_from_slice(bytes);
                (first + at, sector)
            })
            .collect();
        self.writing_end = end;
        self.batch = Some(batch.clone());
    }

    fn put(&mut self, at: usize, sector: &[u8; SECTOR]) {
        let end = (at + 1) * SECTOR;
        if self.journal.len() < end {
            self.journal.resize(end, 0);
        }
        self.journal[at * SECTOR..end].copy_from_slice(sector);
    }

    fn sync(&mut self) {
        let Some(batch) = self.batch.take() else { return };
        for (at, sector) in std::mem::take(&mut self.writing) {
            self.put(at, &sector);
        }
        self.synced_bytes = self.writing_end;
        apply(&mut self.synced, &batch);
    }

    fn crash(&mut self, chance: &mut Chance) -> Left {
        if self.batch.take().is_none() {
            return Left::Nothing;
        }
        let sectors = std::mem::take(&mut self.writing);
        let percent = chance.weighted(&[(1, 0), (1, 100), (2, 50)]);
        let mut some = false;
        for (at, sector) in sectors {
            if chance.percent(percent) {
                some = true;
                self.put(at, &sector);
            }
        }
        let before = self.synced_bytes;
        self.recover();
        match (self.synced_bytes > before, some) {
            (true, _) => Left::Kept,
            (false, true) => Left::Torn,
            (false, false) => Left::Lost,
        }
    }

    /// Replays what is whole after the part that is known, and cuts off the rest for good: a record that is left
    /// behind a torn one must not come back to life.
    fn recover(&mut self) {
        while let Some((batch, bytes)) =
            read_record(&self.journal[self.synced_bytes.min(self.journal.len())..])
        {
            apply(&mut self.synced, &batch);
            self.synced_bytes += bytes;
        }
        self.journal.truncate(self.synced_bytes);
        self.journal.resize(self.synced_bytes.div_ceil(SECTOR) * SECTOR, 0);
    }
}

impl Store for SimStore {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let mut inner = self.lock();
        inner.read()?;
        if !inner.unsynced.is_empty() {
            inner.note(table, &Bytes::copy_from_slice(key));
        }
        Ok(inner.seen.get(&table).and_then(|rows| rows.get(key).cloned()))
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        order: Order,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StoreError> {
        self.lock().read()?;
        // The visitor may read the store itself, so rows are taken in pieces that grow: most scans want one row.
        let (mut from, mut to) = (Bound::Included(Bytes::copy_from_slice(from)), Bytes::copy_from_slice(to));
        let mut piece = 1;
        loop {
            let (low, empty) = match &from {
                Bound::Included(key) => (Bound::Included(&key[..]), key >= &to),
                Bound::Excluded(key) => (Bound::Excluded(&key[..]), key >= &to),
                Bound::Unbounded => (Bound::Unbounded, false),
            };
            if empty {
                return Ok(());
            }
            let rows: Vec<(Bytes, Bytes)> = {
                let mut inner = self.lock();
                let Some(rows) = inner.seen.get(&table) else { return Ok(()) };
                let range = rows.range::<[u8], _>((low, Bound::Excluded(&to[..])));
                let row = |(key, value): (&Bytes, &Bytes)| (key.clone(), value.clone());
                let rows: Vec<_> = match order {
                    Order::Ascending => range.map(row).take(piece).collect(),
                    Order::Descending => range.rev().map(row).take(piece).collect(),
                };
                for (key, _) in &rows {
                    inner.note(table, key);
                }
                rows
            };
            for (key, value) in &rows {
                if !visit(key, value) {
                    return Ok(());
                }
            }
            let Some((last, _)) = rows.last().filter(|_| rows.len() == piece) else { return Ok(()) };
            match order {
                Order::Ascending => from = Bound::Excluded(last.clone()),
                Order::Descending => to = last.clone(),
            }
            piece *= 4;
        }
    }

    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        self.write(batch);
        self.show();
        self.sync();
        Ok(())
    }
}

fn apply(tables: &mut Tables, batch: &Batch) {
    for (table, key, value) in &batch.changes {
        // A row of new entries; a part of an older one keeps its key.
        if let (Table::Queue, Some(value), Some(user)) = (table, value, key.len().checked_sub(8)) {
            let newest =
                tables.queues.range(key.slice(..user)..).take_while(|(at, _)| at.starts_with(&key[..user]));
            if newest.last().is_none_or(|(last, _)| last < key) {
                tables.queues.insert(key.clone(), value.clone());
            }
        }
        if let (Table::Messages | Table::Profiles, Some(value)) = (table, value) {
            let states = tables.states.entry(key.clone()).or_default();
            // A backup that is put in place brings what is known.
            if states.last() != Some(value) {
                states.push(value.clone());
            }
        }
        let rows = tables.rows.entry(*table).or_default();
        match value {
            Some(value) => rows.insert(key.clone(), value.clone()),
            None => rows.remove(key),
        };
    }
}

fn record(batch: &Batch) -> Vec<u8> {
    let mut body = Vec::new();
    for (table, key, value) in &batch.changes {
        let table = Table::ALL.iter().position(|other| other == table).unwrap_or(0);
        body.put_u8(u8::try_from(table).unwrap_or(0));
        body.put_u32_le(u32::try_from(key.len()).unwrap_or(0));
        body.extend_from_slice(key);
        match value {
            Some(value) => {
                body.put_u32_le(u32::try_from(value.len()).unwrap_or(0) + 1);
                body.extend_from_slice(value);
            }
            None => body.put_u32_le(0),
        }
    }
    let mut record = Vec::with_capacity(body.len() + 12);
    // A length of zero is where the journal ends.
    record.put_u32_le(u32::try_from(body.len()).unwrap_or(0) + 1);
    record.put_u64_le(checksum(&body));
    record.extend_from_slice(&body);
    record
}

/// The record at the beginning of `bytes` and its length; `None` when it is not whole.
fn read_record(bytes: &[u8]) -> Option<(Batch, usize)> {
    let mut rest = bytes;
    let length = usize::try_from(rest.try_get_u32_le().ok()?.checked_sub(1)?).ok()?;
    let sum = rest.try_get_u64_le().ok()?;
    let body = rest.get(..length)?;
    if checksum(body) != sum {
        return None;
    }
    let mut batch = Batch::default();
    let mut rest = body;
    while rest.has_remaining() {
        let table = *Table::ALL.get(usize::from(rest.try_get_u8().ok()?))?;
        let length = usize::try_from(rest.try_get_u32_le().ok()?).ok()?;
        let key = take(&mut rest, length)?;
        match usize::try_from(rest.try_get_u32_le().ok()?).ok()?.checked_sub(1) {
            Some(length) => batch.put(table, key, take(&mut rest, length)?),
            None => batch.delete(table, key),
        }
    }
    Some((batch, 12 + length))
}

fn take(rest: &mut &[u8], length: usize) -> Option<Bytes> {
    let (taken, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(Bytes::copy_from_slice(taken))
}

/// FNV-1a over words: a torn write shows.
fn checksum(bytes: &[u8]) -> u64 {
    let mut sum = 0xcbf2_9ce4_8422_2325_u64;
    for chunk in bytes.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        sum = (sum ^ u64::from_le_bytes(word)).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engine_keeps_the_contract() {
        let store = SimStore::new();
        let mut chance = Chance::new(1, 1);
        hongyan_relay::store::contract::check(move || {
            store.crash(&mut chance);
            store.clone()
        });
    }

    /// After any crash the store holds what was synced and at most the batch that was under way, whole.
    #[test]
    fn a_crash_leaves_whole_batches() {
        let mut left = Vec::new();
        for seed in 0..400 {
            let mut chance = Chance::new(seed, 2);
            let store = SimStore::new();
            let mut synced = 0;
            for round in 0..12_u64 {
                let mut batch = Batch::default();
                let rows = chance.between(1, 6);
                for row in 0..rows {
                    let size = chance.index(900);
                    batch.put(Table::Messages, format!("{round}/{row}"), vec![b'x'; size]);
                }
                batch.put(Table::Meta, &b"round"[..], round.to_string());
                store.write(&batch);
                if chance.percent(50) {
                    store.show();
                }
                if chance.percent(60) {
                    store.sync();
                    synced = round + 1;
                } else {
                    let what = store.crash(&mut chance);
                    left.push(what);
                    if what == Left::Kept {
                        synced = round + 1;
                    }
                }
                let round = store.get(Table::Meta, b"round").unwrap();
                let round =
                    round.map_or(0, |text| String::from_utf8_lossy(&text).parse::<u64>().unwrap() + 1);
                if store.lock().medium.batch.is_none() {
                    assert_eq!(round, synced);
                    let inner = store.lock();
                    let mut whole = Medium { journal: inner.medium.journal.clone(), ..Medium::default() };
                    whole.recover();
                    assert!(whole.synced == inner.medium.synced, "the journal says what the maps say");
                }
            }
        }
        for kind in [Left::Lost, Left::Torn, Left::Kept] {
            assert!(left.contains(&kind), "{kind:?} never happened");
        }
    }
}
