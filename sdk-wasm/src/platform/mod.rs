//! The seam to the host: what the driver needs of a page, a WebView or a mini-program.
//!
//! `browser` is the host in Rust. *How to add a host:* a folder beside it with the same four things (clock and
//! entropy, socket, page events, cache), chosen in `Driver::open`.

use std::rc::Rc;

use hongyan_client::{Input, Restored, Storage, Ticket, Write};
use hongyan_protocol::{ConversationId, Seq};
use wasm_bindgen::JsValue;

pub(crate) mod browser;
pub(crate) mod memory;

/// Where a host puts what happens. It never calls the application before it returns to the event loop.
pub(crate) type Sink = Rc<dyn Fn(Input)>;

/// A cache that is open.
pub(crate) trait Cache {
    /// Where it lives.
    fn storage(&self) -> Storage;
    /// Persists all or nothing, then tells its end.
    fn save(&self, save: Save, end: SaveEnd);
    /// Reads messages with `from` ≤ seq ≤ `to`, then gives `Loaded`. A failure to read gives none: what a cache
    /// does not give is asked of the relay.
    fn load(&self, ticket: Ticket, conversation: ConversationId, from: Seq, to: Seq, sink: Sink);
    /// Lets go of it, after what was begun.
    fn close(&self);
}

/// What is saved at once.
pub(crate) struct Save {
    /// Names it among those that tell something.
    pub(crate) number: u64,
    /// What its end tells the application, as tabs tell it to each other; kept for a while.
    pub(crate) tells: Vec<JsValue>,
    pub(crate) writes: Vec<Write>,
}

/// How a save ended.
pub(crate) enum Saved {
    Durable,
    /// Nothing of it took effect; the words are the platform's.
    Failed(String),
    /// Nothing of it took effect: somebody else writes this cache now.
    Superseded,
}

/// Takes the end of a save.
pub(crate) type SaveEnd = Box<dyn FnOnce(Saved)>;

/// A cache and what was in it.
pub(crate) struct Opened {
    pub(crate) cache: Box<dyn Cache>,
    pub(crate) restored: Restored,
    /// What the last saves told, by their numbers, ascending, without a gap.
    pub(crate) kept: Vec<(u64, Vec<JsValue>)>,
}
