//! The tabs of a device in a browser that is played here: a lock, a channel, a cache, and pages that begin, end, freeze
//! and crash at any moment.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test ends where something is not as it must be")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use hongyan_client::limits::{LEADER_ANSWER_MS, REMEMBERED_EVENTS_MAX, TERM_BITS};
use hongyan_client::tabs::{Lead, Note, TabId, TabInput, TabOutput, Tabs, next_term};
use hongyan_client::{Moment, Now};
use hongyan_protocol::Time;
use proptest::prelude::*;

/// What tabs speak in here.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Word {
    /// A message of the queue.
    Message(u64),
    /// Something of the moment.
    Moment(u64),
    Snapshot,
    /// A send with its key.
    Send(u64),
    Sent(u64),
    Watch(u64),
}

/// Saves of which the cache keeps what they told.
const KEPT_MAX: usize = 64;

/// The cache that all tabs see.
struct Disk {
    term: u64,
    /// The last message that is in it.
    position: u64,
    /// What the last saves told.
    kept: VecDeque<(u64, Vec<Word>)>,
}

impl Default for Disk {
    fn default() -> Self {
        Self { term: 0, position: 0, kept: VecDeque::from([(0, Vec::new())]) }
    }
}

/// A core that runs in the leading tab.
struct Core {
    term: u64,
    /// Saves under way: the number, the position that it reaches, and whether the disk has it.
    under_way: VecDeque<(u64, u64, Vec<Word>, bool)>,
    position: u64,
    asked: Vec<(u64, Word)>,
}

struct Tab {
    machine: Tabs<Word>,
    core: Option<Core>,
    /// The cache is being opened.
    opens: bool,
    heard: VecDeque<Note<Word>>,
    told: Vec<Word>,
    gaps: usize,
    /// Messages may have been missed: it was outside.
    was_outside: bool,
    settled: BTreeMap<u64, usize>,
    frozen: bool,
    watches: u64,
    /// What the core was told last of somebody looking.
    seen: Option<bool>,
}

#[derive(Default)]
struct Browser {
    now: u64,
    tabs: BTreeMap<u64, Tab>,
    /// The holder, and those who wait.
    lock: Option<u64>,
    waiting: VecDeque<u64>,
    disk: Disk,
    /// The relay: messages in the queue, and the keys that were sent.
    head: u64,
    sent: BTreeSet<u64>,
    next_tab: u64,
    next_request: u64,
    awaited: BTreeSet<(u64, u64)>,
    moments: u64,
}

impl Browser {
    fn now(&self) -> Now {
        Now { moment: Moment(self.now), time: Time(self.now) }
    }

    fn open_tab(&mut self) -> u64 {
        self.next_tab += 1;
        let id = self.next_tab;
        let tab = Tab {
            machine: Tabs::new(TabId(id), true),
            core: None,
            opens: false,
            heard: VecDeque::new(),
            told: Vec::new(),
            gaps: 0,
            was_outside: false,
            settled: BTreeMap::new(),
            frozen: false,
            watches: 0,
            seen: None,
        };
        self.tabs.insert(id, tab);
        self.input(id, TabInput::Snapshot(Word::Snapshot));
        self.input(id, TabInput::Enter);
        id
    }

    fn input(&mut self, id: u64, input: TabInput<Word>) {
        let now = self.now();
        let Some(tab) = self.tabs.get_mut(&id) else { return };
        tab.machine.handle(now, input);
        while let Some(output) = self.tabs.get_mut(&id).and_then(|tab| tab.machine.poll()) {
            self.perform(id, output);
        }
    }

