//! What floods do to others: how long a message takes between two well-behaved users, quiet and during each flood.
//!
//! `cargo run --release -p hongyan-tests --bin floods -- [--quick] [--only NAME]…`. Figures are lines of JSON on stdout, as the benchmark's.
//! The flood comes from a process of its own (this program with `flood NAME ADDRESS`) that Linux runs when a processor is idle
//! (`SCHED_IDLE`, by `chrt`): it takes all the time that the processors have left, and none from the relay and the two users.
//! On one machine a flood of the same priority would only measure itself; one of the lowest (19) still has whoever wakes wait
//! for the end of its slice, 4 ms. (Linux shares the processors among sessions first, and priorities count within one; all
//! of this is one session.) Each flood is compared with a quiet time just before, and with a control just after: the same
//! flood of another relay, in which the two users are not. That is what a flood takes from the machine, so from everybody on
//! it; what it takes above that, it takes within the relay.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints is meant to")]

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use hongyan_client::Event;
use hongyan_load::process::processor_time;
use hongyan_protocol::ConversationId;
use hongyan_tests::floods::{Flood, PEERS};
use hongyan_tests::{Host, NoCache, RelayProcess, setup};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

/// The defaults, except what would end the flood before it begins.
const SETTINGS: [(&str, &str); 6] = [
    ("limits.connections_per_address_max", "100000"),
    ("limits.opens_per_address_burst", "3000"),
    ("timers.head_ms", "600000"),
    ("timers.hello_ms", "600000"),
    ("timers.stalled_ms", "600000"),
    ("log", "warn"),
];
/// Messages that are timed, quiet and flooded.
const ROUNDS: usize = 1_000;
const ROUNDS_QUICK: usize = 300;
/// Time for a person to write the next line; not even, so that no clock of the relay keeps step with it.
const PACE: Duration = Duration::from_micros(11_300);
/// For connections.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    if let ["flood", name, address] = args[..] {
        return flood(name, address);
    }
    let is_known = |name: &str| Flood::ALL.iter().any(|(_, known, _)| *known == name);
    let (mut rounds, mut only, mut rest) = (ROUNDS, Vec::new(), &args[..]);
    while !rest.is_empty() {
        rest = match rest {
            ["--quick", rest @ ..] => {
                rounds = ROUNDS_QUICK;
                rest
            }
            ["--only", name, rest @ ..] if is_known(name) => {
                only.push(*name);
                rest
            }
            _ => {
                let names = Flood::ALL.map(|(_, name, _)| name).join(", ");
                eprintln!(
                    "floods: the options are --quick and --only NAME, also several; the names are {names}."
                );
                return ExitCode::from(2);
            }
        };
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let Ok(runtime) = runtime else {
        eprintln!("floods: the system gives no threads.");
        return ExitCode::FAILURE;
    };
    runtime.block_on(measure(rounds, &only));
    ExitCode::SUCCESS
}

/// The other process: floods until its standard input ends.
fn flood(name: &str, address: &str) -> ExitCode {
    let flood = Flood::ALL.into_iter().find(|(_, known, _)| *known == name).map(|(flood, ..)| flood);
    let (Some(flood), Ok(address)) = (flood, address.parse::<SocketAddr>()) else {
        eprintln!("floods: {name} at {address} is no flood.");
        return ExitCode::from(2);
    };
    let Ok(runtime) = tokio::runtime::Runtime::new() else { return ExitCode::FAILURE };
    let flooding = runtime.block_on(flood.begin(address));
    println!("begun");
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    println!("{}", runtime.block_on(flooding.end()));
    ExitCode::SUCCESS
}

async fn measure(rounds: usize, only: &[&str]) {
    let start = || tokio::task::block_in_place(|| RelayProcess::start(&SETTINGS));
    let (relay, control) = (start(), start());
    let mut talk = Talk::begin(relay.address()).await;
    for (_, name, what) in
        Flood::ALL.into_iter().filter(|(_, name, _)| only.is_empty() || only.contains(name))
    {
        talk.rounds(rounds / 10).await;
        let quiet = talk.rounds(rounds).await;
        let (flooded, used) = flooded(&mut talk, rounds, name, &relay).await;
        let (controlled, control_used) = self::flooded(&mut talk, rounds, name, &control).await;
        let figure = format!("delivery p99 with {PEERS} connections {what}");
        let note = format!(
            "medians {} ms flooded, {} ms quiet, {} ms in the control; {used}; in the control {control_used}",
            quantile_ms(&flooded, 50),
            quantile_ms(&quiet, 50),
            quantile_ms(&controlled, 50),
        );
        let beside =
            |what: &str, times: &[Duration]| json!({ "what": what, "value": quantile_ms(times, 99) });
        let value = quantile_ms(&flooded, 99);
        let quiet = beside("quiet p99", &quiet);
        println!(
            "{}",
            json!({ "figure": figure, "value": value, "unit": "ms", "beside": quiet, "note": note })
        );
        let control = beside("p99 while another relay is flooded so", &controlled);
        println!("{}", json!({ "figure": figure, "value": value, "unit": "ms", "beside": control }));
    }
}

