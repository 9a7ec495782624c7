//! Entries of the queue that gather for one save, and what does not wait for more of them.

// Helpers are test code too; clippy sees only `#[test]` functions so.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

mod common;

use common::*;
use hongyan_client::limits::*;
use hongyan_client::{Command, HostEvent, Write};
use hongyan_protocol::wire::{self, relay_frame};
use hongyan_protocol::{Code, Key};

type Happens = Box<dyn Fn(&mut Bed)>;

/// Entries in one frame.
const FRAME: u64 = GATHERED_ENTRIES / 5;

/// Online behind so many entries, after many others that this connection brought; saves wait to be answered.
fn behind(entries: u64) -> Bed {
    let mut bed = Bed::online();
    bed.send(&with("bob"), "own");
    bed.close(Code(1006));
    bed.go_online(GATHERED_ENTRIES + entries);
    bed.say(0, bobs(1, GATHERED_ENTRIES));
    bed.saves_at_once = false;
    bed.send(&with("carol"), "other");
    while bed.save() {}
    bed
}

/// The first of them come.
fn come(bed: &mut Bed, from: u64, to: u64) {
    for n in (from..=to).step_by(FRAME as usize) {
        bed.say(0, bobs(GATHERED_ENTRIES + n, GATHERED_ENTRIES + to.min(n + FRAME - 1)));
    }
}

/// Messages in the save that is under way.
fn saving(bed: &Bed) -> Option<u64> {
    let (_, writes) = bed.saves.front()?;
    Some(writes.iter().filter(|write| matches!(write, Write::Message(..))).count() as u64)
}

#[test]
fn a_save_waits_for_many_entries_while_as_many_are_known_to_come() {
    let all = 3 * GATHERED_ENTRIES + 2 * FRAME;
    let mut bed = Bed::online();
    bed.close(Code(1006));
    bed.go_online(all);
    bed.saves_at_once = false;
    let mut sizes = Vec::new();
    for n in (1..=all).step_by(FRAME as usize) {
        bed.say(0, bobs(n, n + FRAME - 1));
        sizes.extend(saving(&bed));
        bed.save();
    }
    // As many as came already, at most so many; and the last ones are too few.
    assert_eq!(sizes, [FRAME, FRAME, 2 * FRAME, 4 * FRAME, 5 * FRAME, FRAME, FRAME, FRAME, FRAME]);
    assert_eq!(bed.messages().len() as u64, all);

    // What gathered while another save was under way waits as well.
    let mut bed = behind(3 * GATHERED_ENTRIES);
    come(&mut bed, 1, GATHERED_ENTRIES + FRAME);
    bed.save();
    assert_eq!(saving(&bed), None);
    come(&mut bed, GATHERED_ENTRIES + FRAME + 1, 2 * GATHERED_ENTRIES);
    assert_eq!(saving(&bed), Some(GATHERED_ENTRIES));

    // What is full does not.
    let mut bed = behind(8 * GATHERED_ENTRIES);
    come(&mut bed, 1, GATHERED_ENTRIES + SAVED_ENTRIES_MAX + FRAME);
    bed.save();
    assert_eq!(saving(&bed), Some(SAVED_ENTRIES_MAX));

    // The relay tells with each frame how far the queue is by now.
    let mut bed = behind(0);
    let relay_frame::Event::Batch(first) = bobs(GATHERED_ENTRIES + 1, GATHERED_ENTRIES + FRAME) else {
        return;
    };
    bed.say(0, relay_frame::Event::Batch(wire::Batch { head: 2 * GATHERED_ENTRIES, ..first }));
    assert_eq!(saving(&bed), None);
    come(&mut bed, FRAME + 1, GATHERED_ENTRIES);
    assert_eq!(saving(&bed), Some(GATHERED_ENTRIES));
}

#[test]
fn what_gathers_is_saved_after_a_while_whatever_comes() {
    let mut bed = behind(4 * GATHERED_ENTRIES);
    for part in 0..2 {
        let from = part * 2 * FRAME;
        come(&mut bed, from + 1, from + FRAME);
        bed.pass(GATHER_MS - 1);
        come(&mut bed, from + FRAME + 1, from + 2 * FRAME);
        assert_eq!(saving(&bed), None);
        bed.pass(1);
        assert_eq!(saving(&bed), Some(2 * FRAME));
        bed.save();
    }
    // What came in time leaves no deadline behind.
    let from = 4 * FRAME;
    come(&mut bed, from + 1, from + FRAME);
    bed.pass(GATHER_MS - 1);
    come(&mut bed, from + FRAME + 1, from + GATHERED_ENTRIES);
    assert_eq!(saving(&bed), Some(GATHERED_ENTRIES));
    bed.save();
    come(&mut bed, from + GATHERED_ENTRIES + 1, from + GATHERED_ENTRIES + FRAME);
    bed.pass(GATHER_MS - 1);
    assert_eq!(saving(&bed), None);
}

#[test]
fn only_entries_of_the_queue_wait_and_only_on_a_connection_that_somebody_looks_at() {
    let own = || {
        let own = log_message(&with("bob"), GATHERED_ENTRIES + FRAME + 1, "alice", "own");
        batch(vec![entry(GATHERED_ENTRIES + FRAME + 1, wire::entry::Change::Message(own))])
    };
    let reset = || {
        let reset = wire::Reset { epoch: "e2".into(), pos: 9, cause: wire::ResetCause::CursorExpired.into() };
        relay_frame::Event::Reset(reset)
    };
    let snapshot =
        || relay_frame::Event::Snapshot(wire::Snapshot { done: true, ..wire::Snapshot::default() });
    let leave = HostEvent::Leave { returns_in_ms: 0, returns: false };
    let all: [(&str, Happens); 11] = [
        (
            "a send",
            Box::new(|bed| {
                bed.send(&with("bob"), "k");
            }),
        ),
        (
            "a discard",
            Box::new(|bed| {
                bed.command(Command::Discard(Key::new("unknown").unwrap()));
            }),
        ),
        (
            "a read mark",
            Box::new(|bed| {
                bed.command(Command::MarkRead { conversation: with("bob"), seq: None });
            }),
        ),
        (
            "an answer to a send",
            Box::new(|bed| {
                let (request, send) = bed.sent();
                bed.confirm(request, &send, 4 * GATHERED_ENTRIES);
            }),
        ),
        ("the queue confirms a send", Box::new(move |bed| bed.say(0, own()))),
        (
            "a reset",
            Box::new(move |bed| {
                bed.say(0, reset());
                bed.say(0, snapshot());
            }),
        ),
        ("a gap", Box::new(|bed| bed.say(0, bobs(2 * GATHERED_ENTRIES, 2 * GATHERED_ENTRIES + FRAME)))),
        ("the connection ends", Box::new(|bed| bed.close(Code(1006)))),
        ("the page is hidden", Box::new(|bed| bed.host(HostEvent::Visible(false)))),
        ("the page ends", Box::new(move |bed| bed.host(leave))),
        (
            "the client closes",
            Box::new(|bed| {
                bed.command(Command::Close);
            }),
        ),
    ];
    for (what, happens) in all {
        let mut bed = behind(3 * GATHERED_ENTRIES);
        come(&mut bed, 1, FRAME);
        assert_eq!(saving(&bed), None, "{what}");
        happens(&mut bed);
        assert!(saving(&bed).is_some(), "{what}");
    }
}
