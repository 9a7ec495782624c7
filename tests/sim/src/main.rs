//! `npm run sim -- [--seeds N] [--seed S] [--minutes M] [--steps N] [--skip …] [--without …] [--defect NAME] [--shrink]`
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it is a program for people")]

use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hongyan_sim::faults::Fault;
use hongyan_sim::{Progress, Scenario, defects, play, play_all, shrink};

const USAGE: &str = "\
npm run sim -- [options]

  --seeds N       play N worlds on all cores (1000 when nothing else is said), from a new seed or from --seed on
  --minutes M     stop after M minutes
  --failures N    stop after N worlds that broke a promise (1)
  --seed S        without --seeds: play this world alone, with a report when it breaks a promise
  --steps N       its first N steps only
  --skip A,B,…    without these steps
  --without F,…   without these kinds of faults
  --without-presence
                  nobody watches who is there
  --long-queues   queues keep everything
  --without-logs  groups come by the queues
  --without-changes
                  messages stay as they were written
  --without-profiles
                  nobody shows anything of himself
  --without-ends  nobody ends a session
  --without-tabs  no pages share a connection
  --defect NAME   with a deliberate defect of a core; \"list\" names them all
  --shrink        look for a smaller scenario that breaks the same promise
";

struct Options {
    scenario: Scenario,
    seed_given: bool,
    seeds: Option<u64>,
    time: Duration,
    failures: usize,
    shrink: bool,
}

fn main() -> ExitCode {
    match options(std::env::args().skip(1)) {
        Ok(Some(options)) => run(&options),
        Ok(None) => ExitCode::SUCCESS,
        Err(sentence) => {
            eprintln!("{sentence}\n\n{USAGE}");
            ExitCode::FAILURE
        }
    }
}

fn options(mut args: impl Iterator<Item = String>) -> Result<Option<Options>, String> {
    // A new world each time; the seed is printed.
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut options = Options {
        scenario: Scenario::new(clock.as_secs().wrapping_mul(1_000_000)),
        seed_given: false,
        seeds: None,
        time: Duration::from_secs(3_600 * 24 * 365),
        failures: 1,
        shrink: false,
    };
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value."));
        match arg.as_str() {
            "--seeds" => options.seeds = Some(number(&value()?)?),
            "--minutes" => options.time = Duration::from_secs(60 * number(&value()?)?),
            "--failures" => options.failures = usize::try_from(number(&value()?)?).unwrap_or(usize::MAX),
            "--seed" => (options.scenario.seed, options.seed_given) = (number(&value()?)?, true),
            "--steps" => options.scenario.steps = Some(small(&value()?)?),
            "--skip" => {
                for step in value()?.split(',') {
                    options.scenario.skip.insert(small(step)?);
                }
            }
            "--without" => {
                for name in value()?.split(',') {
                    let fault = Fault::ALL.iter().find(|fault| fault.name() == name);
                    let fault = fault.ok_or_else(|| format!("There is no fault \"{name}\"."))?;
                    options.scenario.without.insert(*fault);
                }
            }
            "--without-presence" => options.scenario.presence = false,
            "--long-queues" => options.scenario.queues = false,
            "--without-logs" => options.scenario.logs = false,
            "--without-changes" => options.scenario.changes = false,
            "--without-profiles" => options.scenario.profiles = false,
            "--without-ends" => options.scenario.ends = false,
            "--without-tabs" => options.scenario.tabs = false,
            "--defect" => {
                let name = value()?;
                if name == "list" {
                    println!("{}", defects::all().join("\n"));
                    return Ok(None);
                }
                let defect =
                    defects::named(&name).ok_or_else(|| format!("There is no defect \"{name}\"."))?;
                options.scenario.defect = Some(defect);
            }
            "--shrink" => options.shrink = true,
            "--help" | "-h" => {
                print!("{USAGE}");
                return Ok(None);
            }
            _ => return Err(format!("{arg} is no option.")),
        }
    }
    Ok(Some(options))
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text} is no number."))
}

fn small(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("{text} is no number."))
}

fn run(options: &Options) -> ExitCode {
    // A panic of a core is a finding, reported as one.
    std::panic::set_hook(Box::new(|_| {}));
    if options.seed_given && options.seeds.is_none() {
        return run_one(&options.scenario, options.shrink);
    }
    let seeds = options.seeds.unwrap_or(1_000);
    println!("Worlds from seed {} on.", options.scenario.seed);
    let tell = |progress: &Progress| {
        println!(
            "{:>8} of {seeds} worlds, {} per minute, {} failed",
            progress.worlds,
            progress.per_minute(),
            progress.failures.len()
        );
    };
    let progress = play_all(&options.scenario, seeds, options.time, options.failures, tell);
    println!("\n{}", progress.coverage.table());
    println!(
        "{} worlds in {:.1} s ({} per minute), {} broke a promise.",
        progress.worlds,
        progress.took.as_secs_f64(),
        progress.per_minute(),
        progress.failures.len()
    );
    for (seed, breach) in &progress.failures {
        println!("seed {seed}: {}: {}; {}", breach.promise, breach.expected, breach.happened);
    }
    match progress.failures.first() {
        None => ExitCode::SUCCESS,
        Some((seed, _)) => {
            println!();
            run_one(&Scenario { seed: *seed, ..options.scenario.clone() }, options.shrink)
        }
    }
}

fn run_one(scenario: &Scenario, shrinks: bool) -> ExitCode {
    let mut scenario = scenario.clone();
    let mut outcome = play(&scenario, true);
    if outcome.breach.is_some() && shrinks {
        let (smaller, worlds) = shrink(&scenario);
        println!("Shrunk by playing {worlds} worlds.\n");
        scenario = smaller;
        outcome = play(&scenario, true);
    }
    match outcome.breach {
        None => {
            println!("{}", outcome.coverage.table());
            println!("The world of seed {} keeps every promise.", scenario.seed);
            ExitCode::SUCCESS
        }
        Some(breach) => {
            println!("{breach}\nAgain:    npm run sim -- {scenario}");
            ExitCode::FAILURE
        }
    }
}
