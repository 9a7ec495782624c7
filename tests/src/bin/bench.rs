//! The benchmark: the release relay as a process on the real disk, real WebSockets, the real client core.
//!
//! `cargo run --release -p hongyan-tests --bin bench -- [--quick] [--json FILE]`. Each figure is a line of JSON on
//! stdout: `{figure, value, unit, beside: {what, value}, note}`; what is beside it is the machine's own limit, measured
//! in the same run, in the same unit. With `--json` they go to the file, and a table to stdout. The relay runs with its
//! defaults except the limits on rates and on connections from one address, which would only measure themselves.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints is meant to")]

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use hongyan_client::{Command, Event};
use hongyan_protocol::limits::GROUP_CHANGE_USERS_MAX;
use hongyan_protocol::{ConversationId, UserId};
use hongyan_tests::relay_process::processor_time;
use hongyan_tests::{Host, NoCache, RelayProcess, Setup};
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// A message's text. With its key and names it is some 400 bytes in the log.
const TEXT_BYTES: usize = 300;
/// A message as the plain log writes it.
const RECORD_BYTES: usize = 400;
/// The plain log is written round and round.
const PLAIN_LOG_BYTES: usize = 64 * 1024 * 1024;
/// Senders at once.
const SENDERS: [usize; 3] = [1, 64, 512];
/// Members of the group.
const MEMBERS: usize = 1_000;
/// Members of it who write.
const WRITERS: usize = 8;
/// Idle connections.
const IDLE: usize = 2_000;
/// The slowest acknowledgement that the histogram tells from slower ones, in microseconds.
const LATENCY_US_MAX: u64 = 60_000_000;
/// For connections and the last deliveries.
const PATIENCE: Duration = Duration::from_secs(60);

/// Without limits on rates: they are there to hold back what this makes.
const SETTINGS: [(&str, &str); 6] = [
    ("limits.sends_per_second", "1000000"),
    ("limits.sends_burst", "1000000"),
    ("limits.requests_per_second", "1000000"),
    ("limits.requests_burst", "1000000"),
    ("limits.connections_per_address_max", "100000"),
    ("log", "warn"),
];

struct Options {
    quick: bool,
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    let mut options = Options { quick: false, json: None };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match (arg.as_str(), args.len()) {
            ("--quick", _) => options.quick = true,
            ("--json", 1..) => options.json = args.next().map(PathBuf::from),
            _ => {
                eprintln!("bench: the options are --quick and --json FILE.");
                return ExitCode::from(2);
            }
        }
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("bench: the system gives no threads: {error}.");
            return ExitCode::FAILURE;
        }
    };
    let mut report = Report { figures: Vec::new(), lines: options.json.is_none() };
    runtime.block_on(async {
        let time = Duration::from_secs(if options.quick { 3 } else { 12 });
        for senders in SENDERS {
            sends(&mut report, senders, time).await;
        }
        deliveries(&mut report, time).await;
        idle(&mut report).await;
    });
    match &options.json {
        None => ExitCode::SUCCESS,
        Some(path) => report.write(path),
    }
}

// ---------------------------------------------------------------- figures

struct Report {
    figures: Vec<Value>,
    /// Each as it is there, on stdout.
    lines: bool,
}

impl Report {
    fn add(&mut self, figure: &str, value: f64, unit: &str, beside: Option<(&str, f64)>, note: &str) {
        let mut record = json!({ "figure": figure, "value": round(value), "unit": unit });
        if let Some((what, limit)) = beside {
            record["beside"] = json!({ "what": what, "value": round(limit) });
            record["ratio"] = json!(round(value / limit));
        }
        if !note.is_empty() {
            record["note"] = json!(note);
        }
        if self.lines {
            println!("{record}");
        } else {
            eprintln!("{figure}: {} {unit}", round(value));
        }
        self.figures.push(record);
    }

    fn write(&self, path: &Path) -> ExitCode {
        let text = serde_json::to_string_pretty(&self.figures).unwrap_or_default();
        if let Err(error) = std::fs::write(path, text + "\n") {
            eprintln!("bench: {} could not be written: {error}.", path.display());
            return ExitCode::FAILURE;
        }
        let cell = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        for figure in &self.figures {
            let beside = figure.get("beside").map_or_else(String::new, |beside| {
                format!("{} {}, ratio {}", beside["value"], cell(&beside["what"]), figure["ratio"])
            });
            let (name, value, unit) =
                (cell(&figure["figure"]), cell(&figure["value"]), cell(&figure["unit"]));
            println!("{name:<52} {value:>10} {unit:<14} {beside}");
        }
        ExitCode::SUCCESS
    }
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

#[allow(clippy::cast_precision_loss, reason = "counts of a benchmark")]
fn per_second(count: u64, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}

/// What the processors did meanwhile.
struct Processors {
    begun: Instant,
    own: Duration,
    relay: Duration,
}

impl Processors {
    fn start(relay: &RelayProcess) -> Self {
        Self { begun: Instant::now(), own: processor_time("self"), relay: relay.processor_time() }
    }

