//! What JavaScript sees: plain data. TypeScript's declarations are made from these structs.

use serde::Serialize;
use tsify::Tsify;

/// Why something failed, and what to do about it.
#[derive(Serialize, Tsify)]
#[serde(rename_all = "camelCase")]
pub struct ErrorInfo {
    /// What happened.
    #[tsify(type = "ErrorCode")]
    pub code: &'static str,
    /// `'retry'`: may succeed later; `'reconnect'`: may succeed on a new connection; `'stop'`: never will.
    #[tsify(type = "'retry' | 'reconnect' | 'stop'")]
    pub class: &'static str,
    /// A sentence for people.
    pub message: String,
}

/// One entry of a conversation's log, or one on its way there.
#[derive(Serialize, Tsify)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    /// The conversation's id.
    pub conversation: String,
    /// The number in the log: 1, 2, 3 … without a gap; 0 until it is sent.
    pub seq: u64,
    /// The sender's idempotency key; unique together with `from`.
    pub key: String,
    /// Who wrote it.
    pub from: String,
    /// Milliseconds since 1970 by the relay's clock (while sending, by this device's). Order is by `seq`.
    pub time: u64,
    /// What was written.
    #[tsify(type = "Body")]
    pub body: Body,
    /// Where it is.
    #[tsify(type = "'sending' | 'sent' | 'failed'")]
    pub status: &'static str,
    /// The `seq` of the message that this one answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[tsify(optional)]
    pub reply_to: Option<u64>,
    /// Users that it calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[tsify(optional)]
    pub mentions: Option<Vec<String>>,
    /// When its body was last edited; milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[tsify(optional)]
    pub edited: Option<u64>,
    /// When it was recalled: its body, mentions and reactions are gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[tsify(optional)]
    pub recalled: Option<u64>,
    /// Who reacts to it, and how; by first use.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[tsify(optional)]
    pub reactions: Option<Vec<Reaction>>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[tsify(optional)]
    pub error: Option<ErrorInfo>,
}

/// How some react to a message.
#[derive(Serialize, Tsify)]
#[serde(rename_all = "camelCase")]
pub struct Reaction {
    /// An emoji, or a word of the app's own.
    pub reaction: String,
    /// Who reacts so, by first use; never empty.
    pub users: Vec<String>,
}

/// A change of a message.
#[derive(Serialize, Tsify)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// What happened.
    #[tsify(type = "'edited' | 'recalled' | 'reacted' | 'unreacted'")]
    pub kind: &'static str,
    /// Who did it.
    pub by: String,
    /// Milliseconds since 1970, by the relay's clock.
    pub time: u64,
    /// Of a reaction.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[tsify(optional)]
    pub reaction: Option<String>,
    /// The message as it is now; later changes may be in it already.
    pub message: Message,
}

/// A message's body; its TypeScript is in `exports`.
#[derive(Serialize)]
#[serde(untagged)]
pub enum Body {
    /// With members of the app's own.
    Own(Json),
    /// Without.
    Plain {
        /// What it is.
        #[serde(skip_serializing_if = "Option::is_none")]
        kind: Option<String>,
        /// What it says.
        #[serde(skip_serializing_if = "Option::is_none")]
        text: Option<String>,
    },
}

/// An object, as JSON.
#[derive(Serialize)]
#[serde(rename = "JSON")]
pub struct Json(pub String);

/// What was not told one by one; its TypeScript is in the layer above.
#[derive(Default, Serialize)]
pub struct Gap {
    /// Of which conversation; of everything when absent, as the others are then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conversation: Option<String>,
    /// The last message before it that was told; absent as well when only changes were not told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// The first that is told again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
}

/// What a group is besides its messages.
#[derive(Serialize, Tsify)]
#[serde(rename_all = "camelCase")]
pub struct Group {
    /// Its title.
    pub title: String,
    /// Who may add and remove members, rename it, and take back what anybody wrote there.
    pub owner: String,
    /// How many are in it.
    pub member_count: u32,
    /// Counts its changes.
    pub version: u64,
}

/// A line of the conversation list.
#[derive(Serialize, Tsify)]
#[serde(rename_all = "camelCase")]
pub struct Conversation {
    /// Its id.
    pub id: String,
    /// Between two, or in a group.
    #[tsify(type = "'direct' | 'group'")]
    pub kind: &'static str,
    /// The peer's id or the group's title.
    pub title: String,
    /// The other user of a direct conversation.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[tsify(optional)]
    pub peer: Option<String>,
    /// A group's properties.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[tsify(optional)]
    pub group: Option<Group>,
    /// The newest message, one that is being sent included.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[tsify(optional)]
    pub last: Option<Message>,
    /// Messages of others above the read mark.
    pub unread: u64,
    /// The newest unread message that mentions the user, or everybody (`*`). Absent also when that one was recalled, although
    /// an older one may mention her.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[tsify(optional)]
    pub mentioned: Option<u64>,
    /// The user's read mark.
    pub read_seq: u64,
    /// The log's head as far as it is known here.
    pub last_seq: u64,
    /// The user is no member any more.
    pub left: bool,
    /// Sorts the list, newest first; milliseconds since 1970.
    pub time: u64,
}

