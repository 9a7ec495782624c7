//! Drain, failure, damage and restart over the core.

#![allow(clippy::unwrap_used)] // The helpers are outside of test functions.

mod core_world;

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use core_world::*;
use hongyan_protocol::Code;
use hongyan_protocol::wire::{self, client_frame::Verb, relay_frame::Event};
use hongyan_relay::core::queue::{Diffusion, DiffusionConfig};
use hongyan_relay::core::{CoreConfig, Input};
use hongyan_relay::store::{Batch, MemoryStore, Order, Store, StoreError, Table};

#[test]
fn a_drain_commits_what_was_accepted() {
    let mut world = World::new();
    let (alice, bob) = (world.login("alice", "a"), world.login("bob", "b"));
    world.pass(1_000);
    world.auto_commit = false;
    let conversation = direct("alice", "bob");
    let accepted = world.ask(alice, send(&conversation, "1", "accepted"));
    let also = world.ask(alice, send(&conversation, "3", "gathered"));
    world.input(Input::Drain { spread_ms: 500 });
    for connection in [alice, bob] {
        let events = world.take(connection);
        let retire = events.iter().find_map(|event| match event {
            Event::Retire(retire) => Some(retire.retry_after_ms),
            _ => None,
        });
        assert!(retire.unwrap() <= 500);
    }
    assert_eq!(world.refused(alice, send(&conversation, "3", "too late")), Code::GOING_AWAY);
    let late = world.open();
    assert_eq!(world.closed.get(&late), Some(&Code::GOING_AWAY));
    assert!(!world.drained);
    world.commit();
    assert!(!world.drained && world.closed.len() == 1);
    world.commit();
    assert!(world.drained);
    assert!(matches!(world.answer(alice, accepted), Some(Event::Sent(_))));
    assert!(matches!(world.answer(alice, also), Some(Event::Sent(_))));
    assert_eq!(world.texts(bob), ["accepted", "gathered"]);
    assert_eq!(world.closed.get(&bob), Some(&Code::GOING_AWAY));

    let mut idle = World::new();
    idle.input(Input::Drain { spread_ms: 0 });
    assert!(idle.drained);
}

#[test]
fn a_failed_commit_stops_everything() {
    let mut world = World::new();
    let (alice, bob) = (world.login("alice", "a"), world.login("bob", "b"));
    world.pass(1_000);
    world.auto_commit = false;
    let conversation = direct("alice", "bob");
    let requests = [
        world.ask(alice, send(&conversation, "1", "under way")),
        world.ask(alice, send(&conversation, "3", "gathered")),
        world.ask(alice, send(&conversation, "1", "again")),
    ];
    world.fail_commit();
    for request in requests {
        let Some(Event::Reject(reject)) = world.answer(alice, request) else { panic!() };
        assert_eq!(reject.code, u32::from(Code::STORAGE_FAILED.0));
    }
    assert!(world.failed.as_ref().unwrap().contains("the disk is full"));
    assert!(world.entries(bob).is_empty());
    assert_eq!(world.refused(bob, send(&conversation, "3", "x")), Code::STORAGE_FAILED);
    assert_eq!(world.refused(bob, history(&conversation, 0, 0, 0)), Code::STORAGE_FAILED);
    let late = world.open();
    assert_eq!(world.closed.get(&late), Some(&Code::STORAGE_FAILED));
    assert!(world.pending.is_empty());
}

#[test]
fn too_much_that_waits_for_a_commit_is_busy() {
    let mut world = World::with(CoreConfig { uncommitted_bytes_max: 10_000, ..Default::default() });
    let alice = world.login("alice", "a");
    world.pass(1_000);
    world.auto_commit = false;
    let conversation = direct("alice", "bob");
    let mut accepted = 0;
    loop {
        let request = world.ask(alice, send(&conversation, &accepted.to_string(), &"x".repeat(1_000)));
        match world.answer(alice, request) {
            None => accepted += 1,
            Some(Event::Reject(reject)) => break assert_eq!(reject.code, u32::from(Code::BUSY.0)),
            Some(event) => panic!("{}", name(&event)),
        }
    }
    assert!((2..10).contains(&accepted));
    world.commit_all();
    world.auto_commit = true;
    world.send(alice, &conversation, "later", "x");
}

#[test]
fn a_damaged_store_refuses_and_never_panics() {
    // With copies in the queue only the history would miss it.
    let diffusion = DiffusionConfig { mode: Diffusion::Reference, ..DiffusionConfig::default() };
    let mut world = World::with(CoreConfig { diffusion, ..CoreConfig::default() });
    let alice = world.login("alice", "a");
    let conversation = direct("alice", "bob");
    for n in 1..=3 {
        world.send(alice, &conversation, &n.to_string(), "x");
    }
    let mut damage = Batch::default();
    damage.delete(Table::Messages, [conversation.as_bytes(), &[0, 0, 0, 0, 0, 0, 0, 0, 2]].concat());
    world.store.commit(&damage).unwrap();
    assert_eq!(world.refused(alice, history(&conversation, 0, 0, 0)), Code::STORAGE_FAILED);
    assert!(world.relay.take_fault().unwrap().contains("message 2 of ~5.alice.bob is missing"));
    assert!(!world.closed.contains_key(&alice));
    let bob = world.login("bob", "b");
    assert_eq!(world.closed.get(&bob), Some(&Code::STORAGE_FAILED));
    assert_eq!(world.relay.counters().store_faults, 2);
    world.send(alice, &conversation, "4", "the others go on");
}

