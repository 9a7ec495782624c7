//! History and groups: from the cache, from the relay, through reconnects, and when neither is there.

// Helpers are test code too; clippy sees only `#[test]` functions so.
#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use hongyan_client::limits::*;
use hongyan_client::view::Status;
use hongyan_client::{Answer, Command};
use hongyan_protocol::wire::client_frame::Verb;
use hongyan_protocol::wire::{self, relay_frame::Event as Relay};
use hongyan_protocol::{Code, ConversationId};

/// The relay's answer to a history that it is asked, at most `most` messages of a log of `head`.
fn serve(bed: &mut Bed, of: &ConversationId, head: u64, most: usize) -> Option<wire::History> {
    let at = bed.frames.iter().position(|frame| matches!(frame.verb, Some(Verb::History(_))))?;
    let frame = bed.frames.remove(at).unwrap();
    let Some(Verb::History(asked)) = frame.verb else { unreachable!() };
    let message = |seq| log_message(of, seq, "bob", &format!("b{seq}"));
    let most = most.min(usize::try_from(asked.limit).unwrap());
    let messages: Vec<_> = if asked.after > 0 {
        (asked.after + 1..=head).take(most).map(message).collect()
    } else {
        let to = if asked.before > 0 { head.min(asked.before - 1) } else { head };
        let mut page: Vec<_> = (1..=to).rev().take(most).map(message).collect();
        page.reverse();
        page
    };
    let page = wire::HistoryPage { conversation: of.as_str().into(), messages, last_seq: head };
    bed.say(frame.request, Relay::HistoryPage(page));
    Some(asked)
}

fn seqs(from: u64, to: u64) -> Vec<u64> {
    (from..=to).collect()
}

#[test]
fn a_page_that_the_cache_has_is_answered_without_the_relay() {
    let bob = with("bob");
    let cases = [
        (None, None, 5, seqs(16, 20)),
        (None, None, 100, seqs(1, 20)),
        (Some(16), None, 5, seqs(11, 15)),
        (Some(3), None, 5, seqs(1, 2)),
        (Some(1), None, 5, vec![]),
        (Some(99), None, 2, seqs(19, 20)),
        (None, Some(0), 3, seqs(1, 3)),
        (None, Some(18), 5, seqs(19, 20)),
        (None, Some(20), 5, vec![]),
    ];
    for offline in [false, true] {
        let mut bed = Bed::online();
        bed.say(0, bobs(1, 20));
        if offline {
            bed.crash();
            bed.host(hongyan_client::HostEvent::Network(false));
        }
        for (before, after, limit, expected) in cases.clone() {
            let page = bed.history(&bob, before, after, limit);
            assert_eq!(bed.seqs(page), expected, "{before:?} {after:?} {limit}");
        }
        assert!(bed.frames.iter().all(|frame| !matches!(frame.verb, Some(Verb::History(_)))));
    }
}

#[test]
fn what_is_missing_comes_from_the_relay_is_kept_and_short_pages_are_continued() {
    let bob = with("bob");
    let cases = [
        (None, None, 10, seqs(21, 30)),
        (Some(21), None, 10, seqs(11, 20)),
        (None, Some(4), 6, seqs(5, 10)),
        (None, Some(0), 7, seqs(1, 7)),
        (Some(5), None, 10, seqs(1, 4)),
    ];
    for most in [100, 3] {
        for (before, after, limit, expected) in cases.clone() {
            let mut bed = Bed::online();
            // Only the newest is known here, as after a reset.
            bed.say(
                0,
                batch(vec![entry(1, wire::entry::Change::Message(log_message(&bob, 30, "bob", "b30")))]),
            );
            let page = bed.history(&bob, before, after, limit);
            let mut asked = 0;
            while serve(&mut bed, &bob, 30, most).is_some() {
                asked += 1;
            }
            assert_eq!(bed.seqs(page), expected, "{before:?} {after:?} {limit} by {most}");
            assert!(asked > 0);
            let again = bed.history(&bob, before, after, limit);
            assert_eq!(bed.seqs(again), expected, "now from the cache");
        }
    }
}

