//! A queue that can't be continued: the list replaces what was known, and what is missing is named.

// Helpers are test code too; clippy sees only `#[test]` functions so.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

mod common;

use common::*;
use hongyan_client::limits::ACK_DELAY_MS;
use hongyan_client::{Command, Write};
use hongyan_protocol::Code;
use hongyan_protocol::wire::client_frame::Verb;
use hongyan_protocol::wire::{self, ConversationState, entry::Change, relay_frame::Event as Relay};

fn state(id: &hongyan_protocol::ConversationId, last: u64, read: u64) -> ConversationState {
    ConversationState {
        conversation: id.as_str().into(),
        last_seq: last,
        read_seq: read,
        last_message: Some(log_message(id, last, "bob", &format!("s{last}"))),
        ..Default::default()
    }
}

fn reset(epoch: &str, pos: u64) -> Relay {
    Relay::Reset(wire::Reset { epoch: epoch.into(), pos, cause: 1 })
}

#[test]
fn a_reset_replaces_everything_but_the_outbox_in_one_transaction_and_names_the_gap() {
    let mut bed = Bed::online();
    bed.say(0, bobs(1, 3));
    bed.close(Code(1006));
    bed.send(&with("carol"), "k1");
    let device = bed.client.device().cloned();
    bed.greet();
    bed.say(1, welcome("e2", 70));
    assert!(!bed.client.state().caught_up);
    bed.frames.clear();
    bed.say(0, bobs(4, 4));
    assert_eq!(bed.messages().len(), 3, "nothing of another epoch is applied");
    bed.saves_at_once = false;
    bed.say(0, reset("e2", 70));
    let part = |states, done| Relay::Snapshot(wire::Snapshot { conversations: states, done });
    bed.say(0, part(vec![state(&with("bob"), 9, 4)], false));
    assert!(bed.saves.is_empty());
    bed.say(0, part(vec![state(&with("dan"), 5, 5)], true));
    assert_eq!(bed.gaps(), 0);
    let before = bed.disk.clone();
    assert!(matches!(bed.saves[0].1[0], Write::Clear));
    // A crash before it is durable leaves the old world whole.
    assert_eq!(before.messages.len(), 3);
    bed.saves_at_once = true;
    bed.save();
    assert_eq!(bed.gaps(), 1);
    assert!(bed.client.state().caught_up);
    assert_eq!(bed.disk.messages.len(), 2, "the old log's messages are gone");
    assert_eq!(bed.disk.outbox.len(), 1);
    assert_eq!((bed.line(&with("bob")).unread, bed.line(&with("dan")).unread), (5, 0));
    assert_eq!(bed.list().len(), 3);
    bed.say(0, bobs(71, 71));
    assert_eq!(bed.messages().last().unwrap(), "b71");
    bed.crash();
    let hello = bed.go_online(71);
    assert_eq!((hello.epoch.as_str(), hello.cursor), ("e2", 71));
    assert_eq!(bed.client.device().cloned(), device);
}

/// Cause 4: the device is new. What it never had is not missing, and it is told of no gap; who had something is.
#[test]
fn a_new_device_begins_with_the_list_and_without_a_gap() {
    let new = |pos| Relay::Reset(wire::Reset { epoch: "e1".into(), pos, cause: 4 });
    let list = |last, read| {
        let conversations =
            vec![ConversationState { own_unread: vec![last], ..state(&with("bob"), last, read) }];
        Relay::Snapshot(wire::Snapshot { conversations, done: true })
    };
    let mut bed = Bed::online();
    bed.say(0, new(70));
    bed.say(0, list(9, 4));
    assert_eq!(bed.gaps(), 0);
    assert!(bed.client.state().caught_up);
    assert_eq!(bed.line(&with("bob")).unread, 4, "its own message is not unread");
    // The queue goes on after the list.
    bed.say(0, batch(vec![entry(71, Change::Message(log_message(&with("bob"), 10, "bob", "b10")))]));
    assert_eq!(bed.messages(), ["b10"]);
    bed.say(0, new(80));
    bed.say(0, list(12, 4));
    assert_eq!(bed.gaps(), 1);
}

