//! What each tab tells its application: everything that a save told, once and in the order of the saves.

use super::{Role, TabOutput, Tabs};
use crate::defects::{self, Defect};
use crate::limits::REMEMBERED_EVENTS_MAX;
use crate::tabs::Note;

impl<P: Clone> Tabs<P> {
    /// Everything up to this save is durable: what this tab missed of it is told.
    pub(super) fn catch_up(&mut self, saves: u64, kept: Vec<(u64, Vec<P>)>) {
        let is_fresh = core::mem::take(&mut self.fresh);
        // What is kept tells everything after this save.
        let since = kept.iter().rev().fold(saves, |since, (save, _)| match *save == since {
            true => since.saturating_sub(1),
            false => since,
        });
        if is_fresh || self.told > saves || self.told < since {
            // There is nothing to have missed; or the cache was made anew, or does not keep what this tab missed.
            if !is_fresh {
                self.output(TabOutput::Gap);
            }
            self.forget_remembered();
            self.told = since;
            for (save, events) in kept.into_iter().filter(|(save, _)| *save > since) {
                self.remember(save, events);
            }
        } else {
            // The cache keeps what was told before this tab was there, too.
            let mut first = self.remembered.front().map_or(self.told + 1, |(save, _)| *save);
            for (save, events) in kept.iter().rev() {
                let is_much = self.remembered_events + events.len() >= REMEMBERED_EVENTS_MAX;
                if save + 1 == first && !is_much {
                    first = *save;
                    self.remembered_events += events.len() + 1;
                    self.remembered.push_front((first, events.clone()));
                }
            }
            for (save, events) in kept {
                if save == self.told + 1 && defects::is_on(Defect::LastWordForgotten) {
                    self.remember(save, events);
                } else if save == self.told + 1 {
                    self.tell(save, events);
                }
            }
        }
        self.told = saves;
    }

    pub(super) fn tell(&mut self, save: u64, events: Vec<P>) {
        for event in &events {
            self.output(TabOutput::Tell(event.clone()));
        }
        self.remember(save, events);
    }

    pub(super) fn remember(&mut self, save: u64, events: Vec<P>) {
        if save != self.told + 1 {
            self.forget_remembered();
        }
        self.told = save;
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

    pub(super) fn prepare(&mut self, events: Vec<P>) {
        self.prepared += 1;
        self.preparing.push_back(events);
    }

    pub(super) fn saved(&mut self) {
        if self.role == Role::Leading
            && let Some(events) = self.preparing.pop_front()
        {
            let save = self.told + 1;
            self.post(Note::Durable { term: self.term, save, events: events.clone() });
            self.tell(save, events);
        }
    }

    pub(super) fn event(&mut self, event: P) {
        if self.role == Role::Leading {
            self.post(Note::Now { term: self.term, event: event.clone() });
        }
        self.output(TabOutput::Tell(event));
    }
}
