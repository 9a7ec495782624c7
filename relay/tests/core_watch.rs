//! Who may watch whom, and what it costs to tell it.

#![allow(clippy::unwrap_used)] // The helpers are outside of test functions.

mod core_world;

use core_world::presence::*;
use core_world::*;
use hongyan_protocol::Code;
use hongyan_protocol::wire::{self, client_frame::Verb, relay_frame::Event};
use hongyan_relay::core::io::WatchPolicy;
use hongyan_relay::core::{ConnectionId, CoreConfig, Input};

const NOTHING: [&str; 0] = [];
const REFUSED: &str = "unknown refused";

fn states(presences: &[wire::Presence]) -> Vec<String> {
    presences.iter().map(seen).collect()
}

fn with(watch: WatchPolicy) -> World {
    World::with(CoreConfig { watch, recovery_ms: 0, ..Default::default() })
}

#[test]
fn those_of_a_conversation_may_watch_each_other_and_others_may_not() {
    let mut world = with(WatchPolicy::Members);
    let (alice, bob) = (world.login("alice", "a"), world.login("bob", "b"));
    let carol = world.login("carol", "c");
    // Oneself, a stranger, nobody at all.
    assert_eq!(
        states(&world.watch(bob, &["bob", "alice", "nobody", "bob"])),
        ["online", REFUSED, REFUSED],
        "each once"
    );
    let refused = world.watch(bob, &["alice", "nobody"]);
    let (mut of_alice, of_nobody) = (refused[0].clone(), &refused[1]);
    of_alice.user.clone_from(&of_nobody.user);
    assert!(of_alice == *of_nobody, "there is no difference to see");
    // To ask was not to watch: not even when she comes and goes.
    world.frame(alice, 0, set_away(true));
    assert_eq!(world.saw(bob), NOTHING);
    // A direct conversation counts when there is a message in it, for both.
    world.call(bob, history(&direct("alice", "bob"), 0, 0, 1));
    assert_eq!(states(&world.watch(bob, &["alice"])), [REFUSED]);
    world.send(alice, &direct("alice", "bob"), "1", "hello");
    assert_eq!(states(&world.watch(bob, &["alice"])), ["away background"]);
    assert_eq!(states(&world.watch(alice, &["bob"])), ["online"]);
    assert_eq!(states(&world.watch(carol, &["alice", "bob"])), [REFUSED, REFUSED]);
    // And a group.
    world.group(carol, "g", &["alice"]);
    assert_eq!(states(&world.watch(carol, &["alice", "bob"])), ["away background", REFUSED]);
    assert_eq!(states(&world.watch(alice, &["carol", "bob"])), ["online", "online"]);
    world.take(bob);
    world.frame(alice, 0, set_away(false));
    assert_eq!((world.saw(bob), world.saw(carol)), (vec!["online".into()], vec!["online".to_owned()]));
    // What is not durable is no conversation yet.
    world.auto_commit = false;
    world.ask(carol, send(&direct("bob", "carol"), "2", "hello"));
    assert_eq!(states(&world.watch(bob, &["carol"])), [REFUSED]);
    world.commit_all();
    assert_eq!(states(&world.watch(bob, &["carol"])), ["online"]);
}

#[test]
fn the_policy_can_be_everyone_or_nobody() {
    let mut world = with(WatchPolicy::Everyone);
    let (alice, bob) = (world.login("alice", "a"), world.login("bob", "b"));
    assert_eq!(states(&world.watch(bob, &["alice", "nobody"])), ["online", REFUSED]);
    world.frame(alice, 0, set_away(true));
    assert_eq!(world.saw(bob), ["away background"]);

    let mut world = with(WatchPolicy::Nobody);
    let (alice, bob) = (world.login("alice", "a"), world.login("bob", "b"));
    world.send(alice, &direct("alice", "bob"), "1", "hello");
    assert_eq!(states(&world.watch(bob, &["alice", "bob"])), [REFUSED, "online"]);
}

