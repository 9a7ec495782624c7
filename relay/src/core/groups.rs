//! Groups: made and changed. Each change counts the group's version up, and is told to everybody it concerns. What may be
//! asked is in `verbs/groups.rs` for members, and in `group_queries.rs` for the app's own server.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hongyan_protocol::limits::{GROUP_CHANGE_USERS_MAX, HELD_MEMBERS_MAX};
use hongyan_protocol::wire::{self, GroupChangeKind};
use hongyan_protocol::{ChangeNumber, Code, ConversationId, GroupVersion, Seq, UserId};

use super::batches::Change;
use super::commit::Mark;
use super::conversations::{Conversation, Group, GroupFacts};
use super::defects::{self, Defect};
use super::io::Verifier;
use super::limits::HEIRS_SCANNED_MAX;
use super::members::Members;
use super::queue::Diffusion;
use super::queue::rows::{Reference, Target};
use super::records::{MemberRecord, MembershipRecord, encode, group_change_key, member_key};
use super::refusal::Refusal;
use super::relay::Relay;
use crate::store::{Store, StoreError, Table};

/// What a change makes of a group.
struct GroupEdit {
    kind: GroupChangeKind,
    /// Who joins or goes.
    concerned: BTreeSet<UserId>,
    /// Who owns it then.
    owner: Option<UserId>,
    /// Its new title.
    title: Option<Arc<str>>,
}

impl GroupEdit {
    fn of_members(kind: GroupChangeKind, concerned: BTreeSet<UserId>, owner: Option<UserId>) -> Self {
        Self { kind, concerned, owner, title: None }
    }
}

impl<S: Store, V: Verifier> Relay<S, V> {
    /// Makes a group of these, the owner among them; all of it in the commit that gathers.
    pub(super) fn make_group(
        &mut self,
        title: String,
        owner: &UserId,
        joining: BTreeSet<UserId>,
        mode: Diffusion,
    ) -> Result<ConversationId, Refusal> {
        if joining.len() > self.config.group_members_max {
            return Err(Refusal::reject(Code::GROUP_FULL));
        }
        let Some(id) = self.entropy.group() else { return Err(Refusal::reject(Code::BUSY)) };
        for user in &joining {
            self.users.load(&self.store, user)?;
        }
        let facts = GroupFacts {
            title: title.into(),
            owner: Some(owner.clone()),
            version: GroupVersion::ZERO,
            member_count: 0,
            by_log: false,
            called_all: Seq::ZERO,
        };
        let members = Members::held(BTreeMap::new());
        let group = Group { durable: facts.clone(), facts, members, mode, commit: Mark::NONE };
        let conversation = Conversation {
            assigned: Seq::ZERO,
            durable: Seq::ZERO,
            changes: ChangeNumber::ZERO,
            changes_durable: ChangeNumber::ZERO,
            users: Arc::new([]),
            group: Some(group),
            commit: Mark::NONE,
        };
        self.conversations.insert(id.clone(), conversation);
        let memberships = joining.iter().map(|user| (user.clone(), None)).collect();
        let over = self.change_over_due(&id, joining.len())?;
        let edit = GroupEdit::of_members(GroupChangeKind::Created, joining, Some(owner.clone()));
        self.apply(&id, owner, edit, memberships);
        if let Some(over) = over {
            self.change_over(&id, over);
        }
        Ok(id)
    }

    /// The group, for a member of it.
    pub(super) fn group_of(&mut self, id: &ConversationId, user: &UserId) -> Result<&Group, Refusal> {
        match self.conversations.load(&self.store, id, user)? {
            Some(Conversation { group: Some(group), .. })
                if group.members.joined(&self.store, id, user)?.is_some() =>
            {
                Ok(group)
            }
            _ => Err(Refusal::reject(Code::NOT_A_MEMBER)),
        }
    }

    /// Those of the users who are members, or are none.
    pub(super) fn among(
        &self,
        id: &ConversationId,
        mut users: BTreeSet<UserId>,
        are: bool,
    ) -> Result<BTreeSet<UserId>, StoreError> {
        let mut fault = None;
        if let Some(Conversation { group: Some(group), .. }) = self.conversations.get(id) {
            users.retain(|user| match group.members.joined(&self.store, id, user) {
                Ok(joined) => joined.is_some() == are,
                Err(error) => {
                    fault = Some(error);
                    false
                }
            });
        }
        fault.map_or(Ok(users), Err)
    }

    /// Who takes over from an owner who leaves: the longest-standing member; of those who joined together, the first by
    /// id. Of a very large group only the first members by id are looked through.
    pub(super) fn heir(&self, id: &ConversationId, owner: &UserId) -> Result<Option<UserId>, StoreError> {
        let Some(Conversation { group: Some(group), .. }) = self.conversations.get(id) else {
            return Ok(None);
        };
        let scanned = if group.facts.by_log { HEIRS_SCANNED_MAX } else { HELD_MEMBERS_MAX };
        let members = group.members.page(&self.store, id, None, scanned)?;
        let others = members.iter().filter(|(user, _)| *user != owner);
        Ok(others.min_by_key(|(user, joined)| (**joined, *user)).map(|(user, _)| user.clone()))
    }

