//! What this tab's application learns, and how its part ends.

use hongyan_client::tabs::{TabInput, TabOutput};
use hongyan_protocol::Code;
use js_sys::{Array, JSON, Object};
use wasm_bindgen::{JsCast, JsValue};

use super::{Driver, Happened, delete, get, set};
use crate::convert;

thread_local! {
    static STATE: JsValue = "state".into();
}

impl Driver {
    /// What the tabs' machine tells this tab, each in its turn.
    pub(super) fn tell_next(&self, output: TabOutput<JsValue>) {
        match output {
            TabOutput::Tell(event) => self.tell(&event),
            TabOutput::Settle(request, result) => self.settle(request, result),
            TabOutput::Gap => self.emit(&"gap".into(), &Object::new()),
            TabOutput::Snapshot(snapshot) => self.take_snapshot(&snapshot),
            // The others are done at once.
            _ => {}
        }
    }

    /// An event, as text: its name and its payload.
    fn tell(&self, event: &JsValue) {
        // Any script of the origin may write on the channel.
        let Ok(event) = convert::from_text(event).dyn_into::<Array>() else { return };
        let (name, payload) = (event.get(0), event.get(1));
        if STATE.with(|state| name == *state) {
            self.tell_state(payload.unchecked_ref());
        } else {
            self.emit(&name, &payload);
        }
    }

    pub(super) fn emit(&self, name: &JsValue, payload: &JsValue) {
        // The TypeScript layer catches what listeners throw.
        let _ = self.options.emit.call2(&JsValue::UNDEFINED, name, payload);
    }

    pub(super) fn tell_state(&self, state: &Object) {
        // What was told is frozen.
        let state = Object::assign(&Object::new(), state);
        set(&state, "leader", &self.tabs.borrow().leads().into());
        let is_same = json(&state) == json(&self.state.borrow());
        self.state.replace(state.clone().into());
        if !is_same {
            STATE.with(|name| self.emit(name, &state));
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
        // What that told comes before the end.
        loop {
            let telling = self.telling.borrow_mut().pop_front();
            let Some(telling) = telling else { break };
            self.tell_next(telling);
        }
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
        delete(&state, "retryAt");
        if json(&state) != json(&self.state.borrow()) {
            self.state.replace(state.clone().into());
            STATE.with(|name| self.emit(name, &state));
        }
        self.is_open();
    }
}

/// The one stop that another tab's lead ends: it was that tab that took over.
const SUPERSEDED: &str = Code::SUPERSEDED.name();

fn json(value: &JsValue) -> Option<String> {
    JSON::stringify(value).ok().and_then(|text| text.as_string())
}
