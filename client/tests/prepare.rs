//! What other tabs are told before it is durable, so that they can tell it once it is.

// Helpers are test code too; clippy sees only `#[test]` functions so.
#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use hongyan_client::view::Status;
use hongyan_client::{Event, Input};
use hongyan_protocol::Code;
use hongyan_protocol::wire::{self, entry::Change};

fn shared() -> Bed {
    let mut bed = Bed::online();
    bed.shared = true;
    bed.crash();
    bed.go_online(0);
    bed.prepared.clear();
    bed.events.clear();
    bed
}

fn short(event: &Event) -> String {
    match event {
        Event::Message(message) => format!("message {}", message.key),
        Event::Outbox(message, _) if message.status == Status::Sent => format!("sent {}", message.key),
        Event::Outbox(message, error) => format!("outbox {} {}", message.key, error.is_some()),
        Event::Conversation(line) => format!("line {} {}", line.id, line.last_seq),
        Event::Group(update) => format!("group {}", update.conversation),
        Event::Gap => "gap".into(),
        Event::Change { message, .. } => format!("change {}", message.key),
        Event::Profile(profile) => format!("profile {} {}", profile.user, profile.version),
        Event::ChangesGap { conversation } => format!("changes gap {conversation}"),
        Event::LogGap { conversation, .. } => format!("log gap {conversation}"),
        Event::State(_) | Event::Presence(_) | Event::Typing { .. } => "of the moment".into(),
    }
}

fn prepared(bed: &mut Bed) -> Vec<Vec<String>> {
    let prepared = std::mem::take(&mut bed.prepared);
    prepared.iter().map(|events| events.iter().map(short).collect()).collect()
}

fn told(bed: &mut Bed) -> Vec<String> {
    let told = std::mem::take(&mut bed.events);
    told.iter().map(short).filter(|event| event != "of the moment").collect()
}

#[test]
fn each_transaction_is_announced_right_before_its_save_with_all_that_will_be_told() {
    let mut bed = shared();
    bed.saves_at_once = false;
    let change = wire::GroupChange {
        conversation: "g1".into(),
        kind: wire::GroupChangeKind::Created.into(),
        by: "bob".into(),
        users: vec!["alice".into()],
        version: 1,
        owner: "bob".into(),
        ..Default::default()
    };
    let message = log_message(&with("bob"), 1, "bob", "b1");
    bed.say(0, batch(vec![entry(1, Change::Message(message)), entry(2, Change::Group(change))]));
    assert_eq!(bed.said_last, ["prepare", "save"]);
    let expected = vec![
        "message b1".to_owned(),
        "group g1".into(),
        "line g1 0".into(),
        format!("line {} 1", with("bob")),
    ];
    assert_eq!(prepared(&mut bed), std::slice::from_ref(&expected));
    assert!(told(&mut bed).is_empty());
    // What gathers meanwhile is announced with its own save.
    bed.say(0, batch(vec![entry(3, Change::Message(log_message(&with("bob"), 2, "bob", "b2")))]));
    assert!(bed.prepared.is_empty());
    bed.save();
    assert_eq!(bed.said_last.iter().filter(|kind| **kind == "prepare").count(), 1);
    assert_eq!(prepared(&mut bed), [vec!["message b2".to_owned(), format!("line {} 2", with("bob"))]]);
    let now = told(&mut bed);
    assert_eq!(now[..3], expected[..3], "told as announced, but the line as it is by now");
    assert_eq!(now[3], format!("line {} 2", with("bob")));
    while bed.save() {}

    // A send's confirmation; one with nothing to tell is announced, too.
    told(&mut bed);
    bed.send(&with("bob"), "k1");
    bed.save();
    bed.acks();
    let (request, send) = bed.sent();
    bed.prepared.clear();
    bed.confirm(request, &send, 3);
    assert_eq!(prepared(&mut bed), [vec!["sent k1".to_owned(), format!("line {} 3", with("bob"))]]);
    while bed.save() {}
    bed.prepared.clear();
    bed.say(0, batch(vec![wire::Entry { pos: 4, change: None }]));
    assert_eq!(prepared(&mut bed), [Vec::<String>::new()]);
}

#[test]
fn a_save_that_is_repeated_in_memory_is_announced_once() {
    let mut bed = shared();
    bed.saves_at_once = false;
    bed.say(0, bobs(1, 1));
    let (ticket, _) = bed.saves.pop_front().unwrap();
    bed.feed(Input::SaveFailed(ticket, "quota".into()));
    assert_eq!((bed.saves.len(), bed.prepared.len()), (1, 1));
    while bed.save() {}
    assert_eq!(bed.messages(), ["b1"]);
}

#[test]
fn nothing_is_announced_where_nobody_listens() {
    let mut bed = Bed::online();
    bed.say(0, bobs(1, 3));
    bed.close(Code(1006));
    assert!(bed.prepared.is_empty() && !bed.disk.messages.is_empty());
}
