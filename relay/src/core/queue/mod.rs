//! The reference queue as it is stored.
//!
//! A queue is rows of references ([`rows`]). The hot part is what commits wrote, a row for each user and commit; its
//! newest `capacity` entries are kept in any case. What is older goes, once every active device has passed it; what an
//! active device still needs is moved into the overflow, in segments of a fixed number of entries, until it has passed
//! that, too, or the retention ends ([`tending`]). Readers see one queue and notice nothing of all this ([`read`]).

mod diffusion;
pub(super) mod holders;
pub(super) mod read;
pub mod rows;
pub(super) mod tending;

pub use diffusion::{Diffusion, DiffusionConfig};

use super::limits::ROW_ENTRIES_MAX;

/// How much of a queue is kept, and how. What is not kept is gone for devices that still need it: they get a `Reset`.
#[derive(Clone, Debug)]
pub struct QueueConfig {
    /// Entries of the hot part. A new device is brought up to date with a snapshot rather than with more than these.
    pub capacity: u64,
    /// Entries of a segment of the overflow, at most [`ROW_ENTRIES_MAX`].
    pub segment_entries: usize,
    /// Entries are kept for so long, at most …
    pub retention_ms: u64,
    /// … so many of them per user …
    pub retention_entries_max: u64,
    /// … in so many bytes, keys included.
    pub retention_bytes_max: u64,
    /// A device that was not there for so long holds nothing back any more.
    pub device_expiry_ms: u64,
    /// After such a time all queues are looked at, also those of users who get nothing any more.
    pub sweep_interval_ms: u64,
}

impl Default for QueueConfig {
    fn default() -> Self {
        const DAY_MS: u64 = 24 * 3_600_000;
        Self {
            capacity: 1_000,
            segment_entries: ROW_ENTRIES_MAX,
            retention_ms: 90 * DAY_MS,
            retention_entries_max: 1_000_000,
            retention_bytes_max: 64 * 1024 * 1024,
            device_expiry_ms: 30 * DAY_MS,
            sweep_interval_ms: 3_600_000,
        }
    }
}

impl QueueConfig {
    /// Entries of the hot part from which on something is moved or dropped.
    fn hot_max(&self) -> u64 {
        self.capacity.saturating_add(self.segment_entries as u64)
    }
}
