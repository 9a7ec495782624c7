//! The tabs of one device share one connection and one cache: one of them leads, the others speak to it.
//!
//! This is a state machine as the rest of the crate: [`Tabs::handle`] takes the time and one [`TabInput`], then
//! [`Tabs::poll`] gives what to do. The host has a lock that one tab at a time holds (and that it lets go of when it
//! dies), a channel on which every tab hears every other, and a cache that counts its saves and its writers. `P` is
//! whatever the host speaks in (a page: plain JavaScript objects); nothing here looks into it.
//!
//! How each event reaches each tab once, whichever tab dies when:
//!
//! - What the end of a save tells is kept in the cache with the save, under the save's number. When it is durable, the
//!   leader says so on the channel, number and events ([`Note::Durable`]), and every tab tells its application.
//! - A leader may die between the two, and its last word is then lost. The next one reads in the cache what the last
//!   saves told, tells what it missed, and every tab that missed some asks it for that ([`Note::Join`]).
//! - So does a tab that was away (frozen, or in the back/forward cache). When what is kept does not have the save that
//!   it was told last, its application is told of a gap: that save is too long ago, or it never was on the disk. For
//!   when the disk fails a leader goes on in memory, and the next one from what the disk has.
//! - So a save's number names it for ever: its upper part is the term of its leader, and no two terms have one in common;
//!   those of a cache that was deleted, and of the next one, neither ([`next_term`]).
//!
//! What the application asks is kept until it is answered and asked again of each new leader. Sends carry their key
//! from the start, so asking twice sends once.
//!
//! *Invariant:* a tab performs asks and saves only between [`TabInput::Opened`] and the end of its lead; a note of an
//! older term is ignored; each ask is settled once.

mod asks;
mod events;
mod note;

use std::collections::VecDeque;

pub use note::{Lead, Note, TabId};

use hongyan_protocol::Time;

use crate::defects::{self, Defect};
use crate::io::{Moment, Now};
use crate::limits::{FIRST_TERM_MAX, FIRST_TERM_MS, LEADER_ANSWER_MS, TERM_BITS};
use crate::sorted::SortedMap;

/// One thing that happened to this tab.
pub enum TabInput<P> {
    /// The tab begins, or comes back after [`TabInput::Leave`].
    Enter,
    /// The lock is ours.
    Elected,
    /// After [`TabOutput::Lead`]: the cache is open and the core runs on it.
    Opened {
        /// The cache's count of its writers.
        term: u64,
        /// What the last saves told, ascending and without a gap, up to the last one; an empty cache has a save 0.
        kept: Vec<(u64, Vec<P>)>,
    },
    /// The lock was taken away, or the cache has another writer.
    Deposed,
    /// A note of another tab.
    Heard(Note<P>),
    /// The tab is gone: its own lock was let go of.
    Fell(TabId),
    /// The application asks something; `standing` names what is asked again of each new leader even after its
    /// answer, until the next of that name takes its place.
    Ask {
        /// Names it in [`TabOutput::Settle`].
        request: u64,
        /// What.
        ask: P,
        /// See above.
        standing: bool,
    },
    /// The core answered what [`TabOutput::Perform`] gave it.
    Performed(u64, Result<P, P>),
    /// The core is about to save, as number [`Tabs::save`] then is: what the end of the save will tell.
    Prepare(Vec<P>),
    /// The oldest save that was prepared is durable.
    Saved,
    /// The core tells something of the moment, which no save brings.
    Event(P),
    /// How things are, for a tab that begins: kept until the next.
    Snapshot(P),
    /// This page is seen, or not.
    Visible(bool),
    /// The page ends, is frozen or goes into the back/forward cache.
    Leave,
    /// A deadline may have passed.
    Tick,
}

/// One thing to do.
pub enum TabOutput<P> {
    /// Say it to all other tabs.
    Post(Note<P>),
    /// Wait for the lock; then [`TabInput::Elected`].
    RequestLock,
    /// Take the lock from whoever holds it: it has not answered.
    StealLock,
    /// Let go of the lock, or stop waiting for it.
    ReleaseLock,
    /// Open the cache and run the core; then [`TabInput::Opened`].
    Lead,
    /// End the core. With `goodbye` this was the device's last tab.
    Retire {
        /// See above.
        goodbye: bool,
    },
    /// Give this ask to the core; then [`TabInput::Performed`] with the same number.
    Perform {
        /// For the answer.
        number: u64,
        /// Who asks.
        by: TabId,
        /// What.
        ask: P,
    },
    /// A tab is gone: what it had standing ends.
    Forget(TabId),
    /// Answer the application.
    Settle(u64, Result<P, P>),
    /// Tell the application.
    Tell(P),
    /// Tell the application that something was missed.
    Gap,
    /// A leader answered: how things are, and whether it is this tab itself that leads.
    Snapshot(P),
    /// Tell [`TabInput::Fell`] when this tab is gone.
    Await(TabId),
    /// Somebody looks at the device, or nobody does: for the core.
    Seen(bool),
}

