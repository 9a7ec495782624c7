//! Groups and read marks over the core.

#![allow(clippy::unwrap_used)] // The helpers are outside of test functions.

mod core_world;

use core_world::*;
use hongyan_protocol::Code;
use hongyan_protocol::wire::{self, GroupChangeKind, client_frame::Verb, relay_frame::Event};
use hongyan_relay::core::queue::DiffusionConfig;
use hongyan_relay::core::{ConnectionId, CoreConfig};

fn leave(group: &str) -> Verb {
    Verb::LeaveGroup(wire::LeaveGroup { conversation: group.into() })
}

fn members(world: &mut World, connection: ConnectionId, group: &str) -> Vec<(String, bool)> {
    let members = wire::Members { conversation: group.into(), ..Default::default() };
    match world.call(connection, Verb::Members(members)) {
        Event::MemberPage(page) => {
            assert!(!page.more);
            let owner = wire::Role::Owner;
            page.members.iter().map(|member| (member.user.clone(), member.role() == owner)).collect()
        }
        event => panic!("{}", name(&event)),
    }
}

#[track_caller]
fn done(world: &mut World, connection: ConnectionId, verb: Verb) -> u64 {
    match world.call(connection, verb) {
        Event::GroupDone(done) => done.version,
        event => panic!("{}", name(&event)),
    }
}

#[test]
fn a_group_from_its_making_to_its_end() {
    let mut world = World::new();
    let [alice, bob, carol, dora] =
        ["alice", "bob", "carol", "dora"].map(|user| world.login(user, &format!("{user}'s")));
    let group = world.group(alice, "g", &["carol", "bob", "bob", "alice"]);
    assert!(group.starts_with('g') && group.len() == 21);
    assert_eq!(
        members(&mut world, bob, &group),
        [("alice".into(), true), ("bob".into(), false), ("carol".into(), false)]
    );
    for connection in [alice, bob, carol] {
        let entries = world.entries(connection);
        let change = group_change(&entries[0]).unwrap();
        assert!(change.kind() == GroupChangeKind::Created);
        assert_eq!(change.users, ["alice", "bob", "carol"]);
        assert_eq!(
            (change.by.as_str(), change.owner.as_str(), change.title.as_str()),
            ("alice", "alice", "Geese")
        );
        assert_eq!((change.version, change.member_count, change.last_seq), (1, 3, 0));
    }
    // The same key makes no second group.
    assert_eq!(world.group(alice, "g", &["dora"]), group);
    assert_ne!(world.group(alice, "h", &[]), group);

    world.send(carol, &group, "1", "hello");
    assert_eq!(world.texts(bob), ["hello"]);
    assert_eq!(world.refused(dora, send(&group, "1", "let me in")), Code::NOT_A_MEMBER);
    assert_eq!(world.refused(dora, history(&group, 0, 0, 0)), Code::NOT_A_MEMBER);
    assert_eq!(world.refused(bob, add(&group, &["dora"])), Code::NOT_PERMITTED);
    assert_eq!(world.refused(bob, remove(&group, &["carol"])), Code::NOT_PERMITTED);
    assert_eq!(world.refused(dora, leave(&group)), Code::NOT_A_MEMBER);

    // Who joins reads the whole log, and has nothing unread.
    assert_eq!(done(&mut world, alice, add(&group, &["dora", "bob"])), 2);
    let entries = world.entries(dora);
    let change = group_change(&entries[0]).unwrap();
    assert!(change.kind() == GroupChangeKind::Added);
    assert_eq!((change.users.as_slice(), change.last_seq), (&["dora".to_owned()][..], 1));
    let Event::HistoryPage(page) = world.call(dora, history(&group, 0, 0, 0)) else { panic!() };
    assert_eq!(page.messages.len(), 1);
    let Event::MarkedRead(marked) = world.call(dora, mark_read(&group, 0)) else { panic!() };
    assert_eq!(marked.seq, 1);

    // Who is removed learns it and then nothing more.
    world.take(carol);
    assert_eq!(done(&mut world, alice, remove(&group, &["carol", "nobody"])), 3);
    world.send(bob, &group, "2", "without carol");
    let entries = world.entries(carol);
    assert_eq!(entries.len(), 1);
    let change = group_change(&entries[0]).unwrap();
    assert!(change.kind() == GroupChangeKind::Removed);
    assert_eq!((change.users.as_slice(), change.member_count), (&["carol".to_owned()][..], 3));
    assert_eq!(world.refused(carol, history(&group, 0, 0, 0)), Code::NOT_A_MEMBER);
    assert_eq!(world.refused(carol, send(&group, "2", "x")), Code::NOT_A_MEMBER);
    assert_eq!(world.refused(carol, mark_read(&group, 1)), Code::NOT_A_MEMBER);
    // Nothing changes for those who are in, or out, already.
    assert_eq!(done(&mut world, alice, remove(&group, &["carol"])), 3);
    assert_eq!(done(&mut world, alice, add(&group, &["bob"])), 3);
    // Again a member: up to date.
    assert_eq!(done(&mut world, alice, add(&group, &["carol"])), 4);
    let Event::MarkedRead(marked) = world.call(carol, mark_read(&group, 0)) else { panic!() };
    assert_eq!(marked.seq, 2);

    // The owner leaves: the longest-standing takes over, by id among equals.
    assert_eq!(done(&mut world, alice, leave(&group)), 5);
    assert_eq!(done(&mut world, alice, leave(&group)), 5, "asked again");
    assert_eq!(
        members(&mut world, bob, &group),
        [("bob".into(), true), ("carol".into(), false), ("dora".into(), false)]
    );
    assert_eq!(done(&mut world, bob, leave(&group)), 6);
    assert_eq!(members(&mut world, dora, &group), [("carol".into(), false), ("dora".into(), true)]);
    assert_eq!(done(&mut world, carol, leave(&group)), 7);
    assert_eq!(done(&mut world, dora, leave(&group)), 8);
    for connection in [alice, bob, carol, dora] {
        assert_eq!(world.refused(connection, history(&group, 0, 0, 0)), Code::NOT_A_MEMBER);
        assert_eq!(world.refused(connection, add(&group, &["alice"])), Code::NOT_A_MEMBER);
    }
    let entries = world.entries(dora);
    let last = group_change(entries.last().unwrap()).unwrap();
    assert!(last.kind() == GroupChangeKind::Left);
    assert_eq!((last.owner.as_str(), last.member_count, last.version), ("", 0, 8));

    // All of it can be replayed as it was.
    let replay = world.login("dora", "new");
    let versions: Vec<_> = world
        .entries(replay)
        .iter()
        .filter_map(|entry| group_change(entry).map(|change| (change.version, change.member_count)))
        .collect();
    assert_eq!(versions, [(2, 4), (3, 3), (4, 4), (5, 3), (6, 2), (7, 1), (8, 0)]);
}

