//! What applications ask: of the core here, or of the tab that leads; kept until it is answered.

use super::{Asked, Note, Role, TabId, TabOutput, Tabs};
use crate::defects::{self, Defect};
use crate::io::Now;

impl<P: Clone> Tabs<P> {
    pub(super) fn ask(&mut self, now: Now, request: u64, ask: P, standing: bool) {
        if standing {
            self.asked.retain(|_, asked| !(asked.standing && asked.settled));
            // Its place is taken; its own promise still waits.
            for asked in self.asked.values_mut() {
                asked.standing = false;
            }
        }
        let unheard_since = (self.role == Role::Following).then_some(now.moment);
        self.asked.insert(request, Asked { ask: ask.clone(), standing, settled: false, unheard_since });
        match self.role {
            Role::Leading => self.perform(self.id, request, ask),
            Role::Following => self.post(Note::Ask { term: self.term, tab: self.id, request, ask }),
            Role::Outside | Role::Waiting | Role::Opening => {}
        }
    }

    /// A new leader is asked everything that is not answered, and what stands.
    pub(super) fn ask_again(&mut self, now: Now) {
        if defects::is_on(Defect::AskLostOnLeaderChange) {
            return;
        }
        let (term, tab) = (self.term, self.id);
        let mut asks = Vec::new();
        for (request, asked) in self.asked.iter_mut().filter(|(_, asked)| asked.standing || !asked.settled) {
            asked.unheard_since = Some(now.moment);
            asks.push(Note::Ask { term, tab, request: *request, ask: asked.ask.clone() });
        }
        for note in asks {
            self.post(note);
        }
    }

    pub(super) fn perform(&mut self, by: TabId, request: u64, ask: P) {
        if self.performing.values().any(|who| *who == (by, request)) {
            return;
        }
        self.performs += 1;
        let number = self.performs;
        self.performing.insert(number, (by, request));
        self.output(TabOutput::Perform { number, by, ask });
    }

    pub(super) fn performed(&mut self, number: u64, result: Result<P, P>) {
        let Some((tab, request)) = self.performing.remove(&number) else { return };
        if tab == self.id {
            self.settle(request, result);
        } else {
            self.post(Note::Reply { term: self.term, tab, request, result });
        }
    }

    pub(super) fn settle(&mut self, request: u64, result: Result<P, P>) {
        let Some(asked) = self.asked.get_mut(&request) else { return };
        asked.unheard_since = None;
        if asked.settled {
            return;
        }
        asked.settled = true;
        if !asked.standing {
            self.asked.remove(&request);
        }
        self.output(TabOutput::Settle(request, result));
    }

    /// Every ask that waits, for a tab that ends: nobody will answer them.
    pub fn abandon(&mut self) -> Vec<u64> {
        let asked = core::mem::take(&mut self.asked);
        asked.iter().filter(|(_, asked)| !asked.settled).map(|(request, _)| *request).collect()
    }
}
