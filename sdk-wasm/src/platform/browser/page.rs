//! What a page tells of itself: seen or hidden, network or none, going and coming back.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use gloo_events::EventListener;
use hongyan_protocol::limits::RETURN_MS;
use js_sys::Reflect;
use wasm_bindgen::{JsCast, JsValue};
use web_sys::EventTarget;

use super::global::{Document, GLOBAL, NavigateEvent, monotonic_ms};

/// A navigation that did not end the page within this time came to nothing: a download, or a question answered with no.
const NAVIGATION_MS: f64 = 10_000.0;
/// An app that connects much later than its page began (somebody signed in) would not need that time when it comes back.
const CONNECT_AFTER_MS_MAX: f64 = 1_000.0;

/// A load may take longer than the one before: so many of the last are remembered, as long as the tab lives …
const LOADS_REMEMBERED: usize = 3;
/// … under this key of the tab's own storage, in whole milliseconds.
const LOADS_KEY: &str = "hongyan:loads";

/// What a page tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PageEvent {
    /// Somebody sees it, or nobody does.
    Visible(bool),
    /// The browser's belief about the network.
    Network(bool),
    /// It ends, is frozen, or goes into the back/forward cache.
    Leave,
    /// It is back from being frozen or cached.
    Return,
    /// It was shown: an open socket may be dead.
    Wake,
}

/// Listens until it is dropped. In a worker there is no page: then only the network's events come.
pub(crate) struct Page {
    _listeners: Vec<EventListener>,
    going: Rc<Cell<Going>>,
    began: f64,
    /// The longest of the last loads, once this one is through.
    longest: Cell<Option<u32>>,
}

/// Where the page is going, and since when that is known.
#[derive(Clone, Copy, Default)]
enum Going {
    #[default]
    Nowhere,
    /// To a page of this origin, this one again included.
    Within(f64),
    /// To another site.
    Elsewhere(f64),
}

fn is_visible(document: &Document) -> bool {
    document.visibility_state() != "hidden"
}

/// Whether somebody sees the page now; a worker is seen.
pub(crate) fn is_seen() -> bool {
    GLOBAL.with(|global| global.document().is_none_or(|document| is_visible(&document)))
}

impl Page {
    /// Tells the network's state if it is none, and from now on what changes.
    pub(crate) fn watch(tell: impl Fn(PageEvent) + 'static) -> Self {
        let tell = Rc::new(tell);
        let going = Rc::new(Cell::new(Going::default()));
        let listeners = RefCell::new(Vec::new());
        let on = |target: &EventTarget, name: &'static str, what: Box<dyn Fn(&JsValue) -> PageEvent>| {
            let tell = Rc::clone(&tell);
            listeners.borrow_mut().push(EventListener::new(target, name, move |event| tell(what(event))));
        };
        GLOBAL.with(|global| {
            on(global, "online", Box::new(|_| PageEvent::Network(true)));
            on(global, "offline", Box::new(|_| PageEvent::Network(false)));
            on(global, "pagehide", Box::new(|_| PageEvent::Leave));
            on(
                global,
                "pageshow",
                Box::new(|event| if persisted(event) { PageEvent::Return } else { PageEvent::Wake }),
            );
            if let Some(document) = global.document() {
                on(&document, "freeze", Box::new(|_| PageEvent::Leave));
                on(&document, "resume", Box::new(|_| PageEvent::Return));
                let target = document.clone();
                on(&target, "visibilitychange", Box::new(move |_| PageEvent::Visible(is_visible(&document))));
            }
            if let Some(navigation) = global.navigation() {
                let going = Rc::clone(&going);
                listeners.borrow_mut().push(EventListener::new(&navigation, "navigate", move |event| {
                    if let Some(to) = destination(event.unchecked_ref()) {
                        going.set(to);
                    }
                }));
            }
            if global.navigator().and_then(|navigator| navigator.on_line()) == Some(false) {
                tell(PageEvent::Network(false));
            }
        });
        Self { _listeners: listeners.into_inner(), going, began: monotonic_ms(), longest: Cell::new(None) }
    }

    /// The page has what it needs: how long that took the first time is how long it takes to come back.
    pub(crate) fn is_ready(&self) {
        if self.longest.get().is_none() {
            self.longest.set(Some(remembered_with(self.took_ms())));
        }
    }

    /// How long the page has taken until now; `performance.now()` counts from its beginning.
    fn took_ms(&self) -> u32 {
        let took = self.began.min(CONNECT_AFTER_MS_MAX) + monotonic_ms() - self.began;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a load takes no 49 days"
        )]
        let took = took.ceil() as u32;
        took
    }

    /// How long this page needs to come back if it is only reloaded: twice what its last loads took at the longest, until
    /// the connection was there; and whether it certainly does.
    pub(crate) fn returns(&self) -> (u32, bool) {
        let (min, max) = (*RETURN_MS.start(), *RETURN_MS.end());
        // A page that ends before it was connected has taken that long at least.
        let longest = self.longest.get().unwrap_or_else(|| self.took_ms());
        let twice = longest.saturating_mul(2).clamp(min, max);
        let now = monotonic_ms();
        match self.going.get() {
            Going::Within(since) if now - since < NAVIGATION_MS => (max, true),
            Going::Elsewhere(since) if now - since < NAVIGATION_MS => (min, false),
            Going::Nowhere | Going::Within(_) | Going::Elsewhere(_) => (twice, false),
        }
    }
}

/// The longest of the last loads and this one, which is remembered with them.
fn remembered_with(took: u32) -> u32 {
    let storage = GLOBAL.with(|global| global.session_storage().ok().flatten());
    let text = storage.as_ref().and_then(|storage| storage.get_item(LOADS_KEY).ok().flatten());
    let mut loads: Vec<u32> =
        text.iter().flat_map(|text| text.split(' ')).filter_map(|load| load.parse().ok()).collect();
    loads.push(took);
    let loads = &loads[loads.len().saturating_sub(LOADS_REMEMBERED)..];
    let text: Vec<_> = loads.iter().map(u32::to_string).collect();
    if let Some(storage) = storage {
        // Where it is full or forbidden only the last load counts.
        let _ = storage.set_item(LOADS_KEY, &text.join(" "));
    }
    loads.iter().copied().max().unwrap_or(took)
}

/// Where a navigation leads that ends this page; `None` when it does not end it.
fn destination(event: &NavigateEvent) -> Option<Going> {
    let destination = event.destination();
    if destination.same_document() || event.hash_change() || event.download_request().is_some() {
        return None;
    }
    let now = monotonic_ms();
    let origin = super::origin()?;
    let url = destination.url();
    let is_within = url.strip_prefix(&origin).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    Some(if is_within { Going::Within(now) } else { Going::Elsewhere(now) })
}

/// The page comes out of the back/forward cache.
fn persisted(event: &JsValue) -> bool {
    Reflect::get(event, &"persisted".into()).is_ok_and(|value| value.is_truthy())
}
