//! The journal: each commit is on disk here, with one write and one fdatasync, before anybody is told of it.
//!
//! It is kept in a few files, and a file is written over when all its commits are in the tables ([`super::tree`]): from its
//! second use on a commit changes nothing of the file system's own, which is what an fdatasync of a growing file waits for.
//!
//! A start goes from the last commit that is in the tables to the end, and finds what is not as it was written:
//!
//! - a broken commit with a whole one after it, or a missing one, is damage: what comes later was written only when all
//!   before it was on disk;
//! - a broken one at the very end is damage when it was acknowledged (the `tail` knows), else the unfinished write of a
//!   crash, of which nobody was told; the next commit is written over it, or its file counts as free.
//!
//! | bytes of a commit | what they are; numbers are little-endian |
//! | --- | --- |
//! | checksum `u64` | XXH3-64, seeded, of the next three |
//! | number `u64` | of the commit; they have no gap |
//! | checksum `u64` | XXH3-64, seeded, of the changes |
//! | length `u32` | of the changes |
//! | value length `u32`, key length `u16`, table `u8`, key, value | a change; the length `u32::MAX` removes the key |
//! | zeros | up to a multiple of 64 |
//!
//! The checksums' seed is made by chance with the journal. So nobody can write a message that looks like a commit, or like
//! the head of one that takes long to be checked, where what is left of a file's earlier use is looked through.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::mem;
use std::path::{Path, PathBuf};

use bytes::{Buf as _, Bytes};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::{Batch, StoreError};

/// What stands before the changes.
const HEADER_BYTES: usize = 28;
/// What stands before a change's table, key and value.
const CHANGE_BYTES: usize = 6;
/// A commit begins at a multiple of it, so that looking for whole ones is quick.
const COMMIT_ALIGN: usize = 64;
/// Whole pages are written, so that the system never reads one to change a part of it.
const PAGE_BYTES: usize = 4096;
/// The length at which a file is made. One whose commits need more grows, and is removed when it is free.
const FILE_BYTES: u64 = 16 * 1024 * 1024;
/// Files that wait for being written over; more are removed.
const FREE_FILES_MAX: usize = 2;
/// What is kept of the buffer after a large commit.
const BUFFER_BYTES: usize = 1024 * 1024;
/// The value length of a removed key.
const REMOVED: u32 = u32::MAX;

/// The journal, opened for writing.
pub(super) struct Journal {
    folder: PathBuf,
    seed: u64,
    open: Segment,
    free: Vec<Segment>,
    /// The number of the next file.
    next: u64,
    buffer: Vec<u8>,
}

/// A file of the journal.
pub(super) struct Segment {
    path: PathBuf,
    file: File,
    /// Where the next commit begins.
    end: u64,
    /// What is written of the page in which that is.
    page: Vec<u8>,
}

/// The consecutive commits at a file's front, and where they end.
struct Run {
    first: u64,
    last: u64,
    end: usize,
}

impl Journal {
    /// Makes an empty journal in a new folder, durably.
    pub(super) fn make(folder: &Path) -> io::Result<()> {
        fs::create_dir(folder)?;
        let mut seed = [0; 16];
        getrandom::fill(&mut seed[..8]).map_err(io::Error::other)?;
        let sum = xxh3_64(&seed[..8]);
        seed[8..].copy_from_slice(&sum.to_le_bytes());
        let mut file = File::create_new(folder.join("seed"))?;
        file.write_all(&seed)?;
        file.sync_all()?;
        sync_folder(folder)
    }

