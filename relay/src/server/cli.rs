//! The program's commands.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use hongyan_protocol::UserId;

use super::api::ApiKeys;
use super::config::{self, FILE_VARIABLE, Loaded};
use super::limits::TOKEN_TIME_MAX;
use super::logging;
use super::run::{Failure, serve};
use super::tokens::Keyring;
use super::verify::verify_data;

/// The relay of Hongyan: it stores and fans out chat messages.
#[derive(Parser)]
#[command(name = "hongyan-relay", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve until SIGTERM or SIGINT.
    Serve {
        #[command(flatten)]
        place: Place,
        /// Listen on this address and port; port 0 takes a free one.
        #[arg(long, value_name = "ADDR")]
        listen: Option<String>,
        /// Development mode: this machine only, tokens for everybody at /dev/token?user=NAME.
        #[arg(long)]
        dev: bool,
    },
    /// Print a signed token.
    Token {
        #[command(flatten)]
        place: Place,
        /// The user's id.
        #[arg(long, value_name = "ID")]
        user: String,
        /// How long it is valid, as in 90s, 15m, 24h or 7d.
        #[arg(long, value_name = "TIME", default_value = "24h", value_parser = parse_time)]
        expires: Duration,
        /// Sign with the development key of the data folder.
        #[arg(long)]
        dev: bool,
    },
    /// Check the whole store of a relay that does not run: ends with 0 when it is whole, with 1 when it is damaged.
    Verify(Place),
    /// Check, show or explain the configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Say whether the relay would start with it.
    Check(Place),
    /// Print every key with its value and where that is from; secrets are masked.
    Show(Place),
    /// Print every key with its meaning, default and environment variable.
    Docs,
}

#[derive(Args)]
struct Place {
    /// The configuration file (TOML); also HONGYAN_CONFIG.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The folder of the data.
    #[arg(long, value_name = "DIR")]
    data: Option<String>,
}

/// Runs the program and says how it ended: 0 well, 1 gave up, 2 could not start.
#[must_use]
pub fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Serve { place, listen, dev } => serve_command(&place, listen, dev),
        Command::Token { place, user, expires, dev } => token_command(&place, &user, expires, dev),
        Command::Verify(place) => {
            load(&place, None).map_err(Failure::Start).and_then(|loaded| verify_data(&loaded.settings.data))
        }
        Command::Config(ConfigCommand::Check(place)) => check_command(&place),
        Command::Config(ConfigCommand::Show(place)) => {
            load(&place, None).map(|loaded| print(&config::show(&loaded))).map_err(Failure::Start)
        }
        Command::Config(ConfigCommand::Docs) => {
            print(&config::docs());
            Ok(())
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Start(sentence)) => {
            complain(&sentence);
            ExitCode::from(2)
        }
        Err(Failure::Running(sentence)) => {
            complain(&sentence);
            ExitCode::from(1)
        }
    }
}

fn serve_command(place: &Place, listen: Option<String>, dev: bool) -> Result<(), Failure> {
    let loaded = load(place, listen).map_err(Failure::Start)?;
    logging::start(&loaded.settings.log).map_err(Failure::Start)?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Start(format!("The system gives no threads: {error}.")))?;
    let outcome = runtime.block_on(serve(loaded.settings, dev));
    // What is left are connections that nobody waits for.
    runtime.shutdown_background();
    outcome
}

fn token_command(place: &Place, user: &str, expires: Duration, dev: bool) -> Result<(), Failure> {
    let settings = load(place, None).map_err(Failure::Start)?.settings;
    let user =
        UserId::new(user).map_err(|error| Failure::Start(format!("--user is no user id: {error}.")))?;
    let keyring = if dev { Keyring::for_development(&settings) } else { Keyring::new(&settings) };
    let token = keyring.and_then(|keyring| keyring.sign(&user, expires)).map_err(Failure::Start)?;
    print(&format!("{token}\n"));
    Ok(())
}

fn check_command(place: &Place) -> Result<(), Failure> {
    let loaded = load(place, None).map_err(Failure::Start)?;
    for warning in &loaded.warnings {
        complain(warning);
    }
    logging::check(&loaded.settings.log).map_err(Failure::Start)?;
    Keyring::new(&loaded.settings).map_err(Failure::Start)?;
    ApiKeys::new(&loaded.settings.api_keys).map_err(Failure::Start)?;
    print("The configuration is good.\n");
    Ok(())
}

fn load(place: &Place, listen: Option<String>) -> Result<Loaded, String> {
    let named = std::env::var_os(FILE_VARIABLE).filter(|name| !name.is_empty()).map(PathBuf::from);
    let file = place.config.clone().or(named);
    let environment = std::env::vars_os().filter_map(|(name, value)| {
        // What is not UTF-8 is no key of ours, or no value of one.
        Some((name.into_string().ok()?, value.into_string().ok()?))
    });
    let flags: Vec<_> = [("listen", listen), ("data", place.data.clone())]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect();
    config::load(file.as_deref().map(Path::new), environment, &flags)
}

/// `90s`, `15m`, `24h`, `7d`, or seconds.
fn parse_time(text: &str) -> Result<Duration, String> {
    let bad = || {
        let days = TOKEN_TIME_MAX.as_secs() / 86_400;
        format!("a time is a number and s, m, h or d, such as 24h, and at most {days}d")
    };
    let (number, unit) = text.split_at(text.trim_end_matches(|c: char| c.is_ascii_alphabetic()).len());
    let seconds_per_unit = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(bad()),
    };
    let number: u64 = number.parse().map_err(|_| bad())?;
    let time = Duration::from_secs(number.checked_mul(seconds_per_unit).ok_or_else(bad)?);
    if time > TOKEN_TIME_MAX { Err(bad()) } else { Ok(time) }
}

fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    // A reader that went away wants no more.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn complain(sentence: &str) {
    let _ = writeln!(std::io::stderr().lock(), "hongyan-relay: {sentence}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        for (text, seconds) in
            [("90s", 90), ("15m", 900), ("24h", 86_400), ("7d", 604_800), ("5", 5), ("0s", 0)]
        {
            assert_eq!(parse_time(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "h", "-1h", "1.5h", "1w", "24 h", "99999999999d", "18446744073709551615d"] {
            assert!(parse_time(text).is_err(), "{text}");
        }
    }
}
