//! Profiles: who may change and see them, who is told, and what a crash leaves of that.

#![allow(clippy::unwrap_used)] // The helpers are outside of test functions.

mod core_world;

use bytes::Bytes;
use core_world::*;
use hongyan_protocol::limits::{PROFILE_AVATAR_BYTES_MAX, PROFILE_NAME_BYTES_MAX, PROFILES_MAX};
use hongyan_protocol::wire::{self, client_frame::Verb, entry::Change, relay_frame::Event};
use hongyan_protocol::{Code, ConversationId};
use hongyan_relay::core::io::WatchPolicy;
use hongyan_relay::core::limits::{
    PROFILE_CHANGES_AT_ONCE, PROFILE_CHANGES_PER_SECOND, PROFILE_TOLD_PER_COMMIT,
};
use hongyan_relay::core::queries::{GroupQuery, Query};
use hongyan_relay::core::queue::Diffusion;
use hongyan_relay::core::verify::verify;
use hongyan_relay::core::{ConnectionId, CoreConfig, Input};
use hongyan_relay::store::{Batch, MemoryStore, Order, Store, Table};

/// A profile in words: `alice#2 Alice`, and the picture if there is one.
fn words(profile: &wire::Profile) -> String {
    assert_eq!(profile.time == 0, profile.version == 0);
    let mut words = format!("{}#{} {}", profile.user, profile.version, profile.name);
    if !profile.avatar.is_empty() {
        words.push_str(&format!(" {}", profile.avatar));
    }
    words
}

/// What came by the queue: messages as their texts, profiles in words, `-` for an entry that tells nothing.
fn heard(world: &mut World, connection: ConnectionId) -> Vec<String> {
    let told = |entry: &wire::Entry| match &entry.change {
        Some(Change::Message(message)) => Some(text(message)),
        Some(Change::Profile(profile)) => Some(words(profile)),
        Some(_) => None,
        None => Some("-".into()),
    };
    world.entries(connection).iter().filter_map(told).collect()
}

fn set(world: &mut World, connection: ConnectionId, key: &str, name: &str) -> String {
    done(world.call(connection, set_profile(key, Some(name), None)))
}

fn done(event: Event) -> String {
    match event {
        Event::ProfileSet(set) => words(&set.profile.unwrap()),
        event => panic!("not set but {}", name(&event)),
    }
}

fn get(world: &mut World, connection: ConnectionId, known: &[(&str, u64)]) -> Vec<String> {
    match world.call(connection, get_profiles(known)) {
        Event::ProfileList(list) => list.profiles.iter().map(words).collect(),
        event => panic!("no list but {}", name(&event)),
    }
}

/// Everything in the store says the same of everything else, and nobody is still to be told.
fn check_store(store: &MemoryStore) {
    assert_eq!(verify(store, &mut |_| ()).findings, 0);
    assert!(!is_telling(store));
}

fn is_telling(store: &MemoryStore) -> bool {
    let mut any = false;
    store
        .scan(Table::Profiles, &[0], &[1], Order::Ascending, &mut |_, _| {
            any = true;
            false
        })
        .unwrap();
    any
}

