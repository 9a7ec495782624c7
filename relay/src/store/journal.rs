//! The engine's journal, looked through before the engine opens it.
//!
//! The engine (fjall 3.1) takes whatever it can't parse for the torn end of a crash: it cuts the journal there without
//! a word, and what was acknowledged after one flipped bit is gone. It refuses a batch whose checksum fails, although
//! that may be nothing but a torn end; and a batch's sequence number has no checksum at all. So each batch is checked
//! here first, with the same checksum, and against the [`Mark`] that every commit of ours carries:
//!
//! - a broken batch with a whole one after it, or in a journal that is not the last, is damage: what comes later was
//!   written only when all before it was on disk;
//! - a broken batch at the very end is damage when it was acknowledged (the `tail` knows), else the unfinished write
//!   of a crash, and is cut off, which loses nothing that anybody was told of;
//! - marks that are not consecutive, or sequence numbers that do not rise, are damage.
//!
//! What comes before the place that [`Flushed`] says is in the tables already. It is not looked at, and it is cut off:
//! the engine would take longer for it than all else that a start does.
//!
//! | bytes | what they are; numbers are little-endian |
//! | --- | --- |
//! | `1` count `u32` seqno `u64` | the start of a batch |
//! | `2` kind `u8` compression `u8` keyspace `u64` key length `u16` value length `u32` stored length `u32`, key, value | an item |
//! | `4` keyspace `u64` | a keyspace is emptied |
//! | `3` checksum `u64` `FJL\x03` | the end: XXH3-64 of the items' bytes |
//! | zeros | not written yet |

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

use super::StoreError;
use super::flushed::{Flushed, Note, sync_folder};

/// The key of a commit's mark, in a keyspace of its own. No key of the core begins with a zero byte.
pub(super) const MARK_KEY: &[u8] = b"\0commit";
const TRAILER: &[u8] = b"FJL\x03";
/// Sequence numbers that flushes and compactions may take between a mark's floor and its batch.
const SEQNO_SLACK: u64 = 1 << 16;
/// Commits between two that can be in one journal, by far.
const COMMITS_AHEAD_MAX: u64 = 1 << 32;
/// The extension of a journal whose front is being cut off.
const UNFINISHED: &str = "cut";
/// Bytes that are read at once to find a place.
const READ_BYTES: u64 = 1024 * 1024;

/// What each commit says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// Counts the commits of the store from 1, without a gap.
    pub(super) commit: u64,
    /// The engine's sequence number when the batch was made; the batch's own is not lower.
    pub(super) floor: u64,
}

impl Mark {
    pub(super) fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.commit.to_be_bytes());
        bytes[8..].copy_from_slice(&self.floor.to_be_bytes());
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (commit, floor) = bytes.split_first_chunk::<8>()?;
        let floor: [u8; 8] = floor.try_into().ok()?;
        Some(Self { commit: u64::from_be_bytes(*commit), floor: u64::from_be_bytes(floor) })
    }
}

