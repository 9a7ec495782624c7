//! Who writes something right now.

// Helpers are test code too; clippy sees only `#[test]` functions so.
#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use hongyan_client::limits::*;
use hongyan_client::{Command, Event};
use hongyan_protocol::wire::client_frame::Verb;
use hongyan_protocol::wire::{self, entry::Change, relay_frame::Event as Relay};
use hongyan_protocol::{Code, ConversationId};

fn typed(bed: &mut Bed, conversation: &ConversationId, user: &str, expires_in_ms: u32) {
    let (conversation, user) = (conversation.as_str().into(), user.into());
    bed.say(0, Relay::Typed(wire::Typed { conversation, user, expires_in_ms }));
}

/// Who began or ceased to write since the last look.
fn told(bed: &mut Bed) -> Vec<(String, bool)> {
    let events = std::mem::take(&mut bed.events);
    let told = |event| match event {
        Event::Typing { user, typing, .. } => Some((user.as_str().to_owned(), typing)),
        _ => None,
    };
    events.into_iter().filter_map(told).collect()
}

fn line(user: &str, typing: bool) -> (String, bool) {
    (user.to_owned(), typing)
}

/// Conversations in which the relay was told that alice writes.
fn frames(bed: &mut Bed) -> Vec<String> {
    let frames = std::mem::take(&mut bed.frames);
    let typing = |frame: wire::ClientFrame| match frame.verb {
        Some(Verb::Typing(typing)) => Some(typing.conversation),
        _ => None,
    };
    frames.into_iter().filter_map(typing).collect()
}

fn types(bed: &mut Bed, conversation: &ConversationId) {
    let request = bed.command(Command::Typing(conversation.clone()));
    assert!(bed.answered(request), "always done");
}

#[test]
fn that_the_user_writes_is_told_once_in_a_while_and_only_when_that_is_of_use() {
    let mut bed = Bed::new();
    let (bob, group) = (with("bob"), conversation("g1"));
    types(&mut bed, &bob);
    bed.go_online(0);
    assert!(frames(&mut bed).is_empty(), "what was of the moment before is not told");
    types(&mut bed, &bob);
    types(&mut bed, &bob);
    types(&mut bed, &group);
    assert_eq!(frames(&mut bed), [bob.as_str(), group.as_str()]);
    bed.pass(TYPING_EVERY_MS - 1);
    types(&mut bed, &bob);
    assert!(frames(&mut bed).is_empty());
    bed.pass(1);
    types(&mut bed, &bob);
    assert_eq!(frames(&mut bed), [bob.as_str()]);
    // Not where the user can't write.
    types(&mut bed, &ConversationId::direct(&user("bob"), &user("carol")));
    let left = wire::GroupChange {
        conversation: "g2".into(),
        kind: wire::GroupChangeKind::Left.into(),
        by: "alice".into(),
        users: vec!["alice".into()],
        version: 1,
        owner: "bob".into(),
        ..Default::default()
    };
    bed.say(0, batch(vec![entry(1, Change::Group(left))]));
    types(&mut bed, &conversation("g2"));
    assert!(frames(&mut bed).is_empty());
    // Not in ever more conversations at once.
    bed.pass(TYPING_EVERY_MS);
    for n in 0..=TYPING_MAX {
        types(&mut bed, &conversation(&format!("h{n}")));
    }
    assert_eq!(frames(&mut bed).len(), TYPING_MAX);
}

