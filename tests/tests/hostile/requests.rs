//! Requests of a user who was let in, and wants more than she may have.

use bytes::Bytes;
use hongyan_protocol::limits::CONTENT_BYTES_MAX;
use hongyan_protocol::wire::{self, ResetCause, client_frame::Verb};
use hongyan_protocol::{Code, ConversationId, UserId};
use prost::Message as _;

use crate::kinds::{Kind, Outcome, What, kind};
use crate::raw::{BINARY, frame, verb_bytes};
use crate::scene::{BODY, Scene, TITLE};

/// What mallory may write to: her own notes.
pub(crate) fn notes() -> String {
    direct("mallory", "mallory")
}

pub(crate) fn direct(one: &str, other: &str) -> String {
    ConversationId::direct(&UserId::new(one).unwrap(), &UserId::new(other).unwrap()).as_str().to_owned()
}

pub(crate) fn content(text: &str) -> Bytes {
    wire::Content { text: format!("{BODY} {text}"), ..wire::Content::default() }.encode_to_vec().into()
}

/// A send that is good, under a key that is used once.
pub(crate) fn send(conversation: &str) -> wire::Send {
    wire::Send {
        conversation: conversation.into(),
        key: crate::raw::device(),
        content: content("?"),
        ..wire::Send::default()
    }
}

fn say(change: impl FnOnce(&mut wire::Send)) -> What {
    let mut good = send(&notes());
    change(&mut good);
    What::Ask("mallory", Verb::Send(good))
}

fn write_to(conversation: &str) -> What {
    say(|send| send.conversation = conversation.into())
}

fn make(change: impl FnOnce(&mut wire::CreateGroup)) -> What {
    let mut good = wire::CreateGroup { key: crate::raw::device(), title: TITLE.into(), members: Vec::new() };
    change(&mut good);
    What::Ask("mallory", Verb::CreateGroup(good))
}

pub(crate) fn kinds(scene: &Scene) -> Vec<Kind> {
    let mut all = sends();
    all.extend(conversations(scene));
    all.extend(others());
    all
}

fn sends() -> Vec<Kind> {
    let bad = Outcome::Reject(Code::BAD_REQUEST);
    let large =
        wire::Content { text: "x".repeat(CONTENT_BYTES_MAX), ..wire::Content::default() }.encode_to_vec();
    let row = |name, change: fn(&mut wire::Send), expected| kind(name, say(change), expected);
    vec![
        row("a key that is empty", |send| send.key.clear(), bad),
        row("a key of 129 bytes", |send| send.key = "k".repeat(129), bad),
        row("a key with control characters", |send| send.key = "k\u{7f}".into(), bad),
        row("a conversation without a name", |send| send.conversation.clear(), bad),
        row("a conversation of 265 bytes", |send| send.conversation = "c".repeat(265), bad),
        row("a conversation with control characters", |send| send.conversation = "c\0d".into(), bad),
        row("content that is no content", |send| send.content = Bytes::from_static(&[0xff; 8]), bad),
        row("content cut short", |send| send.content = Bytes::from_static(&[0x12, 0x7f, b'a']), bad),
        row("content of a wrong type", |send| send.content = Bytes::from_static(&[0x10, 0x05]), bad),
        row(
            "content that is no UTF-8",
            |send| send.content = Bytes::from_static(&[0x12, 0x02, 0xc3, 0x28]),
            bad,
        ),
        row("no content at all", |send| send.content.clear(), Outcome::Works),
        kind(
            "content over the limit",
            say(|send| send.content = large.into()),
            Outcome::Reject(Code::CONTENT_TOO_LARGE),
        ),
        row("65 mentions", |send| send.mentions = vec!["bob".into(); 65], bad),
        row("a mention of nobody", |send| send.mentions = vec![String::new()], bad),
        row("a mention of 129 bytes", |send| send.mentions = vec!["m".repeat(129)], bad),
        row("an answer to what was never said", |send| send.reply_to = u64::MAX, bad),
        row(
            "words that look like orders",
            |send| send.content = content("'; DROP TABLE messages; --\r\n{}${}%s"),
            Outcome::Works,
        ),
    ]
}

