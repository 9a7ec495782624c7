//! The client of Hongyan as a state machine: the same code runs in a browser tab, in the load generator, in
//! tests and in the simulated world.
//!
//! One way in, one way out: `Client::handle` takes the time and one [`Input`]; then `Client::poll` is called
//! until it gives `None`. `Client::next_deadline` tells when to come back with [`Input::Tick`] at the latest.
//!
//! What was decided where the design is silent:
//!
//! - A token is kept until it ends or is refused; the provider is asked again then, and before its end while the
//!   connection is open. A token that served before and is called invalid is tried fresh once: the relay may have
//!   got other keys.
//! - On waking the client dials at once, but never before the moment that the relay asked for.
//! - `Network(false)` ends dialling; an open socket is probed instead, because browsers err.
//! - A hello gives what is *durable*, so a cursor that the relay heard is never taken back; what is streamed again and
//!   was *received* before is passed over. So nothing is told twice, and what a crash takes back was never told.
//! - While a reset is due no read mark is told: it was meant for messages of the log before.
//! - One save is under way; what comes meanwhile gathers for the next. It is bounded by the relay's window of
//!   entries that were not acknowledged, and by [`limits::UNSAVED_ENTRIES_MAX`] here.
//! - After a save that failed the storage is memory: the same writes go there, the cursor on disk stays older, and
//!   the next start replays from it.
//! - A send that is refused for now holds back its conversation only. One that is refused for good stays as failed
//!   until it is sent again with its key (then it is the newest) or discarded.
//! - The newest page of history is answered from what is here when there is no connection; with nothing here it
//!   waits while a connection is on its way. An older page of which nothing is here waits up to
//!   [`limits::REQUEST_MS`].
//! - A page that left ([`HostEvent::Leave`]) waits for [`HostEvent::Wake`] and nothing else: a page in the
//!   back/forward cache or frozen must not hold a connection. Waking dials at once, also where the page is hidden.
//! - A goodbye follows a hello that was not answered yet, too: the relay takes frames in their order.
//! - [`Command::Watch`] is answered at once without a connection, with what is known, and waits for the relay while a
//!   connection is there or on its way. What the answer holds is not told as an event again.
//! - What was heard of watched users is shown [`limits::PRESENCE_STALE_MS`] beyond the connection, then as unknown.
//! - A change of a message is asked like any request, for [`limits::REQUEST_MS`]: it does not go to the outbox, and is
//!   applied only when the queue or the log tells it. In a group by its log one of a message that was not told yet waits
//!   for that message; so each change is told after its message, and no older state follows a newer one.
//! - Who lacks more than [`limits::CHANGES_EVENTS_MAX`] changes of a conversation, or joins a group again after some, lets go
//!   of its cached messages and is told so.
//! - Profiles that are here are given at once, and the relay is asked in the background whether there are newer ones: once
//!   for a user and connection, since the queue tells of who has a direct conversation with the user. After a reset it is
//!   asked for all that were known.
//! - The codes that end a session (superseded, kicked, token revoked, outdated) stop the client wherever they come.
//! - After a stop other than by closing or logging out, sends are still taken into the outbox: the next process
//!   sends them.
//!
//! The module `table` has the states, the events and the invariants with their tests.
//!
//! *Invariant:* no I/O, no clock, no chance, no threads and no async here (`clippy.toml` forbids them); time and
//! entropy are arguments.

mod cache;
mod changes;
mod client;
mod conversations;
#[cfg(not(feature = "defects"))]
#[allow(unreachable_pub, reason = "public with the feature only")]
mod defects;
#[cfg(feature = "defects")]
pub mod defects;
mod goodbye;
mod hearing;
mod history;
mod host;
pub mod io;
pub mod limits;
mod logs;
mod outbox;
mod presence;
mod probe;
mod profiles;
mod queue;
mod random;
mod records;
mod requests;
pub mod runs;
mod sending;
mod session;
pub mod sorted;
mod table;
pub mod tabs;
mod timers;
mod typing;
pub mod view;

pub use client::Client;
pub use io::{
    Answer, Change, ChatError, Command, Config, Event, Generation, HostEvent, Input, Moment, Now, Output,
    RequestId, Restored, Storage, Ticket, Write,
};