    /// Makes a change; one of nobody changes nothing. The version that the group has then, and what makes it durable.
    pub(super) fn change_group(
        &mut self,
        id: &ConversationId,
        by: &UserId,
        kind: GroupChangeKind,
        concerned: BTreeSet<UserId>,
        owner: Option<UserId>,
    ) -> Result<(GroupVersion, Mark), Refusal> {
        let Some(Conversation { users, group: Some(group), .. }) = self.conversations.get(id) else {
            return Err(Refusal::reject(Code::NOT_A_MEMBER));
        };
        if concerned.is_empty() {
            return Ok((group.facts.version, group.commit));
        }
        let users = users.clone();
        let count = usize::try_from(group.facts.member_count).unwrap_or(usize::MAX);
        let count = match kind {
            GroupChangeKind::Created | GroupChangeKind::Added => count.saturating_add(concerned.len()),
            _ => count.saturating_sub(concerned.len()),
        };
        if kind == GroupChangeKind::Added && count > self.config.group_members_max {
            return Err(Refusal::reject(Code::GROUP_FULL));
        }
        for user in users.iter().chain(&concerned).chain([by]) {
            self.users.load(&self.store, user)?;
        }
        let over = self.change_over_due(id, count)?;
        let mut memberships = BTreeMap::new();
        for user in &concerned {
            memberships.insert(user.clone(), self.membership(user, id)?.0);
        }
        let edit = GroupEdit::of_members(kind, concerned, owner);
        let version = self.apply(id, by, edit, memberships);
        if let Some(over) = over {
            self.change_over(id, over);
        }
        Ok((version, self.commits.mark()))
    }

    /// Gives a group another title; the one that it has changes nothing. The version that the group has then, and what
    /// makes it durable.
    pub(super) fn rename_group(
        &mut self,
        id: &ConversationId,
        by: &UserId,
        title: &str,
    ) -> Result<(GroupVersion, Mark), Refusal> {
        let Some(Conversation { users, group: Some(group), .. }) = self.conversations.get(id) else {
            return Err(Refusal::reject(Code::NOT_A_MEMBER));
        };
        if *group.facts.title == *title {
            return Ok((group.facts.version, group.commit));
        }
        let (users, owner) = (users.clone(), group.facts.owner.clone());
        for user in users.iter().chain([by]) {
            self.users.load(&self.store, user)?;
        }
        let kind = GroupChangeKind::Renamed;
        let edit = GroupEdit { kind, concerned: BTreeSet::new(), owner, title: Some(title.into()) };
        let version = self.apply(id, by, edit, BTreeMap::new());
        Ok((version, self.commits.mark()))
    }

    /// Makes a change, all of it in the commit that gathers. Everybody concerned is in memory, so that it cannot fail
    /// halfway. Returns the group's new version.
    fn apply(
        &mut self,
        id: &ConversationId,
        by: &UserId,
        edit: GroupEdit,
        memberships: BTreeMap<UserId, Option<MembershipRecord>>,
    ) -> GroupVersion {
        let GroupEdit { kind, concerned, owner, title } = edit;
        let mark = self.commits.mark();
        let joins = matches!(kind, GroupChangeKind::Created | GroupChangeKind::Added);
        let Some(conversation) = self.conversations.get_mut(id) else { return GroupVersion::ZERO };
        let (last, changes) = (conversation.assigned, conversation.changes);
        let Some(group) = &mut conversation.group else { return GroupVersion::ZERO };
        let version = group.facts.version.next();
        // Told to who is in it before or after: who is removed learns that, and then nothing more. Of a group that
        // comes by its log, only to those whom it concerns.
        let mut told: BTreeSet<UserId> = conversation.users.iter().cloned().collect();
        told.extend(concerned.iter().chain([by]).cloned());
        for user in &concerned {
            if joins {
                group.members.insert(user.clone(), version, mark);
            } else {
                group.members.remove(user, mark);
            }
        }
        let changed = u32::try_from(concerned.len()).unwrap_or(u32::MAX);
        let before = group.facts.member_count;
        let member_count =
            if joins { before.saturating_add(changed) } else { before.saturating_sub(changed) };
        let title = title.unwrap_or_else(|| group.facts.title.clone());
        group.facts = GroupFacts { owner, version, member_count, title, ..group.facts.clone() };
        group.commit = mark;
        let facts = group.facts.clone();
        if joins || !defects::is_on(Defect::RemovedStillTold) {
            conversation.set_users();
        }
        conversation.commit = mark;
        self.conversations.weigh(id);

        self.put_group(id);
        for user in &concerned {
            if joins {
                let record = encode(&MemberRecord { joined: version.0 });
                self.commits.put(Table::Members, member_key(id, user), record);
            } else {
                self.commits.delete(Table::Members, member_key(id, user));
            }
        }
        for (user, before) in memberships {
            let record = if joins {
                MembershipRecord { read_seq: last.0, left: 0 }
            } else {
                MembershipRecord { left: version.0, ..before.unwrap_or_default() }
            };
            self.put_membership(&user, id, before, record);
        }
        let change = encode(&wire::GroupChange {
            conversation: id.as_str().to_owned(),
            kind: kind.into(),
            by: by.as_str().to_owned(),
            users: names(&concerned, by),
            time: self.now.time.0,
            version: version.0,
            title: facts.title.as_ref().to_owned(),
            owner: facts.owner.as_ref().map(|owner| owner.as_str().to_owned()).unwrap_or_default(),
            member_count,
            last_seq: last.0,
            by_log: facts.by_log,
            changes: changes.0,
        });
        self.commits.put(Table::Groups, group_change_key(id, version), change.clone());
        let target = Target::Group(version.0);
        let reference = Reference { conversation: id.clone(), target, copy: None };
        let change = Change::Group(change);
        for user in &told {
            self.enqueue(user, &reference, &change);
        }
        version
    }
}

/// Who is concerned, within the limit of names; the one who did it is the first to be left out, being named anyway.
fn names(concerned: &BTreeSet<UserId>, by: &UserId) -> Vec<String> {
    let over = concerned.len() > GROUP_CHANGE_USERS_MAX;
    let named = concerned.iter().filter(|user| !(over && *user == by));
    named.take(GROUP_CHANGE_USERS_MAX).map(|user| user.as_str().to_owned()).collect()
}