fn conversations(scene: &Scene) -> Vec<Kind> {
    let stranger = Outcome::Reject(Code::NOT_A_MEMBER);
    let (group, theirs) = (scene.group.as_str(), scene.direct.as_str());
    let name = || group.to_owned();
    let users = |users: &[&str]| users.iter().map(|user| (*user).to_owned()).collect::<Vec<_>>();
    let add = |user, conversation: &str, named: &[&str]| {
        What::Ask(
            user,
            Verb::AddMembers(wire::AddMembers { conversation: conversation.into(), users: users(named) }),
        )
    };
    let remove = |user, conversation: &str, named: &[&str]| {
        let remove = wire::RemoveMembers { conversation: conversation.into(), users: users(named) };
        What::Ask(user, Verb::RemoveMembers(remove))
    };
    let read = |user, conversation: &str| {
        What::Ask(
            user,
            Verb::History(wire::History { conversation: conversation.into(), ..wire::History::default() }),
        )
    };
    let not_hers = Outcome::Reject(Code::NOT_PERMITTED);
    let bad = Outcome::Reject(Code::BAD_REQUEST);
    vec![
        kind("writing to others' conversation", write_to(theirs), stranger),
        kind("writing to others' group", write_to(group), stranger),
        kind("writing to a group that is none", write_to("g-that-is-none"), stranger),
        kind("a direct conversation, users in wrong order", write_to("~7.mallory.alice"), stranger),
        kind("a direct conversation, wrong length", write_to("~4.alice.mallory"), stranger),
        kind("a direct conversation, length with a sign", write_to("~+5.alice.mallory"), stranger),
        kind("a direct conversation, length with a zero before", write_to("~05.alice.mallory"), stranger),
        kind("a direct conversation, length beyond its end", write_to("~99.alice.mallory"), stranger),
        kind("a direct conversation, length within a letter", write_to("~1.é.mallory"), stranger),
        kind("a direct conversation, length of 2^64", write_to("~18446744073709551616.a.mallory"), stranger),
        kind("a direct conversation with nobody", write_to("~7.mallory."), stranger),
        kind("a direct conversation's mark only", write_to("~"), stranger),
        kind("reading others' conversation", read("mallory", theirs), stranger),
        kind("reading others' group", read("mallory", group), stranger),
        kind("reading a group one was removed from", read("dave", group), stranger),
        kind(
            "who is in others' group",
            What::Ask(
                "mallory",
                Verb::Members(wire::Members { conversation: name(), ..wire::Members::default() }),
            ),
            stranger,
        ),
        kind(
            "read marks in others' conversation",
            What::Ask("mallory", Verb::MarkRead(wire::MarkRead { conversation: theirs.into(), seq: 1 })),
            stranger,
        ),
        kind("letting oneself in", add("mallory", group, &["mallory"]), stranger),
        kind("letting oneself in again", add("dave", group, &["dave"]), stranger),
        kind("a member lets others in", add("carol", group, &["mallory"]), not_hers),
        kind("a member throws the owner out", remove("carol", group, &["alice"]), not_hers),
        kind("the owner throws herself out", remove("alice", group, &["alice"]), bad),
        kind("throwing out of others' group", remove("mallory", group, &["bob"]), stranger),
        kind(
            "leaving others' group",
            What::Ask("mallory", Verb::LeaveGroup(wire::LeaveGroup { conversation: name() })),
            stranger,
        ),
        kind("a third one in a direct conversation", add("alice", theirs, &["mallory"]), bad),
        kind("nobody in a direct conversation", remove("alice", theirs, &["bob"]), bad),
    ]
}

fn others() -> Vec<Kind> {
    let bad = Outcome::Reject(Code::BAD_REQUEST);
    let unknown = Outcome::Reject(Code::VERB_UNKNOWN);
    let history = |before, after, limit| {
        What::Ask("mallory", Verb::History(wire::History { conversation: notes(), before, after, limit }))
    };
    let ack = |cursor| What::After(verb_bytes(0, Verb::Ack(wire::Ack { cursor })));
    let members = |after: String, limit| {
        What::Ask("mallory", Verb::Members(wire::Members { conversation: notes(), after, limit }))
    };
    vec![
        // Field 99 of kind message, and of kind number; no verb at all.
        kind("an unknown verb", What::After(frame(BINARY, &[0x08, 0x05, 0x9a, 0x06, 0x00])), unknown),
        kind("an unknown verb of another shape", What::After(frame(BINARY, &[0x98, 0x06, 0x01])), unknown),
        kind("no verb", What::After(frame(BINARY, &[])), unknown),
        kind("acknowledging what never came", ack(1_000_000), Outcome::Close(Code::BAD_FRAME)),
        kind("acknowledging all there can be", ack(u64::MAX), Outcome::Close(Code::BAD_FRAME)),
        kind("acknowledging nothing", ack(0), Outcome::Works),
        kind(
            "resuming from ahead of the head",
            What::After(verb_bytes(0, Verb::Resume(wire::Resume { cursor: u64::MAX }))),
            Outcome::Reset(ResetCause::CursorAhead.into()),
        ),
        kind("a page with both bounds", history(5, 5, 10), bad),
        kind("a page of four billion", history(0, 0, u32::MAX), Outcome::Works),
        kind("a page before all there can be", history(u64::MAX, 0, 1), Outcome::Works),
        kind("a page after all there can be", history(0, u64::MAX, 1), Outcome::Works),
        kind("members after nobody there can be", members("u".repeat(129), 1), bad),
        kind("four billion members", members(String::new(), u32::MAX), Outcome::Works),
        kind(
            "a read mark beyond the log",
            What::Ask("mallory", Verb::MarkRead(wire::MarkRead { conversation: notes(), seq: u64::MAX })),
            Outcome::Works,
        ),
        kind("a group without a title", make(|group| group.title.clear()), bad),
        kind("a group with a title of 257 bytes", make(|group| group.title = "t".repeat(257)), bad),
        kind("a group without a key", make(|group| group.key.clear()), bad),
        kind(
            "a group of 201 at once",
            make(|group| group.members = (0..201).map(|n| format!("u{n}")).collect()),
            bad,
        ),
        kind("a group with nobody in it", make(|group| group.members = vec![String::new()]), bad),
        kind("a group of 30,000 empty names", make(|group| group.members = vec![String::new(); 30_000]), bad),
        kind(
            "a group of oneself, 200 times",
            make(|group| group.members = vec!["mallory".into(); 200]),
            Outcome::Works,
        ),
    ]
}
