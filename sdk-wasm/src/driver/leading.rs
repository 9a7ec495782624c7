//! While this tab leads: the cache is opened, the core runs, and what it says is done.

use std::rc::Rc;

use hongyan_client::limits::GATHERED_ENTRIES;
use hongyan_client::tabs::TabInput;
use hongyan_client::view::SessionStatus;
use hongyan_client::{Config, Event, HostEvent, Input, Output, RequestId, Storage};
use hongyan_protocol::DeviceId;
use js_sys::{Function, Object, Promise};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::{JsFuture, spawn_local};

use super::{Driver, Happened, set};
use crate::convert;
use crate::engine::Engine;
use crate::platform::browser::indexeddb::IndexedDbCache;
use crate::platform::browser::{beacon, now, seed, words};
use crate::platform::memory::MemoryCache;
use crate::platform::{Opened, Sink};

impl Driver {
    /// The lock is ours: the cache is opened.
    pub(super) fn lead(&self) {
        if self.stopped.borrow().is_some() {
            return self.end_as_stopped();
        }
        let life = self.life.get() + 1;
        self.life.set(life);
        let opened = self.teller(move |opened| Happened::Opened(life, opened));
        let database = self.options.database.clone();
        spawn_local(async move {
            opened(match database {
                Some(name) => IndexedDbCache::open(&name).await.ok(),
                None => None,
            });
        });
    }

    pub(super) fn start(&self, opened: Option<Opened>) {
        let opened = opened.unwrap_or_else(|| {
            // There is no cache to share; so there is nothing to agree about with other tabs.
            self.group.take();
            MemoryCache::open()
        });
        let shared = self.group.borrow().is_shared();
        let Ok(seed) = seed() else { return };
        let is_kept = opened.cache.storage() != Storage::Memory;
        let config = Config {
            user: self.options.user.clone(),
            device_kind: self.options.device_kind,
            agent: concat!("hongyan-web/", env!("CARGO_PKG_VERSION")).into(),
            // Pages that have the same device and can't agree are each there for themselves.
            tab: if shared || !is_kept { String::new() } else { format!("{:x}", self.tabs.borrow().id().0) },
            shared,
            storage: opened.cache.storage(),
            gathered_entries: if is_kept { GATHERED_ENTRIES } else { 0 },
            seed,
        };
        let (term, life) = (opened.restored.term, self.life.get());
        let kept = opened.kept.clone();
        let sink: Sink = Rc::new(self.teller(move |input| Happened::Core(life, input)));
        let superseded = Rc::new(self.teller(move |ticket| Happened::Superseded(life, ticket)));
        let (engine, outputs) = Engine::start(config, opened, sink, superseded);
        self.tab_input(TabInput::Snapshot(snapshot_of(&engine)));
        self.engine.replace(Some(engine));
        self.backlog.replace(outputs);
        self.tab_input(TabInput::Opened { term, kept });
    }

    /// This tab leads no more: what was accepted is saved, and the core ends.
    pub(super) fn retire(&self, goodbye: bool) {
        if goodbye && self.engine.borrow().is_some() {
            let (returns_in_ms, returns) = match &*self.page.borrow() {
                // Who closes the chat does not come back.
                Some(page) if !self.closing.get() => page.returns(),
                Some(_) | None => (0, false),
            };
            self.core_input(Input::Host(HostEvent::Leave { returns_in_ms, returns }));
        }
        let outputs = self.engine.borrow_mut().as_mut().map(Engine::flush).unwrap_or_default();
        self.perform_all(outputs, false);
        self.life.set(self.life.get() + 1);
        self.backlog.take();
        self.engine.take();
    }

    pub(super) fn core_input(&self, input: Input) {
        let is_saved = matches!(input, Input::Saved(_)) && self.group.borrow().is_shared();
        if is_saved {
            self.tab_input(TabInput::Saved);
        }
        let outputs = self.engine.borrow_mut().as_mut().map(|engine| engine.step(input)).unwrap_or_default();
        self.perform_all(outputs, is_saved);
    }

