//! What the generator can do: one row each.

mod group;
mod idle;
mod one_to_one;
mod presence;
mod reconnect;
mod sync;

use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

pub use reconnect::Storm;

use crate::limits::PATIENCE;
use crate::outcome::Outcome;
use crate::plan::Plan;
use crate::target::Target;

/// A run that goes on.
pub type Running = Pin<Box<dyn Future<Output = Result<Outcome, String>> + Send>>;

/// One thing that the generator can do.
pub struct Scenario {
    /// What it is called.
    pub name: &'static str,
    /// A sentence for people, with the options that it heeds.
    pub what: &'static str,
    /// Does it; an error is a sentence that says why it could not be done.
    pub run: fn(Target, Plan) -> Running,
    /// How many connections it opens.
    pub connections: fn(&Plan) -> usize,
}

/// All of them.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "one-to-one",
        what: "Each of --senders clients writes to a user of its own, who is connected unless --absent is given.",
        run: |target, plan| Box::pin(one_to_one::run(target, plan)),
        connections: |plan| plan.senders * (1 + usize::from(plan.receivers_connected)),
    },
    Scenario {
        name: "group",
        what: "--senders of the --members connected members of one group write to it.",
        run: |target, plan| Box::pin(group::run(target, plan)),
        connections: |plan| plan.members,
    },
    Scenario {
        name: "presence",
        what: "--clients clients, ten of a group, watch each other; one after another is looked at and looked away \
               from, --rate times a second.",
        run: |target, plan| Box::pin(presence::run(target, plan)),
        connections: |plan| plan.clients,
    },
    Scenario {
        name: "reconnect",
        what: "The connections of --clients clients end all at once, and all come back. With --restart it waits for you \
               to restart the relay instead of cutting them.",
        run: |target, plan| Box::pin(reconnect::run(target, plan)),
        connections: |plan| plan.clients,
    },
    Scenario {
        name: "sync",
        what: "--messages messages wait for a user who was absent; how fast does she catch up?",
        run: |target, plan| Box::pin(sync::run(target, plan)),
        connections: |plan| plan.senders + 1,
    },
    Scenario {
        name: "idle",
        what: "--clients clients connect and then do nothing for --seconds; what does the relay hold for each?",
        run: |target, plan| Box::pin(idle::run(target, plan)),
        connections: |plan| plan.clients,
    },
];

/// The row of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Scenario> {
    SCENARIOS.iter().find(|scenario| scenario.name == name)
}

/// Waits until a count reaches what is expected, or nothing more has come for [`PATIENCE`].
async fn settled(expected: u64, count: impl Fn() -> u64) {
    let mut last = (count(), Instant::now());
    while last.0 < expected && last.1.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(2)).await;
        let now = count();
        if now > last.0 {
            last = (now, Instant::now());
        }
    }
}
