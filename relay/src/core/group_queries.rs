//! What the app's own server asks of groups: it may make and fill one of any size, and say how its messages travel.

use std::collections::BTreeSet;

use hongyan_protocol::limits::{GROUP_CHANGE_USERS_MAX, MEMBER_PAGE_MAX, TITLE_BYTES_MAX};
use hongyan_protocol::wire::GroupChangeKind;
use hongyan_protocol::{Code, ConversationId, ConversationKind, GroupVersion, Seq, UserId};

use super::commit::Mark;
use super::conversations::{Conversation, Group};
use super::io::Verifier;
use super::limits::QUERY_MEMBERS_MAX;
use super::queries::Answer;
use super::queue::Diffusion;
use super::refusal::Refusal;
use super::relay::Relay;
use crate::store::Store;

/// What the app's server wants of a group.
pub enum GroupQuery {
    /// How it is.
    Show,
    /// Some more members; who is one already changes nothing.
    Add(Vec<UserId>),
    /// Some members less; who is none changes nothing. Of an owner who goes the longest-standing member takes over.
    Remove(Vec<UserId>),
    /// From now on its messages reach its members in this way.
    SetMode(Diffusion),
    /// Members by id, ascending.
    Members {
        /// After this one.
        after: Option<UserId>,
        /// So many at most, and at most [`MEMBER_PAGE_MAX`].
        limit: usize,
    },
}

/// How a group is.
#[derive(Clone, Debug)]
pub struct GroupShown {
    /// Its id.
    pub id: ConversationId,
    /// Its title.
    pub title: String,
    /// Who may add and remove; `None` when nobody is left.
    pub owner: Option<UserId>,
    /// How many are in it.
    pub members: u32,
    /// Counts its changes.
    pub version: GroupVersion,
    /// The last message's number.
    pub last: Seq,
    /// How its messages are to reach its members …
    pub mode: Diffusion,
    /// … and whether they come by its log now.
    pub by_log: bool,
}

/// Whether a group may have this title.
#[must_use]
pub fn is_title(title: &str) -> bool {
    !title.is_empty() && title.len() <= TITLE_BYTES_MAX
}

impl<S: Store, V: Verifier> Relay<S, V> {
    /// A new group.
    pub(super) fn create_group_for_server(
        &mut self,
        title: String,
        owner: &UserId,
        members: Vec<UserId>,
        mode: Diffusion,
    ) -> Result<(Mark, Answer), Refusal> {
        self.may_write()?;
        if !is_title(&title) || members.len() > QUERY_MEMBERS_MAX {
            return Err(Refusal::reject(Code::BAD_REQUEST));
        }
        if members.len() >= self.config.group_members_max {
            return Err(Refusal::reject(Code::GROUP_FULL));
        }
        let id = self.make_group(title, owner, BTreeSet::from([owner.clone()]), mode)?;
        self.add_members(&id, members.into_iter().collect())?;
        self.show_group(&id)
    }

    pub(super) fn group_query(
        &mut self,
        id: &ConversationId,
        query: GroupQuery,
    ) -> Result<(Mark, Answer), Refusal> {
        if id.kind() != ConversationKind::Group {
            return Ok((Mark::NONE, Answer::NoSuchGroup));
        }
        if self.conversations.load_group(&self.store, id)?.is_none() {
            return Ok((Mark::NONE, Answer::NoSuchGroup));
        }
        match query {
            GroupQuery::Show => {}
            GroupQuery::Members { after, limit } => return self.page_for_server(id, after.as_ref(), limit),
            GroupQuery::Add(users) | GroupQuery::Remove(users) if users.len() > QUERY_MEMBERS_MAX => {
                return Err(Refusal::reject(Code::BAD_REQUEST));
            }
            GroupQuery::Add(users) => {
                self.may_write()?;
                self.add_members(id, users.into_iter().collect())?;
            }
            GroupQuery::Remove(users) => {
                self.may_write()?;
                self.remove_members(id, users.into_iter().collect())?;
            }
            GroupQuery::SetMode(mode) => {
                self.may_write()?;
                self.set_mode(id, mode)?;
            }
        }
        self.show_group(id)
    }

    fn group(&self, id: &ConversationId) -> Option<(&Conversation, &Group)> {
        let conversation = self.conversations.get(id)?;
        Some((conversation, conversation.group.as_ref()?))
    }

