//! Groups that come by their logs: pushes are hints, pages bring what is missing, and the application sees each message
//! once and in order.

// Helpers are test code too; clippy sees only `#[test]` functions so.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

mod common;

use common::*;
use hongyan_client::limits::{LOG_EVENTS_MAX, LOG_NEWEST};
use hongyan_client::{Command, Event};
use hongyan_protocol::wire::client_frame::Verb;
use hongyan_protocol::wire::{self, GroupChangeKind, entry::Change, relay_frame::Event as Relay};
use hongyan_protocol::{Code, ConversationId, Seq};
use proptest::prelude::*;

fn group() -> ConversationId {
    conversation("g1")
}

/// Alice is in the group from its beginning.
fn joined(by_log: bool) -> Change {
    Change::Group(wire::GroupChange {
        conversation: "g1".into(),
        kind: GroupChangeKind::Created.into(),
        by: "bob".into(),
        users: vec!["alice".into(), "bob".into()],
        version: 1,
        owner: "bob".into(),
        member_count: 2,
        by_log,
        ..Default::default()
    })
}

fn message(seq: u64) -> wire::Message {
    log_message(&group(), seq, "bob", &format!("m{seq}"))
}

fn diffusion(seq: u64, by_log: bool) -> Change {
    Change::Diffusion(wire::Diffusion { conversation: "g1".into(), seq, by_log })
}

fn head(last_seq: u64) -> Relay {
    let head = wire::LogHead { conversation: "g1".into(), last_seq, ..wire::LogHead::default() };
    Relay::LogHeads(wire::LogHeads { heads: vec![head] })
}

fn push(from: u64, to: u64) -> Relay {
    Relay::LogMessages(wire::LogMessages { messages: (from..=to).map(message).collect(), group: None })
}

fn names(seqs: impl IntoIterator<Item = u64>) -> Vec<String> {
    seqs.into_iter().map(|seq| format!("m{seq}")).collect()
}

/// The pages that are asked for, with the request's number. That no message was changed is answered at once.
fn asked(bed: &mut Bed) -> Vec<(u64, wire::History)> {
    let mut pages = Vec::new();
    while let Some(frame) = bed.frames.pop_front() {
        match frame.verb {
            Some(Verb::History(page)) => pages.push((frame.request, page)),
            Some(Verb::Changes(page)) => {
                let none =
                    wire::ChangePage { conversation: page.conversation, ..wire::ChangePage::default() };
                bed.say(frame.request, Relay::ChangePage(none));
            }
            _ => {}
        }
    }
    pages
}

/// Answers as the relay does whose log ends with `last`.
fn answer(bed: &mut Bed, request: u64, page: &wire::History, last: u64) {
    let limit = u64::from(page.limit);
    let seqs = if page.after > 0 {
        page.after + 1..=last.min(page.after + limit)
    } else {
        let end = if page.before > 0 { last.min(page.before - 1) } else { last };
        (end + 1).saturating_sub(limit).max(1)..=end
    };
    let messages = seqs.map(message).collect();
    bed.say(
        request,
        Relay::HistoryPage(wire::HistoryPage { conversation: "g1".into(), messages, last_seq: last }),
    );
}

/// Answers all pages until none is asked for any more.
fn pull(bed: &mut Bed, last: u64) {
    loop {
        let pages = asked(bed);
        if pages.is_empty() {
            return;
        }
        for (request, page) in pages {
            answer(bed, request, &page, last);
        }
    }
}

/// The relay tells how far logs are before it streams the queue, so the hint may come before the news of the group. Found
/// by the simulated world.
#[test]
fn a_head_that_overtakes_what_the_queue_tells_of_the_group_is_not_lost() {
    let mut bed = Bed::online();
    bed.say(0, head(2));
    bed.say(0, batch(vec![entry(1, joined(true))]));
    pull(&mut bed, 2);
    assert_eq!(bed.messages(), names(1..=2));
}

/// Alice is in a group by its log, of which there is nothing more.
fn in_group() -> Bed {
    let mut bed = Bed::online();
    bed.say(0, batch(vec![entry(1, joined(true))]));
    pull(&mut bed, 0);
    bed
}

