//! A message: accepted, committed once, and then told to everybody.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use hongyan_protocol::limits::MENTIONS_MAX;
use hongyan_protocol::wire;
use hongyan_protocol::{Code, ConversationId, MENTION_ALL, UserId};
use prost::Message as _;

use super::Caller;
use super::keys::{Keyed, first_answer};
use crate::core::batches::Change;
use crate::core::commit::{Effect, LogNews};
use crate::core::defects::{self, Defect};
use crate::core::io::Verifier;
use crate::core::queue::Diffusion;
use crate::core::queue::rows::{Reference, Target};
use crate::core::records::{KeyRecord, MembershipRecord, encode, message_key};
use crate::core::refusal::Refusal;
use crate::core::relay::Relay;
use crate::store::{Store, StoreError, Table};

pub(super) fn send<S: Store, V: Verifier>(
    relay: &mut Relay<S, V>,
    caller: &Caller,
    body: wire::Send,
) -> Result<(), Refusal> {
    check(&body, relay.config.content_bytes_max)?;
    let Some((id, key)) = relay.open_keyed(caller, &body.conversation, &body.key, Keyed::Message)? else {
        return Ok(());
    };
    let Some(conversation) = relay.conversations.get(&id) else { return Ok(()) };
    if body.reply_to > conversation.assigned.0 {
        return Err(Refusal::bad("There is no message to reply to with this seq."));
    }
    let by_log = conversation.comes_by_log();
    let mode = conversation.group.as_ref().map_or(Diffusion::Auto, |group| group.mode);
    // A group's log reaches everybody by itself; whom the message calls has it in her queue besides.
    let users = if by_log { relay.called(&id, &body.mentions)? } else { conversation.users.clone() };
    for user in users.iter() {
        relay.users.load(&relay.store, user)?;
    }
    // Those two have not been told of each other.
    let is_new_direct = relay.is_new_direct(&id);
    let profiles = if is_new_direct { relay.profiles_of(&users)? } else { Vec::new() };

    // Nothing below can fail: all of it is accepted together.
    let mark = relay.commits.mark();
    let Some(conversation) = relay.conversations.get_mut(&id) else { return Ok(()) };
    let seq = conversation.assigned.next();
    conversation.assigned = seq;
    conversation.commit = mark;
    if by_log
        && body.mentions.iter().any(|user| user == MENTION_ALL)
        && let Some(group) = &mut conversation.group
    {
        group.facts.called_all = seq;
        group.commit = mark;
        relay.put_group(&id);
    }

    let time = relay.now.time;
    let message = encode(&wire::Message {
        conversation: body.conversation,
        seq: seq.0,
        key: body.key,
        from: caller.user.as_str().to_owned(),
        time: time.0,
        content: body.content,
        reply_to: body.reply_to,
        mentions: body.mentions,
        ..wire::Message::default()
    });
    relay.commits.put(Table::Messages, message_key(&id, seq), message.clone());
    relay.commits.then(Effect::Log(id.clone(), seq));
    let record =
        KeyRecord { conversation: id.as_str().to_owned(), seq: seq.0, time: time.0, ..KeyRecord::default() };
    let answer = first_answer(&key, &record);
    relay.remember_key(caller, key, &record, answer);
    if is_new_direct {
        for user in users.iter() {
            relay.put_membership(user, &id, None, MembershipRecord::default());
        }
        relay.introduce(&id, profiles);
    }
    if by_log {
        relay.commits.push_log(&id, LogNews::Message(seq, message.clone()));
    }
    let copies = relay.config.diffusion.copies(mode, users.len(), message.len());
    let copy = copies.then(|| message.clone());
    let reference = Reference { conversation: id, target: Target::Message(seq.0), copy };
    let change = Change::Message(message);
    for user in users.iter() {
        if *user != caller.user || !defects::is_on(Defect::OwnNotMirrored) {
            relay.enqueue(user, &reference, &change);
        }
    }
    relay.count_send();
    Ok(())
}

fn check(body: &wire::Send, content_bytes_max: usize) -> Result<(), Refusal> {
    check_content(&body.content, content_bytes_max)?;
    if body.mentions.len() > MENTIONS_MAX {
        return Err(Refusal::bad("The message mentions too many users."));
    }
    for user in &body.mentions {
        UserId::new(user)?;
    }
    Ok(())
}

/// What people write must be a `Content` within the limit.
pub(super) fn check_content(content: &Bytes, content_bytes_max: usize) -> Result<(), Refusal> {
    if content.len() > content_bytes_max {
        return Err(Refusal::reject(Code::CONTENT_TOO_LARGE));
    }
    if wire::Content::decode(content.clone()).is_err() {
        return Err(Refusal::bad("The content cannot be read."));
    }
    Ok(())
}

impl<S: Store, V: Verifier> Relay<S, V> {
    /// Those among the mentioned who are members, each once, ascending.
    fn called(&self, id: &ConversationId, mentions: &[String]) -> Result<Arc<[UserId]>, StoreError> {
        let mut called = BTreeSet::new();
        let Some(conversation) = self.conversations.get(id) else { return Ok(Arc::default()) };
        for user in mentions.iter().filter_map(|user| UserId::new(user).ok()) {
            if conversation.has_member(&self.store, id, &user)? {
                called.insert(user);
            }
        }
        Ok(called.into_iter().collect())
    }
}