/// A store of its own with the same in it.
fn fork(store: &MemoryStore) -> MemoryStore {
    let mut batch = Batch::default();
    for table in Table::ALL {
        let visit = &mut |key: &[u8], value: &[u8]| {
            batch.put(table, Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
            true
        };
        store.scan(table, b"", &[0xff], Order::Ascending, visit).unwrap();
    }
    let fork = MemoryStore::new();
    fork.commit(&batch).unwrap();
    fork
}

#[test]
fn a_profile_is_told_to_own_devices_and_to_who_has_a_direct_conversation() {
    let mut world = World::new();
    let users = [("alice", "a1"), ("alice", "a2"), ("bob", "b"), ("carol", "c"), ("dora", "d")];
    let [alice, tablet, bob, carol, dora] = users.map(|(user, device)| world.login(user, device));
    world.send(bob, &direct("alice", "bob"), "1", "hi");
    world.group(alice, "g", &["carol", "bob"]);
    for connection in [alice, tablet, bob, carol] {
        world.entries(connection);
    }
    assert_eq!(set(&mut world, alice, "1", "Alice"), "alice#1 Alice");
    assert_eq!(done(world.call(tablet, set_profile("2", None, Some("http://a")))), "alice#2 Alice http://a");
    assert_eq!(done(world.call(alice, set_profile("3", Some("爱丽丝"), None))), "alice#3 爱丽丝 http://a");
    assert_eq!(done(world.call(alice, set_profile("4", None, Some("")))), "alice#4 爱丽丝");
    let all = ["alice#1 Alice", "alice#2 Alice http://a", "alice#3 爱丽丝 http://a", "alice#4 爱丽丝"];
    for connection in [alice, tablet, bob] {
        assert_eq!(heard(&mut world, connection), all);
    }
    // Who only shares a group may ask, and is told nothing by herself; a stranger neither.
    assert!(heard(&mut world, carol).is_empty() && heard(&mut world, dora).is_empty());
    assert_eq!(get(&mut world, carol, &[("alice", 0)]), ["alice#4 爱丽丝"]);
    assert!(get(&mut world, dora, &[("alice", 0)]).is_empty());
    check_store(&world.store);
}

#[test]
fn what_changes_nothing_is_answered_and_makes_no_version() {
    let mut world = World::new();
    let alice = world.login("alice", "a");
    assert_eq!(set(&mut world, alice, "0", ""), "alice#0 ");
    assert_eq!(set(&mut world, alice, "1", "Alice"), "alice#1 Alice");
    assert_eq!(set(&mut world, alice, "2", "Alice"), "alice#1 Alice");
    assert_eq!(done(world.call(alice, set_profile("3", None, None))), "alice#1 Alice");
    assert_eq!(heard(&mut world, alice), ["alice#1 Alice"]);
    // Repeated after another one it takes nothing back.
    assert_eq!(set(&mut world, alice, "4", "Al"), "alice#2 Al");
    for key in ["0", "2"] {
        assert_eq!(set(&mut world, alice, key, "Alice"), "alice#2 Al");
    }
}

#[test]
fn a_repeated_change_is_answered_and_made_once() {
    let mut world = World::new();
    let alice = world.login("alice", "a");
    world.auto_commit = false;
    let first = world.ask(alice, set_profile("1", Some("Alice"), None));
    let again = world.ask(alice, set_profile("1", Some("Alice"), None));
    let nothing = world.ask(alice, set_profile("other", Some("Alice"), None));
    for request in [first, again, nothing] {
        assert!(world.answer(alice, request).is_none(), "nothing is told before it is durable");
    }
    world.commit_all();
    world.auto_commit = true;
    for request in [first, again, nothing] {
        assert_eq!(done(world.answer(alice, request).unwrap()), "alice#1 Alice");
    }
    assert_eq!(set(&mut world, alice, "2", "Al"), "alice#2 Al");
    // Long after, and after another one: it does not take that back.
    assert_eq!(set(&mut world, alice, "1", "Alice"), "alice#2 Al");
    assert_eq!(heard(&mut world, alice), ["alice#1 Alice", "alice#2 Al"]);

    // Also after a restart.
    let mut world = World::over(world.store.clone(), CoreConfig::default());
    let alice = world.login("alice", "a");
    assert_eq!(set(&mut world, alice, "1", "Alice"), "alice#2 Al");
    assert_eq!(get(&mut world, alice, &[("alice", 0)]), ["alice#2 Al"]);
    check_store(&world.store);
}

#[test]
fn what_is_too_long_or_no_text_is_refused() {
    let mut world = World::new();
    let alice = world.login("alice", "a");
    let long = |bytes: usize| "x".repeat(bytes);
    let cases = [
        set_profile("k", Some(&long(PROFILE_NAME_BYTES_MAX + 1)), None),
        set_profile("k", None, Some(&long(PROFILE_AVATAR_BYTES_MAX + 1))),
        set_profile("k", Some("a\nb"), None),
        set_profile("k", None, Some("http://a\0")),
        set_profile("", Some("Alice"), None),
        get_profiles(&[("", 0)]),
        get_profiles(&vec![("alice", 0); PROFILES_MAX + 1]),
    ];
    for (n, verb) in cases.into_iter().enumerate() {
        assert_eq!(world.refused(alice, verb), Code::BAD_REQUEST, "case {n}");
    }
    let (name, avatar) = (long(PROFILE_NAME_BYTES_MAX), long(PROFILE_AVATAR_BYTES_MAX));
    let all = done(world.call(alice, set_profile("k", Some(&name), Some(&avatar))));
    assert_eq!(all, format!("alice#1 {name} {avatar}"));
    assert_eq!(get(&mut world, alice, &[("alice", 0), ("alice", 0)]), [all]);
}

/// The largest answer there can be is one frame.
#[test]
fn as_many_profiles_as_may_be_asked_for_fit_into_one_answer() {
    let config = CoreConfig { profiles: WatchPolicy::Everyone, ..CoreConfig::default() };
    let mut world = World::with(config);
    let users: Vec<_> = (0..PROFILES_MAX).map(|n| format!("{n:0>128}")).collect();
    for user in &users {
        let connection = world.login(user, "d");
        let (name, avatar) = ("n".repeat(PROFILE_NAME_BYTES_MAX), "a".repeat(PROFILE_AVATAR_BYTES_MAX));
        world.call(connection, set_profile("1", Some(&name), Some(&avatar)));
    }
    let asker = world.login("asker", "d");
    let all: Vec<_> = users.iter().map(|user| (user.as_str(), 0)).collect();
    assert_eq!(get(&mut world, asker, &all).len(), PROFILES_MAX);
}

#[test]
fn who_may_ask_is_as_for_presence_and_gets_only_what_is_newer() {
    let mut world = World::new();
    let [alice, bob, carol, dora] = ["alice", "bob", "carol", "dora"].map(|user| world.login(user, user));
    for (connection, name) in [(alice, "Alice"), (bob, "Bob"), (carol, "Carol"), (dora, "Dora")] {
        set(&mut world, connection, "1", name);
    }
    world.send(alice, &direct("alice", "bob"), "hi", "hi");
    let group = world.group(carol, "g", &["alice"]);
    let all = [("alice", 0), ("bob", 0), ("carol", 0), ("dora", 0), ("nobody", 0)];
    assert_eq!(get(&mut world, alice, &all), ["alice#1 Alice", "bob#1 Bob", "carol#1 Carol"]);
    assert_eq!(get(&mut world, bob, &all), ["alice#1 Alice", "bob#1 Bob"]);
    assert_eq!(get(&mut world, alice, &[("alice", 1), ("bob", 7), ("carol", 0)]), ["carol#1 Carol"]);
    // When the group is left, the reason is gone.
    world.call(carol, remove(&group, &["alice"]));
    assert!(get(&mut world, alice, &[("carol", 0)]).is_empty());

    for (policy, count) in [(WatchPolicy::Everyone, 4), (WatchPolicy::Nobody, 1)] {
        let config = CoreConfig { profiles: policy, ..CoreConfig::default() };
        let mut world = World::over(world.store.clone(), config);
        let alice = world.login("alice", "alice");
        assert_eq!(get(&mut world, alice, &all).len(), count);
    }
}

#[test]
fn who_begin_to_write_to_each_other_are_told_of_each_other() {
    let mut world = World::new();
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|user| world.login(user, user));
    set(&mut world, alice, "1", "Alice");
    set(&mut world, bob, "1", "Bob");
    for connection in [alice, bob] {
        world.entries(connection);
    }
    world.send(alice, &direct("alice", "bob"), "m", "hi");
    assert_eq!(heard(&mut world, alice), ["bob#1 Bob", "hi"]);
    assert_eq!(heard(&mut world, bob), ["alice#1 Alice", "hi"]);
    world.send(bob, &direct("alice", "bob"), "m", "hello");
    world.send(carol, &direct("alice", "carol"), "m", "ahoi");
    world.send(alice, &direct("alice", "alice"), "n", "note");
    assert_eq!(heard(&mut world, alice), ["hello", "ahoi", "note"]);
    assert_eq!(heard(&mut world, carol), ["alice#1 Alice", "ahoi"]);

    // In one commit, whichever comes first.
    let [dora, erin] = ["dora", "erin"].map(|user| world.login(user, user));
    world.auto_commit = false;
    world.ask(dora, send(&direct("dora", "alice"), "m", "first"));
    world.ask(dora, set_profile("1", Some("Dora"), None));
    world.ask(erin, set_profile("1", Some("Erin"), None));
    world.ask(erin, send(&direct("erin", "alice"), "m", "second"));
    world.commit_all();
    world.settle();
    world.commit_all();
    let told = heard(&mut world, alice);
    assert!(told.contains(&"dora#1 Dora".into()) && told.contains(&"erin#1 Erin".into()), "{told:?}");
    check_store(&world.store);
}

