//! The conversation list: groups and their changes, read marks, order and bounds.

// Helpers are test code too; clippy sees only `#[test]` functions so.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

mod common;

use common::*;
use hongyan_client::limits::*;
use hongyan_client::view::GroupUpdateKind;
use hongyan_client::{Command, Event};
use hongyan_protocol::wire::client_frame::Verb;
use hongyan_protocol::wire::{self, GroupChangeKind, entry::Change, relay_frame::Event as Relay};
use hongyan_protocol::{Code, GroupVersion, Seq, Time};

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
    // A message may have been sent before, so that one is for the relay to refuse.
    let recall = bed.command(Command::Change {
        conversation: group.clone(),
        seq: Seq(11),
        key: None,
        change: hongyan_client::Change::Recall,
    });
    assert_eq!(bed.error(recall), Code::NOT_A_MEMBER);
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
