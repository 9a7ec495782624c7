//! Who opens, closes and freezes tabs, and asks in them.

use hongyan_client::Command;
use hongyan_client::tabs::TabInput;
use hongyan_protocol::Key;

use super::{Send, TabHappening, Word};
use crate::chance::Chance;
use crate::faults::Fault;
use crate::world::{Happening, World};

/// Longer than the fall of a lock takes, milliseconds.
const FALLS_MS: u64 = 30;

#[derive(Clone, Copy)]
enum Doing {
    Open,
    Close,
    Crash,
    Freeze,
    Look,
}

const DOINGS: &[(u64, Doing)] =
    &[(10, Doing::Open), (6, Doing::Close), (6, Doing::Crash), (5, Doing::Freeze), (4, Doing::Look)];

impl World {
    /// What a step brings of tabs.
    pub(crate) fn tabs_step(&mut self, step: u32) {
        let Some(shape) = self.shape.tabs else { return };
        let Some(index) = self.devices.iter().position(|device| device.browser.is_some()) else { return };
        let mut chance = Chance::new(self.scenario.seed, 4_000_000 + u64::from(step));
        if !chance.percent(shape.often) {
            return;
        }
        let tabs = self.browser(index).awake();
        if tabs.is_empty() {
            return;
        }
        // The leader's end is the hard one.
        let leader = self.browser(index).leader.filter(|_| chance.percent(60));
        let tab = leader.unwrap_or(*chance.pick(&tabs));
        match chance.weighted(DOINGS) {
            Doing::Open => self.tab_happens(index, tab, TabHappening::Opened),
            Doing::Close if self.may(Fault::TabClosed) => self.tab_closes(index, tab),
            Doing::Crash if self.may(Fault::TabCrashed) => self.tab_crashes(index, tab, chance.percent(70)),
            Doing::Freeze if self.may(Fault::TabFrozen) => {
                // Its own lock falls for all others before it has it again.
                let back = self.now + chance.between(FALLS_MS, 20_000);
                self.tab_freezes(index, tab, back);
            }
            Doing::Look => {
                let visible = chance.percent(50);
                self.tab_input(index, tab, TabInput::Visible(visible));
            }
            _ => {}
        }
    }

    fn may(&mut self, fault: Fault) -> bool {
        let may = self.faulty && !self.scenario.without.contains(&fault);
        if may {
            self.coverage.happened(fault);
        }
        may
    }

    /// In good order.
    pub(crate) fn tab_closes(&mut self, index: usize, tab: u64) {
        if self.leads_others(index, tab) {
            self.mattered(Fault::TabClosed);
        }
        self.note(|| format!("device {index}: tab {tab} closes"));
        self.tab_input(index, tab, TabInput::Leave);
        self.tab_dies(index, tab, true);
        self.tabs_return(index);
    }

    fn leads_others(&mut self, index: usize, tab: u64) -> bool {
        let browser = self.browser(index);
        browser.leader == Some(tab) && browser.awake().iter().any(|other| *other != tab)
    }

    /// In the middle of whatever it does.
    pub(crate) fn tab_crashes(&mut self, index: usize, tab: u64, tells: bool) {
        if self.leads_others(index, tab) {
            self.mattered(Fault::TabCrashed);
        }
        self.tab_dies(index, tab, tells);
        self.tabs_return(index);
    }

    /// Nothing of it runs until then.
    fn tab_freezes(&mut self, index: usize, tab: u64, until: u64) {
        self.note(|| format!("device {index}: tab {tab} freezes until {until}"));
        self.tab_input(index, tab, TabInput::Leave);
        if let Some(tab) = self.tab(index, tab) {
            (tab.frozen, tab.follows) = (true, None);
        }
        self.tab_falls(index, tab);
        self.schedule(until, Happening::Tab(index, tab, TabHappening::Thaws));
    }

    /// No page has the cache open: each is closed, or frozen for a while.
    pub(crate) fn tabs_sleep(&mut self, index: usize) {
        for tab in self.browser(index).awake() {
            if self.chance.percent(50) && self.may(Fault::TabFrozen) {
                let back = self.now + self.chance.between(FALLS_MS, 20_000);
                self.tab_freezes(index, tab, back);
            } else {
                self.tab_dies(index, tab, true);
            }
        }
    }

    /// Where no tab is left, somebody opens one sooner or later.
    fn tabs_return(&mut self, index: usize) {
        if self.browser(index).tabs.is_empty() {
            self.soon(50, 6_000, Happening::DeviceStarts(index));
        }
    }

    /// Somebody opens the browser, with a few pages.
    pub(crate) fn tabs_start(&mut self, index: usize) {
        if !self.browser(index).awake().is_empty() {
            return;
        }
        for _ in 0..self.chance.between(1, 3) {
            self.tab_opens(index);
        }
    }

    /// The faults stop: whoever is frozen is back, when her own lock has fallen for all others.
    pub(crate) fn tabs_heal(&mut self, index: usize) {
        let tabs: Vec<_> = self.browser(index).tabs.keys().copied().collect();
        for tab in tabs {
            if self.tab(index, tab).is_some_and(|tab| tab.frozen) {
                self.schedule(self.now + FALLS_MS, Happening::Tab(index, tab, TabHappening::Thaws));
            }
        }
        self.tabs_start(index);
    }

    /// An application writes a message in one of its tabs; false when there is none.
    pub(crate) fn tab_asks(&mut self, index: usize, command: Command, text: &str) -> bool {
        let tabs = self.browser(index).awake();
        let Command::Send { conversation, key, content, reply_to, mentions } = command else { return false };
        if tabs.is_empty() {
            return false;
        }
        let tab = *self.chance.pick(&tabs);
        let browser = self.browser(index);
        browser.requests += 1;
        let request = browser.requests;
        let Ok(key) = key.map_or_else(|| Key::new(&format!("d{index}-{request}")), Ok) else { return false };
        self.note(|| format!("device {index}: tab {tab} is to send {text}"));
        if let Some(sending) = self.watch.sends.get_mut(text) {
            sending.tab = tab;
        }
        if let Some(tab) = self.tab(index, tab) {
            tab.asked.insert(request, text.to_owned());
        }
        let ask = Word::Send(Box::new(Send { conversation, key, content, reply_to, mentions }));
        self.tab_input(index, tab, TabInput::Ask { request, ask, standing: false });
        true
    }
}
