//! What the records of the cache hold. They are this crate's own, and opaque to the host.
//!
//! A record of another version, of another user, or one that can't be read makes the whole cache worthless: it is
//! dropped and built again from the relay. Only what no relay has is kept where it can be read: the device's id, and the
//! outbox, whose record may grow but is read in all versions.

use hongyan_protocol::wire;

/// Counts the shapes of the records. Another one than this is not read.
pub(crate) const RECORDS_VERSION: u32 = 3;

/// Cursor, epoch and device.
#[derive(Clone, PartialEq, Eq, prost::Message)]
#[prost(skip_debug)]
pub(crate) struct MetaRecord {
    /// [`RECORDS_VERSION`].
    #[prost(uint32, tag = "1")]
    pub(crate) version: u32,
    /// Whose cache this is.
    #[prost(string, tag = "2")]
    pub(crate) user: String,
    /// The device's id.
    #[prost(string, tag = "3")]
    pub(crate) device: String,
    /// The queue's epoch; empty before the first one.
    #[prost(string, tag = "4")]
    pub(crate) epoch: String,
    /// The position up to which the cache holds the queue.
    #[prost(uint64, tag = "5")]
    pub(crate) cursor: u64,
}

/// A conversation.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub(crate) struct ConversationRecord {
    /// As the relay would tell it.
    #[prost(message, optional, tag = "1")]
    pub(crate) state: Option<wire::ConversationState>,
    /// The read mark was not yet taken by the relay.
    #[prost(bool, tag = "2")]
    pub(crate) read_pending: bool,
    /// Sorts the list.
    #[prost(uint64, tag = "3")]
    pub(crate) time: u64,
    /// The group's version that the queue told last.
    #[prost(uint64, tag = "4")]
    pub(crate) applied: u64,
    /// The group comes by its log.
    #[prost(message, optional, tag = "5")]
    pub(crate) log: Option<LogRecord>,
    /// The newest unread message that calls the user.
    #[prost(uint64, tag = "6")]
    pub(crate) called: u64,
    /// There are at least so many changes of its messages; those that were told are in the state.
    #[prost(uint64, tag = "7")]
    pub(crate) changes_head: u64,
}

/// How far a group's log was told.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
#[prost(skip_debug)]
pub(crate) struct LogRecord {
    /// Messages up to here were told.
    #[prost(uint64, tag = "1")]
    pub(crate) told: u64,
    /// As far as a hint said.
    #[prost(uint64, tag = "2")]
    pub(crate) head: u64,
    /// The messages after this one come by the queue again.
    #[prost(uint64, optional, tag = "3")]
    pub(crate) ends: Option<u64>,
}

/// A message that waits for the relay, or was refused by it.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub(crate) struct OutboxRecord {
    /// What is sent.
    #[prost(message, optional, tag = "1")]
    pub(crate) send: Option<wire::Send>,
    /// When it was written here.
    #[prost(uint64, tag = "2")]
    pub(crate) time: u64,
    /// Why it was refused for good; 0 while it waits.
    #[prost(uint32, tag = "3")]
    pub(crate) failed_code: u32,
    /// In words.
    #[prost(string, tag = "4")]
    pub(crate) failed_reason: String,
}
