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
//! | `tail` | the number of the last acknowledged commit |
//! | `flushed` | from where on the journals are needed |
//! | `store/` | the engine's own |
//! | `store.new/` | an engine that is being made; one that was not finished is made again |
//!
//! What the engine itself does not notice, or takes for the end of a crash, is checked here before it opens: the
//! journals ([`super::journal`]), the lists of each keyspace's files, and after it has opened, that the last commit
//! is not older than the `tail` says. A block of a table or a blob has the engine's checksum, so damage there fails
//! the read; where the engine panics over damage, that is an error, too.
//!
//! What the journals hold that is in no table yet is what a start takes time for, so a thread has everything written to
//! the tables whenever it is [`FLUSH_BYTES`], and a relay that stops in peace has it done once more.
//!
//! What stays open: damage of the last commits that follows on a power cut, and only of those of which the `tail` was
//! not on disk yet, can't be told from an unfinished write. And where the oldest journals are gone as whole files while
//! later ones are there, that looks as if the engine had removed them, which it does when they are in the tables.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use fjall::compaction::Leveled;
use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, PersistMode};
use xxhash_rust::xxh3::xxh3_128;

use super::flushed::{Note, sync_folder};
use super::journal::{self, MARK_KEY, Mark};
use super::tail::{self, Found, Tail};
use super::{Batch, Order, Store, StoreError, Table};

/// The layout of the data folder that this version reads and writes.
const FORMAT: &str = "1";
/// The engine's own bound of its journals; what is needed of them is far less ([`FLUSH_BYTES`]).
const JOURNAL_BYTES_MAX: u64 = 128 * 1024 * 1024;
/// Bytes of commits after which all that is in no table is written to one: going through a megabyte of journal takes
/// the engine some 13 ms when it opens.
const FLUSH_BYTES: usize = 8 * 1024 * 1024;
/// What an item takes in the journal besides its key and value.
const ITEM_BYTES: usize = 21;
/// Between two looks whether the engine's threads have written a table.
const FLUSH_PACE: Duration = Duration::from_millis(5);
/// The tables of [`FLUSH_BYTES`] are small, so more of them come together before they are merged; the first level is as
/// large as with fewer, larger ones, and merged as seldom.
const MERGED_TABLES: u8 = 8;
/// A table of the levels.
const TABLE_BYTES: u64 = 16 * 1024 * 1024;
/// Blocks and blobs kept in memory.
const CACHE_BYTES: u64 = 128 * 1024 * 1024;
/// Messages from this size on lie beside the tree, so that compaction does not copy them again and again.
const BLOB_BYTES_MIN: u32 = 4 * 1024;
/// The keyspace of the commits' marks, beside the tables.
const COMMITS: &str = "commits";

/// A store in a folder. Clones are handles of the same store; the folder is free again when the last is dropped.
#[derive(Clone)]
pub struct FjallStore(Arc<Inner>);

struct Inner {
    // Dropped in this order: the folder is unlocked when the engine has ended.
    flusher: Flusher,
    shared: Arc<Shared>,
    _lock: File,
}

/// What the thread that flushes uses, too.
struct Shared {
    tables: Vec<Keyspace>,
    commits: Keyspace,
    database: Database,
    /// The engine's own folder.
    path: PathBuf,
    note: Note,
    writer: Mutex<Writer>,
    /// Held by who flushes.
    flushing: Mutex<()>,
    ending: AtomicBool,
}

/// What a commit holds, over its whole length: marks are in the order of commits.
struct Writer {
    tail: Tail,
    /// Bytes of commits since everything was last sent to the tables.
    bytes: usize,
}

