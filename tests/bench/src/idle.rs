//! Memory of an idle connection: of all on the average, and of each that comes besides.

use std::time::Duration;

use hongyan_load::Plan;
use hongyan_load::histogram::float;
use hongyan_load::scenarios::find;

use crate::report::{Figure, Goal, Report};
use crate::{Bench, relay};

/// Connections; the most is as many as the limit of open files allows.
const CONNECTIONS: [u64; 3] = [1_000, 5_000, 20_000];
/// Process memory of one, in KB, at most.
const KILOBYTES_MAX: f64 = 8.0;

pub(crate) fn run(bench: &Bench, report: &mut Report) -> Result<(), String> {
    let scenario = find("idle").ok_or("There is no such scenario.")?;
    // Twenty come before those that are counted.
    let allowed = bench.connections_max.saturating_sub(20);
    let mut before: Option<(usize, f64)> = None;
    for connections in CONNECTIONS {
        let clients = usize::try_from(connections.min(allowed)).unwrap_or(usize::MAX);
        report.says(&format!("idle: {clients} connections"));
        let relay = relay::start();
        let plan = Plan { clients, duration: Duration::from_secs(3), ..Plan::default() };
        let outcome = bench.runtime.block_on((scenario.run)(relay::target(&relay), plan))?;
        report.demand("the idle connections", &outcome)?;
        let memory = outcome.value("relay's memory of an idle connection").unwrap_or_default();
        let mut figure = Figure::new(format!("memory of an idle connection, of {clients}"), memory, "KB")
            .beside("allowed", KILOBYTES_MAX)
            .goal(Goal::AtMost(KILOBYTES_MAX))
            .slope("memory of an idle connection", clients as u64, "connections");
        if connections > allowed {
            figure = figure.note(format!("the limit of open files allows no more than {clients}"));
        }
        report.add(figure);
        // What the first ones bring up for all is not in it.
        let in_all = memory * float(clients as u64);
        if let Some((fewer, less)) = before.replace((clients, in_all)) {
            let besides = float(clients.saturating_sub(fewer).max(1) as u64);
            report.add(
                Figure::new(
                    format!("memory of one more idle connection, from {fewer} to {clients}"),
                    (in_all - less) / besides,
                    "KB",
                )
                .beside("allowed", KILOBYTES_MAX)
                .goal(Goal::AtMost(KILOBYTES_MAX)),
            );
        }
        report.add(
            Figure::new(
                format!("kernel's TCP buffers of an idle connection, of {clients}"),
                outcome.value("kernel's TCP buffers of an idle connection").unwrap_or_default(),
                "KB",
            )
            .note("both ends, /proc/net/sockstat"),
        );
    }
    Ok(())
}
