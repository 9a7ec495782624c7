//! What the global object has, in a window or a worker. Everything may be missing.

use js_sys::{Function, Object, Promise};
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;
use web_sys::{Crypto, EventTarget, IdbFactory};

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(extends = EventTarget, extends = Object)]
    pub(super) type Global;

    #[wasm_bindgen(thread_local_v2, js_name = globalThis)]
    pub(super) static GLOBAL: Global;

    #[wasm_bindgen(method, getter)]
    fn crypto(this: &Global) -> Option<Crypto>;

    #[wasm_bindgen(method, getter)]
    fn performance(this: &Global) -> Option<Performance>;

    #[wasm_bindgen(method, getter)]
    pub(super) fn location(this: &Global) -> Option<Location>;

    #[wasm_bindgen(method, getter)]
    pub(super) fn document(this: &Global) -> Option<Document>;

    #[wasm_bindgen(method, getter)]
    pub(super) fn navigator(this: &Global) -> Option<Navigator>;

    // The Navigation API: Chromium from 102, Safari from 26.2, Firefox from 147.
    #[wasm_bindgen(method, getter)]
    pub(super) fn navigation(this: &Global) -> Option<EventTarget>;

    // A getter that throws where site data is blocked.
    #[wasm_bindgen(method, getter, catch, js_name = indexedDB)]
    pub(super) fn indexed_db(this: &Global) -> Result<Option<IdbFactory>, JsValue>;

    // As above; it lives as long as the tab, through all its pages of this origin.
    #[wasm_bindgen(method, getter, catch, js_name = sessionStorage)]
    pub(super) fn session_storage(this: &Global) -> Result<Option<SessionStorage>, JsValue>;

    pub(super) type SessionStorage;

    #[wasm_bindgen(method, catch, js_name = getItem)]
    pub(super) fn get_item(this: &SessionStorage, key: &str) -> Result<Option<String>, JsValue>;

    #[wasm_bindgen(method, catch, js_name = setItem)]
    pub(super) fn set_item(this: &SessionStorage, key: &str, value: &str) -> Result<(), JsValue>;

    pub(super) type Performance;

    #[wasm_bindgen(method)]
    fn now(this: &Performance) -> f64;

    pub(super) type Location;

    #[wasm_bindgen(method, getter)]
    pub(super) fn origin(this: &Location) -> String;

    #[wasm_bindgen(extends = EventTarget)]
    pub(super) type Document;

    #[wasm_bindgen(method, getter, js_name = visibilityState)]
    pub(super) fn visibility_state(this: &Document) -> String;

    pub(super) type Navigator;

    #[wasm_bindgen(method, getter, js_name = onLine)]
    pub(super) fn on_line(this: &Navigator) -> Option<bool>;

    #[wasm_bindgen(method, getter)]
    pub(super) fn locks(this: &Navigator) -> Option<LockManager>;

    #[wasm_bindgen(method, catch, js_name = sendBeacon)]
    pub(super) fn send_beacon(this: &Navigator, url: &str, body: &Object) -> Result<bool, JsValue>;

    pub(super) type NavigateEvent;

    #[wasm_bindgen(method, getter)]
    pub(super) fn destination(this: &NavigateEvent) -> Destination;

    #[wasm_bindgen(method, getter, js_name = hashChange)]
    pub(super) fn hash_change(this: &NavigateEvent) -> bool;

    #[wasm_bindgen(method, getter, js_name = downloadRequest)]
    pub(super) fn download_request(this: &NavigateEvent) -> Option<String>;

    pub(super) type Destination;

    #[wasm_bindgen(method, getter)]
    pub(super) fn url(this: &Destination) -> String;

    #[wasm_bindgen(method, getter, js_name = sameDocument)]
    pub(super) fn same_document(this: &Destination) -> bool;

    pub(super) type LockManager;

    #[wasm_bindgen(method, catch)]
    pub(super) fn request(
        this: &LockManager,
        name: &str,
        options: &Object,
        held: &Function,
    ) -> Result<Promise, JsValue>;
}

/// A clock that never jumps; where there is none, the wall clock.
pub(super) fn monotonic_ms() -> f64 {
    GLOBAL.with(Global::performance).map_or_else(js_sys::Date::now, |performance| performance.now())
}

/// Whether the global object has something of this name.
pub(super) fn has(name: &str) -> bool {
    GLOBAL.with(|global| js_sys::Reflect::has(global, &name.into()).unwrap_or(false))
}

/// Posts some bytes for a page that ends, as well as the browser can; where it can't, the socket's end tells later.
pub(super) fn beacon(url: &str, bytes: &[u8]) {
    if let Some(navigator) = GLOBAL.with(Global::navigator) {
        // Without `sendBeacon`, or over its quota.
        let _ = navigator.send_beacon(url, &js_sys::Uint8Array::from(bytes));
    }
}

pub(super) fn fill_random(bytes: &mut [u8]) -> Result<(), String> {
    GLOBAL
        .with(Global::crypto)
        .and_then(|crypto| crypto.get_random_values_with_u8_array(bytes).ok())
        .map(drop)
        .ok_or_else(|| "This host has no crypto.getRandomValues.".into())
}
