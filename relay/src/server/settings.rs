//! What the relay runs with, and the one table of its keys.
//!
//! *How to add a key:* a field here and a row in [`KEYS`]; files, environment, checks and `config docs` follow.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::addresses::Network;
use super::origin::AllowedOrigin;
use super::values::{NamedKey, NoneOrAddress, Setting};
use crate::core::CoreConfig;

/// What the relay runs with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The folder of its data.
    pub data: PathBuf,
    /// What is logged, as in `info,hyper=warn`.
    pub log: String,
    /// Origins of pages that may connect, besides those from the relay's own host.
    pub allowed_origins: Vec<AllowedOrigin>,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<Network>,
    /// Who may sign tokens.
    pub tokens: TokenSettings,
    /// What opens the API for the app's own servers; without any there is none.
    pub api_keys: Vec<NamedKey>,
    /// Where metrics are given, if anywhere.
    pub metrics_listen: NoneOrAddress,
    /// WebSockets from one address at most.
    pub connections_per_address_max: usize,
    /// WebSockets that one address opens per second, sustained …
    pub opens_per_address_per_second: u32,
    /// … and at once.
    pub opens_per_address_burst: u32,
    /// A request's head must have come by then; an idle HTTP connection is kept as long.
    pub head_ms: u64,
    /// When it stops, clients are told to come back within this time, each at another moment …
    pub drain_spread_ms: u64,
    /// … and it waits so long for them to leave by themselves.
    pub drain_wait_ms: u64,
    /// The core's settings.
    pub core: CoreConfig,
}

/// Who may sign tokens.
#[derive(Clone, Debug, Default)]
pub struct TokenSettings {
    /// The `aud` that tokens must have; empty for none.
    pub audience: String,
    /// Shared secrets by key id; the first signs what `hongyan-relay token` prints.
    pub hs256: Vec<NamedKey>,
    /// Public keys by key id.
    pub eddsa: Vec<NamedKey>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8787)),
            data: PathBuf::from("./data"),
            log: "info".into(),
            allowed_origins: Vec::new(),
            trusted_proxies: Vec::new(),
            tokens: TokenSettings::default(),
            api_keys: Vec::new(),
            metrics_listen: NoneOrAddress::default(),
            connections_per_address_max: 1_000,
            opens_per_address_per_second: 200,
            opens_per_address_burst: 2_000,
            head_ms: 10_000,
            drain_spread_ms: 5_000,
            drain_wait_ms: 5_000,
            core: CoreConfig::default(),
        }
    }
}

impl Settings {
    /// See [`Settings::drain_spread_ms`].
    #[must_use]
    pub fn drain_spread(&self) -> Duration {
        Duration::from_millis(self.drain_spread_ms)
    }

    /// See [`Settings::drain_wait_ms`].
    #[must_use]
    pub fn drain_wait(&self) -> Duration {
        Duration::from_millis(self.drain_wait_ms)
    }
}

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A string.
    Text,
    /// A whole number within these bounds.
    Count(u64, u64),
    /// A list of strings; in the environment with commas between.
    List,
    /// A list of `key-id:secret`, shown without the secrets.
    Secrets,
}

/// One key.
pub struct Key {
    /// As in the file, with the section before the dot.
    pub name: &'static str,
    /// What a value is.
    pub kind: Kind,
    /// A sentence for people.
    pub doc: &'static str,
    /// Where its value lives.
    pub(super) place: fn(&mut Settings) -> &mut dyn Setting,
}

impl Key {
    /// The name of its environment variable.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("HONGYAN_{}", self.name.replace('.', "_").to_uppercase())
    }

    /// Its value, as one would write it in the file.
    #[must_use]
    pub fn value(&self, settings: &Settings) -> String {
        (self.place)(&mut settings.clone()).show()
    }
}

macro_rules! keys {
    ($($name:literal, $kind:expr, $($place:ident).+, $doc:literal;)*) => {
        /// All keys, in the order in which they are documented.
        pub const KEYS: &[Key] = &[$(Key {
            name: $name,
            kind: $kind,
            doc: $doc,
            place: |settings| &mut settings.$($place).+,
        }),*];
    };
}

use Kind::{Count, List, Secrets, Text};

/// An hour, for bounds of times.
const HOUR_MS: u64 = 3_600_000;
/// A day.
const DAY_MS: u64 = 24 * HOUR_MS;

