//! Deliveries to the connected members of one group.

use hongyan_load::Plan;
use hongyan_load::scenarios::find;

use crate::raw::socket_writes;
use crate::report::{Figure, Goal, Report, processors_note};
use crate::{Bench, relay};

/// Members of the group, all connected.
const MEMBERS: [usize; 4] = [100, 300, 1_000, 10_000];
/// Members of it who write.
const WRITERS: usize = 8;

pub(crate) fn run(bench: &Bench, report: &mut Report) -> Result<(), String> {
    let scenario = find("group").ok_or("There is no such scenario.")?;
    for members in MEMBERS.into_iter().filter(|members| *members as u64 <= bench.connections_max) {
        report.says(&format!("deliveries: {members} members"));
        let relay = relay::start();
        let plan = Plan { members, senders: WRITERS, duration: bench.time(), ..Plan::default() };
        let outcome = bench.runtime.block_on((scenario.run)(relay::target(&relay), plan))?;
        report.demand("the deliveries", &outcome)?;
        drop(relay);
        // Both ends of these are in this process.
        let sockets = members.min(usize::try_from(bench.connections_max / 2).unwrap_or(usize::MAX));
        let limit = socket_writes(&bench.runtime, sockets, bench.time() / 4)?;
        let size = members as u64;
        report.add(
            Figure::new(
                format!("deliveries to {members} members of a group"),
                outcome.value("deliveries").unwrap_or_default(),
                "1/s",
            )
            .beside("raw socket writes, one thread", limit.rate)
            .note(processors_note(&outcome))
            .slope("deliveries", size, "members"),
        );
        let each = outcome.value("relay's processor time of a delivery").unwrap_or_default();
        let figure =
            Figure::new(format!("deliveries of one core to {members} members"), 1e6 / each.max(1e-3), "1/s")
                .beside("raw socket writes of one core", limit.rate_per_core)
                .slope("deliveries of one core", size, "members");
        // Of more, what waits for a socket goes in one write: raw writes of one message each are no limit then.
        report.add(if members == 1_000 { figure.goal(Goal::RatioAtLeast(0.7)) } else { figure });
        report.add(
            Figure::new(
                format!("delivery to {members} members, p99"),
                outcome.value("delivery, p99").unwrap_or_default(),
                "ms",
            )
            .note("at the most that the writers reach, from the send on"),
        );
    }
    Ok(())
}
