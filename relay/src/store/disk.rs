//! The engine on disk: a journal, in which a commit is durable with one write and one fsync, and a tree of tables, in
//! which it is found.
//!
//! The data folder is taken by a lock that ends with the process, and names its format in a file that is read before
//! anything else is touched:
//!
//! | path | what it is |
//! | --- | --- |
//! | `format` | the version of this layout, in decimal |
//! | `lock` | locked while a relay has the folder |
//! | `tail` | the number of the last acknowledged commit |
//! | `store/journal/` | commits that are in no table yet ([`super::journal`]) |
//! | `store/tree/` | the tables ([`super::tree`]) |
//! | `store.new/` | a store that is being made; one that was not finished is made again |
//!
//! A commit is written to the journal, then applied to the tree in memory. Whenever [`FLUSH_BYTES`] have come together
//! a thread writes them to a table, and the journal's file is free for later commits; another thread merges tables. So
//! what a start has to go through is small, and a relay that stops in peace leaves nothing of it.
//!
//! What was acknowledged and is not there, or not as it was written, is noticed at the start (the journal, the list of
//! the tables) or when it is read (a block has its checksum), and is never passed over.
//!
//! What stays open: damage of the last commits that follows on a power cut, and only of those of which the `tail` was
//! not on disk yet, can't be told from an unfinished write.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use bytes::Bytes;

use super::journal::{Journal, sync_folder};
use super::tail::{self, Found, Tail};
use super::tree::Tree;
use super::{Batch, Order, Store, StoreError, Table};

/// The layout of the data folder that this version reads and writes.
const FORMAT: &str = "2";
/// Bytes of commits after which all that is in no table is written to one: a start goes through a megabyte of journal in
/// some 10 ms.
const FLUSH_BYTES: usize = 8 * 1024 * 1024;
/// Bytes of commits in memory at which further ones wait for the thread that writes them to a table.
const UNFLUSHED_BYTES_MAX: usize = 8 * FLUSH_BYTES;
/// Flushes that are not merged yet at which the next one waits: each is looked through by every read.
const UNMERGED_MAX: usize = 24;

/// A store in a folder. Clones are handles of the same store; the folder is free again when the last is dropped.
#[derive(Clone)]
pub struct DiskStore(Arc<Inner>);

struct Inner {
    // Dropped in this order: the folder is unlocked when the threads have ended.
    flusher: Worker,
    merger: Worker,
    shared: Arc<Shared>,
    _lock: File,
}

/// What the threads use, too.
struct Shared {
    tree: Tree,
    writer: Mutex<Writer>,
    /// Signalled after each flush, and when there will be no more.
    flushed: Condvar,
    /// Held by who flushes.
    flushing: Mutex<()>,
    /// Held by who merges.
    merging: Mutex<()>,
    ending: AtomicBool,
}

/// What a commit holds, over its whole length: commits are in one order.
struct Writer {
    journal: Journal,
    tail: Tail,
    /// Bytes of commits that are in no table yet.
    bytes: usize,
    /// Why nothing is written any more.
    failed: Option<String>,
}

/// A thread that does something whenever it is due; it ends with this.
struct Worker {
    due: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    fn start(name: &str, mut work: impl FnMut() + Send + 'static) -> io::Result<Self> {
        let (due, is_due): (_, Receiver<()>) = sync_channel(1);
        let thread = thread::Builder::new().name(name.into()).spawn(move || {
            while is_due.recv().is_ok() {
                work();
            }
        })?;
        Ok(Self { due: Some(due), thread: Some(thread) })
    }

    fn waker(&self) -> Option<SyncSender<()>> {
        self.due.clone()
    }

    /// What is under way is followed by another.
    fn wake(due: Option<&SyncSender<()>>) {
        if let Some(due) = due {
            let _ = due.try_send(());
        }
    }
}