/// The thread that flushes; it ends with this.
struct Flusher {
    due: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Flusher {
    fn drop(&mut self) {
        self.due = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.ending.store(true, Ordering::Relaxed);
    }
}

/// The engine, opened.
struct Engine {
    tables: Vec<Keyspace>,
    commits: Keyspace,
    database: Database,
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
        check_lists(&path)?;
        let tail_path = folder.join("tail");
        let found = tail::read(&tail_path).map_err(|error| failed("reading the tail", &error))?;
        let acknowledged = match found {
            Found::Commit(commit) => Some(commit),
            Found::Nothing => None,
            Found::Broken => {
                return Err(StoreError::Damaged(format!(
                    "the file tail in the data folder {} is not as it was written, so what was acknowledged last is not \
                 known; restore the data folder from a backup",
                    folder.display()
                )));
            }
        };
        let note = Note::of(folder);
        let journaled = journal::check(&path, acknowledged, &note)?;
        let Engine { tables, commits, database } = open_engine(&path)?;
        let mark = guarded(|| commits.get(MARK_KEY))?;
        let last = match mark.map(|bytes| Mark::from_bytes(&bytes)) {
            None => 0,
            Some(Some(mark)) => mark.commit,
            Some(None) => return Err(StoreError::Damaged("the last commit's mark can't be read".into())),
        };
        let expected = acknowledged.max(journaled).unwrap_or_default();
        if last < expected || (last > 0 && found == Found::Nothing) {
            return Err(StoreError::Damaged(format!(
                "commits up to {expected} were made in the data folder {}, and the store ends with {last}{}; restore \
                 the data folder from a backup",
                folder.display(),
                if found == Found::Nothing { " while the file tail is missing" } else { "" },
            )));
        }
        let tail = Tail::open(&tail_path, last).map_err(|error| failed("writing the tail", &error))?;
        sync_folder(folder).map_err(|error| failed("writing the tail", &error))?;
        let shared = Arc::new(Shared {
            tables,
            commits,
            database,
            path,
            note,
            writer: Mutex::new(Writer { tail, bytes: 0 }),
            flushing: Mutex::default(),
            ending: AtomicBool::new(false),
        });
        let flusher =
            Flusher::start(&shared).map_err(|error| failed("starting a thread for what is", &error))?;
        Ok(Self(Arc::new(Inner { flusher, shared, _lock: lock })))
    }

    /// Writes what is only in the journal to the tables, so that the next start has nothing to replay.
    ///
    /// # Errors
    /// [`StoreError`] when the engine fails; what was committed stays in the journal then.
    pub fn flush(&self) -> Result<(), StoreError> {
        self.0.shared.flush()
    }

    fn table(&self, table: Table) -> Result<&Keyspace, StoreError> {
        let at = Table::ALL.iter().position(|other| *other == table);
        at.and_then(|at| self.0.shared.tables.get(at))
            .ok_or_else(|| StoreError::Engine(format!("it has no table {}", table.name())))
    }
}

impl Store for FjallStore {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let table = self.table(table)?;
        Ok(guarded(|| table.get(key))?.map(Bytes::from))
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
        let table = self.table(table)?;
        let mut rows = guarded(|| Ok(table.range(from..to)))?;
        loop {
            // The visitor's own panics are not the engine's, so it is called outside.
            let row = guarded(|| {
                let row = match order {
                    Order::Ascending => rows.next(),
                    Order::Descending => rows.next_back(),
                };
                row.map(fjall::Guard::into_inner).transpose()
            })?;
            let Some((key, value)) = row else { return Ok(()) };
            if !visit(&key, &value) {
                return Ok(());
            }
        }
    }

    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        if batch.is_empty() {
            return Ok(());
        }
        let Shared { database, commits, .. } = &*self.0.shared;
        let mut writer = self.0.shared.writer();
        let mark = Mark { commit: writer.tail.commit + 1, floor: database.seqno() };
        // What could not be synced is never written over: the engine refuses all writes after such a failure.
        let mut write = database.batch().durability(Some(PersistMode::SyncData));
        for (table, key, value) in &batch.changes {
            writer.bytes += key.len() + value.as_ref().map_or(0, Bytes::len) + ITEM_BYTES;
            let keyspace = self.table(*table)?;
            match value {
                Some(value) => write.insert(keyspace, key.clone(), value.clone()),
                None => write.remove(keyspace, key.clone()),
            }
        }
        write.insert(commits, MARK_KEY, mark.to_bytes());
        guarded(|| write.commit())?;
        if writer.bytes >= FLUSH_BYTES
            && let Some(due) = &self.0.flusher.due
        {
            // One that is under way is followed by another.
            let _ = due.try_send(());
        }
        let written = writer.tail.write(mark.commit);
        written.map_err(|error| StoreError::Engine(format!("writing the tail failed: {error}")))
    }
}

impl Flusher {
    fn start(shared: &Arc<Shared>) -> io::Result<Self> {
        let (due, is_due): (_, Receiver<()>) = sync_channel(1);
        let shared = Arc::clone(shared);
        let thread = thread::Builder::new().name("flush".into()).spawn(move || {
            while is_due.recv().is_ok() {
                // Nothing is lost that is in the journal. What the engine can't write, it refuses to commit, too, and then
                // nothing more is due; all else is done the next time.
                if shared.is_flush_due() {
                    let _ = shared.flush();
                }
            }
        })?;
        Ok(Self { due: Some(due), thread: Some(thread) })
    }
}

impl Shared {
    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_flush_due(&self) -> bool {
        self.writer().bytes >= FLUSH_BYTES && !self.ending.load(Ordering::Relaxed)
    }

