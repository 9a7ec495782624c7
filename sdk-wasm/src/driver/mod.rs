//! One tab's part in a chat: joins what the page, the other tabs and the core do.
//!
//! What happens goes through one line of inputs ([`Driver::feed`]); the machines that decide are the core (in the
//! engine, while this tab leads) and [`Tabs`].
//!
//! *Invariant:* neither machine is borrowed while JavaScript runs. So whatever the application does in a listener, it
//! finds them free; what it asks there is taken up afterwards.

mod leading;
mod telling;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};

use gloo_timers::callback::Timeout;
use hongyan_client::sorted::SortedMap;
use hongyan_client::tabs::{Note, TabId, TabInput, TabOutput, Tabs};
use hongyan_client::{ChatError, Command, HostEvent, Input, Output, RequestId, Ticket};
use hongyan_protocol::wire::DeviceKind;
use hongyan_protocol::{Code, ConversationId, UserId};
use js_sys::{Function, Object, Promise, Reflect};
use wasm_bindgen::JsValue;
use wasm_bindgen_futures::JsFuture;

use crate::engine::{self, Engine};
use crate::platform::Opened;
use crate::platform::browser::channel::Channel;
use crate::platform::browser::lock::{Lock, LockEvent, Locks};
use crate::platform::browser::page::{self, Page, PageEvent};
use crate::platform::browser::turn::Turn;
use crate::platform::browser::{monotonic_ms, now, random_number};
use crate::{calls, convert, notes};

/// So long a turn takes inputs and tells, and then lets the page do something else: four of them are the 50 ms that
/// people feel.
const TURN_MS: f64 = 12.0;
/// Nobody competes for a tab's own lock, so it is held within milliseconds. Where it is not after so long there are no locks
/// that work, or a tab that sleeps got it when this one was away and never lets go: this one goes alone.
const OWN_LOCK_MS: u32 = 10_000;
/// So many things are told before the clock is looked at.
const STEPS_UNLOOKED: u32 = 16;