#[test]
fn an_unknown_conversation_is_asked_of_the_relay_and_a_stranger_is_refused() {
    let mut bed = Bed::online();
    let group = conversation("g1");
    let page = bed.history(&group, None, None, 10);
    assert!(serve(&mut bed, &group, 4, 100).is_some());
    assert_eq!(bed.seqs(page), seqs(1, 4));
    let page = bed.history(&group, None, None, 10);
    let frame = bed.frame();
    bed.reject(frame.request, Code::NOT_A_MEMBER, 0);
    assert_eq!(bed.error(page), Code::NOT_A_MEMBER);
    // Nobody wrote there yet: empty is the truth.
    let page = bed.history(&with("new"), None, None, 10);
    let frame = bed.frame();
    bed.reject(frame.request, Code::NOT_A_MEMBER, 0);
    assert_eq!(bed.seqs(page), seqs(1, 0));
}

#[test]
fn both_bounds_are_no_question() {
    let mut bed = Bed::online();
    let page = bed.history(&with("bob"), Some(5), Some(2), 10);
    assert_eq!(bed.error(page), Code::BAD_REQUEST);
}

#[test]
fn what_is_applied_and_not_durable_and_what_waits_to_be_sent_is_in_the_newest_page() {
    let mut bed = Bed::online();
    let bob = with("bob");
    bed.say(0, bobs(1, 2));
    bed.saves_at_once = false;
    bed.say(0, bobs(3, 4));
    bed.say(0, bobs(5, 5));
    bed.send(&bob, "k1");
    let page = bed.history(&bob, None, None, 10);
    let page = bed.history_reply(page);
    let keys: Vec<_> = page.iter().map(|message| message.key.as_str()).collect();
    assert_eq!(keys, ["b1", "b2", "b3", "b4", "b5", "k1"]);
    assert_eq!(page[5].status, Status::Sending);
    let older = bed.history(&bob, Some(4), None, 10);
    assert_eq!(bed.seqs(older), seqs(1, 3));
}

#[test]
fn without_a_connection_the_page_is_what_is_there_from_its_near_end() {
    let mut bed = Bed::online();
    let bob = with("bob");
    bed.say(0, bobs(1, 20));
    for seq in [5, 12] {
        bed.disk.messages.remove(&(bob.clone(), seq));
    }
    bed.host(hongyan_client::HostEvent::Network(false));
    bed.close(Code(1006));
    let newest = bed.history(&bob, None, None, 20);
    assert_eq!(bed.seqs(newest), seqs(13, 20));
    let older = bed.history(&bob, Some(12), None, 20);
    assert_eq!(bed.seqs(older), seqs(6, 11));
    let after = bed.history(&bob, None, Some(1), 20);
    assert_eq!(bed.seqs(after), seqs(2, 4));
    let unknown = bed.history(&with("carol"), None, None, 20);
    assert_eq!(bed.seqs(unknown), seqs(1, 0));
    // Nothing there: it waits for the connection, and not for ever.
    let late = bed.history(&bob, Some(13), None, 20);
    assert!(!bed.replies.contains_key(&late));
    bed.pass(REQUEST_MS);
    assert_eq!(bed.error(late), Code::TIMED_OUT);
    let back = bed.history(&bob, Some(13), None, 20);
    bed.host(hongyan_client::HostEvent::Network(true));
    bed.go_online(20);
    serve(&mut bed, &bob, 20, 100);
    assert_eq!(bed.seqs(back), seqs(1, 12));
}

#[test]
fn the_newest_page_of_an_empty_cache_waits_while_a_connection_is_on_its_way() {
    let bob = with("bob");
    let mut bed = Bed::new();
    let page = bed.history(&bob, None, None, 10);
    bed.go_online(0);
    serve(&mut bed, &bob, 3, 100);
    assert_eq!(bed.seqs(page), seqs(1, 3));
    let mut bed = Bed::new();
    let page = bed.history(&bob, None, None, 10);
    bed.feed(hongyan_client::Input::Token(Err("down".into())));
    assert_eq!(bed.seqs(page), seqs(1, 0));
}

