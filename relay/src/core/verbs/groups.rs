//! Groups: made, joined, left. Each change counts the group's version up, and is told to everybody it concerns.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hongyan_protocol::limits::{GROUP_CHANGE_USERS_MAX, GROUP_MEMBERS_MAX, TITLE_BYTES_MAX};
use hongyan_protocol::wire::{self, GroupChangeKind, relay_frame::Event};
use hongyan_protocol::{Code, ConversationId, ConversationKind, GroupVersion, Key, Seq, UserId};

use super::Caller;
use crate::core::batches::Change;
use crate::core::commit::{Effect, Mark};
use crate::core::conversations::{Conversation, Group, GroupFacts};
use crate::core::defects::{self, Defect};
use crate::core::io::Verifier;
use crate::core::queue::rows::{Reference, Target};
use crate::core::records::{
    GroupRecord, KeyRecord, MemberRecord, MembershipRecord, encode, group_change_key, group_key, member_key,
};
use crate::core::refusal::Refusal;
use crate::core::relay::Relay;
use crate::store::{Store, Table};

pub(super) fn create<S: Store, V: Verifier>(
    relay: &mut Relay<S, V>,
    caller: &Caller,
    body: wire::CreateGroup,
) -> Result<(), Refusal> {
    relay.may_write()?;
    let key = Key::new(&body.key)?;
    if body.title.is_empty() || body.title.len() > TITLE_BYTES_MAX {
        return Err(Refusal::bad("A group's title is empty or too long."));
    }
    let mut joining = users(&body.members)?;
    joining.insert(caller.user.clone());
    if joining.len() > GROUP_MEMBERS_MAX {
        return Err(Refusal::reject(Code::GROUP_FULL));
    }
    if relay.answer_known_key(caller, &key)? {
        return Ok(());
    }
    let Some(id) = relay.entropy.group() else { return Err(Refusal::reject(Code::BUSY)) };
    for user in &joining {
        relay.users.load(&relay.store, user)?;
    }

    let facts = GroupFacts {
        title: body.title.into(),
        owner: Some(caller.user.clone()),
        version: GroupVersion::ZERO,
        member_count: 0,
    };
    let group = Group { durable: facts.clone(), facts, members: BTreeMap::new(), commit: Mark::NONE };
    let conversation = Conversation {
        assigned: Seq::ZERO,
        durable: Seq::ZERO,
        users: Arc::new([]),
        group: Some(group),
        commit: Mark::NONE,
    };
    relay.conversations.insert(id.clone(), conversation);
    let memberships = joining.iter().map(|user| (user.clone(), None)).collect();
    let record = KeyRecord { conversation: id.as_str().to_owned(), seq: 0, time: relay.now.time.0 };
    let owner = Some(caller.user.clone());
    relay.apply(&id, &caller.user, GroupChangeKind::Created, joining, memberships, owner);
    relay.remember_key(caller, key, &record);
    Ok(())
}

pub(super) fn add<S: Store, V: Verifier>(
    relay: &mut Relay<S, V>,
    caller: &Caller,
    body: wire::AddMembers,
) -> Result<(), Refusal> {
    relay.may_write()?;
    let id = group_id(&body.conversation)?;
    let mut named = users(&body.users)?;
    let group = relay.owned_group(&id, &caller.user)?;
    named.retain(|user| !group.members.contains_key(user));
    if group.members.len() + named.len() > GROUP_MEMBERS_MAX {
        return Err(Refusal::reject(Code::GROUP_FULL));
    }
    let owner = group.facts.owner.clone();
    relay.change(caller, &id, GroupChangeKind::Added, named, owner)
}

pub(super) fn remove<S: Store, V: Verifier>(
    relay: &mut Relay<S, V>,
    caller: &Caller,
    body: wire::RemoveMembers,
) -> Result<(), Refusal> {
    relay.may_write()?;
    let id = group_id(&body.conversation)?;
    let mut named = users(&body.users)?;
    if named.contains(&caller.user) {
        return Err(Refusal::bad("To go yourself, leave the group."));
    }
    let group = relay.owned_group(&id, &caller.user)?;
    named.retain(|user| group.members.contains_key(user));
    let owner = group.facts.owner.clone();
    relay.change(caller, &id, GroupChangeKind::Removed, named, owner)
}

pub(super) fn leave<S: Store, V: Verifier>(
    relay: &mut Relay<S, V>,
    caller: &Caller,
    body: wire::LeaveGroup,
) -> Result<(), Refusal> {
    relay.may_write()?;
    let id = group_id(&body.conversation)?;
    let group = match relay.group_of(&id, &caller.user) {
        Ok(group) => group,
        Err(Refusal::Reject(reject)) => {
            // A leave that is asked for again after its answer was lost.
            let (membership, mark) = relay.membership(&caller.user, &id)?;
            let left = membership.map_or(0, |record| record.left);
            if left == 0 {
                return Err(Refusal::Reject(reject));
            }
            relay.group_done(caller, &id, GroupVersion(left), mark);
            return Ok(());
        }
        Err(other) => return Err(other),
    };
    let mut owner = group.facts.owner.clone();
    if owner.as_ref() == Some(&caller.user) {
        // The longest-standing member takes over; of those who joined together, the first by id.
        let others = group.members.iter().filter(|(user, _)| **user != caller.user);
        owner = others.min_by_key(|(user, joined)| (**joined, *user)).map(|(user, _)| user.clone());
    }
    relay.change(caller, &id, GroupChangeKind::Left, BTreeSet::from([caller.user.clone()]), owner)
}

