//! Changes of messages: an edit, a recall, a reaction. Each is a row of its own beside the message, which becomes what it
//! is now; members learn of it as of a message, by their queues or by the group's log.

use std::sync::Arc;

use bytes::Bytes;
use hongyan_protocol::limits::{BATCH_BYTES_TARGET, CHANGE_PAGE_MAX, REACTION_BYTES_MAX, REACTIONS_MAX};
use hongyan_protocol::wire::{self, MessageChangeKind, Reaction, relay_frame::Event};
use hongyan_protocol::{ChangeNumber, Code, ConversationId, Key, Seq, UserId};

use super::keys::Keyed;
use super::send::check_content;
use super::{Caller, history};
use crate::core::batches::{Change, message_change};
use crate::core::commit::{Effect, LogNews, Pending};
use crate::core::defects::{self, Defect};
use crate::core::io::Verifier;
use crate::core::queue::rows::{Reference, Target};
use crate::core::records::{ChangeRecord, KeyRecord, change_key, decode, encode, message_key};
use crate::core::refusal::Refusal;
use crate::core::relay::Relay;
use crate::core::users::last_number;
use crate::store::{Store, StoreError, Table};

pub(super) fn change<S: Store, V: Verifier>(
    relay: &mut Relay<S, V>,
    caller: &Caller,
    body: wire::ChangeMessage,
) -> Result<(), Refusal> {
    check(&body, relay.config.content_bytes_max)?;
    let Some((id, key)) = relay.open_keyed(caller, &body.conversation, &body.key, Keyed::Change)? else {
        return Ok(());
    };
    let Some(conversation) = relay.conversations.get(&id) else { return Ok(()) };
    let (seq, user) = (Seq(body.seq), &caller.user);
    // Of what is not durable nobody can know.
    if seq == Seq::ZERO || seq > conversation.durable {
        return Err(Refusal::bad("There is no message with this seq."));
    }
    let owner = conversation.group.as_ref().and_then(|group| group.facts.owner.as_ref()) == Some(user);
    let by_log = conversation.comes_by_log();
    let users = if by_log { Arc::default() } else { conversation.users.clone() };
    let stored = relay.message(&id, seq)?;
    let mut message: wire::Message = decode(stored.clone(), "messages")?;
    let rights = Rights { sender: message.from == user.as_str(), owner };
    let mut known = KeyRecord {
        conversation: body.conversation.clone(),
        seq: seq.0,
        time: relay.now.time.0,
        ..KeyRecord::default()
    };
    if !relay.alter(&mut message, &body, user, rights)? {
        known.unchanged = true;
        let answer = Event::MessageChanged(wire::MessageChanged { key: body.key, message: Some(message) });
        // As any answer to a change it waits for the disk, and so for all that it rests on.
        relay.remember_key(caller, key, &known, answer);
        return Ok(());
    }
    for user in users.iter() {
        relay.users.load(&relay.store, user)?;
    }

    // Nothing below can fail: all of it is accepted together.
    let record = ChangeRecord {
        seq: seq.0,
        kind: body.kind,
        by: user.as_str().to_owned(),
        time: known.time,
        reaction: body.reaction,
        key: key.as_str().to_owned(),
    };
    let commit = relay.commits.mark();
    let Some(conversation) = relay.conversations.get_mut(&id) else { return Ok(()) };
    let number = conversation.changes.next();
    conversation.changes = number;
    conversation.commit = commit;
    let recalls_call = message.recalled > 0
        && conversation.group.as_ref().is_some_and(|group| group.facts.called_all == seq);
    if recalls_call && let Some(group) = &mut conversation.group {
        group.facts.called_all = Seq::ZERO;
        group.commit = commit;
        relay.put_group(&id);
    }
    let bytes = encode(&message);
    relay.put_message(&id, seq, stored, bytes.clone());
    relay.commits.put(Table::Changes, change_key(&id, number), encode(&record));
    relay.commits.then(Effect::Changed(id.clone(), seq, bytes.clone(), number));
    let answer = Event::MessageChanged(wire::MessageChanged { key: body.key, message: Some(message) });
    known.change = number.0;
    relay.remember_key(caller, key, &known, answer);
    let change = message_change(number, &record, bytes);
    if by_log {
        relay.commits.push_log(&id, LogNews::Change(number, change));
        return Ok(());
    }
    let reference = Reference { conversation: id, target: Target::Change(number.0), copy: None };
    let change = Change::OfMessage(change);
    for user in users.iter() {
        if *user != caller.user || !defects::is_on(Defect::OwnChangeNotMirrored) {
            relay.enqueue(user, &reference, &change);
        }
    }
    Ok(())
}