/// What a chat is opened with, already checked.
pub(crate) struct Options {
    /// `ws://…/ws` or `wss://…/ws`.
    pub(crate) url: String,
    /// `http://…/bye` or `https://…/bye`.
    pub(crate) bye_url: String,
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

/// One tab's open chat.
pub(crate) struct Driver {
    options: Options,
    this: Weak<Self>,
    inbox: RefCell<VecDeque<Happened>>,
    /// What is told of the input that was taken last; the next one waits for that.
    telling: RefCell<VecDeque<TabOutput<JsValue>>>,
    /// Inputs are being taken from the inbox, further up the stack.
    running: Cell<bool>,
    /// Inputs wait for it: the page had to do something else.
    turn: RefCell<Option<Turn>>,
    tabs: RefCell<Tabs<JsValue>>,
    group: RefCell<Group>,
    engine: RefCell<Option<Engine>>,
    /// Counts the engines: what an older one began means nothing any more.
    life: Cell<u32>,
    /// What a new engine is to do once this tab leads.
    backlog: RefCell<Vec<Output>>,
    waiting: RefCell<SortedMap<u64, Waiting>>,
    next_request: Cell<u64>,
    page: RefCell<Option<Page>>,
    timer: RefCell<Option<Timeout>>,
    device: RefCell<String>,
    state: RefCell<JsValue>,
    /// Somebody waits in [`Driver::open`].
    opening: RefCell<Option<Function>>,
    /// The state said that it stopped, and why; so does every tab of the device.
    stopped: RefCell<Option<JsValue>>,
    /// This tab takes no part any more; what is asked is refused with this.
    ended: RefCell<Option<JsValue>>,
    /// The application closes the chat: nobody comes back.
    closing: Cell<bool>,
}

/// One thing that happened.
enum Happened {
    /// To the core of this life.
    Core(u32, Input),
    /// A save of this life failed: somebody else writes the cache.
    Superseded(u32, Ticket),
    /// The cache of this life is open; `None` when it can't be had.
    Opened(u32, Option<Opened>),
    Tab(TabInput<JsValue>),
    Heard(JsValue),
    Lock(Whose, LockEvent),
    Page(PageEvent),
    Tick,
    /// This tab comes to its end, for this reason.
    End(JsValue),
}

/// Whose lock it is.
#[derive(Clone, Copy)]
enum Whose {
    /// Of this tab.
    Own,
    /// Of who leads.
    Leader,
    /// Of another tab, which has it as long as it is there.
    Other(TabId),
}

/// What joins this tab to the others; all empty for one that is by itself.
#[derive(Default)]
struct Group {
    locks: Option<Locks>,
    channel: Option<Channel>,
    /// Of this tab: held as long as it takes part.
    _own: Option<Lock>,
    /// For that one, until it is held.
    patience: Option<Timeout>,
    /// Of who leads: held or waited for.
    leader: Option<Lock>,
    /// Of other tabs, to learn of their end.
    others: SortedMap<TabId, Lock>,
}

impl Group {
    fn is_shared(&self) -> bool {
        self.locks.is_some()
    }
}

/// Who waits for a reply.
struct Waiting {
    resolve: Function,
    reject: Function,
}

impl Driver {
    /// Joins the other tabs, or leads them. It does not wait for the network.
    ///
    /// # Errors
    /// A [`ChatError`] when this host has no entropy.
    pub(crate) async fn open(options: Options) -> Result<Rc<Self>, ChatError> {
        let id = random_number().map_err(no_entropy)?;
        let driver = Rc::new_cyclic(|this: &Weak<Self>| Self {
            options,
            this: Weak::clone(this),
            inbox: RefCell::default(),
            telling: RefCell::default(),
            running: Cell::new(false),
            turn: RefCell::default(),
            tabs: RefCell::new(Tabs::new(TabId(id), page::is_seen())),
            group: RefCell::default(),
            engine: RefCell::default(),
            life: Cell::new(0),
            backlog: RefCell::default(),
            waiting: RefCell::default(),
            next_request: Cell::new(1),
            page: RefCell::default(),
            timer: RefCell::default(),
            device: RefCell::default(),
            state: RefCell::new(JsValue::UNDEFINED),
            opening: RefCell::default(),
            stopped: RefCell::default(),
            ended: RefCell::default(),
            closing: Cell::new(false),
        });
        driver.join();
        let opened = Promise::new(&mut |resolve, _| {
            driver.opening.replace(Some(resolve));
        });
        driver.page.replace(Some(Page::watch(driver.teller(Happened::Page))));
        if !driver.group.borrow().is_shared() {
            driver.feed(Happened::Tab(TabInput::Enter));
        }
        // Only ever fulfilled.
        let _ = JsFuture::from(opened).await;
        Ok(driver)
    }

