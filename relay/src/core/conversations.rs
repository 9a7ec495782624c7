//! Conversations in memory: the heads of their logs and, of groups, who is in them.
//!
//! As with queues, what is assigned runs ahead of what is durable. A send or a change is judged by what is assigned,
//! so that requests keep their order within one commit; a reader is told only what is durable.

use std::sync::Arc;

use hongyan_protocol::limits::HELD_MEMBERS_MAX;
use hongyan_protocol::{ChangeNumber, ConversationId, GroupVersion, Seq, UserId};

use super::commit::{Commits, Mark};
use super::defects::{self, Defect};
use super::hot::Hot;
use super::limits::{CONVERSATIONS_MAX, EVICTION_STEPS, MEMBERS_HELD_MAX};
use super::members::{Members, stored};
use super::queue::Diffusion;
use super::records::{GroupRecord, decode, group_key, member_key};
use super::users::last_number;
use crate::store::{Store, StoreError, Table};

pub(super) struct Conversation {
    pub(super) assigned: Seq,
    pub(super) durable: Seq,
    /// The last change of a message, as assigned …
    pub(super) changes: ChangeNumber,
    /// … and as durable.
    pub(super) changes_durable: ChangeNumber,
    /// Whose queues its messages go to, each once, ascending; nobody's when it comes by its log.
    pub(super) users: Arc<[UserId]>,
    pub(super) group: Option<Group>,
    /// The last commit that changes anything of it.
    pub(super) commit: Mark,
}

pub(super) struct Group {
    /// As assigned.
    pub(super) facts: GroupFacts,
    /// As durable.
    pub(super) durable: GroupFacts,
    pub(super) members: Members,
    /// How its messages are to reach its members.
    pub(super) mode: Diffusion,
    /// The last commit that changes the group.
    pub(super) commit: Mark,
}

/// What everybody in a group knows of it.
#[derive(Clone)]
pub(super) struct GroupFacts {
    pub(super) title: Arc<str>,
    /// `None` when nobody is left.
    pub(super) owner: Option<UserId>,
    pub(super) version: GroupVersion,
    pub(super) member_count: u32,
    /// Its messages come by its log, not by the queues of its members.
    pub(super) by_log: bool,
    /// The newest message by its log that mentions everybody.
    pub(super) called_all: Seq,
}

impl Conversation {
    /// May send and change.
    pub(super) fn has_member(
        &self,
        store: &impl Store,
        id: &ConversationId,
        user: &UserId,
    ) -> Result<bool, StoreError> {
        match &self.group {
            Some(group) => Ok(group.members.joined(store, id, user)?.is_some()),
            None => Ok(self.users.contains(user)),
        }
    }

    /// May read: is a member, durably.
    pub(super) fn has_reader(
        &self,
        store: &impl Store,
        id: &ConversationId,
        user: &UserId,
    ) -> Result<bool, StoreError> {
        match &self.group {
            Some(_) if defects::is_on(Defect::RemovedStillReads) => Ok(true),
            Some(group) => {
                let joined = group.members.joined(store, id, user)?;
                Ok(joined.is_some_and(|joined| joined <= group.durable.version))
            }
            None => Ok(self.users.contains(user)),
        }
    }

    /// Its next message goes to its log only.
    pub(super) fn comes_by_log(&self) -> bool {
        self.group.as_ref().is_some_and(|group| group.facts.by_log)
    }

    /// Whose queues the next message goes to.
    pub(super) fn set_users(&mut self) {
        if let Some(group) = &self.group {
            self.users = group.members.all_held().cloned().collect();
        }
    }

    fn weight(&self) -> usize {
        self.group.as_ref().map_or(self.users.len(), |group| group.members.weight())
    }
}

pub(super) struct Conversations {
    hot: Hot<ConversationId, Conversation>,
}

