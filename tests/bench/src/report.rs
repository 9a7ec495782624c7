//! Figures as lines of JSON: `{figure, value, unit, beside: {what, value}, ratio, goal: {of, least | most}, met, note,
//! slope: {of, size, sizes}}`.

use hongyan_load::Outcome;
use hongyan_load::process::processors;
use serde_json::{Value, json};

/// What a figure is to reach.
#[derive(Clone, Copy)]
pub(crate) enum Goal {
    /// The ratio to what is beside it, at least.
    RatioAtLeast(f64),
    /// The ratio to what is beside it, at most.
    RatioAtMost(f64),
    /// The value, at most.
    AtMost(f64),
}

/// One figure.
pub(crate) struct Figure {
    record: Value,
    value: f64,
    ratio: Option<f64>,
}

impl Figure {
    pub(crate) fn new(name: impl Into<String>, value: f64, unit: &str) -> Self {
        let record = json!({ "figure": name.into(), "value": round(value), "unit": unit });
        Self { record, value, ratio: None }
    }

    /// The machine's limit, or the peer, in the same unit.
    pub(crate) fn beside(mut self, what: impl Into<String>, limit: f64) -> Self {
        let ratio = if limit == 0.0 { 0.0 } else { self.value / limit };
        self.record["beside"] = json!({ "what": what.into(), "value": round(limit) });
        self.record["ratio"] = json!(round(ratio));
        self.ratio = Some(ratio);
        self
    }

    /// What it is to reach; after [`Figure::beside`].
    pub(crate) fn goal(mut self, goal: Goal) -> Self {
        let ratio = self.ratio.unwrap_or_default();
        let (of, bound, number, met) = match goal {
            Goal::RatioAtLeast(least) => ("ratio", "least", least, ratio >= least),
            Goal::RatioAtMost(most) => ("ratio", "most", most, ratio <= most),
            Goal::AtMost(most) => ("value", "most", most, self.value <= most),
        };
        self.record["goal"] = json!({ "of": of });
        self.record["goal"][bound] = json!(number);
        self.record["met"] = json!(met);
        self
    }

    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.record["note"] = json!(note.into());
        self
    }

    /// One point of a curve: the figure of this name at so many of something.
    pub(crate) fn slope(mut self, of: &str, size: u64, sizes: &str) -> Self {
        self.record["slope"] = json!({ "of": of, "size": size, "sizes": sizes });
        self
    }
}

/// Takes figures.
#[derive(Default)]
pub(crate) struct Report {
    count: usize,
}

impl Report {
    pub(crate) fn add(&mut self, figure: Figure) {
        println!("{}", figure.record);
        self.count += 1;
    }

    /// Who waits learns what goes on.
    #[allow(clippy::unused_self, reason = "the report is the one that speaks")]
    pub(crate) fn says(&self, words: &str) {
        eprintln!("{words}");
    }

    /// A run that lost something is no figure.
    pub(crate) fn demand(&self, what: &str, outcome: &Outcome) -> Result<(), String> {
        if outcome.is_good() { Ok(()) } else { Err(format!("{what} went wrong:\n{}", outcome.text())) }
    }
}

/// What the processors did, in words, as a figure's note.
pub(crate) fn processors_note(outcome: &Outcome) -> String {
    let relay = outcome.used.relay_processors().unwrap_or_default();
    let own = outcome.used.own_processors();
    let mut note =
        format!("the relay used {relay:.2} processors, the generator {own:.2}, of {}", processors());
    if let Some(words) = outcome.generator_was_limit() {
        note.push_str(". ");
        note.push_str(&words);
    }
    note
}

/// Three digits are more than such figures hold.
fn round(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return 0.0;
    }
    #[allow(clippy::cast_possible_truncation, reason = "a number of digits")]
    let digits = 2 - value.abs().log10().floor() as i32;
    let scale = 10f64.powi(digits);
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_met_or_not() {
        let met = |figure: Figure| figure.record["met"].as_bool();
        let beside = || Figure::new("x", 8.0, "1/s").beside("the limit", 10.0);
        assert_eq!(met(beside().goal(Goal::RatioAtLeast(0.8))), Some(true));
        assert_eq!(met(beside().goal(Goal::RatioAtLeast(0.81))), Some(false));
        assert_eq!(met(beside().goal(Goal::RatioAtMost(0.7))), Some(false));
        assert_eq!(met(beside().goal(Goal::AtMost(8.0))), Some(true));
        assert_eq!(met(beside()), None);
    }

    #[test]
    fn figures_have_three_digits() {
        for (value, rounded) in [(123_456.0, 123_000.0), (0.012_345, 0.0123), (0.0, 0.0), (f64::NAN, 0.0)] {
            assert!((round(value) - rounded).abs() < 1e-9, "{value}");
        }
    }
}