    /// Opens the journal in its folder, and gives `replay` the commits after `in_tables`, the last one that the tables
    /// have. `acknowledged` is the last one that is known to have been. Gives the last commit, too.
    pub(super) fn open(
        folder: &Path,
        in_tables: u64,
        acknowledged: u64,
        replay: &mut dyn FnMut(&Commit) -> Result<(), StoreError>,
    ) -> Result<(Self, u64), StoreError> {
        let failed = |error: &io::Error| StoreError::Engine(format!("reading the journal failed: {error}"));
        let seed = read_seed(folder).map_err(|error| failed(&error))?;
        let seed = seed.ok_or_else(|| damaged("the journal's seed is not as it was written"))?;
        // A file that was made by a process that was killed may have its name in the system's memory only.
        sync_folder(folder).map_err(|error| failed(&error))?;
        let mut files = Vec::new();
        for (number, path) in files_of(folder).map_err(|error| failed(&error))? {
            let bytes = fs::read(&path).map_err(|error| failed(&error))?;
            let run = Run::read(&bytes, seed);
            files.push((number, path, bytes, run));
        }
        let next = files.iter().map(|(number, ..)| number + 1).max().unwrap_or(1);

        // Commits after those in the tables, in their order, without a gap.
        let mut needed: Vec<_> = files
            .iter()
            .filter_map(|(_, path, bytes, run)| run.as_ref().map(|run| (path, bytes, run)))
            .filter(|(.., run)| run.last > in_tables)
            .collect();
        needed.sort_by_key(|(.., run)| run.first);
        let mut last = in_tables;
        for (path, _, run) in &needed {
            let follows = run.first == last + 1 || (last == in_tables && run.first <= last);
            if !follows {
                let first = run.first;
                return Err(damaged(&format!(
                    "{} has commit {first}, and the one before it is {last}",
                    name(path)
                )));
            }
            last = run.last;
        }
        for (_, path, bytes, run) in &files {
            let end = run.as_ref().map_or(0, |run| run.end);
            if let Some((at, number)) = whole_after(bytes, end, last, seed) {
                return Err(damaged(&format!(
                    "in {} the commit at byte {end} is broken, and commit {number}, at byte {at}, is whole, while \
                     those before end with {last}",
                    name(path)
                )));
            }
        }
        if last < acknowledged {
            return Err(damaged(&format!(
                "commits up to {acknowledged} were acknowledged, while the whole ones end with {last}"
            )));
        }
        // What was read may be in the system's memory only: written by a process that was killed before it was synced, or
        // whose sync failed. It is vouched for from now on.
        for (path, bytes, run) in &needed {
            let mut file = OpenOptions::new().write(true).open(path).map_err(|error| failed(&error))?;
            let written = file.write_all(&bytes[..run.end.min(bytes.len())]).and_then(|()| file.sync_data());
            written.map_err(|error| failed(&error))?;
        }
        for (_, bytes, run) in &needed {
            let mut at = 0;
            while at < run.end {
                let Some(found) = Found::read(&bytes[at..], seed) else { break };
                if found.number > in_tables {
                    replay(&Commit(Bytes::copy_from_slice(&bytes[at..at + found.bytes])))?;
                }
                at += found.space();
            }
        }

        let goes_on = needed.last().map(|(path, ..)| (*path).clone());
        let (mut open, mut free) = (None, Vec::new());
        for (_, path, bytes, run) in &files {
            let mut segment = Segment::open(path.clone()).map_err(|error| failed(&error))?;
            if goes_on.as_ref() == Some(path) {
                segment.go_on_at(bytes, run.as_ref().map_or(0, |run| run.end));
                open = Some(segment);
            } else if needed.iter().all(|(needed, ..)| *needed != path) {
                free.push(segment);
            }
        }
        let mut journal = Self {
            folder: folder.to_owned(),
            seed,
            open: match open.or_else(|| free.pop()) {
                Some(open) => open,
                None => Segment::make(folder, next).map_err(|error| failed(&error))?,
            },
            free: Vec::new(),
            next: next + 1,
            buffer: Vec::new(),
        };
        for segment in free {
            journal.release(segment).map_err(|error| failed(&error))?;
        }
        Ok((journal, last))
    }

    /// A commit as [`Journal::write`] takes it. An error is one of the batch, and costs nothing else.
    pub(super) fn prepare(&self, number: u64, batch: &Batch) -> io::Result<Commit> {
        Commit::new(number, batch, self.seed)
    }

    /// Writes a commit, durably. After an error nobody knows whether it is there, and nothing may be written any more.
    pub(super) fn write(&mut self, commit: &Commit) -> io::Result<()> {
        let Segment { file, end, page, .. } = &mut self.open;
        let buffer = &mut self.buffer;
        buffer.clear();
        buffer.shrink_to(BUFFER_BYTES);
        buffer.extend_from_slice(page);
        buffer.extend_from_slice(&commit.0);
        buffer.resize(buffer.len().next_multiple_of(COMMIT_ALIGN), 0);
        let written = buffer.len();
        buffer.resize(written.next_multiple_of(PAGE_BYTES), 0);
        file.seek(SeekFrom::Start(*end - page.len() as u64))?;
        file.write_all(buffer)?;
        file.sync_data()?;
        *end += (written - page.len()) as u64;
        page.clear();
        page.extend_from_slice(&buffer[written - written % PAGE_BYTES..written]);
        Ok(())
    }

    /// Goes on in another file, and gives the one that was written so far: to be released when its commits are in the
    /// tables.
    pub(super) fn turn(&mut self) -> io::Result<Segment> {
        let next = match self.free.pop() {
            Some(free) => free,
            None => {
                let made = Segment::make(&self.folder, self.next)?;
                self.next += 1;
                made
            }
        };
        Ok(mem::replace(&mut self.open, next))
    }

    /// All commits of this file are in the tables.
    pub(super) fn release(&mut self, mut segment: Segment) -> io::Result<()> {
        if self.free.len() >= FREE_FILES_MAX || segment.file.metadata()?.len() > FILE_BYTES {
            return fs::remove_file(&segment.path);
        }
        segment.go_on_at(&[], 0);
        self.free.push(segment);
        Ok(())
    }
}

