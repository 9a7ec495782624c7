//! An engine in memory, for tests and trials: nothing of it outlives the process.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::{Batch, Order, Store, StoreError, Table};

type Tables = BTreeMap<Table, BTreeMap<Bytes, Bytes>>;

/// Ordered maps behind a lock. Clones are handles of the same maps.
#[derive(Clone, Default)]
pub struct MemoryStore(Arc<Mutex<Tables>>);

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, Tables> {
        // Whoever panicked had not changed a part only: a commit's loop does not panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.lock().get(&table).and_then(|rows| rows.get(key).cloned()))
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        order: Order,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StoreError> {
        if from >= to {
            return Ok(());
        }
        // The visitor may read the store itself, so the lock is held from row to row only.
        let (mut from, mut to) = (Bound::Included(from.to_vec()), to.to_vec());
        loop {
            let row = {
                let tables = self.lock();
                let Some(rows) = tables.get(&table) else { return Ok(()) };
                let from = match &from {
                    Bound::Included(key) => Bound::Included(key.as_slice()),
                    Bound::Excluded(key) => Bound::Excluded(key.as_slice()),
                    Bound::Unbounded => Bound::Unbounded,
                };
                let mut range = rows.range::<[u8], _>((from, Bound::Excluded(to.as_slice())));
                let row = match order {
                    Order::Ascending => range.next(),
                    Order::Descending => range.next_back(),
                };
                row.map(|(key, value)| (key.clone(), value.clone()))
            };
            let Some((key, value)) = row else { return Ok(()) };
            if !visit(&key, &value) {
                return Ok(());
            }
            match order {
                Order::Ascending => from = Bound::Excluded(key.to_vec()),
                Order::Descending => to = key.to_vec(),
            }
            // An empty range with equal excluded bounds would panic.
            if let Bound::Excluded(from) = &from
                && from.as_slice() >= to.as_slice()
            {
                return Ok(());
            }
        }
    }

    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        let mut tables = self.lock();
        for (table, key, value) in &batch.changes {
            let rows = tables.entry(*table).or_default();
            match value {
                Some(value) => rows.insert(key.clone(), value.clone()),
                None => rows.remove(key),
            };
        }
        Ok(())
    }
}
