//! Who is there: what people do about it, and the checker that holds what the relay tells and what applications see
//! against what is true.
//!
//! | file | subject |
//! | --- | --- |
//! | `known.rs` | what the relay can know: a model of the leases |
//! | `told.rs` | what the relay tells its watchers, held against that, at every input |
//! | `seen.rs` | what applications see, held against what was told, and against what is true |
//! | `typing.rs` | who types |
//! | `people.rs` | watching, hiding, reloading, leaving, typing |
//! | `beacon.rs` | goodbyes beside the socket |

mod beacon;
mod known;
mod people;
mod seen;
mod told;
mod typing;

pub(crate) use people::{PresenceShape, kind};
pub(crate) use seen::App;
pub(crate) use told::{Telling, Tellings};
