//! The relay without sockets: sessions, sends, queues and groups over a [`Store`](crate::store::Store).
//!
//! One way in, one way out: [`Relay::handle`] takes the time and one [`Input`]; then [`Relay::poll`] is called until
//! it gives `None`. [`Relay::next_deadline`] tells when to come back with [`Input::Tick`] at the latest.
//!
//! *Invariant:* no sockets, clock, chance, runtime or logging here (a test reads the sources for them). Nothing is
//! sent to anybody that is not durable. The same seed and inputs give the same outputs.
//!
//! *How to add a verb:* its handler in a file of [`verbs`], and a row in the table there.

mod accounts;
mod batches;
mod commit;
mod conversations;
mod counters;
mod deadlines;
#[cfg(not(feature = "defects"))]
#[allow(unreachable_pub, reason = "public with the feature only")]
mod defects;
#[cfg(feature = "defects")]
pub mod defects;
mod devices;
mod effects;
mod entropy;
mod epoch;
mod group_queries;
mod groups;
mod hot;
pub mod io;
pub mod limits;
mod logs;
mod members;
mod presence;
mod profiles;
pub mod queries;
pub mod queue;
mod rate;
pub(crate) mod records;
mod refusal;
mod relay;
mod sessions;
mod snapshot;
mod stream;
mod tokens;
mod users;
mod verbs;
pub mod verify;

pub use accounts::DevicesMax;
pub use counters::Counters;
pub use epoch::renew_epoch;
pub use io::{ConnectionId, CoreConfig, Input, Moment, Now, Output, Ticket};
pub use relay::Relay;
