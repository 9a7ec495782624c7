//! What the relay needs of an engine: reads, range reads, and one atomic, durable commit.
//!
//! Keys and their meaning are above this seam, once (`core::records`); an engine knows tables of bytes.
//! *How to add an engine:* implement [`Store`] in a file beside this one and call `contract::check` from its tests.

pub mod contract;
#[cfg(feature = "server")]
pub mod disk;
#[cfg(feature = "server")]
mod journal;
pub mod memory;
#[cfg(feature = "server")]
mod tail;
#[cfg(feature = "server")]
mod tree;

use bytes::Bytes;

pub use memory::MemoryStore;

/// The tables, each an ordered map from bytes to bytes. Their numbers are on disk, so a number keeps its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Table {
    /// What is true of the whole store: format version, epoch.
    Meta = 1,
    /// The logs: (conversation, seq) → message.
    Messages = 2,
    /// Changes of messages: (conversation, number) → which message, what, by whom.
    Changes = 3,
    /// The hot parts of queues: (user, last pos) → consecutive references.
    Queue = 4,
    /// The older parts of queues: (user, last pos) → a segment of references.
    Overflow = 5,
    /// Idempotency: (sender, key) → what was answered.
    Keys = 6,
    /// Groups: conversation → title, owner, version.
    Groups = 7,
    /// Groups whose messages come by their logs.
    Logs = 8,
    /// Who is in a conversation: (conversation, user) → role.
    Members = 9,
    /// What a user is in: (user, conversation) → read mark, left.
    Memberships = 10,
    /// A user's devices: (user, device) → cursor, kind, when it was last seen.
    Devices = 11,
    /// What holds for a user on all devices: user → invisible, when last seen, revoked tokens.
    Users = 12,
    /// What users show of themselves: user → name, picture, version.
    Profiles = 13,
}

impl Table {
    /// All of them.
    pub const ALL: [Table; 13] = [
        Table::Meta,
        Table::Messages,
        Table::Changes,
        Table::Queue,
        Table::Overflow,
        Table::Keys,
        Table::Groups,
        Table::Logs,
        Table::Members,
        Table::Memberships,
        Table::Devices,
        Table::Users,
        Table::Profiles,
    ];

    /// Its name for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Table::Meta => "meta",
            Table::Messages => "messages",
            Table::Changes => "changes",
            Table::Queue => "queue",
            Table::Overflow => "overflow",
            Table::Keys => "keys",
            Table::Groups => "groups",
            Table::Logs => "logs",
            Table::Members => "members",
            Table::Memberships => "memberships",
            Table::Devices => "devices",
            Table::Users => "users",
            Table::Profiles => "profiles",
        }
    }
}

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The engine or the disk failed.
    #[error("the store failed: {0}")]
    Engine(String),
    /// What was read is not what was written.
    #[error("the store is damaged: {0}")]
    Damaged(String),
}

/// Changes that become durable together or not at all; the later change of a key wins.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Table, key, and the new value or `None` to remove.
    pub changes: Vec<(Table, Bytes, Option<Bytes>)>,
}

impl Batch {
    /// Sets a key.
    pub fn put(&mut self, table: Table, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.changes.push((table, key.into(), Some(value.into())));
    }

    /// Removes a key.
    pub fn delete(&mut self, table: Table, key: impl Into<Bytes>) {
        self.changes.push((table, key.into(), None));
    }

    /// Nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

/// Which end of a range comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Lowest key first.
    Ascending,
    /// Highest key first.
    Descending,
}

/// An engine. Clones are handles of the same store and may be used from several threads.
pub trait Store: Clone + Send + 'static {
    /// One value.
    ///
    /// # Errors
    /// [`StoreError`] when the engine fails.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError>;

    /// Calls `visit` with keys `from` ≤ key < `to` in order until it returns false.
    ///
    /// # Errors
    /// [`StoreError`] when the engine fails.
    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        order: Order,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StoreError>;

    /// Makes the batch durable (on disk, fsynced) before it returns. Readers may see it a little earlier.
    ///
    /// # Errors
    /// [`StoreError`] when the engine fails; then nobody knows whether the batch is durable, and the store takes
    /// no further commit until it was opened anew.
    fn commit(&self, batch: &Batch) -> Result<(), StoreError>;
}
