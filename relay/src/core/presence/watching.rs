//! Who watches whom, and the requests about it and for profiles, which are served in the order of coming.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use hongyan_protocol::limits::WATCHED_MAX;
use hongyan_protocol::wire::{self, PresenceCause, PresenceStatus, relay_frame::Event};
use hongyan_protocol::{Code, ConversationId, ProfileVersion, UserId};

use super::inquiry::{Inquiry, Purpose};
use super::present::Eyes;
use crate::core::deadlines::Timer;
use crate::core::defects::{self, Defect};
use crate::core::io::{ConnectionId, Verifier, WatchPolicy};
use crate::core::limits::{WATCH_READS_PER_INPUT, WATCH_REQUESTS_MAX};
use crate::core::rate::Usage;
use crate::core::refusal::Refusal;
use crate::core::relay::Relay;
use crate::store::{Store, StoreError};

/// What a connection watches.
#[derive(Default)]
pub(in crate::core) struct Watching {
    pub(super) users: BTreeSet<UserId>,
    /// Whose present state it was not told because it read too slowly.
    pub(super) owed: BTreeSet<UserId>,
    /// What is to be done for it, in this order.
    jobs: VecDeque<Job>,
    /// Users whom it may not be permitted to watch any more.
    doubted: BTreeMap<UserId, Doubt>,
    /// It stands in the line of those that have jobs.
    in_line: bool,
    /// What it used of its rate of typing.
    typing: Usage,
}

/// Why it is in doubt whether somebody may be watched.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Doubt {
    /// One of the two has left this group.
    Left(ConversationId),
    /// Several groups were left.
    LeftSeveral,
}

impl Watching {
    fn doubt(&mut self, user: &UserId, group: &ConversationId) {
        let doubt = Doubt::Left(group.clone());
        match self.doubted.get_mut(user) {
            Some(before) if *before == doubt => {}
            Some(before) => *before = Doubt::LeftSeveral,
            None => drop(self.doubted.insert(user.clone(), doubt)),
        }
    }
}

/// One thing to do for a connection.
enum Job {
    Look(Inquiry),
    Unwatch(Vec<UserId>),
}

/// How somebody is shown whom the asker may not watch, or who does not exist.
pub(super) fn refused(user: &UserId) -> wire::Presence {
    wire::Presence {
        user: user.as_str().to_owned(),
        status: PresenceStatus::Unknown.into(),
        cause: PresenceCause::Unspecified.into(),
        refused: true,
        ..wire::Presence::default()
    }
}

impl<S: Store, V: Verifier> Relay<S, V> {
    pub(in crate::core) fn watch(
        &mut self,
        connection: ConnectionId,
        request: u64,
        users: Vec<UserId>,
    ) -> Result<(), Refusal> {
        self.add_job(connection, Job::Look(Inquiry::new(Purpose::Watch { request }, users)))
    }

    pub(in crate::core) fn unwatch(
        &mut self,
        connection: ConnectionId,
        users: Vec<UserId>,
    ) -> Result<(), Refusal> {
        self.add_job(connection, Job::Unwatch(users))
    }

    pub(in crate::core) fn ask_for_profiles(
        &mut self,
        connection: ConnectionId,
        request: u64,
        known: BTreeMap<UserId, ProfileVersion>,
    ) -> Result<(), Refusal> {
        let users = known.keys().cloned().collect();
        self.add_job(connection, Job::Look(Inquiry::new(Purpose::Profiles { request, known }, users)))
    }

    fn add_job(&mut self, connection: ConnectionId, job: Job) -> Result<(), Refusal> {
        let Some(session) = self.session_mut(connection) else { return Ok(()) };
        if session.watching.jobs.len() >= WATCH_REQUESTS_MAX {
            return Err(Refusal::reject(Code::BUSY));
        }
        session.watching.jobs.push_back(job);
        self.line_up_watcher(connection);
        Ok(())
    }

    fn line_up_watcher(&mut self, connection: ConnectionId) {
        let Some(session) = self.session_mut(connection) else { return };
        let watching = &mut session.watching;
        let has_jobs = !watching.jobs.is_empty() || !watching.doubted.is_empty();
        if has_jobs && !watching.in_line {
            watching.in_line = true;
            self.presences.line.push_back(connection);
        }
    }

    /// A membership of a group has ended: whom the user watches and who watches her is asked anew.
    pub(in crate::core) fn doubt_watches(&mut self, user: &UserId, group: &ConversationId) {
        if self.config.watch != WatchPolicy::Members || defects::is_on(Defect::WatchOutlivesGroup) {
            return;
        }
        let own = self.users.get(user).map(|user| user.connections.clone()).unwrap_or_default();
        for connection in own {
            if let Some(session) = self.session_mut(connection) {
                let others: Vec<_> =
                    session.watching.users.iter().filter(|other| *other != user).cloned().collect();
                others.iter().for_each(|other| session.watching.doubt(other, group));
                self.line_up_watcher(connection);
            }
        }
        let Some(watched) = self.presences.watched.get(user) else { return };
        let watchers: Vec<_> = watched.watchers().collect();
        for connection in watchers {
            if let Some(session) = self.session_mut(connection)
                && session.user != *user
            {
                session.watching.doubt(user, group);
                self.line_up_watcher(connection);
            }
        }
    }