#[test]
fn a_profile_is_told_when_it_is_durable_even_if_the_engine_shows_it() {
    let mut world = World::new();
    let (alice, bob) = (world.login("alice", "a"), world.login("bob", "b"));
    world.send(alice, &direct("alice", "bob"), "hi", "hi");
    set(&mut world, alice, "1", "Alice");
    world.entries(bob);
    world.auto_commit = false;
    world.ask(alice, set_profile("2", Some("Al"), None));
    let (_, batch) = world.pending.front().unwrap().clone();
    world.store.commit(&batch).unwrap();
    assert_eq!(get(&mut world, bob, &[("alice", 0)]), ["alice#1 Alice"]);
    let phone = world.login("bob", "b2");
    assert_eq!(heard(&mut world, phone), ["hi", "alice#1 Alice"]);
    world.commit_all();
    world.settle();
    world.commit_all();
    assert_eq!(get(&mut world, bob, &[("alice", 1)]), ["alice#2 Al"]);
    for connection in [bob, phone] {
        assert_eq!(heard(&mut world, connection), ["alice#2 Al"]);
    }
}

/// A reference says whose profile, and what is told is what she shows when it is read.
#[test]
fn who_comes_late_is_told_of_todays_profile_once() {
    let mut world = World::new();
    let (alice, bob) = (world.login("alice", "a"), world.login("bob", "b"));
    world.send(alice, &direct("alice", "bob"), "hi", "hi");
    for n in 1..=4 {
        set(&mut world, alice, &format!("k{n}"), &format!("Alice {n}"));
    }
    let both = ["alice#1 Alice 1", "alice#2 Alice 2", "alice#3 Alice 3", "alice#4 Alice 4"];
    assert_eq!(heard(&mut world, bob)[1..], both);
    let phone = world.login("bob", "b2");
    assert_eq!(heard(&mut world, phone), ["hi", "-", "-", "-", "alice#4 Alice 4"]);
    let epoch = world.epoch();
    let phone = world.login_at("bob", "b3", &epoch, 3);
    assert_eq!(heard(&mut world, phone), ["-", "alice#4 Alice 4"]);
    let tablet = world.login("alice", "a2");
    assert_eq!(heard(&mut world, tablet), ["hi", "-", "-", "-", "alice#4 Alice 4"]);
}

