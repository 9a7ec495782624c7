//! Messages that change, and what is told of them.

use hongyan_client::Event;
use hongyan_protocol::ConversationId;
use hongyan_protocol::wire::{self, GroupChangeKind, MessageChangeKind, entry};
use prost::Message as _;

use super::{Bed, conversation, log_message, text};

pub fn group() -> ConversationId {
    conversation("g1")
}

/// Bob's message as it is after the change of this number; 0 is as it was written.
pub fn message(of: &ConversationId, seq: u64, after: u64) -> wire::Message {
    let message = log_message(of, seq, "bob", &format!("m{seq}"));
    if after == 0 {
        return message;
    }
    wire::Message {
        edited: after,
        content: text(&format!("m{seq} after {after}")).encode_to_vec().into(),
        ..message
    }
}

/// The change of this number; its time is its number, so that events show which was told.
pub fn change(number: u64, message: wire::Message) -> wire::MessageChange {
    let kind = if message.recalled > 0 { MessageChangeKind::Recalled } else { MessageChangeKind::Edited };
    wire::MessageChange {
        number,
        kind: kind.into(),
        by: "bob".into(),
        time: number,
        reaction: String::new(),
        message: Some(message),
    }
}

pub fn edit(of: &ConversationId, number: u64, seq: u64) -> entry::Change {
    entry::Change::MessageChange(change(number, message(of, seq, number)))
}

pub fn recalled(of: &ConversationId, number: u64, seq: u64) -> entry::Change {
    let message = wire::Message {
        recalled: number,
        content: bytes::Bytes::new(),
        mentions: Vec::new(),
        ..message(of, seq, 0)
    };
    entry::Change::MessageChange(change(number, message))
}

/// Messages and changes as they were told: `m3`, `c1` and so on.
pub fn told(bed: &Bed) -> Vec<String> {
    let name = |event: &Event| match event {
        Event::Message(message) => Some(format!("m{}", message.seq.unwrap().0)),
        Event::Change { time, .. } => Some(format!("c{}", time.0)),
        Event::ChangesGap { conversation } => Some(format!("gap of {conversation}")),
        Event::Gap => Some("gap".into()),
        Event::LogGap { .. } => Some("log gap".into()),
        _ => None,
    };
    bed.events.iter().filter_map(name).collect()
}

/// What the newest page says, message by message.
pub fn texts(bed: &mut Bed, of: &ConversationId) -> Vec<String> {
    let request = bed.history(of, None, None, 100);
    bed.history_reply(request).into_iter().map(|message| message.content.text).collect()
}

pub fn of_group(kind: GroupChangeKind, version: u64, title: &str) -> wire::GroupChange {
    wire::GroupChange {
        conversation: "g1".into(),
        kind: kind.into(),
        by: "bob".into(),
        users: vec!["alice".into()],
        version,
        title: title.into(),
        owner: "bob".into(),
        member_count: 2,
        ..wire::GroupChange::default()
    }
}
