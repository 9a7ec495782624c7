//! Where a native client keeps what its core persists.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Buf, Bytes};
use hongyan_client::{Restored, Write};
use hongyan_protocol::{ConversationId, Seq, UserId};

/// A cache. It must apply each transaction whole or not at all.
pub trait CacheStore: Send {
    /// Everything that a starting client needs.
    fn restore(&mut self) -> Restored;

    /// One transaction.
    ///
    /// # Errors
    /// When nothing of it was kept.
    fn save(&mut self, writes: &[Write]) -> io::Result<()>;

    /// Messages with `from` ≤ seq ≤ `to`, ascending.
    fn load(&mut self, of: &ConversationId, from: Seq, to: Seq) -> Vec<(Seq, Bytes)>;
}

/// What a cache holds.
#[derive(Clone, Default)]
struct Records {
    meta: Option<Bytes>,
    conversations: BTreeMap<ConversationId, Bytes>,
    messages: BTreeMap<(ConversationId, Seq), Bytes>,
    outbox: BTreeMap<u64, Bytes>,
    profiles: BTreeMap<UserId, Bytes>,
}

impl Records {
    fn apply(&mut self, write: Write) {
        match write {
            Write::Clear => *self = Self::default(),
            Write::Meta(record) => self.meta = Some(record),
            Write::Conversation(id, record) => {
                self.conversations.insert(id, record);
            }
            Write::ConversationGone(id) => {
                self.conversations.remove(&id);
                self.messages.retain(|(of, _), _| *of != id);
            }
            Write::Message(id, seq, record) => {
                self.messages.insert((id, seq), record);
            }
            Write::MessagesBelow(id, bound) => {
                self.messages.retain(|(of, seq), _| *of != id || *seq >= bound);
            }
            Write::Outbox(order, record) => {
                self.outbox.insert(order, record);
            }
            Write::OutboxGone(order) => {
                self.outbox.remove(&order);
            }
            Write::Profile(user, record) => {
                self.profiles.insert(user, record);
            }
            Write::ProfileGone(user) => {
                self.profiles.remove(&user);
            }
        }
    }

    fn restored(&self) -> Restored {
        Restored {
            meta: self.meta.clone(),
            conversations: self.conversations.values().cloned().collect(),
            outbox: self.outbox.iter().map(|(order, record)| (*order, record.clone())).collect(),
            profiles: self.profiles.values().cloned().collect(),
            term: 0,
        }
    }

    fn range(&self, of: &ConversationId, from: Seq, to: Seq) -> Vec<(Seq, Bytes)> {
        if from > to {
            return Vec::new();
        }
        let range = self.messages.range((of.clone(), from)..=(of.clone(), to));
        range.map(|((_, seq), record)| (*seq, record.clone())).collect()
    }

    /// The writes that make these records out of nothing.
    fn writes(&self) -> Vec<Write> {
        let mut writes: Vec<Write> = self.meta.iter().cloned().map(Write::Meta).collect();
        writes.extend(self.conversations.iter().map(|(id, r)| Write::Conversation(id.clone(), r.clone())));
        writes.extend(self.messages.iter().map(|((id, seq), r)| Write::Message(id.clone(), *seq, r.clone())));
        writes.extend(self.outbox.iter().map(|(order, r)| Write::Outbox(*order, r.clone())));
        writes.extend(self.profiles.iter().map(|(user, r)| Write::Profile(user.clone(), r.clone())));
        writes
    }
}

/// In memory. Clones share the records, so a client that was killed finds them again.
#[derive(Clone, Default)]
pub struct MemoryCache(Arc<Mutex<Records>>);

impl MemoryCache {
    fn records(&self) -> std::sync::MutexGuard<'_, Records> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CacheStore for MemoryCache {
    fn restore(&mut self) -> Restored {
        self.records().restored()
    }

    fn save(&mut self, writes: &[Write]) -> io::Result<()> {
        let mut records = self.records();
        writes.iter().cloned().for_each(|write| records.apply(write));
        Ok(())
    }

    fn load(&mut self, of: &ConversationId, from: Seq, to: Seq) -> Vec<(Seq, Bytes)> {
        self.records().range(of, from, to)
    }
}

/// Keeps nothing: for clients that only make load.
#[derive(Clone, Copy, Default)]
pub struct NoCache;

impl CacheStore for NoCache {
    fn restore(&mut self) -> Restored {
        Restored::default()
    }

    fn save(&mut self, _: &[Write]) -> io::Result<()> {
        Ok(())
    }

    fn load(&mut self, _: &ConversationId, _: Seq, _: Seq) -> Vec<(Seq, Bytes)> {
        Vec::new()
    }
}

/// A file to which each transaction is appended with its length and a checksum; a torn end is cut off when it is
/// opened, and the file written anew. It outlives the process; it is not synced, so not the machine's power.
pub struct DiskCache {
    records: Records,
    file: File,
}

