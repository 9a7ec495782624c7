//! The core and what it stands on (cache, socket, clock), in the tab that leads.
//!
//! *Invariant:* the core is borrowed only inside [`Engine::step`], which calls nothing of JavaScript's.

use std::rc::Rc;

use gloo_timers::callback::Timeout;
use hongyan_client::view::State;
use hongyan_client::{Client, Config, Input, Moment, Output, Ticket};

use wasm_bindgen::JsValue;

use crate::platform::browser::now;
use crate::platform::browser::socket::Socket;
use crate::platform::memory::MemoryCache;
use crate::platform::{Cache, Opened, Save, SaveEnd, Saved, Sink};

/// The longest that a timer of a page can wait (2^31 − 1 ms, HTML's `setTimeout`).
const TIMER_MS_MAX: u64 = 0x7fff_ffff;

/// A core that runs. Dropped, it is silent.
pub(crate) struct Engine {
    core: Client,
    cache: Box<dyn Cache>,
    socket: Option<Socket>,
    sink: Sink,
    superseded: Superseded,
}

/// Told when a save failed because somebody else writes the cache now.
pub(crate) type Superseded = Rc<dyn Fn(Ticket)>;

impl Engine {
    /// The core over an open cache; `sink` takes what happens to it. What is to be done at first is in the list.
    pub(crate) fn start(
        mut config: Config,
        opened: Opened,
        sink: Sink,
        superseded: Superseded,
    ) -> (Self, Vec<Output>) {
        config.storage = opened.cache.storage();
        let mut engine =
            Self { core: Client::new(config), cache: opened.cache, socket: None, sink, superseded };
        let outputs = engine.step(Input::Restored(opened.restored));
        (engine, outputs)
    }

    /// Takes one input; what is to be done about it is in the list.
    pub(crate) fn step(&mut self, input: Input) -> Vec<Output> {
        if let Input::SaveFailed(..) = input {
            // The core writes what failed again, and all that follows, to the cache that is left.
            self.cache = Box::new(MemoryCache::default());
        }
        self.core.handle(now(), input);
        self.outputs()
    }

    /// What has gathered is saved now, behind a save that is under way: this core ends.
    pub(crate) fn flush(&mut self) -> Vec<Output> {
        self.core.flush();
        self.outputs()
    }

    fn outputs(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.core.poll()).collect()
    }

    pub(crate) fn core(&self) -> &Client {
        &self.core
    }

    pub(crate) fn state(&self) -> State {
        self.core.state()
    }

    pub(crate) fn next_deadline(&self) -> Option<Moment> {
        self.core.next_deadline()
    }

    /// Does what concerns the socket and the cache, and gives the rest back; a save is of this number and tells this.
    pub(crate) fn perform(
        &mut self,
        output: Output,
        url: &str,
        number: u64,
        tells: &mut Vec<JsValue>,
    ) -> Option<Output> {
        match output {
            Output::Dial(generation) => self.socket = Socket::open(url, generation, &self.sink),
            Output::Transmit(generation, bytes) => {
                if let Some(socket) = self.socket.as_ref().filter(|socket| socket.generation() == generation)
                {
                    socket.send(&bytes);
                }
            }
            Output::Hangup { generation, code } => {
                let socket = self.socket.take_if(|socket| socket.generation() == generation);
                if let Some(socket) = socket {
                    socket.close(code);
                }
            }
            Output::Save(ticket, writes) => {
                let tells = core::mem::take(tells);
                self.cache.save(Save { number, tells, writes }, self.save_end(ticket));
            }
            Output::Load { ticket, conversation, from, to } => {
                self.cache.load(ticket, conversation, from, to, Sink::clone(&self.sink));
            }
            other => return Some(other),
        }
        None
    }

    fn save_end(&self, ticket: Ticket) -> SaveEnd {
        let (sink, superseded) = (Sink::clone(&self.sink), Rc::clone(&self.superseded));
        Box::new(move |saved| match saved {
            Saved::Durable => sink(Input::Saved(ticket)),
            Saved::Failed(words) => sink(Input::SaveFailed(ticket, words)),
            Saved::Superseded => superseded(ticket),
        })
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.cache.close();
    }
}

/// A timer for a deadline.
pub(crate) fn timer(deadline: Moment, then: impl FnOnce() + 'static) -> Timeout {
    let ms = deadline.since(now().moment).min(TIMER_MS_MAX);
    Timeout::new(u32::try_from(ms).unwrap_or(u32::MAX), then)
}
