//! Every deadline of the core, in one table with one next.

use std::collections::{BTreeMap, BTreeSet};

use hongyan_protocol::UserId;

use super::io::{ConnectionId, Moment};

/// What to look after. Each has one deadline at most.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// A stream still has something to send, and room for it.
    Turn,
    /// A queue is to be tended.
    Tend,
    /// The next queue of the sweep, or the next sweep.
    Sweep,
    /// Acknowledged cursors, and when devices were seen, wait to be written.
    Cursors,
    /// The time in which devices come back after the relay's start ends, or its end is still being told.
    Recovery,
    /// Somebody who asked to watch waits for more of the answer to be read.
    Watches,
    /// New messages of a group's log are still to be pushed to some who listen.
    Logs,
    /// Some are still to be told of a profile.
    Profiles,
    /// A change of presence is still to be told to some watchers.
    Fanout,
    /// Something of a user's presence ends by itself.
    Presence(UserId),
    /// The next change of a user's presence may be told.
    Push(UserId),
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
        self.cancel(&timer);
        self.at.insert(timer.clone(), at);
        self.order.insert((at, timer));
    }

    /// Sets it unless it comes earlier anyway.
    pub(super) fn set_at_latest(&mut self, timer: Timer, at: Moment) {
        if self.at.get(&timer).is_none_or(|before| *before > at) {
            self.set(timer, at);
        }
    }

    pub(super) fn cancel(&mut self, timer: &Timer) {
        if let Some((timer, before)) = self.at.remove_entry(timer) {
            self.order.remove(&(before, timer));
        }
    }

    pub(super) fn next(&self) -> Option<Moment> {
        self.order.first().map(|(at, _)| *at)
    }

    /// Takes one that has passed.
    pub(super) fn pop(&mut self, now: Moment) -> Option<Timer> {
        if self.next()? > now {
            return None;
        }
        let (_, timer) = self.order.pop_first()?;
        self.at.remove(&timer);
        Some(timer)
    }
}
