//! The queue: what is applied, persisted, told and acknowledged, in which order and how often.

// Helpers are test code too; clippy sees only `#[test]` functions so.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

mod common;

use bytes::Bytes;
use common::*;
use hongyan_client::limits::*;
use hongyan_client::view::GroupUpdateKind;
use hongyan_client::{Command, Event, Input, Storage, Write};
use hongyan_protocol::wire::client_frame::Verb;
use hongyan_protocol::wire::{
    self, Content, ConversationState, GroupChangeKind, MessageChangeKind, entry::Change,
    relay_frame::Event as Relay,
};
use hongyan_protocol::{Code, GroupVersion, Seq, Time};
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

fn change(kind: GroupChangeKind, by: &str, users: &[&str], version: u64, last_seq: u64) -> Change {
    Change::Group(wire::GroupChange {
        conversation: "g1".into(),
        kind: kind.into(),
        by: by.into(),
        users: users.iter().map(|user| (*user).to_owned()).collect(),
        time: 500 + version,
        version,
        title: format!("v{version}"),
        owner: "bob".into(),
        member_count: 3,
        last_seq,
        by_log: false,
        changes: 0,
    })
}

#[test]
fn groups_follow_their_changes_and_pass_over_older_ones() {
    let mut bed = Bed::online();
    let group = conversation("g1");
    bed.say(0, batch(vec![entry(1, change(GroupChangeKind::Added, "bob", &["alice"], 4, 10))]));
    let line = bed.line(&group);
    assert_eq!((line.read_seq, line.last_seq, line.unread, line.left), (Seq(10), Seq(10), 0, false));
    bed.say(0, batch(vec![entry(2, Change::Message(log_message(&group, 11, "bob", "m11")))]));
    assert_eq!(bed.line(&group).unread, 1);
    bed.say(0, batch(vec![entry(3, change(GroupChangeKind::Created, "bob", &["alice"], 1, 0))]));
    assert_eq!(bed.line(&group).group.unwrap().version, GroupVersion(4));
    bed.say(0, batch(vec![entry(4, change(GroupChangeKind::Removed, "bob", &["alice"], 5, 11))]));
    assert!(bed.line(&group).left);
    let send = bed.send(&group, "k1");
    assert_eq!(bed.error(send), Code::NOT_A_MEMBER);
    bed.say(0, batch(vec![entry(5, change(GroupChangeKind::Added, "bob", &["alice"], 6, 20))]));
    let line = bed.line(&group);
    assert_eq!((line.left, line.read_seq, line.unread, line.time), (false, Seq(20), 0, Time(1_011)));
    bed.say(0, batch(vec![entry(6, change(GroupChangeKind::Left, "alice", &["alice"], 7, 20))]));
    assert!(bed.line(&group).left);
    let kinds: Vec<_> = bed
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Group(update) => Some(update.kind),
            _ => None,
        })
        .collect();
    use GroupUpdateKind::{Added, Left, Removed};
    assert_eq!(kinds, [Added, Removed, Added, Left]);
    bed.crash();
    assert!(bed.line(&group).left);
}

#[test]
fn read_marks_move_at_once_never_back_and_reach_the_relay_after_a_reconnect() {
    let mut bed = Bed::online();
    let bob = with("bob");
    bed.say(0, bobs(1, 5));
    bed.close(Code(1006));
    let read = bed.command(Command::MarkRead { conversation: bob.clone(), seq: Some(Seq(3)) });
    assert!(bed.answered(read));
    assert_eq!(bed.line(&bob).unread, 2);
    bed.command(Command::MarkRead { conversation: bob.clone(), seq: Some(Seq(2)) });
    assert_eq!(bed.line(&bob).read_seq, Seq(3));
    bed.crash();
    assert_eq!(bed.line(&bob).unread, 2);
    bed.go_online(5);
    let frame = bed.frame();
    assert!(matches!(&frame.verb, Some(Verb::MarkRead(mark)) if mark.seq == 3));
    // Moved on while it was on the way: told when that is answered.
    bed.command(Command::MarkRead { conversation: bob.clone(), seq: None });
    assert!(bed.frames.is_empty());
    bed.say(frame.request, Relay::MarkedRead(wire::MarkedRead { conversation: bob.as_str().into(), seq: 3 }));
    let frame = bed.frame();
    assert!(matches!(&frame.verb, Some(Verb::MarkRead(mark)) if mark.seq == 5));
    bed.reject(frame.request, Code::RATE_LIMITED, 1_000);
    bed.pass(999);
    assert!(bed.frames.is_empty());
    bed.pass(BACKOFF_FIRST_MS * 8);
    let frame = bed.frame();
    bed.say(frame.request, Relay::MarkedRead(wire::MarkedRead { conversation: bob.as_str().into(), seq: 5 }));
    bed.close(Code(1006));
    bed.go_online(5);
    assert!(bed.frames.is_empty(), "taken");
    // Another device's mark; an older one changes nothing.
    bed.say(0, bobs(6, 8));
    let mark = |seq| Change::Read(wire::ReadMark { conversation: bob.as_str().into(), seq });
    bed.say(0, batch(vec![entry(9, mark(7)), entry(10, mark(6))]));
    assert_eq!((bed.line(&bob).read_seq, bed.line(&bob).unread), (Seq(7), 1));
}