/// The term of who takes a cache over: `before` is that of who did last, 0 when the cache is new. Those of a new one begin
/// with the time, so they are later than those of one that was deleted, of whose saves a frozen tab may have been told.
#[must_use]
pub fn next_term(before: u64, now: Time) -> u64 {
    let begins = before == 0 && !defects::is_on(Defect::TermsOfDeletedCache);
    if begins { (now.0 / FIRST_TERM_MS).clamp(1, FIRST_TERM_MAX) } else { before + 1 }
}

/// What a tab is to the others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Role {
    /// It takes no part.
    Outside,
    /// It waits for the lock and knows no leader.
    Waiting,
    /// It waits for the lock, and somebody else leads.
    Following,
    /// It has the lock; the cache is being opened.
    Opening,
    /// It leads.
    Leading,
}

/// What the application waits for.
struct Asked<P> {
    ask: P,
    standing: bool,
    settled: bool,
    /// Since when a leader has not said that it heard it.
    unheard_since: Option<Moment>,
}

/// This tab among the tabs of its device.
pub struct Tabs<P> {
    id: TabId,
    role: Role,
    visible: bool,
    /// The highest term that was heard of.
    term: u64,
    /// Nothing was told and nobody asked yet: there is nothing to have missed.
    fresh: bool,
    /// The last save whose events this tab's application was told.
    told: u64,
    /// While leading: what the last saves told, ascending up to `told` without a gap.
    remembered: VecDeque<(u64, Vec<P>)>,
    remembered_events: usize,
    /// While leading: the last save that was prepared, and what those that are not durable will tell.
    prepared: u64,
    preparing: VecDeque<(u64, Vec<P>)>,
    asked: SortedMap<u64, Asked<P>>,
    /// While leading: the others, and whether they are seen.
    others: SortedMap<TabId, bool>,
    /// What the core was given, by its number: who asked, and as which of her requests.
    performing: SortedMap<u64, (TabId, u64)>,
    performs: u64,
    snapshot: Option<P>,
    /// What [`TabOutput::Seen`] said last.
    seen: Option<bool>,
    /// Since when this tab waits for a leader's first word.
    waits_since: Option<Moment>,
    outputs: VecDeque<TabOutput<P>>,
}

impl<P: Clone> Tabs<P> {
    /// A tab that waits for [`TabInput::Enter`]; `id` differs from every other tab's.
    #[must_use]
    pub fn new(id: TabId, visible: bool) -> Self {
        Self {
            id,
            role: Role::Outside,
            visible,
            term: 0,
            fresh: true,
            told: 0,
            remembered: VecDeque::new(),
            remembered_events: 0,
            prepared: 0,
            preparing: VecDeque::new(),
            asked: SortedMap::new(),
            others: SortedMap::new(),
            performing: SortedMap::new(),
            performs: 0,
            snapshot: None,
            seen: None,
            waits_since: None,
            outputs: VecDeque::new(),
        }
    }

    /// This tab's id.
    #[must_use]
    pub fn id(&self) -> TabId {
        self.id
    }

