//! A simulated world: the real client core and the real relay core, the same crates that ship, with a network, disks,
//! platforms and people of the simulator's own, one clock and one seed.
//!
//! In most worlds people also watch who is there ([`faults`] has what can go wrong with that): what the relay tells of
//! them and what applications show is held against what is true, at every input.
//!
//! In half of the worlds a device has tabs that share its connection ([`scenario::Scenario::tabs`]), each with the real
//! machine of tabs, and what each of them is told is held against what saves told.
//!
//! A world lives through a scenario of people's doings and faults ([`faults`]), then the faults stop, and the promises
//! R1 to R8 of DESIGN.md are held against all that happened: while it runs every frame, every transaction and every
//! event is compared with what is durable, and at the end everything that anybody can see.
//!
//! - A seed is a world: `npm run sim -- --seed N` plays it again, with a report when it breaks a promise.
//! - `--shrink` looks for a smaller scenario that still breaks it.
//! - `--defect NAME` switches on a deliberate defect of a core ([`defects`]): a checker that never finds anything
//!   proves nothing.
//!
//! *Invariant:* a world draws no chance but its seed's and knows no time but its own.

mod cache;
pub mod chance;
mod changes;
mod clock;
pub mod defects;
mod device;
pub mod disk;
mod ends;
pub mod faults;
mod frames;
mod lines;
mod lists;
mod logs;
mod network;
mod people;
mod presence;
mod profiles;
mod queues;
mod relay_process;
mod report;
mod run;
pub mod scenario;
mod shrink;
mod tabs;
mod truth;
mod verdict;
mod watch;
mod world;

pub use report::Breach;
pub use run::{Outcome, Progress, play, play_all};
pub use scenario::Scenario;
pub use shrink::shrink;
pub use world::World;
