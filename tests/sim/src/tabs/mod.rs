//! The tabs of one device in a world: the real machine of tabs in each of them, one lock, a channel between them, and the
//! core in the one that leads. Tabs open, close, freeze, come back and crash between any two outputs.
//!
//! | file | subject |
//! | --- | --- |
//! | `mod.rs` | a browser: its tabs, its lock, its channel |
//! | `leading.rs` | the core in the tab that leads, as the driver of the SDK runs it |
//! | `told.rs` | the checker: what each tab's application is told and answered |
//! | `people.rs` | who opens, closes and freezes tabs |
//!
//! The checker of a device holds what its core tells against the queue; here each tab is held against what the saves of
//! those cores told: all of it, once and in their order, whichever tab led when.

mod leading;
mod people;
mod told;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use hongyan_client::tabs::{Note, TabId, TabInput, TabOutput, Tabs};
use hongyan_client::view::Message;
use hongyan_client::{ChatError, Moment, Now};
use hongyan_protocol::wire::Content;
use hongyan_protocol::{ConversationId, Key, Seq, Time, UserId};

use crate::chance::Chance;
use crate::clock::BEGIN_MS;
use crate::faults::Fault;
use crate::world::{Happening, World};

pub(crate) use leading::{OF_TABS, is_of_a_save};
pub(crate) use told::TabLog;

/// What is decided of tabs before anything happens.
#[derive(Clone, Copy)]
pub(crate) struct TabsShape {
    /// A step brings something of tabs so many times in a hundred.
    often: u64,
    /// The longest of the usual delays of what a tab says, milliseconds.
    latency_ms: u64,
}

impl TabsShape {
    /// Half of the worlds have a browser.
    pub(crate) fn of(seed: u64) -> Option<Self> {
        let mut chance = Chance::new(seed, 7);
        chance
            .percent(50)
            .then(|| Self { often: *chance.pick(&[8, 25, 60]), latency_ms: *chance.pick(&[1, 10, 80]) })
    }
}

/// What tabs speak in.
#[derive(Clone)]
pub(crate) enum Word {
    /// Something that a save told, by its number.
    Told(u64),
    /// Something of the moment.
    Moment,
    Snapshot,
    Send(Box<Send>),
    Sent(Box<Message>),
    Failed(ChatError),
}

/// A message to be sent.
#[derive(Clone)]
pub(crate) struct Send {
    pub(crate) conversation: ConversationId,
    pub(crate) key: Key,
    pub(crate) content: Content,
    pub(crate) reply_to: Option<Seq>,
    pub(crate) mentions: Vec<UserId>,
}

/// What happens to a tab.
pub(crate) enum TabHappening {
    Input(TabInput<Word>),
    /// A note that is late.
    HeardLate(Note<Word>),
    /// The lock may be free for the next.
    Lock,
    /// The cache is open.
    Opens,
    /// The core is asked.
    Performs(u64, Word),
    /// Somebody looks, or nobody does.
    Seen(bool),
    /// A frozen page is back.
    Thaws,
    /// Somebody opens one more.
    Opened,
}

/// One page.
pub(crate) struct Tab {
    machine: Tabs<Word>,
    frozen: bool,
    /// When its next tick is due already.
    tick: Option<u64>,
    /// What its application waits for, by the text that it sent.
    asked: BTreeMap<u64, String>,
    /// The last of what saves told that its application was told; `None` when that is not known.
    told: Option<u64>,
    /// The leader that it follows, and since when.
    follows: Option<(u64, u64)>,
}

/// The pages of one device.
#[derive(Default)]
pub(crate) struct Browser {
    tabs: BTreeMap<u64, Tab>,
    next_tab: u64,
    lock: Option<u64>,
    waiting: VecDeque<u64>,
    /// Who waits for the end of whom.
    awaited: BTreeSet<(u64, u64)>,
    /// In which the core runs.
    leader: Option<u64>,
    /// The last of what saves told that was told in a leading tab.
    said: u64,
    /// The last leader had not told all that it had saved.
    unsaid: bool,
    /// Since when.
    led_since: u64,
    /// When a tab was gone last.
    gone_at: u64,
    /// What goes from one tab to another keeps its order.
    lanes: BTreeMap<(u64, u64), u64>,
    requests: u64,
    words: u64,
    /// Sends that the core was given, by the number of the ask.
    performing: BTreeMap<u64, String>,
    /// What was saved in memory only and is gone, by the term of its leader.
    gone: Vec<(u64, TabLog)>,
}

impl Browser {
    /// Nothing is under way, and everybody is there.
    pub(crate) fn is_quiet(&self) -> bool {
        self.leader.is_some() && self.tabs.values().all(|tab| tab.asked.is_empty() && !tab.frozen)
    }