/// Those who are to be told are more than one commit tells.
fn with_many_peers(world: &mut World, count: usize) -> ConnectionId {
    let alice = world.login("alice", "a");
    for n in 0..count {
        if n % 50 == 49 {
            world.pass(5_000);
        }
        world.send(alice, &direct("alice", &format!("peer{n:03}")), &format!("k{n}"), "hi");
    }
    // Groups lie beside the direct conversations, and are none.
    world.group(alice, "g", &["bob"]);
    alice
}

fn count_told(world: &mut World, peers: usize, expected: &str) -> usize {
    let mut told = 0;
    for n in 0..peers {
        let peer = world.login(&format!("peer{n:03}"), "d");
        told += usize::from(heard(world, peer).contains(&expected.to_owned()));
    }
    told
}

#[test]
fn many_are_told_over_many_commits_and_the_newest_wins() {
    const PEERS: usize = PROFILE_TOLD_PER_COMMIT * 2 + 7;
    let mut world = World::new();
    let alice = with_many_peers(&mut world, PEERS);
    (world.auto_commit, world.auto_tick, world.auto_write) = (false, false, false);
    let asked = world.ask(alice, set_profile("1", Some("Alice"), None));
    world.commit();
    // She is answered when it is durable; others are told then.
    assert_eq!(done(world.answer(alice, asked).unwrap()), "alice#1 Alice");
    assert!(is_telling(&world.store));
    world.commit();
    assert!(is_telling(&world.store));
    // Those who are not told yet will be told of this one only.
    world.ask(alice, set_profile("2", Some("Al"), None));
    (world.auto_commit, world.auto_tick, world.auto_write) = (true, true, true);
    world.commit();
    world.settle();
    check_store(&world.store);
    assert_eq!(count_told(&mut world, PEERS, "alice#2 Al"), PEERS);
    let last = world.login(&format!("peer{:03}", PEERS - 1), "d2");
    assert_eq!(heard(&mut world, last), ["hi", "alice#2 Al"]);
}

