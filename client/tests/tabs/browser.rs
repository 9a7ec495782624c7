//! A browser that is played: a lock, a channel, a cache, and tabs that begin, end, freeze and crash.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use hongyan_client::tabs::{Note, TabId, TabInput, TabOutput, Tabs, next_term};
use hongyan_client::{Moment, Now};
use hongyan_protocol::Time;

/// What tabs speak in here.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Word {
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
pub(crate) const KEPT_MAX: usize = 64;

/// The cache that all tabs see.
pub(crate) struct Disk {
    pub(crate) term: u64,
    /// The last message that is in it.
    pub(crate) position: u64,
    /// What the last saves told.
    pub(crate) kept: VecDeque<(u64, Vec<Word>)>,
}

impl Default for Disk {
    fn default() -> Self {
        Self { term: 0, position: 0, kept: VecDeque::from([(0, Vec::new())]) }
    }
}

/// A core that runs in the leading tab.
pub(crate) struct Core {
    pub(crate) term: u64,
    /// Saves under way: the number, the position that it reaches, and whether the disk has it.
    pub(crate) under_way: VecDeque<(u64, u64, Vec<Word>, bool)>,
    pub(crate) position: u64,
    pub(crate) asked: Vec<(u64, Word)>,
}

pub(crate) struct Tab {
    pub(crate) machine: Tabs<Word>,
    pub(crate) core: Option<Core>,
    /// The cache is being opened.
    pub(crate) opens: bool,
    pub(crate) heard: VecDeque<Note<Word>>,
    pub(crate) told: Vec<Word>,
    pub(crate) gaps: usize,
    /// Messages may have been missed: it was outside.
    pub(crate) was_outside: bool,
    pub(crate) settled: BTreeMap<u64, usize>,
    pub(crate) frozen: bool,
    pub(crate) watches: u64,
    /// What the core was told last of somebody looking.
    pub(crate) seen: Option<bool>,
}

#[derive(Default)]
pub(crate) struct Browser {
    pub(crate) now: u64,
    pub(crate) tabs: BTreeMap<u64, Tab>,
    /// The holder, and those who wait.
    pub(crate) lock: Option<u64>,
    pub(crate) waiting: VecDeque<u64>,
    pub(crate) disk: Disk,
    /// The relay: messages in the queue, and the keys that were sent.
    pub(crate) head: u64,
    pub(crate) sent: BTreeSet<u64>,
    pub(crate) next_tab: u64,
    pub(crate) next_request: u64,
    pub(crate) awaited: BTreeSet<(u64, u64)>,
    pub(crate) moments: u64,
}

impl Browser {
    pub(crate) fn now(&self) -> Now {
        Now { moment: Moment(self.now), time: Time(self.now) }
    }

    pub(crate) fn open_tab(&mut self) -> u64 {
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

    pub(crate) fn input(&mut self, id: u64, input: TabInput<Word>) {
        let now = self.now();
        let Some(tab) = self.tabs.get_mut(&id) else { return };
        tab.machine.handle(now, input);
        while let Some(output) = self.tabs.get_mut(&id).and_then(|tab| tab.machine.poll()) {
            self.perform(id, output);
        }
    }

    pub(crate) fn perform(&mut self, id: u64, output: TabOutput<Word>) {
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
    pub(crate) fn grant(&mut self) {
        if self.lock.is_none()
            && let Some(next) = self.waiting.pop_front()
        {
            self.lock = Some(next);
            self.input(next, TabInput::Elected);
        }
    }

    pub(crate) fn open_cache(&mut self, id: u64) {
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
    pub(crate) fn take_batch(&mut self, id: u64, count: u64) {
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
    pub(crate) fn reach_disk(&mut self, id: u64) {
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

    pub(crate) fn end_save(&mut self, id: u64) {
        let Some(core) = self.tabs.get_mut(&id).and_then(|tab| tab.core.as_mut()) else { return };
        if core.under_way.front().is_some_and(|(.., durable)| *durable) {
            core.under_way.pop_front();
            self.input(id, TabInput::Saved);
        }
    }

    pub(crate) fn answer(&mut self, id: u64) {
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

    pub(crate) fn hear(&mut self, id: u64) {
        let Some(tab) = self.tabs.get_mut(&id) else { return };
        if !tab.frozen
            && let Some(note) = tab.heard.pop_front()
        {
            self.input(id, TabInput::Heard(note));
        }
    }

    pub(crate) fn ask(&mut self, id: u64) {
        if self.tabs.contains_key(&id) {
            self.next_request += 1;
            let request = self.next_request;
            self.input(id, TabInput::Ask { request, ask: Word::Send(request), standing: false });
            if let Some(tab) = self.tabs.get_mut(&id) {
                tab.settled.entry(request).or_default();
            }
        }
    }

    pub(crate) fn watch(&mut self, id: u64) {
        if let Some(tab) = self.tabs.get_mut(&id) {
            self.next_request += 1;
            tab.watches += 1;
            let request = self.next_request;
            tab.settled.entry(request).or_default();
            self.input(id, TabInput::Ask { request, ask: Word::Watch(id), standing: true });
        }
    }

    /// The page is gone: nothing of it runs any more. What it had begun to save may or may not reach the disk.
    pub(crate) fn crash(&mut self, id: u64, reaches: bool) {
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

    pub(crate) fn freeze(&mut self, id: u64, reaches: bool) {
        if reaches {
            self.reach_disk(id);
        }
        self.input(id, TabInput::Leave);
        if let Some(tab) = self.tabs.get_mut(&id) {
            (tab.frozen, tab.was_outside) = (true, true);
            tab.heard.clear();
        }
    }

    pub(crate) fn thaw(&mut self, id: u64) {
        if let Some(tab) = self.tabs.get_mut(&id)
            && core::mem::take(&mut tab.frozen)
        {
            self.input(id, TabInput::Enter);
        }
    }

    /// The browser throws the cache away while no tab has it open. Who opens a new one begins with what the queue has.
    pub(crate) fn delete_cache(&mut self) {
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
    pub(crate) fn settle(&mut self) {
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
    pub(crate) fn check(&self) {
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