    /// A function that feeds this driver while it lives.
    fn teller<T: 'static>(&self, happened: impl Fn(T) -> Happened + 'static) -> impl Fn(T) + 'static {
        let this = Weak::clone(&self.this);
        move |value| {
            if let Some(driver) = this.upgrade() {
                driver.feed(happened(value));
            }
        }
    }

    /// Tabs share what they have where there is a cache to share, a lock to agree by and a channel to speak on.
    fn join(&self) {
        let Some(name) = &self.options.database else { return };
        let (Some(locks), Some(channel)) = (Locks::find(), Channel::open(name, self.teller(Happened::Heard)))
        else {
            return;
        };
        // Whoever hears of this tab waits for its lock to fall, so it is held before anybody does.
        let entered = self.teller(|event| Happened::Lock(Whose::Own, event));
        let own = locks.request(&lock_of(name, self.tabs.borrow().id()), false, entered);
        let silent = self.teller(|()| Happened::Lock(Whose::Own, LockEvent::Refused));
        self.group.replace(Group {
            locks: Some(locks),
            channel: Some(channel),
            _own: Some(own),
            patience: Some(Timeout::new(OWN_LOCK_MS, move || silent(()))),
            ..Group::default()
        });
    }

    // ------------------------------------------------------------ what applications ask

    /// This device's id.
    pub(crate) fn device(&self) -> String {
        self.device.borrow().clone()
    }

    /// The connection and the cache, as JavaScript sees them.
    pub(crate) fn state(&self) -> JsValue {
        self.state.borrow().clone()
    }

    /// The direct conversation with a user.
    pub(crate) fn direct(&self, user: &UserId) -> ConversationId {
        ConversationId::direct(&self.options.user, user)
    }

    /// Asks for something, here or of the tab that leads; the promise takes the reply.
    pub(crate) fn ask(&self, call: &JsValue) -> Promise {
        if let Some(error) = &*self.ended.borrow() {
            return Promise::reject(error);
        }
        // What is wrong with it is told at once, and nobody else is bothered with it.
        let checked = random_number()
            .map_err(no_entropy)
            .and_then(|number| calls::with_key(call, &format!("{:x}-{number:x}", now().time.0)))
            .and_then(|()| calls::command(call, 0));
        if let Err(error) = checked {
            return Promise::reject(&convert::error_to_js(&error));
        }
        let request = self.next_request.replace(self.next_request.get() + 1);
        let promise = Promise::new(&mut |resolve, reject| {
            self.waiting.borrow_mut().insert(request, Waiting { resolve, reject });
        });
        let standing = calls::name(call).as_deref() == Some(calls::WATCH);
        self.feed(Happened::Tab(TabInput::Ask { request, ask: call.clone(), standing }));
        promise
    }

    /// Takes no part any more: says goodbye if it is the last tab, and lets go of everything.
    pub(crate) fn close(&self) {
        self.closing.set(true);
        self.feed(Happened::End(convert::error_to_js(&ChatError::new(Code::CLOSED))));
    }

    // ------------------------------------------------------------ the line of inputs

    fn feed(&self, happened: Happened) {
        // A page that ends has no other turn; and one that was frozen may have lost the one that it waited for.
        let is_end = matches!(happened, Happened::Page(PageEvent::Leave) | Happened::End(_));
        let is_back = matches!(happened, Happened::Page(PageEvent::Return | PageEvent::Wake));
        self.inbox.borrow_mut().push_back(happened);
        if !self.running.get() && (is_end || is_back || self.turn.borrow().is_none()) {
            self.run(is_end);
        }
    }

    /// Takes what has happened, and tells what is to be told of each before the next is taken: so nothing gathers here.
    /// What takes longer than a page may be blocked goes on in another turn, unless it must be done now.
    fn run(&self, must_end: bool) {
        self.running.set(true);
        self.turn.take();
        let began = monotonic_ms();
        for step in 1_u32.. {
            // Not in the condition: the borrow would last through the body.
            let telling = self.telling.borrow_mut().pop_front();
            let is_small = telling.is_some();
            if let Some(telling) = telling {
                self.tell_next(telling);
            } else {
                let happened = self.inbox.borrow_mut().pop_front();
                let Some(happened) = happened else { break };
                self.take(happened);
            }
            let is_looked = !must_end && (!is_small || step.is_multiple_of(STEPS_UNLOOKED));
            if is_looked && monotonic_ms() - began >= TURN_MS && self.rest() {
                break;
            }
        }
        self.running.set(false);
        self.arm();
    }

    /// The rest is for another turn; false where there is none.
    fn rest(&self) -> bool {
        let this = Weak::clone(&self.this);
        let next = Turn::next(move || {
            if let Some(driver) = this.upgrade() {
                driver.run(false);
            }
        });
        self.turn.replace(next);
        self.turn.borrow().is_some()
    }

    fn take(&self, happened: Happened) {
        match happened {
            Happened::Core(life, input) if life == self.life.get() => self.core_input(input),
            Happened::Superseded(life, ticket) if life == self.life.get() => {
                if self.group.borrow().is_shared() {
                    self.tab_input(TabInput::Deposed);
                } else {
                    // Pages that can't agree: the newest has the cache, this one goes on without.
                    let words = "another page writes the cache".into();
                    self.core_input(Input::SaveFailed(ticket, words));
                }
            }
            Happened::Opened(life, opened) if life == self.life.get() => self.start(opened),
            Happened::Core(..) | Happened::Superseded(..) | Happened::Opened(..) => {}
            Happened::Tab(input) => self.tab_input(input),
            Happened::Heard(note) => self.heard(&note),
            Happened::Lock(whose, event) => self.lock_event(whose, event),
            Happened::Page(event) => self.page_event(event),
            Happened::Tick => {
                self.core_input(Input::Tick);
                self.tab_input(TabInput::Tick);
            }
            Happened::End(reason) => self.end(&reason),
        }
    }

    fn arm(&self) {
        let core = self.engine.borrow().as_ref().and_then(Engine::next_deadline);
        let deadline = [core, self.tabs.borrow().next_deadline()].into_iter().flatten().min();
        let tick = self.teller(|()| Happened::Tick);
        self.timer.replace(deadline.map(|deadline| engine::timer(deadline, move || tick(()))));
    }

    fn lock_event(&self, whose: Whose, event: LockEvent) {
        match (whose, event) {
            (Whose::Own, LockEvent::Granted) => {
                self.group.borrow_mut().patience.take();
                self.tab_input(TabInput::Enter);
            }
            (Whose::Leader, LockEvent::Granted) => self.tab_input(TabInput::Elected),
            (Whose::Leader, LockEvent::Lost) => self.tab_input(TabInput::Deposed),
            (Whose::Other(tab), LockEvent::Granted) => self.tab_input(TabInput::Fell(tab)),
            (Whose::Own | Whose::Leader, LockEvent::Refused) => self.go_alone(),
            // Nobody takes these; and of a tab that can't be waited for only its own goodbye tells.
            (Whose::Own | Whose::Other(_), LockEvent::Lost) | (Whose::Other(_), LockEvent::Refused) => {}
        }
    }

    /// Without locks the tabs can't agree: this one is by itself, and leads.
    fn go_alone(&self) {
        if self.group.take().is_shared() {
            self.tab_input(TabInput::Enter);
            self.tab_input(TabInput::Elected);
        }
    }

    fn page_event(&self, event: PageEvent) {
        match event {
            PageEvent::Visible(visible) => {
                self.tab_input(TabInput::Visible(visible));
                if visible {
                    self.core_input(Input::Host(HostEvent::Wake));
                }
            }
            PageEvent::Network(network) => self.core_input(Input::Host(HostEvent::Network(network))),
            PageEvent::Leave => {
                self.tab_input(TabInput::Leave);
                // A page that hears or holds something is not kept for going back to.
                self.group.take();
            }
            // A page out of the back/forward cache is told so twice: it resumes, and is shown.
            PageEvent::Return => {
                if self.ended.borrow().is_none() && self.tabs.borrow().is_outside() {
                    self.join();
                    self.tab_input(TabInput::Visible(page::is_seen()));
                    if !self.group.borrow().is_shared() {
                        self.tab_input(TabInput::Enter);
                    }
                }
            }
            PageEvent::Wake => self.core_input(Input::Host(HostEvent::Wake)),
        }
    }

    fn heard(&self, note: &JsValue) {
        match notes::from_js(note) {
            Some(notes::Heard::Note(note)) => {
                let is_new = matches!(note, Note::Join { told: None, .. });
                if is_new && self.tabs.borrow().leads() && self.stopped.borrow().is_some() {
                    // Somebody begins anew where this one has come to its end: make way.
                    return self.end_as_stopped();
                }
                self.tab_input(TabInput::Heard(note));
            }
            Some(notes::Heard::Newer) => self.end(&convert::error_to_js(&ChatError::new(Code::OUTDATED))),
            // It learns from any note of ours that it is the older one.
            Some(notes::Heard::Older) => {
                let id = self.tabs.borrow().id();
                self.post(Note::Leave { tab: id });
            }
            None => {}
        }
    }

    // ------------------------------------------------------------ the tabs

    fn tab_input(&self, input: TabInput<JsValue>) {
        self.tabs.borrow_mut().handle(now(), input);
        loop {
            let output = self.tabs.borrow_mut().poll();
            let Some(output) = output else { break };
            self.perform_tab(output);
        }
        if self.tabs.borrow().leads() {
            let backlog = self.backlog.take();
            self.perform_all(backlog, false);
        }
    }

    fn perform_tab(&self, output: TabOutput<JsValue>) {
        match output {
            TabOutput::Post(note) => self.post(note),
            TabOutput::RequestLock => self.request_lock(false),
            TabOutput::StealLock => self.request_lock(true),
            TabOutput::ReleaseLock => {
                let mut group = self.group.borrow_mut();
                group.leader = None;
                group.others.clear();
            }
            TabOutput::Lead => self.lead(),
            TabOutput::Retire { goodbye } => self.retire(goodbye),
            TabOutput::Perform { number, by, ask } => match calls::command(&ask, watcher(by)) {
                Ok(command) => self.core_later(Input::Command(RequestId(number), command)),
                Err(error) => {
                    let performed = TabInput::Performed(number, Err(convert::error_to_js(&error)));
                    self.inbox.borrow_mut().push_back(Happened::Tab(performed));
                }
            },
            TabOutput::Forget(tab) => {
                let watch = Command::Watch { by: watcher(tab), users: Vec::new() };
                self.core_later(Input::Command(NOBODY, watch));
                self.group.borrow_mut().others.remove(&tab);
            }
            telling @ (TabOutput::Settle(..)
            | TabOutput::Tell(_)
            | TabOutput::Gap
            | TabOutput::Snapshot(_)) => self.telling.borrow_mut().push_back(telling),
            TabOutput::Await(tab) => self.await_end(tab),
            TabOutput::Seen(seen) => self.core_later(Input::Host(HostEvent::Visible(seen))),
        }
    }

    /// After what the core does at present.
    fn core_later(&self, input: Input) {
        self.inbox.borrow_mut().push_back(Happened::Core(self.life.get(), input));
    }

    fn post(&self, note: Note<JsValue>) {
        if let Some(channel) = &self.group.borrow().channel {
            let retry = if let Note::Ask { request, .. } = &note { Some(*request) } else { None };
            let failed = channel.post(&notes::to_js(note)).is_err();
            if let Some(request) = retry.filter(|_| failed) {
                // Only what an application gives can be uncloneable.
                let error = calls::bad_request("The arguments must be plain data.");
                self.settle(request, Err(convert::error_to_js(&error)));
            }
        }
    }

    fn request_lock(&self, steal: bool) {
        let mut group = self.group.borrow_mut();
        group.leader = match (&group.locks, &self.options.database) {
            (Some(locks), Some(name)) => {
                let tell = self.teller(|event| Happened::Lock(Whose::Leader, event));
                Some(locks.request(name, steal, tell))
            }
            // By itself it always leads.
            _ => {
                self.inbox.borrow_mut().push_back(Happened::Lock(Whose::Leader, LockEvent::Granted));
                None
            }
        };
    }

    fn await_end(&self, tab: TabId) {
        let mut group = self.group.borrow_mut();
        if let (Some(locks), Some(name)) = (&group.locks, &self.options.database) {
            let fell = self.teller(move |event| Happened::Lock(Whose::Other(tab), event));
            let lock = locks.request(&lock_of(name, tab), false, fell);
            group.others.insert(tab, lock);
        }
    }

    fn settle(&self, request: u64, result: Result<JsValue, JsValue>) {
        let Some(waiting) = self.waiting.borrow_mut().remove(&request) else { return };
        let (settle, value) = match result {
            Ok(value) => (waiting.resolve, value),
            Err(error) => (waiting.reject, error),
        };
        // The settling functions of a promise do not throw.
        let _ = settle.call1(&JsValue::UNDEFINED, &value);
    }
}

/// What asks without wanting an answer: the tabs number from 1.
const NOBODY: RequestId = RequestId(0);

/// Names a tab among those that watch.
fn watcher(tab: TabId) -> u32 {
    // The low bits are as random as the others.
    u32::try_from(tab.0 & u64::from(u32::MAX)).unwrap_or_default()
}

/// The lock that a tab holds while it lives.
fn lock_of(name: &str, tab: TabId) -> String {
    format!("{name} tab {:x}", tab.0)
}

fn no_entropy(message: String) -> ChatError {
    ChatError { code: Code::BAD_REQUEST, message }
}

fn get(object: &JsValue, name: &str) -> JsValue {
    Reflect::get(object, &name.into()).unwrap_or(JsValue::UNDEFINED)
}

pub(crate) fn set(object: &Object, name: &str, value: &JsValue) {
    // Fails only on frozen objects, and these are ours.
    let _ = Reflect::set(object, &name.into(), value);
}

pub(crate) fn delete(object: &Object, name: &str) {
    // As above.
    let _ = Reflect::delete_property(object, &name.into());
}