#[test]
fn a_relay_that_is_killed_goes_on_telling_where_a_change_is_durable_and_forgets_one_that_is_not() {
    const PEERS: usize = PROFILE_TOLD_PER_COMMIT * 2 + 7;
    let mut world = World::new();
    let alice = with_many_peers(&mut world, PEERS);
    (world.auto_commit, world.auto_tick, world.auto_write) = (false, false, false);
    world.ask(alice, set_profile("1", Some("Alice"), None));

    // Killed before the commit: nothing was answered, and there is nothing.
    let mut again = World::over(fork(&world.store), CoreConfig::default());
    let connection = again.login("alice", "a");
    assert!(get(&mut again, connection, &[("alice", 0)]).is_empty());
    check_store(&again.store);

    // Killed after each of the next commits.
    for commits in 1..=3 {
        world.commit();
        let mut again = World::over(fork(&world.store), CoreConfig::default());
        again.settle();
        // Any input goes on with it.
        again.input(Input::Tick);
        check_store(&again.store);
        assert_eq!(count_told(&mut again, PEERS, "alice#1 Alice"), PEERS, "after {commits} commits");
    }
}

/// Beginning and end of telling in one commit with the next change: the mark of the next one stays.
#[test]
fn a_change_that_meets_the_end_of_telling_of_the_one_before_is_told_after_a_crash() {
    let mut world = World::new();
    let (alice, bob) = (world.login("alice", "a"), world.login("bob", "b"));
    world.send(alice, &direct("alice", "bob"), "hi", "hi");
    world.auto_commit = false;
    world.ask(alice, set_profile("1", Some("Alice"), None));
    // The second change gathers, and with it what tells of the first.
    world.ask(alice, send(&direct("alice", "carol"), "ahoi", "ahoi"));
    world.ask(alice, set_profile("2", Some("Al"), None));
    world.commit();
    world.commit();
    let mut again = World::over(fork(&world.store), CoreConfig::default());
    again.input(Input::Tick);
    check_store(&again.store);
    for user in ["bob", "carol"] {
        let device = again.login(user, "new");
        assert!(heard(&mut again, device).contains(&"alice#2 Al".into()), "{user}");
    }
    world.commit_all();
    assert!(heard(&mut world, bob).contains(&"alice#2 Al".into()));
}

/// All who are told of it would have to read as many entries.
#[test]
fn a_user_changes_her_profile_at_a_bounded_rate() {
    let mut world = World::new();
    let phones = ["a1", "a2"].map(|device| world.login("alice", device));
    let change = |n: u32| set_profile(&format!("k{n}"), Some(&format!("Alice {n}")), None);
    for n in 1..=PROFILE_CHANGES_AT_ONCE {
        assert!(done(world.call(phones[n as usize % 2], change(n))).starts_with(&format!("alice#{n} ")));
    }
    let next = PROFILE_CHANGES_AT_ONCE + 1;
    let Event::Reject(reject) = world.call(phones[0], change(next)) else { panic!("it was taken") };
    assert_eq!(reject.code, u32::from(Code::RATE_LIMITED.0));
    assert_eq!(reject.retry_after_ms, 1_000 / PROFILE_CHANGES_PER_SECOND);
    // Others change theirs, and she may do all else.
    let bob = world.login("bob", "b");
    set(&mut world, bob, "1", "Bob");
    assert_eq!(get(&mut world, phones[1], &[("alice", 9)]), ["alice#10 Alice 10"]);
    // The same request later.
    world.pass(u64::from(reject.retry_after_ms));
    assert_eq!(done(world.call(phones[0], change(next))), "alice#11 Alice 11");
    assert_eq!(world.refused(phones[1], change(next + 1)), Code::RATE_LIMITED);
}

/// A profile is no reason to be in anybody's queue by a group's log, and its requests wait in a bounded line.
#[test]
fn requests_for_profiles_are_bounded_and_members_of_a_log_may_ask() {
    let mut world = World::new();
    let [alice, bob] = ["alice", "bob"].map(|user| world.login(user, user));
    set(&mut world, alice, "1", "Alice");
    let group = world.group(alice, "g", &["bob"]);
    world.answered(Query::Group(ConversationId::new(&group).unwrap(), GroupQuery::SetMode(Diffusion::Log)));
    assert_eq!(get(&mut world, bob, &[("alice", 0)]), ["alice#1 Alice"]);
    let verb = || Verb::GetProfiles(wire::GetProfiles { users: Vec::new() });
    let mut refused = 0;
    for _ in 0..300 {
        match world.call(bob, verb()) {
            Event::ProfileList(_) => {}
            Event::Reject(reject) => {
                assert_eq!(reject.code, u32::from(Code::RATE_LIMITED.0));
                refused += 1;
            }
            event => panic!("{}", name(&event)),
        }
    }
    assert!(refused > 0, "a user asks at a bounded rate");
}

