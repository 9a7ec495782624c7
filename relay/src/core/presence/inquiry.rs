//! Who may watch whom, and ask for whose profile. Users may watch each other who have a direct conversation with a message in it, or share a
//! group; who may not, and who does not exist, gets the same answer.
//!
//! To find out may take many reads, so an inquiry goes on over several turns.

use std::collections::{BTreeMap, BTreeSet};

use hongyan_protocol::{ConversationId, ConversationKind, ProfileVersion, UserId};

use super::watching::Doubt;
use crate::core::io::{ConnectionId, Verifier, WatchPolicy};
use crate::core::limits::{WATCH_GROUPS_MAX, WATCH_READS_PER_INPUT};
use crate::core::records::{member_key, membership_key};
use crate::core::relay::Relay;
use crate::core::users::last_number;
use crate::store::{Store, StoreError, Table};

/// Groups that are read at once.
const PAGE: usize = 16;

const _: () = assert!(PAGE < WATCH_READS_PER_INPUT && PAGE < WATCH_GROUPS_MAX);

/// For what it is found out.
pub(super) enum Purpose {
    /// A request.
    Watch { request: u64 },
    /// A request for profiles that are newer than these versions.
    Profiles { request: u64, known: BTreeMap<UserId, ProfileVersion> },
    /// A group that may have been the reason has been left; the other reasons count.
    Doubt(BTreeMap<UserId, Doubt>),
}

/// Whom of these users the asker may watch.
pub(super) struct Inquiry {
    pub(super) purpose: Purpose,
    /// Each once, in the order of asking.
    pub(super) users: Vec<UserId>,
    pub(super) refused: BTreeSet<UserId>,
    /// Those whom the asker did not watch before and does now.
    pub(super) fresh: Vec<UserId>,
    /// How many of `users` have been looked at for what is no group.
    looked: usize,
    /// Those for whom a shared group is looked for.
    open: BTreeSet<UserId>,
    /// The last group that was looked at, and how many there were.
    after: Option<ConversationId>,
    groups: usize,
}

impl Inquiry {
    pub(super) fn new(purpose: Purpose, mut users: Vec<UserId>) -> Self {
        let mut seen = BTreeSet::new();
        users.retain(|user| seen.insert(user.clone()));
        Self {
            purpose,
            users,
            refused: BTreeSet::new(),
            fresh: Vec::new(),
            looked: 0,
            open: BTreeSet::new(),
            after: None,
            groups: 0,
        }
    }

    pub(super) fn has_begun(&self) -> bool {
        self.looked > 0
    }
}

impl<S: Store, V: Verifier> Relay<S, V> {
    /// Goes on with an inquiry while there are reads left. True when it has come to its end.
    pub(super) fn inquire(
        &mut self,
        connection: ConnectionId,
        inquiry: &mut Inquiry,
        reads: &mut usize,
    ) -> Result<bool, StoreError> {
        let Some(session) = self.session_mut(connection) else { return Ok(true) };
        let asker = session.user.clone();
        while let Some(user) = inquiry.users.get(inquiry.looked).cloned() {
            if *reads == 0 {
                return Ok(false);
            }
            *reads = reads.saturating_sub(2);
            inquiry.looked += 1;
            if self.may_without_group(&asker, &user, &inquiry.purpose)? {
                self.permit(connection, &user, inquiry)?;
            } else if self.policy_of(&inquiry.purpose) == WatchPolicy::Members {
                inquiry.open.insert(user);
            } else {
                inquiry.refused.insert(user);
            }
        }
        while !inquiry.open.is_empty() && inquiry.groups < WATCH_GROUPS_MAX {
            if *reads == 0 {
                return Ok(false);
            }
            let page = self.memberships_after(&asker, inquiry.after.as_ref(), PAGE)?;
            let is_last = page.len() < PAGE;
            for (group, record) in page {
                if *reads == 0 {
                    return Ok(false);
                }
                *reads -= 1;
                if record.left == 0 && group.kind() == ConversationKind::Group {
                    inquiry.groups += 1;
                    *reads = reads.saturating_sub(inquiry.open.len());
                    for user in self.members_among(&group, &asker, &inquiry.open)? {
                        inquiry.open.remove(&user);
                        self.permit(connection, &user, inquiry)?;
                    }
                }
                inquiry.after = Some(group);
            }
            if is_last {
                break;
            }
        }
        inquiry.refused.append(&mut inquiry.open);
        Ok(true)
    }

    fn permit(
        &mut self,
        connection: ConnectionId,
        user: &UserId,
        inquiry: &mut Inquiry,
    ) -> Result<(), StoreError> {
        if matches!(inquiry.purpose, Purpose::Watch { .. }) && self.keep_watch(connection, user)? {
            inquiry.fresh.push(user.clone());
        }
        Ok(())
    }

    fn policy_of(&self, purpose: &Purpose) -> WatchPolicy {
        match purpose {
            Purpose::Profiles { .. } => self.config.profiles,
            Purpose::Watch { .. } | Purpose::Doubt(_) => self.config.watch,
        }
    }

    fn may_without_group(
        &self,
        asker: &UserId,
        user: &UserId,
        purpose: &Purpose,
    ) -> Result<bool, StoreError> {
        if asker == user {
            return Ok(true);
        }
        match self.policy_of(purpose) {
            WatchPolicy::Nobody => return Ok(false),
            WatchPolicy::Everyone => return self.exists(user),
            WatchPolicy::Members => {}
        }
        if let Purpose::Doubt(left) = purpose
            && let Some(Doubt::Left(group)) = left.get(user)
            && !self.has_membership(asker, group)?
        {
            // The group that was left was not the reason.
            return Ok(true);
        }
        self.has_membership(asker, &ConversationId::direct(asker, user))
    }

    /// Is or was in the conversation, durably. Of a direct one: it has a message.
    fn has_membership(&self, user: &UserId, id: &ConversationId) -> Result<bool, StoreError> {
        if let Some(pending) = self.commits.memberships.get(&(user.clone(), id.clone())) {
            return Ok(pending.durable.is_some());
        }
        Ok(self.store.get(Table::Memberships, &membership_key(user, id))?.is_some())
    }

    /// Who of these is a member of a group together with the asker.
    fn members_among(
        &self,
        group: &ConversationId,
        asker: &UserId,
        users: &BTreeSet<UserId>,
    ) -> Result<Vec<UserId>, StoreError> {
        let mut members = Vec::new();
        match self.conversations.get(group) {
            Some(conversation) => {
                if !conversation.has_reader(&self.store, group, asker)? {
                    return Ok(members);
                }
                for user in users {
                    if conversation.has_reader(&self.store, group, user)? {
                        members.push(user.clone());
                    }
                }
            }
            None => {
                for user in users {
                    if self.store.get(Table::Members, &member_key(group, user))?.is_some() {
                        members.push(user.clone());
                    }
                }
            }
        }
        Ok(members)
    }

    /// Has a device, or something in the queue.
    fn exists(&self, user: &UserId) -> Result<bool, StoreError> {
        Ok(self.presences.present.contains_key(user)
            || last_number(&self.store, Table::Queue, user.as_str())? > 0
            || !self.device_records(user)?.is_empty()
            || self.user_record(user)?.is_some())
    }
}