    fn perform(&mut self, id: u64, output: TabOutput<Word>) {
        match output {
            TabOutput::Post(note) => {
                for (other, tab) in &mut self.tabs {
                    if *other != id && !tab.frozen {
                        tab.heard.push_back(note.clone());
                    }
                }
            }
            TabOutput::RequestLock => self.waiting.push_back(id),
            TabOutput::StealLock => {
                self.waiting.retain(|waiting| *waiting != id);
                if let Some(holder) = self.lock.replace(id) {
                    // It learns of it when it runs again.
                    self.input(holder, TabInput::Deposed);
                }
                self.input(id, TabInput::Elected);
            }
            TabOutput::ReleaseLock => {
                self.waiting.retain(|waiting| *waiting != id);
                if self.lock == Some(id) {
                    self.lock = None;
                }
            }
            TabOutput::Lead => self.tabs.get_mut(&id).unwrap().opens = true,
            TabOutput::Retire { .. } => {
                let tab = self.tabs.get_mut(&id).unwrap();
                tab.core = None;
                tab.opens = false;
            }
            TabOutput::Perform { number, ask, .. } => {
                let core = self.tabs.get_mut(&id).unwrap().core.as_mut().expect("it leads");
                core.asked.push((number, ask));
            }
            TabOutput::Settle(request, result) => {
                assert!(result.is_ok());
                *self.tabs.get_mut(&id).unwrap().settled.entry(request).or_default() += 1;
            }
            TabOutput::Tell(word) => self.tabs.get_mut(&id).unwrap().told.push(word),
            TabOutput::Gap => {
                let tab = self.tabs.get_mut(&id).unwrap();
                assert!(tab.was_outside || self.disk.kept.len() == KEPT_MAX, "tab {id} missed something");
                tab.gaps += 1;
                tab.told.clear();
            }
            TabOutput::Await(other) => {
                self.awaited.insert((id, other.0));
            }
            TabOutput::Seen(seen) => self.tabs.get_mut(&id).unwrap().seen = Some(seen),
            TabOutput::Forget(_) | TabOutput::Snapshot(_) => {}
        }
    }

    /// The lock goes to the next that waits.
    fn grant(&mut self) {
        if self.lock.is_none()
            && let Some(next) = self.waiting.pop_front()
        {
            self.lock = Some(next);
            self.input(next, TabInput::Elected);
        }
    }

    fn open_cache(&mut self, id: u64) {
        let tab = self.tabs.get_mut(&id).unwrap();
        if !core::mem::take(&mut tab.opens) {
            return;
        }
        self.disk.term = next_term(self.disk.term, Time(self.now));
        tab.core = Some(Core {
            term: self.disk.term,
            under_way: VecDeque::new(),
            position: self.disk.position,
            asked: Vec::new(),
        });
        let term = self.disk.term;
        let kept = self.disk.kept.iter().cloned().collect();
        self.input(id, TabInput::Opened { term, kept });
    }

    /// The core takes a batch of the queue, and saves it.
    fn take_batch(&mut self, id: u64, count: u64) {
        if !self.tabs.get(&id).is_some_and(|tab| tab.machine.leads()) {
            return;
        }
        let Some(core) = self.tabs.get_mut(&id).and_then(|tab| tab.core.as_mut()) else { return };
        let until = (core.position + count).min(self.head);
        if until == core.position || core.under_way.len() > 1 {
            return;
        }
        let from = core.position;
        let words: Vec<_> = (from + 1..=until).map(Word::Message).collect();
        core.position = until;
        self.input(id, TabInput::Prepare(words.clone()));
        let save = self.tabs[&id].machine.save();
        self.tabs
            .get_mut(&id)
            .unwrap()
            .core
            .as_mut()
            .unwrap()
            .under_way
            .push_back((save, until, words, false));
    }

    /// The disk takes the oldest save that it has not; a writer of an older term is refused.
    fn reach_disk(&mut self, id: u64) {
        let Some(core) = self.tabs.get_mut(&id).and_then(|tab| tab.core.as_mut()) else { return };
        let term = core.term;
        let Some((save, position, words, durable)) = core.under_way.iter_mut().find(|(.., durable)| !durable)
        else {
            return;
        };
        if term == self.disk.term {
            *durable = true;
            self.disk.position = *position;
            self.disk.kept.push_back((*save, words.clone()));
            if self.disk.kept.len() > KEPT_MAX {
                self.disk.kept.pop_front();
            }
        } else {
            self.input(id, TabInput::Deposed);
        }
    }

