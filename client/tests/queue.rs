//! The queue: what is applied, persisted, told and acknowledged, in which order and how often.

// Helpers are test code too; clippy sees only `#[test]` functions so.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

mod common;

use bytes::Bytes;
use common::*;
use hongyan_client::limits::*;
use hongyan_client::{Event, Input, Storage, Write};
use hongyan_protocol::Code;
use hongyan_protocol::wire::client_frame::Verb;
use hongyan_protocol::wire::{self, Content, MessageChangeKind, entry::Change};
use proptest::prelude::*;
use prost::Message as _;

#[test]
fn messages_are_told_only_when_they_are_durable_and_then_acknowledged() {
    let mut bed = Bed::online();
    bed.saves_at_once = false;
    bed.say(0, bobs(1, 3));
    assert!(bed.messages().is_empty());
    assert!(
        bed.saves[0].1.iter().any(|write| matches!(write, Write::Meta(_))),
        "the cursor is in the same save"
    );
    // Meanwhile the next gather, and stay one save.
    bed.say(0, bobs(4, 5));
    bed.say(0, bobs(6, 6));
    bed.pass(ACK_DELAY_MS * 2);
    assert!(bed.acks().is_empty());
    bed.save();
    assert_eq!(bed.messages(), ["b1", "b2", "b3"]);
    let told = bed.events.iter().filter(|event| matches!(event, Event::Conversation(_))).count();
    assert_eq!(told, 1, "once per changed conversation");
    bed.pass(ACK_DELAY_MS);
    assert_eq!(bed.acks(), [3]);
    assert_eq!(bed.saves.len(), 1);
    bed.save();
    assert_eq!(bed.messages(), ["b1", "b2", "b3", "b4", "b5", "b6"]);
    bed.pass(ACK_DELAY_MS);
    assert_eq!(bed.acks(), [6]);
}

#[test]
fn what_gathers_while_the_cache_is_slow_is_saved_in_parts() {
    let mut bed = Bed::online();
    bed.saves_at_once = false;
    let all = 3 * SAVED_ENTRIES_MAX + 5;
    bed.say(0, bobs(1, 1));
    for n in (2..=all).step_by(100) {
        bed.say(0, bobs(n, all.min(n + 99)));
    }
    let mut told = 0;
    let mut sizes = Vec::new();
    while let Some((_, writes)) = bed.saves.front() {
        let messages = writes.iter().filter(|write| matches!(write, Write::Message(..))).count();
        assert!(writes.iter().any(|write| matches!(write, Write::Meta(_))), "each with its cursor");
        assert_eq!(bed.saves.len(), 1, "one is under way at most");
        sizes.push(messages as u64);
        bed.save();
        told += messages;
        assert_eq!(bed.messages().len(), told, "what is durable is told, and nothing else");
    }
    assert_eq!(sizes, [1, SAVED_ENTRIES_MAX, SAVED_ENTRIES_MAX, SAVED_ENTRIES_MAX, 4]);
    let names: Vec<String> = (1..=all).map(|n| format!("b{n}")).collect();
    assert_eq!(bed.messages(), names);
}

#[test]
fn a_part_is_full_with_many_conversations_or_many_bytes() {
    let writers = SAVED_CONVERSATIONS_MAX as u64 + 1;
    let content = Content { text: "x".repeat(SAVED_BYTES_TARGET / 4), ..Content::default() }.encode_to_vec();
    let few = |n: u64| {
        let from = format!("writer-{n}");
        log_message(&with(&from), 1, &from, &format!("few-{n}"))
    };
    let long = |n| wire::Message {
        content: content.clone().into(),
        ..log_message(&with("bob"), n, "bob", &format!("long-{n}"))
    };
    // Of a message that is edited over and over each state is written.
    let edit = |number| {
        let kind = MessageChangeKind::Edited.into();
        let edited = wire::Message { edited: number, ..long(1) };
        Change::MessageChange(wire::MessageChange {
            number,
            kind,
            message: Some(edited),
            ..wire::MessageChange::default()
        })
    };
    let written: Vec<_> = (2..=6).map(|n| Change::Message(long(n))).collect();
    let edited: Vec<_> = (1..=5).map(edit).collect();
    for last in [written, edited] {
        let few_and_long = (1..=writers).map(few).chain([long(1)]).map(Change::Message);
        let entries = (2..).zip(few_and_long.chain(last)).map(|(pos, change)| entry(pos, change));
        let mut bed = Bed::online();
        bed.saves_at_once = false;
        bed.say(0, batch(vec![entry(1, Change::Message(few(0)))]));
        for entry in entries {
            bed.say(0, batch(vec![entry]));
        }
        let mut sizes = Vec::new();
        while let Some((_, writes)) = bed.saves.front() {
            sizes.push(writes.iter().filter(|write| matches!(write, Write::Message(..))).count());
            bed.save();
        }
        assert_eq!(sizes, [1, SAVED_CONVERSATIONS_MAX, 5, 2]);
    }
}