    /// In which the core runs.
    pub(crate) fn leader(&self) -> Option<u64> {
        self.leader
    }

    /// Somebody can ask something in a tab.
    pub(crate) fn is_awake(&self) -> bool {
        !self.awake().is_empty()
    }

    /// A tab in which somebody can ask something.
    fn awake(&self) -> Vec<u64> {
        self.tabs.iter().filter(|(_, tab)| !tab.frozen).map(|(id, _)| *id).collect()
    }

    /// Tabs that wait for an answer to something in words.
    pub(crate) fn waits(&self) -> String {
        let tabs = self.tabs.iter().map(|(id, tab)| format!("tab {id} waits for {:?}", tab.asked.values()));
        tabs.collect::<Vec<_>>().join(", ")
    }
}

impl World {
    pub(crate) fn browser(&mut self, index: usize) -> &mut Browser {
        self.devices[index].browser.get_or_insert_default()
    }

    fn tab(&mut self, index: usize, tab: u64) -> Option<&mut Tab> {
        self.browser(index).tabs.get_mut(&tab)
    }

    fn tab_soon(&mut self, index: usize, tab: u64, most_ms: u64, what: TabHappening) {
        self.soon(0, most_ms, Happening::Tab(index, tab, what));
    }

    /// Somebody opens a page.
    pub(crate) fn tab_opens(&mut self, index: usize) {
        let browser = self.browser(index);
        browser.next_tab += 1;
        let id = browser.next_tab;
        let tab = Tab {
            machine: Tabs::new(TabId(id), true),
            frozen: false,
            tick: None,
            asked: BTreeMap::new(),
            told: None,
            follows: None,
        };
        browser.tabs.insert(id, tab);
        self.note(|| format!("device {index}: tab {id} opens"));
        self.tab_input(index, id, TabInput::Snapshot(Word::Snapshot));
        self.tab_input(index, id, TabInput::Enter);
    }

    pub(crate) fn tab_happens(&mut self, index: usize, tab: u64, happening: TabHappening) {
        match happening {
            TabHappening::Input(TabInput::Tick) => {
                if let Some(tab) = self.tab(index, tab) {
                    tab.tick = None;
                }
                self.tab_input(index, tab, TabInput::Tick);
            }
            TabHappening::Input(input) => self.tab_input(index, tab, input),
            TabHappening::HeardLate(note) => {
                if self.tab(index, tab).is_some_and(|tab| !tab.frozen && !tab.machine.is_outside()) {
                    self.mattered(Fault::NoteLate);
                }
                self.tab_input(index, tab, TabInput::Heard(note));
            }
            TabHappening::Lock => {
                let browser = self.browser(index);
                if browser.lock.is_none()
                    && let Some(next) = browser.waiting.pop_front()
                {
                    browser.lock = Some(next);
                    self.tab_input(index, next, TabInput::Elected);
                }
            }
            TabHappening::Opens => self.tab_leads(index, tab),
            TabHappening::Performs(number, word) => self.tab_performs(index, tab, number, word),
            TabHappening::Seen(seen) => {
                if self.browser(index).leader == Some(tab) {
                    self.host(index, hongyan_client::HostEvent::Visible(seen));
                }
            }
            TabHappening::Thaws => {
                self.tab_is_back(index, tab);
                if let Some(tab) = self.tab(index, tab) {
                    tab.frozen = false;
                }
                self.tab_input(index, tab, TabInput::Enter);
            }
            TabHappening::Opened => {
                if self.browser(index).tabs.len() < 3 {
                    self.tab_opens(index);
                }
            }
        }
    }

    pub(crate) fn tab_input(&mut self, index: usize, id: u64, input: TabInput<Word>) {
        let now = Now { moment: Moment(self.now), time: Time(BEGIN_MS + self.now) };
        let Some(tab) = self.tab(index, id).filter(|tab| !tab.frozen) else { return };
        tab.machine.handle(now, input);
        loop {
            let output = self.tab(index, id).and_then(|tab| tab.machine.poll());
            let Some(output) = output.filter(|_| self.breach.is_none()) else { break };
            self.tab_output(index, id, output);
        }
        let Some(tab) = self.tab(index, id) else { return };
        if let Some(Moment(at)) = tab.machine.next_deadline()
            && tab.tick.is_none_or(|tick| tick > at)
        {
            tab.tick = Some(at);
            let at = at.max(now.moment.0);
            self.schedule(at, Happening::Tab(index, id, TabHappening::Input(TabInput::Tick)));
        }
    }

