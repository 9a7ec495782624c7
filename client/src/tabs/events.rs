//! What each tab tells its application: everything that a save told, once and in the order of the saves.

use super::{Role, TabOutput, Tabs};
use crate::defects::{self, Defect};
use crate::limits::REMEMBERED_EVENTS_MAX;
use crate::tabs::Note;

impl<P: Clone> Tabs<P> {
    /// What was told after this save; `None` when that is not known, or the save was never on the disk.
    pub(super) fn told_after(&self, save: u64) -> Option<Vec<P>> {
        if save == self.told {
            return Some(Vec::new());
        }
        let is_there = self.remembered.iter().any(|(remembered, _)| *remembered == save)
            || defects::is_on(Defect::SavesOfAnyTerm);
        let after = self.remembered.iter().filter(|(remembered, _)| *remembered > save);
        is_there.then(|| after.flat_map(|(_, events)| events).cloned().collect())
    }

    /// Everything up to this save is durable: what this tab missed of it is told.
    pub(super) fn catch_up(&mut self, saves: u64, missed: Option<Vec<P>>) {
        let is_fresh = core::mem::take(&mut self.fresh);
        self.told = saves;
        match missed {
            // There is nothing to have missed.
            _ if is_fresh => {}
            None => self.output(TabOutput::Gap),
            Some(_) if defects::is_on(Defect::LastWordForgotten) => {}
            Some(missed) => {
                for event in missed {
                    self.output(TabOutput::Tell(event));
                }
            }
        }
    }

    /// The leader's: for tabs that were away.
    pub(super) fn remember(&mut self, save: u64, events: Vec<P>) {
        self.remembered_events += events.len() + 1;
        self.remembered.push_back((save, events));
        while self.remembered_events > REMEMBERED_EVENTS_MAX
            && let Some((_, events)) = self.remembered.pop_front()
        {
            self.remembered_events -= events.len() + 1;
        }
    }

    pub(super) fn forget_remembered(&mut self) {
        self.remembered.clear();
        self.remembered_events = 0;
    }

    /// A save that tells nothing is none for the tabs.
    pub(super) fn prepare(&mut self, events: Vec<P>) {
        if !events.is_empty() {
            self.prepared += 1;
        }
        self.preparing.push_back((self.prepared, events));
    }

    pub(super) fn saved(&mut self) {
        if self.role == Role::Leading
            && let Some((save, events)) = self.preparing.pop_front()
            && !events.is_empty()
        {
            self.post(Note::Durable { term: self.term, after: self.told, save, events: events.clone() });
            self.tell(save, &events);
            self.remember(save, events);
        }
    }

    pub(super) fn tell(&mut self, save: u64, events: &[P]) {
        self.told = save;
        for event in events {
            self.output(TabOutput::Tell(event.clone()));
        }
    }

    pub(super) fn event(&mut self, event: P) {
        if self.role == Role::Leading {
            self.post(Note::Now { term: self.term, event: event.clone() });
        }
        self.output(TabOutput::Tell(event));
    }
}