    fn end_save(&mut self, id: u64) {
        let Some(core) = self.tabs.get_mut(&id).and_then(|tab| tab.core.as_mut()) else { return };
        if core.under_way.front().is_some_and(|(.., durable)| *durable) {
            core.under_way.pop_front();
            self.input(id, TabInput::Saved);
        }
    }

    fn answer(&mut self, id: u64) {
        let Some(core) = self.tabs.get_mut(&id).and_then(|tab| tab.core.as_mut()) else { return };
        if let Some((number, ask)) = core.asked.pop() {
            let answer = match ask {
                Word::Send(key) => {
                    // The relay knows its key.
                    if self.sent.insert(key) {
                        self.head += 1;
                    }
                    Word::Sent(key)
                }
                other => other,
            };
            self.input(id, TabInput::Performed(number, Ok(answer)));
        }
    }

    fn hear(&mut self, id: u64) {
        let Some(tab) = self.tabs.get_mut(&id) else { return };
        if !tab.frozen
            && let Some(note) = tab.heard.pop_front()
        {
            self.input(id, TabInput::Heard(note));
        }
    }

    fn ask(&mut self, id: u64) {
        if self.tabs.contains_key(&id) {
            self.next_request += 1;
            let request = self.next_request;
            self.input(id, TabInput::Ask { request, ask: Word::Send(request), standing: false });
            if let Some(tab) = self.tabs.get_mut(&id) {
                tab.settled.entry(request).or_default();
            }
        }
    }

    fn watch(&mut self, id: u64) {
        if let Some(tab) = self.tabs.get_mut(&id) {
            self.next_request += 1;
            tab.watches += 1;
            let request = self.next_request;
            tab.settled.entry(request).or_default();
            self.input(id, TabInput::Ask { request, ask: Word::Watch(id), standing: true });
        }
    }

    /// The page is gone: nothing of it runs any more. What it had begun to save may or may not reach the disk.
    fn crash(&mut self, id: u64, reaches: bool) {
        if reaches {
            self.reach_disk(id);
        }
        if self.tabs.remove(&id).is_none() {
            return;
        }
        self.waiting.retain(|waiting| *waiting != id);
        if self.lock == Some(id) {
            self.lock = None;
        }
        let waiters: Vec<_> = self.awaited.iter().filter(|(_, of)| *of == id).copied().collect();
        for (waiter, of) in waiters {
            self.awaited.remove(&(waiter, of));
            self.input(waiter, TabInput::Fell(TabId(of)));
        }
    }

    fn freeze(&mut self, id: u64, reaches: bool) {
        if reaches {
            self.reach_disk(id);
        }
        self.input(id, TabInput::Leave);
        if let Some(tab) = self.tabs.get_mut(&id) {
            (tab.frozen, tab.was_outside) = (true, true);
            tab.heard.clear();
        }
    }

    fn thaw(&mut self, id: u64) {
        if let Some(tab) = self.tabs.get_mut(&id)
            && core::mem::take(&mut tab.frozen)
        {
            self.input(id, TabInput::Enter);
        }
    }

    /// The browser throws the cache away while no tab has it open. Who opens a new one begins with what the queue has.
    fn delete_cache(&mut self) {
        if self.tabs.values().all(|tab| tab.core.is_none() && !tab.opens) {
            self.disk = Disk { position: self.head, ..Disk::default() };
            for tab in self.tabs.values_mut() {
                tab.was_outside = true;
            }
            // Nobody opened tabs all the time since it was there.
            self.now += 3_600_000;
        }
    }

    /// Everything that can happen by itself happens.
    fn settle(&mut self) {
        for _ in 0..2_000 {
            self.grant();
            for id in self.tabs.keys().copied().collect::<Vec<_>>() {
                self.open_cache(id);
                self.take_batch(id, 3);
                self.reach_disk(id);
                self.end_save(id);
                self.answer(id);
                self.hear(id);
            }
        }
    }

