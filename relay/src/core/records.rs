//! Keys and values in the store, and their meaning: here and nowhere else.
//!
//! A key's strings each end with a zero byte (ids have no control characters), its numbers are eight bytes,
//! highest first: so keys of one user or conversation lie together and in order. Values are Protocol Buffers,
//! which lets a later version add a field. None of them has `Debug`: no content reaches a log (promise R10).
//!
//! | table | key | value |
//! | --- | --- | --- |
//! | meta | `format`, `epoch` | the number in decimal, the epoch |
//! | messages | conversation, seq | `wire::Message` |
//! | changes | conversation, number | [`ChangeRecord`] |
//! | queue | user, last pos | a row of consecutive references ([`super::queue::rows`]) |
//! | overflow | user, last pos | a segment: the same, of the queue's older part |
//! | keys | user, key | [`KeyRecord`] |
//! | groups | conversation | [`GroupRecord`] |
//! | groups | conversation, version | `wire::GroupChange` |
//! | logs | conversation | nothing: the group comes by its log |
//! | members | conversation, user | [`MemberRecord`] |
//! | memberships | user, conversation | [`MembershipRecord`] |
//! | devices | user, device | [`DeviceRecord`] |
//! | users | user | [`UserRecord`] |
//! | profiles | user | `wire::Profile` |
//! | profiles | the empty id, user | nothing: not all who are to be told of the profile are yet |

use bytes::Bytes;
use hongyan_protocol::wire::MessageChangeKind;
use hongyan_protocol::{
    ChangeNumber, ConversationId, DIRECT_MARK, DeviceId, GroupVersion, Key, Pos, Seq, UserId,
};
use prost::Message;

use super::queue::Diffusion;
use crate::store::StoreError;

/// The version of everything this file says. Another number in the store is refused.
pub(crate) const FORMAT: u32 = 3;
/// Where [`FORMAT`] stands.
pub(crate) const META_FORMAT: &[u8] = b"format";
/// Where the store's epoch stands.
pub(crate) const META_EPOCH: &[u8] = b"epoch";

/// What was answered to a user's key.
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub(crate) struct KeyRecord {
    #[prost(string, tag = "1")]
    pub(crate) conversation: String,
    /// Of a send; 0 when the key made a group.
    #[prost(uint64, tag = "2")]
    pub(crate) seq: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) time: u64,
    /// Of a change of the message `seq`; 0 of what is none.
    #[prost(uint64, tag = "4")]
    pub(crate) change: u64,
    /// A change was asked for, and the message `seq` was so already.
    #[prost(bool, tag = "5")]
    pub(crate) unchanged: bool,
    /// The version of the profile that the key made or found so already, 0 of one that was never set. Such a record names
    /// no conversation.
    #[prost(uint64, tag = "6")]
    pub(crate) profile: u64,
    /// Of such a one the key itself: nothing else names it.
    #[prost(string, tag = "7")]
    pub(crate) key: String,
}

impl KeyRecord {
    /// A change of one's profile was asked for.
    pub(crate) fn is_of_profile(&self) -> bool {
        !self.key.is_empty()
    }

    /// A change of a message was asked for.
    pub(crate) fn is_of_change(&self) -> bool {
        self.change > 0 || self.unchanged
    }
}

/// A change of a message, besides what the message is now.
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub(crate) struct ChangeRecord {
    #[prost(uint64, tag = "1")]
    pub(crate) seq: u64,
    #[prost(enumeration = "MessageChangeKind", tag = "2")]
    pub(crate) kind: i32,
    #[prost(string, tag = "3")]
    pub(crate) by: String,
    #[prost(uint64, tag = "4")]
    pub(crate) time: u64,
    /// Of a reaction.
    #[prost(string, tag = "5")]
    pub(crate) reaction: String,
    /// Under which it was asked for.
    #[prost(string, tag = "6")]
    pub(crate) key: String,
}

/// A group. It stays when the last member has left, so that its id is never taken again.
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub(crate) struct GroupRecord {
    #[prost(string, tag = "1")]
    pub(crate) title: String,
    /// Empty when nobody is left.
    #[prost(string, tag = "2")]
    pub(crate) owner: String,
    #[prost(uint64, tag = "3")]
    pub(crate) version: u64,
    /// How many are in it.
    #[prost(uint32, tag = "4")]
    pub(crate) members: u32,
    /// Its messages come by its log.
    #[prost(bool, tag = "5")]
    pub(crate) by_log: bool,
    /// How its messages are to reach its members.
    #[prost(enumeration = "Diffusion", tag = "6")]
    pub(crate) mode: i32,
    /// The newest message by its log that mentions everybody; 0 when none does.
    #[prost(uint64, tag = "7")]
    pub(crate) called_all: u64,
}

