//! Reading a queue: rows from the store, and the batches that devices get of them.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use hongyan_protocol::limits::{BATCH_BYTES_TARGET, BATCH_ENTRIES_MAX};
use hongyan_protocol::wire::{self, ResetCause};
use hongyan_protocol::{ChangeNumber, ConversationId, ConversationKind, GroupVersion, Pos, Seq, UserId};

use super::rows::{Reference, Row, Target};
use crate::core::batches::{BatchBuilder, Change};
use crate::core::defects::{self, Defect};
use crate::core::io::Verifier;
use crate::core::limits::CHANGES_SINCE_LEFT_MAX;
use crate::core::logs::diffusion;
use crate::core::records::{
    ChangeRecord, MembershipRecord, change_key, decode, encode, group_change_key, membership_key,
    message_key, number_of, prefix, prefix_end, queue_key,
};
use crate::core::relay::Relay;
use crate::store::{Order, Store, StoreError, Table};

/// Calls `visit` with the rows that have entries after a position, in order, until it returns false: first those in the
/// overflow, then the hot part.
pub(in crate::core) fn rows_after(
    store: &impl Store,
    user: &UserId,
    after: Pos,
    visit: &mut dyn FnMut(Row) -> bool,
) -> Result<(), StoreError> {
    let mut next = after.next();
    for is_second_look in [false, true] {
        let (mut has_moved, mut is_done) = (false, false);
        for table in [Table::Overflow, Table::Queue] {
            let (from, to) = (queue_key(user, next), prefix_end(user.as_str()));
            let mut fault = None;
            store.scan(table, &from, &to, Order::Ascending, &mut |key, value| match row(key, value) {
                // A commit that has not ended may have moved it into the overflow between the two looks.
                Ok(row) if row.first() > next && table == Table::Queue && !is_second_look => {
                    has_moved = true;
                    false
                }
                Ok(row) => {
                    next = row.last.next();
                    is_done = !visit(row);
                    !is_done
                }
                Err(error) => {
                    fault = Some(error);
                    false
                }
            })?;
            if let Some(error) = fault {
                return Err(error);
            }
            if is_done || has_moved {
                break;
            }
        }
        if !has_moved {
            break;
        }
    }
    Ok(())
}

/// The first or the last row of one part of a queue, and the bytes that it takes with its key.
pub(in crate::core) fn end_row(
    store: &impl Store,
    table: Table,
    user: &UserId,
    order: Order,
) -> Result<Option<(Row, u64)>, StoreError> {
    let mut found = Ok(None);
    let (from, to) = (prefix(user.as_str()), prefix_end(user.as_str()));
    store.scan(table, &from, &to, order, &mut |key, value| {
        found = row(key, value).map(|row| Some((row, (key.len() + value.len()) as u64)));
        false
    })?;
    found
}

/// A row as it is stored.
pub(super) fn row(key: &[u8], value: &[u8]) -> Result<Row, StoreError> {
    Row::decode(Pos(number_of(key)?), Bytes::copy_from_slice(value))
}

/// What a batch points to, read together: the messages of a conversation follow on each other in its log.
struct Messages(BTreeMap<(ConversationId, Seq), Bytes>);

impl Messages {
    /// Reads what these references point to, run by run; no more than a batch takes.
    fn read(store: &impl Store, references: &[Reference]) -> Result<Self, StoreError> {
        let mut wanted: Vec<_> = references
            .iter()
            .filter(|reference| reference.copy.is_none())
            .filter_map(|reference| match reference.target {
                Target::Message(seq) => Some((&reference.conversation, Seq(seq))),
                Target::Read(_)
                | Target::Group(_)
                | Target::Change(_)
                | Target::LogBegins(_)
                | Target::LogEnds(_)
                | Target::Profile(_) => None,
            })
            .collect();
        wanted.sort_unstable();
        wanted.dedup();
        let mut found = BTreeMap::new();
        let mut bytes_left = BATCH_BYTES_TARGET;
        for run in wanted.chunk_by(|(a, m), (b, n)| a == b && m.next() == *n) {
            let [(id, first), .., (_, last)] = run else { continue };
            let (from, to) = (message_key(id, *first), message_key(id, last.next()));
            let mut seq = *first;
            store.scan(Table::Messages, &from, &to, Order::Ascending, &mut |key, value| {
                // What is missing in the log is missed when its turn comes.
                if number_of(key).ok() != Some(seq.0) || bytes_left == 0 {
                    return false;
                }
                bytes_left = bytes_left.saturating_sub(value.len());
                found.insert(((*id).clone(), seq), Bytes::copy_from_slice(value));
                seq = seq.next();
                true
            })?;
        }
        Ok(Self(found))
    }
}

