//! Conversations in memory: the heads of their logs and, of groups, who is in them.
//!
//! As with queues, what is assigned runs ahead of what is durable. A send or a change is judged by what is assigned,
//! so that requests keep their order within one commit; a reader is told only what is durable.

use std::collections::BTreeMap;
use std::sync::Arc;

use hongyan_protocol::limits::GROUP_MEMBERS_MAX;
use hongyan_protocol::{ConversationId, GroupVersion, Seq, UserId};

use super::commit::{Commits, Mark};
use super::defects::{self, Defect};
use super::hot::Hot;
use super::limits::{CONVERSATIONS_MAX, EVICTION_STEPS, MEMBERS_HELD_MAX};
use super::records::{
    GroupRecord, MemberRecord, decode, group_key, member_key, prefix, prefix_end, second_of,
};
use super::users::last_number;
use crate::store::{Order, Store, StoreError, Table};

pub(super) struct Conversation {
    pub(super) assigned: Seq,
    pub(super) durable: Seq,
    /// Whose queues its messages go to, each once, ascending.
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
    /// Each with the version that made it one.
    pub(super) members: BTreeMap<UserId, GroupVersion>,
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
}

impl Conversation {
    /// May send and change.
    pub(super) fn has_member(&self, user: &UserId) -> bool {
        match &self.group {
            Some(group) => group.members.contains_key(user),
            None => self.users.contains(user),
        }
    }

    /// May read: is a member, durably.
    pub(super) fn has_reader(&self, user: &UserId) -> bool {
        match &self.group {
            Some(_) if defects::is_on(Defect::RemovedStillReads) => true,
            Some(group) => group.members.get(user).is_some_and(|joined| *joined <= group.durable.version),
            None => self.users.contains(user),
        }
    }
}

impl Group {
    pub(super) fn users(&self) -> Arc<[UserId]> {
        self.members.keys().cloned().collect()
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
        self.hot.insert(id, conversation.users.len(), conversation);
    }

    /// The members have changed.
    pub(super) fn weigh(&mut self, id: &ConversationId) {
        let users = self.hot.get(id).map_or(0, |conversation| conversation.users.len());
        self.hot.weigh(id, users);
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
    Ok(Conversation { assigned: last, durable: last, users, group: None, commit: Mark::NONE })
}

fn load_group(store: &impl Store, id: &ConversationId) -> Result<Conversation, StoreError> {
    let damaged = |what: &str| StoreError::Damaged(format!("the group {id} {what}"));
    let record = store.get(Table::Groups, &group_key(id))?.ok_or_else(|| damaged("has no record"))?;
    let record: GroupRecord = decode(record, "groups")?;
    let mut members = BTreeMap::new();
    let mut fault = None;
    let (from, to) = (prefix(id.as_str()), prefix_end(id.as_str()));
    store.scan(Table::Members, &from, &to, Order::Ascending, &mut |key, value| {
        let member = second_of(key).and_then(|user| {
            let user = UserId::new(user).map_err(|_| damaged("has a member without a valid id"))?;
            let value: MemberRecord = decode(bytes::Bytes::copy_from_slice(value), "members")?;
            Ok((user, GroupVersion(value.joined)))
        });
        match member {
            Ok((user, joined)) => {
                members.insert(user, joined);
            }
            Err(error) => fault = Some(error),
        }
        fault.is_none() && members.len() <= GROUP_MEMBERS_MAX
    })?;
    if let Some(fault) = fault {
        return Err(fault);
    }
    let member_count = u32::try_from(members.len()).map_err(|_| damaged("has too many members"))?;
    let owner = if record.owner.is_empty() {
        None
    } else {
        Some(UserId::new(&record.owner).map_err(|_| damaged("has an owner without a valid id"))?)
    };
    let facts =
        GroupFacts { title: record.title.into(), owner, version: GroupVersion(record.version), member_count };
    let group = Group { durable: facts.clone(), facts, members, commit: Mark::NONE };
    let last = Seq(last_number(store, Table::Messages, id.as_str())?);
    Ok(Conversation {
        assigned: last,
        durable: last,
        users: group.users(),
        group: Some(group),
        commit: Mark::NONE,
    })
}
