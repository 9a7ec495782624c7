//! A slice of new worlds on each run, and the worlds that once broke a promise.
#![allow(clippy::print_stdout, reason = "the seed of a run is for people")]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hongyan_sim::{Scenario, play, play_all};

/// How long the slice takes.
const SLICE: Duration = Duration::from_secs(45);
/// Fewer worlds than this say little, however slow the machine is.
const WORLDS_MIN: u64 = 50;

/// `HONGYAN_SIM_SEED` gives the first seed; otherwise it is a new one.
#[test]
fn promises_hold_in_new_worlds_and_every_fault_matters() {
    let given = std::env::var("HONGYAN_SIM_SEED").ok().and_then(|seed| seed.parse().ok());
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let first = given.unwrap_or(clock.wrapping_mul(1_000_000));
    println!("worlds from seed {first} on");
    let progress = play_all(&Scenario::new(first), u64::MAX, SLICE, 1, |progress| {
        println!("{} worlds, {} per minute", progress.worlds, progress.per_minute());
    });
    println!("{}", progress.coverage.table());
    println!("{} worlds, {} per minute", progress.worlds, progress.per_minute());
    if let Some((seed, breach)) = progress.failures.first() {
        let breach = play(&Scenario::new(*seed), true).breach.unwrap_or_else(|| breach.clone());
        let again = format!("npm run sim -- --seed {seed} --shrink");
        panic!("Again:    {again}\n{breach}\nAgain:    {again}");
    }
    assert!(progress.worlds >= WORLDS_MIN, "only {} worlds were played", progress.worlds);
    // A few hundred worlds see each kind many times; fewer may miss the rarest by chance.
    if progress.worlds >= 500 {
        assert!(progress.coverage.missing().is_empty(), "never mattered: {:?}", progress.coverage.missing());
    }
}

/// The same seed makes the same world: otherwise a failing seed would say nothing.
#[test]
fn a_seed_is_a_world() {
    let coverage = |seed| play(&Scenario::new(seed), false).coverage.table();
    for seed in 0..20 {
        assert_eq!(coverage(seed), coverage(seed));
    }
    assert_ne!(coverage(1), coverage(2));
}

fn check(seeds: &[u64]) {
    for seed in seeds {
        // They are from before there was presence in these worlds, or groups that come by their logs.
        check_world(Scenario::new(*seed).without_presence().without_logs());
    }
}

/// A world from before sessions were ended in these, and messages changed.
fn check_world(scenario: Scenario) {
    check_whole_world(&scenario.without_ends().without_changes());
}

/// A world from before people showed anything of themselves in these, and pages shared a connection.
fn check_whole_world(scenario: &Scenario) {
    check_with_everything(&scenario.clone().without_profiles().without_tabs());
}

fn check_with_everything(scenario: &Scenario) {
    if let Some(breach) = play(scenario, true).breach {
        panic!("{scenario}\n{breach}");
    }
}

/// The client gave a hello the position that it had received; after a crash it came back with an older one (R1).
#[test]
fn a_cursor_that_the_relay_heard_is_never_taken_back() {
    check(&[124]);
}

/// A read mark that waited was told to the restored relay, whose messages of these numbers were others.
#[test]
fn read_marks_of_one_epoch_are_not_told_in_the_next() {
    check(&[108, 109, 118, 140]);
}

/// A restored relay broke the connection between welcome and reset: the client had taken the new epoch and kept the
/// list of the old one.
#[test]
fn an_epoch_is_taken_with_its_reset_only() {
    check(&[1656]);
}

/// The answer to one's own first message overtook the news that one had joined: the read mark stayed at zero.
#[test]
fn who_wrote_before_learning_of_having_joined_has_joined() {
    check(&[391]);
}

/// A device acknowledged what it had from an earlier connection before the new one streamed it; the relay took that
/// for a bad frame and ended the connection for good.
#[test]
fn nothing_is_acknowledged_that_this_connection_did_not_stream() {
    check(&[10_017_903]);
}

/// What became durable between hello and welcome counted as told, so a relay with a full window waited for ever.
#[test]
fn what_becomes_durable_between_hello_and_welcome_is_acknowledged() {
    check(&[20_004_503]);
}

/// A page of history began with the cache of the log before and was completed by a restored relay.
#[test]
fn a_page_is_of_one_log() {
    check(&[50_004_530]);
}

/// What was wrong with presence, each at the seed that showed it (`relay/tests/core_presence_faults.rs` has them without
/// a world): a user offline while another device of hers was awaited after a restart, one left unknown by a store that
/// could not be read, an earlier beginning after a later one, a mini-program's kind lost by a failed read, a relay that
/// stops and calls somebody offline, and logouts whose lease ended before they were durable, was taken again, or waited
/// for a return, and a hello while the devices could not be read.
#[test]
fn presence_holds_where_it_once_did_not() {
    for seed in
        [48, 172, 743, 781, 1_065, 1_228, 1_422, 214, 1_057, 3_010_334, 4_013_706, 4_014_067, 5_005_286]
    {
        check_world(Scenario::new(seed).without_logs());
    }
}

