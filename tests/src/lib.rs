//! What the tests of the whole and the benchmark have in common: the client core on native sockets, the relay's
//! program as a process, and a network that can be cut.
//!
//! Failures in here are failures of a test: they panic with a sentence.

pub mod cache;
mod connection;
pub mod floods;
pub mod host;
pub mod proxy;
pub mod raw;
pub mod relay_process;
pub mod tokens;

pub use cache::{CacheStore, DiskCache, MemoryCache, NoCache};
pub use host::{Host, Setup};
pub use proxy::Proxy;
pub use relay_process::RelayProcess;
