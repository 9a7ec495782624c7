//! After the relay's start nobody has a lease, but those who were there come back. Until that is over, nobody is called
//! offline who was not seen to go; then those who are watched are looked at anew, some at a time.

use std::ops::Bound;

use hongyan_protocol::UserId;

use crate::core::deadlines::Timer;
use crate::core::defects::{self, Defect};
use crate::core::io::{Moment, Now, Verifier};
use crate::core::limits::RECOVERED_PER_INPUT;
use crate::core::relay::Relay;
use crate::store::Store;

/// The time in which devices come back.
#[derive(Default)]
pub(super) struct Recovery {
    /// Its beginning and its end; `None` before the first input.
    window: Option<(Now, Now)>,
    /// The last user who was looked at after the end.
    after: Option<UserId>,
}

impl Recovery {
    /// Its beginning and end, unless it is over.
    pub(super) fn window(&self, now: Now) -> Option<(Now, Now)> {
        self.window.filter(|(_, end)| end.moment > now.moment && !defects::is_on(Defect::OfflineAfterRestart))
    }
}

impl<S: Store, V: Verifier> Relay<S, V> {
    /// With the first input time begins.
    pub(in crate::core) fn begin_recovery(&mut self) {
        if self.presences.recovery.window.is_none() {
            let end = self.now.after_ms(self.config.recovery_ms);
            self.presences.recovery.window = Some((self.now, end));
            self.deadlines.set(Timer::Recovery, end.moment);
        }
    }

    /// The relay stops, and lets nobody in any more: of those who are awaited nobody is called offline for that.
    pub(in crate::core) fn hold_recovery(&mut self) {
        let now = self.now.moment;
        if let Some((_, end)) = self.presences.recovery.window.as_mut().filter(|(_, end)| end.moment > now) {
            end.moment = Moment(u64::MAX);
        }
        self.deadlines.cancel(&Timer::Recovery);
    }

    /// It is over: some of those who are watched are looked at, and the others at once.
    pub(in crate::core) fn end_recovery(&mut self) {
        let from = self.presences.recovery.after.take().map_or(Bound::Unbounded, Bound::Excluded);
        let watched = self.presences.watched.range((from, Bound::Unbounded));
        let users: Vec<_> = watched.take(RECOVERED_PER_INPUT).map(|(user, _)| user.clone()).collect();
        for user in &users {
            if !self.presences.present.contains_key(user) {
                self.tell_watchers(user);
            }
        }
        if users.len() == RECOVERED_PER_INPUT {
            self.presences.recovery.after = users.into_iter().last();
            self.deadlines.set(Timer::Recovery, self.now.moment);
        }
    }
}
