//! What was written here and is not in the log yet.
//!
//! *Invariant:* an entry goes on the wire only when it is durable here; at most one of a conversation is on the
//! wire; entries of a conversation go in their order; an entry leaves only when the relay confirmed it, or the
//! application discards it after the relay refused it.

use bytes::Bytes;
use hongyan_protocol::{Code, ConversationId, Key, Seq, Time, UserId, wire};
use prost::Message as _;

use crate::conversations::{content, seq, users};
use crate::defects::{self, Defect};
use crate::io::{ChatError, Moment, RequestId};
use crate::records::OutboxRecord;
use crate::sorted::{SortedMap, SortedSet};
use crate::view::{Message, Status};

/// A message that waits, or was refused.
pub(crate) struct Entry {
    pub(crate) conversation: ConversationId,
    pub(crate) key: Key,
    pub(crate) content: Bytes,
    pub(crate) reply_to: Option<Seq>,
    pub(crate) mentions: Vec<UserId>,
    pub(crate) time: Time,
    /// Refused for good.
    pub(crate) failed: Option<ChatError>,
    /// It is durable here, so it may go on the wire.
    pub(crate) durable: bool,
    /// It is on the wire of this connection.
    pub(crate) in_flight: bool,
    /// Who is to be answered.
    pub(crate) waiters: Vec<RequestId>,
}

impl Entry {
    pub(crate) fn restore(record: &[u8]) -> Option<Self> {
        let record = OutboxRecord::decode(record).ok()?;
        let send = record.send?;
        let failed = u16::try_from(record.failed_code)
            .ok()
            .filter(|code| *code > 0)
            .map(|code| ChatError { code: Code(code), message: record.failed_reason });
        Some(Self {
            conversation: ConversationId::new(&send.conversation).ok()?,
            key: Key::new(&send.key).ok()?,
            content: send.content,
            reply_to: seq(send.reply_to),
            mentions: users(&send.mentions),
            time: Time(record.time),
            failed,
            durable: true,
            in_flight: false,
            waiters: Vec::new(),
        })
    }

    pub(crate) fn record(&self) -> Bytes {
        OutboxRecord {
            send: Some(self.send()),
            time: self.time.0,
            failed_code: self.failed.as_ref().map_or(0, |error| error.code.0.into()),
            failed_reason: self.failed.as_ref().map(|error| error.message.clone()).unwrap_or_default(),
        }
        .encode_to_vec()
        .into()
    }

    pub(crate) fn send(&self) -> wire::Send {
        wire::Send {
            conversation: self.conversation.as_str().into(),
            key: self.key.as_str().into(),
            content: self.content.clone(),
            reply_to: self.reply_to.map_or(0, |seq| seq.0),
            mentions: self.mentions.iter().map(|user| user.as_str().into()).collect(),
        }
    }

    /// As it is in the log, once the relay told where.
    pub(crate) fn sent(&self, from: &UserId, seq: Seq, time: Time) -> wire::Message {
        let send = self.send();
        wire::Message {
            conversation: send.conversation,
            seq: seq.0,
            key: send.key,
            from: from.as_str().into(),
            time: time.0,
            content: send.content,
            reply_to: send.reply_to,
            mentions: send.mentions,
            ..wire::Message::default()
        }
    }

    pub(crate) fn view(&self, from: &UserId) -> Message {
        Message {
            conversation: self.conversation.clone(),
            seq: None,
            key: self.key.clone(),
            from: from.clone(),
            time: self.time,
            content: content(&self.content),
            reply_to: self.reply_to,
            mentions: self.mentions.clone(),
            status: if self.failed.is_some() { Status::Failed } else { Status::Sending },
            edited: None,
            recalled: None,
            reactions: Vec::new(),
        }
    }
}

/// A conversation whose first entry was put off.
struct PutOff {
    until: Moment,
    times: u32,
}

/// All entries by their order.
#[derive(Default)]
pub(crate) struct Outbox {
    pub(crate) entries: SortedMap<u64, Entry>,
    order: u64,
    put_off: SortedMap<ConversationId, PutOff>,
}

impl Outbox {
    /// Takes a restored entry at its order.
    pub(crate) fn restore(&mut self, order: u64, entry: Entry) {
        self.order = self.order.max(order);
        self.entries.insert(order, entry);
    }

    /// Takes an entry at the end.
    pub(crate) fn push(&mut self, entry: Entry) -> u64 {
        self.order += 1;
        self.entries.insert(self.order, entry);
        self.order
    }

    pub(crate) fn find(&self, key: &Key) -> Option<u64> {
        self.entries.iter().find(|(_, entry)| entry.key == *key).map(|(order, _)| *order)
    }

    /// Something waits for the relay.
    pub(crate) fn is_waiting(&self) -> bool {
        self.entries.values().any(|entry| entry.failed.is_none())
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.entries.values().filter(|entry| entry.in_flight).count()
    }

    /// The connection is gone: what was on its wire goes again on the next.
    pub(crate) fn disconnected(&mut self) {
        if defects::is_on(Defect::OutboxLostOnReconnect) {
            self.entries.retain(|_, entry| !entry.in_flight);
        }
        for entry in self.entries.values_mut() {
            entry.in_flight = false;
        }
        self.put_off.clear();
    }

    /// What may go on the wire now: of each conversation the first that waits.
    pub(crate) fn ready(&self, now: Moment) -> Vec<u64> {
        let mut begun = SortedSet::default();
        let mut ready = Vec::new();
        for (order, entry) in self.entries.iter() {
            if entry.failed.is_some()
                || (!begun.insert(&entry.conversation) && !defects::is_on(Defect::OutboxOvertakes))
            {
                continue;
            }
            let put_off = self.put_off.get(&entry.conversation).is_some_and(|put_off| put_off.until > now);
            if entry.durable && !entry.in_flight && !put_off {
                ready.push(*order);
            }
        }
        ready
    }

    /// How often in a row the conversation was put off.
    pub(crate) fn put_off_times(&self, conversation: &ConversationId) -> u32 {
        self.put_off.get(conversation).map_or(0, |put_off| put_off.times)
    }

    pub(crate) fn put_off(&mut self, conversation: &ConversationId, until: Moment) {
        let times = self.put_off_times(conversation).saturating_add(1);
        self.put_off.insert(conversation.clone(), PutOff { until, times });
    }

    /// The relay took or refused one: the next goes at once.
    pub(crate) fn goes_on(&mut self, conversation: &ConversationId) {
        self.put_off.remove(conversation);
    }

    /// When the next conversation that was put off may go on.
    pub(crate) fn next(&self, now: Moment) -> Option<Moment> {
        self.put_off.values().map(|put_off| put_off.until).filter(|until| *until > now).min()
    }

    /// The messages of a conversation, in order.
    pub(crate) fn of<'a>(
        &'a self,
        conversation: &'a ConversationId,
    ) -> impl DoubleEndedIterator<Item = &'a Entry> {
        self.entries.values().filter(move |entry| entry.conversation == *conversation)
    }
}
