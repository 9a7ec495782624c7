//! The tables on disk: one log-structured merge tree (lsm-tree, the one under fjall), in which a key begins with the
//! number of its table.
//!
//! What is applied is in memory, and readers see it at once; [`Tree::seal`] and [`Tree::flush`] bring it to disk, whole
//! commits in their order, and with them the number of the last: what comes after it is in the journal
//! ([`super::journal`]).
//!
//! Where a process is killed while the tree names its list of tables, a file `.tmp…` of some 25 bytes stays in the folder. Nobody
//! reads it, and nobody removes it.
//!
//! *Invariant:* a reader sees each commit whole or not at all, and what readers may still need is never cleared away.

use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bytes::Bytes;
use lsm_tree::compaction::Leveled;
use lsm_tree::config::{
    BloomConstructionPolicy, CompressionPolicy, FilterPolicy, FilterPolicyEntry, RestartIntervalPolicy,
};
use lsm_tree::{AbstractTree, AnyTree, Cache, CompressionType, Config, Memtable, SequenceNumberCounter};
use xxhash_rust::xxh3::xxh3_128;

use super::journal::{Commit, sync_folder};
use super::{Order, StoreError, Table};

/// The key of the last commit's number. No table has the number 0.
const LAST_COMMIT: &[u8] = b"\0commit";
/// The tables of one flush are small, so more of them come together before they are merged.
const MERGED_TABLES: u8 = 8;
/// A table of the levels.
const TABLE_BYTES: u64 = 16 * 1024 * 1024;
/// Blocks kept in memory.
const CACHE_BYTES: u64 = 128 * 1024 * 1024;

/// The tree, opened.
pub(super) struct Tree {
    tree: AnyTree,
    merging: Arc<Leveled>,
    seqno: SequenceNumberCounter,
    /// What is numbered lower may be read.
    visible: AtomicU64,
    /// Held while a commit is applied.
    applying: Mutex<()>,
    /// Held by each reader as long as it reads.
    reading: RwLock<()>,
    /// What was sealed. The tree lets go of it under the lock that readers and commits need, so it is freed here, later.
    sealed: Mutex<Vec<Arc<Memtable>>>,
}

impl Tree {
    /// Opens the tree in its folder, or makes it there.
    pub(super) fn open(folder: &Path) -> Result<Self, StoreError> {
        check_list(folder)?;
        if folder.exists() {
            // What was named by a process that was killed may be in the system's memory only; on the strength of it the
            // tree removes files, and the journal's are written over.
            sync_folder(folder)
                .map_err(|error| StoreError::Engine(format!("syncing the tree's folder failed: {error}")))?;
        }
        let seqno = SequenceNumberCounter::default();
        // The tree's own word of what is visible is not used: it moves within a commit.
        let config = Config::new(folder, seqno.clone(), SequenceNumberCounter::default())
            .use_cache(Arc::new(Cache::with_capacity_bytes(CACHE_BYTES)))
            .data_block_restart_interval_policy(RestartIntervalPolicy::new([10, 16]))
            .data_block_compression_policy(CompressionPolicy::new([
                CompressionType::None,
                CompressionType::None,
                CompressionType::Lz4,
            ]))
            // A new key is looked for in each of the newest tables, so their filters are the finest.
            .filter_policy(FilterPolicy::new([
                FilterPolicyEntry::Bloom(BloomConstructionPolicy::FalsePositiveRate(0.0001)),
                FilterPolicyEntry::Bloom(BloomConstructionPolicy::BitsPerKey(10.0)),
            ]));
        let tree = guarded(|| config.open())?;
        seqno.set(tree.get_highest_seqno().map_or(1, |highest| highest + 1));
        Ok(Self {
            merging: Arc::new(
                Leveled::default().with_l0_threshold(MERGED_TABLES).with_table_target_size(TABLE_BYTES),
            ),
            visible: AtomicU64::new(seqno.get()),
            tree,
            seqno,
            applying: Mutex::default(),
            reading: RwLock::default(),
            sealed: Mutex::default(),
        })
    }

    /// The last commit that was applied; 0 before the first.
    pub(super) fn last_commit(&self) -> Result<u64, StoreError> {
        let Some(number) = self.read(|at| self.tree.get(LAST_COMMIT, at))? else { return Ok(0) };
        let number = <[u8; 8]>::try_from(&number[..])
            .map_err(|_| damaged("the last commit's number can't be read"))?;
        Ok(u64::from_be_bytes(number))
    }