pub(super) fn page<S: Store, V: Verifier>(
    relay: &mut Relay<S, V>,
    caller: &Caller,
    body: wire::Changes,
) -> Result<(), Refusal> {
    let id = ConversationId::new(&body.conversation)?;
    let last = match relay.conversations.load(&relay.store, &id, &caller.user)? {
        Some(conversation) if conversation.has_reader(&relay.store, &id, &caller.user)? => {
            conversation.changes_durable
        }
        _ => return Err(Refusal::reject(Code::NOT_A_MEMBER)),
    };
    let limit = match usize::try_from(body.limit).unwrap_or(usize::MAX) {
        0 => CHANGE_PAGE_MAX,
        limit => limit.min(CHANGE_PAGE_MAX),
    };
    let (mut changes, mut bytes) = (Vec::new(), 0);
    let mut next = ChangeNumber(body.after).next();
    while next <= last && changes.len() < limit && bytes < BATCH_BYTES_TARGET {
        let change = relay.change_durable(&id, next)?.ok_or_else(|| missing(&id, next))?;
        bytes += change.len();
        changes.push(decode(change, "changes")?);
        next = next.next();
    }
    let page = wire::ChangePage { conversation: body.conversation, changes, last: last.0 };
    relay.answer(caller.connection, caller.request, Event::ChangePage(page));
    Ok(())
}

/// What a change can be judged by before the message is known.
fn check(body: &wire::ChangeMessage, content_bytes_max: usize) -> Result<(), Refusal> {
    match body.kind() {
        MessageChangeKind::Edited => check_content(&body.content, content_bytes_max),
        MessageChangeKind::Recalled => Ok(()),
        MessageChangeKind::Reacted | MessageChangeKind::Unreacted => {
            let name = &body.reaction;
            if name.is_empty() || name.len() > REACTION_BYTES_MAX || name.chars().any(char::is_control) {
                return Err(Refusal::bad("The reaction is empty, too long, or has control characters."));
            }
            Ok(())
        }
        MessageChangeKind::Unspecified => Err(Refusal::bad("It is not said what is to be changed.")),
    }
}

/// What the one who asks is.
#[derive(Clone, Copy)]
struct Rights {
    /// Has written the message.
    sender: bool,
    /// Owns the group.
    owner: bool,
}

impl<S: Store, V: Verifier> Relay<S, V> {
    /// Makes the message what it is to be; says whether that is something else than before.
    fn alter(
        &self,
        message: &mut wire::Message,
        body: &wire::ChangeMessage,
        user: &UserId,
        rights: Rights,
    ) -> Result<bool, Refusal> {
        let now = self.now.time;
        let is_late = now.0.saturating_sub(message.time) > self.config.change_within_ms;
        let may = match body.kind() {
            MessageChangeKind::Edited => rights.sender && !is_late,
            MessageChangeKind::Recalled => rights.owner || (rights.sender && !is_late),
            _ => true,
        };
        if message.recalled > 0 {
            return match body.kind() {
                MessageChangeKind::Recalled if rights.owner || rights.sender => Ok(false),
                _ => Err(Refusal::not_permitted("The message was recalled.")),
            };
        }
        if !may {
            return Err(if rights.sender {
                Refusal::not_permitted("It is too late to change this message.")
            } else {
                Refusal::reject(Code::NOT_PERMITTED)
            });
        }
        match body.kind() {
            MessageChangeKind::Edited => {
                if message.content == body.content {
                    return Ok(false);
                }
                message.content = body.content.clone();
                message.edited = now.0;
            }
            MessageChangeKind::Recalled => {
                if !defects::is_on(Defect::RecalledStillThere) {
                    message.content = Bytes::new();
                }
                message.mentions.clear();
                message.reactions.clear();
                message.recalled = now.0;
            }
            MessageChangeKind::Reacted => return react(&mut message.reactions, &body.reaction, user),
            MessageChangeKind::Unreacted => {
                return Ok(unreact(&mut message.reactions, &body.reaction, user));
            }
            MessageChangeKind::Unspecified => return Ok(false),
        }
        Ok(true)
    }

    /// A message as it is assigned.
    fn message(&self, id: &ConversationId, seq: Seq) -> Result<Bytes, StoreError> {
        if let Some(pending) = self.commits.messages.get(&(id.clone(), seq)) {
            return Ok(pending.assigned.clone());
        }
        let message = self.store.get(Table::Messages, &message_key(id, seq))?;
        message.ok_or_else(|| history::missing(id, seq))
    }