/// A hello during the save of a reset's snapshot gave cursor 0 of an epoch in which the relay had heard of a later one.
#[test]
fn a_cursor_is_not_taken_back_while_a_snapshot_is_saved() {
    check_world(Scenario::new(1_005_732));
}

/// Who was removed and came again was told a gap of the time between, when she was no member: the log's head came first.
#[test]
fn a_gap_ends_where_the_membership_did() {
    check_world(Scenario::new(1_795_714_110_008_258));
}

/// A page brought what the queue had brought meanwhile, and the client took that for the log's end.
#[test]
fn a_page_that_came_second_is_not_the_end_of_a_log() {
    check_world(Scenario::new(1_795_716_002_002_186));
}

/// The checker looked at a device whose token had just ended while it looked at the others.
#[test]
fn what_a_device_sees_counts_when_it_is_connected() {
    check_world(Scenario::new(1_795_714_745_023_785));
}

/// The checker expected a kick's cause although the same commit brought the device's own logout.
#[test]
fn a_logout_at_the_moment_of_a_sign_out_may_be_told() {
    check_whole_world(&Scenario::new(20_013_473).without_changes());
}

/// A sign-out that could not be written was refused, and answered as done all the same; one whose commit was under way
/// was shown to who asked (`relay/tests/core_storage.rs` and `relay/tests/core_ends_seen.rs` have them without a world).
#[test]
fn a_sign_out_is_told_when_it_is_durable() {
    for seed in [76, 602, 1_854, 2_148, 2_234] {
        check_whole_world(&Scenario::new(seed).without_changes());
    }
}

/// Of several references to a profile that were streamed together the first one told it, and the others were empty; a
/// device passed over the first, which it had when the profile was older.
#[test]
fn a_profile_is_told_by_the_last_of_its_entries() {
    let scenario = Scenario::new(1_026_428).without_presence().without_changes();
    check_with_everything(&scenario.without_ends().without_tabs());
}

/// What a tab asked while the leader changed reached the next leader in part, before it was asked again: messages came in
/// another order than they were written in. `client/tests/tabs/` has it without a world.
#[test]
fn what_a_tab_asks_keeps_its_order_when_the_leader_changes() {
    check_with_everything(&Scenario::new(5_001_520).without_profiles());
}

/// The checker held what a new watch tells against what the one before had told, which a refusal had ended: the relay's
/// clock had jumped back meanwhile.
#[test]
fn a_refusal_ends_what_a_watch_may_not_take_back() {
    check_with_everything(&Scenario::new(1_795_743_367_002_077).without_profiles());
}

/// The checker took a send for lost that a page gave to a core which had been signed out, and which answered so.
#[test]
fn what_is_sent_after_a_sign_out_is_answered_as_that() {
    check_with_everything(&Scenario::new(700_003_795));
}

/// The checker took a queue for another one when its device, of which nothing was saved yet, was reset to its list.
#[test]
fn what_came_of_a_queue_before_its_reset_may_be_told() {
    let scenario = Scenario::new(1_018_366).without_presence().without_changes();
    check_with_everything(&scenario.without_ends().without_tabs());
}

/// A device that was signed out right after a reset to the beginning of a restored queue was taken to be told of the one
/// before: what was sent again is at other positions of both.
#[test]
fn after_a_reset_to_the_beginning_it_is_known_which_queue_is_told() {
    check_with_everything(&Scenario::new(800_016_834));
}

/// Who came back to a group before her queue had told her that she was gone was told again what a page had told her.
/// `client/tests/logs.rs` has it without a world.
#[test]
fn what_pages_told_of_a_later_membership_is_told_once() {
    check_with_everything(&Scenario::new(800_026_721));
}

/// A tab that had been frozen asked again for what was refused meanwhile, and the checker wanted it before what had been
/// sent since.
#[test]
fn what_a_tab_asks_again_after_a_refusal_is_the_newest() {
    check_with_everything(&Scenario::new(810_012_877));
}

/// The next leader had itself missed something that was kept no more, and forgot what was: another tab, which only lacked
/// the last save, was told a gap. `client/tests/tabs/` has it without a world.
#[test]
fn a_leader_that_missed_something_tells_others_what_is_kept() {
    check_with_everything(&Scenario::new(30_000_749));
}

/// A save failed, its leader went on in memory, and the next one counted its saves from what the disk had: a frozen tab
/// that had been told of the first ones' took the others' for the same, and missed what they told without a gap.
#[test]
fn who_was_told_what_never_was_saved_is_told_a_gap() {
    check_with_everything(&Scenario::new(1_795_747_923_000_501));
}

/// The world gave a tab that had just frozen its own lock back before it had fallen for others: the fall of one that was
/// there took what it had asked.
#[test]
fn a_lock_falls_before_its_tab_is_back() {
    check_with_everything(&Scenario::new(41_000_253));
}

/// A tab that was away was told a gap although what it had missed was in the cache: its leader had begun to lead after
/// that, and remembered only what it told itself.
#[test]
fn a_tab_is_told_what_its_leader_found_in_the_cache() {
    for seed in [5_000_681, 5_000_702] {
        check_with_everything(&Scenario::new(seed));
    }
}