    fn tab_output(&mut self, index: usize, id: u64, output: TabOutput<Word>) {
        match output {
            TabOutput::Post(note) => self.tab_posts(index, id, &note),
            TabOutput::RequestLock => {
                self.browser(index).waiting.push_back(id);
                self.tab_soon(index, id, 3, TabHappening::Lock);
            }
            TabOutput::StealLock => {
                let browser = self.browser(index);
                browser.waiting.retain(|waiting| *waiting != id);
                if let Some(holder) = browser.lock.replace(id) {
                    self.tab_soon(index, holder, 5, TabHappening::Input(TabInput::Deposed));
                }
                self.tab_soon(index, id, 5, TabHappening::Input(TabInput::Elected));
            }
            TabOutput::ReleaseLock => self.tab_lets_go(index, id),
            TabOutput::Lead => self.tab_soon(index, id, 30, TabHappening::Opens),
            TabOutput::Retire { goodbye } => self.tab_retires(index, id, goodbye),
            TabOutput::Perform { number, ask, .. } => {
                self.tab_soon(index, id, 0, TabHappening::Performs(number, ask));
            }
            TabOutput::Settle(request, result) => self.tab_settled(index, id, request, result),
            TabOutput::Tell(word) => self.tab_told(index, id, &word),
            TabOutput::Gap => self.tab_missed(index, id),
            TabOutput::Snapshot(_) => {
                let now = self.now;
                if let Some(tab) = self.tab(index, id) {
                    tab.follows = Some((tab.machine.term(), now));
                }
            }
            TabOutput::Await(other) => {
                let browser = self.browser(index);
                browser.awaited.insert((id, other.0));
                if browser.tabs.get(&other.0).is_none_or(|tab| tab.frozen) {
                    self.tab_falls(index, other.0);
                }
            }
            TabOutput::Seen(seen) => self.tab_soon(index, id, 0, TabHappening::Seen(seen)),
            TabOutput::Forget(_) => {}
        }
    }

    /// Every other tab hears it, those of one tab in their order.
    fn tab_posts(&mut self, index: usize, from: u64, note: &Note<Word>) {
        let Some(shape) = self.shape.tabs else { return };
        for to in self.browser(index).awake() {
            if to == from {
                continue;
            }
            let is_late = self.fault(Fault::NoteLate, 2);
            let takes = if is_late {
                self.fate(Fault::NoteLate).between(500, 2_000)
            } else {
                self.chance.between(0, shape.latency_ms)
            };
            let at = self.now + takes;
            let lane = self.browser(index).lanes.entry((from, to)).or_default();
            *lane = (*lane).max(at);
            let at = *lane;
            let heard = match is_late {
                true => TabHappening::HeardLate(note.clone()),
                false => TabHappening::Input(TabInput::Heard(note.clone())),
            };
            self.schedule(at, Happening::Tab(index, to, heard));
        }
    }

    /// It neither holds the lock nor waits for it, nor for anybody's end.
    fn tab_lets_go(&mut self, index: usize, id: u64) {
        let browser = self.browser(index);
        browser.waiting.retain(|waiting| *waiting != id);
        browser.awaited.retain(|(waiter, _)| *waiter != id);
        if browser.lock == Some(id) {
            browser.lock = None;
            self.tab_soon(index, id, 20, TabHappening::Lock);
        }
    }

    /// The lock that it held as long as it took part is free.
    fn tab_falls(&mut self, index: usize, id: u64) {
        let now = self.now;
        let browser = self.browser(index);
        browser.gone_at = now;
        let waits = browser.awaited.iter().filter(|(_, of)| *of == id);
        let waiters: Vec<_> = waits.map(|(waiter, _)| *waiter).collect();
        browser.awaited.retain(|(_, of)| *of != id);
        for waiter in waiters {
            self.tab_soon(index, waiter, 20, TabHappening::Input(TabInput::Fell(TabId(id))));
        }
    }

    /// The page is gone, in the middle of whatever it did; `tells`: its machine ends its connection.
    pub(crate) fn tab_dies(&mut self, index: usize, id: u64, tells: bool) {
        let Some(tab) = self.browser(index).tabs.remove(&id) else { return };
        self.note(|| format!("device {index}: tab {id} is gone"));
        self.tab_lets_go(index, id);
        self.tab_falls(index, id);
        if self.browser(index).leader == Some(id) {
            self.leader_is_gone(index, tells);
        }
        // What it asked was promised to nobody, unless it is in the outbox.
        let kept = self.devices[index].disk.outbox();
        for text in tab.asked.into_values().filter(|text| !kept.contains(text)) {
            if let Some(sending) = self.watch.sends.get_mut(&text) {
                sending.unsure = !sending.acknowledged && !sending.refused;
            }
        }
    }

    /// All pages are gone at once.
    pub(crate) fn tabs_die(&mut self, index: usize, tells: bool) {
        let tabs: Vec<_> = self.browser(index).tabs.keys().copied().collect();
        for tab in tabs {
            self.tab_dies(index, tab, tells);
        }
    }
}
