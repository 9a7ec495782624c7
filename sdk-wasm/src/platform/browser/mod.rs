//! The browser as a host, window or worker. Features are tested for, never versions.

use gloo_timers::callback::Timeout;
use hongyan_client::{Moment, Now};
use hongyan_protocol::Time;
use js_sys::{Array, Promise};
use wasm_bindgen::JsValue;
use wasm_bindgen_futures::JsFuture;

pub(crate) mod channel;
mod global;
pub(crate) mod indexeddb;
pub(crate) mod lock;
pub(crate) mod page;
pub(crate) mod socket;
pub(crate) mod turn;

/// Both clocks.
pub(crate) fn now() -> Now {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "milliseconds since 1970 fit"
    )]
    let whole = |ms: f64| ms.max(0.0) as u64;
    Now { moment: Moment(whole(global::monotonic_ms())), time: Time(whole(js_sys::Date::now())) }
}

/// Milliseconds of a clock that never jumps.
pub(crate) fn monotonic_ms() -> f64 {
    global::monotonic_ms()
}

/// Entropy for one start; an error says that this host has none.
pub(crate) fn seed() -> Result<[u8; 32], String> {
    let mut seed = [0; 32];
    global::fill_random(&mut seed)?;
    Ok(seed)
}

/// A number that no other tab has; it fits in JavaScript's.
///
/// # Errors
/// Words, where this host has no entropy.
pub(crate) fn random_number() -> Result<u64, String> {
    let mut bytes = [0; 8];
    global::fill_random(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes) >> 11)
}

/// Posts some bytes for a page that ends.
pub(crate) fn beacon(url: &str, bytes: &[u8]) {
    global::beacon(url, bytes);
}

/// The page's own origin, where there is one.
pub(crate) fn origin() -> Option<String> {
    global::GLOBAL.with(global::Global::location).map(|location| location.origin())
}

/// What a promise gives, or an error when it takes longer.
async fn within_ms(ms: u32, promise: Promise) -> Result<JsValue, JsValue> {
    let mut timer = None;
    let late = Promise::new(&mut |_, reject| {
        timer = Some(Timeout::new(ms, move || {
            // The rejecting function of a promise does not throw.
            let _ = reject.call1(&JsValue::UNDEFINED, &"timed out".into());
        }));
    });
    let first = JsFuture::from(Promise::race(&Array::of2(&promise, &late))).await;
    drop(timer);
    first
}

/// It took longer than it may; nothing else is known of it.
fn is_late(error: &JsValue) -> bool {
    // All other errors are objects.
    error.is_string()
}

/// The words of a thrown value.
pub(crate) fn words(thrown: &JsValue) -> String {
    thrown
        .as_string()
        .or_else(|| js_sys::Reflect::get(thrown, &"message".into()).ok()?.as_string())
        .unwrap_or_else(|| "unknown error".into())
}