impl Segment {
    fn make(folder: &Path, number: u64) -> io::Result<Self> {
        let path = folder.join(format!("{number}.jnl"));
        let file = File::create_new(&path)?;
        file.set_len(FILE_BYTES)?;
        file.sync_all()?;
        sync_folder(folder)?;
        Ok(Self { path, file, end: 0, page: Vec::new() })
    }

    fn open(path: PathBuf) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).open(&path)?;
        Ok(Self { path, file, end: 0, page: Vec::new() })
    }

    /// The next commit is written here; `bytes` are the file's.
    fn go_on_at(&mut self, bytes: &[u8], end: usize) {
        self.end = end as u64;
        self.page.clear();
        self.page.extend_from_slice(&bytes[(end - end % PAGE_BYTES).min(bytes.len())..end.min(bytes.len())]);
        // The file may end within the zeros.
        self.page.resize(end % PAGE_BYTES, 0);
    }
}

impl Run {
    fn read(bytes: &[u8], seed: u64) -> Option<Self> {
        let first = Found::read(bytes, seed)?;
        let mut run = Self { first: first.number, last: first.number, end: first.space() };
        // What is left of the file's earlier use has lower numbers.
        while let Some(next) = bytes.get(run.end..).and_then(|bytes| Found::read(bytes, seed))
            && next.number == run.last + 1
        {
            (run.last, run.end) = (next.number, run.end + next.space());
        }
        Some(run)
    }
}

/// The first whole commit from here on that is later than `last`, and its place.
fn whole_after(bytes: &[u8], from: usize, last: u64, seed: u64) -> Option<(usize, u64)> {
    (from.next_multiple_of(COMMIT_ALIGN)..bytes.len()).step_by(COMMIT_ALIGN).find_map(|at| {
        let found = Found::read_later(&bytes[at..], last, seed)?;
        Some((at, found.number))
    })
}

/// A whole commit in a file.
struct Found {
    number: u64,
    bytes: usize,
}

impl Found {
    fn read(bytes: &[u8], seed: u64) -> Option<Self> {
        Self::read_later(bytes, 0, seed)
    }

    /// Only if it is later than `last`.
    fn read_later(bytes: &[u8], last: u64, seed: u64) -> Option<Self> {
        let header = bytes.first_chunk::<HEADER_BYTES>()?;
        let number = u64::from_le_bytes(*header[8..].first_chunk()?);
        if number <= last || header[..8] != xxh3_64_with_seed(&header[8..], seed).to_le_bytes() {
            return None;
        }
        let length = usize::try_from(u32::from_le_bytes(*header[24..].first_chunk()?)).ok()?;
        let changes = bytes.get(HEADER_BYTES..HEADER_BYTES + length)?;
        let is_whole = header[16..24] == xxh3_64_with_seed(changes, seed).to_le_bytes();
        is_whole.then_some(Self { number, bytes: HEADER_BYTES + length })
    }

    /// What it takes of the file.
    fn space(&self) -> usize {
        self.bytes.next_multiple_of(COMMIT_ALIGN)
    }
}

/// A commit, as it is in the journal. What is applied of it are parts of these bytes, so that a commit is one piece of
/// memory however many changes it has.
pub(super) struct Commit(Bytes);

impl Commit {
    fn new(number: u64, batch: &Batch, seed: u64) -> io::Result<Self> {
        let too_long = |_| io::Error::other("a commit is longer than a journal can hold");
        let bytes_of = |key: &Bytes, value: &Option<Bytes>| {
            CHANGE_BYTES + 1 + key.len() + value.as_ref().map_or(0, Bytes::len)
        };
        let length: usize = batch.changes.iter().map(|(_, key, value)| bytes_of(key, value)).sum();
        let mut commit = Vec::with_capacity(HEADER_BYTES + length);
        commit.extend_from_slice(&[0; HEADER_BYTES]);
        for (table, key, value) in &batch.changes {
            let value_bytes = value.as_ref().map_or(Ok(REMOVED), |value| u32::try_from(value.len()));
            commit.extend_from_slice(&value_bytes.map_err(too_long)?.to_le_bytes());
            commit.extend_from_slice(&u16::try_from(key.len() + 1).map_err(too_long)?.to_le_bytes());
            commit.push(*table as u8);
            commit.extend_from_slice(key);
            commit.extend_from_slice(value.as_deref().unwrap_or_default());
        }
        let checksum = xxh3_64_with_seed(&commit[HEADER_BYTES..], seed);
        commit[8..16].copy_from_slice(&number.to_le_bytes());
        commit[16..24].copy_from_slice(&checksum.to_le_bytes());
        commit[24..HEADER_BYTES].copy_from_slice(&u32::try_from(length).map_err(too_long)?.to_le_bytes());
        let checksum = xxh3_64_with_seed(&commit[8..HEADER_BYTES], seed);
        commit[..8].copy_from_slice(&checksum.to_le_bytes());
        Ok(Self(commit.into()))
    }