/// A member of a group.
#[derive(Clone, Copy, PartialEq, Message)]
#[prost(skip_debug)]
pub(crate) struct MemberRecord {
    /// The group's version that made this user a member: the least is the longest-standing.
    #[prost(uint64, tag = "1")]
    pub(crate) joined: u64,
}

/// A conversation as one user has it.
#[derive(Clone, Copy, PartialEq, Message)]
#[prost(skip_debug)]
pub(crate) struct MembershipRecord {
    #[prost(uint64, tag = "1")]
    pub(crate) read_seq: u64,
    /// The group's version that ended the membership; 0 while it lasts.
    #[prost(uint64, tag = "2")]
    pub(crate) left: u64,
}

/// A device.
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub(crate) struct DeviceRecord {
    #[prost(uint64, tag = "1")]
    pub(crate) cursor: u64,
    #[prost(int32, tag = "2")]
    pub(crate) kind: i32,
    #[prost(string, tag = "3")]
    pub(crate) agent: String,
    /// When it was last known to be there, or its end was known; 0 when nobody knows.
    #[prost(uint64, tag = "4")]
    pub(crate) seen: u64,
    /// When it was signed out from elsewhere; 0 while it is not. Such a record stays, so that the device learns of
    /// it whenever it comes.
    #[prost(uint64, tag = "5")]
    pub(crate) signed_out: u64,
    /// How it ended then, a `wire::PresenceCause`; 0 while it is there, and when the relay itself ended.
    #[prost(int32, tag = "6")]
    pub(crate) ended: i32,
}

/// A user, where a device's record is not the place.
#[derive(Clone, Copy, PartialEq, Message)]
#[prost(skip_debug)]
pub(crate) struct UserRecord {
    /// Shown to nobody as anything but offline.
    #[prost(bool, tag = "1")]
    pub(crate) invisible: bool,
    /// Tokens issued up to then open nothing any more.
    #[prost(uint64, tag = "2")]
    pub(crate) revoked_before: u64,
    /// When `invisible` was last set to what it is.
    #[prost(uint64, tag = "3")]
    pub(crate) invisible_set: u64,
    /// When a device of the user that was since forgotten was last seen …
    #[prost(uint64, tag = "4")]
    pub(crate) seen: u64,
    /// … and how it ended, a `wire::PresenceCause`.
    #[prost(int32, tag = "5")]
    pub(crate) ended: i32,
}

/// Reads a value.
pub(crate) fn decode<M: Message + Default>(bytes: Bytes, what: &str) -> Result<M, StoreError> {
    M::decode(bytes).map_err(|_| StoreError::Damaged(format!("a record of {what} cannot be read")))
}

/// Writes a value.
pub(crate) fn encode(message: &impl Message) -> Bytes {
    message.encode_to_vec().into()
}

pub(crate) fn message_key(conversation: &ConversationId, seq: Seq) -> Bytes {
    numbered(conversation.as_str(), seq.0)
}

pub(crate) fn change_key(conversation: &ConversationId, number: ChangeNumber) -> Bytes {
    numbered(conversation.as_str(), number.0)
}

pub(crate) fn queue_key(user: &UserId, pos: Pos) -> Bytes {
    numbered(user.as_str(), pos.0)
}

pub(crate) fn key_key(user: &UserId, key: &Key) -> Bytes {
    joined(user.as_str(), key.as_str())
}

pub(crate) fn group_key(conversation: &ConversationId) -> Bytes {
    prefix(conversation.as_str())
}

pub(crate) fn group_change_key(conversation: &ConversationId, version: GroupVersion) -> Bytes {
    numbered(conversation.as_str(), version.0)
}

pub(crate) fn member_key(conversation: &ConversationId, user: &UserId) -> Bytes {
    joined(conversation.as_str(), user.as_str())
}

pub(crate) fn membership_key(user: &UserId, conversation: &ConversationId) -> Bytes {
    joined(user.as_str(), conversation.as_str())
}

