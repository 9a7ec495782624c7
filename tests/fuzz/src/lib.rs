//! What any bytes do to Hongyan's decoders and cores.
//!
//! Each target is a function of bytes that ends where something is not as it must be. libFuzzer calls them under
//! coverage (`npm run fuzz`, the crate in `libfuzzer/`); `cargo test` replays what it found: `corpus/` holds the
//! inputs that reach the most with the least, `regressions/` those that once broke something and must not again.
//!
//! *How to add a target:* its function in a file here, a row in [`TARGETS`], a binary in `libfuzzer/`.
//!
//! Failures in here are findings: they panic with a sentence.

mod client_core;
#[cfg(feature = "server")]
mod configuration;
mod events;
mod host;
#[cfg(feature = "server")]
mod journal;
mod names;
mod peer;
mod program;
mod queries;
mod queue_rows;
mod relay_core;
mod stored_records;
#[cfg(feature = "server")]
mod token;
mod verbs;
mod wire;

pub use client_core::{client_core, verbs_of_client_core};
#[cfg(feature = "server")]
pub use configuration::configuration;
#[cfg(feature = "server")]
pub use journal::journal;
pub use program::Program;
pub use queue_rows::queue_rows;
pub use relay_core::{Reach, reach_of_relay_core, relay_core};
pub use stored_records::stored_records;
#[cfg(feature = "server")]
pub use token::token;
pub use wire::{client_frame, ids, relay_frame};

/// A body.
pub type Target = fn(&[u8]);

/// Every target by its name, which is also the name of its binary and of its folders.
pub const TARGETS: &[(&str, Target)] = &[
    ("client_frame", client_frame),
    ("relay_frame", relay_frame),
    ("ids", ids),
    ("queue_rows", queue_rows),
    ("relay_core", relay_core),
    ("client_core", client_core),
    ("stored_records", stored_records),
    #[cfg(feature = "server")]
    ("configuration", configuration),
    #[cfg(feature = "server")]
    ("token", token),
    #[cfg(feature = "server")]
    ("journal", journal),
];