    /// What is true of every tab at every moment.
    fn check(&self) {
        for (id, tab) in &self.tabs {
            let numbers: Vec<_> = tab
                .told
                .iter()
                .filter_map(|word| match word {
                    Word::Message(number) => Some(*number),
                    _ => None,
                })
                .collect();
            for pair in numbers.windows(2) {
                assert_eq!(pair[0] + 1, pair[1], "tab {id} was told {numbers:?}");
            }
            assert!(tab.settled.values().all(|times| *times <= 1));
        }
        let leaders = self.tabs.values().filter(|tab| tab.machine.leads() && !tab.frozen).count();
        assert!(leaders <= 2, "{leaders} tabs lead");
    }
}

/// A step of a browser's day; the numbers choose a tab.
#[derive(Clone, Debug)]
enum Step {
    Open,
    Crash(usize, bool),
    Close(usize),
    Freeze(usize, bool),
    Thaw(usize),
    DeleteCache,
    Message(u64),
    Ask(usize),
    Watch(usize),
    Moment(usize),
    Grant,
    OpenCache(usize),
    Batch(usize, u64),
    Disk(usize),
    EndSave(usize),
    Answer(usize),
    Hear(usize, usize),
    Wait(u64),
    Settle,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let tab = 0usize..5;
    let step = prop_oneof![
        2 => Just(Step::Open),
        1 => (tab.clone(), any::<bool>()).prop_map(|(tab, reaches)| Step::Crash(tab, reaches)),
        1 => tab.clone().prop_map(Step::Close),
        1 => (tab.clone(), any::<bool>()).prop_map(|(tab, reaches)| Step::Freeze(tab, reaches)),
        2 => tab.clone().prop_map(Step::Thaw),
        1 => Just(Step::DeleteCache),
        6 => (1u64..5).prop_map(Step::Message),
        4 => tab.clone().prop_map(Step::Ask),
        1 => tab.clone().prop_map(Step::Watch),
        1 => tab.clone().prop_map(Step::Moment),
        6 => Just(Step::Grant),
        6 => tab.clone().prop_map(Step::OpenCache),
        8 => (tab.clone(), 1u64..4).prop_map(|(tab, count)| Step::Batch(tab, count)),
        8 => tab.clone().prop_map(Step::Disk),
        8 => tab.clone().prop_map(Step::EndSave),
        4 => tab.clone().prop_map(Step::Answer),
        20 => (tab, 1usize..6).prop_map(|(tab, count)| Step::Hear(tab, count)),
        1 => (1u64..4_000).prop_map(Step::Wait),
        2 => Just(Step::Settle),
    ];
    prop::collection::vec(step, 1..120)
}