#[test]
fn requests_to_watch_are_checked_and_bounded() {
    let mut world = with(WatchPolicy::Everyone);
    let config = CoreConfig { sends_burst: 5_000, requests_burst: 5_000, ..Default::default() };
    let mut members = World::with(CoreConfig { recovery_ms: 0, ..config });
    let names: Vec<String> = (0..1_200).map(|n| format!("user{n:04}")).collect();
    let bob = members.login("bob", "b");
    for (n, name) in names.iter().enumerate() {
        members.send(bob, &direct("bob", name), &format!("k{n}"), "hello");
    }
    let part = |from: usize, to: usize| names[from..to].iter().map(String::as_str).collect::<Vec<_>>();
    for n in 0..5 {
        let presences = members.watch(bob, &part(n * 200, n * 200 + 200));
        assert!(presences.len() == 200 && presences.iter().all(|presence| !presence.refused));
    }
    assert_eq!(members.relay.counters().watched, 1_000);
    assert_eq!(members.refused(bob, watch(&["user1100"])), Code::WATCH_FULL);
    // The same again is no more, and what is let go makes room.
    members.watch(bob, &part(0, 200));
    members.frame(bob, 0, unwatch(&["user0000"]));
    assert_eq!(members.watch(bob, &["user1100"]).len(), 1);
    // Who goes watches nobody.
    members.cut(bob);
    assert_eq!(members.relay.counters().watched, 0);

    let bob = world.login("bob", "b");
    let many: Vec<_> = (0..201).map(|n| format!("u{n}")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    assert_eq!(world.refused(bob, watch(&many)), Code::BAD_REQUEST);
    assert_eq!(world.refused(bob, unwatch(&many)), Code::BAD_REQUEST);
    assert_eq!(world.refused(bob, watch(&["a\nb"])), Code::BAD_REQUEST);
    assert_eq!(world.watch(bob, &[]).len(), 0);
}

#[test]
fn who_is_not_watched_any_more_is_not_told() {
    let mut world = with(WatchPolicy::Everyone);
    let (alice, bob) = (world.login("alice", "a"), world.login("bob", "b"));
    world.watch(bob, &["alice"]);
    world.frame(bob, 0, unwatch(&["alice", "nobody"]));
    world.frame(alice, 0, set_away(true));
    assert_eq!(world.saw(bob), NOTHING);
    assert_eq!(world.relay.counters().watched, 0);
}

#[test]
fn a_watch_ends_with_the_last_reason_for_it() {
    let mut world = with(WatchPolicy::Members);
    let (alice, bob) = (world.login("alice", "a"), world.login("bob", "b"));
    let (carol, dave) = (world.login("carol", "c"), world.login("dave", "d"));
    let group = world.group(alice, "g", &["bob", "carol", "dave"]);
    let other = world.group(bob, "h", &["carol"]);
    world.send(alice, &direct("alice", "bob"), "1", "hello");
    for connection in [alice, bob, carol, dave] {
        assert!(world.watch(connection, &["alice", "bob", "carol", "dave"]).iter().all(|p| !p.refused));
        world.take(connection);
    }
    // Bob still has a direct conversation with alice and a group with carol, but nothing with dave.
    world.auto_commit = false;
    world.ask(bob, Verb::LeaveGroup(wire::LeaveGroup { conversation: group.clone() }));
    assert!(world.pushed(dave).is_empty() && world.pushed(bob).is_empty(), "not before it is durable");
    world.commit_all();
    world.auto_commit = true;
    let ends = |world: &mut World, connection| {
        let told = world.pushed(connection);
        let mut told: Vec<_> = told.iter().map(|p| format!("{} {}", p.user, seen(p))).collect();
        told.sort();
        told
    };
    assert_eq!(ends(&mut world, bob), [format!("dave {REFUSED}")]);
    assert_eq!(ends(&mut world, dave), [format!("bob {REFUSED}")]);
    assert_eq!(ends(&mut world, alice), NOTHING);
    assert_eq!(ends(&mut world, carol), NOTHING);
    // It has ended.
    world.frame(bob, 0, set_away(true));
    assert_eq!(ends(&mut world, dave), NOTHING);
    assert_eq!(ends(&mut world, carol), ["bob away background"]);
    for connection in [alice, bob] {
        world.take(connection);
    }
    // One who is removed, while the other leaves in the same commit.
    world.auto_commit = false;
    let remove = wire::RemoveMembers { conversation: group.clone(), users: vec!["dave".into()] };
    world.ask(alice, Verb::RemoveMembers(remove));
    world.ask(carol, Verb::LeaveGroup(wire::LeaveGroup { conversation: group }));
    world.ask(carol, Verb::LeaveGroup(wire::LeaveGroup { conversation: other }));
    world.commit_all();
    let refused = |users: &[&str]| users.iter().map(|user| format!("{user} {REFUSED}")).collect::<Vec<_>>();
    assert_eq!(ends(&mut world, dave), refused(&["alice", "carol"]));
    assert_eq!(ends(&mut world, carol), refused(&["alice", "bob", "dave"]));
    assert_eq!(ends(&mut world, alice), refused(&["carol", "dave"]));
    assert_eq!(ends(&mut world, bob), refused(&["carol"]));
}

#[test]
fn someone_in_many_groups_is_answered_in_turns_and_holds_up_nobody() {
    let config = CoreConfig { recovery_ms: 0, requests_burst: 10_000, ..Default::default() };
    let mut world = World::with(config.clone());
    let bob = world.login("bob", "b");
    for n in 0..300 {
        world.group(bob, &format!("g{n}"), &[&format!("friend{n:03}")]);
    }
    // A relay that knows none of them from memory.
    let mut world = World::over(world.store.clone(), config);
    let bob = world.login("bob", "b");
    let names: Vec<_> = (150..350).map(|n| format!("friend{n:03}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    world.auto_tick = false;
    let request = world.ask(bob, watch(&names));
    assert!(world.answer(bob, request).is_none(), "it takes more than one turn");
    let mut turns = 0;
    let answer = loop {
        turns += 1;
        world.input(Input::Tick);
        if let Some(answer) = world.answer(bob, request) {
            break answer;
        }
        assert!(turns < 1_000);
    };
    assert!(turns > 5);
    let Event::Watched(watched) = answer else { panic!("{}", name(&answer)) };
    let refused: Vec<_> = watched.presences.iter().filter(|p| p.refused).map(|p| p.user.as_str()).collect();
    assert_eq!((watched.presences.len(), refused.len(), refused[0]), (200, 50, "friend300"));
    // Too many requests at once are refused for now, and the others answered in their order.
    let requests: Vec<_> = (0..40).map(|_| world.ask(bob, watch(&names))).collect();
    world.auto_tick = true;
    world.input(Input::Tick);
    let answers: Vec<_> = requests.iter().map(|request| world.answer(bob, *request).unwrap()).collect();
    let busy = answers.iter().filter(|answer| matches!(answer, Event::Reject(reject) if reject.code == 4100));
    assert!((1..40).contains(&busy.count()));
}

/// So many watchers of alice, each with a connection, and she is there.
fn crowd(watchers: usize) -> (World, ConnectionId, Vec<ConnectionId>) {
    let config = CoreConfig { watch: WatchPolicy::Everyone, recovery_ms: 0, ..Default::default() };
    let mut world = World::with(CoreConfig { silence_ms: 3_600_000, ping_interval_ms: 3_000_000, ..config });
    let alice = world.login("alice", "a");
    let watchers: Vec<_> = (0..watchers)
        .map(|n| {
            let watcher = world.login(&format!("w{n}"), "d");
            world.watch(watcher, &["alice"]);
            world.take(watcher);
            watcher
        })
        .collect();
    (world, alice, watchers)
}

#[test]
fn a_user_with_ten_thousand_watchers_who_flaps_costs_what_the_pace_allows() {
    let (mut world, alice, watchers) = crowd(10_000);
    let before = world.relay.counters().presence_pushes;
    // One change is told to all of them, in bounded pieces.
    (world.auto_tick, world.auto_write) = (false, false);
    world.frame(alice, 0, set_away(true));
    assert_eq!(world.relay.counters().presence_pushes - before, 1_000);
    (world.auto_tick, world.auto_write) = (true, true);
    let written = std::mem::take(&mut world.unwritten);
    world.input(Input::Written(written.into_iter().collect()));
    assert_eq!(world.relay.counters().presence_pushes - before, 10_000);
    // For ten seconds she flaps a hundred times a second.
    for n in 0..1_000 {
        world.pass(10);
        world.frame(alice, 0, set_away(n % 2 == 0));
    }
    world.pass(1_000);
    let pushes = world.relay.counters().presence_pushes - before;
    assert!(pushes <= 10_000 * 23, "{pushes}: two rounds a second");
    // The last state has arrived everywhere.
    for watcher in watchers {
        assert_eq!(world.saw(watcher).last().map(String::as_str), Some("online"));
    }
}

#[test]
fn few_watchers_learn_of_single_changes_at_once_and_of_a_flood_the_end() {
    let (mut world, alice, watchers) = crowd(3);
    for n in 0..5 {
        world.frame(alice, 0, set_away(n % 2 == 0));
        assert_eq!(world.saw(watchers[0]).len(), 1);
    }
    for n in 0..1_000 {
        world.pass(10);
        world.frame(alice, 0, set_away(n % 2 == 0));
    }
    world.frame(alice, 0, set_away(true));
    world.pass(300);
    for watcher in watchers {
        let saw = world.saw(watcher);
        assert!(saw.len() <= 60 && saw.last().unwrap() == "away background", "{}", saw.len());
    }
}

#[test]
fn a_slow_watcher_is_passed_over_and_gets_the_present_state() {
    let config = CoreConfig {
        watch: WatchPolicy::Everyone,
        recovery_ms: 0,
        outgoing_bytes_target: 300,
        stalled_ms: 3_600_000,
        silence_ms: 3_600_000,
        ..Default::default()
    };
    let mut world = World::with(config);
    let (alice, carol, bob) = (world.login("alice", "a"), world.login("carol", "c"), world.login("bob", "b"));
    world.watch(bob, &["alice", "carol"]);
    world.take(bob);
    world.auto_write = false;
    for n in 0..100 {
        world.pass(1_000);
        for connection in [alice, carol] {
            world.frame(connection, 0, set_away(n % 2 == 0));
        }
    }
    let waiting = world.unwritten[&bob];
    assert!(waiting < 1_000, "{waiting} bytes wait");
    world.take(bob);
    world.frame(carol, 0, bye(0, false));
    world.pass(1_000);
    assert_eq!(world.saw(bob), NOTHING);
    let bytes = world.unwritten.remove(&bob).unwrap();
    world.input(Input::Written(vec![(bob, bytes)]));
    assert_eq!(world.saw(bob), ["online", "offline closed"], "alice as she is, and carol");
}
