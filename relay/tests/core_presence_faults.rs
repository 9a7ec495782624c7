//! Presence when something else goes wrong meanwhile: each of these was found by the simulated world (`tests/sim/`), at
//! the seeds that are named.

#![allow(clippy::unwrap_used)] // The helpers are outside of test functions.

mod core_world;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use bytes::Bytes;
use core_world::presence::*;
use core_world::*;
use hongyan_protocol::wire::{self, DeviceKind, client_frame::Verb, relay_frame::Event};
use hongyan_relay::core::{ConnectionId, CoreConfig, Input};
use hongyan_relay::store::{Batch, MemoryStore, Order, Store, StoreError, Table};

const NOTHING: [&str; 0] = [];

/// A store whose reads fail for a while.
#[derive(Clone)]
struct Faulty {
    store: MemoryStore,
    fails: Arc<AtomicBool>,
    /// Only those of several rows.
    scans_fail: Arc<AtomicBool>,
}

impl Faulty {
    fn new() -> Self {
        Self { store: MemoryStore::new(), fails: Arc::default(), scans_fail: Arc::default() }
    }

    fn read(&self) -> Result<(), StoreError> {
        if self.fails.load(Relaxed) { Err(StoreError::Engine("a sector is bad".into())) } else { Ok(()) }
    }
}

impl Store for Faulty {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.read()?;
        self.store.get(table, key)
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        order: Order,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StoreError> {
        self.read()?;
        if self.scans_fail.load(Relaxed) && table == Table::Devices {
            return Err(StoreError::Engine("a sector is bad".into()));
        }
        self.store.scan(table, from, to, order, visit)
    }

    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        self.store.commit(batch)
    }
}

/// Another relay over the same store, some time later, with bob on it.
fn restarted<S: Store>(world: &World<S>) -> (World<S>, ConnectionId) {
    let mut next = World::over(world.store.clone(), CoreConfig::default());
    next.now = world.now + 3_000;
    let bob = next.login("bob", "b");
    (next, bob)
}

fn log_out() -> Verb {
    Verb::Bye(wire::Bye { logout: true, ..wire::Bye::default() })
}

/// Seeds 48, 64, 195, 302 and others.
#[test]
fn after_a_restart_one_device_that_goes_says_nothing_of_the_others_that_were_there() {
    let mut world = World::new();
    world.bob_watches_alice();
    for device in ["desk", "phone"] {
        world.login("alice", device);
    }
    world.pass(2_000);

    let (mut world, bob) = restarted(&world);
    let phone = world.login("alice", "phone");
    assert_eq!(seen(&world.watch(bob, &["alice"])[0]), "online");
    world.frame(phone, 0, bye(0, false));
    assert_eq!(world.saw(bob), ["unknown no-channel"]);
    // Whoever asks anew learns the same.
    world.frame(bob, 0, unwatch(&["alice"]));
    assert_eq!(seen(&world.watch(bob, &["alice"])[0]), "unknown no-channel");
    let desk = world.login("alice", "desk");
    assert_eq!(world.saw(bob), ["online"]);
    // Both are back: nobody else is awaited.
    world.frame(desk, 0, bye(0, false));
    assert_eq!(world.saw(bob), ["offline closed"]);

    // And of one that does not come back nobody waits for ever.
    world.login("alice", "tablet");
    world.pass(2_000);
    let (mut world, bob) = restarted(&world);
    let other = world.login("alice", "other");
    world.watch(bob, &["alice"]);
    world.frame(other, 0, bye(0, false));
    assert_eq!(world.saw(bob), ["unknown no-channel"]);
    world.wait_alive(bob, 20_000);
    assert_eq!(world.saw(bob), ["offline closed"]);
}

