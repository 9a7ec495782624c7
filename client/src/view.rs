//! What the application sees: plain data, the same in every host.

use hongyan_protocol::wire::{Content, DeviceKind};
use hongyan_protocol::{ConversationId, ConversationKind, DeviceId, GroupVersion, Key, Seq, Time, UserId};

use crate::io::{ChatError, Moment, Storage};

/// Where a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// In the outbox.
    Sending,
    /// In the log.
    Sent,
    /// Refused for good; it stays in the outbox until it is tried again or discarded.
    Failed,
}

/// A message.
#[derive(Clone, PartialEq)]
pub struct Message {
    /// Where.
    pub conversation: ConversationId,
    /// Its number in the log; `None` until it is sent.
    pub seq: Option<Seq>,
    /// The sender's key; unique with `from`.
    pub key: Key,
    /// Who wrote it.
    pub from: UserId,
    /// When the relay accepted it; while sending, when it was written here.
    pub time: Time,
    /// What.
    pub content: Content,
    /// Which message it answers.
    pub reply_to: Option<Seq>,
    /// Whom it calls.
    pub mentions: Vec<UserId>,
    /// Where it is.
    pub status: Status,
    /// When its content was last edited.
    pub edited: Option<Time>,
    /// When it was recalled: its content, mentions and reactions are gone.
    pub recalled: Option<Time>,
    /// By first use.
    pub reactions: Vec<Reaction>,
}

/// How some react to a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reaction {
    /// An emoji, or a word of the app's own.
    pub reaction: String,
    /// Who reacts so, by first use.
    pub users: Vec<UserId>,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// Its sender wrote it anew.
    Edited,
    /// It is gone but for who sent it and when.
    Recalled,
    /// A member reacts to it.
    Reacted,
    /// A member does not react so any more.
    Unreacted,
}

/// A line of the conversation list.
#[derive(Clone, PartialEq)]
pub struct Conversation {
    /// Its id.
    pub id: ConversationId,
    /// Direct or group.
    pub kind: ConversationKind,
    /// The other user of a direct one.
    pub peer: Option<UserId>,
    /// A group's properties.
    pub group: Option<Group>,
    /// The newest message, the outbox included.
    pub last: Option<Message>,
    /// Messages of others with seq > `read_seq`: derived, never counted up.
    pub unread: u64,
    /// The newest unread message that mentions the user. When that one is recalled it is none, although an older one may.
    pub mentioned: Option<Seq>,
    /// The user's read mark.
    pub read_seq: Seq,
    /// The log's head as far as it is known here.
    pub last_seq: Seq,
    /// The user is not in it any more: it can be read from the cache, not written.
    pub left: bool,
    /// Sorts the list: the newest message's time, or the last change of the group.
    pub time: Time,
}

/// What a group is besides its messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its title.
    pub title: String,
    /// Who may add and remove members, rename it, and take back what anybody wrote there.
    pub owner: UserId,
    /// How many are in it.
    pub member_count: u32,
    /// Counts its changes.
    pub version: GroupVersion,
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Who.
    pub user: UserId,
    /// Whether she owns the group (see [`Group::owner`]).
    pub owner: bool,
}

/// What became of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupUpdateKind {
    /// It was made.
    Created,
    /// Users joined.
    Added,
    /// Users were removed.
    Removed,
    /// A user left.
    Left,
    /// It has another title.
    Renamed,
}

/// A change of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupUpdate {
    /// Which group.
    pub conversation: ConversationId,
    /// What happened.
    pub kind: GroupUpdateKind,
    /// Who did it.
    pub by: UserId,
    /// Whom it concerns.
    pub users: Vec<UserId>,
    /// The group afterwards.
    pub group: Group,
    /// When.
    pub time: Time,
}

/// How a user or a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PresenceStatus {
    /// There, and looking.
    Online,
    /// There, but hidden or in the background.
    Away,
    /// Said goodbye, and may come back until the deadline.
    Leaving,
    /// Gone.
    Offline,
    /// Nobody can know: never a guess.
    Unknown,
}

/// Why she is so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PresenceCause {
    /// It said goodbye.
    Closed,
    /// Its connection ended, or was silent for too long.
    Lost,
    /// It logged out.
    Logout,
    /// It was signed out by another device, by the policy or by the app's server.
    Kicked,
    /// It is hidden or in the background.
    Background,
    /// There is no channel on which the truth could come.
    NoChannel,
}

/// A user as others see her: the best of her devices.
#[derive(Clone, PartialEq, Eq)]
pub struct Presence {
    /// Who.
    pub user: UserId,
    /// How.
    pub status: PresenceStatus,
    /// Why; `None` while she is online.
    pub cause: Option<PresenceCause>,
    /// Since when; of an offline user, when she was last seen. `None` when nobody knows.
    pub since: Option<Time>,
    /// When it changes by itself at the latest.
    pub until: Option<Time>,
    /// Those of her devices that are not offline.
    pub devices: Vec<DevicePresence>,
    /// She may not be watched from here: the status is unknown.
    pub refused: bool,
}

/// One device of a user as others see it.
#[derive(Clone, PartialEq, Eq)]
pub struct DevicePresence {
    /// What it is.
    pub kind: DeviceKind,
    /// How.
    pub status: PresenceStatus,
    /// Why; `None` while it is online.
    pub cause: Option<PresenceCause>,
    /// Since when; `None` when nobody knows.
    pub since: Option<Time>,
    /// When it changes by itself at the latest.
    pub until: Option<Time>,
}

/// One of the user's own devices.
#[derive(Clone, PartialEq, Eq)]
pub struct Device {
    /// Its id.
    pub device: DeviceId,
    /// What it is.
    pub kind: DeviceKind,
    /// Program and version.
    pub agent: String,
    /// How it is.
    pub status: PresenceStatus,
    /// When it was last seen; `None` when nobody knows.
    pub seen: Option<Time>,
}

/// What a user shows of herself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Who.
    pub user: UserId,
    /// Her name.
    pub name: Option<String>,
    /// Where her picture is: a URL.
    pub avatar: Option<String>,
    /// Counts the changes of it; 0 when there is none, or none that may be seen.
    pub version: u64,
    /// When it was changed last, by the relay's clock.
    pub time: Option<Time>,
}

/// The connection as a person understands it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionStatus {
    /// On the way: asking for a token, dialling or saying hello.
    Connecting,
    /// The relay said welcome.
    Online,
    /// Waiting for the next try, for the network, or for the page to be looked at.
    Offline,
    /// For good: closed, logged out, or refused with a code of class stop.
    Stopped,
}

/// Connection and storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// The connection.
    pub status: SessionStatus,
    /// Why it is offline or stopped.
    pub reason: Option<ChatError>,
    /// When the next try is due.
    pub retry_at: Option<Moment>,
    /// Where the cache lives.
    pub storage: Storage,
    /// The queue is applied up to what the relay's welcome named: nothing older is outstanding.
    pub caught_up: bool,
    /// The user is shown to nobody, as the relay told last.
    pub invisible: bool,
}
