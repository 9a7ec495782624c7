//! The tabs of a device in a browser that is played here: a lock, a channel, a cache, and pages that begin, end, freeze
//! and crash at any moment.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test ends where something is not as it must be")]

mod browser;
mod days;

use hongyan_client::Now;
use hongyan_client::limits::{LEADER_ANSWER_MS, REMEMBERED_EVENTS_MAX, TERM_BITS};
use hongyan_client::tabs::{Lead, Note, TabId, TabInput, TabOutput, Tabs, next_term};
use hongyan_protocol::Time;
use proptest::prelude::*;

use browser::{Browser, Word};
use days::{Step, steps};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 400 } else { 4_000 }))]

    #[test]
    fn each_tab_is_told_each_message_once_in_order_and_each_ask_is_answered_once(steps in steps()) {
        play(steps);
    }
}

fn play(steps: impl IntoIterator<Item = Step>) {
    let mut browser = Browser::default();
    browser.open_tab();
    for step in steps {
        browser.step(step);
    }
    browser.come_to_rest();
}

/// Days that once broke something.
#[test]
fn what_once_broke_holds() {
    use Step::{Batch, Crash, Disk, Freeze, Grant, Hear, Message, Open, OpenCache, Settle, Thaw};
    play([
        Open,
        Crash(0, false),
        Grant,
        Open,
        Message(3),
        OpenCache(2),
        Batch(0, 1),
        Freeze(0, false),
        Open,
        Hear(4, 2),
        Settle,
    ]);
    play([
        Grant,
        OpenCache(0),
        Open,
        Message(1),
        Hear(2, 1),
        Thaw(0),
        Batch(2, 1),
        Open,
        Open,
        Hear(1, 1),
        Disk(4),
        Thaw(0),
        Freeze(4, false),
        Thaw(0),
    ]);
    play([Open, Settle, Open, Message(2), Batch(0, 1), Crash(3, true)]);
}

#[test]
fn a_leader_that_dies_between_the_disk_and_its_word_hides_nothing() {
    let mut browser = Browser::default();
    let (first, second, third) = (browser.open_tab(), browser.open_tab(), browser.open_tab());
    browser.settle();
    assert!(browser.tabs[&first].machine.leads());
    browser.head = 2;
    browser.take_batch(first, 2);
    // The disk has it, and nobody was told.
    browser.crash(first, true);
    assert!(browser.tabs[&second].told.is_empty());
    browser.settle();
    assert!(browser.tabs[&second].machine.leads());
    for tab in [second, third] {
        assert_eq!(browser.tabs[&tab].told, [Word::Message(1), Word::Message(2)]);
    }
}

#[test]
fn a_leader_that_does_not_answer_loses_its_lock() {
    let mut browser = Browser::default();
    let (first, second) = (browser.open_tab(), browser.open_tab());
    browser.settle();
    // It hangs: it hears nothing and lets go of nothing.
    browser.tabs.get_mut(&first).unwrap().frozen = true;
    browser.ask(second);
    browser.now += LEADER_ANSWER_MS;
    browser.input(second, TabInput::Tick);
    browser.open_cache(second);
    browser.answer(second);
    assert!(browser.tabs[&second].machine.leads());
    assert!(browser.tabs[&second].settled.values().all(|times| *times == 1));
}

#[test]
fn the_device_is_seen_while_any_tab_is() {
    let seen = |machine: &mut Tabs<Word>| {
        let mut last = None;
        while let Some(output) = machine.poll() {
            if let TabOutput::Seen(seen) = output {
                last = Some(seen);
            }
        }
        last
    };
    let now = Now::default();
    let mut leader = Tabs::new(TabId(1), true);
    leader.handle(now, TabInput::Snapshot(Word::Snapshot));
    for input in [TabInput::Enter, TabInput::Elected, TabInput::Opened { term: 1, kept: Vec::new() }] {
        leader.handle(now, input);
    }
    assert_eq!(seen(&mut leader), Some(true));
    let join = Note::Join { tab: TabId(2), visible: true, told: None };
    leader.handle(now, TabInput::Heard(join));
    leader.handle(now, TabInput::Visible(false));
    assert_eq!(seen(&mut leader), None, "the other is still looked at");
    leader.handle(now, TabInput::Fell(TabId(2)));
    assert_eq!(seen(&mut leader), Some(false), "it crashed while it was looked at");
}