impl DiskCache {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// When the file can't be read or written.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut records = Records::default();
        match fs::read(path) {
            Ok(bytes) => {
                let mut bytes = Bytes::from(bytes);
                while let Some(writes) = take_transaction(&mut bytes) {
                    writes.into_iter().for_each(|write| records.apply(write));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let fresh = path.with_extension("new");
        let mut file = OpenOptions::new().create(true).write(true).truncate(true).open(&fresh)?;
        file.write_all(&put_transaction(&records.writes()))?;
        fs::rename(&fresh, path)?;
        Ok(Self { records, file })
    }
}

impl CacheStore for DiskCache {
    fn restore(&mut self) -> Restored {
        self.records.restored()
    }

    fn save(&mut self, writes: &[Write]) -> io::Result<()> {
        self.file.write_all(&put_transaction(writes))?;
        writes.iter().cloned().for_each(|write| self.records.apply(write));
        Ok(())
    }

    fn load(&mut self, of: &ConversationId, from: Seq, to: Seq) -> Vec<(Seq, Bytes)> {
        self.records.range(of, from, to)
    }
}

fn put_transaction(writes: &[Write]) -> Vec<u8> {
    let mut body = Vec::new();
    for write in writes {
        let (kind, id, number, record): (u8, &str, u64, &[u8]) = match write {
            Write::Clear => (0, "", 0, &[]),
            Write::Meta(record) => (1, "", 0, record),
            Write::Conversation(id, record) => (2, id.as_str(), 0, record),
            Write::ConversationGone(id) => (3, id.as_str(), 0, &[]),
            Write::Message(id, seq, record) => (4, id.as_str(), seq.0, record),
            Write::MessagesBelow(id, seq) => (5, id.as_str(), seq.0, &[]),
            Write::Outbox(order, record) => (6, "", *order, record),
            Write::OutboxGone(order) => (7, "", *order, &[]),
            Write::Profile(user, record) => (8, user.as_str(), 0, record),
            Write::ProfileGone(user) => (9, user.as_str(), 0, &[]),
        };
        body.push(kind);
        body.extend(number.to_le_bytes());
        for part in [id.as_bytes(), record] {
            body.extend((part.len() as u64).to_le_bytes());
            body.extend(part);
        }
    }
    let mut out = (body.len() as u64).to_le_bytes().to_vec();
    out.extend(checksum(&body).to_le_bytes());
    out.extend(body);
    out
}

/// The next transaction; `None` at the end, and where the file is torn.
fn take_transaction(bytes: &mut Bytes) -> Option<Vec<Write>> {
    let (length, sum) = (bytes.try_get_u64_le().ok()?, bytes.try_get_u64_le().ok()?);
    let length = usize::try_from(length).ok().filter(|length| *length <= bytes.len())?;
    let mut body = bytes.split_to(length);
    if checksum(&body) != sum {
        return None;
    }
    let mut writes = Vec::new();
    while body.has_remaining() {
        writes.push(take_write(&mut body)?);
    }
    Some(writes)
}

fn take_write(body: &mut Bytes) -> Option<Write> {
    let kind = body.try_get_u8().ok()?;
    let number = body.try_get_u64_le().ok()?;
    let mut part = || {
        let length = usize::try_from(body.try_get_u64_le().ok()?).ok()?;
        (length <= body.len()).then(|| body.split_to(length))
    };
    let (id, record) = (part()?, part()?);
    let name = std::str::from_utf8(&id).ok();
    let id = || ConversationId::new(name?).ok();
    let user = || UserId::new(name?).ok();
    Some(match kind {
        0 => Write::Clear,
        1 => Write::Meta(record),
        2 => Write::Conversation(id()?, record),
        3 => Write::ConversationGone(id()?),
        4 => Write::Message(id()?, Seq(number), record),
        5 => Write::MessagesBelow(id()?, Seq(number)),
        6 => Write::Outbox(number, record),
        7 => Write::OutboxGone(number),
        8 => Write::Profile(user()?, record),
        9 => Write::ProfileGone(user()?),
        _ => return None,
    })
}

/// FNV-1a: a torn write shows, malice does not matter here.
fn checksum(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_file_keeps_its_whole_transactions() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cache");
        let id = ConversationId::new("g-1").unwrap();
        let message = |seq| Write::Message(id.clone(), Seq(seq), Bytes::from_static(b"hi"));
        let mut cache = DiskCache::open(&path).unwrap();
        cache.save(&[Write::Meta("m".into()), message(1), message(2)]).unwrap();
        cache.save(&[message(3), Write::Outbox(7, "o".into())]).unwrap();
        drop(cache);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        let mut cache = DiskCache::open(&path).unwrap();
        assert_eq!(cache.load(&id, Seq(1), Seq(9)).len(), 2);
        assert!(cache.restore().outbox.is_empty());
        let bob = UserId::new("bob").unwrap();
        let profile = Write::Profile(bob, "p".into());
        cache.save(&[message(3), Write::MessagesBelow(id.clone(), Seq(2)), profile]).unwrap();
        drop(cache);
        let mut cache = DiskCache::open(&path).unwrap();
        let seqs: Vec<_> = cache.load(&id, Seq(1), Seq(9)).into_iter().map(|(seq, _)| seq.0).collect();
        assert_eq!(seqs, [2, 3]);
        assert_eq!(cache.restore().meta, Some("m".into()));
        assert_eq!(cache.restore().profiles, [Bytes::from_static(b"p")]);
    }
}