/// Checks what is needed of all journals of an engine's folder, cuts off an unfinished write, and what is not needed.
/// `acknowledged` is the last commit that is known to have been. Gives the last commit found; `None` when there is none.
pub(super) fn check(
    folder: &Path,
    acknowledged: Option<u64>,
    note: &Note,
) -> Result<Option<u64>, StoreError> {
    let failed = |what: &str, error: &io::Error| StoreError::Engine(format!("{what} failed: {error}"));
    let noted = note.read().map_err(|error| failed("reading how far the tables are", &error))?;
    let all = journals(folder).map_err(|error| failed("listing the journals", &error))?;
    // The engine has removed its journal after it was written, and with that what comes after it.
    let flushed = noted.filter(|flushed| all.iter().any(|(number, _)| *number == flushed.journal));
    let (passed, journals): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|(number, _)| flushed.is_some_and(|flushed| *number < flushed.journal));
    let mut walk = Walk::after(flushed);
    let (mut torn, mut passed_front) = (None, None);
    for (at, (number, path)) in journals.iter().enumerate() {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let front = flushed.filter(|flushed| flushed.journal == *number).map_or(0, |flushed| flushed.byte);
        let written = read(path, front).map_err(|error| failed("reading a journal", &error))?;
        let Some(written) = written else {
            return Err(damaged(
                &name,
                format!("the first {front} bytes, which were written, are not all there"),
            ));
        };
        let at_byte = |at: usize| front + at as u64;
        let broken = walk
            .through(&written)
            .map_err(|(at, why)| damaged(&name, format!("the batch at byte {} {why}", at_byte(at))))?;
        let end = broken.unwrap_or(written.len());
        if front > 0 {
            passed_front = Some((path, written[..end].to_vec()));
        }
        let Some(broken) = broken else { continue };
        if at + 1 < journals.len() {
            let why = format!("the batch at byte {} is broken, and later ones follow", at_byte(broken));
            return Err(damaged(&name, why));
        }
        if let Some(next) = walk.find_whole(&written, broken + 1) {
            let (broken, next) = (at_byte(broken), at_byte(next));
            let why = format!("the batch at byte {broken} is broken, and a whole one follows at byte {next}");
            return Err(damaged(&name, why));
        }
        if let (Some(last), Some(acknowledged)) = (walk.last_commit(), acknowledged)
            && last < acknowledged
        {
            let why = format!(
                "the batch at byte {} is broken, and commits up to {acknowledged} were acknowledged, while the whole \
                 ones end with {last}",
                at_byte(broken)
            );
            return Err(damaged(&name, why));
        }
        if front == 0 {
            torn = Some((path, at_byte(broken)));
        }
    }
    let last = walk.last_commit();
    // What is refused later stays as it was. Where the journals have no commit at all, as after a start that found all of
    // it in the tables, only the tables know; what is torn then has nothing that can be read, and would keep the engine
    // from opening.
    if last.is_some() && last < acknowledged {
        return Ok(last);
    }
    remove_unfinished(folder).map_err(|error| failed("removing an unfinished cut", &error))?;
    if let Some((path, at)) = torn {
        cut(path, at).map_err(|error| failed("cutting off an unfinished write", &error))?;
    }
    // The oldest first, and durably: were a front cut off while a journal before it is there, that would look like a gap.
    if !passed.is_empty() {
        let removed = passed.iter().try_for_each(|(_, path)| fs::remove_file(path));
        removed
            .and_then(|()| sync_folder(folder))
            .map_err(|error| failed("removing a journal that is in the tables", &error))?;
    }
    if let Some((path, rest)) = passed_front {
        cut_front(path, &rest, note).map_err(|error| failed("cutting off what is in the tables", &error))?;
    }
    Ok(last)
}

/// Where the journals go on after this commit, looked for from `from` on: at their end when they do not have it, since
/// the engine removes a journal that is in the tables. `None` when there is none.
pub(super) fn place_after(folder: &Path, commit: u64, from: Option<Flushed>) -> io::Result<Option<Flushed>> {
    let mut end = None;
    for (journal, path) in journals(folder)? {
        if from.is_some_and(|from| journal < from.journal) {
            continue;
        }
        let mut byte = from.filter(|from| from.journal == journal).map_or(0, |from| from.byte);
        let mut file = match File::open(path) {
            Ok(file) => file,
            // It was all in the tables, and the engine has removed it meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        file.seek(SeekFrom::Start(byte))?;
        let mut bytes = Vec::new();
        loop {
            let read = (&file).take(READ_BYTES).read_to_end(&mut bytes)?;
            let mut at = 0;
            while let Some(batch) = Batch::read(&bytes[at..]) {
                if batch.mark.is_some_and(|mark| mark.commit > commit) {
                    return Ok(Some(Flushed { commit, journal, byte }));
                }
                at += batch.bytes;
                byte += batch.bytes as u64;
                if batch.mark.is_some_and(|mark| mark.commit == commit) {
                    return Ok(Some(Flushed { commit, journal, byte }));
                }
            }
            bytes.drain(..at);
            if read == 0 || bytes.first().is_some_and(|byte| *byte != START) {
                break;
            }
        }
        end = Some(Flushed { commit, journal, byte });
    }
    Ok(end)
}

fn damaged(name: &str, why: impl Into<String>) -> StoreError {
    StoreError::Damaged(format!(
        "in the journal {name}, {}; restore the data folder from a backup",
        why.into()
    ))
}

/// The journals with their numbers, oldest first.
fn journals(folder: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut journals = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let is_journal = path.extension().is_some_and(|extension| extension == "jnl");
        let number =
            path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse::<u64>().ok());
        if let (true, Some(number)) = (is_journal, number) {
            journals.push((number, path));
        }
    }
    journals.sort();
    Ok(journals)
}

