//! Every bound of the load generator, in one place.

use std::time::Duration;

/// For connections to come up and for the last deliveries; each that comes begins it anew.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Clients that dial at once while a crowd is made: more only meet the listener's backlog.
pub const DIALS_AT_ONCE: usize = 128;
/// Clients of one source address: below the relay's default bound of connections from one address, and far below the
/// ports of one address.
pub const CLIENTS_PER_SOURCE: usize = 900;
/// Source addresses of one run, of 127.0.0.0/8.
pub const SOURCES_MAX: usize = 250;
/// Clients of one run.
pub const CLIENTS_MAX: usize = 200_000;
/// Clients that send.
pub const SENDERS_MAX: usize = 10_000;
/// Messages per second, over all senders.
pub const RATE_MAX: f64 = 1_000_000.0;
/// A message's text at most; it holds its number, so it has a least, too.
pub const TEXT_BYTES: core::ops::RangeInclusive<usize> = 40..=60_000;
/// How long one run measures at most, in seconds.
pub const SECONDS_MAX: u64 = 24 * 3_600;
/// Messages of one run of `sync`.
pub const MESSAGES_MAX: u64 = 10_000_000;
/// The slowest that the histograms tell from slower ones, in microseconds.
pub const LATENCY_US_MAX: u64 = 120_000_000;
/// Files that a process opens besides its sockets.
pub const FILES_BESIDES: u64 = 200;
/// The generator was the limit when it was this much later than planned at the 99th percentile.
pub const PACE_LATE_US: u64 = 2_000;
/// The generator was the limit when all processors were busy to this share, and it used more than the relay.
pub const BUSY_SHARE: f64 = 0.9;
/// Members of one cell of `presence`: they watch each other.
pub const CELL_MEMBERS: usize = 10;

const _: () = {
    assert!(SOURCES_MAX * CLIENTS_PER_SOURCE >= CLIENTS_MAX);
    assert!(*TEXT_BYTES.start() >= 2 * 20);
};