impl Browser {
    fn nth(&self, n: usize) -> u64 {
        let ids: Vec<_> = self.tabs.keys().copied().collect();
        if ids.is_empty() { 0 } else { ids[n % ids.len()] }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Open if self.tabs.len() < 5 => {
                self.open_tab();
            }
            Step::Open => {}
            Step::Crash(tab, reaches) => self.crash(self.nth(tab), reaches),
            Step::Close(tab) => {
                let id = self.nth(tab);
                self.input(id, TabInput::Leave);
                self.crash(id, false);
            }
            Step::Freeze(tab, reaches) => self.freeze(self.nth(tab), reaches),
            Step::Thaw(tab) => self.thaw(self.nth(tab)),
            Step::DeleteCache => self.delete_cache(),
            Step::Message(count) => self.head += count,
            Step::Ask(tab) => self.ask(self.nth(tab)),
            Step::Watch(tab) => self.watch(self.nth(tab)),
            Step::Moment(tab) => {
                let id = self.nth(tab);
                if self.tabs.get(&id).is_some_and(|tab| tab.core.is_some()) {
                    self.moments += 1;
                    self.input(id, TabInput::Event(Word::Moment(self.moments)));
                }
            }
            Step::Grant => self.grant(),
            Step::OpenCache(tab) => {
                let id = self.nth(tab);
                if self.tabs.contains_key(&id) {
                    self.open_cache(id);
                }
            }
            Step::Batch(tab, count) => self.take_batch(self.nth(tab), count),
            Step::Disk(tab) => self.reach_disk(self.nth(tab)),
            Step::EndSave(tab) => self.end_save(self.nth(tab)),
            Step::Answer(tab) => self.answer(self.nth(tab)),
            Step::Hear(tab, count) => {
                for _ in 0..count {
                    self.hear(self.nth(tab));
                }
            }
            Step::Wait(ms) => {
                self.now += ms;
                for id in self.tabs.keys().copied().collect::<Vec<_>>() {
                    if !self.tabs[&id].frozen {
                        self.input(id, TabInput::Tick);
                    }
                }
            }
            Step::Settle => self.settle(),
        }
        self.check();
    }

    /// At the end somebody lives, and everything that was asked by who lives is answered.
    fn come_to_rest(&mut self) {
        if self.tabs.is_empty() {
            self.open_tab();
        }
        for id in self.tabs.keys().copied().collect::<Vec<_>>() {
            self.thaw(id);
        }
        self.settle();
        self.now += LEADER_ANSWER_MS + 1;
        for id in self.tabs.keys().copied().collect::<Vec<_>>() {
            self.input(id, TabInput::Tick);
        }
        self.settle();
        self.check();
        assert_eq!(self.tabs.values().filter(|tab| tab.machine.leads()).count(), 1, "one leads");
        assert_eq!(self.disk.position, self.head, "the queue is applied to its head");
        for (id, tab) in &self.tabs {
            assert!(tab.settled.values().all(|times| *times == 1), "tab {id}: {:?}", tab.settled);
            let last = tab.told.iter().rev().find_map(|word| match word {
                Word::Message(number) => Some(*number),
                _ => None,
            });
            assert!(
                last.is_none_or(|last| last == self.head),
                "tab {id} was told up to {last:?} of {}",
                self.head
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 400 } else { 4_000 }))]

    #[test]
    fn each_tab_is_told_each_message_once_in_order_and_each_ask_is_answered_once(steps in steps()) {
        play(steps);
    }
}

fn play(steps: impl IntoIterator<Item = Step>) {
    let mut browser = Browser::default();
    browser.open_tab();
    for step in steps {
        browser.step(step);
    }
    browser.come_to_rest();
}

/// Days that once broke something.
#[test]
fn what_once_broke_holds() {
    use Step::{Batch, Crash, Disk, Freeze, Grant, Hear, Message, Open, OpenCache, Settle, Thaw};
    play([
        Open,
        Crash(0, false),
        Grant,
        Open,
        Message(3),
        OpenCache(2),
        Batch(0, 1),
        Freeze(0, false),
        Open,
        Hear(4, 2),
        Settle,
    ]);
    play([
        Grant,
        OpenCache(0),
        Open,
        Message(1),
        Hear(2, 1),
        Thaw(0),
        Batch(2, 1),
        Open,
        Open,
        Hear(1, 1),
        Disk(4),
        Thaw(0),
        Freeze(4, false),
        Thaw(0),
    ]);
    play([Open, Settle, Open, Message(2), Batch(0, 1), Crash(3, true)]);
}

#[test]
fn a_leader_that_dies_between_the_disk_and_its_word_hides_nothing() {
    let mut browser = Browser::default();
    let (first, second, third) = (browser.open_tab(), browser.open_tab(), browser.open_tab());
    browser.settle();
    assert!(browser.tabs[&first].machine.leads());
    browser.head = 2;
    browser.take_batch(first, 2);
    // The disk has it, and nobody was told.
    browser.crash(first, true);
    assert!(browser.tabs[&second].told.is_empty());
    browser.settle();
    assert!(browser.tabs[&second].machine.leads());
    for tab in [second, third] {
        assert_eq!(browser.tabs[&tab].told, [Word::Message(1), Word::Message(2)]);
    }
}