    fn flush(&self) -> Result<(), StoreError> {
        let _flushing = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        let keyspaces = || self.tables.iter().chain([&self.commits]);
        let commit = {
            // Nothing is committed meanwhile: what is sealed in all keyspaces ends with the same commit.
            let mut writer = self.writer();
            for keyspace in keyspaces() {
                guarded(|| keyspace.rotate_memtable())?;
            }
            writer.bytes = 0;
            writer.tail.commit
        };
        while keyspaces().any(|keyspace| keyspace.sealed_memtable_count() > 0) {
            // The engine's threads end when a write fails, and then nothing comes any more.
            guarded(|| self.database.persist(PersistMode::Buffer))?;
            if self.ending.load(Ordering::Relaxed) {
                return Ok(());
            }
            thread::sleep(FLUSH_PACE);
        }
        let failed = |error: io::Error| StoreError::Engine(format!("noting what is flushed failed: {error}"));
        let from = self.note.read().map_err(failed)?;
        match journal::place_after(&self.path, commit, from).map_err(failed)? {
            Some(flushed) => self.note.write(flushed).map_err(failed),
            None => Ok(()),
        }
    }
}

/// Opens the engine in its own folder, or makes it there, with a keyspace for each table.
fn open_engine(path: &Path) -> Result<Engine, StoreError> {
    guarded(|| {
        let database =
            Database::builder(path).max_journaling_size(JOURNAL_BYTES_MAX).cache_size(CACHE_BYTES).open()?;
        let mut tables = Vec::with_capacity(Table::ALL.len());
        for table in Table::ALL {
            tables.push(database.keyspace(table.name(), || options(table))?);
        }
        let commits = database.keyspace(COMMITS, KeyspaceCreateOptions::default)?;
        // Making a keyspace is not itself synced; nothing may be answered before it is.
        database.persist(PersistMode::SyncAll)?;
        Ok(Engine { tables, commits, database })
    })
}

/// Each keyspace's list of its files, against the checksum that the engine writes beside it and never compares. With
/// a wrong list the engine would remove the files that are not in it.
fn check_lists(store: &Path) -> Result<(), StoreError> {
    let failed =
        |error: &io::Error| StoreError::Engine(format!("reading the lists of files failed: {error}"));
    for entry in fs::read_dir(store.join("keyspaces")).map_err(|error| failed(&error))? {
        let folder = entry.map_err(|error| failed(&error))?.path();
        let current = match fs::read(folder.join("current")) {
            Ok(current) => current,
            // A keyspace that was not finished, which the engine makes again.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(failed(&error)),
        };
        // The list's number, its XXH3-128, and the kind of checksum.
        let is_right = current.len() == 25 && current.last() == Some(&0) && {
            let (mut number, mut checksum) = ([0; 8], [0; 16]);
            number.copy_from_slice(&current[..8]);
            checksum.copy_from_slice(&current[8..24]);
            let list = fs::read(folder.join(format!("v{}", u64::from_le_bytes(number))));
            list.is_ok_and(|list| xxh3_128(&list) == u128::from_le_bytes(checksum))
        };
        if !is_right {
            let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            return Err(StoreError::Damaged(format!(
                "the list of the files of keyspace {name} is not as it was written; restore the data folder from a \
                 backup"
            )));
        }
    }
    Ok(())
}

/// Calls the engine; where it panics over what it finds, that is damage.
fn guarded<T>(call: impl FnOnce() -> fjall::Result<T>) -> Result<T, StoreError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(|error| engine(&error)),
        Err(_) => Err(StoreError::Damaged("the engine broke over what it found in its files".into())),
    }
}

fn options(table: Table) -> KeyspaceCreateOptions {
    let options = KeyspaceCreateOptions::default().compaction_strategy(Arc::new(
        Leveled::default().with_l0_threshold(MERGED_TABLES).with_table_target_size(TABLE_BYTES),
    ));
    match table {
        // Not compressed: the engine takes the length of a compressed blob from a field that no checksum covers.
        Table::Messages => options.with_kv_separation(Some(
            KvSeparationOptions::default()
                .separation_threshold(BLOB_BYTES_MIN)
                .compression(CompressionType::None),
        )),
        _ => options,
    }
}

fn engine(error: &fjall::Error) -> StoreError {
    use fjall::Error as E;
    let damaged = |what: &str| StoreError::Damaged(what.into());
    match error {
        E::Poisoned => StoreError::Engine(
            "a write behind the commits failed (is the disk full?), so nothing more is written before a new start".into(),
        ),
        E::Io(error) | E::Storage(fjall::LsmError::Io(error)) => StoreError::Engine(error.to_string()),
        E::Locked => StoreError::Engine("another process uses the store".into()),
        E::JournalRecovery(_) => damaged("a batch of the journal is broken"),
        E::InvalidVersion(_) => damaged("the engine's own format can't be read or is not known"),
        error => StoreError::Damaged(format!("{error:?}")),
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