    /// Microseconds of the relay's for each of so many. Unlike a rate it hardly depends on what else the machine does.
    #[allow(clippy::cast_precision_loss, reason = "counts of a benchmark")]
    fn relay_us_each(&self, relay: &RelayProcess, count: u64) -> f64 {
        relay.processor_time().saturating_sub(self.relay).as_secs_f64() * 1e6 / count.max(1) as f64
    }

    /// In words, as a figure's note.
    fn note(&self, relay: &RelayProcess) -> String {
        let time = self.begun.elapsed().as_secs_f64();
        let own = (processor_time("self").saturating_sub(self.own)).as_secs_f64() / time;
        let relay = (relay.processor_time().saturating_sub(self.relay)).as_secs_f64() / time;
        format!("the relay used {relay:.2} processors, the generator {own:.2}")
    }
}

fn user(id: String) -> UserId {
    UserId::new(&id).expect("a user id")
}

async fn connect(
    relay: &RelayProcess,
    users: Vec<String>,
    on_event: impl Fn(Event) + Clone + Send + 'static,
) -> Vec<Host> {
    let mut hosts = Vec::new();
    // In portions: a crowd that dials at once only meets the listener's backlog.
    for portion in users.chunks(100) {
        let mut portion: Vec<Host> = portion
            .iter()
            .map(|user| Host::start(Setup::new(relay.address(), user, NoCache), on_event.clone()))
            .collect();
        for host in &mut portion {
            host.caught_up(PATIENCE).await;
        }
        hosts.append(&mut portion);
    }
    hosts
}

// ---------------------------------------------------------------- sends

/// Each sender writes to a conversation of its own, and the next message when the one before is durable.
async fn sends(report: &mut Report, senders: usize, time: Duration) {
    let relay = tokio::task::block_in_place(|| RelayProcess::start(&SETTINGS));
    let before = tokio::task::block_in_place(|| plain_log(relay.folder(), senders, time / 8));
    let hosts = connect(&relay, (0..senders).map(|n| format!("sender-{n}")).collect(), drop).await;
    let measuring = Arc::new(AtomicBool::new(false));
    let times = Arc::new(Mutex::new(Histogram::<u64>::new_with_max(LATENCY_US_MAX, 3).expect("a histogram")));
    let text: Arc<str> = "x".repeat(TEXT_BYTES).into();
    let mut running = JoinSet::new();
    for (number, host) in hosts.into_iter().enumerate() {
        let (measuring, times, text) = (Arc::clone(&measuring), Arc::clone(&times), Arc::clone(&text));
        running.spawn(async move {
            let conversation = host.direct(&format!("receiver-{number}"));
            let mut own = Vec::new();
            loop {
                let begun = Instant::now();
                host.send(&conversation, &text).await.expect("the send is taken");
                if measuring.load(Ordering::Relaxed) {
                    own.push(begun.elapsed());
                } else if !own.is_empty() {
                    let mut times = times.lock().unwrap_or_else(PoisonError::into_inner);
                    for time in own {
                        times.saturating_record(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
                    }
                    return;
                }
            }
        });
    }
    tokio::time::sleep(time / 4).await;
    measuring.store(true, Ordering::Relaxed);
    let processors = Processors::start(&relay);
    tokio::time::sleep(time).await;
    measuring.store(false, Ordering::Relaxed);
    let (elapsed, note) = (processors.begun.elapsed(), processors.note(&relay));
    let relay_time = processors.relay_us_each(&relay, 1);
    running.join_all().await;

    let after = tokio::task::block_in_place(|| plain_log(relay.folder(), senders, time / 8));
    let limit = before.max(after);
    let times = times.lock().unwrap_or_else(PoisonError::into_inner);
    let crowd = format!("{senders} sender{}", if senders == 1 { "" } else { "s" });
    let beside = format!("plain log, {senders} per fdatasync");
    report.add(
        &format!("durable sends, {crowd}"),
        per_second(times.len(), elapsed),
        "1/s",
        Some((&beside, limit)),
        &note,
    );
    #[allow(clippy::cast_precision_loss, reason = "counts of a benchmark")]
    let each = relay_time / times.len().max(1) as f64;
    report.add(&format!("relay's processor time of a send, {crowd}"), each, "µs", None, "");
    for (name, quantile) in [("p50", 0.5), ("p99", 0.99)] {
        #[allow(clippy::cast_precision_loss, reason = "microseconds of a benchmark")]
        let ms = times.value_at_quantile(quantile) as f64 / 1_000.0;
        report.add(&format!("acknowledgement {name}, {crowd}"), ms, "ms", None, "");
    }
}

/// The same on the same disk without anything between: records per second of one file into which `batch` records are
/// written and synced at a time. It grows with each write, or was made large before: whichever this disk likes better.
fn plain_log(folder: &Path, batch: usize, time: Duration) -> f64 {
    let path = folder.join("plain-log");
    let bytes = vec![0x5a; RECORD_BYTES * batch];
    let mut best = 0.0f64;
    for made_before in [false, true] {
        let mut file = File::create(&path).expect("a file beside the relay's");
        if made_before {
            file.write_all(&vec![0; PLAIN_LOG_BYTES])
                .and_then(|()| file.sync_all())
                .expect("the disk takes it");
            file.rewind().expect("a file can be read again");
        }
        let (begun, mut records, mut written) = (Instant::now(), 0, 0);
        while begun.elapsed() < time {
            if written + bytes.len() > PLAIN_LOG_BYTES {
                file.rewind().expect("a file can be read again");
                written = 0;
            }
            file.write_all(&bytes).and_then(|()| file.sync_data()).expect("the disk takes it");
            records += batch as u64;
            written += bytes.len();
        }
        best = best.max(per_second(records, begun.elapsed()));
    }
    let _ = std::fs::remove_file(path);
    best
}

// ---------------------------------------------------------------- deliveries

/// Some members of a large group write; every member is connected.
async fn deliveries(report: &mut Report, time: Duration) {
    let relay = tokio::task::block_in_place(|| RelayProcess::start(&SETTINGS));
    let delivered = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&delivered);
    let hosts = connect(&relay, (0..MEMBERS).map(|n| format!("member-{n}")).collect(), move |event| {
        if let Event::Message(_) = event {
            count.fetch_add(1, Ordering::Relaxed);
        }
    })
    .await;
    let group = large_group(&hosts[0]).await;
    let text = "x".repeat(TEXT_BYTES);
    let processors = Processors::start(&relay);
    let mut sent = 0;
    // Rounds of one message of each writer: nobody's queue runs full while the figure is taken.
    while processors.begun.elapsed() < time {
        let round = hosts[..WRITERS].iter().map(|host| host.send(&group, &text));
        for answer in futures_util::future::join_all(round).await {
            answer.expect("the send is taken");
            sent += 1;
        }
    }
    let all = sent * MEMBERS as u64;
    while delivered.load(Ordering::Relaxed) < all {
        assert!(processors.begun.elapsed() < time + PATIENCE, "deliveries are missing");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (elapsed, note) = (processors.begun.elapsed(), processors.note(&relay));
    let each = processors.relay_us_each(&relay, all);
    drop(hosts);
    let limit = tokio::task::block_in_place(|| raw_writes(time / 4));
    report.add(
        &format!("deliveries to {MEMBERS} members of a group"),
        per_second(all, elapsed),
        "1/s",
        Some(("raw socket writes, one thread", limit)),
        &note,
    );
    report.add("relay's processor time of a delivery", each, "µs", None, "");
}

async fn large_group(owner: &Host) -> ConversationId {
    let names: Vec<UserId> = (1..MEMBERS).map(|n| user(format!("member-{n}"))).collect();
    let group = owner.create_group("Geese", &[]).await.expect("the group is made");
    for portion in names.chunks(GROUP_CHANGE_USERS_MAX) {
        let add = Command::AddMembers(group.clone(), portion.to_vec());
        owner.command(add).await.expect("the members are added");
    }
    group
}

/// Writes per second of one thread that writes a message to each of as many sockets, over and over, with readers.
fn raw_writes(time: Duration) -> f64 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("its address");
    let mut writers = Vec::new();
    let mut readers = Vec::new();
    for _ in 0..MEMBERS {
        writers.push(TcpStream::connect(address).expect("a connection"));
        readers.push(listener.accept().expect("a connection").0);
    }
    for stream in &readers {
        stream.set_nonblocking(true).expect("a socket of one's own");
    }
    let done = AtomicBool::new(false);
    let bytes = vec![0x5a; RECORD_BYTES];
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut buffer = vec![0; 64 * 1024];
            while !done.load(Ordering::Relaxed) {
                for mut stream in &readers {
                    let _ = stream.read(&mut buffer);
                }
            }
        });
        let (begun, mut writes) = (Instant::now(), 0);
        while begun.elapsed() < time {
            for mut stream in &writers {
                stream.write_all(&bytes).expect("the reader reads");
            }
            writes += MEMBERS as u64;
        }
        let rate = per_second(writes, begun.elapsed());
        done.store(true, Ordering::Relaxed);
        rate
    })
}

// ---------------------------------------------------------------- memory

/// What a connection costs that says hello and then nothing.
async fn idle(report: &mut Report) {
    let relay = tokio::task::block_in_place(|| RelayProcess::start(&SETTINGS));
    // The first connections bring up threads and tables that the others share.
    let first = connect(&relay, (0..20).map(|n| format!("first-{n}")).collect(), drop).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = relay.memory_bytes();
    let hosts = connect(&relay, (0..IDLE).map(|n| format!("idle-{n}")).collect(), drop).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let grown = relay.memory_bytes().saturating_sub(before);
    #[allow(clippy::cast_precision_loss, reason = "bytes of a benchmark")]
    let each = grown as f64 / 1_024.0 / IDLE as f64;
    report.add(
        "memory of an idle connection",
        each,
        "KB",
        None,
        &format!("{IDLE} users, resident memory of the relay"),
    );
    drop((first, hosts));
}