#[test]
fn pushes_are_told_in_order_and_what_is_missing_is_pulled() {
    let mut bed = in_group();
    bed.say(0, push(1, 2));
    assert_eq!(bed.messages(), names(1..=2));
    assert!(asked(&mut bed).is_empty());
    bed.say(0, push(5, 6));
    bed.say(0, push(1, 2));
    assert_eq!(bed.messages(), names(1..=2));
    assert_eq!(bed.line(&group()).last_seq, Seq(6));
    let pages = asked(&mut bed);
    assert_eq!(pages.len(), 1, "one page at a time");
    assert_eq!((pages[0].1.after, pages[0].1.before), (2, 0));
    // More comes while the page is on its way.
    bed.say(0, push(7, 7));
    answer(&mut bed, pages[0].0, &pages[0].1, 7);
    assert_eq!(bed.messages(), names(1..=7));
    assert!(asked(&mut bed).is_empty());
    assert_eq!(bed.line(&group()).unread, 7);
}

#[test]
fn what_was_told_survives_a_crash_and_the_rest_is_pulled_at_the_next_contact() {
    let mut bed = in_group();
    bed.say(0, push(1, 3));
    bed.say(0, push(9, 9));
    bed.crash();
    bed.go_online(1);
    bed.say(0, head(12));
    pull(&mut bed, 12);
    assert_eq!(bed.messages(), names(1..=12));
    let request = bed.history(&group(), None, None, 100);
    assert_eq!(bed.seqs(request), (1..=12).collect::<Vec<_>>());
}

#[test]
fn who_is_far_behind_is_told_of_the_gap_and_then_the_newest() {
    let mut bed = in_group();
    bed.say(0, push(1, 1));
    let last = LOG_EVENTS_MAX + 100;
    bed.say(0, head(last));
    assert_eq!(bed.line(&group()).unread, last, "unread needs no pull");
    pull(&mut bed, last);
    let first = last - u64::from(LOG_NEWEST) + 1;
    assert_eq!(bed.messages(), names([1].into_iter().chain(first..=last)));
    let gaps: Vec<_> = bed
        .events
        .iter()
        .filter_map(|event| match event {
            Event::LogGap { after, before, .. } => Some((*after, *before)),
            _ => None,
        })
        .collect();
    assert_eq!(gaps, [(Seq(1), Seq(first))]);
    assert_eq!(bed.gaps(), 0);
}

#[test]
fn a_group_changes_over_both_ways_without_a_gap_or_a_repeat() {
    let mut bed = Bed::online();
    let by_queue = |pos, seq| entry(pos, Change::Message(message(seq)));
    bed.say(0, batch(vec![entry(1, joined(false)), by_queue(2, 1), by_queue(3, 2)]));
    // A push of the time after the change that overtakes what the queue tells of it.
    bed.say(0, push(3, 3));
    assert_eq!(bed.messages(), names(1..=2));
    bed.say(0, batch(vec![entry(4, diffusion(2, true))]));
    pull(&mut bed, 4);
    assert_eq!(bed.messages(), names(1..=4));
    bed.say(0, push(5, 5));
    // The pushes of 6 and 7 were lost, the queue takes over with 8: a page tells more than the queue has brought.
    bed.say(0, batch(vec![entry(5, diffusion(7, false)), by_queue(6, 8)]));
    pull(&mut bed, 10);
    assert_eq!(bed.messages(), names(1..=10));
    bed.say(0, batch(vec![by_queue(7, 9), by_queue(8, 10), by_queue(9, 11), by_queue(10, 12)]));
    assert_eq!(bed.messages(), names(1..=12));
    assert!(asked(&mut bed).is_empty());
    // It is the queue's alone now.
    bed.say(0, push(13, 13));
    assert_eq!(bed.messages(), names(1..=12));
}

#[test]
fn a_message_that_calls_the_user_is_shown_in_the_list_wherever_it_is() {
    let mut bed = in_group();
    let called = wire::Message { mentions: vec!["alice".into()], ..message(4) };
    bed.say(0, batch(vec![entry(2, Change::Message(called))]));
    let line = bed.line(&group());
    assert_eq!((line.mentioned, line.unread), (Some(Seq(4)), 4));
    pull(&mut bed, 4);
    assert_eq!(bed.messages(), names(1..=4));
    bed.command(Command::MarkRead { conversation: group(), seq: None });
    assert_eq!(bed.line(&group()).mentioned, None);
    let all = wire::LogHead { last_seq: 9, called_all: 7, ..wire::LogHead::default() };
    let all = wire::LogHead { conversation: "g1".into(), ..all };
    bed.say(0, Relay::LogHeads(wire::LogHeads { heads: vec![all] }));
    assert_eq!(bed.line(&group()).mentioned, Some(Seq(7)));
}

