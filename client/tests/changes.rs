//! Changes of messages: what is shown is as the relay says last, each change is told once and after its message, and what
//! was not told is named.

// Helpers are test code too; clippy sees only `#[test]` functions so.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

mod common;

use common::changes::*;
use common::*;
use hongyan_client::view::{ChangeKind, GroupUpdateKind, Status};
use hongyan_client::{Answer, Change, Command, Event, Input};
use hongyan_protocol::wire::client_frame::Verb;
use hongyan_protocol::wire::{self, GroupChangeKind, MessageChangeKind, entry, relay_frame::Event as Relay};
use hongyan_protocol::{Code, ConversationId, Key, Seq, Time, UserId, limits};
use prost::Message as _;

/// Bob has written to alice up to this seq.
fn with_messages(last: u64) -> Bed {
    let mut bed = Bed::online();
    bed.say(0, bobs(1, last));
    bed.frames.clear();
    bed
}

#[test]
fn a_change_replaces_what_is_cached_and_is_told_once() {
    let (mut bed, bob) = (with_messages(3), with("bob"));
    bed.saves_at_once = false;
    bed.say(0, batch(vec![entry(4, edit(&bob, 1, 2)), entry(5, edit(&bob, 2, 3))]));
    assert_eq!(told(&bed), ["m1", "m2", "m3"], "only what is durable is told");
    assert_eq!(texts(&mut bed, &bob), ["b1", "m2 after 1", "m3 after 2"]);
    bed.save();
    assert_eq!(told(&bed), ["m1", "m2", "m3", "c1", "c2"]);
    assert_eq!(bed.line(&bob).last.unwrap().content.text, "m3 after 2");
    bed.saves_at_once = true;
    // Streamed again, and told under an older number.
    bed.say(0, batch(vec![entry(5, edit(&bob, 2, 3)), entry(6, edit(&bob, 2, 3))]));
    assert_eq!(told(&bed).len(), 5);
    bed.crash();
    assert_eq!(texts(&mut bed, &bob), ["b1", "m2 after 1", "m3 after 2"]);
    bed.go_online(6);
    bed.say(0, batch(vec![entry(7, edit(&bob, 3, 1))]));
    assert_eq!(told(&bed).last().unwrap(), "c3");
}

#[test]
fn a_crash_before_the_change_is_durable_tells_it_afterwards() {
    let (mut bed, bob) = (with_messages(1), with("bob"));
    bed.saves_at_once = false;
    bed.say(0, batch(vec![entry(2, edit(&bob, 1, 1))]));
    bed.crash();
    bed.saves_at_once = true;
    assert_eq!(bed.go_online(2).cursor, 1);
    bed.say(0, batch(vec![entry(2, edit(&bob, 1, 1))]));
    assert_eq!(told(&bed), ["m1", "c1"]);
}

#[test]
fn an_event_says_what_happened_and_how_the_message_is_now() {
    let (mut bed, bob) = (with_messages(1), with("bob"));
    let reaction = wire::Reaction { reaction: "👍".into(), users: vec!["alice".into(), "bob".into()] };
    let now = wire::Message { reactions: vec![reaction], ..message(&bob, 1, 0) };
    let reacted = wire::MessageChange {
        kind: MessageChangeKind::Reacted.into(),
        reaction: "👍".into(),
        ..change(1, now.clone())
    };
    let unknown = wire::MessageChange { kind: 99, ..change(2, message(&bob, 1, 2)) };
    bed.say(0, batch(vec![entry(2, entry::Change::MessageChange(reacted))]));
    bed.say(0, batch(vec![entry(3, entry::Change::MessageChange(unknown)), entry(4, recalled(&bob, 3, 1))]));
    let changes: Vec<_> = bed
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Change { kind, by, time, reaction, message } => {
                Some((*kind, by.as_str(), *time, reaction.as_deref(), message))
            }
            _ => None,
        })
        .collect();
    assert_eq!(changes.len(), 2, "a kind of a newer version changes the message and has no name");
    let (kind, by, time, reaction, shown) = &changes[0];
    assert_eq!((*kind, *by, *time, *reaction), (ChangeKind::Reacted, "bob", Time(1), Some("👍")));
    let users: Vec<_> = shown.reactions[0].users.iter().map(UserId::as_str).collect();
    assert_eq!((shown.reactions[0].reaction.as_str(), users), ("👍", vec!["alice", "bob"]));
    let (kind, .., gone) = &changes[1];
    assert_eq!((*kind, gone.recalled, gone.content.text.as_str()), (ChangeKind::Recalled, Some(Time(3)), ""));
    assert_eq!(gone.key, Key::new("m1").unwrap());
}

