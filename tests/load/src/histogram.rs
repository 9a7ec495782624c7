//! Latencies, as an HDR histogram in microseconds.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::limits::LATENCY_US_MAX;

/// Many latencies.
#[derive(Clone)]
pub struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        // Grows as needed up to the bound; three digits are more than such measurements hold.
        let mut histogram = Histogram::new(3).expect("three digits are allowed");
        histogram.auto(true);
        Self(histogram)
    }
}

impl Latencies {
    /// Adds one.
    pub fn record(&mut self, time: Duration) {
        let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX).clamp(1, LATENCY_US_MAX);
        // Never fails for one that grows.
        let _ = self.0.record(us);
    }

    /// Adds all of another one.
    pub fn add(&mut self, other: &Self) {
        // Never fails for one that grows.
        let _ = self.0.add(&other.0);
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// What this share (0 to 1) of them did not exceed, in milliseconds; 0 when there is none.
    #[must_use]
    pub fn ms_at(&self, share: f64) -> f64 {
        float(self.0.value_at_quantile(share)) / 1_000.0
    }

    /// The slowest, in milliseconds.
    #[must_use]
    pub fn ms_max(&self) -> f64 {
        float(self.0.max()) / 1_000.0
    }
}

/// A count as a number to reckon with: counts of a run are far below 2^53.
#[must_use]
pub const fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_what_was_recorded() {
        let mut latencies = Latencies::default();
        (1..=1_000).for_each(|ms| latencies.record(Duration::from_millis(ms)));
        assert_eq!(latencies.count(), 1_000);
        for (share, ms) in [(0.5, 500.0), (0.99, 990.0), (1.0, 1_000.0)] {
            assert!((latencies.ms_at(share) / ms - 1.0).abs() < 0.002, "{share}: {}", latencies.ms_at(share));
        }
        latencies.record(Duration::from_secs(1_000_000));
        assert!((latencies.ms_max() / 120_000.0 - 1.0).abs() < 0.002);
    }
}