#[test]
fn a_store_of_an_unknown_format_is_refused() {
    let store = MemoryStore::new();
    World::over(store.clone(), CoreConfig::default());
    let mut batch = Batch::default();
    batch.put(Table::Meta, &b"format"[..], "2");
    store.commit(&batch).unwrap();
    let opened = hongyan_relay::core::Relay::open(CoreConfig::default(), store, FakeVerifier, [1; 32]);
    let sentence = opened.err().unwrap().to_string();
    assert!(sentence.contains("format 2") && sentence.contains("format 3 only"), "{sentence}");
}

#[test]
fn a_restarted_relay_goes_on_where_it_was() {
    let store = MemoryStore::new();
    let mut world = World::over(store.clone(), CoreConfig::default());
    let alice = world.login("alice", "a");
    let sent = world.send(alice, &direct("alice", "bob"), "1", "before");
    let group = world.group(alice, "g", &["bob"]);
    let epoch = world.epoch();
    let mut world = World::over(store, CoreConfig::default());
    assert_eq!(world.epoch(), epoch);
    let bob = world.login_at("bob", "b", &epoch, 1);
    let alice = world.login_at("alice", "a", &epoch, 2);
    assert!(world.send(alice, &direct("alice", "bob"), "1", "again") == sent);
    assert_eq!(world.send(alice, &direct("alice", "bob"), "3", "after").seq, 2);
    assert_eq!(world.send(bob, &group, "3", "in the group").seq, 1);
    let entries = world.entries(bob);
    assert_eq!(entries.iter().map(|entry| entry.pos).collect::<Vec<_>>(), [2, 3, 4]);
    assert_eq!(world.group(alice, "g", &["bob"]), group);
}

#[test]
fn what_is_not_used_leaves_memory_and_is_found_again() {
    use hongyan_relay::core::limits::{CONVERSATIONS_MAX, IDLE_USERS_MAX};
    let mut world = World::with(CoreConfig { sends_burst: 1_000_000, ..Default::default() });
    let alice = world.login("alice", "a");
    let peers = IDLE_USERS_MAX + 2_000;
    for n in 0..peers {
        world.send(alice, &direct("alice", &format!("user{n:06}")), &n.to_string(), "x");
        let cursor = u64::try_from(n).unwrap() + 1;
        world.frame(alice, 0, Verb::Ack(wire::Ack { cursor }));
        world.inbox.clear();
    }
    let counters = world.relay.counters();
    assert!(counters.users <= IDLE_USERS_MAX + 2, "{} users", counters.users);
    assert!(counters.conversations <= CONVERSATIONS_MAX + 1, "{} conversations", counters.conversations);
    for n in [0, 1, peers / 2, peers - 1] {
        let peer = format!("user{n:06}");
        assert_eq!(world.send(alice, &direct("alice", &peer), &format!("again {n}"), "y").seq, 2);
        let connection = world.login(&peer, "p");
        assert_eq!(world.texts(connection), ["x", "y"]);
    }
}

/// A store of which one read fails.
#[derive(Clone)]
struct Worn {
    store: MemoryStore,
    /// So many reads pass before that.
    passes: Arc<Mutex<Option<usize>>>,
}

impl Worn {
    fn read(&self) -> Result<(), StoreError> {
        let mut passes = self.passes.lock().unwrap();
        *passes = match *passes {
            Some(0) => {
                *passes = None;
                return Err(StoreError::Engine("a sector is bad".into()));
            }
            passes => passes.map(|left| left - 1),
        };
        Ok(())
    }
}

impl Store for Worn {
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
        self.store.scan(table, from, to, order, visit)
    }

    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        self.store.commit(batch)
    }
}

/// The simulated world's seed 76: of two reads the second failed, the sign-out was refused, and it was answered as done.
#[test]
fn a_sign_out_that_could_not_be_written_is_answered_as_refused_only() {
    for passes in 0..6 {
        let store = Worn { store: MemoryStore::new(), passes: Arc::default() };
        let mut world = World::over(store.clone(), CoreConfig::default());
        let (here, there) = (world.login("alice", "here"), world.login("alice", "there"));
        world.pass(5_000);
        *store.passes.lock().unwrap() = Some(passes);
        let request = world.ask(here, Verb::SignOut(wire::SignOut { device: "there".into() }));
        world.pass(5_000);
        *store.passes.lock().unwrap() = None;
        let events = world.take(here);
        let is_done = events.iter().any(|event| matches!(event, Event::SignedOut(_)));
        let is_refused = events.iter().any(|event| matches!(event, Event::Reject(_)));
        assert!(is_done != is_refused, "request {request}, {passes} reads");
        let is_ended = world.closed.get(&there) == Some(&Code::LOGGED_OUT);
        assert_eq!(is_ended, is_done, "{passes} reads");
    }
}
