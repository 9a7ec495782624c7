//! The relay's program against what machines do: kills, full disks, disks that fail, folders that can't be written.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]
#![allow(clippy::print_stdout, reason = "what is skipped and what is not asserted is told")]

#[path = "faults/disk.rs"]
mod disk;
#[path = "faults/kills.rs"]
mod kills;
#[path = "faults/load.rs"]
mod load;
#[path = "faults/process.rs"]
mod process;