#[test]
fn a_recalled_message_calls_nobody() {
    let (mut bed, bob) = (with_messages(1), with("bob"));
    let calling = wire::Message { mentions: vec!["alice".into()], ..message(&bob, 2, 0) };
    bed.say(0, batch(vec![entry(2, entry::Change::Message(calling))]));
    assert_eq!(bed.line(&bob).mentioned, Some(Seq(2)));
    bed.say(0, batch(vec![entry(3, recalled(&bob, 1, 2))]));
    let line = bed.line(&bob);
    assert_eq!((line.mentioned, line.unread), (None, 2));
    assert!(line.last.unwrap().recalled.is_some());
}

/// The cache reads a page while the change is applied and saved: the page is as it is now.
#[test]
fn a_change_that_comes_while_a_page_is_made_is_in_it() {
    let (mut bed, bob) = (with_messages(3), with("bob"));
    bed.loads_at_once = false;
    let request = bed.history(&bob, None, None, 3);
    let (ticket, of, from, to) = bed.loads.pop_front().unwrap();
    let before = bed.disk.load(&of, from, to);
    bed.say(0, batch(vec![entry(4, edit(&bob, 1, 2))]));
    bed.feed(Input::Loaded(ticket, before));
    let page: Vec<_> = bed.history_reply(request).into_iter().map(|message| message.content.text).collect();
    assert_eq!(page, ["b1", "m2 after 1", "b3"]);

    // And one of which the relay brings the rest.
    bed.loads_at_once = true;
    bed.disk.messages.remove(&(bob.clone(), 1));
    let request = bed.history(&bob, None, None, 3);
    let frame = bed.frames.iter().rev().find(|frame| matches!(frame.verb, Some(Verb::History(_)))).unwrap();
    let asked = frame.request;
    bed.say(0, batch(vec![entry(5, edit(&bob, 2, 3))]));
    let messages = vec![message(&bob, 1, 0)];
    let page = wire::HistoryPage { conversation: bob.as_str().into(), messages, last_seq: 3 };
    bed.say(asked, Relay::HistoryPage(page));
    let page: Vec<_> = bed.history_reply(request).into_iter().map(|message| message.content.text).collect();
    assert_eq!(page, ["m1", "m2 after 1", "m3 after 2"]);
}

/// What is told of a message that was sent is how it is now: no older state comes after a newer one.
fn assert_sent_is_shown_as(bed: &mut Bed, request: u64, text: &str) {
    let shown = bed.events.iter().rev().find_map(|event| match event {
        Event::Outbox(message, None) => Some(message.clone()),
        _ => None,
    });
    let Some(Ok(Answer::Sent(answer))) = bed.replies.remove(&request) else { panic!("no answer") };
    for message in [shown.unwrap(), answer] {
        assert_eq!((message.status, message.content.text.as_str()), (Status::Sent, text));
        assert_eq!((message.seq, message.edited.is_some()), (Some(Seq(1)), true));
    }
}

/// One's own message comes as another device has edited it; what the outbox says is older.
#[test]
fn what_the_queue_tells_of_ones_own_message_is_newer_than_what_was_sent() {
    let (mut bed, bob) = (Bed::online(), with("bob"));
    let request = bed.send(&bob, "k1");
    let edited = wire::Message { from: "alice".into(), key: "k1".into(), ..message(&bob, 1, 1) };
    bed.say(0, batch(vec![entry(1, entry::Change::Message(edited))]));
    assert_sent_is_shown_as(&mut bed, request, "m1 after 1");
    assert_eq!(texts(&mut bed, &bob), ["m1 after 1"]);
    assert_eq!(bed.line(&bob).last.unwrap().content.text, "m1 after 1");
    assert!(bed.disk.outbox.is_empty());
}

fn changes(bed: &mut Bed, change: Change) -> u64 {
    bed.command(Command::Change { conversation: with("bob"), seq: Seq(1), key: None, change })
}

#[test]
fn changing_a_message_is_asked_with_a_key_until_it_is_answered() {
    let (mut bed, bob) = (with_messages(1), with("bob"));
    let request = changes(&mut bed, Change::React("👍".into()));
    let verb = |bed: &mut Bed| loop {
        if let wire::ClientFrame { request, verb: Some(Verb::ChangeMessage(verb)) } = bed.frame() {
            return (request, verb);
        }
    };
    let (_, first) = verb(&mut bed);
    assert_eq!((first.reaction.as_str(), first.seq), ("👍", 1));
    assert!(first.kind() == MessageChangeKind::Reacted);
    assert!(!first.key.is_empty());
    bed.close(Code(1006));
    bed.go_online(1);
    let (asked, again) = verb(&mut bed);
    assert!(again == first, "the same key");
    let now = message(&bob, 1, 1);
    bed.say(asked, Relay::MessageChanged(wire::MessageChanged { key: again.key, message: Some(now) }));
    match bed.replies.remove(&request) {
        Some(Ok(Answer::Message(message))) => assert_eq!(message.edited, Some(Time(1))),
        _ => panic!("no message"),
    }
    assert_eq!(texts(&mut bed, &bob), ["b1"], "the queue tells what became of it");

    for (change, kind) in [
        (Change::Edit(text("new")), MessageChangeKind::Edited),
        (Change::Recall, MessageChangeKind::Recalled),
        (Change::Unreact("x".into()), MessageChangeKind::Unreacted),
    ] {
        changes(&mut bed, change);
        assert!(verb(&mut bed).1.kind() == kind);
    }
}

