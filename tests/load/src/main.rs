//! `hongyan-bench`: puts a running relay under load and says how it bears it.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints is meant to")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use clap::builder::PossibleValuesParser;
use hongyan_load::limits::{CLIENTS_MAX, MESSAGES_MAX, RATE_MAX, SECONDS_MAX, SENDERS_MAX, TEXT_BYTES};
use hongyan_load::scenarios::{self, SCENARIOS};
use hongyan_load::{Plan, Target, files};

/// Puts a running relay of Hongyan under load with thousands of real clients, and says how it bears it.
///
/// Every message is numbered: what is lost, doubled or reordered is counted at each receiver, and anything but zero ends
/// the program with 1. Latency counts from the moment at which a send was due, so a relay that stalls can't hide it.
#[derive(Parser)]
#[command(name = "hongyan-bench", version, arg_required_else_help = true, after_help = scenario_list())]
struct Cli {
    /// What to do; the list is below.
    #[arg(value_name = "SCENARIO", hide_possible_values = true,
          value_parser = PossibleValuesParser::new(SCENARIOS.iter().map(|scenario| scenario.name)))]
    scenario: String,
    /// Where the relay listens.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8787")]
    url: String,
    /// Sign tokens with this secret of the relay's `tokens.hs256`, as KEY-ID:SECRET; without it the relay is asked for
    /// them, which one in development mode (`serve --dev`) answers.
    #[arg(long, value_name = "SECRET", env = "HONGYAN_BENCH_SECRET", hide_env_values = true)]
    secret: Option<String>,
    /// Clients.
    #[arg(long, value_name = "N", default_value_t = Plan::default().clients, value_parser = count(CLIENTS_MAX))]
    clients: usize,
    /// Members of the group.
    #[arg(long, value_name = "N", default_value_t = Plan::default().members, value_parser = count(CLIENTS_MAX))]
    members: usize,
    /// Clients that send.
    #[arg(long, value_name = "N", default_value_t = Plan::default().senders, value_parser = count(SENDERS_MAX))]
    senders: usize,
    /// Sends per second over all senders, each when it is due (open loop); without it each sender sends when its last
    /// message was answered, which finds the most (closed loop).
    #[arg(long, value_name = "N", value_parser = rate)]
    rate: Option<f64>,
    /// How long it measures.
    #[arg(long, value_name = "N", default_value_t = Plan::default().duration.as_secs(),
          value_parser = clap::value_parser!(u64).range(1..=SECONDS_MAX))]
    seconds: u64,
    /// Bytes of a message's text.
    #[arg(long, value_name = "N", default_value_t = Plan::default().text_bytes, value_parser = text_bytes)]
    text_bytes: usize,
    /// Messages that wait for who was absent.
    #[arg(long, value_name = "N", default_value_t = Plan::default().messages,
          value_parser = clap::value_parser!(u64).range(1..=MESSAGES_MAX))]
    messages: u64,
    /// Receivers are not connected.
    #[arg(long)]
    absent: bool,
    /// Wait for a restart of the relay instead of cutting the connections.
    #[arg(long)]
    restart: bool,
    /// The relay's process on this machine, so that its processor time and memory are told, too.
    #[arg(long, value_name = "PID")]
    relay_pid: Option<u32>,
    /// Write what was found as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn scenario_list() -> String {
    let mut text = String::from("Scenarios:");
    for scenario in SCENARIOS {
        text.push_str(&format!("\n  {:<12}{}", scenario.name, scenario.what));
    }
    text.push_str("\n\nA relay refuses users who send more than its `limits.sends_per_second`; raise it to find the most.");
    text
}

/// A whole number from 1 on.
fn count(most: usize) -> impl Fn(&str) -> Result<usize, String> + Clone {
    move |text| match text.parse() {
        Ok(count) if (1..=most).contains(&count) => Ok(count),
        _ => Err(format!("it is a whole number from 1 to {most}")),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if rate > 0.0 && rate <= RATE_MAX => Ok(rate),
        _ => Err(format!("it is a number above 0 and at most {RATE_MAX}")),
    }
}

fn text_bytes(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(bytes) if TEXT_BYTES.contains(&bytes) => Ok(bytes),
        _ => Err(format!("it is a whole number from {} to {}", TEXT_BYTES.start(), TEXT_BYTES.end())),
    }
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(sentence) => {
            eprintln!("hongyan-bench: {sentence}");
            ExitCode::from(2)
        }
    }
}

/// Whether nothing was lost, doubled, reordered or refused.
fn run(cli: &Cli) -> Result<bool, String> {
    let scenario = scenarios::find(&cli.scenario).ok_or("There is no such scenario.")?;
    let plan = Plan {
        clients: cli.clients,
        members: cli.members,
        senders: cli.senders,
        rate: cli.rate,
        duration: Duration::from_secs(cli.seconds),
        text_bytes: cli.text_bytes,
        messages: cli.messages,
        receivers_connected: !cli.absent,
        awaits_restart: cli.restart,
        tell: |words| eprintln!("  {words}"),
    };
    let target = Target::new(&cli.url, cli.secret.as_deref(), cli.relay_pid)?;
    files::raise_for((scenario.connections)(&plan))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("The system gives no threads: {error}."))?;
    eprintln!("{}: {}", scenario.name, scenario.what);
    let outcome = runtime.block_on((scenario.run)(target, plan));
    // Thousands of clients need not be ended one by one.
    runtime.shutdown_background();
    let outcome = outcome?;
    print!("{}", outcome.text());
    if let Some(path) = &cli.json {
        let text = format!("{:#}\n", outcome.json(scenario.name));
        std::fs::write(path, text)
            .map_err(|error| format!("{} could not be written: {error}.", path.display()))?;
    }
    Ok(outcome.is_good())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_options_are_well_made() {
        Cli::command().debug_assert();
        let parse = |args: &[&str]| Cli::try_parse_from([&["hongyan-bench"], args].concat());
        assert!(parse(&["one-to-one", "--senders", "5", "--rate", "10.5"]).is_ok());
        for wrong in [&["two-to-one"][..], &["group", "--members", "0"], &["idle", "--rate", "-1"], &[]] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
