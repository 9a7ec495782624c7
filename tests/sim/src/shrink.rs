//! Looks for a smaller scenario that breaks the same promise.

use crate::faults::Fault;
use crate::run::play;
use crate::scenario::{STEPS_MAX, Scenario};

/// A smaller scenario than the given one that breaks the same promise, and how many worlds were tried.
#[must_use]
pub fn shrink(scenario: &Scenario) -> (Scenario, u64) {
    let promise = |scenario: &Scenario| play(scenario, false).breach.map(|breach| breach.promise);
    let mut worlds = 1;
    let mut best = scenario.clone();
    let Some(broken) = promise(&best) else { return (best, worlds) };
    let mut is_smaller = |best: &mut Scenario, smaller: Scenario| {
        worlds += 1;
        let breaks = promise(&smaller) == Some(broken);
        if breaks {
            *best = smaller;
        }
        breaks
    };

    // The shortest beginning, by halving and then step by step.
    let mut steps = best.steps.unwrap_or(STEPS_MAX);
    let mut less = steps / 2;
    while less > 0 {
        let smaller = Scenario { steps: Some(steps.saturating_sub(less)), ..best.clone() };
        if is_smaller(&mut best, smaller) {
            steps = steps.saturating_sub(less);
        } else {
            less /= 2;
        }
    }
    // Whole kinds of faults.
    for fault in Fault::ALL {
        let mut smaller = best.clone();
        if smaller.without.insert(*fault) {
            is_smaller(&mut best, smaller);
        }
    }
    // Ranges of steps, ever shorter ones.
    let mut length = steps.div_ceil(2);
    while length > 0 {
        let mut from = 0;
        while from < steps {
            let mut smaller = best.clone();
            let before = smaller.skip.len();
            smaller.skip.extend(from..steps.min(from + length));
            if smaller.skip.len() > before {
                is_smaller(&mut best, smaller);
            }
            from += length;
        }
        length /= 2;
    }
    (best, worlds)
}