/// The head of a log tells that everybody was called, and not by whom.
#[test]
fn who_calls_everybody_is_not_called_herself() {
    let mut bed = in_group();
    let head = |called_all| {
        let head = wire::LogHead { last_seq: 1, called_all, ..wire::LogHead::default() };
        let heads = vec![wire::LogHead { conversation: "g1".into(), ..head }];
        Relay::LogHeads(wire::LogHeads { heads })
    };
    bed.say(0, head(1));
    assert_eq!(bed.line(&group()).mentioned, Some(Seq(1)), "nobody knows yet whose it is");
    let own = wire::Message { from: "alice".into(), mentions: vec!["*".into()], ..message(1) };
    bed.say(0, Relay::LogMessages(wire::LogMessages { messages: vec![own], group: None }));
    assert_eq!(bed.line(&group()).mentioned, None);
    bed.say(0, head(1));
    assert_eq!(bed.line(&group()).mentioned, None);
}

#[test]
fn a_refused_page_is_asked_for_again_or_not_as_the_code_says() {
    let mut bed = in_group();
    bed.say(0, head(3));
    let pages = asked(&mut bed);
    let reject = |code: Code| wire::Reject { code: code.0.into(), reason: String::new(), retry_after_ms: 50 };
    bed.say(pages[0].0, Relay::Reject(reject(Code::RATE_LIMITED)));
    assert!(asked(&mut bed).is_empty());
    bed.pass(60_000);
    let pages = asked(&mut bed);
    assert_eq!(pages.len(), 1);
    bed.say(pages[0].0, Relay::Reject(reject(Code::NOT_A_MEMBER)));
    bed.pass(60_000);
    assert!(asked(&mut bed).is_empty());
}

#[test]
fn who_is_removed_is_told_of_what_she_had_not_pulled() {
    let mut bed = in_group();
    bed.say(0, push(1, 1));
    bed.say(0, push(5, 5));
    let removed = Change::Group(wire::GroupChange {
        conversation: "g1".into(),
        kind: GroupChangeKind::Removed.into(),
        by: "bob".into(),
        users: vec!["alice".into()],
        version: 2,
        owner: "bob".into(),
        last_seq: 5,
        ..Default::default()
    });
    bed.say(0, batch(vec![entry(2, removed)]));
    assert_eq!(bed.messages(), names([1]));
    let gaps = bed
        .events
        .iter()
        .filter(|event| matches!(event, Event::LogGap { after: Seq(1), before: Seq(6), .. }));
    assert_eq!(gaps.count(), 1);
    // An answer that comes late means nothing.
    let pages = asked(&mut bed);
    answer(&mut bed, pages[0].0, &pages[0].1, 5);
    assert_eq!(bed.messages(), names([1]));
}

/// She was removed and came back before her queue had told her of it, and pages told what is of the time since: seed
/// 800026721 of the simulated world.
#[test]
fn what_was_told_of_a_later_membership_is_not_told_again() {
    let of_alice = |kind: GroupChangeKind, version, by_log| {
        Change::Group(wire::GroupChange {
            conversation: "g1".into(),
            kind: kind.into(),
            by: "bob".into(),
            users: vec!["alice".into()],
            version,
            owner: "bob".into(),
            by_log,
            ..Default::default()
        })
    };
    for by_log in [true, false] {
        let mut bed = in_group();
        bed.say(0, push(1, 2));
        let removed = of_alice(GroupChangeKind::Removed, 2, false);
        let added = of_alice(GroupChangeKind::Added, 3, by_log);
        bed.say(0, batch(vec![entry(2, removed), entry(3, added)]));
        if by_log {
            pull(&mut bed, 2);
            bed.say(0, push(3, 3));
        } else {
            let sent = (1..=3).map(|seq| entry(3 + seq, Change::Message(message(seq))));
            bed.say(0, batch(sent.collect()));
        }
        assert_eq!(bed.messages(), names(1..=3), "by log: {by_log}");
        assert!(!bed.events.iter().any(|event| matches!(event, Event::LogGap { .. })));
    }
}

#[test]
fn pages_that_bring_nothing_new_are_not_asked_for_over_and_over() {
    let mut bed = in_group();
    bed.say(0, push(1, 2));
    bed.say(0, head(9));
    let pages = asked(&mut bed);
    // A relay that says there is more and gives what was told already.
    let messages = vec![message(1), message(2)];
    let page = wire::HistoryPage { conversation: "g1".into(), messages, last_seq: 9 };
    bed.say(pages[0].0, Relay::HistoryPage(page));
    assert!(asked(&mut bed).is_empty());
    assert_eq!(bed.messages(), names(1..=2));
    // The next hint is taken as ever.
    bed.say(0, head(9));
    pull(&mut bed, 9);
    assert_eq!(bed.messages(), names(1..=9));
}