/// Which of these point to a profile that a later one points to as well. A profile is told as it is now, so once is
/// enough; and the last time, because a device passes over what it had before, when that was older.
fn told_later(references: &[Reference]) -> Vec<bool> {
    let mut profiles = BTreeSet::new();
    let is_told = |reference: &Reference| {
        matches!(reference.target, Target::Profile(_)) && !profiles.insert(reference.conversation.clone())
    };
    if defects::is_on(Defect::ProfileToldFirst) {
        return references.iter().map(is_told).collect();
    }
    let mut is_told: Vec<_> = references.iter().rev().map(is_told).collect();
    is_told.reverse();
    is_told
}

impl<S: Store, V: Verifier> Relay<S, V> {
    /// Why a queue can't be continued from a cursor, if so. A device that is new need not be told of everything that
    /// is kept.
    pub(in crate::core) fn stream_reset(
        &self,
        user: &UserId,
        cursor: Pos,
        is_new: bool,
    ) -> Result<Option<ResetCause>, StoreError> {
        let head = self.durable_head(user);
        if cursor >= head {
            return Ok((cursor > head).then_some(ResetCause::CursorAhead));
        }
        let is_trimmed = self.first_held(user)? > cursor.next();
        let is_long = is_new && head.0 > self.config.queue.capacity;
        Ok(match cursor {
            Pos::ZERO if is_trimmed || is_long => Some(ResetCause::NewDevice),
            _ if is_trimmed && !defects::is_on(Defect::ExpiredNotReset) => Some(ResetCause::CursorExpired),
            _ => None,
        })
    }

    /// The first position that a queue still holds; 1 of one that never held any.
    fn first_held(&self, user: &UserId) -> Result<Pos, StoreError> {
        let dropped = self.dropped_until(user);
        for table in [Table::Overflow, Table::Queue] {
            if let Some((row, _)) = end_row(&self.store, table, user, Order::Ascending)? {
                return Ok(row.first().max(dropped.next()));
            }
        }
        Ok(dropped.next())
    }

    /// Entries after `sent`, up to `until` at most; `None` when they are not kept any more.
    pub(in crate::core) fn read_batch(
        &self,
        user: &UserId,
        sent: Pos,
        until: Pos,
    ) -> Result<Option<(Pos, BatchBuilder)>, StoreError> {
        let mut references = Vec::new();
        let mut next = sent.next();
        let mut gap = false;
        rows_after(&self.store, user, sent, &mut |row| {
            gap = row.first() > next;
            let at = usize::try_from(next.0.saturating_sub(row.first().0)).unwrap_or(usize::MAX);
            for reference in row.entries.into_iter().skip(at) {
                if gap || next > until || references.len() >= BATCH_ENTRIES_MAX {
                    return false;
                }
                references.push(reference);
                next = next.next();
            }
            next <= until && references.len() < BATCH_ENTRIES_MAX
        })?;
        if references.is_empty() {
            if gap && self.first_held(user)? > sent.next() {
                return Ok(None);
            }
            let what = if gap { "begins after" } else { "ends before" };
            return Err(StoreError::Damaged(format!("the queue of {user} {what} entry {}", sent.next())));
        }
        let left = self.drop_stale_copies(user, &mut references)?;
        let mut messages = Messages::read(&self.store, &references)?;
        let (mut batch, mut last) = (BatchBuilder::default(), sent);
        let is_told_later = told_later(&references);
        for (reference, is_told_later) in references.into_iter().zip(is_told_later) {
            if batch.is_full() {
                break;
            }
            let left = left.get(&reference.conversation).filter(|left| left.may_hold(&reference.target));
            let change = match is_told_later {
                true => None,
                false => Some(self.change_of(user, last.next(), reference, &mut messages)?),
            };
            last = last.next();
            let change = match (left, change) {
                (Some(left), Some(change)) => left.leave(change)?,
                (_, change) => change,
            };
            batch.push(last, change);
        }
        Ok(Some((last, batch)))
    }

    /// What a message was when it was written is told only where no message of its conversation was ever changed: else
    /// the log is asked how it is now, so that nobody is told what was recalled. Gives what was changed in those that the
    /// user has left.
    fn drop_stale_copies(
        &self,
        user: &UserId,
        references: &mut [Reference],
    ) -> Result<BTreeMap<ConversationId, ChangedSince>, StoreError> {
        let (mut known, mut left) = (BTreeMap::new(), BTreeMap::new());
        let mut budget = CHANGES_SINCE_LEFT_MAX;
        for reference in references {
            if !matches!(reference.target, Target::Message(_) | Target::Change(_)) {
                continue;
            }
            let id = &reference.conversation;
            let is_changed = match known.get(id) {
                Some(is_changed) => *is_changed,
                None => {
                    let is_changed = self.has_changes(id)?;
                    if is_changed && let Some(changed) = self.changed_since_left(user, id, &mut budget)? {
                        left.insert(id.clone(), changed);
                    }
                    known.insert(id.clone(), is_changed);
                    is_changed
                }
            };
            if is_changed && !defects::is_on(Defect::CopyToldStale) {
                reference.copy = None;
            }
        }
        Ok(left)
    }

