//! The load generator: the real client core on real sockets, thousands of clients in one process.
//!
//! [`Host`] is one client. [`scenarios`] is the one table of what the program `hongyan-bench` can do; each row takes a
//! [`Plan`] and a [`Target`] and gives an [`Outcome`]. Every message is numbered, so each receiver knows what was lost,
//! doubled or reordered ([`tally`]). Arrival is open-loop where a rate is given, and latency is measured from the moment
//! at which a send was due ([`drive`]), so a relay that stalls can't hide it.
//!
//! *How to add a scenario:* a file in `scenarios/`, and a row in the table there.

pub mod cache;
mod connection;
pub mod crowd;
pub mod drive;
pub mod files;
pub mod histogram;
pub mod host;
pub mod limits;
pub mod meter;
pub mod outcome;
pub mod plan;
pub mod process;
pub mod scenarios;
pub mod tally;
pub mod target;
pub mod tokens;

pub use cache::{CacheStore, DiskCache, MemoryCache, NoCache};
pub use host::{Host, Setup};
pub use meter::Meter;
pub use outcome::Outcome;
pub use plan::Plan;
pub use target::Target;
