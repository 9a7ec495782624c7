//! Every bound of the wire, in one place. Bytes unless the name says otherwise.

/// A user id, device id or idempotency key.
pub const ID_BYTES_MAX: usize = 128;
/// A conversation id: a direct one holds both user ids (see [`crate::ConversationId::direct`]).
pub const CONVERSATION_ID_BYTES_MAX: usize = 2 * ID_BYTES_MAX + 8;
/// A message's encoded `Content`, by default; a relay may be configured to less.
pub const CONTENT_BYTES_MAX: usize = 64 * 1024;
/// A token.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// A group's title.
pub const TITLE_BYTES_MAX: usize = 256;
/// The name in a profile.
pub const PROFILE_NAME_BYTES_MAX: usize = 256;
/// The URL of the picture in a profile.
pub const PROFILE_AVATAR_BYTES_MAX: usize = 1024;
/// Users named in one request for profiles.
pub const PROFILES_MAX: usize = 100;
/// An agent's name.
pub const AGENT_BYTES_MAX: usize = 128;
/// A reject's reason.
pub const REASON_BYTES_MAX: usize = 512;

/// Users mentioned by one message.
pub const MENTIONS_MAX: usize = 64;
/// One reaction's name.
pub const REACTION_BYTES_MAX: usize = 64;
/// Reactions to one message, each counted for each user.
pub const REACTIONS_MAX: usize = 200;
/// Changes of messages in one page.
pub const CHANGE_PAGE_MAX: usize = 100;
/// Users named in one request that changes a group.
pub const GROUP_CHANGE_USERS_MAX: usize = 200;
/// Members of one group.
pub const GROUP_MEMBERS_MAX: usize = 2_000_000;
/// Members of one group whose messages go to each member's queue.
pub const HELD_MEMBERS_MAX: usize = 5_000;
/// Heads of logs in one frame.
pub const LOG_HEADS_MAX: usize = 500;
/// Messages in one page of history.
pub const HISTORY_PAGE_MESSAGES_MAX: usize = 100;
/// Members in one page.
pub const MEMBER_PAGE_MAX: usize = 500;
/// Entries in one batch of the queue.
pub const BATCH_ENTRIES_MAX: usize = 256;
/// Encoded entries, after which a batch or a page is closed (it may hold one message more).
pub const BATCH_BYTES_TARGET: usize = 128 * 1024;
/// Conversations in one frame of a snapshot.
pub const SNAPSHOT_CONVERSATIONS_MAX: usize = 100;
/// Users named in one request about presence.
pub const WATCH_USERS_MAX: usize = 200;
/// Users that one connection watches.
pub const WATCHED_MAX: usize = 1_000;
/// Devices listed in one user's presence, the best first.
pub const PRESENCE_DEVICES_MAX: usize = 16;
/// Devices in a list of one's own.
pub const DEVICES_MAX: usize = 200;
/// The least and the longest time that a goodbye may name for coming back (DESIGN.md, "Presence"), milliseconds.
pub const RETURN_MS: core::ops::RangeInclusive<u32> = 500..=4_000;
/// A goodbye's ticket.
pub const BYE_TICKET_BYTES_MAX: usize = 64;
/// The body of a beacon.
pub const BEACON_BYTES_MAX: usize = 256;
/// Own messages listed in a conversation's state.
pub const OWN_UNREAD_MAX: usize = 1_000;

/// One frame from a client.
pub const CLIENT_FRAME_BYTES_MAX: usize = 128 * 1024;
/// One frame from the relay.
pub const RELAY_FRAME_BYTES_MAX: usize = 512 * 1024;

/// Decoding a client's frame allocates at most this many bytes for each byte of the frame (an empty string is two
/// bytes on the wire and a `String` in memory) …
pub const CLIENT_DECODE_AMPLIFICATION_MAX: usize = 48;
/// … and decoding a relay's frame this many (an empty conversation of a snapshot is two bytes, too).
pub const RELAY_DECODE_AMPLIFICATION_MAX: usize = 512;

const _: () = {
    assert!(MENTIONS_MAX * (ID_BYTES_MAX + 3) + CONTENT_BYTES_MAX < CLIENT_FRAME_BYTES_MAX - 4096);
    assert!(GROUP_CHANGE_USERS_MAX * (ID_BYTES_MAX + 3) < CLIENT_FRAME_BYTES_MAX / 4);
    // A message with all that it may hold, beside a full batch.
    assert!(
        CLIENT_FRAME_BYTES_MAX
            + REACTIONS_MAX * (REACTION_BYTES_MAX + ID_BYTES_MAX + 12)
            + BATCH_BYTES_TARGET
            < RELAY_FRAME_BYTES_MAX
    );
    assert!(TOKEN_BYTES_MAX < CLIENT_FRAME_BYTES_MAX / 4);
    assert!(BATCH_BYTES_TARGET + CLIENT_FRAME_BYTES_MAX < RELAY_FRAME_BYTES_MAX);
    assert!(
        LOG_HEADS_MAX * (CONVERSATION_ID_BYTES_MAX + TITLE_BYTES_MAX + ID_BYTES_MAX + 64)
            < RELAY_FRAME_BYTES_MAX
    );
    // A snapshot's frame: each state may carry a last message and its own unread list.
    assert!(OWN_UNREAD_MAX * 10 < BATCH_BYTES_TARGET);
    assert!(WATCH_USERS_MAX * (ID_BYTES_MAX + 48 + PRESENCE_DEVICES_MAX * 32) < RELAY_FRAME_BYTES_MAX);
    assert!(DEVICES_MAX * (ID_BYTES_MAX + AGENT_BYTES_MAX + 32) < RELAY_FRAME_BYTES_MAX);
    assert!(PROFILES_MAX * (ID_BYTES_MAX + 16) < CLIENT_FRAME_BYTES_MAX);
    assert!(
        PROFILES_MAX * (ID_BYTES_MAX + PROFILE_NAME_BYTES_MAX + PROFILE_AVATAR_BYTES_MAX + 48)
            < RELAY_FRAME_BYTES_MAX
    );
    // A profile may be the last entry of a batch.
    assert!(PROFILE_NAME_BYTES_MAX + PROFILE_AVATAR_BYTES_MAX + ID_BYTES_MAX < CLIENT_FRAME_BYTES_MAX);
    assert!(BYE_TICKET_BYTES_MAX + 32 < BEACON_BYTES_MAX);
    assert!(HISTORY_PAGE_MESSAGES_MAX <= BATCH_ENTRIES_MAX);
};