    pub(super) fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let key = prefixed(table, key);
        Ok(self.read(|at| self.tree.get(&key, at))?.map(Bytes::from))
    }

    pub(super) fn scan(
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
        let (from, to) = (prefixed(table, from), prefixed(table, to));
        let mut rows = self.read(|at| Ok(self.tree.range(from..to, at, None)))?;
        loop {
            // The visitor's own panics are not the tree's, so it is called outside.
            let row = guarded(|| {
                let row = match order {
                    Order::Ascending => rows.next(),
                    Order::Descending => rows.next_back(),
                };
                row.map(lsm_tree::Guard::into_inner).transpose()
            })?;
            let Some((key, value)) = row else { return Ok(()) };
            if !visit(&key[1..], &value) {
                return Ok(());
            }
        }
    }

    /// Reads what is visible now. An iterator that is made within goes on with that.
    fn read<T>(&self, read: impl FnOnce(u64) -> lsm_tree::Result<T>) -> Result<T, StoreError> {
        let _reading = self.reading.read().unwrap_or_else(PoisonError::into_inner);
        guarded(|| read(self.visible.load(Ordering::Acquire)))
    }

    /// Applies a commit, which is on disk in the journal.
    pub(super) fn apply(&self, commit: &Commit) -> Result<(), StoreError> {
        let _applying = self.applying.lock().unwrap_or_else(PoisonError::into_inner);
        guarded(|| {
            let seqno = self.seqno.next();
            for (key, value) in commit.changes() {
                match value {
                    Some(value) => self.tree.insert(key, value, seqno),
                    None => self.tree.remove(key, seqno),
                };
            }
            self.tree.insert(LAST_COMMIT, commit.number().to_be_bytes(), seqno);
            self.visible.store(seqno + 1, Ordering::Release);
            Ok(())
        })
    }

    /// Ends what a flush writes: it is all that was applied so far.
    pub(super) fn seal(&self) -> Result<(), StoreError> {
        let sealed = guarded(|| Ok(self.tree.rotate_memtable()))?;
        self.sealed.lock().unwrap_or_else(PoisonError::into_inner).extend(sealed);
        Ok(())
    }

    /// Writes to disk what is sealed, durably.
    pub(super) fn flush(&self) -> Result<(), StoreError> {
        let before = self.needed();
        guarded(|| {
            let flushing = self.tree.get_flush_lock();
            self.tree.flush(&flushing, before)
        })?;
        self.let_go();
        Ok(())
    }

    /// Merges some tables, where there are too many. Says whether there may be more to do.
    pub(super) fn merge(&self) -> Result<bool, StoreError> {
        let version = || self.tree.current_version().id();
        let (before, was) = (self.needed(), version());
        guarded(|| self.tree.compact(self.merging.clone(), before))?;
        self.let_go();
        Ok(version() != was)
    }

    /// How many flushes wait to be merged.
    pub(super) fn unmerged(&self) -> usize {
        self.tree.l0_run_count()
    }

    /// What readers may still need: of what is numbered lower, the newest of each key.
    fn needed(&self) -> u64 {
        // Who reads now is waited for, and who comes later reads no less than this.
        let _alone = self.reading.write().unwrap_or_else(PoisonError::into_inner);
        self.visible.load(Ordering::Acquire)
    }

    /// The tree numbers its own changes, too, and keeps what was before them until that can't be read any more.
    fn let_go(&self) {
        {
            let _applying = self.applying.lock().unwrap_or_else(PoisonError::into_inner);
            self.visible.store(self.seqno.get(), Ordering::Release);
        }
        let mut sealed = self.sealed.lock().unwrap_or_else(PoisonError::into_inner);
        let free: Vec<_> = sealed.extract_if(.., |memtable| Arc::strong_count(memtable) == 1).collect();
        drop(sealed);
        drop(free);
    }
}

/// The key in the tree.
fn prefixed(table: Table, key: &[u8]) -> Vec<u8> {
    let mut prefixed = Vec::with_capacity(key.len() + 1);
    prefixed.push(table as u8);
    prefixed.extend_from_slice(key);
    prefixed
}

/// The list of the tree's files, against the checksum that the tree writes beside it and never compares. With a wrong
/// list it would remove the files that are not in it.
fn check_list(folder: &Path) -> Result<(), StoreError> {
    let current = match fs::read(folder.join("current")) {
        Ok(current) => current,
        // A tree that is not made yet.
        Err(error) if error.kind() == io::ErrorKind::NotFound && !folder.join("tables").exists() => {
            return Ok(());
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(damaged("the file that names the list of the tables is missing"));
        }
        Err(error) => {
            return Err(StoreError::Engine(format!("reading the list of the tables failed: {error}")));
        }
    };
    // The list's number, its XXH3-128, and the kind of checksum.
    let is_right = current.len() == 25 && current.last() == Some(&0) && {
        let (mut number, mut checksum) = ([0; 8], [0; 16]);
        number.copy_from_slice(&current[..8]);
        checksum.copy_from_slice(&current[8..24]);
        let list = fs::read(folder.join(format!("v{}", u64::from_le_bytes(number))));
        list.is_ok_and(|list| xxh3_128(&list) == u128::from_le_bytes(checksum))
    };
    if is_right { Ok(()) } else { Err(damaged("the list of the tables is not as it was written")) }
}

/// Calls the tree; where it panics over what it finds, that is damage.
fn guarded<T>(call: impl FnOnce() -> lsm_tree::Result<T>) -> Result<T, StoreError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(|error| match error {
            lsm_tree::Error::Io(error) => StoreError::Engine(error.to_string()),
            lsm_tree::Error::InvalidVersion(_) => {
                damaged("the tree's own format can't be read or is not known")
            }
            error => damaged(&format!("{error:?}")),
        }),
        Err(_) => Err(damaged("the tree broke over what it found in its files")),
    }
}

fn damaged(why: &str) -> StoreError {
    StoreError::Damaged(format!("{why}; restore the data folder from a backup"))
}