#[test]
fn a_load_that_a_reset_overtook_is_not_trusted() {
    let mut bed = Bed::online();
    let bob = with("bob");
    bed.say(0, bobs(1, 5));
    bed.loads_at_once = false;
    let page = bed.history(&bob, None, None, 3);
    let (ticket, id, from, to) = bed.loads.pop_front().unwrap();
    let old = bed.disk.load(&id, from, to);
    bed.say(0, Relay::Reset(wire::Reset { epoch: "e2".into(), pos: 9, cause: 1 }));
    bed.say(0, Relay::Snapshot(wire::Snapshot { conversations: vec![], done: true }));
    bed.frames.clear();
    bed.feed(hongyan_client::Input::Loaded(ticket, old));
    assert!(!bed.replies.contains_key(&page));
    let asked = serve(&mut bed, &bob, 5, 100);
    assert!(asked.is_some());
    assert_eq!(bed.seqs(page), seqs(3, 5));
}

#[test]
fn one_who_left_reads_what_the_cache_has() {
    let mut bed = Bed::online();
    let group = conversation("g1");
    let gone = wire::GroupChange {
        conversation: "g1".into(),
        kind: wire::GroupChangeKind::Removed.into(),
        by: "bob".into(),
        users: vec!["alice".into()],
        version: 2,
        owner: "bob".into(),
        last_seq: 3,
        ..Default::default()
    };
    bed.say(
        0,
        batch(vec![
            entry(1, wire::entry::Change::Message(log_message(&group, 2, "bob", "m2"))),
            entry(2, wire::entry::Change::Message(log_message(&group, 3, "bob", "m3"))),
            entry(3, wire::entry::Change::Group(gone)),
        ]),
    );
    let page = bed.history(&group, None, None, 10);
    let frame = bed.frame();
    bed.reject(frame.request, Code::NOT_A_MEMBER, 0);
    assert_eq!(bed.seqs(page), seqs(2, 3));
}

#[test]
fn groups_are_made_and_changed_by_requests_that_survive_a_reconnect() {
    let mut bed = Bed::new();
    let make =
        bed.command(Command::CreateGroup { key: None, title: "Geese".into(), members: vec![user("bob")] });
    bed.pass(1_000);
    bed.go_online(0);
    let first = bed.frame();
    let Some(Verb::CreateGroup(asked)) = &first.verb else { panic!("a group") };
    assert_eq!((asked.title.as_str(), asked.members.as_slice()), ("Geese", ["bob".to_owned()].as_slice()));
    bed.close(Code(1006));
    bed.go_online(0);
    let second = bed.frame();
    assert!(first.verb == second.verb, "with the same key");
    bed.say(second.request, Relay::GroupDone(wire::GroupDone { conversation: "g1".into(), version: 1 }));
    assert!(matches!(bed.replies.remove(&make), Some(Ok(Answer::Group(id))) if id.as_str() == "g1"));

    let group = conversation("g1");
    let add = bed.command(Command::AddMembers(group.clone(), vec![user("carol")]));
    let frame = bed.frame();
    bed.reject(frame.request, Code::BUSY, 500);
    bed.pass(500 + BACKOFF_FIRST_MS);
    let frame = bed.frame();
    bed.say(frame.request, Relay::GroupDone(wire::GroupDone { conversation: "g1".into(), version: 2 }));
    assert!(bed.answered(add));
    let remove = bed.command(Command::RemoveMembers(group.clone(), vec![user("carol")]));
    let frame = bed.frame();
    bed.reject(frame.request, Code::NOT_PERMITTED, 0);
    assert_eq!(bed.error(remove), Code::NOT_PERMITTED);
    let leave = bed.command(Command::LeaveGroup(group.clone()));
    let frame = bed.frame();
    assert!(matches!(frame.verb, Some(Verb::LeaveGroup(_))));
    bed.say(frame.request, Relay::GroupDone(wire::GroupDone { conversation: "g1".into(), version: 3 }));
    assert!(bed.answered(leave));
    let members = bed.command(Command::Members { conversation: group.clone(), after: None, limit: 2 });
    let frame = bed.frame();
    let member = |user: &str, role: wire::Role| wire::Member { user: user.into(), role: role.into() };
    let page = wire::MemberPage {
        conversation: "g1".into(),
        members: vec![member("alice", wire::Role::Owner), member("bob", wire::Role::Member)],
        more: true,
        version: 1,
    };
    bed.say(frame.request, Relay::MemberPage(page));
    let Some(Ok(Answer::Members(members, true))) = bed.replies.remove(&members) else { panic!("members") };
    assert_eq!((members[0].owner, members[1].owner), (true, false));
    let direct = bed.command(Command::LeaveGroup(with("bob")));
    assert_eq!(bed.error(direct), Code::BAD_REQUEST);
}

