//! What the core counts.

use hongyan_protocol::wire::ResetCause;

/// How many there are, and how often something happened since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Open connections.
    pub connections: usize,
    /// Those of them that said hello.
    pub sessions: usize,
    /// Users in memory.
    pub users: usize,
    /// Conversations in memory.
    pub conversations: usize,
    /// Groups that come by their logs.
    pub logs: usize,
    /// Requests whose answer waits for a commit.
    pub waiting: usize,
    /// Bytes that wait for a commit or are being committed.
    pub uncommitted_bytes: usize,
    /// Commits that ended.
    pub commits: u64,
    /// Messages accepted.
    pub sends: u64,
    /// Batches of queue entries given to connections.
    pub batches: u64,
    /// Requests refused.
    pub refusals: u64,
    /// Reads that the store failed.
    pub store_faults: u64,
    /// Leases, also of connections that have ended a moment ago.
    pub leases: usize,
    /// Users whom somebody watches.
    pub watched: usize,
    /// Changes of presence given to connections.
    pub presence_pushes: u64,
    /// Of the queues.
    pub queue: QueueCounters,
}

/// What the queues hold, as the last sweep found it, and what was done to them since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueCounters {
    /// Entries of the hot parts.
    pub hot_entries: u64,
    /// Bytes of their rows, keys included.
    pub hot_bytes: u64,
    /// Entries in the overflow.
    pub overflow_entries: u64,
    /// Bytes of its segments, keys included.
    pub overflow_bytes: u64,
    /// Sweeps that came to their end.
    pub sweeps: u64,
    /// Segments that were written.
    pub segments: u64,
    /// Rows and segments that were dropped.
    pub trimmed_rows: u64,
    /// Entries that were dropped with them.
    pub trimmed_entries: u64,
    /// Devices that were forgotten because they did not come any more.
    pub forgotten_devices: u64,
    /// Resets by cause, as `wire::ResetCause` counts them.
    pub resets: [u64; RESET_CAUSES],
}

/// How many causes of a reset there are.
const RESET_CAUSES: usize = 5;

impl QueueCounters {
    pub(super) fn count_reset(&mut self, cause: ResetCause) {
        if let Some(count) = usize::try_from(i32::from(cause)).ok().and_then(|at| self.resets.get_mut(at)) {
            *count += 1;
        }
    }
}
