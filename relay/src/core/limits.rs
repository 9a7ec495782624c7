//! The core's own bounds, which nobody configures. The wire's are in `hongyan_protocol::limits`.

use hongyan_protocol::limits::{BATCH_ENTRIES_MAX, DEVICES_MAX, HISTORY_PAGE_MESSAGES_MAX, MEMBER_PAGE_MAX};

/// Entries that a connection may have been sent beyond what it acknowledged, unless the configuration says otherwise.
pub const UNACKNOWLEDGED_MAX: u64 = 4_096;
/// References in one row of a queue: a commit that brings a user more writes several.
pub const ROW_ENTRIES_MAX: usize = 1_024;
/// Bytes of copied messages in a row, after which the next one begins (it may hold one message more).
pub const ROW_BYTES_TARGET: usize = 64 * 1024;
/// Rows of a queue that one step of its tending drops.
pub const TRIMMED_ROWS_PER_STEP: usize = 256;
/// A sweep looks at the next queue after so many milliseconds.
pub const SWEEP_PACE_MS: u64 = 1;
/// A device that did not come for so long is forgotten, in milliseconds: 360 days.
pub const DEVICE_FORGOTTEN_MS: u64 = 360 * 24 * 3_600 * 1_000;
/// Streams that read from the store in one `handle`; the others' turn comes with the next.
pub const TURNS_PER_INPUT: usize = 8;
/// Deadlines that one `handle` looks after; the rest stays due.
pub const DEADLINES_PER_INPUT: usize = 256;
/// Messages that one turn of a snapshot looks through for the user's own unread ones.
pub const SNAPSHOT_SCAN_MAX: usize = 4_000;
/// Messages of one conversation that a snapshot looks through; older own ones count as unread.
pub const OWN_UNREAD_SCAN_MAX: usize = 2_000;
/// Bytes of messages of one conversation that a snapshot looks through.
pub const OWN_UNREAD_SCAN_BYTES_MAX: usize = 2 * 1024 * 1024;
/// How long acknowledged cursors, and when devices were seen, gather before they are written, in milliseconds.
pub const CURSOR_DELAY_MS: u64 = 1_000;
/// Devices that are written with one commit, and those of the last one's user: the others wait for the next.
pub const DEVICES_PER_COMMIT: usize = 64;
/// Devices of one user that are read, to tell her presence or to list them.
pub const DEVICES_SCANNED_MAX: usize = 1_000;
/// How long a device that was signed out is remembered, in milliseconds: 90 days.
pub const SIGNED_OUT_KEPT_MS: u64 = 90 * 24 * 3_600 * 1_000;
/// Leases of one user; beyond, one whose connection has ended goes early.
pub const LEASES_PER_USER_MAX: usize = 256;
/// A user with more watchers than this is told at a slower pace.
pub const PRESENCE_WATCHERS_AT_ONCE: usize = 200;
/// Changes of such a user are told at most once in so many milliseconds, the last one always.
pub const PRESENCE_PACE_MS: u64 = 500;
/// Of other users so many changes are told at once …
pub const PRESENCE_CHANGES_AT_ONCE: u32 = 8;
/// … and so many per second, the last one always.
pub const PRESENCE_CHANGES_PER_SECOND: u32 = 4;
/// When the store could not be read to tell how a user is, it is read again after so many milliseconds.
pub const PRESENCE_REREAD_MS: u64 = 250;
/// Watchers that one `handle` looks at to tell them; the rest is due at once.
pub const PRESENCE_PUSHES_PER_INPUT: usize = 1_000;
/// Rows that one `handle` reads for those who ask to watch; the rest is due at once.
pub const WATCH_READS_PER_INPUT: usize = 2_000;
/// Requests to watch, or not to, that wait in one connection.
pub const WATCH_REQUESTS_MAX: usize = 16;
/// Groups of a user that are looked through for those she may watch.
pub const WATCH_GROUPS_MAX: usize = 1_000;
/// Watched users that one `handle` looks at when the time in which devices come back has ended.
pub const RECOVERED_PER_INPUT: usize = 64;
/// Pushes of logs that one `handle` looks after; the rest is due at once.
pub const LOG_PUSHES_PER_INPUT: usize = 32;
/// Sockets to which a log's push is on its way: what else is due to sockets waits behind so many writes at most.
pub const LOG_PUSHES_IN_FLIGHT: usize = 512;
/// Sockets that take nothing are not waited for any longer, in milliseconds.
pub const LOG_STUCK_MS: u64 = 50;
/// Bytes of one log that wait to be pushed; beyond, only how far it is.
pub const LOG_WAITING_BYTES_MAX: usize = 1024 * 1024;
/// Users whom one request of the app's server adds to a group, or removes.
pub const QUERY_MEMBERS_MAX: usize = 1_000;
/// Members of a log's group that are looked through for the one who takes over from an owner who leaves.
pub const HEIRS_SCANNED_MAX: usize = 1_000;
/// Members of a group whose typing is told.
pub const TYPING_MEMBERS_MAX: usize = 200;
/// How long it counts that somebody types, in milliseconds.
pub const TYPING_MS: u32 = 5_000;
/// How often one connection's typing is told per second …
pub const TYPING_PER_SECOND: u32 = 2;
/// … and at once.
pub const TYPING_AT_ONCE: u32 = 3;
/// How often a user may change her profile per second, as everybody with whom she has a direct conversation is told …
pub const PROFILE_CHANGES_PER_SECOND: u32 = 1;
/// … and at once.
pub const PROFILE_CHANGES_AT_ONCE: u32 = 10;
/// Users whom one commit tells of a profile; the rest is told by the next ones.
pub const PROFILE_TOLD_PER_COMMIT: usize = 64;
/// When the store could not be read to tell of a profile, it is read again after so many milliseconds …
pub const PROFILE_REREAD_MS: u64 = 250;
/// … and where what was read is damaged, after twice as many each time, up to this.
pub const PROFILE_REREAD_MS_MAX: u64 = 3_600 * 1_000;
/// Users that stay in memory although nobody of them is connected.
pub const IDLE_USERS_MAX: usize = 50_000;
/// Conversations that stay in memory.
pub const CONVERSATIONS_MAX: usize = 20_000;
/// Members of groups that stay in memory, over all conversations.
pub const MEMBERS_HELD_MAX: usize = 2_000_000;
/// Members of a group that comes by its log who were looked up and stay in memory, of each group.
pub const LOOKED_UP_MEMBERS_MAX: usize = 32;
/// Entries of the hot tables that one `handle` looks at to evict.
pub const EVICTION_STEPS: usize = 64;
/// What a waiting answer counts towards the bytes that wait for a commit, besides its own.
pub const WAITING_ANSWER_BYTES: usize = 256;
/// Requests of one connection refused within one second, after which it is closed as busy.
pub const REFUSALS_PER_SECOND_MAX: u32 = 1_000;
/// Messages in a page of history for which the request names no limit.
pub const HISTORY_PAGE_DEFAULT: usize = 50;
/// Random characters of a group's id: 100 bits.
pub const GROUP_ID_CHARACTERS: usize = 20;

/// Changes of messages since a member left that one batch looks through for her, over all groups; of a group that has
/// more than are left of these, of no changed message anything is told.
pub const CHANGES_SINCE_LEFT_MAX: u64 = 1_000;

const _: () = {
    assert!(ROW_ENTRIES_MAX >= BATCH_ENTRIES_MAX);
    assert!(DEVICES_SCANNED_MAX > DEVICES_MAX);
    assert!(UNACKNOWLEDGED_MAX >= 4 * BATCH_ENTRIES_MAX as u64);
    assert!(HISTORY_PAGE_DEFAULT <= HISTORY_PAGE_MESSAGES_MAX);
    assert!(MEMBER_PAGE_MAX >= 1);
    assert!(SNAPSHOT_SCAN_MAX >= OWN_UNREAD_SCAN_MAX);
};