#[test]
fn what_a_leader_saved_at_its_end_is_told_once_when_it_leads_again() {
    let mut browser = Browser::default();
    let only = browser.open_tab();
    browser.settle();
    browser.head = 1;
    browser.take_batch(only, 1);
    browser.reach_disk(only);
    browser.end_save(only);
    browser.head = 2;
    browser.take_batch(only, 1);
    browser.reach_disk(only);
    browser.input(only, TabInput::Leave);
    // The last thing of a core that ends is another save.
    browser.input(only, TabInput::Prepare(vec![Word::Message(3)]));
    (browser.head, browser.disk.position) = (3, 3);
    let save = browser.tabs[&only].machine.save();
    browser.disk.kept.push_back((save, vec![Word::Message(3)]));
    browser.input(only, TabInput::Enter);
    browser.settle();
    browser.head = 5;
    browser.settle();
    browser.check();
    let told: Vec<_> = (1..=5).map(Word::Message).collect();
    assert_eq!(browser.tabs[&only].told, told);
    assert_eq!(browser.tabs[&only].gaps, 0);
}

#[test]
fn what_the_cache_kept_is_remembered_within_the_bound() {
    let now = Now::default();
    let mut leader = Tabs::new(TabId(1), true);
    let snapshot = Word::Snapshot;
    let lead = Lead { term: 1, saves: 64, snapshot: snapshot.clone(), since: None, missed: None };
    let kept = (1..=64).map(|save| (save, vec![Word::Message(save); 100])).collect();
    leader.handle(now, TabInput::Enter);
    leader.handle(now, TabInput::Heard(Note::Lead { to: Some(TabId(1)), lead }));
    leader.handle(now, TabInput::Elected);
    leader.handle(now, TabInput::Snapshot(snapshot));
    leader.handle(now, TabInput::Opened { term: 2, kept });
    let mut missed_after = |told| {
        leader.handle(now, TabInput::Heard(Note::Join { tab: TabId(2), visible: true, told: Some(told) }));
        let mut missed = None;
        while let Some(output) = leader.poll() {
            if let TabOutput::Post(Note::Lead { to: Some(TabId(2)), lead }) = output {
                missed = lead.missed;
            }
        }
        missed
    };
    let known = (1..=64).find_map(&mut missed_after).unwrap();
    assert_eq!(known.last(), Some(&Word::Message(64)), "the newest are there");
    let count = known.len();
    assert!(count > REMEMBERED_EVENTS_MAX / 2 && count <= REMEMBERED_EVENTS_MAX, "{count}");
    assert!(missed_after(1).is_none(), "that is too long ago");
    assert!(missed_after(65).is_none(), "there is no such save");
}

/// The disk fails: the leader goes on in memory.
fn end_save_in_memory(browser: &mut Browser, id: u64) {
    let core = browser.tabs.get_mut(&id).unwrap().core.as_mut().unwrap();
    core.under_way.front_mut().unwrap().3 = true;
    browser.end_save(id);
    for tab in browser.tabs.keys().copied().collect::<Vec<_>>() {
        browser.hear(tab);
    }
}

/// The next leader counts from what the disk has; who was told what never was there takes nothing for it. Found by the
/// simulated world.
#[test]
fn a_tab_that_was_told_what_never_was_saved_is_told_a_gap() {
    for leads_itself in [false, true] {
        let mut browser = Browser::default();
        let (first, away) = (browser.open_tab(), browser.open_tab());
        browser.head = 1;
        browser.settle();
        browser.head = 3;
        for _ in 0..2 {
            browser.take_batch(first, 1);
            end_save_in_memory(&mut browser, first);
        }
        assert_eq!(browser.tabs[&away].told.len(), 3);
        browser.freeze(away, false);
        browser.crash(first, false);
        let young = browser.open_tab();
        browser.settle();
        browser.head = 5;
        browser.settle();
        // As many saves as before, and more.
        assert_eq!(browser.tabs[&young].told.last(), Some(&Word::Message(5)));
        if leads_itself {
            browser.freeze(young, false);
        }
        browser.thaw(away);
        browser.settle();
        assert_eq!(browser.tabs[&away].machine.leads(), leads_itself);
        assert_eq!(browser.tabs[&away].gaps, 1);
        if leads_itself {
            browser.thaw(young);
        }
        browser.head = 6;
        browser.settle();
        assert_eq!(browser.tabs[&away].told, [Word::Message(6)]);
        assert_eq!(
            (browser.tabs[&young].told.last(), browser.tabs[&young].gaps),
            (Some(&Word::Message(6)), 0)
        );
    }
}

/// A new cache's saves are none that a tab was told of before it was frozen.
#[test]
fn a_tab_that_was_frozen_when_its_cache_was_deleted_is_told_a_gap() {
    for leads_itself in [false, true] {
        let mut browser = Browser::default();
        let frozen = browser.open_tab();
        for head in 1..=2 {
            browser.head = head;
            browser.settle();
        }
        browser.freeze(frozen, false);
        browser.delete_cache();
        let young = browser.open_tab();
        // As many saves as before, and more.
        for head in 3..=5 {
            browser.head = head;
            browser.settle();
        }
        assert_eq!(browser.tabs[&young].told.last(), Some(&Word::Message(5)));
        if leads_itself {
            browser.freeze(young, false);
        }
        browser.thaw(frozen);
        browser.settle();
        assert_eq!(browser.tabs[&frozen].machine.leads(), leads_itself);
        assert_eq!(browser.tabs[&frozen].gaps, 1);
        assert_eq!(browser.tabs[&frozen].told, []);
    }
}