impl Drop for Worker {
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

impl DiskStore {
    /// Opens the store in a data folder, or makes both.
    ///
    /// # Errors
    /// [`StoreError`] when another process has the folder, when its format is not known, when what was acknowledged is not
    /// there, or when the disk fails.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        let failed = |what: &str, error: &io::Error| {
            StoreError::Engine(format!("{what} in the data folder {} failed: {error}", folder.display()))
        };
        fs::create_dir_all(folder).map_err(|error| failed("making a folder", &error))?;
        let lock = lock(folder, &failed)?;
        check_format(folder, &failed)?;

        let path = folder.join("store");
        if !path.exists() {
            // It becomes the store in one step. Nothing was ever acknowledged in what is dropped here.
            let new = folder.join("store.new");
            if new.exists() {
                fs::remove_dir_all(&new).map_err(|error| failed("removing an unfinished store", &error))?;
            }
            make(&new, &failed)?;
            fs::rename(&new, &path).map_err(|error| failed("naming the new store", &error))?;
            sync_folder(folder).map_err(|error| failed("naming the new store", &error))?;
        }
        let tail_path = folder.join("tail");
        let acknowledged = match tail::read(&tail_path).map_err(|error| failed("reading the tail", &error))? {
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
        let tree = Tree::open(&path.join("tree"))?;
        let in_tables = tree.last_commit()?;
        let mut bytes = 0;
        let (journal, last) = Journal::open(
            &path.join("journal"),
            in_tables,
            acknowledged.unwrap_or_default(),
            &mut |commit| {
                bytes += commit.bytes();
                tree.apply(commit)
            },
        )?;
        if last > 0 && acknowledged.is_none() {
            return Err(StoreError::Damaged(format!(
                "the store in the data folder {} ends with commit {last}, while the file tail is missing; restore the \
                 data folder from a backup",
                folder.display(),
            )));
        }
        let tail = Tail::open(&tail_path, last).map_err(|error| failed("writing the tail", &error))?;
        sync_folder(folder).map_err(|error| failed("writing the tail", &error))?;
        let shared = Arc::new(Shared {
            tree,
            writer: Mutex::new(Writer { journal, tail, bytes, failed: None }),
            flushed: Condvar::new(),
            flushing: Mutex::default(),
            merging: Mutex::default(),
            ending: AtomicBool::new(false),
        });
        let no_thread = |error: io::Error| failed("starting a thread for what is", &error);
        let merging = Arc::clone(&shared);
        let merger = Worker::start("merge", move || merging.merge()).map_err(no_thread)?;
        let (flushing, merge) = (Arc::clone(&shared), merger.waker());
        let flusher = Worker::start("flush", move || {
            if flushing.is_flush_due() {
                // Nothing is lost that is in the journal, and who commits is told.
                let _ = flushing.flush();
            }
            Worker::wake(merge.as_ref());
        })
        .map_err(no_thread)?;
        Worker::wake(flusher.due.as_ref());
        Ok(Self(Arc::new(Inner { flusher, merger, shared, _lock: lock })))
    }

    /// Writes what is only in the journal to the tables, so that the next start has nothing to replay.
    ///
    /// # Errors
    /// [`StoreError`] when the disk fails; what was committed stays in the journal then.
    pub fn flush(&self) -> Result<(), StoreError> {
        self.0.shared.flush()?;
        Worker::wake(self.0.merger.due.as_ref());
        Ok(())
    }
}

impl Store for DiskStore {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.0.shared.tree.get(table, key)
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        order: Order,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StoreError> {
        self.0.shared.tree.scan(table, from, to, order, visit)
    }

    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        if batch.is_empty() {
            return Ok(());
        }
        let shared = &*self.0.shared;
        let mut writer = shared.writer_with_room()?;
        let number = writer.tail.commit + 1;
        let commit = writer
            .journal
            .prepare(number, batch)
            .map_err(|error| StoreError::Engine(format!("a commit can't be written: {error}")))?;
        if let Err(error) = writer.journal.write(&commit) {
            return Err(writer.fail(format!("writing the journal failed: {error}")));
        }
        if let Err(error) = shared.tree.apply(&commit) {
            let _ = writer.fail("a commit could not be applied".into());
            return Err(error);
        }
        writer.bytes += commit.bytes();
        if writer.bytes >= FLUSH_BYTES {
            Worker::wake(self.0.flusher.due.as_ref());
        }
        match writer.tail.write(number) {
            Ok(()) => Ok(()),
            Err(error) => Err(writer.fail(format!("writing the tail failed: {error}"))),
        }
    }
}