impl Conversations {
    pub(super) fn new() -> Self {
        Self { hot: Hot::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.hot.len()
    }

    pub(super) fn get(&self, id: &ConversationId) -> Option<&Conversation> {
        self.hot.get(id)
    }

    pub(super) fn get_mut(&mut self, id: &ConversationId) -> Option<&mut Conversation> {
        self.hot.get_mut(id)
    }

    pub(super) fn insert(&mut self, id: ConversationId, conversation: Conversation) {
        self.hot.insert(id, conversation.weight(), conversation);
    }

    /// The members have changed.
    pub(super) fn weigh(&mut self, id: &ConversationId) {
        let weight = self.hot.get(id).map_or(0, Conversation::weight);
        self.hot.weigh(id, weight);
    }

    /// Brings it into memory if `user` is (or was a moment ago) in it. What nobody may see costs one read.
    pub(super) fn load(
        &mut self,
        store: &impl Store,
        id: &ConversationId,
        user: &UserId,
    ) -> Result<Option<&mut Conversation>, StoreError> {
        if self.hot.get_mut(id).is_none() {
            let loaded = match id.users() {
                Some((first, second)) if first == *user || second == *user => {
                    Some(load_direct(store, id, first, second)?)
                }
                Some(_) => None,
                None => {
                    let member = store.get(Table::Members, &member_key(id, user))?.is_some();
                    if member { Some(load_group(store, id)?) } else { None }
                }
            };
            let Some(loaded) = loaded else { return Ok(None) };
            self.insert(id.clone(), loaded);
        }
        Ok(self.hot.get_mut(id))
    }

    /// Brings a group into memory, for the app's own server.
    pub(super) fn load_group(
        &mut self,
        store: &impl Store,
        id: &ConversationId,
    ) -> Result<Option<&mut Conversation>, StoreError> {
        if self.hot.get_mut(id).is_none() {
            if store.get(Table::Groups, &group_key(id))?.is_none() {
                return Ok(None);
            }
            let loaded = load_group(store, id)?;
            self.insert(id.clone(), loaded);
        }
        Ok(self.hot.get_mut(id))
    }

    pub(super) fn evict(&mut self, commits: &Commits) {
        self.hot.evict(
            EVICTION_STEPS,
            |len, members| len > CONVERSATIONS_MAX || members > MEMBERS_HELD_MAX,
            |conversation| !commits.is_durable(conversation.commit),
        );
    }
}

fn load_direct(
    store: &impl Store,
    id: &ConversationId,
    first: UserId,
    second: UserId,
) -> Result<Conversation, StoreError> {
    let mut last = Seq(last_number(store, Table::Messages, id.as_str())?);
    if defects::is_on(Defect::SeqTwice) {
        last = last.previous();
    }
    let users = if first == second { [first].into() } else { [first, second].into() };
    let changes = ChangeNumber(last_number(store, Table::Changes, id.as_str())?);
    Ok(Conversation {
        assigned: last,
        durable: last,
        changes,
        changes_durable: changes,
        users,
        group: None,
        commit: Mark::NONE,
    })
}

fn load_group(store: &impl Store, id: &ConversationId) -> Result<Conversation, StoreError> {
    let damaged = |what: &str| StoreError::Damaged(format!("the group {id} {what}"));
    let record = store.get(Table::Groups, &group_key(id))?.ok_or_else(|| damaged("has no record"))?;
    let record: GroupRecord = decode(record, "groups")?;
    let members = if record.by_log {
        Members::default()
    } else {
        let members = stored(store, id, None, HELD_MEMBERS_MAX + 1)?;
        if members.len() != usize::try_from(record.members).unwrap_or(usize::MAX) {
            return Err(damaged("has other members than its record counts"));
        }
        Members::held(members)
    };
    let owner = if record.owner.is_empty() {
        None
    } else {
        Some(UserId::new(&record.owner).map_err(|_| damaged("has an owner without a valid id"))?)
    };
    let facts = GroupFacts {
        title: record.title.as_str().into(),
        owner,
        version: GroupVersion(record.version),
        member_count: record.members,
        by_log: record.by_log,
        called_all: Seq(record.called_all),
    };
    let mode = record.mode();
    let group = Group { durable: facts.clone(), facts, members, mode, commit: Mark::NONE };
    let last = Seq(last_number(store, Table::Messages, id.as_str())?);
    let changes = ChangeNumber(last_number(store, Table::Changes, id.as_str())?);
    let mut conversation = Conversation {
        assigned: last,
        durable: last,
        changes,
        changes_durable: changes,
        users: Arc::default(),
        group: Some(group),
        commit: Mark::NONE,
    };
    conversation.set_users();
    Ok(conversation)
}