    /// Changes a message from what [`Relay::message`] gave.
    fn put_message(&mut self, id: &ConversationId, seq: Seq, before: Bytes, message: Bytes) {
        let commit = self.commits.mark();
        let key = (id.clone(), seq);
        let durable = match self.commits.messages.get(&key) {
            Some(pending) => pending.durable.clone(),
            None => Some(before),
        };
        self.commits.messages.insert(key, Pending { durable, assigned: message.clone(), commit });
        self.commits.put(Table::Messages, message_key(id, seq), message);
    }

    /// A message as it durably is.
    pub(in crate::core) fn message_durable(
        &self,
        id: &ConversationId,
        seq: Seq,
    ) -> Result<Option<Bytes>, StoreError> {
        let stored = self.store.get(Table::Messages, &message_key(id, seq))?;
        Ok(stored.map(|stored| self.commits.durable_message(id, seq, stored)))
    }

    /// A change that is durable, as a `wire::MessageChange`; `None` when there is none of this number.
    pub(in crate::core) fn change_durable(
        &self,
        id: &ConversationId,
        number: ChangeNumber,
    ) -> Result<Option<Bytes>, StoreError> {
        let Some(record) = self.store.get(Table::Changes, &change_key(id, number))? else { return Ok(None) };
        let record: ChangeRecord = decode(record, "changes")?;
        let message = self.message_durable(id, Seq(record.seq))?;
        Ok(message.map(|message| message_change(number, &record, message)))
    }

    /// The last change of a conversation's messages, durably.
    pub(in crate::core) fn last_change(&self, id: &ConversationId) -> Result<ChangeNumber, StoreError> {
        match self.conversations.get(id) {
            Some(conversation) => Ok(conversation.changes_durable),
            None => Ok(ChangeNumber(last_number(&self.store, Table::Changes, id.as_str())?)),
        }
    }

    /// Whether any message of the conversation was ever changed, durably.
    pub(in crate::core) fn has_changes(&self, id: &ConversationId) -> Result<bool, StoreError> {
        match self.conversations.get(id) {
            Some(conversation) => Ok(conversation.changes_durable > ChangeNumber::ZERO),
            None => Ok(self.store.get(Table::Changes, &change_key(id, ChangeNumber(1)))?.is_some()),
        }
    }

    /// The answer to a change that was asked for under this key: with the message as it is now, so only to a reader;
    /// `None` where she is refused.
    pub(super) fn changed_before(
        &mut self,
        caller: &Caller,
        key: &Key,
        record: &KeyRecord,
    ) -> Result<Option<Event>, Refusal> {
        let id = ConversationId::new(&record.conversation)
            .map_err(|_| StoreError::Damaged("a key names no valid conversation".into()))?;
        match self.conversations.load(&self.store, &id, &caller.user)? {
            Some(conversation) if conversation.has_reader(&self.store, &id, &caller.user)? => {}
            _ => return self.refuse_outsider(caller, &id).map(|()| None),
        }
        let seq = Seq(record.seq);
        let message = self.message_durable(&id, seq)?.ok_or_else(|| history::missing(&id, seq))?;
        let message = Some(decode(message, "messages")?);
        Ok(Some(Event::MessageChanged(wire::MessageChanged { key: key.as_str().to_owned(), message })))
    }
}

/// Adds a user's reaction; says whether it is new.
fn react(reactions: &mut Vec<Reaction>, name: &str, user: &UserId) -> Result<bool, Refusal> {
    let at = reactions.iter().position(|reaction| reaction.reaction == name);
    if at.is_some_and(|at| reactions[at].users.iter().any(|other| other == user.as_str())) {
        return Ok(false);
    }
    if reactions.iter().map(|reaction| reaction.users.len()).sum::<usize>() >= REACTIONS_MAX {
        return Err(Refusal::reject(Code::TOO_MANY_REACTIONS));
    }
    let user = user.as_str().to_owned();
    match at {
        Some(at) => reactions[at].users.push(user),
        None => reactions.push(Reaction { reaction: name.to_owned(), users: vec![user] }),
    }
    Ok(true)
}

/// Takes a user's reaction away; says whether there was one.
fn unreact(reactions: &mut Vec<Reaction>, name: &str, user: &UserId) -> bool {
    let Some(at) = reactions.iter().position(|reaction| reaction.reaction == name) else { return false };
    let users = &mut reactions[at].users;
    let before = users.len();
    users.retain(|other| other != user.as_str());
    let is_changed = users.len() < before;
    if users.is_empty() {
        reactions.remove(at);
    }
    is_changed
}

fn missing(id: &ConversationId, number: ChangeNumber) -> StoreError {
    StoreError::Damaged(format!("change {number} of a message of {id} is missing"))
}
