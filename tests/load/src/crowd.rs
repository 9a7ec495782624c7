//! Many clients at once.

use std::sync::Arc;

use futures_util::future::join_all;
use hongyan_client::Event;
use hongyan_protocol::UserId;

use crate::cache::NoCache;
use crate::host::{Host, Setup};
use crate::limits::{DIALS_AT_ONCE, PATIENCE};
use crate::meter::Meter;
use crate::target::Target;

/// Names the users of one run, so that what earlier runs left is not met again.
#[derive(Clone, Copy)]
pub struct Names(u64);

impl Default for Names {
    fn default() -> Self {
        Self(crate::tokens::seconds_now() << 20 | u64::from(std::process::id()) & 0xf_ffff)
    }
}

impl Names {
    /// The user of a role and number.
    #[must_use]
    pub fn user(self, role: &str, number: usize) -> UserId {
        UserId::new(&format!("{role}-{number}-{:x}", self.0)).expect("a short name is a user id")
    }
}

/// Starts clients that keep nothing, and waits until each is connected and caught up. `first` is the number of the first
/// one among all clients of the run; `on_event` is told the index within this crowd.
///
/// # Errors
/// A sentence that says who did not come up.
pub async fn connect(
    target: &Target,
    meter: &Arc<Meter>,
    first: usize,
    users: &[UserId],
    on_event: impl Fn(usize, Event) + Clone + Send + 'static,
) -> Result<Vec<Host>, String> {
    let mut hosts = Vec::with_capacity(users.len());
    for (portion, users) in users.chunks(DIALS_AT_ONCE).enumerate() {
        let mut started: Vec<Host> = users
            .iter()
            .enumerate()
            .map(|(index, user)| {
                let index = portion * DIALS_AT_ONCE + index;
                let on_event = on_event.clone();
                Host::start(setup(target, meter, first + index, user), move |event| on_event(index, event))
            })
            .collect();
        let waits = started.iter_mut().map(|host| host.ready(PATIENCE));
        join_all(waits).await.into_iter().collect::<Result<(), String>>()?;
        hosts.append(&mut started);
    }
    Ok(hosts)
}

/// What a client of the crowd is made with.
#[must_use]
pub fn setup(target: &Target, meter: &Arc<Meter>, number: usize, user: &UserId) -> Setup {
    Setup {
        source: target.source(number),
        meter: Arc::clone(meter),
        ..Setup::new(target.address, user.clone(), Arc::clone(&target.token), NoCache)
    }
}
