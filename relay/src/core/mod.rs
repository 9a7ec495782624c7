//! The relay without sockets: sessions, sends, queues and groups over a [`Store`](crate::store::Store).
//!
//! One way in, one way out: `Relay::handle` takes the time and one [`Input`]; then `Relay::poll` is called until
//! it gives `None`. `Relay::next_deadline` tells when to come back with [`Input::Tick`] at the latest.
//!
//! *Invariant:* no sockets, clock, chance, runtime or logging here (a test reads the sources for them). Nothing is
//! sent to anybody that is not durable.

pub mod io;

pub use io::{ConnectionId, CoreConfig, Input, Moment, Now, Output, Ticket};
