//! The client of Hongyan as a state machine: the same code runs in a browser tab, in the load generator, in
//! tests and in the simulated world.
//!
//! One way in, one way out: `Client::handle` takes the time and one [`Input`]; then `Client::poll` is called
//! until it gives `None`. `Client::next_deadline` tells when to come back with [`Input::Tick`] at the latest.
//!
//! *Invariant:* no I/O, no clock, no chance, no threads and no async here (`clippy.toml` forbids them); time and
//! entropy are arguments.

mod cache;
mod client;
mod conversations;
mod hearing;
mod history;
pub mod io;
pub mod limits;
mod outbox;
mod probe;
mod queue;
mod random;
mod records;
mod requests;
mod sending;
mod session;
pub mod sorted;
mod table;
mod timers;
pub mod view;

pub use client::Client;
pub use io::{
    Answer, ChatError, Command, Config, Event, Generation, HostEvent, Input, Moment, Now, Output, RequestId,
    Restored, Storage, Ticket, Write,
};