/// Seeds 172, 387 and others.
#[test]
fn a_store_that_can_not_be_read_when_the_recovery_ends_leaves_nobody_unknown() {
    let mut world = World::over(Faulty::new(), CoreConfig::default());
    let bob = world.login("bob", "b");
    world.send(bob, &direct("alice", "bob"), "first", "hello");
    world.login("alice", "a");
    world.pass(2_000);

    let (mut world, bob) = restarted(&world);
    assert_eq!(seen(&world.watch(bob, &["alice"])[0]), "unknown no-channel");
    world.wait_alive(bob, 19_000);
    world.store.fails.store(true, Relaxed);
    world.wait_alive(bob, 2_000);
    assert_eq!(world.saw(bob), NOTHING);
    world.store.fails.store(false, Relaxed);
    world.wait_alive(bob, 1_000);
    assert_eq!(world.saw(bob), ["offline lost"]);
}

/// Seed 743.
#[test]
fn a_logout_is_told_also_when_the_lease_was_over_before_it_was_durable() {
    let mut world = World::new();
    let bob = world.bob_watches_alice();
    let (alice, _) = world.greet("alice", "m", |hello| hello.device_kind = DeviceKind::Miniprogram.into());
    world.saw(bob);
    world.auto_commit = false;
    world.frame(alice, 0, log_out());
    world.cut(alice);
    world.pass(2_000);
    assert_eq!(world.saw(bob), ["unknown no-channel"]);
    // Whoever asks now knows it already.
    let other = world.login("bob", "other");
    world.watch(other, &["alice"]);
    world.commit_all();
    assert_eq!(world.saw(bob), ["offline logout"]);
    world.pass(2_000);
    world.commit_all();
    assert!(world.store.get(Table::Devices, b"alice\0m\0").unwrap().is_none(), "it is forgotten");
}

/// Seeds 3010334, 3011268 and others.
#[test]
fn who_logs_in_again_before_the_logout_is_durable_is_there() {
    let mut world = World::new();
    let bob = world.bob_watches_alice();
    let alice = world.login("alice", "a");
    world.saw(bob);
    world.auto_commit = false;
    world.frame(alice, 0, log_out());
    world.cut(alice);
    world.pass(100);
    let (alice, _) = world.greet("alice", "a", |_| {});
    world.commit_all();
    world.auto_commit = true;
    world.wait_alive(alice, 5_000);
    assert_eq!(world.saw(bob), NOTHING);
    world.frame(alice, 0, set_away(true));
    assert_eq!(world.saw(bob), ["away background"]);
    assert!(world.store.get(Table::Devices, b"alice\0a\0").unwrap().is_some());
}

/// Seeds 4013706 and 4014067.
#[test]
fn a_logout_ends_also_the_leases_that_wait_for_a_return() {
    let mut world = World::new();
    let bob = world.bob_watches_alice();
    let (first, _) = world.greet("alice", "a", |hello| hello.tab = "1".into());
    let (second, _) = world.greet("alice", "a", |hello| hello.tab = "2".into());
    world.saw(bob);
    world.frame(first, 0, bye(4_000, true));
    world.frame(second, 0, log_out());
    assert_eq!(world.saw(bob), ["offline logout"]);
}

/// Seed 1422.
#[test]
fn what_a_device_is_survives_a_store_that_can_not_be_read_for_a_while() {
    let mut world = World::over(Faulty::new(), CoreConfig::default());
    let bob = world.login("bob", "b");
    world.send(bob, &direct("alice", "bob"), "first", "hello");
    let (alice, _) = world.greet("alice", "m", |hello| hello.device_kind = DeviceKind::Miniprogram.into());
    world.watch(bob, &["alice"]);
    world.store.fails.store(true, Relaxed);
    world.wait_alive(bob, 2_000);
    world.store.fails.store(false, Relaxed);
    world.wait_alive(bob, 2_000);
    world.frame(alice, 0, bye(0, false));
    assert_eq!(world.saw(bob), ["unknown no-channel"]);
    world.pass(2_000);
    let (mut world, bob) = restarted(&world);
    world.wait_alive(bob, 25_000);
    assert_eq!(seen(&world.watch(bob, &["alice"])[0]), "unknown no-channel");
}

