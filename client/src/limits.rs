//! Every bound and delay of the client, in one place. Milliseconds and bytes as named.

/// The first back-off; it doubles with each failure.
pub const BACKOFF_FIRST_MS: u64 = 250;
/// The back-off's cap. The wait is drawn evenly from zero to the capped value (full jitter).
pub const BACKOFF_MAX_MS: u64 = 30_000;
/// From dialling to the open socket.
pub const DIAL_MS: u64 = 10_000;
/// From hello to welcome.
pub const HELLO_MS: u64 = 10_000;
/// From asking for a token to the provider's answer.
pub const TOKEN_MS: u64 = 30_000;
/// A hidden page with nothing to send dials for so long; afterwards it waits until it is looked at.
pub const HIDDEN_IDLE_MS: u64 = 60_000;
/// A probe's answer on waking (DESIGN.md, "Presence").
pub const PROBE_MS: u64 = 2_000;
/// An answer to a send that took longer makes the client probe the socket.
pub const ANSWER_SLOW_MS: u64 = 5_000;
/// Acknowledgements of the cursor wait this long for more …
pub const ACK_DELAY_MS: u64 = 100;
/// … or for so many entries.
pub const ACK_ENTRIES: u64 = 128;
/// A request other than a send (history, groups) fails after this long without an answer.
pub const REQUEST_MS: u64 = 15_000;
/// The token is renewed this long before its end, or at half of its life if that is shorter.
pub const RENEW_BEFORE_MS: u64 = 60_000;

/// Messages waiting in the outbox.
pub const OUTBOX_MAX: usize = 1_000;
/// Sends on the wire at once, one per conversation.
pub const SENDS_IN_FLIGHT_MAX: usize = 32;
/// Requests other than sends that wait for an answer.
pub const REQUESTS_MAX: usize = 256;
/// Messages kept per conversation in the cache; trimmed in steps.
pub const CACHED_MESSAGES_MAX: u64 = 10_000;
/// The step of trimming.
pub const CACHED_MESSAGES_STEP: u64 = 1_000;
/// Seqs of a block: a run of messages (see [`crate::runs`]) lies within one. What is trimmed may leave one block more.
pub const RUN_MESSAGES_MAX: u64 = 64;
/// Bytes of messages, after which a run is closed (it may hold one message more).
pub const RUN_BYTES_TARGET: usize = 32 * 1024;
/// Conversations kept in the list.
pub const CONVERSATIONS_MAX: usize = 20_000;
/// Entries of the queue in one transaction of the cache. The more, the fewer records are written: those of a conversation
/// go into few, and its line is written once. What a transaction writes is one task of a page, and a page that is blocked
/// for longer than 50 ms is felt; so it is full as well …
pub const SAVED_ENTRIES_MAX: u64 = 2_048;
/// … with so many conversations …
pub const SAVED_CONVERSATIONS_MAX: usize = 256;
/// … or so many bytes of messages and profiles (it may hold one message more, or what one answer of the relay brings).
pub const SAVED_BYTES_TARGET: usize = 1024 * 1024;
/// While more of the queue is known to come, so many entries gather for a transaction, or as many as the connection brought
/// before: a browser saves few large ones faster. As many may gather while others are saved, or the relay, which lets 4,096
/// be unacknowledged, would wait …
pub const GATHERED_ENTRIES: u64 = 2_000;
/// … but not for longer than this, whatever comes.
pub const GATHER_MS: u64 = 25;
/// Entries of the queue that are applied and not durable yet. Beyond it batches are passed over and asked for
/// again once the cache has caught up; the relay's own window of entries that are not acknowledged is smaller,
/// so this bound is the second line.
pub const UNSAVED_ENTRIES_MAX: u64 = 16_384;
/// A connection that held so long, or that brought something, was a good one: its end is not a failure that
/// makes the next waits longer.
pub const STABLE_MS: u64 = 5_000;
/// Pages asked of the relay for one page of history (a page may come shorter than asked).
pub const HISTORY_ROUNDS_MAX: u32 = 8;

