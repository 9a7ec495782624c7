//! The axum front and the program `hongyan-relay`: sockets, clocks, chance, configuration, tokens.
//!
//! It knows nothing of what frames mean: bytes go to the core (`core_thread`), bytes come back to the sockets
//! (`outgoing`, `socket`). *Invariant:* no lock is held over an await; whatever a peer does, its memory and its
//! time are bounded by `limits` and [`settings`]; no body, token, key or address reaches a log line.

mod addresses;
mod api;
mod bye;
pub mod cli;
pub mod config;
mod core_thread;
mod demo;
mod door;
mod gate;
mod http;
mod limits;
mod lines;
mod logging;
mod metrics;
mod origin;
mod outgoing;
mod pace;
mod run;
mod secrets;
pub mod settings;
mod socket;
mod tokens;
mod traffic;
mod values;
mod verify;

/// The allocator of each program with the relay in it: what a message costs stays the same however much was allocated before.
/// The GNU allocator's searches take longer in a heap with many holes.
#[cfg(not(target_env = "msvc"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

pub use addresses::Network;
pub use origin::AllowedOrigin;
pub use tokens::Keyring;
pub use values::NamedKey;