keys! {
    "listen", Text, listen,
        "The address and port to listen on. Put a proxy that ends TLS in front before you make it public.";
    "data", Text, data,
        "The folder of the data. One relay at a time may use it.";
    "log", Text, log,
        "What is logged, from `error` to `trace`, or per part as in `info,hongyan_relay=debug`.";
    "allowed_origins", List, allowed_origins,
        "Origins of web pages that may connect, such as `https://app.example.com`. Pages from the relay's own host \
         may always; programs that send no Origin may too, since the token is what opens. `*` allows every page.";
    "trusted_proxies", List, trusted_proxies,
        "Addresses or networks (`10.0.0.0/8`) of proxies whose X-Forwarded-For header names the client.";

    "tokens.audience", Text, tokens.audience,
        "The `aud` that tokens must have. When empty, a token must have none.";
    "tokens.hs256", Secrets, tokens.hs256,
        "Secrets for HS256, each as `key-id:secret`, at least 32 bytes of chance. The first one signs; the others are \
         still accepted, so that a secret can be replaced without signing anybody out.";
    "tokens.eddsa", List, tokens.eddsa,
        "Ed25519 public keys for EdDSA, each as `key-id:key`, the key as PEM or its 32 bytes in base64.";
    "tokens.leeway_ms", Count(0, HOUR_MS), core.token_leeway_ms,
        "Clock skew that is forgiven when a token has expired or is not valid yet.";

    "api.keys", Secrets, api_keys,
        "Secrets for the API of the app's own servers (`/api/v1`), each as `key-id:secret`, at least 32 bytes of \
         chance, sent as `Authorization: Bearer SECRET`. Without any there is no API.";

    "devices.web_max", Count(0, 1_000), core.devices_max.web,
        "Browsers that one user may have connected at once; when one more comes, the one connected the longest is \
         ended and does not come back by itself. 0 for any number, 1 for one at a time; so with the others.";
    "devices.webview_max", Count(0, 1_000), core.devices_max.webview,
        "WebViews of apps.";
    "devices.miniprogram_max", Count(0, 1_000), core.devices_max.miniprogram,
        "Mini-programs.";
    "devices.official_max", Count(0, 1_000), core.devices_max.official,
        "Official-account channels.";
    "devices.android_max", Count(0, 1_000), core.devices_max.android,
        "Android apps.";
    "devices.ios_max", Count(0, 1_000), core.devices_max.ios,
        "iOS apps.";
    "devices.server_max", Count(0, 1_000), core.devices_max.server,
        "Bots and other servers.";

    "metrics.listen", Text, metrics_listen,
        "The address and port for `/metrics` (Prometheus). Everybody who reaches it may read it, so it is to be an \
         internal one. When empty, there are no metrics.";

    "queue.capacity", Count(1, 100_000), core.queue.capacity,
        "The newest entries of a user's queue, which are always kept at hand. A new device gets more than these as a \
         list of conversations rather than one by one.";
    "queue.retention_ms", Count(60_000, 3_650 * DAY_MS), core.queue.retention_ms,
        "What an absent device has not got is kept for so long; then it is told that there was a gap.";
    "queue.retention_entries_max", Count(1_000, 1 << 40), core.queue.retention_entries_max,
        "Entries that are kept of one user's queue.";
    "queue.retention_bytes_max", Count(64 * 1024, 1 << 40), core.queue.retention_bytes_max,
        "Bytes that are kept of one user's queue.";
    "queue.device_expiry_ms", Count(60_000, 3_650 * DAY_MS), core.queue.device_expiry_ms,
        "For a device that was not there for so long nothing is kept any more.";
    "queue.sweep_interval_ms", Count(1_000, DAY_MS), core.queue.sweep_interval_ms,
        "So often all queues are looked at for what need not be kept.";

    "diffusion.mode", Text, core.diffusion.mode,
        "How a message reaches its members: by a `copy` or a `reference` in each one's queue, of a group also by its \
         `log`; or `auto`, which chooses by the keys below. It may be changed at any start, and for a single group by \
         the API.";
    "diffusion.copy_members_max", Count(0, hongyan_protocol::limits::GROUP_MEMBERS_MAX as u64), core.diffusion.copy_members_max,
        "Members of a conversation whose messages are copied.";
    "diffusion.copy_bytes_max", Count(0, hongyan_protocol::limits::CONTENT_BYTES_MAX as u64), core.diffusion.copy_bytes_max,
        "Bytes of a message that is copied.";
    "diffusion.log_members", Count(2, hongyan_protocol::limits::HELD_MEMBERS_MAX as u64), core.diffusion.log_members,
        "A group with more members than this comes by its log: a message is stored once and nothing is written per \
         member; with half as many it comes by their queues again. `npm run bench` shows what each costs.";

    "limits.content_bytes_max", Count(1, hongyan_protocol::limits::CONTENT_BYTES_MAX as u64), core.content_bytes_max,
        "Bytes of one message's content.";
    "limits.sends_per_second", Count(1, 1_000_000), core.sends_per_second,
        "Sends per second that a user may make, sustained, over all devices.";
    "limits.sends_burst", Count(1, 1_000_000), core.sends_burst,
        "Sends that a user may make at once.";
    "limits.requests_per_second", Count(1, 1_000_000), core.requests_per_second,
        "Other requests per second that a user may make, sustained.";
    "limits.requests_burst", Count(1, 1_000_000), core.requests_burst,
        "Other requests that a user may make at once.";
    "limits.group_members_max", Count(1, hongyan_protocol::limits::GROUP_MEMBERS_MAX as u64), core.group_members_max,
        "Members of one group.";
    "limits.change_within_ms", Count(0, 1 << 50), core.change_within_ms,
        "For so long after it was sent, its sender may edit and recall a message; a group's owner may always recall.";
    "limits.connections_max", Count(1, 10_000_000), core.connections_max,
        "Open connections in all.";
    "limits.connections_per_user_max", Count(1, 1_000_000), core.connections_per_user_max,
        "Open connections of one user.";
    "limits.connections_per_address_max", Count(1, 10_000_000), connections_per_address_max,
        "Open connections from one address (of IPv6: from one /64 network).";
    "limits.opens_per_address_per_second", Count(1, 1_000_000), opens_per_address_per_second,
        "Connections per second that one address opens, sustained; who comes faster waits, and is then told to come \
         later.";
    "limits.opens_per_address_burst", Count(1, 1_000_000), opens_per_address_burst,
        "Connections that one address opens at once: all who are behind it come back together after a restart.";
    "limits.outgoing_bytes_target", Count(4_096, 1 << 30), core.outgoing_bytes_target,
        "Bytes that wait for one connection before its queue's stream pauses.";
    "limits.outgoing_bytes_max", Count(1 << 20, 1 << 32), core.outgoing_bytes_max,
        "Bytes that wait for one connection before it is closed as a slow reader.";
    "limits.uncommitted_bytes_max", Count(1 << 20, 1 << 36), core.uncommitted_bytes_max,
        "Bytes that wait for the disk before sends are refused as busy.";

    "presence.watch", Text, core.watch,
        "Who may watch whose presence: `members` (users of one direct conversation that has a message, or of one \
         group), `everyone`, or `nobody`.";
    "presence.lost_hold_ms", Count(0, 10_000), core.lost_hold_ms,
        "A device whose connection broke is shown as before for so long: a reload or a change of network brings it \
         back in this time.";
    "presence.background_lease_ms", Count(1_000, 24 * HOUR_MS), core.background_lease_ms,
        "A mini-program that was hidden is shown as away for so long after its connection ended; after that nobody \
         knows, and nobody guesses.";
    "presence.recovery_ms", Count(0, 25_000), core.recovery_ms,
        "After the relay's start nobody is called offline for so long, since devices come back. It should be more than \
         `timers.drain_spread_ms`, and 30 s at most together with it.";

    "profiles.visible_to", Text, core.profiles,
        "Who may ask for whose name and picture: `members` (users of one direct conversation that has a message, or of \
         one group), `everyone`, or `nobody`. Who has a direct conversation with a user is told of hers in any case.";

    "timers.head_ms", Count(100, HOUR_MS), head_ms,
        "An HTTP request's head must have come by then; an idle HTTP connection is kept as long.";
    "timers.hello_ms", Count(100, HOUR_MS), core.hello_ms,
        "From the open socket to the client's hello.";
    "timers.ping_interval_ms", Count(100, HOUR_MS), core.ping_interval_ms,
        "An idle connection is pinged so often.";
    "timers.silence_ms", Count(200, HOUR_MS), core.silence_ms,
        "A connection from which nothing is heard for so long is ended.";
    "timers.stalled_ms", Count(100, HOUR_MS), core.stalled_ms,
        "A connection that takes nothing for so long, while something is due to it, is a slow reader.";
    "timers.drain_spread_ms", Count(0, HOUR_MS), drain_spread_ms,
        "When the relay stops, its clients are told to come back within this time, each at another moment.";
    "timers.drain_wait_ms", Count(0, HOUR_MS), drain_wait_ms,
        "When the relay stops, it waits so long for its clients to leave by themselves.";
}
