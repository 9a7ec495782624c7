//! Another turn of the event loop.

use gloo_events::EventListener;
use wasm_bindgen::JsValue;
use web_sys::MessageChannel;

/// Something that waits for the next turn; dropped, it does not happen. A message takes its turn among all that the page
/// has to do, also in a hidden page, whose timers wait for a second or a minute.
pub(crate) struct Turn {
    channel: MessageChannel,
    _listener: EventListener,
}

impl Turn {
    /// `None` where there is nothing to wait with.
    pub(crate) fn next(then: impl FnOnce() + 'static) -> Option<Self> {
        let channel = MessageChannel::new().ok()?;
        let listener = EventListener::once(&channel.port1(), "message", move |_| then());
        channel.port1().start();
        channel.port2().post_message(&JsValue::NULL).ok()?;
        Some(Self { channel, _listener: listener })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.channel.port1().close();
    }
}