    /// A change names all whom it concerns, so that they know; many make several changes.
    fn add_members(&mut self, id: &ConversationId, users: BTreeSet<UserId>) -> Result<(), Refusal> {
        let mut rest = self.among(id, users, false)?;
        let count = self.group(id).map_or(0, |(_, group)| group.facts.member_count);
        // All or none.
        if usize::try_from(count).unwrap_or(usize::MAX).saturating_add(rest.len())
            > self.config.group_members_max
        {
            return Err(Refusal::reject(Code::GROUP_FULL));
        }
        while !rest.is_empty() {
            let Some((_, group)) = self.group(id) else { return Ok(()) };
            let portion = take_some(&mut rest);
            // Where nobody is left, the first who comes is the owner.
            let owner = group.facts.owner.clone().or_else(|| portion.first().cloned());
            let Some(by) = owner.clone() else { return Ok(()) };
            self.change_group(id, &by, GroupChangeKind::Added, portion, owner)?;
        }
        Ok(())
    }

    fn remove_members(&mut self, id: &ConversationId, users: BTreeSet<UserId>) -> Result<(), Refusal> {
        let mut rest = self.among(id, users, true)?;
        while !rest.is_empty() {
            let Some(by) = self.group(id).and_then(|(_, group)| group.facts.owner.clone()) else {
                return Ok(());
            };
            let mut portion = take_some(&mut rest);
            if portion.contains(&by) && (portion.len() > 1 || !rest.is_empty()) {
                // The owner goes last, so that everybody learns who takes over.
                portion.remove(&by);
                if portion.is_empty() {
                    portion = take_some(&mut rest);
                }
                rest.insert(by.clone());
            }
            let (kind, owner) = if portion.contains(&by) {
                (GroupChangeKind::Left, self.heir(id, &by)?)
            } else {
                (GroupChangeKind::Removed, Some(by.clone()))
            };
            self.change_group(id, &by, kind, portion, owner)?;
        }
        Ok(())
    }

    fn set_mode(&mut self, id: &ConversationId, mode: Diffusion) -> Result<(), Refusal> {
        let Some(group) = self.conversations.get_mut(id).and_then(|found| found.group.as_mut()) else {
            return Ok(());
        };
        let count = usize::try_from(group.facts.member_count).unwrap_or(usize::MAX);
        let before = std::mem::replace(&mut group.mode, mode);
        let over = match self.change_over_due(id, count) {
            Ok(over) => over,
            Err(error) => {
                if let Some(group) = self.conversations.get_mut(id).and_then(|found| found.group.as_mut()) {
                    group.mode = before;
                }
                return Err(error.into());
            }
        };
        match over {
            Some(over) => self.change_over(id, over),
            None if before != mode => self.keep_group(id),
            None => {}
        }
        Ok(())
    }

    fn show_group(&mut self, id: &ConversationId) -> Result<(Mark, Answer), Refusal> {
        let Some((conversation, group)) = self.group(id) else {
            return Ok((Mark::NONE, Answer::NoSuchGroup));
        };
        let facts = &group.facts;
        let shown = GroupShown {
            id: id.clone(),
            title: facts.title.as_ref().to_owned(),
            owner: facts.owner.clone(),
            members: facts.member_count,
            version: facts.version,
            last: conversation.durable,
            mode: group.mode,
            by_log: facts.by_log,
        };
        Ok((group.commit, Answer::Group(shown)))
    }

    fn page_for_server(
        &self,
        id: &ConversationId,
        after: Option<&UserId>,
        limit: usize,
    ) -> Result<(Mark, Answer), Refusal> {
        let Some((_, group)) = self.group(id) else { return Ok((Mark::NONE, Answer::NoSuchGroup)) };
        let limit = limit.clamp(1, MEMBER_PAGE_MAX);
        let mut members: Vec<UserId> =
            group.members.page(&self.store, id, after, limit + 1)?.into_keys().collect();
        let more = members.len() > limit;
        members.truncate(limit);
        Ok((group.commit, Answer::Members(members, more)))
    }
}

/// As many as one change may name.
fn take_some(users: &mut BTreeSet<UserId>) -> BTreeSet<UserId> {
    let rest = match users.iter().nth(GROUP_CHANGE_USERS_MAX).cloned() {
        Some(first) => users.split_off(&first),
        None => BTreeSet::new(),
    };
    std::mem::replace(users, rest)
}