    /// This tab holds the connection.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.role == Role::Leading
    }

    /// This tab takes no part: it has left, or has not begun.
    #[must_use]
    pub fn is_outside(&self) -> bool {
        self.role == Role::Outside
    }

    /// The number of the last save that was prepared here.
    #[must_use]
    pub fn save(&self) -> u64 {
        self.prepared
    }

    /// The term of the leader that was heard of last.
    #[must_use]
    pub fn term(&self) -> u64 {
        self.term
    }

    /// How many other tabs the leader knows; 0 for who does not lead.
    #[must_use]
    pub fn others(&self) -> usize {
        self.others.len()
    }

    /// When [`TabInput::Tick`] is due at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Moment> {
        let asked = match self.role {
            Role::Following => self.asked.values().filter_map(|asked| asked.unheard_since).min(),
            _ => None,
        };
        [asked, self.waits_since].into_iter().flatten().min().map(|since| since.after_ms(LEADER_ANSWER_MS))
    }

    /// Takes one input.
    pub fn handle(&mut self, now: Now, input: TabInput<P>) {
        match input {
            TabInput::Enter => self.enter(now),
            TabInput::Elected => self.elected(),
            TabInput::Opened { term, kept } => self.opened(term, kept),
            TabInput::Deposed => self.deposed(now),
            TabInput::Heard(note) => self.heard(now, note),
            TabInput::Fell(tab) => self.gone(tab),
            TabInput::Ask { request, ask, standing } => self.ask(now, request, ask, standing),
            TabInput::Performed(number, result) => self.performed(number, result),
            TabInput::Prepare(events) => self.prepare(events),
            TabInput::Saved => self.saved(),
            TabInput::Event(event) => self.event(event),
            TabInput::Snapshot(snapshot) => self.snapshot = Some(snapshot),
            TabInput::Visible(visible) => self.set_visible(visible),
            TabInput::Leave => self.leave(),
            TabInput::Tick => self.tick(now),
        }
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<TabOutput<P>> {
        self.outputs.pop_front()
    }

    fn output(&mut self, output: TabOutput<P>) {
        self.outputs.push_back(output);
    }

    fn post(&mut self, note: Note<P>) {
        self.output(TabOutput::Post(note));
    }

    // ------------------------------------------------------------ roles

    fn enter(&mut self, now: Now) {
        if self.role == Role::Outside {
            self.role = Role::Waiting;
            self.waits_since = Some(now.moment);
            self.output(TabOutput::RequestLock);
            self.join();
        }
    }

    fn join(&mut self) {
        let told = (!self.fresh).then_some(self.told);
        self.post(Note::Join { tab: self.id, visible: self.visible, told });
    }

    fn elected(&mut self) {
        if matches!(self.role, Role::Waiting | Role::Following) {
            self.role = Role::Opening;
            self.waits_since = None;
            self.output(TabOutput::Lead);
        }
    }

    fn opened(&mut self, term: u64, kept: Vec<(u64, Vec<P>)>) {
        if self.role != Role::Opening {
            return;
        }
        self.role = Role::Leading;
        self.term = self.term.max(term);
        let (told, saves) = (self.told, kept.last().map_or(0, |(save, _)| *save));
        self.told = saves;
        for (save, events) in kept {
            self.remember(save, events);
        }
        let missed = self.told_after(told);
        self.catch_up(saves, missed);
        // Those of an older term that never were on the disk are no numbers of this one.
        self.prepared = saves.max(self.term << TERM_BITS);
        // What the core before prepared at its end is in the cache, or has not happened.
        self.preparing.clear();
        self.seen = None;
        self.tell_seen();
        if let Some(snapshot) = self.snapshot.clone() {
            self.output(TabOutput::Snapshot(snapshot.clone()));
            let lead =
                Lead { term: self.term, saves, snapshot, since: Some(saves), missed: Some(Vec::new()) };
            self.post(Note::Lead { to: None, lead });
        }
        let asks: Vec<_> = self
            .asked
            .iter()
            .filter(|(_, asked)| asked.standing || !asked.settled)
            .map(|(request, asked)| (*request, asked.ask.clone()))
            .collect();
        for (request, ask) in asks {
            self.perform(self.id, request, ask);
        }
    }

    /// Somebody else has the lock, or the cache: what is asked here is asked there.
    fn deposed(&mut self, now: Now) {
        if matches!(self.role, Role::Opening | Role::Leading) {
            self.stop_leading(false);
            self.output(TabOutput::ReleaseLock);
            self.role = Role::Outside;
            self.enter(now);
        }
    }

    fn leave(&mut self) {
        match self.role {
            Role::Outside => return,
            Role::Waiting | Role::Following => self.post(Note::Leave { tab: self.id }),
            // The lock is enough for the others to know.
            Role::Opening | Role::Leading => {
                self.stop_leading(self.others.is_empty() || defects::is_on(Defect::GoodbyeOfAnyTab));
            }
        }
        self.output(TabOutput::ReleaseLock);
        self.role = Role::Outside;
        self.waits_since = None;
        for asked in self.asked.values_mut() {
            asked.unheard_since = None;
        }
    }

    fn stop_leading(&mut self, goodbye: bool) {
        self.preparing.clear();
        self.forget_remembered();
        self.performing.clear();
        self.others.clear();
        self.output(TabOutput::Retire { goodbye });
    }

    fn tick(&mut self, now: Now) {
        if self.next_deadline().is_some_and(|deadline| deadline <= now.moment) {
            // Whoever takes it from a leader that only was slow is safe: the cache lets one term write, and the relay
            // has one connection of a device.
            self.waits_since = Some(now.moment);
            for asked in self.asked.values_mut().filter(|asked| asked.unheard_since.is_some()) {
                asked.unheard_since = Some(now.moment);
            }
            self.output(TabOutput::StealLock);
        }
    }

    // ------------------------------------------------------------ the channel

    fn heard(&mut self, now: Now, note: Note<P>) {
        if note.term().is_some_and(|term| term < self.term) || self.role == Role::Outside {
            return;
        }
        match note {
            Note::Join { tab, visible, told } => {
                if self.role == Role::Leading {
                    self.welcome(tab, told);
                    self.meet(tab, visible);
                }
            }
            Note::Visible { tab, visible } => {
                if self.role == Role::Leading {
                    self.meet(tab, visible);
                }
            }
            Note::Leave { tab } => self.gone(tab),
            Note::Ask { term, tab, request, ask } => {
                if self.role == Role::Leading && term == self.term {
                    self.post(Note::Taken { term: self.term, tab, request });
                    self.perform(tab, request, ask);
                }
            }
            Note::Lead { to, lead } => {
                if to.is_none_or(|to| to == self.id) {
                    self.led(now, to.is_some(), lead);
                }
            }
            Note::Durable { term, after, save, events } => {
                if self.follows(term) {
                    if after == self.told {
                        self.tell(save, &events);
                    } else if save > self.told {
                        self.ask_for_missed(now);
                    }
                }
            }
            Note::Now { term, event } => {
                if self.follows(term) {
                    self.output(TabOutput::Tell(event));
                }
            }
            Note::Taken { term, tab, request } => {
                if self.follows(term)
                    && tab == self.id
                    && let Some(asked) = self.asked.get_mut(&request)
                {
                    asked.unheard_since = None;
                }
            }
            Note::Reply { term, tab, request, result } => {
                if self.follows(term) && tab == self.id {
                    self.settle(request, result);
                }
            }
        }
    }

    fn follows(&self, term: u64) -> bool {
        self.role == Role::Following && term == self.term
    }

    /// A leader's answer to this tab, or what a new one says to all.
    fn led(&mut self, now: Now, answers: bool, lead: Lead<P>) {
        let Lead { term, saves, snapshot, since, missed } = lead;
        match self.role {
            Role::Outside => return,
            // The lock is ours, and a higher term writes the cache: ours was taken away.
            Role::Opening | Role::Leading if term > self.term => self.deposed(now),
            // Ours is being opened, and its term will be higher.
            Role::Opening | Role::Leading => return,
            Role::Waiting | Role::Following => {}
        }
        let is_new = self.role != Role::Following || term != self.term;
        self.term = term;
        if !self.fresh && since != Some(self.told) {
            if !answers {
                self.ask_for_missed(now);
            }
            // Else it answers what was asked before; the answer to what was asked last follows.
            return;
        }
        self.role = Role::Following;
        self.waits_since = None;
        self.catch_up(saves, missed);
        if !answers {
            self.post(Note::Visible { tab: self.id, visible: self.visible });
        }
        if is_new {
            self.output(TabOutput::Snapshot(snapshot));
            self.ask_again(now);
        }
    }

    /// Something is missing here that the leader may remember; what it says meanwhile is in its answer.
    fn ask_for_missed(&mut self, now: Now) {
        self.role = Role::Waiting;
        self.waits_since = Some(now.moment);
        self.join();
    }

    // ------------------------------------------------------------ other tabs

    fn welcome(&mut self, tab: TabId, told: Option<u64>) {
        let Some(snapshot) = self.snapshot.clone() else { return };
        let missed = told.and_then(|told| self.told_after(told));
        let lead = Lead { term: self.term, saves: self.told, snapshot, since: told, missed };
        self.post(Note::Lead { to: Some(tab), lead });
    }

    /// A tab is there.
    fn meet(&mut self, tab: TabId, visible: bool) {
        if self.others.insert(tab, visible).is_none() {
            self.output(TabOutput::Await(tab));
        }
        self.tell_seen();
    }

    fn gone(&mut self, tab: TabId) {
        if self.others.remove(&tab).is_some() {
            self.performing.retain(|_, (by, _)| *by != tab);
            self.output(TabOutput::Forget(tab));
            self.tell_seen();
        }
    }

    fn set_visible(&mut self, visible: bool) {
        if self.visible == visible {
            return;
        }
        self.visible = visible;
        match self.role {
            // Who waits has said otherwise as it joined.
            Role::Waiting | Role::Following => self.post(Note::Visible { tab: self.id, visible }),
            Role::Leading => self.tell_seen(),
            Role::Outside | Role::Opening => {}
        }
    }

    /// The device is seen while any of its tabs is.
    fn tell_seen(&mut self) {
        let seen = self.visible || self.others.values().any(|visible| *visible);
        if self.role == Role::Leading && self.seen != Some(seen) {
            self.seen = Some(seen);
            self.output(TabOutput::Seen(seen));
        }
    }
}
