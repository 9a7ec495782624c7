//! What goes over the API's wire. The comments here are the descriptions in its document.

use hongyan_protocol::wire::{self, PresenceCause};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::core::queries::{GroupShown, UserPresence};
use crate::core::queue;

/// Why it was not done.
#[derive(Serialize, JsonSchema)]
pub(super) struct Error {
    /// One of a closed list.
    pub(super) code: String,
    /// A sentence for people.
    pub(super) message: String,
}

/// How a user or a device is.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Status {
    Online,
    Away,
    Leaving,
    Offline,
    Unknown,
}

/// Why.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Cause {
    Closed,
    Lost,
    Logout,
    Kicked,
    Background,
    NoChannel,
}

/// What a device is; `unknown` for what a newer client says.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Kind {
    Web,
    Webview,
    Miniprogram,
    Official,
    Android,
    Ios,
    Server,
    Unknown,
}

/// A user: the best of her devices, as she sees herself.
#[derive(Serialize, JsonSchema)]
pub(super) struct Presence {
    user: String,
    status: Status,
    /// Not there while she is online.
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<Cause>,
    /// Since when, in milliseconds since 1970 (UTC); of an offline user, when she was last seen. Not there when
    /// nobody knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<u64>,
    /// When it changes by itself at the latest.
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<u64>,
    /// Others see her as offline; she and the app's own server see the truth.
    invisible: bool,
    /// Those that are not offline, the best first.
    devices: Vec<DevicePresence>,
}

/// One of a user's devices.
#[derive(Serialize, JsonSchema)]
pub(super) struct DevicePresence {
    kind: Kind,
    status: Status,
    /// Not there while it is online.
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<Cause>,
    /// Not there when nobody knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<u64>,
    /// When it changes by itself at the latest.
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<u64>,
}

/// How users are.
#[derive(Serialize, JsonSchema)]
pub(super) struct PresenceList {
    /// One for each user asked for, in that order.
    pub(super) presence: Vec<Presence>,
}

/// A device that is not signed out, connected or not.
#[derive(Serialize, JsonSchema)]
pub(super) struct Device {
    device: String,
    kind: Kind,
    /// What its client calls itself.
    agent: String,
    status: Status,
    /// When it was last seen, in milliseconds since 1970 (UTC). Not there when nobody knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    seen: Option<u64>,
}

/// A user's devices.
#[derive(Serialize, JsonSchema)]
pub(super) struct DeviceList {
    pub(super) user: String,
    /// The best first, of equals the last seen.
    pub(super) devices: Vec<Device>,
}

/// The device is signed out, for good: when it comes again, it empties its cache.
#[derive(Serialize, JsonSchema)]
pub(super) struct SignedOut {
    pub(super) user: String,
    pub(super) device: String,
}

/// Whom to kick.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Kick {
    /// Only this device; all of the user's when it is left out.
    pub(super) device: Option<String>,
}

/// What was ended.
#[derive(Serialize, JsonSchema)]
pub(super) struct Kicked {
    pub(super) user: String,
    /// So many connections.
    pub(super) connections: usize,
}

/// Tokens are revoked.
#[derive(Serialize, JsonSchema)]
pub(super) struct TokensRevoked {
    pub(super) user: String,
    /// Tokens whose `iat` is at or before this are refused, and so are those without one. In milliseconds since 1970
    /// (UTC).
    pub(super) revoked_before: u64,
    /// The least whole number of seconds since 1970 that the `iat` of a new token may be.
    pub(super) iat_min: u64,
}

/// How a group's messages reach its members: `auto` as the relay's configuration says for its size, `copy` with a copy
/// in each member's queue, `reference` with a reference in each member's queue, `log` by the group's log, with nothing
/// written per member.
#[derive(Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Diffusion {
    #[default]
    Auto,
    Copy,
    Reference,
    Log,
}

/// A group that is to be.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewGroup {
    pub(super) title: String,
    /// Who may add and remove; a member herself.
    pub(super) owner: String,
    /// Besides the owner, 1,000 at most; more are added afterwards.
    #[serde(default)]
    pub(super) members: Vec<String>,
    #[serde(default)]
    pub(super) diffusion: Diffusion,
}

/// What of a group is to be another.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct GroupSettings {
    pub(super) diffusion: Diffusion,
}

/// Users, 1,000 at most.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Users {
    pub(super) users: Vec<String>,
}

