//! Changes in a group that comes by its log: what is missing is pulled, and what is too much is named.

// Helpers are test code too; clippy sees only `#[test]` functions so.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

mod common;

use common::changes::*;
use common::*;
use hongyan_client::Input;
use hongyan_client::limits::CHANGES_EVENTS_MAX;
use hongyan_protocol::wire::client_frame::Verb;
use hongyan_protocol::wire::{self, GroupChangeKind, entry, relay_frame::Event as Relay};
use hongyan_protocol::{Code, Seq, Time};
use proptest::prelude::*;
use prost::Message as _;

/// A relay of which this device lost sight: one group and the queue of alice, everything told as it is now.
#[derive(Default)]
struct World {
    /// For each message the last change of it.
    messages: Vec<u64>,
    /// For each change its message.
    changes: Vec<u64>,
    queue: Vec<Told>,
}

#[derive(Clone, Copy, Debug)]
enum Told {
    Joined { by_log: bool },
    Message(u64),
    Change(u64),
    Diffusion { seq: u64, by_log: bool },
}

impl World {
    fn last(&self) -> u64 {
        self.messages.len() as u64
    }

    fn message(&self, seq: u64) -> wire::Message {
        message(&group(), seq, self.messages[seq as usize - 1])
    }

    fn change(&self, number: u64) -> wire::MessageChange {
        change(number, self.message(self.changes[number as usize - 1]))
    }

    fn write(&mut self) {
        self.messages.push(0);
    }

    fn edit(&mut self, seq: u64) {
        self.changes.push(seq);
        self.messages[seq as usize - 1] = self.changes.len() as u64;
    }

    /// The queue after this position.
    fn batch(&self, after: usize) -> Relay {
        let entries = self.queue.iter().enumerate().skip(after).map(|(at, told)| {
            let change = match *told {
                Told::Joined { by_log } => {
                    let change = of_group(GroupChangeKind::Created, 1, "geese");
                    entry::Change::Group(wire::GroupChange { by_log, ..change })
                }
                Told::Message(seq) => entry::Change::Message(self.message(seq)),
                Told::Change(number) => entry::Change::MessageChange(self.change(number)),
                Told::Diffusion { seq, by_log } => {
                    entry::Change::Diffusion(wire::Diffusion { conversation: "g1".into(), seq, by_log })
                }
            };
            entry(at as u64 + 1, change)
        });
        batch(entries.collect())
    }

    /// Tells one more thing by the queue.
    fn tell(&mut self, bed: &mut Bed, told: Told) {
        self.queue.push(told);
        bed.say(0, self.batch(self.queue.len() - 1));
    }

    fn head(&self) -> Relay {
        let head = wire::LogHead {
            conversation: "g1".into(),
            last_seq: self.last(),
            changes: self.changes.len() as u64,
            ..wire::LogHead::default()
        };
        Relay::LogHeads(wire::LogHeads { heads: vec![head] })
    }

    fn push(&self, from: u64, to: u64) -> Relay {
        let messages = (from..=to).map(|seq| self.message(seq)).collect();
        Relay::LogMessages(wire::LogMessages { messages, group: None })
    }

    fn push_changes(&self, from: u64, to: u64) -> Relay {
        let changes = (from..=to).map(|number| self.change(number)).collect();
        Relay::LogChanges(wire::LogChanges { conversation: "g1".into(), changes })
    }

    fn answer(&self, bed: &mut Bed, request: u64, verb: &Verb) {
        match verb {
            Verb::History(page) => {
                let (last, limit) = (self.last(), u64::from(page.limit));
                let seqs = if page.after > 0 {
                    page.after + 1..=last.min(page.after + limit)
                } else {
                    let end = if page.before > 0 { last.min(page.before - 1) } else { last };
                    (end + 1).saturating_sub(limit).max(1)..=end
                };
                let messages = seqs.map(|seq| self.message(seq)).collect();
                let page = wire::HistoryPage { conversation: "g1".into(), messages, last_seq: last };
                bed.say(request, Relay::HistoryPage(page));
            }
            Verb::Changes(page) => {
                let last = self.changes.len() as u64;
                let numbers = page.after + 1..=last.min(page.after + u64::from(page.limit));
                let changes = numbers.map(|number| self.change(number)).collect();
                bed.say(
                    request,
                    Relay::ChangePage(wire::ChangePage { conversation: "g1".into(), changes, last }),
                );
            }
            _ => {}
        }
    }