/// A group's log is told message by message to who is at most so far behind; else only its newest messages are …
pub const LOG_EVENTS_MAX: u64 = 500;
/// … so many of them.
pub const LOG_NEWEST: u32 = 50;
/// Messages of a log that are asked for at once.
pub const LOG_PAGE: u32 = 100;
/// Changes of messages are told one by one to who lacks at most so many; who lacks more lets go of what is cached of the
/// conversation.
pub const CHANGES_EVENTS_MAX: u64 = 200;
/// Changes of messages that are asked for at once.
pub const CHANGES_PAGE: u32 = 100;

/// A leader that has not said within this time that it heard another tab's ask is taken for hung, and its lock is
/// taken away. A page may be busy for longer than a moment; being wrong costs a reconnect, nothing else.
pub const LEADER_ANSWER_MS: u64 = 3_000;
/// Events of the last saves that each tab remembers for a tab that comes back, a save counting as one more.
pub const REMEMBERED_EVENTS_MAX: usize = 1_024;
/// A leader's saves are counted below this, so that those of later terms are above: enough for ten a second for 19 days, and
/// numbers stay whole in JavaScript for 2^29 terms.
pub const TERM_BITS: u32 = 24;
/// The first term of a new cache is how often this has passed since 1970: later than those of a cache that was deleted, if
/// tabs took that over less often than once in such a time. (Terms that count on, one for each, can be barred by number.)
pub const FIRST_TERM_MS: u64 = 10_000;
/// That term at most, however wrong a clock is; it is reached in 2128.
pub const FIRST_TERM_MAX: u64 = 500_000_000;
/// How long what was heard of watched users may be shown after the connection ended; then it is unknown. Longer than a
/// connection that is made again at once, so that this shows nothing.
pub const PRESENCE_STALE_MS: u64 = 5_000;
/// Users who may not be watched are asked for again when something changed, at most this often.
pub const REFUSED_ASK_MS: u64 = 1_000;
/// Users whose profiles are kept; beyond, the one that was not used for longest goes. All are read when the cache is opened,
/// and a thousand take a browser some 12 ms.
pub const PROFILES_MAX: usize = 3_000;
/// Users whose profiles are waited for, counted once for each request: there is always one left that may go for another.
pub const PROFILES_WAITED_MAX: usize = 2_500;
/// Profiles that the application asks for at once.
pub const PROFILES_AT_ONCE_MAX: usize = 1_000;
/// The relay is asked for profiles so much later: others may be wanted in the same moment.
pub const PROFILES_DELAY_MS: u64 = 10;
/// Requests for profiles that are on the wire at once.
pub const PROFILES_IN_FLIGHT_MAX: usize = 4;
/// Those who share this client and watch users.
pub const WATCHERS_MAX: usize = 256;
/// Requests to watch that are on the wire at once.
pub const WATCHES_IN_FLIGHT_MAX: usize = 8;
/// That the user writes is told at most this often in a conversation.
pub const TYPING_EVERY_MS: u64 = 3_000;
/// Who writes is shown for so long at most unless it is told again.
pub const TYPING_EXPIRES_MAX_MS: u64 = 30_000;
/// Those who write and are known here, and conversations in which this user writes.
pub const TYPING_MAX: usize = 64;

// There is room for as many leaders as a cache ever has.
const _: () = assert!((FIRST_TERM_MAX + 10_000_000) << TERM_BITS < 1 << 53);
const _: () = assert!(GATHERED_ENTRIES < SAVED_ENTRIES_MAX);
const _: () = assert!(RUN_MESSAGES_MAX.is_power_of_two());
const _: () = assert!(PROFILES_AT_ONCE_MAX < PROFILES_WAITED_MAX);
const _: () = assert!(
    PROFILES_WAITED_MAX + PROFILES_IN_FLIGHT_MAX * hongyan_protocol::limits::PROFILES_MAX < PROFILES_MAX
);
