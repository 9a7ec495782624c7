//! What the core counts.

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
}