    /// Answers until nothing is asked for any more.
    fn settle(&self, bed: &mut Bed) {
        loop {
            let asked = asked(bed);
            if asked.is_empty() {
                return;
            }
            for (request, verb) in asked {
                self.answer(bed, request, &verb);
            }
        }
    }
}

/// The pages that are asked for.
fn asked(bed: &mut Bed) -> Vec<(u64, Verb)> {
    let frames = bed.frames.drain(..);
    let pages = frames.filter_map(|frame| match frame.verb {
        Some(verb @ (Verb::History(_) | Verb::Changes(_))) => Some((frame.request, verb)),
        _ => None,
    });
    pages.collect()
}

/// Alice is in a group by its log, with so many messages that she was told.
fn in_group(messages: u64) -> (Bed, World) {
    let (mut bed, mut world) = (Bed::online(), World::default());
    world.tell(&mut bed, Told::Joined { by_log: true });
    for _ in 0..messages {
        world.write();
    }
    bed.say(0, world.head());
    world.settle(&mut bed);
    bed.events.clear();
    (bed, world)
}

#[test]
fn changes_of_a_log_are_told_in_order_and_what_is_missing_is_pulled() {
    let (mut bed, mut world) = in_group(3);
    (1..=3).for_each(|seq| world.edit(seq));
    bed.say(0, world.push_changes(1, 1));
    assert_eq!(told(&bed), ["c1"]);
    // The second was lost.
    bed.say(0, world.push_changes(3, 3));
    assert_eq!(told(&bed), ["c1"]);
    let pages = asked(&mut bed);
    assert!(
        matches!(&pages[..], [(_, Verb::Changes(page))] if page.after == 1),
        "one page, after what was told"
    );
    world.answer(&mut bed, pages[0].0, &pages[0].1);
    assert_eq!(told(&bed), ["c1", "c2", "c3"]);
    assert!(asked(&mut bed).is_empty());
    assert_eq!(texts(&mut bed, &group()), ["m1 after 1", "m2 after 2", "m3 after 3"]);
    // At the next contact the head tells what there is, also after a crash.
    world.edit(2);
    bed.crash();
    bed.go_online(1);
    bed.say(0, world.head());
    world.settle(&mut bed);
    assert_eq!(told(&bed).last().unwrap(), "c4");
}

#[test]
fn a_change_of_a_message_that_was_not_told_yet_waits_for_it() {
    let (mut bed, mut world) = in_group(1);
    world.write();
    world.write();
    world.edit(3);
    let late = message(&group(), 3, 0);
    // The push of the second message is lost, the others come in the order in which they were made.
    bed.say(0, Relay::LogMessages(wire::LogMessages { messages: vec![late], group: None }));
    bed.say(0, world.push_changes(1, 1));
    assert!(told(&bed).is_empty());
    world.settle(&mut bed);
    assert_eq!(told(&bed), ["m2", "m3", "c1"]);
    assert_eq!(texts(&mut bed, &group()), ["m1", "m2", "m3 after 1"]);
}

