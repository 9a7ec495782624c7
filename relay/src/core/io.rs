//! What goes into the core and what comes out of it.

use bytes::Bytes;
use hongyan_protocol::{Code, Time, UserId};

use super::accounts::DevicesMax;
use super::queries::{Answer, Query, QueryId};
use super::queue::{DiffusionConfig, QueueConfig};
use crate::store::{Batch, StoreError};

/// Milliseconds of a clock that never jumps, from any origin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub u64);

impl Moment {
    /// This long after.
    #[must_use]
    pub const fn after_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// How long it is since `earlier`; 0 when that is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Both clocks, as the host reads them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// For deadlines.
    pub moment: Moment,
    /// For the times of messages and the ends of tokens.
    pub time: Time,
}

impl Now {
    /// Both clocks, this long after.
    #[must_use]
    pub const fn after_ms(self, ms: u64) -> Self {
        Self { moment: self.moment.after_ms(ms), time: Time(self.time.0.saturating_add(ms)) }
    }
}

/// Names a connection; never used again while the relay runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// Names a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// Who a valid token is for, and until when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The token's `sub`.
    pub user: UserId,
    /// The token's `exp`.
    pub expires: Time,
    /// The token's `iat`; a token without one counts as issued before everything.
    pub issued: Option<Time>,
}

/// Tells whom a token is for. Without a clock: whether it has expired is for the core to say.
pub trait Verifier: Send + 'static {
    /// Checks signature, algorithm, key id and audience.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it, without any part of it.
    fn verify(&self, token: &str) -> Result<Identity, String>;
}

/// Who may watch whose presence, or ask for whose profile, besides one's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WatchPolicy {
    /// Users of one direct conversation that has a message, or of one group.
    #[default]
    Members,
    /// Everybody everybody.
    Everyone,
    /// Nobody anybody.
    Nobody,
}

/// The core's settings; the program's configuration makes them.
#[derive(Clone, Debug)]
pub struct CoreConfig {
    /// Bytes of one message's content at most.
    pub content_bytes_max: usize,
    /// Sends per second that a user may make over all devices, sustained …
    pub sends_per_second: u32,
    /// … and at once.
    pub sends_burst: u32,
    /// Other requests (history, groups, read marks) per second and user, sustained …
    pub requests_per_second: u32,
    /// … and at once.
    pub requests_burst: u32,
    /// Open connections of one user.
    pub connections_per_user_max: usize,
    /// Open connections in all.
    pub connections_max: usize,
    /// Bytes that wait in one connection's outgoing queue before nothing more is put there; the queue's stream
    /// waits instead …
    pub outgoing_bytes_target: usize,
    /// … and beyond which (answers to its own requests come on top) the connection is a slow reader.
    pub outgoing_bytes_max: usize,
    /// Entries of the queue that a connection may have been sent beyond what it acknowledged; then its stream waits.
    pub unacknowledged_max: u64,
    /// An outgoing queue that moved nothing for so long makes a slow reader.
    pub stalled_ms: u64,
    /// From the open socket to hello.
    pub hello_ms: u64,
    /// An idle connection is pinged so often.
    pub ping_interval_ms: u64,
    /// A connection from which nothing is heard for so long ends.
    pub silence_ms: u64,
    /// Clock skew that is forgiven when a token has expired.
    pub token_leeway_ms: u64,
    /// Bytes of batches that wait for a commit, beyond which sends are refused as busy.
    pub uncommitted_bytes_max: usize,
    /// Members of one group.
    pub group_members_max: usize,
    /// For so long after it was sent, a message may be edited and recalled by its sender.
    pub change_within_ms: u64,
    /// Who may watch whose presence.
    pub watch: WatchPolicy,
    /// Who may ask for whose profile; who has a direct conversation with a user is told of hers in any case.
    pub profiles: WatchPolicy,
    /// A device whose socket ended without a goodbye is shown as before for so long: it may be back.
    pub lost_hold_ms: u64,
    /// A mini-program that was hidden is shown as away for so long after its socket ended; then nobody knows.
    pub background_lease_ms: u64,
    /// For so long after the start nobody is called offline: devices come back.
    pub recovery_ms: u64,
    /// Devices of one kind that a user may have connected at once.
    pub devices_max: DevicesMax,
    /// How much of a queue is kept, and how.
    pub queue: QueueConfig,
    /// How messages come into queues.
    pub diffusion: DiffusionConfig,
}

impl Default for CoreConfig {
    fn default() -> Self {
        Self {
            content_bytes_max: hongyan_protocol::limits::CONTENT_BYTES_MAX,
            sends_per_second: 50,
            sends_burst: 200,
            requests_per_second: 50,
            requests_burst: 200,
            connections_per_user_max: 64,
            connections_max: 100_000,
            outgoing_bytes_target: 256 * 1024,
            outgoing_bytes_max: 4 * 1024 * 1024,
            unacknowledged_max: super::limits::UNACKNOWLEDGED_MAX,
            stalled_ms: 10_000,
            hello_ms: 10_000,
            ping_interval_ms: 7_000,
            silence_ms: 15_000,
            token_leeway_ms: 5_000,
            uncommitted_bytes_max: 64 * 1024 * 1024,
            group_members_max: hongyan_protocol::limits::GROUP_MEMBERS_MAX,
            change_within_ms: 48 * 3_600_000,
            watch: WatchPolicy::default(),
            profiles: WatchPolicy::default(),
            lost_hold_ms: 600,
            background_lease_ms: 300_000,
            recovery_ms: 20_000,
            devices_max: DevicesMax::default(),
            queue: QueueConfig::default(),
            diffusion: DiffusionConfig::default(),
        }
    }
}

/// One thing that happened.
pub enum Input {
    /// A WebSocket with the right sub-protocol is open.
    Connected(ConnectionId),
    /// It sent a binary message.
    Frame(ConnectionId, Bytes),
    /// Sockets took so many of the bytes given by [`Output::Transmit`].
    Written(Vec<(ConnectionId, usize)>),
    /// It is gone, whoever ended it. Also follows [`Output::Close`].
    Closed(ConnectionId),
    /// Somebody sent a beacon: a goodbye besides the socket. The bytes are a `wire::Beacon`, if they are anything.
    Goodbye(Bytes),
    /// The commit ended.
    Committed(Ticket, Result<(), StoreError>),
    /// The relay is to stop: everybody is told to come back, spread over this time; new sends are refused, what was
    /// accepted is committed. [`Output::Drained`] follows.
    Drain {
        /// The longest that anybody is told to wait.
        spread_ms: u64,
    },
    /// The app's own server asks; answered by [`Output::Answer`] with the same id, once.
    Query(QueryId, Query),
    /// A deadline may have passed.
    Tick,
}

/// One thing to do.
pub enum Output {
    /// Send a binary message.
    Transmit(ConnectionId, Bytes),
    /// Close with this WebSocket close code and the sentence as its reason, after what was transmitted before.
    Close(ConnectionId, Code),
    /// Make the batch durable; answered by [`Input::Committed`]. One is under way at most: what is sent meanwhile
    /// gathers for the next (group commit).
    Commit(Ticket, Batch),
    /// What [`Input::Query`] asked for, or did: it is durable by now.
    Answer(QueryId, Answer),
    /// After [`Input::Drain`]: nothing waits for a commit any more.
    Drained,
    /// The store failed a commit: nobody knows what is durable. Every waiting send was answered with a code of class
    /// retry; the core takes nothing more. The host ends the process with this sentence.
    Failed(String),
}