#[test]
fn a_page_whose_message_the_queue_brought_meanwhile_does_not_end_the_pulling() {
    let mut bed = in_group();
    bed.say(0, head(2));
    let pages = asked(&mut bed);
    bed.say(0, batch(vec![entry(2, Change::Message(message(1)))]));
    answer(&mut bed, pages[0].0, &pages[0].1, 2);
    pull(&mut bed, 2);
    assert_eq!(bed.messages(), names(1..=2));
}

#[test]
fn what_is_heard_of_a_log_during_a_reset_is_not_lost() {
    let mut bed = in_group();
    bed.say(0, push(1, 1));
    let reset = wire::Reset { epoch: "e".into(), pos: 7, cause: wire::ResetCause::CursorExpired.into() };
    bed.say(0, Relay::Reset(reset));
    bed.say(0, push(5, 6));
    let state = wire::ConversationState {
        conversation: "g1".into(),
        last_seq: 4,
        by_log: true,
        version: 1,
        owner: "bob".into(),
        ..wire::ConversationState::default()
    };
    bed.say(0, Relay::Snapshot(wire::Snapshot { conversations: vec![state], done: true }));
    pull(&mut bed, 6);
    assert_eq!(bed.messages(), names([1, 5, 6]));
}

#[derive(Clone, Debug)]
enum Step {
    Write,
    Push { lost: bool },
    Head,
    Call,
    Answer,
    Reconnect,
    Crash,
    ChangeOver,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => Just(Step::Write),
        4 => any::<bool>().prop_map(|lost| Step::Push { lost }),
        1 => Just(Step::Head),
        1 => Just(Step::Call),
        3 => Just(Step::Answer),
        1 => Just(Step::Reconnect),
        1 => Just(Step::Crash),
        1 => Just(Step::ChangeOver),
    ];
    prop::collection::vec(step, 1..120)
}

proptest! {
    /// Whatever is lost, and however often the group changes over: at the end everything was told, once and in order.
    #[test]
    fn everything_is_told_once_and_in_order(steps in steps()) {
        let mut bed = Bed::online();
        let (mut pos, mut last, mut pushed, mut by_log) = (1, 0, 0, true);
        let mut queue = vec![entry(1, joined(true))];
        bed.say(0, batch(queue.clone()));
        let mut waiting = Vec::new();
        for step in steps {
            let mut by_queue = Vec::new();
            match step {
                Step::Write => {
                    last += 1;
                    if !by_log {
                        by_queue.push(Change::Message(message(last)));
                    }
                }
                Step::Push { lost } if by_log && pushed < last => {
                    if !lost {
                        bed.say(0, push(pushed + 1, last));
                    }
                    pushed = last;
                }
                Step::Head if by_log => bed.say(0, head(last)),
                Step::Call if by_log && last > 0 => {
                    let called = wire::Message { mentions: vec!["alice".into()], ..message(last) };
                    by_queue.push(Change::Message(called));
                }
                Step::Answer => {
                    waiting.extend(asked(&mut bed));
                    if !waiting.is_empty() {
                        let (request, page) = waiting.remove(0);
                        answer(&mut bed, request, &page, last);
                    }
                }
                Step::Reconnect => {
                    waiting.clear();
                    bed.close(Code(1006));
                    bed.frames.clear();
                    bed.go_online(pos);
                    if by_log {
                        bed.say(0, head(last));
                    }
                }
                Step::Crash => {
                    waiting.clear();
                    bed.crash();
                    bed.go_online(pos);
                    if by_log {
                        bed.say(0, head(last));
                    }
                    // What a device has not applied yet is streamed again.
                    bed.say(0, batch(queue.clone()));
                }
                Step::ChangeOver => {
                    by_log = !by_log;
                    pushed = last;
                    by_queue.push(diffusion(last, by_log));
                }
                _ => {}
            }
            for change in by_queue {
                pos += 1;
                queue.push(entry(pos, change));
                bed.say(0, batch(vec![entry(pos, queue[queue.len() - 1].change.clone().unwrap())]));
            }
        }
        // The next contact repairs.
        bed.crash();
        bed.go_online(pos);
        if by_log {
            bed.say(0, head(last));
        }
        bed.say(0, batch(queue));
        pull(&mut bed, last);
        prop_assert_eq!(bed.messages(), names(1..=last));
        prop_assert_eq!(bed.line(&group()).last_seq, Seq(last));
    }
}
