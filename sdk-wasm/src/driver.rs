//! Turns what happens into the core's inputs and carries out its outputs.
//!
//! *Invariant:* the core is borrowed only inside [`Driver::step`], which calls nothing of JavaScript's. So whatever
//! the application does in a listener, it finds the core free; what it asks there is taken up afterwards.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};

use gloo_timers::callback::Timeout;
use hongyan_client::sorted::SortedMap;
use hongyan_client::{Answer, ChatError, Client, Command, Config, Event, Input, Output, RequestId};
use hongyan_protocol::wire::DeviceKind;
use hongyan_protocol::{Code, ConversationId, UserId};
use js_sys::{Function, Promise};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::{JsFuture, spawn_local};

use crate::convert;
use crate::platform::browser::indexeddb::IndexedDbCache;
use crate::platform::browser::page::Page;
use crate::platform::browser::socket::Socket;
use crate::platform::browser::{now, seed, words};
use crate::platform::memory::MemoryCache;
use crate::platform::{Cache, Opened, Sink};

/// The longest that a timer of a page can wait (2^31 − 1 ms, HTML's `setTimeout`).
const TIMER_MS_MAX: u64 = 0x7fff_ffff;

/// What a chat is opened with, already checked.
pub(crate) struct Options {
    /// `ws://…/ws` or `wss://…/ws`.
    pub(crate) url: String,
    /// Who logs in.
    pub(crate) user: UserId,
    /// A string, or a function that gives one or a promise of one.
    pub(crate) token: JsValue,
    /// What this device is.
    pub(crate) device_kind: DeviceKind,
    /// The database's name; `None` asks for memory.
    pub(crate) database: Option<String>,
    /// Called with an event's name and its payload.
    pub(crate) emit: Function,
}

/// One open chat.
pub(crate) struct Driver {
    core: RefCell<Client>,
    inbox: RefCell<VecDeque<Input>>,
    /// Inputs are being taken from the inbox, further up the stack.
    running: Cell<bool>,
    waiting: RefCell<SortedMap<RequestId, Waiting>>,
    next_request: Cell<u64>,
    cache: RefCell<Box<dyn Cache>>,
    socket: RefCell<Option<Socket>>,
    page: RefCell<Option<Page>>,
    timer: RefCell<Option<Timeout>>,
    url: String,
    token: JsValue,
    emit: Function,
    sink: Sink,
}

/// Who waits for a reply.
struct Waiting {
    resolve: Function,
    reject: Function,
}

impl Driver {
    /// Reads the cache and begins. It does not wait for the network.
    ///
    /// # Errors
    /// A [`ChatError`] when this host has no entropy.
    pub(crate) async fn open(options: Options) -> Result<Rc<Self>, ChatError> {
        let seed = seed().map_err(|message| ChatError { code: Code::BAD_REQUEST, message })?;
        let opened = match &options.database {
            Some(name) => IndexedDbCache::open(name).await.unwrap_or_else(|_why| MemoryCache::open()),
            None => MemoryCache::open(),
        };
        let Opened { cache, restored } = opened;
        let config = Config {
            user: options.user,
            device_kind: options.device_kind,
            agent: concat!("hongyan-web/", env!("CARGO_PKG_VERSION")).into(),
            storage: cache.storage(),
            seed,
        };
        let driver = Rc::new_cyclic(|weak: &Weak<Self>| {
            let weak = Weak::clone(weak);
            Self {
                core: RefCell::new(Client::new(config)),
                inbox: RefCell::default(),
                running: Cell::new(false),
                waiting: RefCell::default(),
                next_request: Cell::new(1),
                cache: RefCell::new(cache),
                socket: RefCell::default(),
                page: RefCell::default(),
                timer: RefCell::default(),
                url: options.url,
                token: options.token,
                emit: options.emit,
                sink: Rc::new(move |input| {
                    if let Some(driver) = weak.upgrade() {
                        driver.feed(input);
                    }
                }),
            }
        });
        driver.feed(Input::Restored(restored));
        let page = Page::watch(&driver.sink);
        driver.page.replace(Some(page));
        Ok(driver)
    }

    /// This device's id.
    pub(crate) fn device(&self) -> String {
        self.core.borrow().device().map(|device| device.as_str().into()).unwrap_or_default()
    }

    /// The connection and the cache, as JavaScript sees them.
    pub(crate) fn state(&self) -> JsValue {
        convert::to_js(&convert::state(&self.core.borrow().state(), now()))
    }

    /// The direct conversation with a user.
    pub(crate) fn direct(&self, user: &UserId) -> ConversationId {
        self.core.borrow().direct(user)
    }

    /// Asks the core for something; the promise takes the reply.
    pub(crate) fn ask(&self, command: Command) -> Promise {
        let id = RequestId(self.next_request.replace(self.next_request.get() + 1));
        let promise = Promise::new(&mut |resolve, reject| {
            self.waiting.borrow_mut().insert(id, Waiting { resolve, reject });
        });
        self.feed(Input::Command(id, command));
        promise
    }

