//! Ends of sessions: people sign out their other devices, the app's server signs out, kicks and revokes tokens, and in
//! some worlds only so many devices of a kind may be connected; and the checker that holds every end against who asked
//! for it and what is durable.
//!
//! | file | subject |
//! | --- | --- |
//! | `people.rs` | who ends whose session, the app's server, and users who begin anew |
//! | `told.rs` | what the relay does about it: whom it lets in, whom it ends and refuses, and what it answers |
//! | `heard.rs` | what devices do about it: they stop, and one that is signed out is empty |

mod heard;
mod people;
mod told;

use std::collections::{BTreeMap, BTreeSet};

use hongyan_protocol::wire::DeviceKind;
use hongyan_protocol::{Code, DeviceId, UserId};
use hongyan_relay::core::queries::QueryId;
use hongyan_relay::core::{ConnectionId, CoreConfig, DevicesMax};

use crate::chance::Chance;

/// What is decided of ends before anything happens.
pub(crate) struct EndsShape {
    /// A step brings one so many times in a hundred.
    often: u64,
    devices_max: DevicesMax,
}

impl EndsShape {
    /// Half of the worlds have some.
    pub(crate) fn of(seed: u64) -> Option<Self> {
        let mut chance = Chance::new(seed, 6);
        chance.percent(50).then(|| {
            let most: &[(u64, usize)] = &[(3, 0), (1, 1), (1, 2)];
            let (web, android, miniprogram) =
                (chance.weighted(most), chance.weighted(most), chance.weighted(most));
            Self {
                often: *chance.pick(&[4, 10, 25]),
                devices_max: DevicesMax { web, android, miniprogram, ..DevicesMax::default() },
            }
        })
    }

    pub(crate) fn configure(&self, config: &mut CoreConfig) {
        config.devices_max = self.devices_max;
    }
}

/// How many devices of a kind a user may have connected; `None` for any number.
fn devices_max(config: &CoreConfig, kind: i32) -> Option<usize> {
    let max = match DeviceKind::try_from(kind) {
        Ok(DeviceKind::Web) => config.devices_max.web,
        Ok(DeviceKind::Android) => config.devices_max.android,
        Ok(DeviceKind::Miniprogram) => config.devices_max.miniprogram,
        _ => 0,
    };
    (max > 0).then_some(max)
}

/// The relay ends a session with one of these: its device does not come back by itself.
pub(crate) const ENDS: [Code; 4] = [Code::LOGGED_OUT, Code::SUPERSEDED, Code::TOKEN_REVOKED, Code::KICKED];

/// What the app's server wants.
#[derive(Clone)]
enum Wanted {
    SignOut(UserId, DeviceId),
    Kick(UserId, Option<DeviceId>),
    Revoke(UserId),
}

/// A session as the relay has it.
#[derive(Clone, Default)]
struct Standing {
    user: String,
    device: String,
    kind: i32,
    /// When its token was issued; 0 when that does not say.
    issued: u64,
    /// When it was welcomed, by the relay's clock.
    since: u64,
    /// It logs out.
    leaving: bool,
}

/// What the present input of the relay is, as far as it may end a session.
#[derive(Default)]
enum Cause {
    #[default]
    Other,
    /// A hello, and the connections of other devices that have to go for it.
    Hello(ConnectionId, Standing, BTreeSet<ConnectionId>),
    /// A token that was issued then.
    Renew(ConnectionId, u64),
    /// Of this user, or of this device of hers; the relay must end so many connections.
    Kick(String, Option<String>, usize),
}

/// Ends in a world.
#[derive(Default)]
pub(crate) struct Ends {
    /// What the app's server asked, and has no answer to.
    orders: BTreeMap<QueryId, Wanted>,
    /// The app's server gives each user tokens that were issued then or later.
    issued_min: BTreeMap<String, u64>,
    /// The relay's sessions.
    sessions: BTreeMap<ConnectionId, Standing>,
    cause: Cause,
    /// The hello of the present input was taken.
    is_welcomed: bool,
    /// Other devices that had to go within the present input.
    superseded: BTreeSet<ConnectionId>,
    /// Devices that are signed out, and up to when tokens are revoked, as the relay knows it to be durable.
    signed_out: BTreeSet<(String, String)>,
    revoked: BTreeMap<String, u64>,
    /// Those that somebody was told of, in this epoch.
    told_signed_out: BTreeSet<(String, String)>,
    told_revoked: BTreeMap<String, u64>,
    /// Devices that the commit under way signs out.
    signing_out: Vec<(String, String)>,
    /// It signs out a device or revokes tokens.
    is_committing: bool,
}

impl Ends {
    /// Nobody waits for an answer.
    pub(crate) fn is_quiet(&self) -> bool {
        self.orders.is_empty()
    }
}