#[test]
fn bad_group_requests_get_their_code() {
    let mut world = World::new();
    let alice = world.login("alice", "a");
    let group = world.group(alice, "g", &[]);
    let mut create = |title: &str, members: Vec<String>| {
        let create = wire::CreateGroup { key: "k".into(), title: title.into(), members };
        world.refused(alice, Verb::CreateGroup(create))
    };
    assert_eq!(create("", vec![]), Code::BAD_REQUEST);
    assert_eq!(create(&"x".repeat(257), vec![]), Code::BAD_REQUEST);
    assert_eq!(create("x", vec!["a\0b".into()]), Code::BAD_REQUEST);
    assert_eq!(create("x", vec!["u".into(); 201]), Code::BAD_REQUEST);
    assert_eq!(world.refused(alice, add(&direct("alice", "bob"), &["carol"])), Code::BAD_REQUEST);
    assert_eq!(world.refused(alice, leave(&direct("alice", "bob"))), Code::BAD_REQUEST);
    assert_eq!(world.refused(alice, remove(&group, &["alice"])), Code::BAD_REQUEST);
    assert_eq!(world.refused(alice, add("gnone", &["bob"])), Code::NOT_A_MEMBER);
    assert_eq!(members(&mut world, alice, &direct("alice", "bob")).len(), 2);
}