    pub(super) fn number(&self) -> u64 {
        self.0.get(8..).and_then(<[u8]>::first_chunk).map_or(0, |number| u64::from_le_bytes(*number))
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.len()
    }

    /// The keys, each with its table before it, and their values; none for a key that is removed.
    pub(super) fn changes(&self) -> impl Iterator<Item = (Bytes, Option<Bytes>)> {
        let mut rest = self.0.slice(HEADER_BYTES..);
        std::iter::from_fn(move || {
            let [value_0, value_1, value_2, value_3, key_0, key_1] = *rest.first_chunk::<CHANGE_BYTES>()?;
            let value_bytes = u32::from_le_bytes([value_0, value_1, value_2, value_3]);
            rest.advance(CHANGE_BYTES);
            let key = rest.split_to(usize::from(u16::from_le_bytes([key_0, key_1])));
            let value = (value_bytes != REMOVED).then(|| rest.split_to(value_bytes as usize));
            Some((key, value))
        })
    }
}

/// `None` when it is not as it was written.
fn read_seed(folder: &Path) -> io::Result<Option<u64>> {
    let bytes = match fs::read(folder.join("seed")) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let ([seed, sum], []) = bytes.as_chunks::<8>() else { return Ok(None) };
    Ok((xxh3_64(seed).to_le_bytes() == *sum).then_some(u64::from_le_bytes(*seed)))
}

/// The files with their numbers.
fn files_of(folder: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let is_journal = path.extension().is_some_and(|extension| extension == "jnl");
        let number = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
        if let (true, Some(number)) = (is_journal, number) {
            files.push((number, path));
        }
    }
    files.sort();
    Ok(files)
}

/// Makes durable which files a folder has.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn damaged(why: &str) -> StoreError {
    StoreError::Damaged(format!("of the journal {why}; restore the data folder from a backup"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Table;

    fn batch(text: &[u8]) -> Batch {
        let mut batch = Batch::default();
        batch.put(Table::Messages, &b"a key"[..], text.to_vec());
        batch.delete(Table::Queue, &b"another"[..]);
        batch
    }

    /// The folder's journal with `commits`, and its files' bytes after it was closed.
    fn written(folder: &Path, commits: &[Batch]) -> Vec<u8> {
        let open = |journal: &Path| Journal::open(journal, 0, 0, &mut |_| Ok(())).unwrap();
        let (mut journal, last) = open(folder);
        assert_eq!(last, 0);
        for (number, batch) in (1..).zip(commits) {
            let commit = journal.prepare(number, batch).unwrap();
            assert_eq!(commit.number(), number);
            journal.write(&commit).unwrap();
        }
        let (_, last) = open(folder);
        assert_eq!(last, commits.len() as u64);
        fs::read(folder.join("1.jnl")).unwrap()
    }

    #[test]
    fn what_is_applied_is_what_was_committed() {
        let commit = Commit::new(7, &batch(b"hello"), 1).unwrap();
        let changes: Vec<_> = commit.changes().collect();
        let messages = Bytes::from([&[Table::Messages as u8], &b"a key"[..]].concat());
        let queue = Bytes::from([&[Table::Queue as u8], &b"another"[..]].concat());
        assert_eq!(changes, [(messages, Some(Bytes::from_static(b"hello"))), (queue, None)]);
    }

    #[test]
    fn a_message_that_looks_like_a_commit_is_none() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("journal");
        Journal::make(&folder).unwrap();
        let seed = read_seed(&folder).unwrap().unwrap();
        // Whoever writes it can choose all but the seed: the place, too, by writing it at each.
        let looks_like = |seed| {
            let fake = Commit::new(1_000, &batch(b"fake"), seed).unwrap().0;
            (0..COMMIT_ALIGN)
                .map(|at| [&vec![1; at][..], &fake, &vec![1; 1_000 - fake.len() - at]].concat())
                .collect::<Vec<_>>()
                .concat()
        };
        let bytes = written(&folder, &[batch(&looks_like(seed ^ 1)), batch(&looks_like(seed))]);
        let run = Run::read(&bytes, seed).unwrap();
        assert_eq!((run.first, run.last), (1, 2));
        // With the first commit's head gone, what is within it is looked through.
        let space = Found::read(&bytes, seed).unwrap().space();
        assert!(whole_after(&bytes[..space], COMMIT_ALIGN, 1, seed).is_none());
        assert_eq!(
            whole_after(&bytes[space..], COMMIT_ALIGN, 2, seed).map(|(_, number)| number),
            Some(1_000)
        );
    }
}