#[test]
fn a_cursor_ahead_of_the_head_waits_for_the_reset() {
    let mut bed = Bed::online();
    bed.say(0, bobs(1, 5));
    bed.close(Code(1006));
    bed.greet();
    bed.say(1, welcome("e1", 3));
    assert!(!bed.client.state().caught_up);
    bed.say(0, reset("e1", 3));
    bed.say(0, Relay::Snapshot(wire::Snapshot { conversations: vec![], done: true }));
    assert!(bed.client.state().caught_up);
    assert_eq!(bed.gaps(), 1);
    bed.say(0, bobs(4, 4));
    assert_eq!(bed.messages().len(), 6);
}

/// The hello's cursor is the durable one, so the relay can't see that it lacks what was received after it.
#[test]
fn what_was_received_beyond_the_head_makes_the_client_ask_for_the_reset() {
    let mut bed = Bed::online();
    bed.say(0, bobs(1, 2));
    bed.saves_at_once = false;
    bed.say(0, bobs(3, 5));
    bed.close(Code(1006));
    bed.frames.clear();
    let hello = bed.go_online(3);
    assert_eq!(hello.cursor, 2);
    let asked = bed.frames.iter().find_map(|frame| match &frame.verb {
        Some(Verb::Resume(resume)) => Some(resume.cursor),
        _ => None,
    });
    assert_eq!(asked, Some(5), "a cursor that the relay knows to be ahead");
}

/// Marks that wait were meant for the log before; in the new one their numbers are other messages.
#[test]
fn read_marks_are_not_told_across_a_reset() {
    let mut bed = Bed::online();
    bed.say(0, bobs(1, 5));
    bed.close(Code(1006));
    bed.command(Command::MarkRead { conversation: with("bob"), seq: None });
    bed.greet();
    bed.frames.clear();
    bed.say(1, welcome("e2", 9));
    bed.say(0, reset("e2", 9));
    bed.say(0, Relay::Snapshot(wire::Snapshot { conversations: vec![], done: true }));
    assert!(!bed.frames.iter().any(|frame| matches!(frame.verb, Some(Verb::MarkRead(_)))));
}

/// A new hello while the snapshot is being saved gave cursor 0 of the same epoch. Found by the simulated world.
#[test]
fn a_hello_before_the_snapshot_is_durable_tells_the_cursor_of_before() {
    let mut bed = Bed::online();
    bed.say(0, bobs(1, 3));
    bed.pass(ACK_DELAY_MS);
    assert_eq!(bed.acks(), [3]);
    bed.saves_at_once = false;
    let reset = wire::Reset { epoch: "e1".into(), pos: 9, cause: wire::ResetCause::CursorExpired.into() };
    bed.say(0, Relay::Reset(reset));
    bed.say(0, Relay::Snapshot(wire::Snapshot { conversations: Vec::new(), done: true }));
    bed.close(Code(1006));
    assert_eq!(bed.go_online(9).cursor, 3);
    bed.save();
    bed.close(Code(1006));
    assert_eq!(bed.go_online(9).cursor, 9);
}

#[test]
fn a_reset_of_the_same_log_keeps_read_marks_that_the_relay_has_not_taken() {
    for (epoch, unread) in [("e1", 1), ("e2", 6)] {
        let mut bed = Bed::online();
        bed.say(0, bobs(1, 8));
        bed.close(Code(1006));
        bed.command(Command::MarkRead { conversation: with("bob"), seq: None });
        bed.greet();
        bed.say(1, welcome(epoch, 9));
        bed.frames.clear();
        bed.say(0, reset(epoch, 9));
        let states = vec![state(&with("bob"), 9, 3)];
        bed.say(0, Relay::Snapshot(wire::Snapshot { conversations: states, done: true }));
        assert_eq!(bed.line(&with("bob")).unread, unread, "{epoch}");
    }
}
