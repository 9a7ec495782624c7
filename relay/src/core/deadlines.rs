//! Every deadline of the core, in one table with one next.

use std::collections::{BTreeMap, BTreeSet};

use super::io::{ConnectionId, Moment};

/// What to look after. Each has one deadline at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// A stream still has something to send, and room for it.
    Turn,
    /// Acknowledged cursors wait to be written.
    Cursors,
    /// A connection's hello, ping, silence, stall or token: the earliest of them, or a little earlier.
    Connection(ConnectionId),
}

#[derive(Default)]
pub(super) struct Deadlines {
    order: BTreeSet<(Moment, Timer)>,
    /// The same pairs, by timer.
    at: BTreeMap<Timer, Moment>,
}

impl Deadlines {
    pub(super) fn set(&mut self, timer: Timer, at: Moment) {
        if let Some(before) = self.at.insert(timer, at) {
            self.order.remove(&(before, timer));
        }
        self.order.insert((at, timer));
    }

    /// Sets it unless it comes earlier anyway.
    pub(super) fn set_at_latest(&mut self, timer: Timer, at: Moment) {
        if self.at.get(&timer).is_none_or(|before| *before > at) {
            self.set(timer, at);
        }
    }

    pub(super) fn cancel(&mut self, timer: Timer) {
        if let Some(before) = self.at.remove(&timer) {
            self.order.remove(&(before, timer));
        }
    }

    pub(super) fn next(&self) -> Option<Moment> {
        self.order.first().map(|(at, _)| *at)
    }

    /// Takes one that has passed.
    pub(super) fn pop(&mut self, now: Moment) -> Option<Timer> {
        let (at, timer) = *self.order.first()?;
        if at > now {
            return None;
        }
        self.cancel(timer);
        Some(timer)
    }
}
