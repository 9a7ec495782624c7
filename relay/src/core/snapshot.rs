//! The snapshot that follows a reset: a user's conversations as they are, in frames, as fast as the connection takes
//! them. It is read while it is sent, so it may already hold what the entries after it tell again.

use std::collections::VecDeque;

use hongyan_protocol::limits::{BATCH_BYTES_TARGET, OWN_UNREAD_MAX, SNAPSHOT_CONVERSATIONS_MAX};
use hongyan_protocol::wire::{self, relay_frame::Event};
use hongyan_protocol::{ConversationId, GroupVersion, Seq, UserId};
use prost::Message as _;

use super::io::{ConnectionId, Verifier};
use super::limits::{OWN_UNREAD_SCAN_BYTES_MAX, OWN_UNREAD_SCAN_MAX, SNAPSHOT_SCAN_MAX};
use super::records::{
    GroupRecord, MembershipRecord, decode, group_change_key, group_key, membership_key, message_key, prefix,
    prefix_end, second_of,
};
use super::relay::Relay;
use super::users::last_number;
use crate::store::{Order, Store, StoreError, Table};

/// How far a snapshot has come.
#[derive(Default)]
pub(super) struct SnapshotProgress {
    /// The last conversation that was looked at.
    after: Option<ConversationId>,
    /// States that were read but not sent: the frame was full.
    ready: VecDeque<wire::ConversationState>,
}

impl<S: Store, V: Verifier> Relay<S, V> {
    /// Sends the next frame of the snapshot.
    pub(super) fn send_snapshot(&mut self, connection: ConnectionId) -> Result<(), StoreError> {
        let Some(session) = self.session_mut(connection) else { return Ok(()) };
        let user = session.user.clone();
        let Some(mut progress) = session.snapshot.take() else { return Ok(()) };
        let mut frame = wire::Snapshot::default();
        let mut bytes = 0;
        let mut scans_left = SNAPSHOT_SCAN_MAX;
        let mut memberships =
            self.memberships_after(&user, progress.after.as_ref(), SNAPSHOT_CONVERSATIONS_MAX)?;
        let is_last_page = memberships.len() < SNAPSHOT_CONVERSATIONS_MAX;
        memberships.reverse();
        while frame.conversations.len() < SNAPSHOT_CONVERSATIONS_MAX && scans_left >= OWN_UNREAD_SCAN_MAX {
            let state = match progress.ready.pop_front() {
                Some(state) => state,
                None => {
                    let Some((id, record)) = memberships.pop() else { break };
                    let state = self.conversation_state(&user, &id, &record, &mut scans_left)?;
                    progress.after = Some(id);
                    match state {
                        Some(state) => state,
                        None => continue,
                    }
                }
            };
            let len = state.encoded_len() + 8;
            if bytes > 0 && bytes + len > BATCH_BYTES_TARGET {
                progress.ready.push_front(state);
                break;
            }
            bytes += len;
            frame.conversations.push(state);
        }
        frame.done = is_last_page && memberships.is_empty() && progress.ready.is_empty();
        if !frame.done
            && let Some(session) = self.session_mut(connection)
        {
            session.snapshot = Some(progress);
        }
        self.push_event(connection, Event::Snapshot(frame));
        Ok(())
    }

    /// A page of a user's durable memberships, ascending by conversation.
    pub(super) fn memberships_after(
        &self,
        user: &UserId,
        after: Option<&ConversationId>,
        limit: usize,
    ) -> Result<Vec<(ConversationId, MembershipRecord)>, StoreError> {
        let mut page = Vec::new();
        let mut fault = None;
        let from = match after {
            // The key ends with a zero byte, and this is the next key there can be.
            Some(id) => [membership_key(user, id).as_ref(), &[0]].concat().into(),
            None => prefix(user.as_str()),
        };
        let to = prefix_end(user.as_str());
        self.store.scan(Table::Memberships, &from, &to, Order::Ascending, &mut |key, value| {
            let row = second_of(key).and_then(|id| {
                let id = ConversationId::new(id)
                    .map_err(|_| StoreError::Damaged("a membership names no valid conversation".into()))?;
                let record = decode(bytes::Bytes::copy_from_slice(value), "memberships")?;
                Ok((id, record))
            });
            match row {
                Ok(row) => page.push(row),
                Err(error) => fault = Some(error),
            }
            fault.is_none() && page.len() < limit
        })?;
        fault.map_or(Ok(page), Err)
    }