#[test]
fn a_group_is_bounded_and_its_members_come_in_pages() {
    let config = CoreConfig {
        requests_burst: 1_000,
        group_members_max: 5_000,
        diffusion: DiffusionConfig { log_members: 5_000, ..Default::default() },
        ..Default::default()
    };
    let mut world = World::with(config);
    let alice = world.login("alice", "a");
    let group = world.group(alice, "g", &[]);
    for page in 0..25 {
        let users: Vec<_> = (0..200).map(|n| format!("user{:04}", page * 200 + n)).collect();
        let users: Vec<_> = users.iter().map(String::as_str).collect();
        if page < 24 {
            done(&mut world, alice, add(&group, &users));
        } else {
            assert_eq!(world.refused(alice, add(&group, &users)), Code::GROUP_FULL);
            assert_eq!(done(&mut world, alice, add(&group, &users[..199])), 26);
        }
    }
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let body = wire::Members { conversation: group.clone(), after: after.clone(), limit: 2_000 };
        let Event::MemberPage(page) = world.call(alice, Verb::Members(body)) else { panic!() };
        assert!(page.members.len() <= 500);
        seen.extend(page.members.iter().map(|member| member.user.clone()));
        after = seen.last().unwrap().clone();
        if !page.more {
            break;
        }
    }
    assert_eq!(seen.len(), 5_000);
    assert!(seen.windows(2).all(|pair| pair[0] < pair[1]));
    // One message, five thousand queues.
    let late = world.login("user4998", "u");
    world.take(late);
    world.send(alice, &group, "1", "to all");
    assert_eq!(world.texts(late), ["to all"]);
}

#[test]
fn sends_and_changes_keep_their_order_within_a_commit() {
    let mut world = World::new();
    let [alice, bob] = ["alice", "bob"].map(|user| world.login(user, user));
    let group = world.group(alice, "g", &["bob"]);
    world.pass(1_000);
    world.entries(bob);
    world.auto_commit = false;
    let under_way = world.ask(alice, send(&direct("alice", "alice"), "0", "x"));
    let before = world.ask(bob, send(&group, "1", "still in"));
    let removal = world.ask(alice, remove(&group, &["bob"]));
    let late = world.ask(bob, send(&group, "2", "too late"));
    world.ask(alice, send(&group, "3", "bob does not see this"));
    // Added again, but not durably: no reading yet.
    let again = world.ask(alice, add(&group, &["bob"]));
    assert_eq!(world.refused(bob, history(&group, 0, 0, 0)), Code::NOT_A_MEMBER);
    let page =
        world.ask(alice, Verb::Members(wire::Members { conversation: group.clone(), ..Default::default() }));
    assert!(world.answer(alice, page).is_none(), "the page is of a version that is not durable");
    for request in [under_way, removal, again] {
        assert!(world.answer(alice, request).is_none());
    }
    world.commit_all();
    assert!(matches!(world.answer(bob, before), Some(Event::Sent(_))));
    assert!(matches!(world.answer(bob, late), Some(Event::Reject(_))));
    assert!(matches!(world.answer(alice, page), Some(Event::MemberPage(_))));
    let entries = world.entries(bob);
    let kinds: Vec<_> = entries
        .iter()
        .map(|entry| (message(entry).map(text), group_change(entry).map(|c| c.version)))
        .collect();
    assert_eq!(kinds, [(Some("still in".into()), None), (None, Some(2)), (None, Some(3))]);
    let Event::HistoryPage(page) = world.call(bob, history(&group, 0, 0, 0)) else { panic!() };
    assert_eq!(page.last_seq, 2);
}

