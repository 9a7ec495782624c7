//! Who is in a group. A small group's members are held in memory, since each of its messages goes to each of them. Of
//! a group that comes by its log nothing is done per member, so hers are looked up where they are needed, and here is
//! only what the store does not have yet.

use std::cell::RefCell;
use std::collections::BTreeMap;

use bytes::Bytes;
use hongyan_protocol::{ConversationId, GroupVersion, UserId};

use super::commit::Mark;
use super::limits::LOOKED_UP_MEMBERS_MAX;
use super::records::{MemberRecord, decode, member_key, prefix, prefix_end, second_of};
use crate::store::{Order, Store, StoreError, Table};

/// Each member with the version of the group that made her one, as assigned.
#[derive(Default)]
pub(super) struct Members {
    held: Option<BTreeMap<UserId, GroupVersion>>,
    /// What the store may not have yet; `None` for who is none any more.
    unsettled: BTreeMap<UserId, (Option<GroupVersion>, Mark)>,
    /// Who was looked up lately, as the store has them: who writes much is not looked up for each message.
    looked_up: RefCell<BTreeMap<UserId, GroupVersion>>,
}

impl Members {
    /// All of them are here.
    pub(super) fn held(members: BTreeMap<UserId, GroupVersion>) -> Self {
        Self { held: Some(members), ..Self::default() }
    }

    /// How many are in memory.
    pub(super) fn weight(&self) -> usize {
        self.held.as_ref().map_or(0, BTreeMap::len) + self.unsettled.len()
    }

    /// The version that made a user a member; `None` when she is none.
    pub(super) fn joined(
        &self,
        store: &impl Store,
        id: &ConversationId,
        user: &UserId,
    ) -> Result<Option<GroupVersion>, StoreError> {
        if let Some(held) = &self.held {
            return Ok(held.get(user).copied());
        }
        if let Some((joined, _)) = self.unsettled.get(user) {
            return Ok(*joined);
        }
        let mut looked_up = self.looked_up.borrow_mut();
        if let Some(joined) = looked_up.get(user) {
            return Ok(Some(*joined));
        }
        let Some(record) = store.get(Table::Members, &member_key(id, user))? else { return Ok(None) };
        let joined = GroupVersion(decode::<MemberRecord>(record, "members")?.joined);
        if looked_up.len() >= LOOKED_UP_MEMBERS_MAX {
            looked_up.clear();
        }
        looked_up.insert(user.clone(), joined);
        Ok(Some(joined))
    }

    /// The members in memory; of a group that comes by its log there are none.
    pub(super) fn all_held(&self) -> impl Iterator<Item = &UserId> {
        self.held.iter().flat_map(BTreeMap::keys)
    }

    pub(super) fn insert(&mut self, user: UserId, version: GroupVersion, commit: Mark) {
        if let Some(held) = &mut self.held {
            held.insert(user.clone(), version);
        }
        self.looked_up.get_mut().remove(&user);
        self.unsettled.insert(user, (Some(version), commit));
    }

    pub(super) fn remove(&mut self, user: &UserId, commit: Mark) {
        if let Some(held) = &mut self.held {
            held.remove(user);
        }
        self.looked_up.get_mut().remove(user);
        self.unsettled.insert(user.clone(), (None, commit));
    }

    /// What was committed up to now can be read from the store.
    pub(super) fn settle(&mut self, durable: Mark) {
        self.unsettled.retain(|_, (_, commit)| *commit > durable);
    }

    /// They are looked up from here on.
    pub(super) fn let_go(&mut self) {
        self.held = None;
    }

    /// All of them are here from now on, as [`Members::page`] gave them, and what changed since.
    pub(super) fn hold(&mut self, mut members: BTreeMap<UserId, GroupVersion>) {
        for (user, (joined, _)) in &self.unsettled {
            match joined {
                Some(joined) => drop(members.insert(user.clone(), *joined)),
                None => drop(members.remove(user)),
            }
        }
        self.looked_up.get_mut().clear();
        self.held = Some(members);
    }

    /// Up to `limit` members after a user, ascending.
    pub(super) fn page(
        &self,
        store: &impl Store,
        id: &ConversationId,
        after: Option<&UserId>,
        limit: usize,
    ) -> Result<BTreeMap<UserId, GroupVersion>, StoreError> {
        use std::ops::Bound::{Excluded, Unbounded};
        let range = (after.map_or(Unbounded, Excluded), Unbounded::<&UserId>);
        if let Some(held) = &self.held {
            let page = held.range::<UserId, _>(range).take(limit);
            return Ok(page.map(|(user, joined)| (user.clone(), *joined)).collect());
        }
        // As many more as may be gone meanwhile.
        let rows = limit.saturating_add(self.unsettled.len());
        let mut page = stored(store, id, after, rows)?;
        let is_last = page.len() < rows;
        let end = page.last_key_value().map(|(user, _)| user.clone());
        for (user, (joined, _)) in self.unsettled.range::<UserId, _>(range) {
            match joined {
                None => drop(page.remove(user)),
                Some(joined) if is_last || end.as_ref().is_some_and(|end| user <= end) => {
                    page.insert(user.clone(), *joined);
                }
                Some(_) => {}
            }
        }
        while page.len() > limit {
            page.pop_last();
        }
        Ok(page)
    }
}

/// Members as the store has them, ascending, up to `limit` after a user.
pub(super) fn stored(
    store: &impl Store,
    id: &ConversationId,
    after: Option<&UserId>,
    limit: usize,
) -> Result<BTreeMap<UserId, GroupVersion>, StoreError> {
    let from = match after {
        // The key ends with a zero byte, and this is the next key there can be.
        Some(user) => [member_key(id, user).as_ref(), &[0]].concat().into(),
        None => prefix(id.as_str()),
    };
    let mut members = BTreeMap::new();
    let mut fault = None;
    store.scan(Table::Members, &from, &prefix_end(id.as_str()), Order::Ascending, &mut |key, value| {
        let member = second_of(key).and_then(|user| {
            let user = UserId::new(user).map_err(|_| {
                StoreError::Damaged(format!("the group {id} has a member without a valid id"))
            })?;
            let record: MemberRecord = decode(Bytes::copy_from_slice(value), "members")?;
            Ok((user, GroupVersion(record.joined)))
        });
        match member {
            Ok((user, joined)) => drop(members.insert(user, joined)),
            Err(error) => fault = Some(error),
        }
        fault.is_none() && members.len() < limit
    })?;
    fault.map_or(Ok(members), Err)
}
