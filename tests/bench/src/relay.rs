//! The relay under measurement.

use std::path::Path;
use std::sync::Arc;

use hongyan_load::Target;
use hongyan_tests::{RelayProcess, tokens};

/// Without limits on rates: they are there to hold back what this makes.
const SETTINGS: [(&str, &str); 8] = [
    ("limits.sends_per_second", "1000000"),
    ("limits.sends_burst", "1000000"),
    ("limits.requests_per_second", "1000000"),
    ("limits.requests_burst", "1000000"),
    ("limits.connections_per_address_max", "100000"),
    ("limits.opens_per_address_per_second", "1000000"),
    ("limits.opens_per_address_burst", "1000000"),
    ("log", "warn"),
];

/// Starts one over an empty folder.
pub(crate) fn start() -> RelayProcess {
    RelayProcess::start(&SETTINGS)
}

/// Starts one over what `prepare` put into its data folder.
pub(crate) fn start_over(prepare: impl FnOnce(&Path) -> Result<(), String>) -> Result<RelayProcess, String> {
    RelayProcess::start_over(&SETTINGS, prepare)
}

/// The same as the load generator sees it.
pub(crate) fn target(relay: &RelayProcess) -> Target {
    Target {
        address: relay.address(),
        token: Arc::new(|user| Ok(tokens::token(user))),
        process: Some(relay.id()),
    }
}
