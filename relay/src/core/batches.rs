//! Batches of queue entries, put together from bytes that are encoded once.
//!
//! On the wire a message inside an entry is its length and its bytes, the same as a field of bytes; so the structs
//! here are `wire::Batch` with the changes left encoded, and all receivers of a message share its bytes.

use bytes::Bytes;
use hongyan_protocol::limits::{BATCH_BYTES_TARGET, BATCH_ENTRIES_MAX};
use hongyan_protocol::{ChangeNumber, ConversationId, Pos, wire};
use prost::Message;

use super::records::ChangeRecord;

#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
struct RawFrame {
    #[prost(message, optional, tag = "6")]
    batch: Option<RawBatch>,
}

#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
struct RawBatch {
    #[prost(message, repeated, tag = "1")]
    entries: Vec<RawEntry>,
    #[prost(uint64, tag = "2")]
    head: u64,
}

#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
struct RawEntry {
    #[prost(uint64, tag = "1")]
    pos: u64,
    #[prost(oneof = "Change", tags = "2, 3, 4, 5, 6, 7")]
    change: Option<Change>,
}

/// What an entry tells, encoded.
#[derive(Clone, PartialEq, prost::Oneof)]
#[prost(skip_debug)]
pub(super) enum Change {
    /// A `wire::Message`.
    #[prost(bytes = "bytes", tag = "2")]
    Message(Bytes),
    /// A `wire::ReadMark`.
    #[prost(bytes = "bytes", tag = "3")]
    Read(Bytes),
    /// A `wire::GroupChange`.
    #[prost(bytes = "bytes", tag = "4")]
    Group(Bytes),
    /// A `wire::Diffusion`.
    #[prost(bytes = "bytes", tag = "5")]
    Diffusion(Bytes),
    /// A `wire::MessageChange`.
    #[prost(bytes = "bytes", tag = "6")]
    OfMessage(Bytes),
    /// A `wire::Profile`.
    #[prost(bytes = "bytes", tag = "7")]
    Profile(Bytes),
}

impl Change {
    fn len(&self) -> usize {
        match self {
            Change::Message(bytes)
            | Change::Read(bytes)
            | Change::Group(bytes)
            | Change::Diffusion(bytes)
            | Change::OfMessage(bytes)
            | Change::Profile(bytes) => bytes.len(),
        }
    }
}

/// A `wire::MessageChange`; `message` is a `wire::Message`.
pub(super) fn message_change(number: ChangeNumber, record: &ChangeRecord, message: Bytes) -> Bytes {
    let change = RawMessageChange {
        number: number.0,
        kind: record.kind,
        by: record.by.clone(),
        time: record.time,
        reaction: record.reaction.clone(),
        message,
    };
    change.encode_to_vec().into()
}

#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
struct RawMessageChange {
    #[prost(uint64, tag = "1")]
    number: u64,
    #[prost(int32, tag = "2")]
    kind: i32,
    #[prost(string, tag = "3")]
    by: String,
    #[prost(uint64, tag = "4")]
    time: u64,
    #[prost(string, tag = "5")]
    reaction: String,
    #[prost(bytes = "bytes", tag = "6")]
    message: Bytes,
}

/// A frame of a group's log, the same bytes for all who listen: consecutive messages, each a `wire::Message`.
pub(super) fn log_messages(messages: Vec<Bytes>, group: Option<wire::LogHead>) -> Bytes {
    let log_messages = Some(RawLogMessages { messages, group });
    RawLogFrame { log_messages, log_changes: None }.encode_to_vec().into()
}

/// The same with consecutive changes of messages, each a `wire::MessageChange`.
pub(super) fn log_changes(id: &ConversationId, changes: Vec<Bytes>) -> Bytes {
    let log_changes = Some(RawLogChanges { conversation: id.as_str().to_owned(), changes });
    RawLogFrame { log_messages: None, log_changes }.encode_to_vec().into()
}