/// Seeds 1228 and 1576.
#[test]
fn who_came_while_her_devices_could_not_be_read_is_not_guessed_to_be_offline() {
    let mut world = World::over(Faulty::new(), CoreConfig::default());
    let bob = world.login("bob", "b");
    world.send(bob, &direct("alice", "bob"), "first", "hello");
    let (mini, _) = world.greet("alice", "m", |hello| hello.device_kind = DeviceKind::Miniprogram.into());
    world.frame(mini, 0, bye(0, false));
    world.wait_alive(bob, 2_000);
    world.watch(bob, &["alice"]);
    world.store.scans_fail.store(true, Relaxed);
    let desk = world.login("alice", "desk");
    world.store.scans_fail.store(false, Relaxed);
    assert_eq!(world.saw(bob), ["online"]);
    world.frame(desk, 0, bye(0, false));
    assert_eq!(world.saw(bob), ["unknown no-channel"]);
}

/// Seeds 214, 1057 and 1176.
#[test]
fn a_relay_that_stops_calls_nobody_offline_whom_it_does_not_let_in() {
    let mut world = World::new();
    world.bob_watches_alice();
    world.login("alice", "a");
    world.pass(2_000);

    let (mut world, bob) = restarted(&world);
    assert_eq!(seen(&world.watch(bob, &["alice"])[0]), "unknown no-channel");
    world.wait_alive(bob, 19_000);
    // It waits for the last commit.
    world.auto_commit = false;
    world.ask(bob, send(&direct("alice", "bob"), "last", "bye"));
    world.input(Input::Drain { spread_ms: 1_000 });
    world.pass(2_000);
    assert_eq!(world.saw(bob), NOTHING);
    world.commit_all();
    assert!(world.drained);
    assert_eq!(world.saw(bob), NOTHING);
}

/// Seed 1065.
#[test]
fn what_was_told_to_have_begun_never_begins_earlier() {
    let mut world = World::new();
    world.bob_watches_alice();
    world.pass(2_000);
    let (mut world, bob) = restarted(&world);
    let alice = world.login("alice", "a");
    world.watch(bob, &["alice"]);
    // She hides, and leaves before that is durable.
    world.auto_commit = false;
    world.ask(alice, Verb::SetInvisible(wire::SetInvisible { invisible: true }));
    world.wait_alive(bob, 500);
    world.frame(alice, 0, bye(4_000, false));
    world.wait_alive(bob, 500);
    world.commit_all();
    world.auto_commit = true;
    world.wait_alive(bob, 25_000);
    let told = world.pushed(bob);
    assert_eq!(told.iter().map(seen).collect::<Vec<_>>()[..2], ["leaving closed", "offline closed"]);
    assert!(told.windows(2).all(|pair| pair[0].since <= pair[1].since));
}

#[test]
fn a_logout_that_the_store_refuses_changes_nothing() {
    let mut world = World::over(Faulty::new(), CoreConfig::default());
    let bob = world.login("bob", "b");
    world.send(bob, &direct("alice", "bob"), "first", "hello");
    let (alice, _) = world.greet("alice", "a", |hello| hello.tab = "1".into());
    let (other, _) = world.greet("alice", "a", |hello| hello.tab = "2".into());
    world.pass(2_000);
    world.watch(bob, &["alice"]);
    world.store.fails.store(true, Relaxed);
    let request = world.ask(alice, log_out());
    assert!(matches!(world.answer(alice, request), Some(Event::Reject(_))));
    world.store.fails.store(false, Relaxed);
    // The tab beside it is still heard.
    assert!(matches!(world.call(other, Verb::Ping(wire::Ping { nonce: 7 })), Event::Pong(_)));
    assert_eq!(world.saw(bob), NOTHING);
}