#[test]
fn pages_of_changes_that_bring_nothing_are_not_asked_for_over_and_over() {
    let (mut bed, mut world) = in_group(1);
    let head = wire::LogHead { conversation: "g1".into(), changes: 9, ..wire::LogHead::default() };
    let head = Relay::LogHeads(wire::LogHeads { heads: vec![head] });
    bed.say(0, head.clone());
    let pages = asked(&mut bed);
    bed.say(
        pages[0].0,
        Relay::ChangePage(wire::ChangePage { conversation: "g1".into(), last: 9, ..Default::default() }),
    );
    assert!(asked(&mut bed).is_empty());
    // Nor is one of a message that is in no log.
    bed.say(0, head);
    let pages = asked(&mut bed);
    let changes = vec![change(1, message(&group(), 7, 1))];
    bed.say(pages[0].0, Relay::ChangePage(wire::ChangePage { conversation: "g1".into(), last: 1, changes }));
    world.settle(&mut bed);
    assert!(told(&bed).is_empty());
    // The next hint is taken as ever.
    world.edit(1);
    bed.say(0, world.push_changes(1, 1));
    world.settle(&mut bed);
    assert_eq!(told(&bed), ["c1"]);
}

/// What the queue or a push brings while a page is on its way is no reason to stop.
#[test]
fn a_page_whose_changes_came_meanwhile_does_not_end_the_pulling() {
    let (mut bed, mut world) = in_group(1);
    (0..2).for_each(|_| world.edit(1));
    bed.say(0, world.head());
    let pages = asked(&mut bed);
    bed.say(0, world.push_changes(1, 1));
    let changes = vec![world.change(1)];
    bed.say(pages[0].0, Relay::ChangePage(wire::ChangePage { conversation: "g1".into(), last: 2, changes }));
    world.settle(&mut bed);
    assert_eq!(told(&bed), ["c1", "c2"]);
}

#[test]
fn refused_pages_are_asked_for_again_or_not_as_the_code_says() {
    let (mut bed, mut world) = in_group(1);
    world.edit(1);
    bed.say(0, world.head());
    let pages = asked(&mut bed);
    bed.reject(pages[0].0, Code::BUSY, 50);
    assert!(asked(&mut bed).is_empty());
    bed.pass(60_000);
    let pages = asked(&mut bed);
    assert_eq!(pages.len(), 1);
    bed.reject(pages[0].0, Code::VERB_UNKNOWN, 0);
    bed.pass(60_000);
    assert!(asked(&mut bed).is_empty());
}

#[test]
fn changes_that_are_refused_hold_back_no_messages() {
    let (mut bed, mut world) = in_group(1);
    world.edit(1);
    bed.say(0, world.head());
    let pages = asked(&mut bed);
    (0..2).for_each(|_| world.write());
    // Of the first of them nobody hears.
    bed.say(0, world.push(3, 3));
    bed.reject(pages[0].0, Code::VERB_UNKNOWN, 0);
    world.settle(&mut bed);
    bed.pass(60_000);
    world.settle(&mut bed);
    assert_eq!(told(&bed), ["m2", "m3"]);
}

/// All of it goes at once: what is on disk, what is still being saved, what the cache reads, and the line's last message.
#[test]
fn who_lacks_too_many_changes_lets_go_of_what_is_cached_and_is_told_so() {
    let (mut bed, mut world) = in_group(5);
    for number in 0..=CHANGES_EVENTS_MAX {
        world.edit(number % 5 + 1);
    }
    bed.loads_at_once = false;
    let request = bed.history(&group(), None, None, 5);
    let (ticket, of, from, to) = bed.loads.pop_front().unwrap();
    let before = bed.disk.load(&of, from, to);
    bed.saves_at_once = false;
    bed.say(0, world.head());
    assert!(bed.line(&group()).last.is_none());
    bed.feed(Input::Loaded(ticket, before));
    assert!(!bed.answered(request), "what the cache read is old");
    // A page that is asked for before the cache is empty does not read it.
    let second = bed.history(&group(), None, None, 5);
    assert!(bed.loads.is_empty());
    world.settle(&mut bed);
    for request in [request, second] {
        let page = bed.history_reply(request);
        assert!(page.iter().all(|message| message.edited.is_some()));
        assert_eq!(page.len(), 5);
    }
    assert!(told(&bed).is_empty());
    bed.saves_at_once = true;
    while bed.save() {}
    assert_eq!(told(&bed), ["gap of g1"]);
    assert_eq!(bed.line(&group()).last.unwrap().edited, Some(Time(world.messages[4])));
    // The page is in the cache, and the next change is told as ever.
    bed.crash();
    bed.loads_at_once = true;
    bed.go_online(1);
    world.edit(2);
    bed.say(0, world.push_changes(CHANGES_EVENTS_MAX + 2, CHANGES_EVENTS_MAX + 2));
    assert_eq!(told(&bed), ["gap of g1".to_owned(), format!("c{}", CHANGES_EVENTS_MAX + 2)]);
    assert_eq!(texts(&mut bed, &group())[1], format!("m2 after {}", CHANGES_EVENTS_MAX + 2));
}