#[test]
fn a_process_that_ends_between_parts_begins_where_they_end() {
    let mut bed = Bed::online();
    bed.saves_at_once = false;
    let all = 2 * SAVED_ENTRIES_MAX;
    bed.say(0, bobs(1, 1));
    for n in (2..=all).step_by(100) {
        bed.say(0, bobs(n, all.min(n + 99)));
    }
    bed.save();
    bed.save();
    bed.crash();
    bed.saves_at_once = true;
    bed.restore();
    let hello = bed.go_online(all);
    assert_eq!(hello.cursor, 1 + SAVED_ENTRIES_MAX);
}

#[test]
fn acknowledgements_are_coalesced_by_time_and_by_count() {
    let mut bed = Bed::online();
    for n in 1..ACK_ENTRIES {
        bed.say(0, bobs(n, n));
    }
    assert!(bed.acks().is_empty());
    bed.say(0, bobs(ACK_ENTRIES, ACK_ENTRIES));
    assert_eq!(bed.acks(), [ACK_ENTRIES]);
    bed.say(0, bobs(ACK_ENTRIES + 1, ACK_ENTRIES + 1));
    bed.pass(ACK_DELAY_MS - 1);
    assert!(bed.acks().is_empty());
    bed.pass(1);
    assert_eq!(bed.acks(), [ACK_ENTRIES + 1]);
}

#[test]
fn what_was_applied_is_skipped_and_a_gap_is_asked_for_once() {
    let mut bed = Bed::online();
    bed.say(0, bobs(1, 3));
    bed.say(0, bobs(1, 4));
    assert_eq!(bed.messages(), ["b1", "b2", "b3", "b4"]);
    bed.say(0, bobs(7, 8));
    bed.say(0, bobs(9, 9));
    let resumes: Vec<_> = bed
        .frames
        .drain(..)
        .filter_map(|frame| match frame.verb {
            Some(Verb::Resume(resume)) => Some(resume.cursor),
            _ => None,
        })
        .collect();
    assert_eq!(resumes, [4]);
    assert_eq!(bed.messages().len(), 4);
    bed.say(0, bobs(5, 9));
    assert_eq!(bed.messages().len(), 9);
    // Answered: the next gap is asked for again.
    bed.say(0, bobs(11, 11));
    assert!(
        bed.frames.iter().any(|frame| matches!(frame.verb, Some(Verb::Resume(wire::Resume { cursor: 9 }))))
    );
}

#[test]
fn entries_of_unknown_kind_take_their_position() {
    let mut bed = Bed::online();
    bed.say(0, batch(vec![wire::Entry { pos: 1, change: None }]));
    bed.say(0, bobs(2, 2));
    assert_eq!(bed.messages(), ["b2"]);
    bed.pass(ACK_DELAY_MS);
    assert_eq!(bed.acks(), [2]);
}

#[test]
fn a_hello_gives_what_is_durable_and_what_is_streamed_again_is_passed_over() {
    let mut bed = Bed::online();
    bed.say(0, bobs(1, 3));
    bed.saves_at_once = false;
    bed.say(0, bobs(4, 6));
    bed.close(Code(1006));
    let hello = bed.go_online(6);
    assert_eq!((hello.cursor, hello.epoch.as_str()), (3, "e1"));
    bed.say(0, bobs(4, 6));
    assert!(!bed.client.state().caught_up, "not durable yet");
    bed.saves_at_once = true;
    bed.crash();
    assert_eq!(bed.messages(), ["b1", "b2", "b3"]);
    let hello = bed.go_online(6);
    assert_eq!(hello.cursor, 3);
    assert!(!bed.client.state().caught_up);
    bed.say(0, bobs(4, 6));
    assert!(bed.client.state().caught_up);
    assert_eq!(bed.messages(), ["b1", "b2", "b3", "b4", "b5", "b6"]);
}

#[test]
fn a_save_that_fails_goes_to_memory_and_the_disks_cursor_stays_older() {
    let mut bed = Bed::online();
    bed.say(0, bobs(1, 2));
    let disk = bed.disk.clone();
    bed.saves_at_once = false;
    bed.say(0, bobs(3, 4));
    let (ticket, writes) = bed.saves.pop_front().unwrap();
    bed.feed(Input::SaveFailed(ticket, "quota".into()));
    assert_eq!(bed.client.state().storage, Storage::Memory);
    let (again, same) = bed.saves.pop_front().unwrap();
    assert_ne!(ticket, again);
    assert_eq!(writes.len(), same.len());
    assert_eq!(bed.messages().len(), 2);
    bed.feed(Input::Saved(again));
    assert_eq!(bed.messages().len(), 4);
    bed.disk = disk;
    bed.crash();
    bed.saves_at_once = true;
    assert_eq!(bed.client.state().storage, Storage::IndexedDb);
    assert_eq!(bed.go_online(4).cursor, 2);
    // If memory fails too it is still only a cache: life goes on.
    bed.saves_at_once = false;
    bed.say(0, bobs(3, 3));
    for _ in 0..2 {
        let (ticket, _) = bed.saves.pop_front().unwrap();
        bed.feed(Input::SaveFailed(ticket, "quota".into()));
    }
    assert_eq!(bed.messages().last().unwrap(), "b3");
}