#[test]
fn a_read_mark_moves_forward_on_all_devices() {
    let mut world = World::new();
    let [phone, tablet, bob] = [("alice", "p"), ("alice", "t"), ("bob", "b")].map(|(u, d)| world.login(u, d));
    let conversation = direct("alice", "bob");
    let mark = |world: &mut World, seq| match world.call(phone, mark_read(&conversation, seq)) {
        Event::MarkedRead(marked) => marked.seq,
        event => panic!("{}", name(&event)),
    };
    assert_eq!(mark(&mut world, 5), 0, "there are no messages yet");
    for n in 0..4 {
        world.send(bob, &conversation, &n.to_string(), "x");
    }
    for connection in [phone, tablet, bob] {
        world.take(connection);
    }
    assert_eq!(mark(&mut world, 2), 2);
    assert_eq!(mark(&mut world, 1), 2);
    assert_eq!(mark(&mut world, 2), 2);
    assert_eq!(mark(&mut world, u64::MAX), 4);
    let marks = |entries: Vec<wire::Entry>| -> Vec<(u64, u64)> {
        entries
            .into_iter()
            .map(|entry| match entry.change {
                Some(wire::entry::Change::Read(read)) => (entry.pos, read.seq),
                _ => panic!("not a read mark"),
            })
            .collect()
    };
    assert_eq!(marks(world.entries(tablet)), [(5, 2), (6, 4)]);
    assert_eq!(marks(world.entries(phone)), [(5, 2), (6, 4)]);
    assert!(world.entries(bob).is_empty(), "nobody else is told");
    let new = world.login("alice", "new");
    let entries = world.entries(new);
    assert_eq!(marks(entries[4..].to_vec()), [(5, 2), (6, 4)]);
    assert_eq!(world.refused(phone, mark_read(&direct("bob", "carol"), 1)), Code::NOT_A_MEMBER);

    // Two within one commit: the second knows the first, and what does not move waits for what does.
    world.send(bob, &conversation, "5", "x");
    world.send(bob, &conversation, "6", "x");
    world.pass(1_000);
    world.auto_commit = false;
    let requests = [5, 6, 5].map(|seq| world.ask(phone, mark_read(&conversation, seq)));
    assert!(requests.iter().all(|request| world.answer(phone, *request).is_none()));
    world.commit_all();
    let seqs = requests.map(|request| match world.answer(phone, request) {
        Some(Event::MarkedRead(marked)) => marked.seq,
        _ => panic!("not answered"),
    });
    assert_eq!(seqs, [5, 6, 6]);
}

#[test]
fn pages_of_members_that_wait_for_a_commit_are_bounded() {
    let bytes_max = 40_000;
    let config = CoreConfig {
        uncommitted_bytes_max: bytes_max,
        requests_burst: 10_000,
        outgoing_bytes_max: 1 << 30,
        ..Default::default()
    };
    let mut world = World::with(config);
    let alice = world.login("alice", "a");
    let group = world.group(alice, "g", &["bob"]);
    world.auto_commit = false;
    world.ask(alice, add(&group, &["carol"]));
    let page = || Verb::Members(wire::Members { conversation: group.clone(), ..Default::default() });
    let mut refused = 0;
    for _ in 0..900 {
        let request = world.ask(alice, page());
        match world.answer(alice, request) {
            None => {}
            Some(Event::Reject(reject)) => {
                assert_eq!(Code(reject.code.try_into().unwrap()), Code::BUSY);
                refused += 1;
            }
            Some(event) => panic!("told before it is durable: {}", name(&event)),
        }
    }
    assert!(refused > 500, "{refused}");
    assert!(world.relay.counters().uncommitted_bytes < bytes_max + 1_000);
    world.commit_all();
    world.auto_commit = true;
    assert_eq!(members(&mut world, alice, &group).len(), 3);
}

/// A client gives up for good what is refused so; were the removal lost with its commit, it would have been wrong (the
/// simulated world's seed 8003475).
#[test]
fn who_is_removed_is_refused_when_the_removal_is_durable() {
    let mut world = World::new();
    let [alice, bob] = ["alice", "bob"].map(|user| world.login(user, user));
    let group = world.group(alice, "g", &["bob"]);
    world.send(alice, &group, "first", "hello");
    world.auto_commit = false;
    world.ask(alice, remove(&group, &["bob"]));
    let asked = [world.ask(bob, send(&group, "k", "too late")), world.ask(bob, mark_read(&group, 1))];
    for request in asked {
        assert!(world.answer(bob, request).is_none());
    }
    world.commit_all();
    for request in asked {
        let answer = world.answer(bob, request).unwrap();
        assert!(matches!(answer, Event::Reject(reject) if reject.code == u32::from(Code::NOT_A_MEMBER.0)));
    }
}