/// The page itself says how much is missing, before any hint does.
#[test]
fn who_asks_before_hearing_how_much_is_missing_lets_go_of_it_too() {
    let (mut bed, mut world) = in_group(1);
    world.write();
    for _ in 0..=CHANGES_EVENTS_MAX {
        world.edit(1);
    }
    world.tell(&mut bed, Told::Diffusion { seq: 1, by_log: true });
    let pages = asked(&mut bed);
    assert!(matches!(&pages[..], [(_, Verb::Changes(page))] if page.after == 0));
    // Of the message that nobody told yet it hears meanwhile, and that comes first.
    let hint = wire::LogHead { conversation: "g1".into(), last_seq: 2, ..wire::LogHead::default() };
    bed.say(0, Relay::LogHeads(wire::LogHeads { heads: vec![hint] }));
    world.answer(&mut bed, pages[0].0, &pages[0].1);
    world.settle(&mut bed);
    assert_eq!(told(&bed), ["m2", "gap of g1"]);
    world.edit(1);
    bed.say(0, world.push_changes(CHANGES_EVENTS_MAX + 2, CHANGES_EVENTS_MAX + 2));
    assert_eq!(told(&bed).last(), Some(&format!("c{}", CHANGES_EVENTS_MAX + 2)));
}

/// A push is late, and older than the changes that are not worth telling; the page that would bring the message as it is
/// now then comes too late.
#[test]
fn a_late_push_of_a_message_brings_back_nothing_that_was_passed_over() {
    let (mut bed, mut world) = in_group(1);
    world.write();
    let late = message(&group(), 2, 0);
    world.edit(2);
    for _ in 0..=CHANGES_EVENTS_MAX {
        world.edit(1);
    }
    bed.say(0, world.head());
    bed.say(0, Relay::LogMessages(wire::LogMessages { messages: vec![late], group: None }));
    world.settle(&mut bed);
    assert_eq!(told(&bed), ["m2", "gap of g1"]);
    assert_eq!(bed.line(&group()).last.map(|last| last.edited), None);
    let request = bed.history(&group(), None, None, 100);
    world.settle(&mut bed);
    let page: Vec<_> = bed.history_reply(request).into_iter().map(|message| message.content.text).collect();
    assert_eq!(page, [format!("m1 after {}", CHANGES_EVENTS_MAX + 2), "m2 after 1".into()]);
}

#[test]
fn who_joins_again_keeps_what_is_cached_only_if_nothing_has_changed() {
    for (changes, kept) in [(0, true), (1, false)] {
        let (mut bed, world) = in_group(2);
        let left = of_group(GroupChangeKind::Removed, 2, "geese");
        let added = of_group(GroupChangeKind::Added, 3, "geese");
        let added = wire::GroupChange { by_log: true, last_seq: 2, changes, ..added };
        bed.say(0, batch(vec![entry(2, entry::Change::Group(left)), entry(3, entry::Change::Group(added))]));
        assert_eq!(bed.disk.messages.len(), if kept { 2 } else { 0 });
        assert_eq!(bed.line(&group()).last.is_some(), kept);
        assert_eq!(told(&bed).len(), usize::from(!kept));
        world.settle(&mut bed);
    }
}

