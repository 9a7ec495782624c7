//! Who is there: leases, what others see of a user, and who watches it.
//!
//! A lease says that a connection stands for a device, or for one of its tabs. A device is as the best of its leases,
//! a user as the best of her devices, and whoever watches is told of each change. All of it is of the moment: it is in
//! memory only, and of who is not there the store keeps when she was last seen.
//!
//! | file | subject |
//! | --- | --- |
//! | `state.rs` | what is shown, and what is better than what |
//! | `lease.rs` | one lease, from hello to its end |
//! | `present.rs` | a user's devices, and how others see her |
//! | `leases.rs` | hello, goodbye, silence and deadlines |
//! | `ticket.rs` | what opens the goodbye by beacon |
//! | `watching.rs` | who watches whom |
//! | `inquiry.rs` | who may |
//! | `fanout.rs` | telling the watchers |
//! | `recovery.rs` | after the relay's start |

mod fanout;
mod inquiry;
mod lease;
mod leases;
mod present;
mod recovery;
mod state;
mod ticket;
mod watching;

use std::collections::{BTreeMap, VecDeque};

use hongyan_protocol::{DeviceId, UserId};

use super::entropy::Entropy;
use super::io::ConnectionId;
use super::limits::{
    PRESENCE_CHANGES_AT_ONCE, PRESENCE_CHANGES_PER_SECOND, PRESENCE_PACE_MS, TYPING_AT_ONCE,
    TYPING_PER_SECOND,
};
use super::rate::Rate;
use fanout::Watched;
pub(super) use lease::{End, Order, Tab};
pub(super) use leases::Claim;
pub(super) use present::Eyes;
use present::Present;
use recovery::Recovery;
use ticket::Tickets;
pub(super) use watching::Watching;

/// All that the core knows of presence.
pub(super) struct Presences {
    /// Users with a lease; who has none is not here.
    present: BTreeMap<UserId, Present>,
    /// Which lease a connection holds, or held last. A connection whose lease was taken over is not here, so that
    /// nothing of it, however late, touches the lease of another.
    holders: BTreeMap<ConnectionId, Holder>,
    /// Users whom somebody watches.
    watched: BTreeMap<UserId, Watched>,
    /// Watched users with a change that is being told.
    fanouts: VecDeque<UserId>,
    /// Connections that wait for an answer to what they want to watch.
    line: VecDeque<ConnectionId>,
    recovery: Recovery,
    tickets: Tickets,
    /// How often the changes of a user with few watchers are told, and of one with many.
    pace: Rate,
    slow_pace: Rate,
    typing: Rate,
    /// Frames with presence that were given to connections.
    pushes: u64,
}

/// Whose lease it is.
#[derive(Clone)]
struct Holder {
    user: UserId,
    device: DeviceId,
    tab: Tab,
}

impl Presences {
    pub(super) fn new(entropy: &mut Entropy) -> Self {
        // One change in each time of the pace, and none ahead.
        let slow = u32::try_from(1_000 / PRESENCE_PACE_MS).unwrap_or(1);
        Self {
            present: BTreeMap::new(),
            holders: BTreeMap::new(),
            watched: BTreeMap::new(),
            fanouts: VecDeque::new(),
            line: VecDeque::new(),
            recovery: Recovery::default(),
            tickets: Tickets::new(entropy),
            pace: Rate::new(PRESENCE_CHANGES_PER_SECOND, PRESENCE_CHANGES_AT_ONCE),
            slow_pace: Rate::new(slow, 1),
            typing: Rate::new(TYPING_PER_SECOND, TYPING_AT_ONCE),
            pushes: 0,
        }
    }

    /// Leases, watched users and pushes, for statistics.
    pub(super) fn counts(&self) -> (usize, usize, u64) {
        (self.holders.len(), self.watched.len(), self.pushes)
    }
}
