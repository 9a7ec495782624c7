//! Everybody comes back after a restart of the relay.

use std::time::Instant;

use hongyan_load::scenarios::Storm;

use crate::raw::accepts;
use crate::report::{Figure, Goal, Report, processors_note};
use crate::{Bench, relay};

/// Clients.
const CLIENTS: [usize; 3] = [1_000, 3_000, 10_000];

pub(crate) fn run(bench: &Bench, report: &mut Report) -> Result<(), String> {
    for clients in CLIENTS.into_iter().filter(|clients| *clients as u64 <= bench.connections_max) {
        report.says(&format!("storm: {clients} clients"));
        // While the crowd is there, or goes, this process may not open as many again.
        let raw = raw(bench, clients)?;
        let mut relay = relay::start();
        let storm = bench.runtime.block_on(Storm::gather(relay::target(&relay), clients))?;
        let killed = Instant::now();
        relay.restart();
        let down = killed.elapsed();
        let begun = Instant::now();
        let outcome = bench.runtime.block_on(storm.settle(begun, Some(relay.id())))?;
        report.demand("coming back", &outcome)?;
        let value = |name: &str| outcome.value(name).unwrap_or_default();
        let crowd = format!("{clients} clients");
        let size = clients as u64;
        report.add(
            Figure::new(format!("all back after a restart, {crowd}"), value("all caught up after"), "s")
                .beside("as many raw connections, one after another", raw)
                .note(format!(
                    "killed and ready again within {:.2} s; {}",
                    down.as_secs_f64(),
                    processors_note(&outcome)
                ))
                .slope("all back after a restart", size, "clients"),
        );
        report.add(
            Figure::new(format!("hello after a restart, {crowd}, p99"), value("hello, p99"), "ms")
                .note("from dialling to the relay's welcome")
                .slope("hello after a restart, p99", size, "clients"),
        );
        let (while_starting, rejected): (Vec<_>, Vec<_>) = outcome
            .figures
            .iter()
            .filter_map(|figure| Some((figure.name.strip_prefix("rejected: ")?, figure.value)))
            .partition(|(words, _)| words.ends_with("HTTP 503"));
        let sum = |of: &[(&str, f64)]| of.iter().fold(0.0, |sum, (_, count)| sum + count);
        report.add(
            Figure::new(format!("clients rejected after a restart, {crowd}"), sum(&rejected), "")
                .goal(Goal::AtMost(0.0))
                .note(format!("besides {} told to come again while the relay starts", sum(&while_starting))),
        );
        report.add(
            Figure::new(
                format!("relay's memory at most after a restart, {crowd}"),
                value("relay's memory at most"),
                "MB",
            )
            .slope("relay's memory at most after a restart", size, "clients"),
        );
    }
    Ok(())
}

/// Seconds; both ends of each are in this process.
fn raw(bench: &Bench, clients: usize) -> Result<f64, String> {
    let sockets = clients.min(usize::try_from(bench.connections_max / 2).unwrap_or(usize::MAX));
    let each = accepts(sockets)?.as_secs_f64() / hongyan_load::histogram::float(sockets as u64);
    Ok(each * hongyan_load::histogram::float(clients as u64))
}
