//! What a queue keeps: the hot part, the overflow, what is dropped, and who is reset for it.
#![allow(clippy::unwrap_used)]

mod core_world;

use core_world::*;
use hongyan_protocol::wire::{self, client_frame::Verb, relay_frame::Event};
use hongyan_relay::core::queue::QueueConfig;
use hongyan_relay::core::verify::verify;
use hongyan_relay::core::{ConnectionId, CoreConfig, Input};
use hongyan_relay::store::{Order, Store, Table};

const NEW_DEVICE: &str = "RESET_CAUSE_NEW_DEVICE";
const CURSOR_EXPIRED: &str = "RESET_CAUSE_CURSOR_EXPIRED";
const DAY_MS: u64 = 24 * 3_600_000;

fn config(queue: QueueConfig) -> CoreConfig {
    CoreConfig { sends_per_second: 100_000, sends_burst: 100_000, queue, ..CoreConfig::default() }
}

/// Ten entries are hot, and a segment has eight.
fn small() -> QueueConfig {
    QueueConfig { capacity: 10, segment_entries: 8, ..QueueConfig::default() }
}

/// The rows of a part of a user's queue: the last position and the bytes.
fn rows(world: &World, table: Table, user: &str) -> Vec<(u64, usize)> {
    let mut rows = Vec::new();
    let (from, to) = ([user.as_bytes(), &[0]].concat(), [user.as_bytes(), &[1]].concat());
    let mut see = |key: &[u8], value: &[u8]| {
        let last = u64::from_be_bytes(*key.last_chunk::<8>().unwrap());
        rows.push((last, value.len()));
        true
    };
    world.store.scan(table, &from, &to, Order::Ascending, &mut see).unwrap();
    rows
}

fn is_whole(world: &World) {
    let mut findings = Vec::new();
    verify(&world.store, &mut |word| {
        if let hongyan_relay::core::verify::Word::Finding(finding) = word {
            findings.push(finding.to_string());
        }
    });
    assert_eq!(findings, Vec::<String>::new());
}

fn send_many(world: &mut World, from: ConnectionId, to: &str, numbers: core::ops::Range<u64>) {
    for n in numbers {
        world.send(from, &direct("alice", to), &format!("to {to} {n}"), &format!("{n}"));
    }
}

fn acknowledge(world: &mut World, connection: ConnectionId, cursor: u64) {
    world.frame(connection, 0, Verb::Ack(wire::Ack { cursor }));
    world.pass(2_000);
}

fn leave(world: &mut World, connection: ConnectionId) {
    world.input(Input::Closed(connection));
    world.pass(3_000);
}

fn resets(world: &mut World, connection: ConnectionId) -> Vec<(&'static str, u64)> {
    let events = world.take(connection);
    let resets = events.into_iter().filter_map(|event| match event {
        Event::Reset(reset) => Some((reset.cause().as_str_name(), reset.pos)),
        _ => None,
    });
    resets.collect()
}

/// Bob's device has 5 entries and goes; alice, whose devices have everything, writes 100 more.
fn bob_is_behind(config: CoreConfig) -> (World, ConnectionId) {
    let mut world = World::with(config);
    let (alice, bob) = (world.login("alice", "a"), world.login("bob", "b"));
    send_many(&mut world, alice, "bob", 0..5);
    acknowledge(&mut world, bob, 5);
    leave(&mut world, bob);
    for n in 5..105 {
        send_many(&mut world, alice, "bob", n..n + 1);
        acknowledge(&mut world, alice, n + 1);
    }
    (world, alice)
}

#[test]
fn what_is_beyond_the_capacity_moves_into_segments_and_nobody_notices() {
    let (mut world, _) = bob_is_behind(config(small()));
    let segments: Vec<_> = rows(&world, Table::Overflow, "bob").into_iter().map(|(last, _)| last).collect();
    assert!(segments.len() >= 10, "{segments:?}");
    assert!(segments.windows(2).all(|pair| pair[1] == pair[0] + 8));
    let hot = rows(&world, Table::Queue, "bob").len();
    assert!((10..18).contains(&hot), "{hot} rows are hot");
    // Alice has it all: only her newest entries are kept.
    assert_eq!(rows(&world, Table::Overflow, "alice"), []);
    assert!(rows(&world, Table::Queue, "alice").len() < 18);
    is_whole(&world);
    let epoch = world.epoch();
    for cursor in [5, 6, 12, 13, 14, 50, 95, 104] {
        let bob = world.login_at("bob", "b", &epoch, cursor);
        let entries: Vec<_> = world.entries(bob).into_iter().map(|entry| entry.pos).collect();
        assert_eq!(entries, (cursor + 1..=105).collect::<Vec<_>>());
        leave(&mut world, bob);
    }
}

#[test]
fn what_every_active_device_has_goes_but_the_newest_stay() {
    let (mut world, alice) = bob_is_behind(config(small()));
    let epoch = world.epoch();
    let bob = world.login_at("bob", "b", &epoch, 5);
    acknowledge(&mut world, bob, 105);
    leave(&mut world, bob);
    leave(&mut world, alice);
    world.pass(3_700_000);
    assert_eq!(rows(&world, Table::Overflow, "bob"), [], "the sweep drops them");
    let hot = rows(&world, Table::Queue, "bob");
    assert!((10..18).contains(&hot.len()), "{} rows are hot", hot.len());
    is_whole(&world);
    assert_eq!(world.relay.counters().queue.resets, [0; 5]);
}