#[test]
fn a_leader_that_does_not_answer_loses_its_lock() {
    let mut browser = Browser::default();
    let (first, second) = (browser.open_tab(), browser.open_tab());
    browser.settle();
    // It hangs: it hears nothing and lets go of nothing.
    browser.tabs.get_mut(&first).unwrap().frozen = true;
    browser.ask(second);
    browser.now += LEADER_ANSWER_MS;
    browser.input(second, TabInput::Tick);
    browser.open_cache(second);
    browser.answer(second);
    assert!(browser.tabs[&second].machine.leads());
    assert!(browser.tabs[&second].settled.values().all(|times| *times == 1));
}

#[test]
fn the_device_is_seen_while_any_tab_is() {
    let seen = |machine: &mut Tabs<Word>| {
        let mut last = None;
        while let Some(output) = machine.poll() {
            if let TabOutput::Seen(seen) = output {
                last = Some(seen);
            }
        }
        last
    };
    let now = Now::default();
    let mut leader = Tabs::new(TabId(1), true);
    leader.handle(now, TabInput::Snapshot(Word::Snapshot));
    for input in [TabInput::Enter, TabInput::Elected, TabInput::Opened { term: 1, kept: Vec::new() }] {
        leader.handle(now, input);
    }
    assert_eq!(seen(&mut leader), Some(true));
    let join = Note::Join { tab: TabId(2), visible: true, told: None };
    leader.handle(now, TabInput::Heard(join));
    leader.handle(now, TabInput::Visible(false));
    assert_eq!(seen(&mut leader), None, "the other is still looked at");
    leader.handle(now, TabInput::Fell(TabId(2)));
    assert_eq!(seen(&mut leader), Some(false), "it crashed while it was looked at");
}

#[test]
fn what_a_leader_saved_at_its_end_is_told_once_when_it_leads_again() {
    let mut browser = Browser::default();
    let only = browser.open_tab();
    browser.settle();
    browser.head = 1;
    browser.take_batch(only, 1);
    browser.reach_disk(only);
    browser.end_save(only);
    browser.head = 2;
    browser.take_batch(only, 1);
    browser.reach_disk(only);
    browser.input(only, TabInput::Leave);
    // The last thing of a core that ends is another save.
    browser.input(only, TabInput::Prepare(vec![Word::Message(3)]));
    (browser.head, browser.disk.position) = (3, 3);
    let save = browser.tabs[&only].machine.save();
    browser.disk.kept.push_back((save, vec![Word::Message(3)]));
    browser.input(only, TabInput::Enter);
    browser.settle();
    browser.head = 5;
    browser.settle();
    browser.check();
    let told: Vec<_> = (1..=5).map(Word::Message).collect();
    assert_eq!(browser.tabs[&only].told, told);
    assert_eq!(browser.tabs[&only].gaps, 0);
}

#[test]
fn what_the_cache_kept_is_remembered_within_the_bound() {
    let now = Now::default();
    let mut leader = Tabs::new(TabId(1), true);
    let snapshot = Word::Snapshot;
    let lead = Lead { term: 1, saves: 64, snapshot: snapshot.clone(), since: None, missed: None };
    let kept = (1..=64).map(|save| (save, vec![Word::Message(save); 100])).collect();
    leader.handle(now, TabInput::Enter);
    leader.handle(now, TabInput::Heard(Note::Lead { to: Some(TabId(1)), lead }));
    leader.handle(now, TabInput::Elected);
    leader.handle(now, TabInput::Snapshot(snapshot));
    leader.handle(now, TabInput::Opened { term: 2, kept });
    let mut missed_after = |told| {
        leader.handle(now, TabInput::Heard(Note::Join { tab: TabId(2), visible: true, told: Some(told) }));
        let mut missed = None;
        while let Some(output) = leader.poll() {
            if let TabOutput::Post(Note::Lead { to: Some(TabId(2)), lead }) = output {
                missed = lead.missed;
            }
        }
        missed
    };
    let known = (1..=64).find_map(&mut missed_after).unwrap();
    assert_eq!(known.last(), Some(&Word::Message(64)), "the newest are there");
    let count = known.len();
    assert!(count > REMEMBERED_EVENTS_MAX / 2 && count <= REMEMBERED_EVENTS_MAX, "{count}");
    assert!(missed_after(1).is_none(), "that is too long ago");
    assert!(missed_after(65).is_none(), "there is no such save");
}

