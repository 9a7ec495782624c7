//! All connections end at once, and all come back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use hongyan_client::Event;
use hongyan_client::view::SessionStatus;
use hongyan_protocol::UserId;

use crate::crowd::{Names, connect};
use crate::histogram::{Latencies, float};
use crate::host::Host;
use crate::limits::PATIENCE;
use crate::meter::Meter;
use crate::outcome::Outcome;
use crate::plan::Plan;
use crate::process::{Usage, memory_bytes_peak};
use crate::target::Target;

/// An operator needs so long to restart a relay.
const RESTART_TIME: Duration = Duration::from_secs(600);

/// A crowd that is connected, and will be so again.
pub struct Storm {
    target: Target,
    meter: Arc<Meter>,
    hosts: Vec<Host>,
    /// How often a client lost its connection.
    fallen: Arc<AtomicU64>,
    refused_before: BTreeMap<String, u64>,
}

impl Storm {
    /// Connects so many clients.
    ///
    /// # Errors
    /// A sentence that says who did not come up.
    pub async fn gather(target: Target, clients: usize) -> Result<Self, String> {
        let (names, meter) = (Names::default(), Arc::<Meter>::default());
        let users: Vec<UserId> = (0..clients).map(|n| names.user("goose", n)).collect();
        let fallen = Arc::<AtomicU64>::default();
        let counting = Arc::clone(&fallen);
        let hosts = connect(&target, &meter, 0, &users, move |_, event| {
            if let Event::State(state) = event
                && matches!(state.status, SessionStatus::Offline | SessionStatus::Connecting)
                && state.reason.is_some()
            {
                counting.fetch_add(1, Ordering::Relaxed);
            }
        })
        .await?;
        drop(meter.take_hellos());
        fallen.store(0, Ordering::Relaxed);
        let refused_before = meter.refused();
        Ok(Self { target, meter, hosts, fallen, refused_before })
    }

    /// The network ends all connections at once.
    pub fn cut(&self) {
        self.hosts.iter().for_each(Host::cut);
    }

    /// Waits until the first connection has ended.
    ///
    /// # Errors
    /// When that takes longer than an operator needs.
    pub async fn broken(&self) -> Result<(), String> {
        let begun = Instant::now();
        while self.fallen.load(Ordering::Relaxed) == 0 {
            if begun.elapsed() > RESTART_TIME {
                return Err(format!("The relay was not restarted within {} s.", RESTART_TIME.as_secs()));
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }

    /// Waits until all are back; times count from `begun`. `process` is the relay's now.
    ///
    /// # Errors
    /// A sentence that says who did not come back.
    pub async fn settle(mut self, begun: Instant, process: Option<u32>) -> Result<Outcome, String> {
        let usage = Usage::start(process);
        // Who is not told of the end yet still believes to be caught up: each has dialled anew before it counts.
        let dials = self.hosts.len() as u64 * 2;
        while self.meter.dials() < dials && begun.elapsed() < PATIENCE {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let back = join_all(
            self.hosts.iter_mut().map(|host| async { host.ready(PATIENCE).await.map(|()| begun.elapsed()) }),
        )
        .await;
        let mut times = Latencies::default();
        let mut outcome = Outcome { used: usage.so_far(), ..Outcome::default() };
        for time in back {
            match time {
                Ok(time) => times.record(time),
                Err(words) => *outcome.failures.entry(words).or_default() += 1,
            }
        }
        outcome.add("clients", float(self.hosts.len() as u64), "");
        outcome.add("all caught up after", times.ms_max() / 1_000.0, "s");
        outcome.add("half caught up after", times.ms_at(0.5) / 1_000.0, "s");
        outcome.add_latencies("hello", &self.meter.take_hellos());
        outcome.add(
            "dials of a client",
            float(self.meter.dials()) / float(self.hosts.len() as u64) - 1.0,
            "",
        );
        for (words, count) in self.meter.refused() {
            let new = count - self.refused_before.get(&words).copied().unwrap_or_default();
            outcome.add(format!("rejected: {words}"), float(new), "");
        }
        if let Some(bytes) = process.and_then(|id| memory_bytes_peak(&id.to_string())) {
            outcome.add("relay's memory at most", float(bytes) / 1_048_576.0, "MB");
        }
        Ok(outcome)
    }

    /// The relay's process at the beginning.
    #[must_use]
    pub fn process(&self) -> Option<u32> {
        self.target.process
    }
}

pub(super) async fn run(target: Target, plan: Plan) -> Result<Outcome, String> {
    (plan.tell)("connecting");
    let storm = Storm::gather(target, plan.clients).await?;
    let process = storm.process();
    if plan.awaits_restart {
        (plan.tell)(&format!("all {} clients are connected: restart the relay now", plan.clients));
        storm.broken().await?;
        // The new process has another id.
        storm.settle(Instant::now(), None).await
    } else {
        (plan.tell)("cutting all connections");
        let begun = Instant::now();
        storm.cut();
        storm.settle(begun, process).await
    }
}