pub(crate) fn device_key(user: &UserId, device: &DeviceId) -> Bytes {
    joined(user.as_str(), device.as_str())
}

pub(crate) fn user_key(user: &UserId) -> Bytes {
    prefix(user.as_str())
}

pub(crate) fn profile_key(user: &UserId) -> Bytes {
    prefix(user.as_str())
}

/// That a user's profile is still to be told. No user's id is empty, so these lie together, before all profiles.
pub(crate) fn telling_key(user: &UserId) -> Bytes {
    joined("", user.as_str())
}

/// Where a user's direct conversations lie among her memberships: the first key after those up to `after`, and the first
/// after all.
pub(crate) fn directs_range(user: &UserId, after: Option<&ConversationId>) -> (Bytes, Bytes) {
    let beginning =
        |mark: char| [prefix(user.as_str()).as_ref(), &[u8::try_from(mark).unwrap_or(0)]].concat();
    let from = match after {
        // The key ends with a zero byte, and this is the next key there can be.
        Some(id) => [membership_key(user, id).as_ref(), &[0]].concat(),
        None => beginning(DIRECT_MARK),
    };
    let mut to = beginning(DIRECT_MARK);
    if let Some(last) = to.last_mut() {
        *last += 1;
    }
    (from.into(), to.into())
}

/// Where the keys that begin with this id begin.
pub(crate) fn prefix(id: &str) -> Bytes {
    let mut key = Vec::with_capacity(id.len() + 1);
    key.extend_from_slice(id.as_bytes());
    key.push(0);
    key.into()
}

/// The first key after all that begin with this id.
pub(crate) fn prefix_end(id: &str) -> Bytes {
    let mut key = Vec::with_capacity(id.len() + 1);
    key.extend_from_slice(id.as_bytes());
    key.push(1);
    key.into()
}

fn numbered(id: &str, number: u64) -> Bytes {
    let mut key = Vec::with_capacity(id.len() + 9);
    key.extend_from_slice(id.as_bytes());
    key.push(0);
    key.extend_from_slice(&number.to_be_bytes());
    key.into()
}

fn joined(first: &str, second: &str) -> Bytes {
    let mut key = Vec::with_capacity(first.len() + second.len() + 2);
    key.extend_from_slice(first.as_bytes());
    key.push(0);
    key.extend_from_slice(second.as_bytes());
    key.push(0);
    key.into()
}

/// The number at a key's end.
pub(crate) fn number_of(key: &[u8]) -> Result<u64, StoreError> {
    key.last_chunk::<8>()
        .map(|bytes| u64::from_be_bytes(*bytes))
        .ok_or_else(|| StoreError::Damaged("a key has no number".into()))
}

/// The first string of a key.
pub(crate) fn first_of(key: &[u8]) -> Result<&str, StoreError> {
    let first = key.split(|byte| *byte == 0).next().filter(|first| first.len() < key.len());
    first
        .and_then(|first| core::str::from_utf8(first).ok())
        .ok_or_else(|| StoreError::Damaged("a key has no id".into()))
}

/// The second string of a key.
pub(crate) fn second_of(key: &[u8]) -> Result<&str, StoreError> {
    let mut parts = key.split(|byte| *byte == 0);
    parts
        .nth(1)
        .and_then(|part| core::str::from_utf8(part).ok())
        .ok_or_else(|| StoreError::Damaged("a key has no second id".into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn keys_of_one_id_lie_together_and_in_order(
            a in "[^\\p{Cc}]{1,20}", b in "[^\\p{Cc}]{1,20}", m in any::<u64>(), n in any::<u64>(),
        ) {
            let (u, v) = (UserId::new(&a).unwrap(), UserId::new(&b).unwrap());
            let key = queue_key(&u, Pos(m));
            prop_assert_eq!(number_of(&key).unwrap(), m);
            prop_assert_eq!(key.cmp(&queue_key(&u, Pos(n))), m.cmp(&n));
            prop_assert!(prefix(&a) <= key && key < prefix_end(&a));
            if u != v {
                prop_assert!(!(prefix(&b) <= key && key < prefix_end(&b)));
            }
            let c = ConversationId::new(&b).unwrap();
            let key = membership_key(&u, &c);
            prop_assert_eq!(second_of(&key).unwrap(), b.as_str());
        }
    }
}
