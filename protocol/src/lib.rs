//! The wire of Hongyan: what travels between client and relay, and the rules both keep.
//!
//! [`wire`] holds the types generated from `proto/hongyan.proto`. Outside this crate ids, sequences,
//! positions and times travel as the newtypes of [`ids`]; bytes become frames through [`frame`], which
//! enforces [`limits`]. [`codes`] is the one table of reject and close codes.
//!
//! *Invariant:* no I/O, no clock, no chance, and nothing in here panics on any input.

pub mod codes;
pub mod frame;
pub mod ids;
pub mod limits;

pub use codes::{Class, Code};
pub use frame::{DecodeError, EncodeError};
pub use ids::{
    ChangeNumber, ConversationId, ConversationKind, DIRECT_MARK, DeviceId, Epoch, GroupVersion, IdError, Key,
    MENTION_ALL, Pos, ProfileVersion, Seq, Time, UserId,
};

/// The types generated from `proto/hongyan.proto`.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod wire {
    include!(concat!(env!("OUT_DIR"), "/hongyan.v1.rs"));
}

/// The WebSocket sub-protocol that carries this wire.
pub const SUB_PROTOCOL: &str = "hongyan.v1";

/// The newest version of the wire that this code speaks.
pub const VERSION: u32 = 1;

/// The oldest version of the wire that this code still speaks.
pub const VERSION_MIN: u32 = 1;
