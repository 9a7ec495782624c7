//! From where on the journals are needed: all commits before are in the engine's tables, durably.
//!
//! The engine goes through its journals at every start, item by item, also what is in its tables already, and begins
//! a new one only after 64 MB. So it is noted here how far the tables are, and the next start cuts off what comes
//! before ([`super::journal`]). The note is not synced: an older one, or none, only makes the next start slower. An older
//! one may name a journal that the engine has removed since, and counts as none then.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

/// Three numbers and their checksum, within one sector.
const BYTES: usize = 32;

/// Where what is in no table yet begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flushed {
    /// The last commit that is in the tables.
    pub(super) commit: u64,
    /// The number of the journal that has, or will have, the commit after it.
    pub(super) journal: u64,
    /// The byte of that journal at which it begins.
    pub(super) byte: u64,
}

/// The note's file.
pub(super) struct Note {
    path: PathBuf,
}

impl Note {
    /// In this data folder.
    pub(super) fn of(folder: &Path) -> Self {
        Self { path: folder.join("flushed") }
    }

    /// What it says; a broken note says nothing.
    pub(super) fn read(&self) -> io::Result<Option<Flushed>> {
        match fs::read(&self.path) {
            Ok(bytes) => Ok(decoded(&bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whole or not at all.
    pub(super) fn write(&self, flushed: Flushed) -> io::Result<()> {
        let new = self.path.with_extension("new");
        let mut file = File::create(&new)?;
        file.write_all(&encoded(flushed))?;
        fs::rename(&new, &self.path)
    }

    /// Durably.
    pub(super) fn remove(&self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => self.path.parent().map_or(Ok(()), sync_folder),
        }
    }
}

/// Makes durable which files a folder has.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn encoded(Flushed { commit, journal, byte }: Flushed) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    for (at, number) in [commit, journal, byte].into_iter().enumerate() {
        bytes[at * 8..][..8].copy_from_slice(&number.to_be_bytes());
    }
    let sum = xxh3_64(&bytes[..24]);
    bytes[24..].copy_from_slice(&sum.to_be_bytes());
    bytes
}

fn decoded(bytes: &[u8]) -> Option<Flushed> {
    let (numbers, []) = bytes.as_chunks::<8>() else { return None };
    let [commit, journal, byte, _] = *numbers else { return None };
    let [commit, journal, byte] = [commit, journal, byte].map(u64::from_be_bytes);
    let flushed = Flushed { commit, journal, byte };
    (encoded(flushed) == bytes).then_some(flushed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_as_written_or_not_at_all() {
        let flushed = Flushed { commit: 7, journal: 2, byte: 70_000 };
        let bytes = encoded(flushed);
        assert_eq!(decoded(&bytes), Some(flushed));
        for at in 0..BYTES {
            let mut bytes = bytes;
            bytes[at] ^= 1;
            assert_eq!(decoded(&bytes), None);
            assert_eq!(decoded(&bytes[..at]), None);
        }
    }
}