    /// Some of what is to be done for watchers; the deadline of the rest is now.
    pub(in crate::core) fn take_watch_turns(&mut self) {
        let mut reads = WATCH_READS_PER_INPUT;
        while reads > 0
            && let Some(connection) = self.presences.line.pop_front()
        {
            // Even the least turn counts.
            reads -= 1;
            let Some(session) = self.session_mut(connection) else { continue };
            session.watching.in_line = false;
            let doubted = core::mem::take(&mut session.watching.doubted);
            let job = match session.watching.jobs.pop_front() {
                // What was begun comes to its end first.
                Some(job @ Job::Look(_)) if doubted.is_empty() => job,
                Some(Job::Look(inquiry)) if inquiry.has_begun() => {
                    session.watching.doubted = doubted;
                    Job::Look(inquiry)
                }
                job if !doubted.is_empty() => {
                    if let Some(job) = job {
                        session.watching.jobs.push_front(job);
                    }
                    let users = doubted.keys().cloned().collect();
                    Job::Look(Inquiry::new(Purpose::Doubt(doubted), users))
                }
                Some(job) => job,
                None => continue,
            };
            match job {
                Job::Unwatch(users) => users.iter().for_each(|user| self.forget_watch(connection, user)),
                Job::Look(inquiry) => self.look_into(connection, inquiry, &mut reads),
            }
            self.line_up_watcher(connection);
        }
        if self.presences.line.is_empty() {
            self.deadlines.cancel(&Timer::Watches);
        } else {
            self.deadlines.set(Timer::Watches, self.now.moment);
        }
    }

    fn look_into(&mut self, connection: ConnectionId, mut inquiry: Inquiry, reads: &mut usize) {
        if !inquiry.has_begun()
            && let Purpose::Watch { request } = inquiry.purpose
            && let Some(session) = self.session_mut(connection)
        {
            let more = inquiry.users.iter().filter(|user| !session.watching.users.contains(*user)).count();
            if session.watching.users.len() + more > WATCHED_MAX {
                return self.refuse(connection, request, Refusal::reject(Code::WATCH_FULL));
            }
        }
        match self.inquire(connection, &mut inquiry, reads) {
            Ok(false) => {
                if let Some(session) = self.session_mut(connection) {
                    session.watching.jobs.push_front(Job::Look(inquiry));
                }
            }
            Ok(true) => self.answer_inquiry(connection, inquiry),
            Err(error) => match inquiry.purpose {
                Purpose::Profiles { request, .. } => self.refuse(connection, request, error.into()),
                Purpose::Watch { request } => {
                    for user in &inquiry.fresh {
                        self.forget_watch(connection, user);
                    }
                    self.refuse(connection, request, error.into());
                }
                // Nobody knows any more whether it is permitted.
                Purpose::Doubt(_) => {
                    self.note_fault(&error);
                    self.close(connection, Code::STORAGE_FAILED);
                }
            },
        }
    }

    fn answer_inquiry(&mut self, connection: ConnectionId, inquiry: Inquiry) {
        match inquiry.purpose {
            Purpose::Watch { request } => {
                let presences = inquiry.users.iter().map(|user| {
                    let watched = self.presences.watched.get_mut(user);
                    let watched = watched.filter(|_| !inquiry.refused.contains(user));
                    watched.and_then(|watched| watched.answer(connection)).unwrap_or_else(|| refused(user))
                });
                let presences = presences.collect();
                self.answer(connection, request, Event::Watched(wire::Watched { presences }));
            }
            Purpose::Profiles { request, mut known } => {
                known.retain(|user, _| !inquiry.refused.contains(user));
                match self.profiles_after(&known) {
                    Ok(list) => self.answer(connection, request, Event::ProfileList(list)),
                    Err(error) => self.refuse(connection, request, error.into()),
                }
            }
            Purpose::Doubt(_) => {
                for user in &inquiry.refused {
                    self.forget_watch(connection, user);
                    self.push_event(connection, Event::Presence(refused(user)));
                }
            }
        }
    }

    /// The connection watches a user from now on; it is told how she is in the answer. True when it did not before.
    pub(super) fn keep_watch(&mut self, connection: ConnectionId, user: &UserId) -> Result<bool, StoreError> {
        self.begin_to_watch(user)?;
        let Some(session) = self.session_mut(connection) else { return Ok(false) };
        let eyes = if session.user == *user { Eyes::Own } else { Eyes::Others };
        let is_new = session.watching.users.insert(user.clone());
        if let Some(watched) = self.presences.watched.get_mut(user) {
            watched.add(connection, eyes);
        }
        Ok(is_new)
    }

    fn forget_watch(&mut self, connection: ConnectionId, user: &UserId) {
        if let Some(session) = self.session_mut(connection) {
            session.watching.users.remove(user);
            session.watching.owed.remove(user);
        }
        self.drop_watcher(connection, user);
    }

    /// A connection is gone.
    pub(in crate::core) fn forget_watches(&mut self, connection: ConnectionId, watching: &Watching) {
        for user in &watching.users {
            self.drop_watcher(connection, user);
        }
    }

    fn drop_watcher(&mut self, connection: ConnectionId, user: &UserId) {
        let Some(watched) = self.presences.watched.get_mut(user) else { return };
        if watched.remove(connection) {
            self.presences.watched.remove(user);
            self.deadlines.cancel(&Timer::Push(user.clone()));
        }
    }

    /// Whether what this connection types may be told now.
    pub(in crate::core) fn may_tell_typing(&mut self, connection: ConnectionId) -> bool {
        let (rate, now) = (self.presences.typing, self.now.moment);
        let Some(session) = self.session_mut(connection) else { return false };
        rate.take(&mut session.watching.typing, now).is_ok()
    }
}
