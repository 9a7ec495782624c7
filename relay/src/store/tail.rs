//! The number of the last commit that was acknowledged, in a small file beside the engine.
//!
//! What a journal has lost at its end can't be seen in the journal. So after each commit its number is written here:
//! not synced, since that would double the cost of a commit. A killed process leaves it exact; a power cut may leave
//! an older number, never one of a commit that was not durable.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use xxhash_rust::xxh3::xxh3_64;

/// The number and its checksum, within one sector: written whole or not at all.
const BYTES: usize = 16;

/// What stands in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// There is no file.
    Nothing,
    /// The last acknowledged commit.
    Commit(u64),
    /// Not what was written.
    Broken,
}

/// Reads it.
pub(super) fn read(path: &Path) -> io::Result<Found> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(error),
    };
    let Ok(bytes) = <[u8; BYTES]>::try_from(bytes) else { return Ok(Found::Broken) };
    let mut commit = [0; 8];
    commit.copy_from_slice(&bytes[..8]);
    let commit = u64::from_be_bytes(commit);
    Ok(if bytes == encoded(commit) { Found::Commit(commit) } else { Found::Broken })
}

fn encoded(commit: u64) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    bytes[..8].copy_from_slice(&commit.to_be_bytes());
    let sum = xxh3_64(&bytes[..8]);
    bytes[8..].copy_from_slice(&sum.to_be_bytes());
    bytes
}

/// The open file; synced when it is dropped.
pub(super) struct Tail {
    file: File,
    pub(super) commit: u64,
}

impl Tail {
    /// Opens the file for writing, or makes it; it says `commit` from now on, durably.
    pub(super) fn open(path: &Path, commit: u64) -> io::Result<Self> {
        if !path.exists() {
            let new = path.with_extension("new");
            let mut file = File::create(&new)?;
            file.write_all(&encoded(commit))?;
            file.sync_all()?;
            fs::rename(&new, path)?;
        }
        let mut tail = Self { file: OpenOptions::new().write(true).open(path)?, commit };
        tail.write(commit)?;
        tail.file.sync_all()?;
        Ok(tail)
    }

    pub(super) fn write(&mut self, commit: u64) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(&encoded(commit))?;
        self.commit = commit;
        Ok(())
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        // Only after a clean end does it matter, and only against a power cut that follows.
        let _ = self.file.sync_data();
    }
}
