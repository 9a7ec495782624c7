//! What the tests of the whole and the benchmarks have in common: the relay's program as a process, a network that can be
//! cut, and the load generator's clients with tokens of the tests' own key.
//!
//! Failures in here are failures of a test: they panic with a sentence.

use std::net::SocketAddr;
use std::sync::Arc;

use hongyan_protocol::UserId;

pub mod floods;
pub mod proxy;
pub mod raw;
pub mod relay_process;
pub mod tokens;

pub use hongyan_load::{CacheStore, DiskCache, Host, MemoryCache, NoCache, Setup, host};
pub use proxy::Proxy;
pub use relay_process::RelayProcess;

/// A client with tokens of the tests' own key.
///
/// # Panics
/// When the name is no user id.
#[must_use]
pub fn setup(address: SocketAddr, user: &str, cache: impl CacheStore + 'static) -> Setup {
    let user = UserId::new(user).expect("a user id");
    Setup::new(address, user, Arc::new(|user| Ok(tokens::token(user))), cache)
}
