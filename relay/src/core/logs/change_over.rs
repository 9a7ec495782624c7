//! A group's messages come another way from here on: to the log when it has grown, back to the queues when it has shrunk,
//! or as the app's server says.

use std::collections::BTreeMap;

use bytes::Bytes;
use hongyan_protocol::limits::{GROUP_CHANGE_USERS_MAX, HELD_MEMBERS_MAX};
use hongyan_protocol::wire;
use hongyan_protocol::{ConversationId, GroupVersion, UserId};

use crate::core::batches::Change;
use crate::core::commit::Effect;
use crate::core::conversations::Conversation;
use crate::core::defects::{self, Defect};
use crate::core::io::Verifier;
use crate::core::queue::rows::{Reference, Target};
use crate::core::records::{GroupRecord, encode, group_key};
use crate::core::relay::Relay;
use crate::store::{Store, StoreError, Table};

/// A change of the way that is due.
pub(in crate::core) enum ChangeOver {
    /// To the log.
    Begins,
    /// To the queues of these.
    Ends(BTreeMap<UserId, GroupVersion>),
}

impl<S: Store, V: Verifier> Relay<S, V> {
    /// The change of the way that is due once the group has so many members; those whom it needs are in memory then.
    pub(in crate::core) fn change_over_due(
        &mut self,
        id: &ConversationId,
        members: usize,
    ) -> Result<Option<ChangeOver>, StoreError> {
        let Some(Conversation { group: Some(group), .. }) = self.conversations.get(id) else {
            return Ok(None);
        };
        let was = group.facts.by_log;
        let is = self.config.diffusion.is_by_log(group.mode, was, members);
        if is == was {
            return Ok(None);
        }
        // Before the change there may be as many more as it names.
        let most = HELD_MEMBERS_MAX + GROUP_CHANGE_USERS_MAX;
        let all = group.members.page(&self.store, id, None, most)?;
        for user in all.keys() {
            self.users.load(&self.store, user)?;
        }
        Ok(Some(if is { ChangeOver::Begins } else { ChangeOver::Ends(all) }))
    }

    /// The group's messages come the other way from here on. Everybody in it is in memory, so that it cannot fail.
    pub(in crate::core) fn change_over(&mut self, id: &ConversationId, over: ChangeOver) {
        let mark = self.commits.mark();
        let Some(conversation) = self.conversations.get_mut(id) else { return };
        let Some(group) = &mut conversation.group else { return };
        let begins = matches!(over, ChangeOver::Begins);
        if let ChangeOver::Ends(members) = over {
            group.members.hold(members);
        }
        let members: Vec<UserId> = group.members.all_held().cloned().collect();
        if begins {
            group.members.let_go();
        }
        group.facts.by_log = begins;
        group.commit = mark;
        conversation.commit = mark;
        conversation.set_users();
        let mut seq = conversation.assigned;
        if defects::is_on(Defect::ChangeOverOffByOne) {
            seq = seq.next();
        }
        self.conversations.weigh(id);
        self.put_group(id);
        if begins {
            self.commits.put(Table::Logs, group_key(id), Bytes::new());
            self.logs.groups.entry(id.clone()).or_default().ended = false;
            for user in &members {
                self.listen_too(user, id);
            }
        } else {
            self.commits.delete(Table::Logs, group_key(id));
        }
        let target = if begins { Target::LogBegins(seq.0) } else { Target::LogEnds(seq.0) };
        let reference = Reference { conversation: id.clone(), target, copy: None };
        let change = Change::Diffusion(diffusion(id, seq.0, begins));
        for user in &members {
            self.enqueue(user, &reference, &change);
        }
    }

    /// The same, for a change that nobody is told of.
    pub(in crate::core) fn keep_group(&mut self, id: &ConversationId) {
        let mark = self.commits.mark();
        if let Some(conversation) = self.conversations.get_mut(id) {
            conversation.commit = mark;
            if let Some(group) = &mut conversation.group {
                group.commit = mark;
            }
        }
        self.put_group(id);
    }

    /// The group's record, and what is known of it, as they are now.
    pub(in crate::core) fn put_group(&mut self, id: &ConversationId) {
        let Some(Conversation { group: Some(group), .. }) = self.conversations.get(id) else { return };
        let facts = group.facts.clone();
        let record = GroupRecord {
            title: facts.title.as_ref().to_owned(),
            owner: facts.owner.as_ref().map(|owner| owner.as_str().to_owned()).unwrap_or_default(),
            version: facts.version.0,
            members: facts.member_count,
            by_log: facts.by_log,
            mode: group.mode.into(),
            called_all: facts.called_all.0,
        };
        self.commits.put(Table::Groups, group_key(id), encode(&record));
        self.commits.then(Effect::Group(id.clone(), facts));
    }

    /// What is known of the group is durable: if it comes by the queues, its log is forgotten once everything was pushed.
    pub(in crate::core) fn end_log(&mut self, id: &ConversationId) {
        let Some(log) = self.logs.groups.get_mut(id) else { return };
        let group = self.conversations.get(id).and_then(|conversation| conversation.group.as_ref());
        // A later change may have begun it anew.
        if group.is_some_and(|group| !group.facts.by_log) {
            log.ended = true;
            if !self.logs.line.contains(id) {
                self.logs.line.push_back(id.clone());
            }
        }
    }

    pub(super) fn forget_log(&mut self, id: &ConversationId) {
        let Some(log) = self.logs.groups.remove(id) else { return };
        for connection in &log.listeners {
            if let Some(session) = self.session_mut(*connection) {
                session.listening.groups.remove(id);
                session.listening.behind.remove(id);
            }
        }
    }
}

/// What the queue tells of a change of the way.
pub(in crate::core) fn diffusion(id: &ConversationId, seq: u64, by_log: bool) -> Bytes {
    encode(&wire::Diffusion { conversation: id.as_str().to_owned(), seq, by_log })
}
