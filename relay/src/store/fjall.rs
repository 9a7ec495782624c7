//! The engine on disk: a log-structured merge tree (fjall), a keyspace for each table, and one journal for all, so
//! that a batch over several tables is one write and one fsync.
//!
//! The data folder is taken by a lock that ends with the process, and names its format in a file that is read before
//! the engine touches anything:
//!
//! | path | what it is |
//! | --- | --- |
//! | `format` | the version of this layout, in decimal |
//! | `lock` | locked while a relay has the folder |
//! | `store/` | the engine's own |
//! | `store.new/` | an engine that is being made; one that was not finished is made again |

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, PersistMode};

use super::{Batch, Order, Store, StoreError, Table};

/// The layout of the data folder that this version reads and writes.
const FORMAT: &str = "1";
/// The journal is replayed when the store opens: its size bounds how long that takes.
const JOURNAL_BYTES_MAX: u64 = 128 * 1024 * 1024;
/// Blocks and blobs kept in memory.
const CACHE_BYTES: u64 = 128 * 1024 * 1024;
/// Messages from this size on lie beside the tree, so that compaction does not copy them again and again.
const BLOB_BYTES_MIN: u32 = 4 * 1024;

/// A store in a folder. Clones are handles of the same store; the folder is free again when the last is dropped.
#[derive(Clone)]
pub struct FjallStore(Arc<Inner>);

struct Inner {
    // Dropped in this order: the folder is unlocked when the engine has ended.
    tables: Vec<Keyspace>,
    database: Database,
    _lock: File,
}

impl FjallStore {
    /// Opens the store in a data folder, or makes both.
    ///
    /// # Errors
    /// [`StoreError`] when another process has the folder, when its format is not known, or when the engine fails.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        let failed = |what: &str, error: &io::Error| {
            StoreError::Engine(format!("{what} in the data folder {} failed: {error}", folder.display()))
        };
        fs::create_dir_all(folder).map_err(|error| failed("making a folder", &error))?;
        let lock = lock(folder, &failed)?;
        check_format(folder, &failed)?;

        let path = folder.join("store");
        if !path.exists() {
            // The engine can't open what it had not finished making (3.1 leaves a journal without its marker), so it
            // is made aside and becomes the store in one step. Nothing was ever acknowledged in what is dropped here.
            let new = folder.join("store.new");
            if new.exists() {
                fs::remove_dir_all(&new).map_err(|error| failed("removing an unfinished store", &error))?;
            }
            drop(open_engine(&new)?);
            fs::rename(&new, &path).map_err(|error| failed("naming the new store", &error))?;
            sync_folder(folder).map_err(|error| failed("naming the new store", &error))?;
        }
        let (database, tables) = open_engine(&path)?;
        Ok(Self(Arc::new(Inner { tables, database, _lock: lock })))
    }

    fn table(&self, table: Table) -> Result<&Keyspace, StoreError> {
        let at = Table::ALL.iter().position(|other| *other == table);
        at.and_then(|at| self.0.tables.get(at))
            .ok_or_else(|| StoreError::Engine(format!("it has no table {}", table.name())))
    }
}

impl Store for FjallStore {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let value = self.table(table)?.get(key).map_err(|error| engine(&error))?;
        Ok(value.map(Bytes::from))
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
        let mut rows = self.table(table)?.range(from..to);
        loop {
            let row = match order {
                Order::Ascending => rows.next(),
                Order::Descending => rows.next_back(),
            };
            let Some(row) = row else { return Ok(()) };
            let (key, value) = row.into_inner().map_err(|error| engine(&error))?;
            if !visit(&key, &value) {
                return Ok(());
            }
        }
    }

    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        let database = &self.0.database;
        // What could not be synced is never written over: the engine refuses all writes after such a failure.
        let mut write = database.batch().durability(Some(PersistMode::SyncData));
        for (table, key, value) in &batch.changes {
            let keyspace = self.table(*table)?;
            match value {
                Some(value) => write.insert(keyspace, key.clone(), value.clone()),
                None => write.remove(keyspace, key.clone()),
            }
        }
        write.commit().map_err(|error| engine(&error))
    }
}

/// Opens the engine in its own folder, or makes it there, with a keyspace for each table.
fn open_engine(path: &Path) -> Result<(Database, Vec<Keyspace>), StoreError> {
    let database = Database::builder(path)
        .max_journaling_size(JOURNAL_BYTES_MAX)
        .cache_size(CACHE_BYTES)
        .open()
        .map_err(|error| engine(&error))?;
    let mut tables = Vec::with_capacity(Table::ALL.len());
    for table in Table::ALL {
        let keyspace = database.keyspace(table.name(), || options(table));
        tables.push(keyspace.map_err(|error| engine(&error))?);
    }
    // Making a keyspace is not itself synced; nothing may be answered before it is.
    database.persist(PersistMode::SyncAll).map_err(|error| engine(&error))?;
    Ok((database, tables))
}

fn options(table: Table) -> KeyspaceCreateOptions {
    let options = KeyspaceCreateOptions::default();
    match table {
        Table::Messages => options
            .with_kv_separation(Some(KvSeparationOptions::default().separation_threshold(BLOB_BYTES_MIN))),
        _ => options,
    }
}

fn engine(error: &fjall::Error) -> StoreError {
    match error {
        fjall::Error::Poisoned => StoreError::Engine(
            "an earlier write failed, so nothing more is written before a new start".into(),
        ),
        fjall::Error::Io(error) => StoreError::Engine(error.to_string()),
        error => StoreError::Engine(format!("{error:?}")),
    }
}

fn lock(folder: &Path, failed: &dyn Fn(&str, &io::Error) -> StoreError) -> Result<File, StoreError> {
    let lock = OpenOptions::new().create(true).truncate(false).write(true).open(folder.join("lock"));
    let lock = lock.map_err(|error| failed("making the lock", &error))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(StoreError::Engine(format!(
            "another process uses the data folder {}; stop it, or choose another folder",
            folder.display()
        ))),
        Err(TryLockError::Error(error)) => Err(failed("locking", &error)),
    }
}

fn check_format(folder: &Path, failed: &dyn Fn(&str, &io::Error) -> StoreError) -> Result<(), StoreError> {
    let path = folder.join("format");
    match fs::read(&path) {
        Ok(format) if String::from_utf8_lossy(&format).trim() == FORMAT => Ok(()),
        Ok(format) => Err(StoreError::Engine(format!(
            "the data folder {} has format {:?}, and this version of the relay knows format {FORMAT} only; use the \
             version that wrote it, or another folder",
            folder.display(),
            String::from_utf8_lossy(&format).trim().chars().take(20).collect::<String>(),
        ))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if folder.join("store").exists() {
                return Err(StoreError::Damaged(format!(
                    "the data folder {} has a store but no format file",
                    folder.display()
                )));
            }
            write_format(folder, &path).map_err(|error| failed("writing the format file", &error))
        }
        Err(error) => Err(failed("reading the format file", &error)),
    }
}

/// Whole or not at all, and on disk before the engine writes anything.
fn write_format(folder: &Path, path: &Path) -> io::Result<()> {
    let new = folder.join("format.new");
    let mut file = File::create(&new)?;
    writeln!(file, "{FORMAT}")?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    sync_folder(folder)
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