#[test]
fn a_new_device_begins_with_the_list_when_there_is_much() {
    let (mut world, _) = bob_is_behind(config(small()));
    let new = world.login("bob", "new");
    assert_eq!(resets(&mut world, new), [(NEW_DEVICE, 105)]);
    let epoch = world.epoch();
    // It crashed before it had the list.
    leave(&mut world, new);
    let new = world.login_at("bob", "new", &epoch, 0);
    assert_eq!(resets(&mut world, new), [(NEW_DEVICE, 105)]);
    let mut world = World::with(config(small()));
    let alice = world.login("alice", "a");
    send_many(&mut world, alice, "bob", 0..10);
    let bob = world.login("bob", "b");
    assert_eq!(world.entries(bob).len(), 10, "few entries are told one by one");
}

#[test]
fn an_expired_device_holds_nothing_back_and_is_reset() {
    let queue = QueueConfig { device_expiry_ms: 10 * DAY_MS, sweep_interval_ms: DAY_MS, ..small() };
    let (mut world, _) = bob_is_behind(config(queue));
    let other = world.login("bob", "other");
    assert_eq!(resets(&mut world, other), [(NEW_DEVICE, 105)]);
    acknowledge(&mut world, other, 105);
    leave(&mut world, other);
    world.pass(9 * DAY_MS);
    assert!(!rows(&world, Table::Overflow, "bob").is_empty(), "the device is still waited for");
    // The other one is there every day.
    let epoch = world.epoch();
    let back = world.login_at("bob", "other", &epoch, 105);
    leave(&mut world, back);
    world.pass(2 * DAY_MS);
    assert_eq!(rows(&world, Table::Overflow, "bob"), []);
    let bob = world.login_at("bob", "b", &epoch, 5);
    assert_eq!(resets(&mut world, bob), [(CURSOR_EXPIRED, 105)]);
    assert_eq!(world.relay.counters().queue.resets, [0, 0, 0, 1, 1]);
}

#[test]
fn retention_ends_by_number_by_bytes_and_by_age() {
    for queue in [
        QueueConfig { retention_entries_max: 40, sweep_interval_ms: 60_000, ..small() },
        QueueConfig { retention_bytes_max: 800, sweep_interval_ms: 60_000, ..small() },
        QueueConfig { retention_ms: 60_000, sweep_interval_ms: 60_000, ..small() },
    ] {
        let (mut world, _) = bob_is_behind(config(queue.clone()));
        world.pass(200_000);
        let (overflow, hot) = (rows(&world, Table::Overflow, "bob"), rows(&world, Table::Queue, "bob"));
        let bytes: usize = overflow.iter().chain(&hot).map(|(_, bytes)| bytes + 12).sum();
        let entries = hot.len() + 8 * overflow.len();
        assert!(entries <= 48, "{entries} entries");
        if queue.retention_bytes_max < 1_000 {
            assert!(bytes <= 1_000, "{bytes} bytes");
        }
        assert!(!hot.is_empty(), "the newest entry stays");
        is_whole(&world);
        let epoch = world.epoch();
        let bob = world.login_at("bob", "b", &epoch, 5);
        assert_eq!(resets(&mut world, bob), [(CURSOR_EXPIRED, 105)]);
        let counted = world.relay.counters().queue;
        assert!(counted.trimmed_entries > 0 && counted.sweeps > 0);
        assert_eq!(counted.hot_entries + counted.overflow_entries, {
            let alice = rows(&world, Table::Queue, "alice").len();
            (entries + alice) as u64
        });
    }
}

#[test]
fn a_stream_that_the_retention_overtakes_is_reset() {
    let queue = QueueConfig { retention_entries_max: 20, ..small() };
    let mut world = World::with(CoreConfig { unacknowledged_max: 4, ..config(queue) });
    let (alice, bob) = (world.login("alice", "a"), world.login("bob", "b"));
    for n in 0..100 {
        send_many(&mut world, alice, "bob", n..n + 1);
        acknowledge(&mut world, alice, n + 1);
        world.frame(bob, 0, Verb::Pong(wire::Pong::default()));
    }
    acknowledge(&mut world, bob, 4);
    assert_eq!(resets(&mut world, bob), [(CURSOR_EXPIRED, 100)]);
    acknowledge(&mut world, bob, 100);
    send_many(&mut world, alice, "bob", 100..101);
    assert_eq!(world.texts(bob), ["100"]);
}

#[test]
fn a_step_that_was_lost_is_done_again() {
    let (mut world, alice) = bob_is_behind(config(QueueConfig { segment_entries: 64, ..small() }));
    world.auto_commit = false;
    for n in 105..150 {
        world.ask(alice, send(&direct("alice", "bob"), &format!("{n}"), "more"));
        if world.pending.len() == 1 && n % 2 == 0 {
            world.commit();
        }
    }
    // The relay ends with a commit under way.
    let store = world.store.clone();
    let mut world = World::over(store, config(small()));
    is_whole(&world);
    let alice = world.login("alice", "a");
    send_many(&mut world, alice, "bob", 200..201);
    let head = rows(&world, Table::Queue, "bob").last().unwrap().0;
    assert!(rows(&world, Table::Queue, "bob").len() < 18);
    is_whole(&world);
    let epoch = world.epoch();
    let bob = world.login_at("bob", "b", &epoch, 5);
    let entries: Vec<_> = world.entries(bob).into_iter().map(|entry| entry.pos).collect();
    assert_eq!(entries, (6..=head).collect::<Vec<_>>());
}
