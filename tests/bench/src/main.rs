//! The benchmarks: the release relay as a process on the real disk, real WebSockets, the real client core.
//!
//! `figures [--quick] [--only PART]…`: each figure is a line of JSON on stdout (see [`report`]); `npm run bench` makes the
//! table and the picture of them. What is beside a figure is the machine's own limit, measured in the same run. The relay
//! runs with its defaults except the limits on rates and on connections from one address, which would only measure
//! themselves.
//!
//! *How to add a part:* a file here and a row in [`PARTS`].
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints is meant to")]

mod deliveries;
mod diffusion;
mod filler;
mod idle;
mod large;
mod raw;
mod relay;
mod report;
mod sends;
mod stored;
mod storm;
mod sync;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Parser, Subcommand};
use hongyan_load::files;
use report::Report;

/// One part of the benchmarks.
struct Part {
    name: &'static str,
    run: fn(&Bench, &mut Report) -> Result<(), String>,
}

/// All of them, in the order in which they run.
const PARTS: &[Part] = &[
    Part { name: "sends", run: sends::run },
    Part { name: "deliveries", run: deliveries::run },
    Part { name: "diffusion", run: diffusion::run },
    Part { name: "large", run: large::run },
    Part { name: "idle", run: idle::run },
    Part { name: "sync", run: sync::run },
    Part { name: "stored", run: stored::run },
    Part { name: "storm", run: storm::run },
];

/// What all parts share.
struct Bench {
    quick: bool,
    runtime: tokio::runtime::Runtime,
    /// Connections that the limit of open files allows, to each side.
    connections_max: u64,
}

impl Bench {
    /// How long a load is measured.
    fn time(&self) -> Duration {
        Duration::from_secs(if self.quick { 3 } else { 10 })
    }
}

#[derive(Parser)]
#[command(name = "figures", about = "Measures the relay of Hongyan beside this machine's own limits.")]
struct Cli {
    /// Shorter and rougher.
    #[arg(long)]
    quick: bool,
    /// Only this part; may be repeated.
    #[arg(long, value_name = "PART", value_parser = PossibleValuesParser::new(PARTS.iter().map(|part| part.name)))]
    only: Vec<String>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Write messages for one user into a store that no relay uses.
    Fill {
        /// The relay's data folder.
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
        /// To whom.
        #[arg(long, value_name = "ID")]
        user: String,
        /// How many.
        #[arg(long, value_name = "N")]
        messages: u64,
        /// Bytes of a text.
        #[arg(long, value_name = "N", default_value_t = 100)]
        text_bytes: usize,
    },
    /// Measure what a message to a small group costs in a store of its own, once for each line that comes.
    SmallGroup {
        /// The relay's data folder.
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
    },
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            eprintln!("figures: {sentence}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<(), String> {
    match &cli.command {
        Some(Command::Fill { data, user, messages, text_bytes }) => {
            return filler::fill_inbox(data, user, *messages, *text_bytes);
        }
        Some(Command::SmallGroup { data }) => return large::small_group(data),
        None => {}
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("The system gives no threads: {error}."))?;
    let bench = Bench { quick: cli.quick, runtime, connections_max: files::raise() };
    let mut report = Report::default();
    for part in PARTS {
        if cli.only.is_empty() || cli.only.iter().any(|name| name == part.name) {
            (part.run)(&bench, &mut report)?;
        }
    }
    Ok(())
}
