//! Web Locks: one tab at a time leads, and every tab is known to live while it holds a lock of its own. The browser
//! lets go of a page's locks when it ends, crashes included.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use js_sys::{Function, Object, Promise, Reflect};
use wasm_bindgen::closure::Closure;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::{JsFuture, spawn_local};

use super::global::{GLOBAL, Global, LockManager};

/// Web Locks, where there are some: a secure context, and Chromium from 69, Firefox from 96, Safari from 15.4.
pub(crate) struct Locks(LockManager);

/// What became of a lock.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum LockEvent {
    /// It is held now.
    Granted,
    /// It never will be: a page of an opaque origin may have none, and old WebViews only pretend to have them.
    Refused,
    /// It was held, and somebody took it away.
    Lost,
}

/// A lock that is held or waited for; dropped, it is neither.
pub(crate) struct Lock {
    state: Rc<State>,
}

#[derive(Default)]
struct State {
    /// Lets go, once it is held.
    release: RefCell<Option<Function>>,
    dropped: Cell<bool>,
}

impl Locks {
    pub(crate) fn find() -> Option<Self> {
        GLOBAL.with(Global::navigator)?.locks().map(Self)
    }

    /// Waits for the lock; `steal` takes it from whoever holds it.
    pub(crate) fn request(&self, name: &str, steal: bool, tell: impl Fn(LockEvent) + 'static) -> Lock {
        let state = Rc::new(State::default());
        let tell = Rc::new(tell);
        let held = Closure::once_into_js({
            let (state, tell) = (Rc::clone(&state), Rc::clone(&tell));
            move |_lock: JsValue| {
                // Nobody waits for it any more: it goes to the next at once.
                if state.dropped.get() {
                    return JsValue::UNDEFINED;
                }
                let (promise, release) = deferred();
                state.release.replace(Some(release));
                tell(LockEvent::Granted);
                promise.into()
            }
        });
        let options = Object::new();
        if steal {
            // Setting a member of an object of our own does not fail.
            let _ = Reflect::set(&options, &"steal".into(), &JsValue::TRUE);
        }
        let ended = self.0.request(name, &options, held.unchecked_ref());
        spawn_local({
            let state = Rc::clone(&state);
            async move {
                // It is rejected when the lock is stolen, or the page is not allowed to have locks.
                let is_broken = match ended {
                    Ok(ended) => JsFuture::from(ended).await.is_err(),
                    Err(_thrown) => true,
                };
                if is_broken && !state.dropped.get() {
                    let was_held = state.release.take().is_some();
                    tell(if was_held { LockEvent::Lost } else { LockEvent::Refused });
                }
            }
        });
        Lock { state }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.state.dropped.set(true);
        if let Some(release) = self.state.release.take() {
            // The resolving function of a promise does not throw.
            let _ = release.call0(&JsValue::UNDEFINED);
        }
    }
}

/// A promise and the function that fulfils it.
fn deferred() -> (Promise, Function) {
    // Replaced before `Promise::new` returns. (`Function::default` evaluates a string, which pages forbid.)
    let mut fulfil = JsValue::UNDEFINED.unchecked_into::<Function>();
    let promise = Promise::new(&mut |resolve, _| fulfil = resolve);
    (promise, fulfil)
}