    /// Takes one input, and all that follows from it.
    fn feed(&self, input: Input) {
        self.inbox.borrow_mut().push_back(input);
        if self.running.replace(true) {
            return;
        }
        loop {
            // Not in the loop's head: the borrow would last through its body.
            let input = self.inbox.borrow_mut().pop_front();
            let Some(input) = input else { break };
            if let Input::SaveFailed(..) = input {
                // The core writes what failed again, and all that follows, to the cache that is left.
                self.cache.replace(Box::new(MemoryCache::default()));
            }
            for output in self.step(input) {
                self.perform(output);
            }
        }
        self.running.set(false);
        self.arm();
    }

    fn step(&self, input: Input) -> Vec<Output> {
        let mut core = self.core.borrow_mut();
        core.handle(now(), input);
        std::iter::from_fn(|| core.poll()).collect()
    }

    fn arm(&self) {
        let deadline = self.core.borrow().next_deadline();
        let timer = deadline.map(|deadline| {
            let sink = Sink::clone(&self.sink);
            let ms = deadline.since(now().moment).min(TIMER_MS_MAX);
            Timeout::new(u32::try_from(ms).unwrap_or(u32::MAX), move || sink(Input::Tick))
        });
        self.timer.replace(timer);
    }

    fn perform(&self, output: Output) {
        match output {
            Output::NeedToken => self.ask_token(),
            Output::Dial(generation) => {
                let socket = Socket::open(&self.url, generation, &self.sink);
                self.socket.replace(socket);
            }
            Output::Transmit(generation, bytes) => {
                if let Some(socket) = self.socket.borrow().as_ref()
                    && socket.generation() == generation
                {
                    socket.send(&bytes);
                }
            }
            Output::Hangup { generation, code } => {
                let socket = self.socket.borrow_mut().take_if(|socket| socket.generation() == generation);
                if let Some(socket) = socket {
                    socket.close(code);
                }
            }
            Output::Save(ticket, writes) => {
                self.cache.borrow().save(ticket, writes, Sink::clone(&self.sink));
            }
            Output::Load { ticket, conversation, from, to } => {
                self.cache.borrow().load(ticket, conversation, from, to, Sink::clone(&self.sink));
            }
            Output::Event(event) => self.tell(&event),
            Output::Reply(id, result) => self.reply(id, result),
        }
    }

    fn ask_token(&self) {
        let sink = Sink::clone(&self.sink);
        let provider = self.token.dyn_ref::<Function>();
        let given = match provider {
            Some(provider) => provider.call0(&JsValue::UNDEFINED),
            None => Ok(self.token.clone()),
        };
        let is_provided = provider.is_some();
        spawn_local(async move {
            let token = match given {
                Ok(value) => JsFuture::from(Promise::resolve(&value)).await,
                Err(thrown) => Err(thrown),
            };
            sink(Input::Token(match token.map(|value| value.as_string()) {
                // A back end that is down often answers with a page. That is no refusal: the provider is asked again.
                Ok(Some(token)) if is_provided && !is_jwt(&token) => {
                    Err("The token provider gave a text that is no token (a JWT); it will be asked again."
                        .into())
                }
                Ok(Some(token)) => Ok(token),
                Ok(None) => Err("The token provider gave something else than a string.".into()),
                Err(thrown) => Err(words(&thrown)),
            }));
        });
    }

    fn tell(&self, event: &Event) {
        let (name, payload) = match event {
            Event::Message(message) => ("message", convert::to_js(&convert::message(message, None))),
            Event::Outbox(message, error) => {
                ("outbox", convert::to_js(&convert::message(message, error.as_ref())))
            }
            Event::Conversation(one) => ("conversation", convert::to_js(&convert::conversation(one))),
            Event::State(state) => ("state", convert::to_js(&convert::state(state, now()))),
            Event::Gap => ("gap", js_sys::Object::new().into()),
            Event::Group(update) => ("group", convert::to_js(&convert::group_update(update))),
        };
        // The TypeScript layer catches what listeners throw.
        let _ = self.emit.call2(&JsValue::UNDEFINED, &name.into(), &payload);
    }

    fn reply(&self, id: RequestId, result: Result<Answer, ChatError>) {
        let Some(waiting) = self.waiting.borrow_mut().remove(&id) else { return };
        let (settle, value) = match result {
            Ok(answer) => (waiting.resolve, answer_to_js(answer)),
            Err(error) => (waiting.reject, convert::to_js(&convert::error(&error))),
        };
        // The settling functions of a promise do not throw.
        let _ = settle.call1(&JsValue::UNDEFINED, &value);
    }

    /// Lets go of the page, the socket and the cache; nothing is heard from here on.
    pub(crate) fn release(&self) {
        self.page.take();
        self.timer.take();
        self.socket.take();
        self.cache.borrow().close();
    }
}

/// Three parts of base64url (RFC 7519, RFC 7515 section 3.1); whether they are true is for the relay to say.
fn is_jwt(token: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    token.split('.').count() == 3 && token.split('.').all(is_part)
}

fn answer_to_js(answer: Answer) -> JsValue {
    match answer {
        Answer::Sent(message) => convert::to_js(&convert::message(&message, None)),
        Answer::History(list) => convert::messages(&list),
        Answer::Conversations(list) => {
            convert::to_js(&list.iter().map(convert::conversation).collect::<Vec<_>>())
        }
        Answer::Group(id) => id.as_str().into(),
        Answer::Members(list, more) => convert::to_js(&convert::members(&list, more)),
        Answer::Done => JsValue::UNDEFINED,
    }
}