/// She was removed and came back before her queue had told her of it: what was told of the time since stays told.
#[test]
fn changes_of_a_later_membership_are_told_once() {
    let (mut bed, mut world) = in_group(1);
    (0..2).for_each(|_| world.edit(1));
    bed.say(0, world.push_changes(1, 2));
    let before = told(&bed);
    assert_eq!(before[before.len() - 2..], ["c1", "c2"]);
    let removed = of_group(GroupChangeKind::Removed, 2, "geese");
    let added = wire::GroupChange { by_log: true, ..of_group(GroupChangeKind::Added, 3, "geese") };
    bed.say(0, batch(vec![entry(2, entry::Change::Group(removed)), entry(3, entry::Change::Group(added))]));
    world.settle(&mut bed);
    assert_eq!(told(&bed), before);
    assert_eq!(bed.disk.messages.len(), 1, "what is cached is of now");
}

#[test]
fn a_snapshot_and_what_is_heard_during_it_say_how_far_changes_are() {
    let (mut bed, mut world) = in_group(2);
    (0..4).for_each(|_| world.edit(1));
    let reset = wire::Reset { epoch: "e".into(), pos: 7, cause: wire::ResetCause::CursorExpired.into() };
    bed.say(0, Relay::Reset(reset));
    bed.say(0, world.push_changes(4, 4));
    let state = wire::ConversationState {
        conversation: "g1".into(),
        last_seq: 2,
        by_log: true,
        version: 1,
        owner: "bob".into(),
        changes: 3,
        ..wire::ConversationState::default()
    };
    bed.say(0, Relay::Snapshot(wire::Snapshot { conversations: vec![state], done: true }));
    world.settle(&mut bed);
    assert_eq!(told(&bed), ["gap", "c4"]);
}

#[derive(Clone, Debug)]
enum Step {
    Write,
    Change(prop::sample::Index),
    Push { lost: bool },
    Head,
    Answer,
    Save,
    Ask,
    Reconnect,
    Crash,
    ChangeOver,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => Just(Step::Write),
        5 => any::<prop::sample::Index>().prop_map(Step::Change),
        4 => any::<bool>().prop_map(|lost| Step::Push { lost }),
        1 => Just(Step::Head),
        4 => Just(Step::Answer),
        3 => Just(Step::Save),
        2 => Just(Step::Ask),
        1 => Just(Step::Reconnect),
        1 => Just(Step::Crash),
        1 => Just(Step::ChangeOver),
    ];
    prop::collection::vec(step, 1..120)
}