/// The connection and the cache.
#[derive(Serialize, Tsify)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// The connection.
    #[tsify(type = "'connecting' | 'online' | 'offline' | 'stopped'")]
    pub status: &'static str,
    /// Why it is offline or stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[tsify(optional)]
    pub reason: Option<ErrorInfo>,
    /// When the next try is due; milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[tsify(optional)]
    pub retry_at: Option<u64>,
    /// Where the cache is. `'memory'`: it is gone with the page.
    #[tsify(type = "'indexeddb' | 'host' | 'memory'")]
    pub storage: &'static str,
    /// This page holds the connection.
    pub leader: bool,
    /// What was written while this device was away has arrived.
    pub caught_up: bool,
    /// This user is shown to nobody.
    pub invisible: bool,
}

/// How a device of a user is.
#[derive(Serialize, Tsify)]
#[serde(rename_all = "camelCase")]
pub struct DevicePresence {
    /// What it is.
    #[tsify(type = "DeviceKind")]
    pub kind: &'static str,
    /// How it is.
    #[tsify(type = "PresenceStatus")]
    pub status: &'static str,
    /// Why; absent while it is online.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[tsify(optional, type = "PresenceCause")]
    pub cause: Option<&'static str>,
    /// Since when; milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[tsify(optional)]
    pub since: Option<u64>,
    /// When it changes by itself at the latest.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[tsify(optional)]
    pub until: Option<u64>,
}

/// How a user is: the best of her devices.
#[derive(Serialize, Tsify)]
#[serde(rename_all = "camelCase")]
pub struct Presence {
    /// Who.
    pub user: String,
    /// How she is.
    #[tsify(type = "PresenceStatus")]
    pub status: &'static str,
    /// Why; absent while she is online.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[tsify(optional, type = "PresenceCause")]
    pub cause: Option<&'static str>,
    /// Since when, milliseconds since 1970; of one who is offline, when she was last seen. Absent when nobody knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[tsify(optional)]
    pub since: Option<u64>,
    /// When it changes by itself at the latest.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[tsify(optional)]
    pub until: Option<u64>,
    /// Her devices that are not offline.
    pub devices: Vec<DevicePresence>,
}

/// Somebody writes something, or stopped.
#[derive(Serialize, Tsify)]
#[serde(rename_all = "camelCase")]
pub struct Typing {
    /// Where.
    pub conversation: String,
    /// Who.
    pub user: String,
    /// Writes, or not any more.
    pub typing: bool,
}

/// What a user shows of herself.
#[derive(Serialize, Tsify)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    /// Who.
    pub user: String,
    /// Her name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[tsify(optional)]
    pub name: Option<String>,
    /// Where her picture is: a URL. Whoever sets it chooses it, so check it before you load it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[tsify(optional)]
    pub avatar: Option<String>,
    /// Counts its changes; 0 when there is none, or none that this user may see.
    pub version: u64,
    /// When it was changed last; milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[tsify(optional)]
    pub time: Option<u64>,
}

/// One of one's own devices.
#[derive(Serialize, Tsify)]
#[serde(rename_all = "camelCase")]
pub struct Device {
    /// Its id.
    pub device: String,
    /// What it is.
    #[tsify(type = "DeviceKind")]
    pub kind: &'static str,
    /// The program that runs there.
    pub agent: String,
    /// How it is.
    #[tsify(type = "PresenceStatus")]
    pub status: &'static str,
    /// When it was last seen; milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[tsify(optional)]
    pub seen: Option<u64>,
}

/// A change of a group's membership or title.
#[derive(Serialize, Tsify)]
#[serde(rename_all = "camelCase")]
pub struct GroupUpdate {
    /// The group's conversation id.
    pub conversation: String,
    /// What happened.
    #[tsify(type = "'created' | 'added' | 'removed' | 'left' | 'renamed'")]
    pub kind: &'static str,
    /// Who did it.
    pub by: String,
    /// Whom it concerns.
    pub users: Vec<String>,
    /// The group afterwards.
    pub group: Group,
    /// Milliseconds since 1970.
    pub time: u64,
}

/// A member of a group.
#[derive(Serialize, Tsify)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// Who.
    pub user: String,
    /// The owner may do what the others may not (see `Group`).
    #[tsify(type = "'owner' | 'member'")]
    pub role: &'static str,
}

/// Members of a group, by user id.
#[derive(Serialize, Tsify)]
#[serde(rename_all = "camelCase")]
pub struct MemberPage {
    /// The members.
    pub members: Vec<Member>,
    /// There are more; ask again with `after`, the last one's id.
    pub more: bool,
}