/// The same with how far the log is.
pub(super) fn log_head(head: wire::LogHead) -> Option<Bytes> {
    let heads = wire::LogHeads { heads: vec![head] };
    wire::RelayFrame::push(wire::relay_frame::Event::LogHeads(heads)).to_bytes().ok()
}

#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
struct RawLogFrame {
    #[prost(message, optional, tag = "12")]
    log_messages: Option<RawLogMessages>,
    #[prost(message, optional, tag = "13")]
    log_changes: Option<RawLogChanges>,
}

#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
struct RawLogChanges {
    #[prost(string, tag = "1")]
    conversation: String,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    changes: Vec<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
struct RawLogMessages {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    messages: Vec<Bytes>,
    #[prost(message, optional, tag = "2")]
    group: Option<wire::LogHead>,
}

/// Consecutive entries on their way into one frame.
#[derive(Default)]
pub(super) struct BatchBuilder {
    entries: Vec<RawEntry>,
    bytes: usize,
}

impl BatchBuilder {
    /// Adds an entry; without a change it counts as applied, and tells nothing.
    pub(super) fn push(&mut self, pos: Pos, change: Option<Change>) {
        // The entry's own numbers and lengths take up to 24 bytes.
        self.bytes += change.as_ref().map_or(0, Change::len) + 24;
        self.entries.push(RawEntry { pos: pos.0, change });
    }

    /// No entry more fits.
    pub(super) fn is_full(&self) -> bool {
        self.entries.len() >= BATCH_ENTRIES_MAX || self.bytes >= BATCH_BYTES_TARGET
    }

    /// The encoded frame.
    pub(super) fn finish(self, head: Pos) -> Bytes {
        let batch = RawBatch { entries: self.entries, head: head.0 };
        RawFrame { batch: Some(batch) }.encode_to_vec().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hongyan_protocol::wire;

    #[test]
    fn a_raw_batch_is_a_batch() {
        let message = wire::Message { conversation: "~1.a.b".into(), seq: 7, ..Default::default() };
        let read = wire::ReadMark { conversation: "~1.a.b".into(), seq: 3 };
        let group = wire::GroupChange { conversation: "g1".into(), version: 2, ..Default::default() };
        let mut batch = BatchBuilder::default();
        batch.push(Pos(4), Some(Change::Message(message.encode_to_vec().into())));
        batch.push(Pos(5), Some(Change::Read(read.encode_to_vec().into())));
        batch.push(Pos(6), Some(Change::Group(group.encode_to_vec().into())));
        let record =
            ChangeRecord {
                seq: 7, kind: 3, by: "b".into(), time: 5, reaction: "👍".into(), key: "k".into()
            };
        let bytes = message.encode_to_vec().into();
        batch.push(Pos(7), Some(Change::OfMessage(message_change(ChangeNumber(2), &record, bytes))));
        let profile =
            wire::Profile { user: "b".into(), version: 3, name: "Bob".into(), ..Default::default() };
        batch.push(Pos(8), Some(Change::Profile(profile.encode_to_vec().into())));
        batch.push(Pos(9), None);
        let frame = wire::RelayFrame::from_bytes(batch.finish(Pos(9))).unwrap();
        use wire::entry::Change as Wire;
        let entry = |pos, change| wire::Entry { pos, change: Some(change) };
        let change = wire::MessageChange {
            number: 2,
            kind: wire::MessageChangeKind::Reacted.into(),
            by: "b".into(),
            time: 5,
            reaction: "👍".into(),
            message: Some(message.clone()),
        };
        let entries = vec![
            entry(4, Wire::Message(message)),
            entry(5, Wire::Read(read)),
            entry(6, Wire::Group(group)),
            entry(7, Wire::MessageChange(change)),
            entry(8, Wire::Profile(profile)),
            wire::Entry { pos: 9, change: None },
        ];
        let expected =
            wire::RelayFrame::push(wire::relay_frame::Event::Batch(wire::Batch { entries, head: 9 }));
        assert!(frame == expected);
    }
}