/// The users named in a request, each once.
fn users(named: &[String]) -> Result<BTreeSet<UserId>, Refusal> {
    if named.len() > GROUP_CHANGE_USERS_MAX {
        return Err(Refusal::bad("Too many users are named in one request."));
    }
    named.iter().map(|user| UserId::new(user).map_err(Refusal::from)).collect()
}

fn group_id(id: &str) -> Result<ConversationId, Refusal> {
    let id = ConversationId::new(id)?;
    match id.kind() {
        ConversationKind::Group => Ok(id),
        ConversationKind::Direct => Err(Refusal::bad("Only a group's members can change.")),
    }
}

impl<S: Store, V: Verifier> Relay<S, V> {
    /// The group, for a member of it.
    fn group_of(&mut self, id: &ConversationId, user: &UserId) -> Result<&Group, Refusal> {
        match self.conversations.load(&self.store, id, user)? {
            Some(Conversation { group: Some(group), .. }) if group.members.contains_key(user) => Ok(group),
            _ => Err(Refusal::reject(Code::NOT_A_MEMBER)),
        }
    }

    /// The group, for its owner.
    fn owned_group(&mut self, id: &ConversationId, user: &UserId) -> Result<&Group, Refusal> {
        let group = self.group_of(id, user)?;
        if group.facts.owner.as_ref() != Some(user) {
            return Err(Refusal::reject(Code::NOT_PERMITTED));
        }
        Ok(group)
    }

    /// Makes a change and answers when it is durable; one of nobody changes nothing.
    fn change(
        &mut self,
        caller: &Caller,
        id: &ConversationId,
        kind: GroupChangeKind,
        concerned: BTreeSet<UserId>,
        owner: Option<UserId>,
    ) -> Result<(), Refusal> {
        let Some(Conversation { users, group: Some(group), .. }) = self.conversations.get(id) else {
            return Err(Refusal::reject(Code::NOT_A_MEMBER));
        };
        if concerned.is_empty() {
            let (version, mark) = (group.facts.version, group.commit);
            self.group_done(caller, id, version, mark);
            return Ok(());
        }
        let users = users.clone();
        for user in users.iter().chain(&concerned) {
            self.users.load(&self.store, user)?;
        }
        let mut memberships = BTreeMap::new();
        for user in &concerned {
            memberships.insert(user.clone(), self.membership(user, id)?.0);
        }
        let version = self.apply(id, &caller.user, kind, concerned, memberships, owner);
        self.group_done(caller, id, version, self.commits.mark());
        Ok(())
    }

    fn group_done(&mut self, caller: &Caller, id: &ConversationId, version: GroupVersion, mark: Mark) {
        let done = wire::GroupDone { conversation: id.as_str().to_owned(), version: version.0 };
        self.answer_at(mark, caller.connection, caller.request, Event::GroupDone(done));
    }

    /// Makes a change, all of it in the commit that gathers. Everybody concerned is in memory, so that it cannot fail
    /// halfway. Returns the group's new version.
    fn apply(
        &mut self,
        id: &ConversationId,
        by: &UserId,
        kind: GroupChangeKind,
        concerned: BTreeSet<UserId>,
        memberships: BTreeMap<UserId, Option<MembershipRecord>>,
        owner: Option<UserId>,
    ) -> GroupVersion {
        let mark = self.commits.mark();
        let joins = matches!(kind, GroupChangeKind::Created | GroupChangeKind::Added);
        let Some(conversation) = self.conversations.get_mut(id) else { return GroupVersion::ZERO };
        let last = conversation.assigned;
        let Some(group) = &mut conversation.group else { return GroupVersion::ZERO };
        let version = group.facts.version.next();
        // Told to who is in it before or after: who is removed learns that, and then nothing more.
        let mut told: BTreeSet<UserId> = conversation.users.iter().cloned().collect();
        told.extend(concerned.iter().cloned());
        for user in &concerned {
            if joins {
                group.members.insert(user.clone(), version);
            } else {
                group.members.remove(user);
            }
        }
        let member_count = u32::try_from(group.members.len()).unwrap_or(u32::MAX);
        group.facts = GroupFacts { title: group.facts.title.clone(), owner, version, member_count };
        group.commit = mark;
        let facts = group.facts.clone();
        if joins || !defects::is_on(Defect::RemovedStillTold) {
            conversation.users = group.users();
        }
        conversation.commit = mark;
        self.conversations.weigh(id);

        let owner = facts.owner.as_ref().map(|owner| owner.as_str().to_owned()).unwrap_or_default();
        let record =
            GroupRecord { title: facts.title.as_ref().to_owned(), owner: owner.clone(), version: version.0 };
        self.commits.put(Table::Groups, group_key(id), encode(&record));
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
            title: record.title,
            owner,
            member_count,
            last_seq: last.0,
        });
        self.commits.put(Table::Groups, group_change_key(id, version), change.clone());
        let target = Target::Group(version.0);
        let reference = Reference { conversation: id.clone(), target, copy: None };
        let change = Change::Group(change);
        for user in &told {
            self.enqueue(user, &reference, &change);
        }
        self.commits.then(Effect::Group(id.clone(), facts));
        version
    }
}

/// Who is concerned, within the limit of names; the one who did it is the first to be left out, being named anyway.
fn names(concerned: &BTreeSet<UserId>, by: &UserId) -> Vec<String> {
    let over = concerned.len() > GROUP_CHANGE_USERS_MAX;
    let named = concerned.iter().filter(|user| !(over && *user == by));
    named.take(GROUP_CHANGE_USERS_MAX).map(|user| user.as_str().to_owned()).collect()
}
