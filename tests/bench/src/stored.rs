//! What a large store costs: pages of history while sends go on, the start, the size on disk, `verify`.

use std::process::{Command as Program, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use hongyan_client::{Answer, Command};
use hongyan_load::crowd::connect;
use hongyan_load::histogram::{Latencies, float};
use hongyan_load::scenarios::find;
use hongyan_load::{Host, Meter, Plan};
use hongyan_protocol::{ConversationId, UserId};
use hongyan_tests::RelayProcess;
use hongyan_tests::relay_process::program;

use crate::filler::Groups;
use crate::raw::{RECORD_BYTES, read_folder, round_trips};
use crate::report::{Figure, Goal, Report};
use crate::{Bench, relay};

/// Stored messages, 1×, about 3× and 10×.
const MESSAGES: [u64; 3] = [100_000, 330_000, 1_000_000];
/// The same when it has to be quick.
const MESSAGES_QUICK: [u64; 3] = [10_000, 33_000, 100_000];
/// A message's text.
const TEXT_BYTES: usize = 300;
/// Those who read history at once …
const READERS: usize = 8;
/// … so many messages at a time.
const PAGE: usize = 50;
/// Sends per second that go on meanwhile.
const SENDS_PER_SECOND: f64 = 500.0;
/// Who sends beside the readers, and when a relay is killed.
const SENDERS: usize = 64;
/// Bytes of commits that lie in the journal only: about as many as there are when the store begins to write them to tables.
const IN_JOURNAL_BYTES: u64 = 7_500_000;
/// From the start of the program until it says that it is ready, in milliseconds.
const READY_MS_MAX: f64 = 200.0;

pub(crate) fn run(bench: &Bench, report: &mut Report) -> Result<(), String> {
    let sizes = if bench.quick { MESSAGES_QUICK } else { MESSAGES };
    let readers: Vec<UserId> =
        (0..READERS).filter_map(|n| UserId::new(&format!("reader-{n}")).ok()).collect();
    let mut groups: Vec<String> = Vec::new();
    let mut written = 0;
    let mut relay: Option<RelayProcess> = None;
    for size in sizes {
        report.says(&format!("stored: {size} messages"));
        let mut filled = Instant::now();
        let mut fill = |data: &std::path::Path| -> Result<(), String> {
            let first = groups.is_empty();
            let mut filler = Groups::open(data, &groups)?;
            let begun = Instant::now();
            filler.write(written, size - written, TEXT_BYTES)?;
            let seconds = begun.elapsed().as_secs_f64();
            if first {
                groups = filler.ids();
                filler.add(&readers)?;
            }
            report.add(
                Figure::new(
                    format!("filling a store from {written} to {size} messages"),
                    float(size - written) / seconds,
                    "1/s",
                )
                .note(format!("the core without sockets, {seconds:.1} s")),
            );
            written = size + filler.write_into_the_journal(size, IN_JOURNAL_BYTES, TEXT_BYTES)?;
            drop(filler);
            filled = Instant::now();
            Ok(())
        };
        let mut running = match relay.take() {
            None => relay::start_over(fill)?,
            Some(mut running) => {
                running.stop();
                fill(&running.data())?;
                running.restart();
                running
            }
        };
        let figure = ready("with the journal full", filled.elapsed(), size);
        report.add(figure.note(format!("{IN_JOURNAL_BYTES} bytes of commits were in no table yet")));
        written += history(bench, report, &running, &readers, &groups, size)?;
        running.stop();
        let begun = Instant::now();
        running.restart();
        report.add(ready("after a clean stop", begun.elapsed(), size));
        on_disk(report, &mut running, size, written)?;
        relay = Some(running);
    }
    let Some(mut relay) = relay else { return Ok(()) };
    kill_under_load(bench, &mut relay)?;
    let begun = Instant::now();
    relay.restart();
    let [.., size] = sizes;
    report
        .add(ready("after a kill under full load", begun.elapsed(), size).note(format!("{SENDERS} senders")));
    Ok(())
}

/// Nothing is gathered any more when it is killed, and nothing tidied up.
fn kill_under_load(bench: &Bench, relay: &mut RelayProcess) -> Result<(), String> {
    relay.restart();
    let sends = find("one-to-one").ok_or("There is no such scenario.")?;
    let plan =
        Plan { senders: SENDERS, duration: bench.time(), receivers_connected: false, ..Plan::default() };
    let target = relay::target(relay);
    bench.runtime.block_on(async {
        let load = tokio::spawn((sends.run)(target, plan));
        tokio::time::sleep(bench.time() / 2).await;
        let is_under_way = !load.is_finished();
        relay.kill();
        load.abort();
        if is_under_way { Ok(()) } else { Err("The load ended before the relay was killed.".into()) }
    })
}

/// The newest page of one conversation after another, while others send. Gives how many messages these sent.
fn history(
    bench: &Bench,
    report: &mut Report,
    relay: &RelayProcess,
    readers: &[UserId],
    groups: &[String],
    size: u64,
) -> Result<u64, String> {
    let target = relay::target(relay);
    let sends = find("one-to-one").ok_or("There is no such scenario.")?;
    let plan = Plan {
        senders: SENDERS,
        rate: Some(SENDS_PER_SECOND),
        duration: bench.time(),
        receivers_connected: false,
        ..Plan::default()
    };
    let latencies = Mutex::new(Latencies::default());
    let groups: Vec<ConversationId> = groups.iter().filter_map(|id| ConversationId::new(id).ok()).collect();
    let sent = bench.runtime.block_on(async {
        let hosts = connect(&target, &Arc::<Meter>::default(), 0, readers, |_, _| {}).await?;
        let load = tokio::spawn((sends.run)(target.clone(), plan));
        let ends = Instant::now() + bench.time();
        let reads = hosts.iter().enumerate().map(|(reader, host)| {
            let (groups, latencies) = (&groups, &latencies);
            async move {
                let mut own = Latencies::default();
                let mut turn = reader * 131;
                while Instant::now() < ends {
                    // A prime step: no two pages that follow each other are neighbours on disk.
                    turn = (turn + 617) % groups.len();
                    own.record(page(host, &groups[turn]).await?);
                }
                latencies.lock().unwrap_or_else(PoisonError::into_inner).add(&own);
                Ok::<(), String>(())
            }
        });
        join_all(reads).await.into_iter().collect::<Result<(), String>>()?;
        let outcome = load.await.map_err(|error| error.to_string())??;
        report.demand("the sends beside the history", &outcome)?;
        Ok::<_, String>(outcome.value("durable sends").unwrap_or_default() * outcome.used.time.as_secs_f64())
    })?;
    let latencies = latencies.into_inner().unwrap_or_else(PoisonError::into_inner);
    let raw = round_trips(PAGE * RECORD_BYTES, bench.time() / 5)?;
    for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
        let figure = Figure::new(
            format!("history page of {PAGE}, {size} stored, {name}"),
            latencies.ms_at(share),
            "ms",
        )
        .beside("raw round trip, as many bytes", raw.ms_at(share))
        .note(format!(
            "{READERS} readers, {} pages, {SENDS_PER_SECOND} sends a second beside",
            latencies.count()
        ));
        report.add(if name == "p99" {
            figure.slope("history page, p99", size, "stored messages")
        } else {
            figure
        });
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of messages")]
    Ok(sent as u64)
}

/// How long a page takes.
async fn page(host: &Host, group: &ConversationId) -> Result<Duration, String> {
    let begun = Instant::now();
    let command = Command::History { conversation: group.clone(), before: None, after: None, limit: PAGE };
    match host.command(command).await {
        Ok(Answer::History(messages)) if !messages.is_empty() => Ok(begun.elapsed()),
        Ok(_) => Err("A page of history came back empty.".into()),
        Err(error) => Err(format!("A page of history was refused: {error}")),
    }
}

fn ready(how: &str, time: Duration, size: u64) -> Figure {
    Figure::new(format!("start to ready {how}, {size} stored"), ms(time), "ms")
        .beside("allowed", READY_MS_MAX)
        .goal(Goal::AtMost(READY_MS_MAX))
        .slope(&format!("start to ready {how}"), size, "stored messages")
}

fn on_disk(report: &mut Report, relay: &mut RelayProcess, size: u64, written: u64) -> Result<(), String> {
    relay.stop();
    let (read, bytes) = read_folder(&relay.data())?;
    report.add(Figure::new(format!("store on disk, {size} stored"), float(bytes) / 1_048_576.0, "MB").slope(
        "store on disk",
        size,
        "stored messages",
    ));
    report.add(
        Figure::new(format!("bytes on disk of a message, {size} stored"), float(bytes) / float(written), "B")
            .beside("its text", float(TEXT_BYTES as u64))
            .note("with its key, names and references"),
    );
    let begun = Instant::now();
    let status = Program::new(program())
        .args(["verify", "--data"])
        .arg(relay.data())
        .stdout(Stdio::null())
        .status()
        .map_err(|error| format!("`verify` could not be run: {error}."))?;
    if !status.success() {
        return Err("`verify` found damage.".into());
    }
    report.add(
        Figure::new(format!("verify, {size} stored"), begun.elapsed().as_secs_f64(), "s")
            .beside("reading every byte once", read.as_secs_f64())
            .slope("verify", size, "stored messages"),
    );
    Ok(())
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}