/// The disk fails: the leader goes on in memory.
fn end_save_in_memory(browser: &mut Browser, id: u64) {
    let core = browser.tabs.get_mut(&id).unwrap().core.as_mut().unwrap();
    core.under_way.front_mut().unwrap().3 = true;
    browser.end_save(id);
    for tab in browser.tabs.keys().copied().collect::<Vec<_>>() {
        browser.hear(tab);
    }
}

/// The next leader counts from what the disk has; who was told what never was there takes nothing for it. Found by the
/// simulated world.
#[test]
fn a_tab_that_was_told_what_never_was_saved_is_told_a_gap() {
    for leads_itself in [false, true] {
        let mut browser = Browser::default();
        let (first, away) = (browser.open_tab(), browser.open_tab());
        browser.head = 1;
        browser.settle();
        browser.head = 3;
        for _ in 0..2 {
            browser.take_batch(first, 1);
            end_save_in_memory(&mut browser, first);
        }
        assert_eq!(browser.tabs[&away].told.len(), 3);
        browser.freeze(away, false);
        browser.crash(first, false);
        let young = browser.open_tab();
        browser.settle();
        browser.head = 5;
        browser.settle();
        // As many saves as before, and more.
        assert_eq!(browser.tabs[&young].told.last(), Some(&Word::Message(5)));
        if leads_itself {
            browser.freeze(young, false);
        }
        browser.thaw(away);
        browser.settle();
        assert_eq!(browser.tabs[&away].machine.leads(), leads_itself);
        assert_eq!(browser.tabs[&away].gaps, 1);
        if leads_itself {
            browser.thaw(young);
        }
        browser.head = 6;
        browser.settle();
        assert_eq!(browser.tabs[&away].told, [Word::Message(6)]);
        assert_eq!(
            (browser.tabs[&young].told.last(), browser.tabs[&young].gaps),
            (Some(&Word::Message(6)), 0)
        );
    }
}

/// A new cache's saves are none that a tab was told of before it was frozen.
#[test]
fn a_tab_that_was_frozen_when_its_cache_was_deleted_is_told_a_gap() {
    for leads_itself in [false, true] {
        let mut browser = Browser::default();
        let frozen = browser.open_tab();
        for head in 1..=2 {
            browser.head = head;
            browser.settle();
        }
        browser.freeze(frozen, false);
        browser.delete_cache();
        let young = browser.open_tab();
        // As many saves as before, and more.
        for head in 3..=5 {
            browser.head = head;
            browser.settle();
        }
        assert_eq!(browser.tabs[&young].told.last(), Some(&Word::Message(5)));
        if leads_itself {
            browser.freeze(young, false);
        }
        browser.thaw(frozen);
        browser.settle();
        assert_eq!(browser.tabs[&frozen].machine.leads(), leads_itself);
        assert_eq!(browser.tabs[&frozen].gaps, 1);
        assert_eq!(browser.tabs[&frozen].told, []);
    }
}

#[test]
fn terms_of_a_new_cache_begin_with_the_time() {
    let in_2026 = 1_790_000_000_000;
    let first = next_term(0, Time(in_2026));
    assert_eq!(next_term(first, Time(in_2026 + 86_400_000)), first + 1, "the last 64 are barred by number");
    assert_eq!(next_term(first, Time(0)), first + 1, "a clock that was set back takes no term back");
    assert!(next_term(0, Time(in_2026 + 60_000)) > first + 5);
    // Whatever a clock says, there is a term, and JavaScript has its saves' numbers.
    assert_eq!(next_term(0, Time(0)), 1);
    assert!((next_term(0, Time(u64::MAX)) + 1_000_000) << TERM_BITS < 1 << 53);
}

