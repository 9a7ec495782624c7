//! The wire's decoders and the constructors of its newtypes.

use bytes::Bytes;
use hongyan_protocol::limits::{CONVERSATION_ID_BYTES_MAX, ID_BYTES_MAX};
use hongyan_protocol::wire::{ClientFrame, Content, RelayFrame, client_frame::Verb, relay_frame::Event};
use hongyan_protocol::{
    Code, ConversationId, ConversationKind, DecodeError, DeviceId, EncodeError, Epoch, IdError, Key, Pos,
    UserId,
};
use prost::Message as _;

/// What a client sends, as the relay reads it.
pub fn client_frame(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    let frame = match ClientFrame::from_bytes(bytes) {
        Ok(frame) => frame,
        Err(error) => return refused(error, data),
    };
    if let Some(Verb::Send(send)) = &frame.verb {
        content(&send.content);
    }
    again(data, &frame.to_bytes(), |again| ClientFrame::from_bytes(again) == Ok(frame.clone()));
}

/// What the relay sends, as a client reads it.
pub fn relay_frame(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    let frame = match RelayFrame::from_bytes(bytes) {
        Ok(frame) => frame,
        Err(error) => return refused(error, data),
    };
    if let Some(Event::HistoryPage(page)) = &frame.event {
        for message in &page.messages {
            content(&message.content);
        }
    }
    again(data, &frame.to_bytes(), |again| RelayFrame::from_bytes(again) == Ok(frame.clone()));
}

/// What was read is written, and read as the same.
fn again(data: &[u8], written: &Result<Bytes, EncodeError>, is_same: impl FnOnce(Bytes) -> bool) {
    match written {
        Ok(again) => {
            // A list of one number gets a length, and an unknown negative kind its upper bits: never more than that.
            assert!(
                again.len() <= 2 * data.len(),
                "a frame grew from {} to {} bytes",
                data.len(),
                again.len()
            );
            assert!(is_same(again.clone()), "a frame was read, written, and read as another");
        }
        Err(error) => assert!(error.bytes > error.bytes_max && error.bytes <= 2 * data.len()),
    }
}

/// Any text as each kind of id, and any number as a code.
pub fn ids(data: &[u8]) {
    let (number, text) = data.split_at(data.len().min(2));
    let code = Code(number.iter().fold(0, |code, byte| code << 8 | u16::from(*byte)));
    assert_eq!(Code::ALL.contains(&code), code.name() != "unknown");
    assert!(!code.sentence().is_empty());
    let _ = code.class();

    let text = String::from_utf8_lossy(text);
    let ids = [
        UserId::new(&text).map(|id| id.as_str().to_owned()),
        DeviceId::new(&text).map(|id| id.as_str().to_owned()),
        Key::new(&text).map(|id| id.as_str().to_owned()),
        Epoch::new(&text).map(|id| id.as_str().to_owned()),
    ];
    for id in ids {
        judge(&text, ID_BYTES_MAX, id);
    }
    let id = ConversationId::new(&text);
    judge(&text, CONVERSATION_ID_BYTES_MAX, id.clone().map(|id| id.as_str().to_owned()));
    if let Ok(id) = id {
        conversation(&id);
    }
    // Every pair of users has its own conversation.
    for (at, _) in text.char_indices() {
        let (first, second) = text.split_at(at);
        if let (Ok(first), Ok(second)) = (UserId::new(first), UserId::new(second)) {
            let id = ConversationId::direct(&first, &second);
            assert!(id == ConversationId::direct(&second, &first), "a direct conversation has two ids");
            assert!(ConversationId::new(id.as_str()) == Ok(id.clone()), "a direct conversation's id is none");
            let (lesser, greater) = id.users().expect("a direct conversation has its users");
            assert!((&lesser, &greater) == (&first, &second) || (&lesser, &greater) == (&second, &first));
        }
    }
    let pos = Pos(data.iter().take(8).fold(0, |pos, byte| pos << 8 | u64::from(*byte)));
    assert!(pos.next() >= pos && pos.previous() <= pos);
}

fn conversation(id: &ConversationId) {
    match (id.kind(), id.users()) {
        (ConversationKind::Group, users) => assert!(users.is_none(), "a group has two users"),
        (ConversationKind::Direct, Some((first, second))) => {
            assert!(ConversationId::direct(&first, &second) == *id, "two ids name one direct conversation");
            assert!(id.peer_of(&first) == Some(second.clone()) && id.peer_of(&second) == Some(first));
        }
        // Forged: nobody is in it.
        (ConversationKind::Direct, None) => {}
    }
}

fn content(bytes: &Bytes) {
    if let Ok(content) = Content::decode(bytes.clone()) {
        assert!(Content::decode(content.encode_to_vec().as_slice()) == Ok(content));
    }
}

/// Whether the right ones are taken, and the others refused for the right reason.
fn judge(text: &str, bytes_max: usize, id: Result<String, IdError>) {
    let expected = if text.is_empty() {
        Err(IdError::Empty)
    } else if text.len() > bytes_max {
        Err(IdError::TooLong { bytes_max })
    } else if text.chars().any(|c| c < ' ' || ('\u{7f}'..'\u{a0}').contains(&c)) {
        Err(IdError::ControlCharacter)
    } else {
        Ok(text.to_owned())
    };
    assert_eq!(id, expected);
}

/// An error tells what is wrong with it, and nothing of what is in it.
fn refused(error: DecodeError, data: &[u8]) {
    match error {
        DecodeError::TooLarge { bytes, bytes_max } => assert!(bytes == data.len() && bytes > bytes_max),
        DecodeError::Malformed => assert!(!data.is_empty(), "an empty frame is a frame of no kind"),
    }
    assert!(!error.to_string().is_empty());
}
