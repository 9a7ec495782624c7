//! Clients watch each other, and one after another goes and comes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use hongyan_client::view::PresenceStatus;
use hongyan_client::{Command, Event, HostEvent};
use hongyan_protocol::UserId;

use super::{group, settled};
use crate::crowd::{Names, connect};
use crate::histogram::{Latencies, float};
use crate::limits::CELL_MEMBERS;
use crate::meter::Meter;
use crate::outcome::Outcome;
use crate::plan::Plan;
use crate::process::Usage;
use crate::target::Target;

/// Changes per second without `--rate`: well below what the relay tells of one user.
const CHANGES_PER_CLIENT: f64 = 1.0;

/// The change of a user that is to be seen next.
struct Change {
    to: PresenceStatus,
    due: Instant,
    seen_by: Vec<bool>,
}

/// What is under way and what was seen.
#[derive(Default)]
struct Seen {
    changes: Mutex<BTreeMap<UserId, Change>>,
    latencies: Mutex<Latencies>,
    told: AtomicU64,
}

impl Seen {
    fn begin(&self, user: &UserId, to: PresenceStatus, due: Instant) {
        let change = Change { to, due, seen_by: vec![false; CELL_MEMBERS] };
        self.changes.lock().unwrap_or_else(PoisonError::into_inner).insert(user.clone(), change);
    }

    fn take(&self, watcher: usize, user: &UserId, status: PresenceStatus) {
        let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(change) = changes.get_mut(user) else { return };
        // A user hears of herself, too; she counts for nothing.
        if let Some(seen) = change.seen_by.get_mut(watcher % CELL_MEMBERS)
            && status == change.to
            && !std::mem::replace(seen, true)
        {
            self.told.fetch_add(1, Ordering::Relaxed);
            self.latencies.lock().unwrap_or_else(PoisonError::into_inner).record(change.due.elapsed());
        }
    }
}

pub(super) async fn run(target: Target, plan: Plan) -> Result<Outcome, String> {
    let (names, meter) = (Names::default(), Arc::<Meter>::default());
    let cells = (plan.clients / CELL_MEMBERS).max(1);
    let users: Vec<UserId> = (0..cells * CELL_MEMBERS).map(|n| names.user("watcher", n)).collect();
    let seen = Arc::<Seen>::default();
    let (watching, watchers) = (Arc::clone(&seen), users.clone());
    (plan.tell)("connecting");
    let hosts = connect(&target, &meter, 0, &users, move |index, event| {
        if let Event::Presence(presence) = event
            && watchers.get(index) != Some(&presence.user)
        {
            watching.take(index, &presence.user, presence.status);
        }
    })
    .await?;
    for (cell, users) in hosts.chunks(CELL_MEMBERS).zip(users.chunks(CELL_MEMBERS)) {
        let failed = |error| format!("The clients could not be made to watch each other: {error}");
        group::make(&cell[0], &users[1..]).await.map_err(failed)?;
        let watches = cell.iter().map(|host| {
            let others = users.iter().filter(|user| *user != host.user()).cloned().collect();
            host.command(Command::Watch { by: 0, users: others })
        });
        join_all(watches).await.into_iter().collect::<Result<Vec<_>, _>>().map_err(failed)?;
    }

    let rate = plan.rate.unwrap_or(CHANGES_PER_CLIENT * float(hosts.len() as u64));
    (plan.tell)(&format!("{rate:.0} changes a second for {} s", plan.duration.as_secs()));
    let usage = Usage::start(target.process);
    let begun = Instant::now();
    let mut changes = 0u64;
    let mut late = Latencies::default();
    let mut away = vec![false; hosts.len()];
    loop {
        let due = begun + Duration::from_secs_f64(float(changes) / rate);
        if due.duration_since(begun) >= plan.duration {
            break;
        }
        tokio::time::sleep_until(due.into()).await;
        late.record(due.elapsed());
        let turn = usize::try_from(changes).unwrap_or_default() % hosts.len();
        away[turn] = !away[turn];
        let to = if away[turn] { PresenceStatus::Away } else { PresenceStatus::Online };
        seen.begin(&users[turn], to, due);
        hosts[turn].tell(HostEvent::Visible(!away[turn]));
        changes += 1;
    }
    let expected = changes * (CELL_MEMBERS as u64 - 1);
    settled(expected, || seen.told.load(Ordering::Relaxed)).await;
    let used = usage.so_far();
    let told = seen.told.load(Ordering::Relaxed);
    let mut outcome = Outcome { used, failures: meter.refused(), ..Outcome::default() };
    outcome.losses.lost = expected.saturating_sub(told);
    outcome.was_late = late.ms_at(0.5) > 10.0;
    outcome.add("changes", float(changes) / plan.duration.as_secs_f64(), "1/s");
    outcome.add("told", float(told) / used.time.as_secs_f64(), "1/s");
    outcome.add_latencies(
        "change to told",
        &seen.latencies.lock().unwrap_or_else(PoisonError::into_inner).clone(),
    );
    Ok(outcome)
}
