//! What this tab's application learns, and how its part ends.

use hongyan_client::tabs::TabInput;
use hongyan_protocol::Code;
use js_sys::{Array, JSON, Object, Reflect};
use wasm_bindgen::{JsCast, JsValue};

use super::{Driver, Happened, get, set};

impl Driver {
    /// An event: its name and its payload.
    pub(super) fn tell(&self, event: &Array) {
        let (name, payload) = (event.get(0), event.get(1));
        match name.as_string().as_deref() {
            Some("state") => self.tell_state(payload.unchecked_ref()),
            Some(name) => self.emit(name, &payload),
            None => {}
        }
    }

    pub(super) fn emit(&self, name: &str, payload: &JsValue) {
        // The TypeScript layer catches what listeners throw.
        let _ = self.options.emit.call2(&JsValue::UNDEFINED, &name.into(), payload);
    }

    pub(super) fn tell_state(&self, state: &Object) {
        // What was told is frozen.
        let state = Object::assign(&Object::new(), state);
        set(&state, "leader", &self.tabs.borrow().leads().into());
        let is_same = json(&state) == json(&self.state.borrow());
        self.state.replace(state.clone().into());
        if !is_same {
            self.emit("state", &state);
        }
        let reason = get(&state, "reason");
        let before = self.stopped.borrow().clone();
        if get(&state, "status").as_string().as_deref() == Some("stopped") {
            self.stopped.replace(Some(reason));
        } else if before.is_some_and(|before| get(&before, "code").as_string().as_deref() != Some(SUPERSEDED))
        {
            // Somebody signed in anew in another tab; this one stays where it ended.
            self.end_as_stopped();
        } else {
            self.stopped.take();
        }
    }

    pub(super) fn take_snapshot(&self, snapshot: &JsValue) {
        self.device.replace(get(snapshot, "device").as_string().unwrap_or_default());
        self.tell_state(get(snapshot, "state").unchecked_ref());
        if let Some(page) = &*self.page.borrow()
            && !self.tabs.borrow().leads()
        {
            page.is_ready();
        }
        self.is_open();
    }

    pub(super) fn is_open(&self) {
        if let Some(opened) = self.opening.take() {
            // The resolving function of a promise does not throw.
            let _ = opened.call0(&JsValue::UNDEFINED);
        }
    }

    // ------------------------------------------------------------ the end

    pub(super) fn end_as_stopped(&self) {
        let reason = self.stopped.borrow().clone();
        if let Some(reason) = reason {
            self.inbox.borrow_mut().push_back(Happened::End(reason));
        }
    }

    /// This tab takes no part any more.
    pub(super) fn end(&self, reason: &JsValue) {
        if self.ended.borrow().is_some() {
            return;
        }
        self.ended.replace(Some(reason.clone()));
        self.tab_input(TabInput::Leave);
        let asked = self.tabs.borrow_mut().abandon();
        for request in asked {
            self.settle(request, Err(reason.clone()));
        }
        self.page.take();
        self.group.take();
        let state = Object::assign(&Object::new(), self.state.borrow().unchecked_ref());
        set(&state, "status", &"stopped".into());
        set(&state, "reason", reason);
        set(&state, "leader", &JsValue::FALSE);
        // Deleting from an object of our own can't fail.
        let _ = Reflect::delete_property(&state, &"retryAt".into());
        if json(&state) != json(&self.state.borrow()) {
            self.state.replace(state.clone().into());
            self.emit("state", &state);
        }
        self.is_open();
    }
}

/// The one stop that another tab's lead ends: it was that tab that took over.
const SUPERSEDED: &str = Code::SUPERSEDED.name();

fn json(value: &JsValue) -> Option<String> {
    JSON::stringify(value).ok().and_then(|text| text.as_string())
}