#[test]
fn a_refusal_that_asks_for_a_new_connection_gets_one_and_is_asked_again_there() {
    let mut bed = Bed::online();
    let leave = bed.command(Command::LeaveGroup(conversation("g1")));
    bed.send(&with("bob"), "k1");
    let frame = bed.frame();
    bed.reject(frame.request, Code::GOING_AWAY, 2_000);
    assert_eq!(bed.hangups, [Code(1000)]);
    bed.pass(1_999);
    assert_eq!(bed.dials.len(), 1);
    bed.go_online(0);
    let again: Vec<_> = bed.frames.iter().map(|frame| frame.verb.clone().unwrap()).collect();
    assert!(again.contains(&frame.verb.unwrap()));
    assert!(again.iter().any(|verb| matches!(verb, Verb::Send(send) if send.key == "k1")));
    assert!(!bed.replies.contains_key(&leave));
}

#[test]
fn requests_end_by_their_deadline_and_are_bounded() {
    let mut bed = Bed::online();
    bed.host(hongyan_client::HostEvent::Network(false));
    bed.close(Code(1006));
    let leave = bed.command(Command::LeaveGroup(conversation("g1")));
    bed.pass(REQUEST_MS - 1);
    assert!(!bed.replies.contains_key(&leave));
    bed.pass(1);
    assert_eq!(bed.error(leave), Code::TIMED_OUT);
    for _ in 0..REQUESTS_MAX {
        bed.command(Command::LeaveGroup(conversation("g1")));
    }
    let over = bed.command(Command::LeaveGroup(conversation("g1")));
    assert_eq!(bed.error(over), Code::BUSY);
    // Refused for good, nobody waits any longer.
    bed.host(hongyan_client::HostEvent::Network(true));
    bed.greet();
    bed.reject(1, Code::TOKEN_USER_MISMATCH, 0);
    assert_eq!(bed.replies.len(), REQUESTS_MAX);
    let late = bed.command(Command::LeaveGroup(conversation("g1")));
    assert_eq!(bed.error(late), Code::TOKEN_USER_MISMATCH);
}

#[test]
fn a_page_that_waits_for_the_cache_ends_by_its_deadline_also_after_a_stop() {
    let mut bed = Bed::online();
    bed.say(0, bobs(1, 3));
    bed.close(Code::NOT_PERMITTED);
    bed.loads_at_once = false;
    let older = bed.history(&with("bob"), Some(3), None, 10);
    assert_eq!(bed.loads.len(), 1, "the cache never answers");
    bed.pass(REQUEST_MS - 1);
    assert!(!bed.replies.contains_key(&older));
    bed.pass(1);
    assert_eq!(bed.error(older), Code::TIMED_OUT);
    assert_eq!(bed.client.next_deadline(), None);
}
