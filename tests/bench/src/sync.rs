//! Catching up after absence, with a native client.

use hongyan_load::Plan;
use hongyan_load::scenarios::find;

use crate::raw::socket_stream;
use crate::report::{Figure, Report, processors_note};
use crate::{Bench, relay};

/// References that wait.
const REFERENCES: [u64; 3] = [10_000, 30_000, 100_000];
/// A message's text.
const TEXT_BYTES: usize = 100;
/// Those who wrote them.
const SENDERS: usize = 500;

pub(crate) fn run(bench: &Bench, report: &mut Report) -> Result<(), String> {
    let scenario = find("sync").ok_or("There is no such scenario.")?;
    let stream = socket_stream(bench.time() / 4)?;
    for references in REFERENCES {
        report.says(&format!("sync: {references} references"));
        let relay = relay::start();
        let plan = Plan { messages: references, senders: SENDERS, text_bytes: TEXT_BYTES, ..Plan::default() };
        let outcome = bench.runtime.block_on((scenario.run)(relay::target(&relay), plan))?;
        report.demand("catching up", &outcome)?;
        let bytes = outcome.value("bytes on the wire of a reference").unwrap_or_default();
        report.add(
            Figure::new(
                format!("sync of {references} references, native"),
                outcome.value("references per second").unwrap_or_default(),
                "1/s",
            )
            .beside("a raw loopback socket, as many bytes", stream / bytes.max(1.0))
            .note(processors_note(&outcome))
            .slope("sync, native", references, "references"),
        );
        report.add(
            Figure::new(format!("bytes on the wire of a reference, of {references}"), bytes, "B")
                .beside("the text in it", hongyan_load::histogram::float(TEXT_BYTES as u64)),
        );
        let memory = relay.memory_bytes_peak();
        report.add(
            Figure::new(
                format!("relay's memory at most, sync of {references}"),
                hongyan_load::histogram::float(memory) / 1_048_576.0,
                "MB",
            )
            .slope("relay's memory at most in sync", references, "references"),
        );
    }
    Ok(())
}
