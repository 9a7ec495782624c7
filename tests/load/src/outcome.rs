//! What a run found, for people and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::histogram::Latencies;
use crate::limits::BUSY_SHARE;
use crate::process::{Used, processors};
use crate::tally::Losses;

/// One number of a run.
#[derive(Clone, Debug)]
pub struct Figure {
    /// What was measured.
    pub name: String,
    /// How much.
    pub value: f64,
    /// Of what.
    pub unit: &'static str,
}

/// What a run found.
#[derive(Default)]
pub struct Outcome {
    /// The numbers, in the order in which people read them.
    pub figures: Vec<Figure>,
    /// What did not come as it was sent.
    pub losses: Losses,
    /// What failed besides, by its words.
    pub failures: BTreeMap<String, u64>,
    /// What it cost.
    pub used: Used,
    /// The generator could not keep its own pace.
    pub was_late: bool,
}

impl Outcome {
    /// Adds a number.
    pub fn add(&mut self, name: impl Into<String>, value: f64, unit: &'static str) {
        self.figures.push(Figure { name: name.into(), value, unit });
    }

    /// Adds the median, the 99th percentile and the slowest.
    pub fn add_latencies(&mut self, name: &str, latencies: &Latencies) {
        if latencies.count() > 0 {
            self.add(format!("{name}, p50"), latencies.ms_at(0.5), "ms");
            self.add(format!("{name}, p99"), latencies.ms_at(0.99), "ms");
            self.add(format!("{name}, slowest"), latencies.ms_max(), "ms");
        }
    }

    /// The number of this name.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<f64> {
        self.figures.iter().find(|figure| figure.name == name).map(|figure| figure.value)
    }

    /// Nothing was lost, doubled or reordered, and nothing failed.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.losses.is_none() && self.failures.is_empty()
    }

    /// The generator measured itself, in words.
    #[must_use]
    pub fn generator_was_limit(&self) -> Option<String> {
        let (own, relay) = (self.used.own_processors(), self.used.relay_processors());
        let all = processors();
        if self.was_late {
            return Some(
                "The generator could not keep its own pace: lower the rate, or give it more processors."
                    .into(),
            );
        }
        let busy = own + relay.unwrap_or_default();
        let share = busy / crate::histogram::float(all as u64);
        (share >= BUSY_SHARE && own > relay.unwrap_or_default()).then(|| {
            format!(
                "The generator used {own:.2} of {all} processors, more than the relay, and none was idle: these figures \
                 are the generator's limit. Run it on another machine."
            )
        })
    }

    /// The text for people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        let width = self.figures.iter().map(|figure| figure.name.len()).max().unwrap_or_default();
        for figure in &self.figures {
            let line = format!("{:<width$}  {:>12} {}", figure.name, shown(figure.value), figure.unit);
            let _ = writeln!(text, "{}", line.trim_end());
        }
        let Losses { lost, doubled, reordered } = self.losses;
        let _ = writeln!(text, "lost {lost}, doubled {doubled}, reordered {reordered}");
        for (words, count) in &self.failures {
            let _ = writeln!(text, "failed {count} times: {words}");
        }
        let _ = write!(text, "the generator used {:.2} processors", self.used.own_processors());
        match self.used.relay_processors() {
            Some(relay) => {
                let _ = writeln!(text, ", the relay {relay:.2}, of {}", processors());
            }
            None => {
                let _ = writeln!(text, " of {}; the relay's are told with --relay-pid", processors());
            }
        }
        if let Some(words) = self.generator_was_limit() {
            let _ = writeln!(text, "{words}");
        }
        text
    }

    /// The same as JSON.
    #[must_use]
    pub fn json(&self, scenario: &str) -> Value {
        let figures: Vec<Value> = self
            .figures
            .iter()
            .map(|figure| json!({ "figure": figure.name, "value": figure.value, "unit": figure.unit }))
            .collect();
        json!({
            "scenario": scenario,
            "figures": figures,
            "lost": self.losses.lost,
            "doubled": self.losses.doubled,
            "reordered": self.losses.reordered,
            "failures": self.failures,
            "seconds": self.used.time.as_secs_f64(),
            "processors": {
                "all": processors(),
                "generator": self.used.own_processors(),
                "relay": self.used.relay_processors(),
            },
            "generator_was_limit": self.generator_was_limit(),
        })
    }
}

/// Three digits are more than such figures hold.
fn shown(value: f64) -> String {
    let decimals = if value.abs() >= 100.0 || value == value.trunc() { 0 } else { 2 };
    format!("{value:.decimals$}")
}
