//! A BroadcastChannel: what one tab says, every other tab of the same origin hears.

use gloo_events::EventListener;
use wasm_bindgen::JsCast;
use wasm_bindgen::prelude::JsValue;
use web_sys::{BroadcastChannel, MessageEvent};

/// Open until it is dropped.
pub(crate) struct Channel {
    channel: BroadcastChannel,
    _heard: EventListener,
}

impl Channel {
    /// Opens the channel of this name; `None` where there are none (before Safari 15.4).
    pub(crate) fn open(name: &str, heard: impl Fn(JsValue) + 'static) -> Option<Self> {
        if !super::global::has("BroadcastChannel") {
            return None;
        }
        let channel = BroadcastChannel::new(name).ok()?;
        let listener = EventListener::new(&channel, "message", move |event| {
            heard(event.unchecked_ref::<MessageEvent>().data());
        });
        Some(Self { channel, _heard: listener })
    }

    /// Says something that structured cloning can carry; an error says that it can't.
    pub(crate) fn post(&self, note: &JsValue) -> Result<(), JsValue> {
        self.channel.post_message(note)
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.channel.close();
    }
}