#[test]
fn a_tab_that_is_seen_before_its_leader_answered_is_seen() {
    let mut browser = Browser::default();
    let leader = browser.open_tab();
    browser.settle();
    browser.input(leader, TabInput::Visible(false));
    let other = browser.open_tab();
    browser.input(other, TabInput::Visible(false));
    browser.settle();
    browser.input(other, TabInput::Leave);
    browser.settle();
    browser.input(other, TabInput::Enter);
    browser.input(other, TabInput::Visible(true));
    browser.settle();
    assert_eq!(browser.tabs[&leader].seen, Some(true));
}

/// The cache keeps what was told before the new leader was there. Found by the simulated world.
#[test]
fn a_tab_that_was_away_longer_than_its_leader_is_there_misses_nothing() {
    let mut browser = Browser::default();
    let (first, away) = (browser.open_tab(), browser.open_tab());
    browser.head = 1;
    browser.settle();
    browser.freeze(away, false);
    browser.head = 3;
    browser.settle();
    let young = browser.open_tab();
    browser.settle();
    browser.head = 4;
    browser.settle();
    browser.crash(first, false);
    browser.settle();
    assert!(browser.tabs[&young].machine.leads());
    browser.thaw(away);
    browser.settle();
    let told: Vec<_> = (1..=4).map(Word::Message).collect();
    assert_eq!(browser.tabs[&away].told, told);
    assert_eq!(browser.tabs[&young].told, told[3..]);
    assert_eq!((browser.tabs[&away].gaps, browser.tabs[&young].gaps), (0, 0));
}

/// The next leader itself lacks something that is kept no more; what is kept is enough for the other tab. Found by the
/// simulated world.
#[test]
fn a_leader_that_missed_something_tells_others_what_is_kept() {
    let mut browser = Browser::default();
    let (first, slow, other) = (browser.open_tab(), browser.open_tab(), browser.open_tab());
    browser.settle();
    browser.head = 1;
    browser.take_batch(first, 1);
    browser.reach_disk(first);
    browser.end_save(first);
    browser.hear(other);
    // The first save is kept no more, and the next one tells who has that what is after it.
    browser.disk.kept.pop_front();
    browser.head = 2;
    browser.take_batch(first, 1);
    let tab = browser.tabs.get_mut(&slow).unwrap();
    tab.heard.clear();
    tab.was_outside = true;
    browser.crash(first, true);
    browser.settle();
    assert!(browser.tabs[&slow].machine.leads());
    assert_eq!(browser.tabs[&other].told, [Word::Message(1), Word::Message(2)]);
    assert_eq!((browser.tabs[&slow].gaps, browser.tabs[&other].gaps), (1, 0));
}

/// What a tab asks while the leader changes reaches the next one in part only: the order in which it asked would be lost.
/// Found by the simulated world.
#[test]
fn what_is_asked_while_the_leader_changes_keeps_its_order() {
    let mut browser = Browser::default();
    let (first, second, third) = (browser.open_tab(), browser.open_tab(), browser.open_tab());
    browser.settle();
    browser.ask(third);
    browser.crash(first, false);
    // It does not lead yet.
    browser.hear(second);
    browser.ask(third);
    browser.grant();
    browser.open_cache(second);
    assert!(browser.tabs[&second].machine.leads());
    for _ in 0..10 {
        browser.hear(second);
        browser.hear(third);
    }
    let asked = &browser.tabs[&second].core.as_ref().unwrap().asked;
    let asked: Vec<_> = asked.iter().map(|(_, ask)| ask.clone()).collect();
    assert_eq!(asked, [Word::Send(1), Word::Send(2)]);
    browser.settle();
    assert!(browser.tabs[&third].settled.values().all(|times| *times == 1));
}