#[test]
fn terms_of_a_new_cache_begin_with_the_time() {
    let in_2026 = 1_790_000_000_000;
    let first = next_term(0, Time(in_2026));
    assert_eq!(next_term(first, Time(in_2026 + 86_400_000)), first + 1, "the last 64 are barred by number");
    assert_eq!(next_term(first, Time(0)), first + 1, "a clock that was set back takes no term back");
    assert!(next_term(0, Time(in_2026 + 60_000)) > first + 5);
    // Whatever a clock says, there is a term, and JavaScript has its saves' numbers.
    assert_eq!(next_term(0, Time(0)), 1);
    assert!((next_term(0, Time(u64::MAX)) + 1_000_000) << TERM_BITS < 1 << 53);
}

#[test]
fn a_tab_that_is_seen_before_its_leader_answered_is_seen() {
    let mut browser = Browser::default();
    let leader = browser.open_tab();
    browser.settle();
    browser.input(leader, TabInput::Visible(false));
    let other = browser.open_tab();
    browser.input(other, TabInput::Visible(false));
    browser.settle();
    browser.input(other, TabInput::Leave);
    browser.settle();
    browser.input(other, TabInput::Enter);
    browser.input(other, TabInput::Visible(true));
    browser.settle();
    assert_eq!(browser.tabs[&leader].seen, Some(true));
}

/// The cache keeps what was told before the new leader was there. Found by the simulated world.
#[test]
fn a_tab_that_was_away_longer_than_its_leader_is_there_misses_nothing() {
    let mut browser = Browser::default();
    let (first, away) = (browser.open_tab(), browser.open_tab());
    browser.head = 1;
    browser.settle();
    browser.freeze(away, false);
    browser.head = 3;
    browser.settle();
    let young = browser.open_tab();
    browser.settle();
    browser.head = 4;
    browser.settle();
    browser.crash(first, false);
    browser.settle();
    assert!(browser.tabs[&young].machine.leads());
    browser.thaw(away);
    browser.settle();
    let told: Vec<_> = (1..=4).map(Word::Message).collect();
    assert_eq!(browser.tabs[&away].told, told);
    assert_eq!(browser.tabs[&young].told, told[3..]);
    assert_eq!((browser.tabs[&away].gaps, browser.tabs[&young].gaps), (0, 0));
}

/// The next leader itself lacks something that is kept no more; what is kept is enough for the other tab. Found by the
/// simulated world.
#[test]
fn a_leader_that_missed_something_tells_others_what_is_kept() {
    let mut browser = Browser::default();
    let (first, slow, other) = (browser.open_tab(), browser.open_tab(), browser.open_tab());
    browser.settle();
    browser.head = 1;
    browser.take_batch(first, 1);
    browser.reach_disk(first);
    browser.end_save(first);
    browser.hear(other);
    // The first save is kept no more, and the next one tells who has that what is after it.
    browser.disk.kept.pop_front();
    browser.head = 2;
    browser.take_batch(first, 1);
    let tab = browser.tabs.get_mut(&slow).unwrap();
    tab.heard.clear();
    tab.was_outside = true;
    browser.crash(first, true);
    browser.settle();
    assert!(browser.tabs[&slow].machine.leads());
    assert_eq!(browser.tabs[&other].told, [Word::Message(1), Word::Message(2)]);
    assert_eq!((browser.tabs[&slow].gaps, browser.tabs[&other].gaps), (1, 0));
}

/// What a tab asks while the leader changes reaches the next one in part only: the order in which it asked would be lost.
/// Found by the simulated world.
#[test]
fn what_is_asked_while_the_leader_changes_keeps_its_order() {
    let mut browser = Browser::default();
    let (first, second, third) = (browser.open_tab(), browser.open_tab(), browser.open_tab());
    browser.settle();
    browser.ask(third);
    browser.crash(first, false);
    // It does not lead yet.
    browser.hear(second);
    browser.ask(third);
    browser.grant();
    browser.open_cache(second);
    assert!(browser.tabs[&second].machine.leads());
    for _ in 0..10 {
        browser.hear(second);
        browser.hear(third);
    }
    let asked = &browser.tabs[&second].core.as_ref().unwrap().asked;
    let asked: Vec<_> = asked.iter().map(|(_, ask)| ask.clone()).collect();
    assert_eq!(asked, [Word::Send(1), Word::Send(2)]);
    browser.settle();
    assert!(browser.tabs[&third].settled.values().all(|times| *times == 1));
}