/// A group as it is now.
#[derive(Serialize, JsonSchema)]
pub(super) struct Group {
    group: String,
    title: String,
    /// Not there when nobody is left.
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<String>,
    members: u32,
    /// Counts its changes.
    version: u64,
    /// The last message's number.
    last_seq: u64,
    /// As it was set.
    diffusion: Diffusion,
    /// Its messages come by its log now.
    by_log: bool,
}

/// Members of a group.
#[derive(Serialize, JsonSchema)]
pub(super) struct MemberPage {
    pub(super) group: String,
    /// Ascending.
    pub(super) members: Vec<String>,
    /// There are more: ask for those after the last one.
    pub(super) more: bool,
}

/// No body is needed.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

impl From<wire::PresenceStatus> for Status {
    fn from(status: wire::PresenceStatus) -> Self {
        match status {
            wire::PresenceStatus::Online => Self::Online,
            wire::PresenceStatus::Away => Self::Away,
            wire::PresenceStatus::Leaving => Self::Leaving,
            wire::PresenceStatus::Offline => Self::Offline,
            wire::PresenceStatus::Unknown | wire::PresenceStatus::Unspecified => Self::Unknown,
        }
    }
}

impl Cause {
    fn of(cause: PresenceCause) -> Option<Self> {
        match cause {
            PresenceCause::Unspecified => None,
            PresenceCause::Closed => Some(Self::Closed),
            PresenceCause::Lost => Some(Self::Lost),
            PresenceCause::Logout => Some(Self::Logout),
            PresenceCause::Kicked => Some(Self::Kicked),
            PresenceCause::Background => Some(Self::Background),
            PresenceCause::NoChannel => Some(Self::NoChannel),
        }
    }
}

impl From<wire::DeviceKind> for Kind {
    fn from(kind: wire::DeviceKind) -> Self {
        match kind {
            wire::DeviceKind::Web => Self::Web,
            wire::DeviceKind::Webview => Self::Webview,
            wire::DeviceKind::Miniprogram => Self::Miniprogram,
            wire::DeviceKind::Official => Self::Official,
            wire::DeviceKind::Android => Self::Android,
            wire::DeviceKind::Ios => Self::Ios,
            wire::DeviceKind::Server => Self::Server,
            wire::DeviceKind::Unspecified => Self::Unknown,
        }
    }
}

impl From<queue::Diffusion> for Diffusion {
    fn from(mode: queue::Diffusion) -> Self {
        match mode {
            queue::Diffusion::Auto => Self::Auto,
            queue::Diffusion::Copy => Self::Copy,
            queue::Diffusion::Reference => Self::Reference,
            queue::Diffusion::Log => Self::Log,
        }
    }
}

impl From<Diffusion> for queue::Diffusion {
    fn from(diffusion: Diffusion) -> Self {
        match diffusion {
            Diffusion::Auto => Self::Auto,
            Diffusion::Copy => Self::Copy,
            Diffusion::Reference => Self::Reference,
            Diffusion::Log => Self::Log,
        }
    }
}

impl From<GroupShown> for Group {
    fn from(group: GroupShown) -> Self {
        Self {
            group: group.id.as_str().to_owned(),
            title: group.title,
            owner: group.owner.map(|owner| owner.as_str().to_owned()),
            members: group.members,
            version: group.version.0,
            last_seq: group.last.0,
            diffusion: group.mode.into(),
            by_log: group.by_log,
        }
    }
}

/// A time on the wire; 0 stands for none.
fn known(time: u64) -> Option<u64> {
    (time > 0).then_some(time)
}

impl From<UserPresence> for Presence {
    fn from(UserPresence { presence, invisible }: UserPresence) -> Self {
        Self {
            invisible,
            status: presence.status().into(),
            cause: Cause::of(presence.cause()),
            since: known(presence.since),
            until: known(presence.until),
            user: presence.user,
            devices: presence.devices.iter().map(DevicePresence::from).collect(),
        }
    }
}

impl From<&wire::DevicePresence> for DevicePresence {
    fn from(device: &wire::DevicePresence) -> Self {
        Self {
            kind: device.kind().into(),
            status: device.status().into(),
            cause: Cause::of(device.cause()),
            since: known(device.since),
            until: known(device.until),
        }
    }
}

impl From<wire::Device> for Device {
    fn from(device: wire::Device) -> Self {
        Self {
            kind: device.kind().into(),
            status: device.status().into(),
            seen: known(device.seen),
            device: device.device,
            agent: device.agent,
        }
    }
}