#[test]
fn what_the_relay_would_refuse_is_refused_here() {
    let mut bed = with_messages(1);
    let long = "x".repeat(limits::REACTION_BYTES_MAX + 1);
    for reaction in [String::new(), long] {
        let request = changes(&mut bed, Change::React(reaction));
        assert_eq!(bed.error(request), Code::BAD_REQUEST);
    }
    let large = text(&"x".repeat(limits::CONTENT_BYTES_MAX));
    let request = changes(&mut bed, Change::Edit(large));
    assert_eq!(bed.error(request), Code::CONTENT_TOO_LARGE);
    let (conversation, key) = (with("bob"), None);
    let nothing = Command::Change { conversation, seq: Seq::ZERO, key, change: Change::Recall };
    let request = bed.command(nothing);
    assert_eq!(bed.error(request), Code::BAD_REQUEST);
    let (conversation, seq) = (ConversationId::new("~3.bob.eve").unwrap(), Seq(1));
    let request = bed.command(Command::Change { conversation, seq, key: None, change: Change::Recall });
    assert_eq!(bed.error(request), Code::NOT_A_MEMBER);
    assert!(bed.frames.iter().all(|frame| !matches!(frame.verb, Some(Verb::ChangeMessage(_)))));
}

#[test]
fn a_group_is_renamed() {
    let mut bed = Bed::online();
    let created = of_group(GroupChangeKind::Created, 1, "geese");
    let renamed = wire::GroupChange { users: Vec::new(), ..of_group(GroupChangeKind::Renamed, 2, "swans") };
    bed.say(0, batch(vec![entry(1, entry::Change::Group(created)), entry(2, entry::Change::Group(renamed))]));
    assert_eq!(bed.line(&group()).group.unwrap().title, "swans");
    let last = bed.events.iter().rev().find_map(|event| match event {
        Event::Group(update) => Some((update.kind, update.group.title.clone())),
        _ => None,
    });
    assert_eq!(last, Some((GroupUpdateKind::Renamed, "swans".into())));
    let request = bed.command(Command::RenameGroup(group(), "x".repeat(limits::TITLE_BYTES_MAX + 1)));
    assert_eq!(bed.error(request), Code::BAD_REQUEST);
    let request = bed.command(Command::RenameGroup(with("bob"), "x".into()));
    assert_eq!(bed.error(request), Code::BAD_REQUEST);
    let request = bed.command(Command::RenameGroup(group(), "雁".into()));
    let asked = bed.frames.iter().find_map(|frame| match &frame.verb {
        Some(Verb::RenameGroup(verb)) if verb.title == "雁" => Some(frame.request),
        _ => None,
    });
    bed.say(asked.unwrap(), Relay::GroupDone(wire::GroupDone { conversation: "g1".into(), version: 3 }));
    assert!(bed.answered(request));
}

/// The relay answers a send that was repeated as it did at first; what is known of the log since is newer than what was
/// sent. Found by the simulated world.
#[test]
fn the_answer_to_a_repeated_send_does_not_bring_back_what_was_sent() {
    let mut bed = Bed::online();
    let chat = with("bob");
    let request = bed.send(&chat, "k1");
    let (_, send) = bed.sent();
    // The answer was lost with the connection; meanwhile the message was changed, and the queue begins anew.
    bed.close(Code(1006));
    bed.go_online(3);
    bed.say(0, Relay::Reset(wire::Reset { epoch: "e1".into(), pos: 3, ..wire::Reset::default() }));
    let now = wire::Message {
        edited: 5,
        content: text("edited").encode_to_vec().into(),
        ..log_message(&chat, 1, "alice", "k1")
    };
    let state = wire::ConversationState {
        conversation: chat.as_str().into(),
        last_seq: 1,
        own_unread: vec![1],
        last_message: Some(now),
        changes: 1,
        ..wire::ConversationState::default()
    };
    bed.say(0, Relay::Snapshot(wire::Snapshot { conversations: vec![state], done: true }));
    let (asked, again) = bed.sent();
    assert_eq!(again.key, send.key);
    bed.confirm(asked, &again, 1);
    assert_sent_is_shown_as(&mut bed, request, "edited");
    let line = bed.line(&chat);
    assert_eq!((line.last.unwrap().content.text.as_str(), line.unread), ("edited", 0));
    let kept = bed.disk.load(&chat, Seq(1), Seq(1));
    assert!(kept.iter().all(|(_, record)| wire::Message::decode(record.clone()).unwrap().edited == 5));
}