    /// Which messages were changed since the user's membership ended; `None` while it lasts, and where none was. Looks
    /// through no more changes than `budget`, and takes them off it.
    fn changed_since_left(
        &self,
        user: &UserId,
        id: &ConversationId,
        budget: &mut u64,
    ) -> Result<Option<ChangedSince>, StoreError> {
        if id.kind() == ConversationKind::Direct {
            return Ok(None);
        }
        let record = match self.commits.memberships.get(&(user.clone(), id.clone())) {
            Some(pending) => pending.durable,
            None => {
                let record = self.store.get(Table::Memberships, &membership_key(user, id))?;
                record.map(|record| decode::<MembershipRecord>(record, "memberships")).transpose()?
            }
        };
        let Some(left) = record.map(|record| record.left).filter(|left| *left > 0) else { return Ok(None) };
        let left = self.group_change(id, GroupVersion(left))?;
        let (after, last) = (ChangeNumber(left.changes), self.last_change(id)?);
        if last <= after {
            return Ok(None);
        }
        let Some(rest) = budget.checked_sub(last.0 - after.0) else {
            return Ok(Some(ChangedSince::Many));
        };
        *budget = rest;
        let (mut changed, mut fault) = (BTreeSet::new(), None);
        let (from, to) = (change_key(id, after.next()), change_key(id, last.next()));
        self.store.scan(Table::Changes, &from, &to, Order::Ascending, &mut |_, value| {
            match decode::<ChangeRecord>(Bytes::copy_from_slice(value), "changes") {
                Ok(record) => drop(changed.insert(record.seq)),
                Err(error) => fault = Some(error),
            }
            fault.is_none()
        })?;
        fault.map_or(Ok(Some(ChangedSince::These(changed))), Err)
    }

    fn change_of(
        &self,
        user: &UserId,
        pos: Pos,
        reference: Reference,
        messages: &mut Messages,
    ) -> Result<Change, StoreError> {
        let damaged = |what: &str| StoreError::Damaged(format!("entry {pos} of {user}'s queue {what}"));
        let Reference { conversation, target, copy } = reference;
        match (target, copy) {
            (Target::Message(_), Some(copy)) => Ok(Change::Message(copy)),
            (Target::Message(seq), None) => {
                let key = (conversation, Seq(seq));
                let message = match messages.0.remove(&key) {
                    Some(message) => Some(self.commits.durable_message(&key.0, key.1, message)),
                    None => self.message_durable(&key.0, key.1)?,
                };
                message.map(Change::Message).ok_or_else(|| damaged("points to a message that is not there"))
            }
            (Target::Change(number), _) => self
                .change_durable(&conversation, ChangeNumber(number))?
                .map(Change::OfMessage)
                .ok_or_else(|| damaged("points to a change of a message that is not there")),
            (Target::Group(version), _) => self
                .store
                .get(Table::Groups, &group_change_key(&conversation, GroupVersion(version)))?
                .map(Change::Group)
                .ok_or_else(|| damaged("points to a group's change that is not there")),
            (Target::Read(seq), _) => {
                let conversation = conversation.as_str().to_owned();
                Ok(Change::Read(encode(&wire::ReadMark { conversation, seq })))
            }
            (Target::Profile(_), _) => {
                let of = conversation.peer_of(user).ok_or_else(|| damaged("points to nobody's profile"))?;
                let profile = self.profile_durable(&of)?;
                profile.map(Change::Profile).ok_or_else(|| damaged("points to a profile that is not there"))
            }
            (Target::LogBegins(seq), _) => Ok(Change::Diffusion(diffusion(&conversation, seq, true))),
            (Target::LogEnds(seq), _) => Ok(Change::Diffusion(diffusion(&conversation, seq, false))),
        }
    }
}

/// The messages of a conversation that were changed since somebody left it.
enum ChangedSince {
    /// By their seqs.
    These(BTreeSet<u64>),
    /// They were not looked for.
    Many,
}

impl ChangedSince {
    /// Whether what is referred to may be of one of them, as far as that is known without reading it.
    fn may_hold(&self, target: &Target) -> bool {
        match (self, target) {
            (Self::These(seqs), Target::Message(seq)) => seqs.contains(seq),
            _ => true,
        }
    }

    /// What may be told of an entry: of a message that is not what it was then, nothing. One that is as it was written was
    /// so then, too; but of a change that is as good as undone it would tell that it was.
    fn leave(&self, change: Change) -> Result<Option<Change>, StoreError> {
        let (message, may_be_as_written) = match &change {
            Change::Message(bytes) => (decode::<wire::Message>(bytes.clone(), "messages")?, true),
            Change::OfMessage(bytes) => {
                let change: wire::MessageChange = decode(bytes.clone(), "changes")?;
                (change.message.unwrap_or_default(), false)
            }
            _ => return Ok(Some(change)),
        };
        let is_as_written =
            may_be_as_written && message.edited.max(message.recalled) == 0 && message.reactions.is_empty();
        let is_changed = match self {
            Self::These(seqs) => seqs.contains(&message.seq),
            Self::Many => true,
        };
        Ok((is_as_written || !is_changed).then_some(change))
    }
}
