//! A device's local cache, as the platform keeps it: a transaction is there whole or not at all.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use hongyan_client::{Restored, Write};
use hongyan_protocol::{ConversationId, DeviceId, Seq, UserId, wire};
use prost::Message as _;

use crate::tabs::TabLog;

/// The client's record of cursor, epoch and device, as its documentation gives it.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Meta {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(string, tag = "2")]
    user: String,
    #[prost(string, tag = "3")]
    pub(crate) device: String,
    /// The queue's epoch.
    #[prost(string, tag = "4")]
    pub(crate) epoch: String,
    /// The position up to which the cache holds the queue.
    #[prost(uint64, tag = "5")]
    pub(crate) cursor: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
struct OutboxRecord {
    #[prost(message, optional, tag = "1")]
    send: Option<wire::Send>,
}

/// The client's record of a conversation.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
struct ConversationRecord {
    #[prost(message, optional, tag = "1")]
    state: Option<wire::ConversationState>,
    #[prost(message, optional, tag = "5")]
    log: Option<LogRecord>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
#[prost(skip_debug)]
struct LogRecord {
    #[prost(uint64, tag = "1")]
    told: u64,
}

/// What it holds.
#[derive(Clone, Default)]
pub(crate) struct Cache {
    meta: Option<Bytes>,
    conversations: BTreeMap<ConversationId, Bytes>,
    messages: BTreeMap<ConversationId, BTreeMap<Seq, Bytes>>,
    outbox: BTreeMap<u64, Bytes>,
    profiles: BTreeMap<UserId, Bytes>,
    /// For the checker: the epoch and position of the snapshot that it began with, after which it holds everything.
    pub(crate) from: (String, u64),
    /// What saves told, where tabs share the cache.
    pub(crate) log: TabLog,
    /// Of who took it over last.
    pub(crate) term: u64,
}

impl Cache {
    /// That of a new tab which can't share the cache of its device: it has the device's id and nothing else.
    pub(crate) fn of_device(user: &UserId, device: &DeviceId) -> Self {
        let (user, device) = (user.as_str().to_owned(), device.as_str().to_owned());
        let meta = Meta { version: 2, user, device, ..Meta::default() };
        Self { meta: Some(meta.encode_to_vec().into()), ..Self::default() }
    }

    /// One transaction.
    pub(crate) fn save(&mut self, writes: &[Write]) {
        for write in writes {
            match write.clone() {
                Write::Clear => {
                    *self = Self {
                        from: self.from.clone(),
                        log: std::mem::take(&mut self.log),
                        term: self.term,
                        ..Self::default()
                    };
                }
                Write::Meta(record) => self.meta = Some(record),
                Write::Conversation(id, record) => {
                    self.conversations.insert(id, record);
                }
                Write::ConversationGone(id) => {
                    self.conversations.remove(&id);
                    self.messages.remove(&id);
                }
                Write::Message(id, seq, record) => {
                    self.messages.entry(id).or_default().insert(seq, record);
                }
                Write::MessagesBelow(id, bound) => {
                    if let Some(messages) = self.messages.get_mut(&id) {
                        *messages = messages.split_off(&bound);
                    }
                }
                Write::Outbox(order, record) => {
                    self.outbox.insert(order, record);
                }
                Write::OutboxGone(order) => {
                    self.outbox.remove(&order);
                }
                Write::Profile(user, record) => {
                    self.profiles.insert(user, record);
                }
                Write::ProfileGone(user) => {
                    self.profiles.remove(&user);
                }
            }
        }
    }

    /// What a starting client gets.
    #[must_use]
    pub(crate) fn restored(&self) -> Restored {
        Restored {
            meta: self.meta.clone(),
            conversations: self.conversations.values().cloned().collect(),
            outbox: self.outbox.iter().map(|(order, record)| (*order, record.clone())).collect(),
            profiles: self.profiles.values().cloned().collect(),
            term: self.term,
        }
    }

    /// Messages of a range.
    #[must_use]
    pub(crate) fn load(&self, of: &ConversationId, from: Seq, to: Seq) -> Vec<(Seq, Bytes)> {
        let Some(messages) = self.messages.get(of).filter(|_| from <= to) else { return Vec::new() };
        messages.range(from..=to).map(|(seq, record)| (*seq, record.clone())).collect()
    }

    /// One message.
    #[must_use]
    pub(crate) fn message(&self, of: &ConversationId, seq: Seq) -> Option<wire::Message> {
        wire::Message::decode(self.messages.get(of)?.get(&seq)?.clone()).ok()
    }

    /// How far a group's log was told, when it comes by that.
    #[must_use]
    pub(crate) fn log(&self, of: &ConversationId) -> Option<u64> {
        let record = ConversationRecord::decode(self.conversations.get(of)?.clone()).ok()?;
        record.log.map(|log| log.told)
    }

    /// How far the changes of each conversation's messages were told.
    #[must_use]
    pub(crate) fn changes(&self) -> BTreeMap<String, u64> {
        let lines = self.conversations.iter().filter_map(|(id, record)| {
            let state = ConversationRecord::decode(record.clone()).ok()?.state?;
            Some((id.as_str().to_owned(), state.changes))
        });
        lines.collect()
    }

    /// All messages, as they are kept.
    pub(crate) fn messages(&self) -> impl Iterator<Item = (&ConversationId, Seq, wire::Message)> {
        self.messages.iter().flat_map(|(id, messages)| {
            messages.iter().filter_map(move |(seq, record)| {
                Some((id, *seq, wire::Message::decode(record.clone()).ok()?))
            })
        })
    }

    /// The versions of the profiles that are kept.
    #[must_use]
    pub(crate) fn profiles(&self) -> BTreeMap<String, u64> {
        let profiles = self.profiles.values().filter_map(|record| wire::Profile::decode(record.clone()).ok());
        profiles.map(|profile| (profile.user, profile.version)).collect()
    }

    /// How far the logs of groups were told.
    #[must_use]
    pub(crate) fn logs(&self) -> BTreeMap<String, u64> {
        let ids = self.conversations.keys();
        ids.filter_map(|id| Some((id.as_str().to_owned(), self.log(id)?))).collect()
    }

    /// Nothing is in it.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.meta.is_none()
            && self.conversations.is_empty()
            && self.messages.is_empty()
            && self.outbox.is_empty()
            && self.profiles.is_empty()
    }

    /// Where the cache is in the queue.
    #[must_use]
    pub(crate) fn meta(&self) -> Meta {
        self.meta.clone().and_then(|record| Meta::decode(record).ok()).unwrap_or_default()
    }

    /// The texts in the outbox, the refused ones included.
    #[must_use]
    pub(crate) fn outbox(&self) -> BTreeSet<String> {
        let sends = self.outbox.values().filter_map(|record| OutboxRecord::decode(record.clone()).ok()?.send);
        sends.map(|send| wire::Content::decode(send.content).unwrap_or_default().text).collect()
    }
}