/// How many peers are told of a profile by what is in the store.
fn told_by_now(world: &World, peers: usize) -> usize {
    let mut there = World::over(fork(&world.store), CoreConfig::default());
    there.auto_commit = false;
    (0..peers)
        .filter(|n| {
            let peer = there.login(&format!("peer{n:03}"), "new");
            heard(&mut there, peer).len() > 1
        })
        .count()
}

#[test]
fn one_commit_tells_so_many_and_no_more_however_many_inputs_come() {
    const PEERS: usize = PROFILE_TOLD_PER_COMMIT * 2 + 7;
    let mut world = World::new();
    let alice = with_many_peers(&mut world, PEERS);
    (world.auto_commit, world.auto_tick) = (false, false);
    world.ask(alice, set_profile("1", Some("Alice"), None));
    world.commit();
    for told in [PROFILE_TOLD_PER_COMMIT, 2 * PROFILE_TOLD_PER_COMMIT, PEERS] {
        // Others ask for something; nothing of it is a reason to tell more, nor is there a deadline that comes at once.
        for _ in 0..10 {
            world.ask(alice, get_profiles(&[("alice", 0)]));
        }
        world.input(Input::Tick);
        assert!(world.relay.next_deadline().is_none_or(|at| at.0 > world.now));
        world.commit();
        assert_eq!(told_by_now(&world, PEERS), told);
    }
    world.commit_all();
    check_store(&world.store);
}

#[test]
fn who_changes_her_profile_again_and_again_leaves_nobody_untold() {
    const PEERS: usize = PROFILE_TOLD_PER_COMMIT * 3 + 7;
    let mut world = World::new();
    let alice = with_many_peers(&mut world, PEERS);
    (world.auto_commit, world.auto_tick, world.auto_write) = (false, false, false);
    for n in 1..=4 {
        world.ask(alice, set_profile(&format!("c{n}"), Some(&format!("Alice {n}")), None));
        // The change, and then some who are told of it.
        world.commit();
        world.commit();
        assert_eq!(told_by_now(&world, PEERS), PEERS.min(n * PROFILE_TOLD_PER_COMMIT));
    }
    // And once round: those who were told of an older one are told of the newest.
    world.commit_all();
    check_store(&world.store);
    (world.auto_commit, world.auto_tick, world.auto_write) = (true, true, true);
    assert_eq!(count_told(&mut world, PEERS, "alice#4 Alice 4"), PEERS);
}

/// What can't be read is told of once, and holds up nobody else.
#[test]
fn a_damaged_profile_does_not_delay_those_of_others() {
    let mut world = World::new();
    let [alice, bob] = ["alice", "bob"].map(|user| world.login(user, user));
    for (connection, of) in [(alice, "alice"), (bob, "bob")] {
        world.send(connection, &direct(of, "carol"), "hi", "hi");
    }
    (world.auto_commit, world.auto_tick) = (false, false);
    // Something else is under way: both changes come in the next commit, and nobody is told of them yet.
    world.ask(alice, send(&direct("alice", "dora"), "ahoi", "ahoi"));
    world.ask(alice, set_profile("1", Some("Alice"), None));
    world.ask(bob, set_profile("1", Some("Bob"), None));
    world.commit();
    world.commit();
    world.pending.clear();
    let mut damage = Batch::default();
    let (mut whole, key) = (Batch::default(), b"alice\0".to_vec());
    whole.put(Table::Profiles, key.clone(), world.store.get(Table::Profiles, &key).unwrap().unwrap());
    damage.put(Table::Profiles, key, &b"\xff"[..]);
    let store = fork(&world.store);
    store.commit(&damage).unwrap();

    let mut world = World::over(store, CoreConfig::default());
    world.auto_tick = false;
    let carol = world.login("carol", "c");
    // No time passes.
    for _ in 0..20 {
        world.input(Input::Tick);
    }
    assert_eq!(world.relay.counters().store_faults, 1);
    assert!(heard(&mut world, carol).contains(&"bob#1 Bob".into()));
    // It is read again, more and more seldom.
    world.pass(3_600 * 1_000);
    assert!((10..20).contains(&world.relay.counters().store_faults));
    assert!(is_telling(&world.store));
    world.store.commit(&whole).unwrap();
    world.pass(2 * 3_600 * 1_000);
    assert!(!is_telling(&world.store), "hers is told when it can be read");
}
