//! So many at once, so many per second: the generic cell rate algorithm in its few lines of arithmetic, because
//! the crates for it bring a clock or entropy of their own, and here time is an argument.

use super::io::Moment;

/// What one user has used. Its size does not grow with use.
#[derive(Clone, Copy, Default)]
pub(super) struct Usage {
    /// When all that was used will have been earned back, in microseconds.
    settled_us: u64,
}

/// A rate that many users are held to.
#[derive(Clone, Copy)]
pub(super) struct Rate {
    /// What one use costs, in microseconds.
    cost_us: u64,
    /// What may be owed at once, in microseconds.
    debt_us_max: u64,
}

impl Rate {
    pub(super) fn new(per_second: u32, burst: u32) -> Self {
        let cost_us = 1_000_000 / u64::from(per_second.max(1));
        Self { cost_us, debt_us_max: cost_us * u64::from(burst.max(1)) }
    }

    /// Uses one, or tells after how many milliseconds there will be one to use.
    pub(super) fn take(&self, usage: &mut Usage, now: Moment) -> Result<(), u64> {
        let now_us = now.0.saturating_mul(1_000);
        let settled_us = usage.settled_us.max(now_us) + self.cost_us;
        let debt_us = settled_us - now_us;
        if debt_us > self.debt_us_max {
            return Err((debt_us - self.debt_us_max).div_ceil(1_000));
        }
        usage.settled_us = settled_us;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_burst_then_the_sustained_rate() {
        let (rate, mut usage) = (Rate::new(10, 3), Usage::default());
        let at = |ms: u64| Moment(1_000 + ms);
        for _ in 0..3 {
            assert_eq!(rate.take(&mut usage, at(0)), Ok(()));
        }
        assert_eq!(rate.take(&mut usage, at(0)), Err(100));
        assert_eq!(rate.take(&mut usage, at(99)), Err(1));
        assert_eq!(rate.take(&mut usage, at(100)), Ok(()));
        assert_eq!(rate.take(&mut usage, at(100)), Err(100));
    }

    proptest! {
        #[test]
        fn never_more_than_burst_and_rate_and_the_wait_is_true(
            steps in prop::collection::vec(0u64..500, 1..200), per_second in 1u32..100, burst in 1u32..20,
        ) {
            let (rate, mut usage) = (Rate::new(per_second, burst), Usage::default());
            let (mut now, mut taken) = (0u64, 0u64);
            for step in steps {
                now += step;
                match rate.take(&mut usage, Moment(now)) {
                    Ok(()) => taken += 1,
                    Err(wait) => {
                        now += wait;
                        prop_assert!(rate.take(&mut usage, Moment(now)).is_ok());
                        taken += 1;
                    }
                }
                // 1 s is not a multiple of every cost, hence the one more per second.
                prop_assert!(taken <= u64::from(burst) + (u64::from(per_second) + 1) * now / 1_000 + 1);
            }
        }
    }
}
