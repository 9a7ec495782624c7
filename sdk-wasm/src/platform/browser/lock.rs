//! One writer of a cache: a Web Lock, which the browser releases when the page ends, crashes included.

use std::cell::Cell;
use std::rc::Rc;

use js_sys::{Function, Object, Promise};
use wasm_bindgen::closure::Closure;
use wasm_bindgen::{JsCast, JsValue};

use super::global::{GLOBAL, Global};
use super::within_ms;

/// A page that is being reloaded waits this long for its former self to let go.
const WAIT_MS: u32 = 1_500;

/// A lock that is held until it is dropped or the page ends.
pub(crate) struct Lock {
    release: Function,
}

impl Lock {
    /// Takes the lock; `None` when another page holds it, or where there are no Web Locks (an insecure context, or
    /// an engine before Chromium 69, Firefox 96, Safari 15.4).
    pub(crate) async fn take(name: &str) -> Option<Self> {
        let locks = GLOBAL.with(Global::navigator)?.locks()?;
        let (held, release) = deferred();
        let (taken, take) = deferred();
        let gave_up = Rc::new(Cell::new(false));
        let callback = Closure::once_into_js({
            let gave_up = Rc::clone(&gave_up);
            move |_lock: JsValue| {
                if gave_up.get() {
                    return JsValue::UNDEFINED;
                }
                call(&take);
                JsValue::from(held)
            }
        });
        // The promise of the request ends when the lock is released; nobody waits for it.
        drop(locks.request(name, &Object::new(), callback.unchecked_ref()).ok()?);
        if within_ms(WAIT_MS, taken).await.is_ok() {
            Some(Self { release })
        } else {
            gave_up.set(true);
            None
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        call(&self.release);
    }
}

/// A promise and the function that fulfils it.
fn deferred() -> (Promise, Function) {
    // Replaced before `Promise::new` returns. (`Function::default` evaluates a string, which pages forbid.)
    let mut fulfil = JsValue::UNDEFINED.unchecked_into::<Function>();
    let promise = Promise::new(&mut |resolve, _| fulfil = resolve);
    (promise, fulfil)
}

/// Calls the resolving function of a promise, which does not throw.
fn call(resolve: &Function) {
    let _ = resolve.call0(&JsValue::UNDEFINED);
}