/// What is written in a journal from this byte on; `None` when it does not reach as far.
fn read(path: &Path, from: u64) -> io::Result<Option<Vec<u8>>> {
    let mut file = File::open(path)?;
    if file.metadata()?.len() < from {
        return Ok(None);
    }
    let end = end_of_data(&file, from)?;
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(end.saturating_sub(from)).read_to_end(&mut bytes)?;
    bytes.truncate(written_bytes(&bytes));
    Ok(Some(bytes))
}

/// Where the file's last data ends: what was never written of a journal need not be read. The file's length where the
/// system does not tell.
#[cfg(target_os = "linux")]
fn end_of_data(file: &File, from: u64) -> io::Result<u64> {
    use rustix::fs::{SeekFrom, seek};
    let (length, mut end) = (file.metadata()?.len(), from);
    while end < length {
        match seek(file, SeekFrom::Data(end)) {
            Ok(data) => end = seek(file, SeekFrom::Hole(data))?,
            Err(rustix::io::Errno::NXIO) => return Ok(end),
            Err(_) => return Ok(length),
        }
    }
    Ok(end)
}

#[cfg(not(target_os = "linux"))]
fn end_of_data(file: &File, _: u64) -> io::Result<u64> {
    Ok(file.metadata()?.len())
}

/// A journal is made at its full length, of zeros; a batch ends with another byte.
fn written_bytes(bytes: &[u8]) -> usize {
    const ZEROS: [u8; 4096] = [0; 4096];
    let mut end = bytes.len();
    for chunk in bytes.rchunks(ZEROS.len()) {
        if chunk != &ZEROS[..chunk.len()] {
            let last = chunk.iter().rposition(|byte| *byte != 0).unwrap_or_default();
            return end - chunk.len() + last + 1;
        }
        end -= chunk.len();
    }
    0
}

fn cut(path: &Path, at: u64) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    file.set_len(at)?;
    file.sync_all()
}

/// Leaves `rest` of a journal. The note goes first: it would say a wrong place of what is left.
fn cut_front(path: &Path, rest: &[u8], note: &Note) -> io::Result<()> {
    let new = path.with_extension(UNFINISHED);
    let mut file = File::create(&new)?;
    file.write_all(rest)?;
    file.sync_all()?;
    note.remove()?;
    fs::rename(&new, path)?;
    path.parent().map_or(Ok(()), sync_folder)
}

