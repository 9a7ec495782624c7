//! Days of a browser: steps by chance, and what is true at their end.

use hongyan_client::limits::LEADER_ANSWER_MS;
use hongyan_client::tabs::TabInput;
use proptest::prelude::*;

use crate::browser::{Browser, Word};

/// A step of a browser's day; the numbers choose a tab.
#[derive(Clone, Debug)]
pub(crate) enum Step {
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

pub(crate) fn steps() -> impl Strategy<Value = Vec<Step>> {
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
    pub(crate) fn nth(&self, n: usize) -> u64 {
        let ids: Vec<_> = self.tabs.keys().copied().collect();
        if ids.is_empty() { 0 } else { ids[n % ids.len()] }
    }

    pub(crate) fn step(&mut self, step: Step) {
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
    pub(crate) fn come_to_rest(&mut self) {
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
