//! Durable one-to-one sends: the most, and how long an acknowledgement takes at half of it.

use hongyan_load::scenarios::find;
use hongyan_load::{Outcome, Plan};

use crate::raw::plain_log;
use crate::report::{Figure, Goal, Report, processors_note};
use crate::{Bench, relay};

/// Senders at once.
const SENDERS: [usize; 3] = [1, 64, 512];

pub(crate) fn run(bench: &Bench, report: &mut Report) -> Result<(), String> {
    let scenario = find("one-to-one").ok_or("There is no such scenario.")?;
    let measure = |relay: &_, plan: &Plan| -> Result<Outcome, String> {
        bench.runtime.block_on((scenario.run)(relay::target(relay), plan.clone()))
    };
    for senders in SENDERS {
        let crowd = format!("{senders} sender{}", if senders == 1 { "" } else { "s" });
        report.says(&format!("sends: {crowd}"));
        let relay = relay::start();
        let plan = Plan { senders, duration: bench.time(), receivers_connected: false, ..Plan::default() };
        let log = |batch| plain_log(relay.folder(), batch, bench.time() / 6);
        let before = log(senders)?;
        let most = measure(&relay, &plan)?;
        report.demand("the sends", &most)?;
        let limit = before.or(log(senders)?);
        let rate = most.value("durable sends").unwrap_or_default();
        let figure = Figure::new(format!("durable sends, {crowd}"), rate, "1/s")
            .beside(format!("plain log, {senders} per fdatasync"), limit.rate)
            .note(processors_note(&most))
            .slope("durable sends", senders as u64, "senders");
        report.add(if senders == 512 { figure.goal(Goal::RatioAtLeast(0.8)) } else { figure });
        if let Some(time) = most.used.relay {
            let each = time.as_secs_f64() * 1e6 / (rate * most.used.time.as_secs_f64()).max(1.0);
            report.add(Figure::new(format!("relay's processor time of a send, {crowd}"), each, "µs").slope(
                "relay's processor time of a send",
                senders as u64,
                "senders",
            ));
        }

        let half = measure(&relay, &Plan { rate: Some((rate / 2.0).max(1.0)), ..plan })?;
        report.demand("the sends at half of the load", &half)?;
        // At half of the load half as many wait for each commit.
        let batch = senders.div_ceil(2);
        let sync = log(batch)?;
        for (name, share) in [("p50", "acknowledgement, p50"), ("p99", "acknowledgement, p99")] {
            let ms = half.value(share).unwrap_or_default();
            let figure =
                Figure::new(format!("acknowledgement at half of that load, {crowd}, {name}"), ms, "ms")
                    .beside(format!("median fdatasync of {batch}"), sync.sync_ms)
                    .note(format!(
                        "the disk's own p99 is {:.2} ms; {}",
                        sync.sync_p99_ms,
                        processors_note(&half)
                    ));
            report.add(if name == "p99" {
                figure.goal(Goal::RatioAtMost(3.0)).slope(
                    "acknowledgement at half of the load, p99",
                    senders as u64,
                    "senders",
                )
            } else {
                figure
            });
        }
    }
    Ok(())
}