/// What a crash left of [`cut_front`].
fn remove_unfinished(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == UNFINISHED) {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// How far the batches of all journals were followed.
#[derive(Default)]
struct Walk {
    seqno: Option<u64>,
    mark: Option<Mark>,
}

impl Walk {
    /// What comes next is the commit after the last one that is in the tables.
    fn after(flushed: Option<Flushed>) -> Self {
        let mark = flushed.map(|Flushed { commit, .. }| Mark { commit, floor: 0 });
        Self { seqno: None, mark }
    }

    fn last_commit(&self) -> Option<u64> {
        self.mark.map(|mark| mark.commit)
    }

    /// Follows whole batches. Gives where one is broken; the error is a whole one that can't be where it is, and why.
    fn through(&mut self, bytes: &[u8]) -> Result<Option<usize>, (usize, String)> {
        let mut at = 0;
        while at < bytes.len() {
            let Some(batch) = Batch::read(&bytes[at..]) else { return Ok(Some(at)) };
            if self.seqno.is_some_and(|before| batch.seqno <= before) {
                return Err((at, "has a sequence number that is none after the one before".into()));
            }
            if let Some(mark) = batch.mark {
                if !(mark.floor..=mark.floor.saturating_add(SEQNO_SLACK)).contains(&batch.seqno) {
                    return Err((at, "has another sequence number than it was given".into()));
                }
                if let Some(before) = self.mark
                    && mark.commit != before.commit.saturating_add(1)
                {
                    let (is, was) = (mark.commit, before.commit);
                    return Err((at, format!("is commit {is}, and follows on commit {was}")));
                }
                self.mark = Some(mark);
            }
            self.seqno = Some(batch.seqno);
            at += batch.bytes;
        }
        Ok(None)
    }

    /// A whole batch from here on that is later than all before.
    fn find_whole(&self, bytes: &[u8], from: usize) -> Option<usize> {
        let last = self.last_commit().unwrap_or_default();
        (from..bytes.len()).find(|at| {
            bytes[*at] == START
                && Batch::read(&bytes[*at..]).is_some_and(|batch| {
                    batch.mark.is_some_and(|mark| {
                        mark.commit > last
                            && mark.commit - last < COMMITS_AHEAD_MAX
                            && mark.floor <= batch.seqno
                    })
                })
        })
    }
}

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;

/// A whole batch whose checksum is right.
struct Batch {
    seqno: u64,
    mark: Option<Mark>,
    bytes: usize,
}

impl Batch {
    fn read(bytes: &[u8]) -> Option<Self> {
        let mut rest = Reader { bytes, at: 0 };
        if rest.byte()? != START {
            return None;
        }
        let (count, seqno) = (rest.number::<4>()?, rest.number::<8>()?);
        let (items_begin, mut mark) = (rest.at, None);
        for _ in 0..count {
            match rest.byte()? {
                ITEM => {
                    let (_kind, compression, _keyspace) = (rest.byte()?, rest.byte()?, rest.number::<8>()?);
                    let (key_bytes, _, stored_bytes) =
                        (rest.number::<2>()?, rest.number::<4>()?, rest.number::<4>()?);
                    let (key, value) = (rest.take(key_bytes)?, rest.take(stored_bytes)?);
                    if key == MARK_KEY && compression == 0 {
                        mark = Mark::from_bytes(value);
                    }
                }
                CLEAR => {
                    rest.number::<8>()?;
                }
                _ => return None,
            }
        }
        let items_end = rest.at;
        if rest.byte()? != END {
            return None;
        }
        let checksum = rest.number::<8>()?;
        let is_whole = rest.take(TRAILER.len() as u64)? == TRAILER
            && xxh3_64(bytes.get(items_begin..items_end)?) == checksum;
        is_whole.then_some(Self { seqno, mark, bytes: rest.at })
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: u64) -> Option<&'a [u8]> {
        let end = self.at.checked_add(usize::try_from(count).ok()?)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn number<const N: usize>(&mut self) -> Option<u64> {
        let mut bytes = [0; 8];
        bytes[..N].copy_from_slice(self.take(N as u64)?);
        Some(u64::from_le_bytes(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_no_journal_any_more_goes_on_at_their_end() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(place_after(folder.path(), 7, None).unwrap(), None);
        // As the engine makes it: zeros that were not written yet.
        fs::write(folder.path().join("2.jnl"), [0; 5_000]).unwrap();
        let (gone, next) =
            (Flushed { commit: 5, journal: 1, byte: 90 }, Flushed { commit: 7, journal: 2, byte: 0 });
        assert_eq!(place_after(folder.path(), 7, Some(gone)).unwrap(), Some(next));
    }
}