/// What the talk's messages take while this relay is flooded, and what that takes from the machine.
async fn flooded(
    talk: &mut Talk,
    rounds: usize,
    flood: &str,
    relay: &RelayProcess,
) -> (Vec<Duration>, String) {
    let mut other = tokio::task::block_in_place(|| Other::start(flood, relay.address()));
    let (begun, relay_before, other_before) =
        (Instant::now(), relay.processor_time(), other.processor_time());
    let times = talk.rounds(rounds).await;
    let used = |now: Duration, before: Duration| {
        now.saturating_sub(before).as_secs_f64() / begun.elapsed().as_secs_f64()
    };
    let (relay_used, other_used) =
        (used(relay.processor_time(), relay_before), used(other.processor_time(), other_before));
    let memory = relay.memory_bytes() >> 20;
    let done = tokio::task::block_in_place(|| other.end());
    let used = format!(
        "the flooded relay used {relay_used:.2} processors and {memory} MiB, the flood {other_used:.2} processors, for {done} \
         rounds of its own"
    );
    (times, used)
}

/// In hundredths of a millisecond.
fn quantile_ms(times: &[Duration], percent: usize) -> f64 {
    let mut times = times.to_vec();
    times.sort_unstable();
    (times[(times.len() * percent).div_ceil(100) - 1].as_secs_f64() * 1e5).round() / 100.0
}

/// The process that floods.
struct Other {
    child: Child,
    told: BufReader<std::process::ChildStdout>,
}

impl Other {
    fn start(name: &str, relay: SocketAddr) -> Self {
        let own = std::env::current_exe().expect("the path of this program");
        let mut child = Command::new("chrt")
            .args(["--idle", "0"])
            .arg(own)
            .args(["flood", name, &relay.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("chrt, of util-linux, runs this program a second time");
        let mut told = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut line = String::new();
        let _ = told.read_line(&mut line);
        assert_eq!(line, "begun\n", "the flood {name} begins");
        Self { child, told }
    }

    fn processor_time(&self) -> Duration {
        processor_time(&self.child.id().to_string()).expect("the flood goes on")
    }

    fn end(&mut self) -> usize {
        drop(self.child.stdin.take());
        let mut line = String::new();
        let _ = self.told.read_line(&mut line);
        let _ = self.child.wait();
        line.trim().parse().expect("the flood ends as it should")
    }
}

/// Alice and bob, who talk in turn.
struct Talk {
    people: [(Host, mpsc::UnboundedReceiver<Event>); 2],
    conversation: ConversationId,
    said: usize,
}

impl Talk {
    async fn begin(relay: SocketAddr) -> Self {
        let people = ["alice", "bob"].map(|name| Host::start_with_events(setup(relay, name, NoCache)));
        let conversation = people[0].0.direct("bob");
        let mut talk = Self { people, conversation, said: 0 };
        for (host, _) in &mut talk.people {
            host.caught_up(PATIENCE).await;
        }
        talk
    }

    /// So many messages, each from the call to the other's event.
    async fn rounds(&mut self, count: usize) -> Vec<Duration> {
        let mut pace = interval(PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut times = Vec::with_capacity(count);
        for _ in 0..count {
            pace.tick().await;
            self.said += 1;
            let text = self.said.to_string();
            let [alice, bob] = &mut self.people;
            let (from, to) = if self.said.is_multiple_of(2) { (alice, bob) } else { (bob, alice) };
            let begun = Instant::now();
            let arrives = async {
                hear(&mut to.1, &text).await;
                begun.elapsed()
            };
            let (sent, time) = tokio::join!(from.0.send(&self.conversation, &text), arrives);
            sent.expect("the send is taken");
            times.push(time);
            hear(&mut from.1, &text).await;
        }
        times
    }
}

async fn hear(events: &mut mpsc::UnboundedReceiver<Event>, text: &str) {
    loop {
        match events.recv().await.expect("the client goes on") {
            Event::Message(message) if message.content.text == text => return,
            _ => {}
        }
    }
}