    /// `prepared`: what a save's end tells was told already, as it was prepared.
    pub(super) fn perform_all(&self, outputs: Vec<Output>, prepared: bool) {
        let mut tells = Vec::new();
        for output in outputs {
            let output = match output {
                Output::Prepare(events) => {
                    tells = convert::events(&events, now());
                    self.tab_input(TabInput::Prepare(tells.clone()));
                    continue;
                }
                Output::Event(event) if prepared && is_of_a_save(&event) => continue,
                output => output,
            };
            let save = self.tabs.borrow().save();
            let rest = match self.engine.borrow_mut().as_mut() {
                Some(engine) => engine.perform(output, &self.options.url, save, &mut tells),
                None => return,
            };
            if let Some(rest) = rest {
                self.perform(rest);
            }
        }
    }

    pub(super) fn perform(&self, output: Output) {
        match output {
            Output::NeedToken => self.ask_token(),
            Output::Beacon(bytes) => beacon(&self.options.bye_url, &bytes),
            Output::Reply(RequestId(number), result) => {
                let result = result.map(convert::answer).map_err(|error| convert::error_to_js(&error));
                self.tab_input(TabInput::Performed(number, result));
            }
            Output::Event(event) => {
                if let Event::State(state) = &event {
                    if state.status == SessionStatus::Online
                        && let Some(page) = &*self.page.borrow()
                    {
                        page.is_ready();
                    }
                    let snapshot = self.engine.borrow().as_ref().map(snapshot_of);
                    if let Some(snapshot) = snapshot {
                        self.tab_input(TabInput::Snapshot(snapshot));
                    }
                }
                self.tab_input(TabInput::Event(convert::event(&event, now())));
            }
            // The engine did the others.
            _ => {}
        }
    }

    pub(super) fn ask_token(&self) {
        let life = self.life.get();
        let sink = self.teller(move |token| Happened::Core(life, Input::Token(token)));
        let token = &self.options.token;
        let provider = token.dyn_ref::<Function>();
        let given = match provider {
            Some(provider) => provider.call0(&JsValue::UNDEFINED),
            None => Ok(token.clone()),
        };
        let is_provided = provider.is_some();
        spawn_local(async move {
            let token = match given {
                Ok(value) => JsFuture::from(Promise::resolve(&value)).await,
                Err(thrown) => Err(thrown),
            };
            sink(match token.map(|value| value.as_string()) {
                // A back end that is down often answers with a page. That is no refusal: the provider is asked again.
                Ok(Some(token)) if is_provided && !is_jwt(&token) => {
                    Err("The token provider gave a text that is no token (a JWT); it will be asked again."
                        .into())
                }
                Ok(Some(token)) => Ok(token),
                Ok(None) => Err("The token provider gave something else than a string.".into()),
                Err(thrown) => Err(words(&thrown)),
            });
        });
    }
}

/// The events that a save's end tells.
fn is_of_a_save(event: &Event) -> bool {
    match event {
        Event::Message(_)
        | Event::Outbox(..)
        | Event::Conversation(_)
        | Event::Group(_)
        | Event::Change { .. }
        | Event::Profile(_)
        | Event::Gap
        | Event::LogGap { .. }
        | Event::ChangesGap { .. } => true,
        Event::State(_) | Event::Presence(_) | Event::Typing { .. } => false,
    }
}

/// How things are, for a tab that begins.
fn snapshot_of(engine: &Engine) -> JsValue {
    let snapshot = Object::new();
    let device = engine.core().device().map(DeviceId::as_str).unwrap_or_default();
    set(&snapshot, "device", &device.into());
    set(&snapshot, "state", &convert::to_js(&convert::state(&engine.state(), now())));
    snapshot.into()
}

/// Three parts of base64url (RFC 7519, RFC 7515 section 3.1); whether they are true is for the relay to say.
fn is_jwt(token: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    token.split('.').count() == 3 && token.split('.').all(is_part)
}