#[test]
fn the_list_is_newest_first_and_pages_without_repeats() {
    let mut bed = Bed::online();
    for (pos, peer) in ["b", "c", "d", "e"].into_iter().enumerate() {
        let pos = pos as u64 + 1;
        let mut message = log_message(&with(peer), 1, peer, "m");
        message.time = [5, 9, 9, 1][pos as usize - 1];
        bed.say(0, batch(vec![entry(pos, Change::Message(message))]));
    }
    let ids: Vec<_> = bed.list().into_iter().map(|line| line.peer.unwrap().as_str().to_owned()).collect();
    assert_eq!(ids, ["c", "d", "b", "e"]);
    let page = bed.command(Command::Conversations { limit: 2, before: Some(with("d")) });
    let Some(Ok(hongyan_client::Answer::Conversations(page))) = bed.replies.remove(&page) else { panic!() };
    assert!(page.iter().map(|line| line.id.clone()).eq([with("b"), with("e")]));
}

#[test]
fn old_messages_leave_the_cache_in_steps() {
    let mut bed = Bed::online();
    let bob = with("bob");
    for seq in [1, CACHED_MESSAGES_MAX, CACHED_MESSAGES_MAX + CACHED_MESSAGES_STEP] {
        let pos = match seq {
            1 => 1,
            CACHED_MESSAGES_MAX => 2,
            _ => 3,
        };
        assert!(bed.disk.messages.contains_key(&(bob.clone(), 1)) || pos == 1);
        bed.say(
            0,
            batch(vec![entry(pos, Change::Message(log_message(&bob, seq, "bob", &format!("b{seq}"))))]),
        );
    }
    assert!(!bed.disk.messages.contains_key(&(bob.clone(), 1)));
    assert_eq!(bed.disk.messages.len(), 2);
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

#[test]
fn the_list_is_bounded_and_the_quietest_goes() {
    let mut bed = Bed::online();
    let mut pos = 0;
    while pos <= CONVERSATIONS_MAX as u64 {
        let entries = (pos + 1..=pos + 200)
            .take_while(|pos| *pos <= CONVERSATIONS_MAX as u64 + 1)
            .map(|pos| {
                let peer = format!("user{pos}");
                let mut message = log_message(&with(&peer), 1, &peer, &format!("m{pos}"));
                message.time = pos;
                entry(pos, Change::Message(message))
            })
            .collect();
        bed.say(0, batch(entries));
        pos += 200;
    }
    assert_eq!(bed.messages().len(), CONVERSATIONS_MAX + 1, "told all the same");
    assert_eq!(bed.disk.conversations.len(), CONVERSATIONS_MAX);
    assert!(!bed.disk.conversations.contains_key(&with("user1")));
    assert!(!bed.disk.messages.contains_key(&(with("user1"), 1)));
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
    Reconnect,
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0..6u64, 0..3u64, 0..8u64).prop_map(|(from_back, skip, count)| Step::Batch { from_back, skip, count }),
        4 => (1..10u64).prop_map(Step::Live),
        4 => Just(Step::Save),
        1 => Just(Step::Crash),
        1 => Just(Step::Reconnect),
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
            Step::Reconnect => {
                bed.close(Code(1006));
                let hello = bed.go_online(cursor);
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