proptest! {
    /// Whatever is lost, whenever it crashes, and however often the group changes over: at the end everything was told
    /// once, changes in their order and after their messages, and what is cached is what the relay has.
    #[test]
    fn messages_and_changes_are_told_once_and_what_is_cached_is_of_now(steps in steps()) {
        let (mut bed, mut world) = (Bed::online(), World::default());
        let (mut pushed, mut pushed_changes, mut by_log) = (0, 0, true);
        world.tell(&mut bed, Told::Joined { by_log });
        bed.saves_at_once = false;
        let mut waiting = Vec::new();
        let mut read = Vec::new();
        for step in steps {
            match step {
                Step::Write => {
                    world.write();
                    if !by_log {
                        let last = world.last();
                        world.tell(&mut bed, Told::Message(last));
                    }
                }
                Step::Change(of) if world.last() > 0 => {
                    world.edit(of.index(world.messages.len()) as u64 + 1);
                    if !by_log {
                        let number = world.changes.len() as u64;
                        world.tell(&mut bed, Told::Change(number));
                    }
                }
                Step::Push { lost } if by_log => {
                    let (last, number) = (world.last(), world.changes.len() as u64);
                    if !lost {
                        bed.say(0, world.push(pushed + 1, last));
                        bed.say(0, world.push_changes(pushed_changes + 1, number));
                    }
                    (pushed, pushed_changes) = (last, number);
                }
                Step::Head if by_log => bed.say(0, world.head()),
                Step::Answer => {
                    waiting.extend(asked(&mut bed));
                    if !waiting.is_empty() {
                        let (request, verb) = waiting.remove(0);
                        world.answer(&mut bed, request, &verb);
                    }
                }
                Step::Save => {
                    bed.save();
                }
                Step::Ask => read.push(bed.history(&group(), None, None, 20)),
                Step::Reconnect | Step::Crash => {
                    waiting.clear();
                    if matches!(step, Step::Crash) {
                        read.clear();
                        bed.crash();
                    } else {
                        bed.close(Code(1006));
                        bed.frames.clear();
                    }
                    let cursor = bed.go_online(world.queue.len() as u64).cursor;
                    if by_log {
                        bed.say(0, world.head());
                    }
                    bed.say(0, world.batch(cursor as usize));
                }
                Step::ChangeOver => {
                    by_log = !by_log;
                    (pushed, pushed_changes) = (world.last(), world.changes.len() as u64);
                    let seq = world.last();
                    world.tell(&mut bed, Told::Diffusion { seq, by_log });
                }
                _ => {}
            }
        }
        // The next contact repairs.
        bed.saves_at_once = true;
        while bed.save() {}
        bed.crash();
        let cursor = bed.go_online(world.queue.len() as u64).cursor;
        if by_log {
            bed.say(0, world.head());
        }
        bed.say(0, world.batch(cursor as usize));
        world.settle(&mut bed);
        let told = told(&bed);
        let of = |mark: char| told.iter().filter(|name| name.starts_with(mark)).cloned().collect::<Vec<_>>();
        prop_assert_eq!(of('m'), (1..=world.last()).map(|seq| format!("m{seq}")).collect::<Vec<_>>());
        prop_assert_eq!(of('c'), (1..=world.changes.len()).map(|number| format!("c{number}")).collect::<Vec<_>>());
        for (number, seq) in world.changes.iter().enumerate() {
            let at = |name: String| told.iter().position(|told| *told == name);
            let (of, change) = (format!("m{seq}"), format!("c{}", number + 1));
            prop_assert!(at(of) < at(change));
        }
        for ((_, seq), record) in &bed.disk.messages {
            let cached = wire::Message::decode(record.clone()).unwrap();
            prop_assert!(cached == world.message(*seq), "message {} is cached as it was after {}", seq, cached.edited);
        }
        let last = bed.line(&group()).last.map(|last| last.edited);
        prop_assert_eq!(last.flatten().map_or(0, |time| time.0), world.messages.last().copied().unwrap_or(0));
    }
}

/// Where what was known of the newest message is gone, a page of history brings it, and the time by which the list is
/// sorted with it. Found by the simulated world.
#[test]
fn a_page_that_brings_the_newest_message_sorts_the_list() {
    let (mut bed, mut world) = in_group(2);
    let before = bed.line(&group()).time;
    (0..=CHANGES_EVENTS_MAX).for_each(|_| world.edit(1));
    bed.say(0, world.head());
    assert!(bed.line(&group()).last.is_none(), "so many changes let go of what is cached");
    world.write();
    bed.say(0, world.head());
    // The log's own page is slow.
    assert_eq!(asked(&mut bed).len(), 1);
    assert_eq!(bed.line(&group()).time, before);
    bed.history(&group(), None, None, 5);
    let page = asked(&mut bed);
    world.answer(&mut bed, page[0].0, &page[0].1);
    let line = bed.line(&group());
    let newest = Time(world.message(3).time);
    assert_eq!(line.last.and_then(|last| last.seq), Some(Seq(3)));
    assert!(line.time == newest && newest > before, "{:?}", line.time);
}
