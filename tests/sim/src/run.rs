//! Plays worlds: one, or many on all cores.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::defects;
use crate::faults::Coverage;
use crate::report::Breach;
use crate::scenario::Scenario;
use crate::world::World;

/// What came of a world.
pub struct Outcome {
    /// The promise that it broke.
    pub breach: Option<Breach>,
    /// What happened in it.
    pub coverage: Coverage,
}

/// Plays a world; `trace` keeps its last events for the report.
#[must_use]
pub fn play(scenario: &Scenario, trace: bool) -> Outcome {
    defects::switch(scenario.defect);
    let mut world = World::new(scenario.clone(), trace);
    let lived = catch_unwind(AssertUnwindSafe(|| world.live()));
    defects::switch(None);
    if let Err(panic) = lived {
        let words = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|words| (*words).to_owned()))
            .unwrap_or_default();
        world.breach = None;
        world.broke("R9", "nothing makes a core panic", words);
    }
    Outcome { breach: world.breach.take(), coverage: std::mem::take(&mut world.coverage) }
}

/// How far a run of many worlds has come.
pub struct Progress {
    /// Worlds that were played.
    pub worlds: u64,
    /// How long it has taken.
    pub took: Duration,
    /// All that happened in them.
    pub coverage: Coverage,
    /// Those that broke a promise: seed, promise and what happened.
    pub failures: Vec<(u64, Breach)>,
}

impl Progress {
    /// Worlds per minute.
    #[must_use]
    pub fn per_minute(&self) -> u64 {
        let ms = u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX).max(1);
        self.worlds.saturating_mul(60_000) / ms
    }
}

/// Plays `seeds` worlds from `first` on, or until `time` is over, on all cores. It ends early with `failures_max`
/// failures. `tell` is called now and then.
pub fn play_all(
    first: &Scenario,
    seeds: u64,
    time: Duration,
    failures_max: usize,
    tell: impl Fn(&Progress) + Sync,
) -> Progress {
    let started = Instant::now();
    let next = AtomicU64::new(0);
    let failures_max = failures_max.max(1);
    let progress = Mutex::new(Progress {
        worlds: 0,
        took: Duration::ZERO,
        coverage: Coverage::default(),
        failures: Vec::new(),
    });
    let told = Mutex::new(Instant::now());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= seeds || started.elapsed() >= time {
                        return;
                    }
                    let seed = first.seed.wrapping_add(number);
                    let outcome = play(&Scenario { seed, ..first.clone() }, false);
                    let Ok(mut progress) = progress.lock() else { return };
                    if progress.failures.len() >= failures_max {
                        return;
                    }
                    progress.worlds += 1;
                    progress.took = started.elapsed();
                    progress.coverage.add(&outcome.coverage);
                    progress.failures.extend(outcome.breach.map(|breach| (seed, breach)));
                    if let Ok(mut told) = told.try_lock()
                        && told.elapsed() >= Duration::from_secs(5)
                    {
                        *told = Instant::now();
                        tell(&progress);
                    }
                }
            });
        }
    });
    let mut progress = progress.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    progress.failures.sort_by_key(|(seed, _)| *seed);
    progress
}