#[test]
fn too_much_that_is_not_durable_is_passed_over_and_asked_for_again() {
    let mut bed = Bed::online();
    bed.saves_at_once = false;
    let mut n = 0;
    while n < UNSAVED_ENTRIES_MAX {
        bed.say(0, bobs(n + 1, n + 256));
        n += 256;
    }
    bed.say(0, bobs(n + 1, n + 256));
    bed.frames.clear();
    while bed.save() {}
    let resume = bed.frames.iter().find_map(|frame| match frame.verb {
        Some(Verb::Resume(resume)) => Some(resume.cursor),
        _ => None,
    });
    assert_eq!(resume, Some(n));
    bed.saves_at_once = true;
    bed.say(0, bobs(n + 1, n + 256));
    assert_eq!(bed.messages().len() as u64, n + 256);
}

#[test]
fn a_cache_that_cannot_be_trusted_is_dropped_and_keeps_its_device_only_for_its_user() {
    type Damage = fn(&mut Disk);
    let cases: [(&str, bool, Damage); 5] = [
        ("broken conversation", true, |disk| {
            disk.conversations.insert(with("zoe"), Bytes::from_static(b"\xff\xff"));
        }),
        ("broken outbox", true, |disk| {
            disk.outbox.insert(1, Bytes::from_static(b"\xff\xff"));
        }),
        ("broken meta", false, |disk| disk.meta = Some(Bytes::from_static(b"\xff\xff"))),
        ("lost meta", false, |disk| disk.meta = None),
        ("another user", false, |disk| {
            // The user is the record's second field: the same length, another name.
            let meta = disk.meta.clone().unwrap().to_vec();
            let at = meta.windows(5).position(|bytes| bytes == b"alice").unwrap();
            disk.meta = Some([&meta[..at], b"mable", &meta[at + 5..]].concat().into());
        }),
    ];
    for (name, keeps, damage) in cases {
        let mut bed = Bed::online();
        bed.say(0, bobs(1, 3));
        let device = bed.client.device().cloned();
        damage(&mut bed.disk);
        bed.crash();
        assert_eq!(bed.client.device().cloned() == device, keeps, "{name}");
        assert!(bed.list().is_empty() && bed.disk.messages.is_empty(), "{name}");
        let hello = bed.go_online(3);
        assert_eq!((hello.epoch.as_str(), hello.cursor), ("", 0), "{name}");
    }
}

#[test]
fn what_waits_survives_a_cache_that_is_dropped_and_is_nobody_elses() {
    type Damage = fn(&mut Disk);
    let cases: [(&str, usize, Damage); 5] = [
        ("broken conversation", 2, |disk| {
            disk.conversations.insert(with("zoe"), Bytes::from_static(b"\xff\xff"));
        }),
        ("broken outbox", 2, |disk| {
            disk.outbox.insert(0, Bytes::from_static(b"\xff\xff"));
        }),
        ("broken meta", 2, |disk| disk.meta = Some(Bytes::from_static(b"\xff\xff"))),
        // A host whose database is of another version keeps the outbox only.
        ("lost meta", 2, |disk| disk.meta = None),
        ("another user", 0, |disk| {
            let meta = disk.meta.clone().unwrap().to_vec();
            let at = meta.windows(5).position(|bytes| bytes == b"alice").unwrap();
            disk.meta = Some([&meta[..at], b"mable", &meta[at + 5..]].concat().into());
        }),
    ];
    for (name, kept, damage) in cases {
        let mut bed = Bed::online();
        bed.say(0, bobs(1, 3));
        bed.close(Code(1006));
        for text in ["first", "second"] {
            bed.send(&with("bob"), text);
        }
        let before = bed.disk.outbox.clone();
        damage(&mut bed.disk);
        bed.crash();
        assert!(bed.disk.messages.is_empty(), "{name}");
        assert_eq!(bed.disk.outbox.len(), kept, "{name}");
        assert!(bed.disk.outbox.iter().all(|(order, record)| before.get(order) == Some(record)), "{name}");
        // Also when nobody was reached before the next end.
        bed.crash();
        assert_eq!(bed.list().len(), kept.min(1), "{name}");
        bed.go_online(3);
        let sends = bed.frames.iter().filter(|frame| matches!(frame.verb, Some(Verb::Send(_)))).count();
        assert_eq!(sends, kept.min(1), "{name}");
    }
}