#[test]
fn who_writes_is_told_once_and_ceases_when_that_expires() {
    let mut bed = Bed::online();
    let (bob, group) = (with("bob"), conversation("g1"));
    typed(&mut bed, &bob, "bob", 5_000);
    assert_eq!(told(&mut bed), [line("bob", true)]);
    bed.pass(4_000);
    typed(&mut bed, &bob, "bob", 5_000);
    typed(&mut bed, &group, "carol", 2_000);
    assert_eq!(told(&mut bed), [line("carol", true)]);
    bed.pass(1_999);
    assert!(told(&mut bed).is_empty());
    bed.pass(1);
    assert_eq!(told(&mut bed), [line("carol", false)]);
    bed.pass(3_000);
    assert_eq!(told(&mut bed), [line("bob", false)]);
    // The relay may say that it is over; what lasts too long is cut.
    typed(&mut bed, &bob, "bob", 5_000);
    typed(&mut bed, &bob, "bob", 0);
    typed(&mut bed, &bob, "bob", 0);
    assert_eq!(told(&mut bed), [line("bob", true), line("bob", false)]);
    let mut bed = Bed::new();
    bed.greet();
    let Relay::Welcome(mut hi) = welcome("e1", 0) else { unreachable!() };
    hi.silence_ms = 0;
    bed.say(1, Relay::Welcome(hi));
    typed(&mut bed, &bob, "bob", u32::MAX);
    bed.pass(TYPING_EXPIRES_MAX_MS - 1);
    assert_eq!(told(&mut bed), [line("bob", true)]);
    bed.pass(1);
    assert_eq!(told(&mut bed), [line("bob", false)]);
}

#[test]
fn a_message_or_the_end_of_the_connection_ends_it_at_once() {
    let mut bed = Bed::online();
    bed.saves_at_once = false;
    let group = conversation("g1");
    for (place, who) in [(&with("bob"), "bob"), (&group, "bob"), (&group, "carol")] {
        typed(&mut bed, place, who, 20_000);
    }
    assert_eq!(told(&mut bed).len(), 3);
    bed.say(0, bobs(1, 1));
    assert!(told(&mut bed).is_empty(), "not before the message is told");
    while bed.save() {}
    let kinds: Vec<_> = bed
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Message(_) => Some("message"),
            Event::Typing { conversation, typing: false, .. } if *conversation == with("bob") => {
                Some("ceased")
            }
            Event::Typing { .. } => Some("another"),
            _ => None,
        })
        .collect();
    assert_eq!(kinds, ["message", "ceased"]);
    bed.events.clear();
    // Also by a stop.
    bed.close(Code::KICKED);
    assert_eq!(told(&mut bed), [line("bob", false), line("carol", false)]);
    assert_eq!(bed.client.next_deadline(), None);

    let mut bed = Bed::online();
    typed(&mut bed, &group, "bob", 20_000);
    bed.close(Code(1006));
    assert_eq!(told(&mut bed), [line("bob", true), line("bob", false)]);
}

#[test]
fn those_who_write_are_bounded_and_others_than_the_user() {
    let mut bed = Bed::online();
    let group = conversation("g1");
    typed(&mut bed, &group, "alice", 5_000);
    typed(&mut bed, &with("bob"), "carol", 5_000);
    typed(&mut bed, &ConversationId::direct(&user("bob"), &user("carol")), "bob", 5_000);
    typed(&mut bed, &group, "", 5_000);
    bed.say(0, Relay::Typed(wire::Typed::default()));
    assert!(told(&mut bed).is_empty());
    for n in 0..TYPING_MAX {
        typed(&mut bed, &group, &format!("u{n}"), 5_000);
    }
    assert_eq!(told(&mut bed).len(), TYPING_MAX);
    typed(&mut bed, &group, "one-more", 5_000);
    assert_eq!(told(&mut bed), [line("u0", false), line("one-more", true)]);
    bed.pass(5_000);
    assert_eq!(told(&mut bed).len(), TYPING_MAX, "nobody is left writing");
}

#[test]
fn what_is_written_after_a_message_was_sent_is_told_at_once() {
    let mut bed = Bed::new();
    let bob = with("bob");
    bed.go_online(0);
    types(&mut bed, &bob);
    bed.send(&bob, "done");
    types(&mut bed, &bob);
    assert_eq!(frames(&mut bed), [bob.as_str(), bob.as_str()]);
}