impl Writer {
    /// Nobody knows any more what is on disk, so nothing is written before a new start.
    fn fail(&mut self, why: String) -> StoreError {
        self.failed.get_or_insert_with(|| why.clone());
        StoreError::Engine(why)
    }

    fn is_sound(&self) -> Result<(), StoreError> {
        match &self.failed {
            None => Ok(()),
            Some(why) => {
                Err(StoreError::Engine(format!("{why}, so nothing more is written before a new start")))
            }
        }
    }
}

impl Shared {
    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn writer_with_room(&self) -> Result<MutexGuard<'_, Writer>, StoreError> {
        let is_full = |writer: &mut Writer| writer.failed.is_none() && writer.bytes >= UNFLUSHED_BYTES_MAX;
        let writer = self.flushed.wait_while(self.writer(), is_full).unwrap_or_else(PoisonError::into_inner);
        writer.is_sound()?;
        Ok(writer)
    }

    fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Relaxed)
    }

    fn is_flush_due(&self) -> bool {
        if self.tree.unmerged() >= UNMERGED_MAX {
            self.merge();
        }
        self.writer().bytes >= FLUSH_BYTES && !self.is_ending()
    }

    fn flush(&self) -> Result<(), StoreError> {
        let _flushing = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        let result = self.write_table();
        // Who waits for room is told, also that there will be none.
        self.flushed.notify_all();
        result
    }

    fn write_table(&self) -> Result<(), StoreError> {
        let (written, bytes) = {
            // Nothing is committed meanwhile: the file and what is sealed end with the same commit.
            let mut writer = self.writer();
            writer.is_sound()?;
            if writer.bytes == 0 {
                return Ok(());
            }
            let written = writer
                .journal
                .turn()
                .map_err(|error| writer.fail(format!("making a journal failed: {error}")))?;
            if let Err(error) = self.tree.seal() {
                let _ = writer.fail("what was committed could not be sealed".into());
                return Err(error);
            }
            (written, writer.bytes)
        };
        let flushed = self.tree.flush();
        let mut writer = self.writer();
        match flushed {
            Ok(()) => {
                writer.bytes -= bytes;
                writer
                    .journal
                    .release(written)
                    .map_err(|error| writer.fail(format!("removing a journal failed: {error}")))
            }
            Err(error) => {
                let _ = writer.fail(format!("{error} behind the commits (is the disk full?)"));
                Err(error)
            }
        }
    }

    /// Merges until there is nothing to do. Who comes second waits, and does what is left.
    fn merge(&self) {
        let _merging = self.merging.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if self.is_ending() || self.writer().failed.is_some() {
                return;
            }
            match self.tree.merge() {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    let _ = self.writer().fail(format!("{error} behind the commits (is the disk full?)"));
                    self.flushed.notify_all();
                    return;
                }
            }
        }
    }
}

/// Makes an empty store.
fn make(folder: &Path, failed: &dyn Fn(&str, &io::Error) -> StoreError) -> Result<(), StoreError> {
    fs::create_dir(folder).map_err(|error| failed("making the store", &error))?;
    Journal::make(&folder.join("journal")).map_err(|error| failed("making the journal", &error))?;
    drop(Tree::open(&folder.join("tree"))?);
    sync_folder(folder).map_err(|error| failed("making the store", &error))
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
    // The folder may be as new as what is in it, and a later start does not look after it. One above that can't be opened is
    // not ours.
    for above in fs::canonicalize(folder)?.ancestors().skip(1) {
        let _ = sync_folder(above);
    }
    let new = folder.join("format.new");
    let mut file = File::create(&new)?;
    writeln!(file, "{FORMAT}")?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    sync_folder(folder)
}
