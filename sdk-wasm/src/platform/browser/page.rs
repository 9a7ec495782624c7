//! What a page tells of itself: seen or hidden, network or none, back from sleep.

use gloo_events::EventListener;
use hongyan_client::{HostEvent, Input};
use web_sys::EventTarget;

use super::global::{Document, GLOBAL};
use crate::platform::Sink;

/// Listens until it is dropped. In a worker there is no page: then only the network's events come.
pub(crate) struct Page {
    _listeners: Vec<EventListener>,
}

fn visible(document: &Document) -> bool {
    document.visibility_state() != "hidden"
}

impl Page {
    /// Tells the sink how things are, and from now on what changes.
    pub(crate) fn watch(sink: &Sink) -> Self {
        let mut listeners = Vec::new();
        let mut on = |target: &EventTarget, name: &'static str, tell: Box<dyn Fn() -> HostEvent>| {
            let sink = Sink::clone(sink);
            listeners.push(EventListener::new(target, name, move |_| sink(Input::Host(tell()))));
        };
        GLOBAL.with(|global| {
            on(global, "online", Box::new(|| HostEvent::Network(true)));
            on(global, "offline", Box::new(|| HostEvent::Network(false)));
            on(global, "pageshow", Box::new(|| HostEvent::Wake));
            if let Some(document) = global.document() {
                on(&document, "resume", Box::new(|| HostEvent::Wake));
                if !visible(&document) {
                    sink(Input::Host(HostEvent::Visible(false)));
                }
                let target = document.clone();
                on(&target, "visibilitychange", Box::new(move || HostEvent::Visible(visible(&document))));
            }
            if global.navigator().and_then(|navigator| navigator.on_line()) == Some(false) {
                sink(Input::Host(HostEvent::Network(false)));
            }
        });
        Self { _listeners: listeners }
    }
}
