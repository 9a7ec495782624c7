//! What is done once per key, however often it is asked for: sends, changes of messages and of one's profile, the making of
//! a group.

use hongyan_protocol::wire::{self, relay_frame::Event};
use hongyan_protocol::{ConversationId, Key};

use super::Caller;
use crate::core::commit::{Effect, PendingKey};
use crate::core::defects::{self, Defect};
use crate::core::io::Verifier;
use crate::core::records::{KeyRecord, decode, encode, key_key};
use crate::core::refusal::Refusal;
use crate::core::relay::Relay;
use crate::store::{Store, Table};

/// What a key may name: one of these, once.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Keyed {
    Message,
    Change,
    Group,
    Profile,
}

impl Keyed {
    /// What it is that is answered so.
    fn of(answer: &Event) -> Option<Self> {
        Some(match answer {
            Event::Sent(_) => Self::Message,
            Event::MessageChanged(_) => Self::Change,
            Event::GroupDone(_) => Self::Group,
            Event::ProfileSet(_) => Self::Profile,
            _ => return None,
        })
    }
}

impl<S: Store, V: Verifier> Relay<S, V> {
    /// What a member asks of a conversation under a key, which is in memory then. `None` when there is nothing left to
    /// do: it was asked before, and is answered with the first result whatever has happened since, or is no member's.
    pub(super) fn open_keyed(
        &mut self,
        caller: &Caller,
        conversation: &str,
        key: &str,
        what: Keyed,
    ) -> Result<Option<(ConversationId, Key)>, Refusal> {
        self.may_write()?;
        let (id, key) = (ConversationId::new(conversation)?, Key::new(key)?);
        if self.answer_known_key(caller, &key, what)? {
            return Ok(None);
        }
        match self.conversations.load(&self.store, &id, &caller.user)? {
            Some(conversation) if conversation.has_member(&self.store, &id, &caller.user)? => {
                Ok(Some((id, key)))
            }
            _ => self.refuse_outsider(caller, &id).map(|()| None),
        }
    }

    /// Answers a request whose key was used before: at once, or when the first result is durable.
    pub(super) fn answer_known_key(
        &mut self,
        caller: &Caller,
        key: &Key,
        what: Keyed,
    ) -> Result<bool, Refusal> {
        if defects::is_on(Defect::DedupForgotten) {
            return Ok(false);
        }
        // That is told as it was then, so also to who has left since.
        if let Some(pending) = self.commits.keys.get(&(caller.user.clone(), key.clone()))
            && !defects::is_on(Defect::DedupWindowTooSmall)
        {
            let PendingKey { answer, commit } = pending.clone();
            check(what, Keyed::of(&answer))?;
            self.answer_at(commit, caller.connection, caller.request, answer);
            return Ok(true);
        }
        let Some(record) = self.store.get(Table::Keys, &key_key(&caller.user, key))? else {
            return Ok(false);
        };
        let record: KeyRecord = decode(record, "keys")?;
        check(what, Some(record.what()))?;
        let answer = match what {
            Keyed::Profile => self.profile_set_before(&caller.user, key, &record)?,
            Keyed::Change => match self.changed_before(caller, key, &record)? {
                Some(answer) => answer,
                None => return Ok(true),
            },
            Keyed::Message | Keyed::Group => first_answer(key, &record),
        };
        self.answer(caller.connection, caller.request, answer);
        Ok(true)
    }

    /// Keeps what a key was answered, and answers when that is durable.
    pub(super) fn remember_key(&mut self, caller: &Caller, key: Key, record: &KeyRecord, answer: Event) {
        let commit = self.commits.mark();
        self.commits.put(Table::Keys, key_key(&caller.user, &key), encode(record));
        self.commits.then(Effect::Key(caller.user.clone(), key.clone()));
        if defects::is_on(Defect::AckBeforeSync) {
            self.answer(caller.connection, caller.request, answer.clone());
        } else {
            self.commits.then(Effect::Answer(caller.connection, caller.request, answer.clone()));
        }
        self.commits.keys.insert((caller.user.clone(), key), PendingKey { answer, commit });
    }
}

impl KeyRecord {
    fn what(&self) -> Keyed {
        if self.is_of_profile() {
            Keyed::Profile
        } else if self.is_of_change() {
            Keyed::Change
        } else if self.seq == 0 {
            Keyed::Group
        } else {
            Keyed::Message
        }
    }
}

/// Another kind of write under a key is a mistake of the client's, which the first one's answer would hide.
fn check(what: Keyed, before: Option<Keyed>) -> Result<(), Refusal> {
    if before == Some(what) {
        Ok(())
    } else {
        Err(Refusal::bad("This key names another kind of write of yours."))
    }
}

/// What a send, or the making of a group, is answered: the same for the same key, always.
pub(super) fn first_answer(key: &Key, record: &KeyRecord) -> Event {
    let conversation = record.conversation.clone();
    if record.seq == 0 {
        return Event::GroupDone(wire::GroupDone { conversation, version: 1 });
    }
    Event::Sent(wire::Sent { key: key.as_str().to_owned(), conversation, seq: record.seq, time: record.time })
}