    /// The conversation as the user durably has it; `None` when it is not durably there yet.
    fn conversation_state(
        &self,
        user: &UserId,
        id: &ConversationId,
        stored: &MembershipRecord,
        scans_left: &mut usize,
    ) -> Result<Option<wire::ConversationState>, StoreError> {
        let record = match self.commits.memberships.get(&(user.clone(), id.clone())) {
            Some(pending) => match pending.durable {
                Some(record) => record,
                None => return Ok(None),
            },
            None => *stored,
        };
        let mut state = wire::ConversationState {
            conversation: id.as_str().to_owned(),
            read_seq: record.read_seq,
            left: record.left > 0,
            ..Default::default()
        };
        if record.left > 0 {
            // The user knows the group as it was when the membership ended, and nothing later (promise R8).
            let change = self.group_change(id, GroupVersion(record.left))?;
            (state.title, state.owner) = (change.title, change.owner);
            (state.member_count, state.version) = (change.member_count, change.version);
            state.last_seq = change.last_seq;
            return Ok(Some(state));
        }
        state.last_seq = match self.conversations.get(id) {
            Some(conversation) => {
                if let Some(group) = &conversation.group {
                    let facts = &group.durable;
                    state.title = facts.title.as_ref().to_owned();
                    state.owner =
                        facts.owner.as_ref().map(|owner| owner.as_str().to_owned()).unwrap_or_default();
                    (state.member_count, state.version) = (facts.member_count, facts.version.0);
                    state.by_log = facts.by_log;
                }
                state.changes = conversation.changes_durable.0;
                conversation.durable.0
            }
            None => {
                self.group_facts_from_store(id, &mut state)?;
                state.changes = last_number(&self.store, Table::Changes, id.as_str())?;
                last_number(&self.store, Table::Messages, id.as_str())?
            }
        };
        if state.last_seq > 0 {
            self.read_messages(user, id, &mut state, scans_left)?;
        }
        Ok(Some(state))
    }

    /// A durable change of a group.
    pub(super) fn group_change(
        &self,
        id: &ConversationId,
        version: GroupVersion,
    ) -> Result<wire::GroupChange, StoreError> {
        let change = self.store.get(Table::Groups, &group_change_key(id, version))?;
        let change = change
            .ok_or_else(|| StoreError::Damaged(format!("the change {version} of {id} is not there")))?;
        decode(change, "groups")
    }

    /// For a group that is not in memory, so nothing of it is pending.
    fn group_facts_from_store(
        &self,
        id: &ConversationId,
        state: &mut wire::ConversationState,
    ) -> Result<(), StoreError> {
        let Some(record) = self.store.get(Table::Groups, &group_key(id))? else { return Ok(()) };
        let record: GroupRecord = decode(record, "groups")?;
        (state.title, state.owner) = (record.title, record.owner);
        (state.member_count, state.version) = (record.members, record.version);
        state.by_log = record.by_log;
        Ok(())
    }

    /// The last message, and which of the unread ones are the user's own.
    fn read_messages(
        &self,
        user: &UserId,
        id: &ConversationId,
        state: &mut wire::ConversationState,
        scans_left: &mut usize,
    ) -> Result<(), StoreError> {
        let first = Seq(state.read_seq.min(state.last_seq - 1)).next();
        let (from, to) = (message_key(id, first), message_key(id, Seq(state.last_seq).next()));
        let (mut scanned, mut bytes) = (0, 0);
        let mut fault = None;
        self.store.scan(Table::Messages, &from, &to, Order::Descending, &mut |_, value| {
            // Only the last one is told, and of no other its sender changes.
            let mut message = bytes::Bytes::copy_from_slice(value);
            if scanned == 0 {
                message = self.commits.durable_message(id, Seq(state.last_seq), message);
            }
            match decode::<wire::Message>(message, "messages") {
                Ok(message) => {
                    if message.from == user.as_str() && message.seq > state.read_seq {
                        state.own_unread.push(message.seq);
                    }
                    if scanned == 0 {
                        state.last_message = Some(message);
                    }
                }
                Err(error) => fault = Some(error),
            }
            scanned += 1;
            bytes += value.len();
            fault.is_none()
                && scanned < OWN_UNREAD_SCAN_MAX
                && bytes < OWN_UNREAD_SCAN_BYTES_MAX
                && state.own_unread.len() < OWN_UNREAD_MAX
        })?;
        // Large messages use the turn up as well.
        let share = (bytes / (OWN_UNREAD_SCAN_BYTES_MAX / OWN_UNREAD_SCAN_MAX)).max(scanned);
        *scans_left = scans_left.saturating_sub(share);
        state.own_unread.reverse();
        match (fault, &state.last_message) {
            (Some(error), _) => Err(error),
            (None, None) => Err(StoreError::Damaged(format!("the last message of {id} is not there"))),
            (None, Some(_)) => Ok(()),
        }
    }
}
