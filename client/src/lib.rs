//! The client of Hongyan as a state machine: the same code runs in a browser tab, in the load generator, in
//! tests and in the simulated world.
//!
//! One way in, one way out: `Client::handle` takes the time and one [`Input`]; then `Client::poll` is called
//! until it gives `None`. `Client::next_deadline` tells when to come back with [`Input::Tick`] at the latest.
//!
//! *Invariant:* no I/O, no clock, no chance, no threads and no async here (`clippy.toml` forbids them); time and
//! entropy are arguments.

pub mod io;
pub mod limits;
pub mod view;

pub use io::{
    Answer, ChatError, Command, Config, Event, Generation, HostEvent, Input, Moment, Now, Output, RequestId,
    Restored, Storage, Ticket, Write,
};