/// One step of the random world.
#[derive(Clone, Debug)]
enum Step {
    /// The relay streams from somewhere, so many entries.
    Batch {
        from_back: u64,
        skip: u64,
        count: u64,
    },
    /// The stream as the relay would continue it.
    Live(u64),
    Save,
    Crash,
    /// So many more entries wait at the relay.
    Reconnect(u64),
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0..6u64, 0..3u64, 0..8u64).prop_map(|(from_back, skip, count)| Step::Batch { from_back, skip, count }),
        4 => (1..10u64).prop_map(Step::Live),
        4 => Just(Step::Save),
        1 => Just(Step::Crash),
        1 => (0..2u64).prop_map(|far| Step::Reconnect(far * 2 * GATHERED_ENTRIES)),
        1 => (0..300u64).prop_map(Step::Pass),
    ];
    proptest::collection::vec(step, 1..60)
}

/// The position in the hello is what is durable; the relay streams from it.
fn check(steps: Vec<Step>) {
    let mut bed = Bed::online();
    bed.saves_at_once = false;
    while bed.save() {}
    // What the application of all processes saw; a crash may take back what was not durable, never what was told.
    let mut cursor = 0;
    let mut durable = 0;
    let mut acked = 0;
    for step in steps {
        match step {
            Step::Batch { from_back, skip, count } => {
                let from = (cursor + 1 + skip).saturating_sub(from_back).max(1);
                if count > 0 {
                    bed.say(0, bobs(from, from + count - 1));
                    if from <= cursor + 1 {
                        cursor = cursor.max(from + count - 1);
                    }
                }
            }
            Step::Live(count) => {
                bed.say(0, bobs(cursor + 1, cursor + count));
                cursor += count;
            }
            Step::Save => {
                bed.save();
            }
            Step::Crash => {
                bed.crash();
                while bed.save() {}
                let hello = bed.go_online(cursor);
                assert!(hello.cursor >= durable, "the durable cursor went back");
                assert_eq!(hello.cursor, bed.messages().len() as u64, "told what is durable, and only that");
                cursor = hello.cursor;
            }
            Step::Reconnect(more) => {
                bed.close(Code(1006));
                let hello = bed.go_online(cursor + more);
                assert_eq!(hello.cursor, durable, "the cursor is the durable one");
                if hello.cursor < cursor {
                    bed.say(0, bobs(hello.cursor + 1, cursor));
                }
            }
            Step::Pass(ms) => bed.pass(ms),
        }
        for ack in bed.acks() {
            assert!(ack >= acked, "an acknowledgement went back");
            acked = ack;
            assert!(ack <= bed.messages().len() as u64, "acknowledged before it was durable");
        }
        durable = bed.messages().len() as u64;
        bed.frames.clear();
    }
    while bed.save() {}
    bed.pass(GATHER_MS);
    while bed.save() {}
    let keys: Vec<_> = (1..=cursor).map(|n| format!("b{n}")).collect();
    assert_eq!(bed.messages(), keys, "each once, in order");
    let line = if cursor > 0 { bed.line(&with("bob")).unread } else { 0 };
    assert_eq!(line, cursor);
    assert_eq!(bed.disk.messages.len() as u64, cursor);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn each_message_is_told_once_in_order_whatever_happens(steps in steps()) {
        check(steps);
    }

    #[test]
    fn no_bytes_of_a_cache_make_the_client_panic(
        meta in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..64)),
        records in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..64), 0..4),
        cut in 0..100usize,
    ) {
        let mut bed = Bed::online();
        bed.say(0, bobs(1, 3));
        bed.send(&with("bob"), "k1");
        if let Some(meta) = meta {
            bed.disk.meta = Some(meta.into());
        }
        for record in bed.disk.conversations.values_mut().chain(bed.disk.outbox.values_mut()) {
            record.truncate(cut);
        }
        for (order, record) in (5..).zip(records) {
            bed.disk.outbox.insert(order, record.into());
        }
        bed.crash();
        let hello = bed.go_online(3);
        prop_assert!(hello.cursor == 0 || hello.cursor == 3);
    }

    #[test]
    fn no_bytes_of_a_relay_make_the_client_panic(frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..64), 1..10), cut in 0..200usize) {
        let mut bed = Bed::online();
        for frame in frames {
            bed.feed(Input::Frame(bed.socket, frame.into()));
        }
        let mut whole = wire::RelayFrame::push(bobs(1, 3)).encode_to_vec();
        whole.truncate(cut);
        bed.feed(Input::Frame(bed.socket, whole.into()));
    }
}
