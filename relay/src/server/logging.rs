//! Log lines to stderr; and what a panic says.

use std::io::IsTerminal as _;
use std::panic::{self, PanicHookInfo};

use tracing_subscriber::EnvFilter;

/// Starts logging.
///
/// # Errors
/// A sentence, when the filter can't be read.
pub(crate) fn start(filter: &str) -> Result<(), String> {
    let parsed = check(filter)?;
    // A second start (of a test) keeps the first.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(parsed)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .try_init();
    panic::set_hook(Box::new(report_panic));
    Ok(())
}

/// Reads a filter.
///
/// # Errors
/// A sentence.
pub(crate) fn check(filter: &str) -> Result<EnvFilter, String> {
    EnvFilter::builder().parse(filter).map_err(|error| {
        format!(
            "`log` must be a level such as info, or levels by part such as info,hongyan_relay=debug: {error}."
        )
    })
}

/// A panic's message may hold a piece of what a user wrote (a failed slice of a string quotes it), so only a message
/// that is fixed in the source is shown.
fn report_panic(info: &PanicHookInfo<'_>) {
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let message =
        info.payload().downcast_ref::<&'static str>().copied().unwrap_or("(its message is kept back)");
    let thread = std::thread::current();
    tracing::error!("A defect of the relay, at {place}, thread {}: {message}", thread.name().unwrap_or("?"));
}
