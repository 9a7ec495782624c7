//! The checker finds every deliberate defect, each within its bound of worlds.
#![allow(clippy::print_stdout, reason = "the worlds that were needed are for people")]

use std::time::Duration;

use hongyan_sim::{Scenario, defects, play_all};

/// Worlds within which a defect must be found.
const WORLDS_MAX: u64 = 400;
/// Those that show rarely, and their bounds.
const RARE: &[(&str, u64)] = &[("read-mark-moves-back", 2_000), ("old-goodbye-ends-new", 1_000)];

#[test]
fn every_defect_is_found() {
    let mut missed = Vec::new();
    for defect in defects::all() {
        let most = RARE.iter().find(|(name, _)| *name == defect).map_or(WORLDS_MAX, |(_, worlds)| *worlds);
        let first = Scenario::new(1_000_000).with_defect(Some(defect));
        let progress = play_all(&first, most, Duration::from_secs(600), 1, |_| {});
        match progress.failures.first() {
            Some((seed, breach)) => {
                println!("{defect:<26} seed {seed}, world {:>4}: {}", seed - first.seed + 1, breach.promise);
            }
            None => missed.push(defect),
        }
    }
    assert!(defects::all().len() > 12);
    assert!(missed.is_empty(), "not found: {missed:?}");
}
