//! Hello, tokens, streams with back-pressure, resets, deadlines and the ends of connections over the core.

#![allow(clippy::unwrap_used)] // The helpers are outside of test functions.

mod core_world;

use core_world::*;
use hongyan_protocol::Code;
use hongyan_protocol::wire::{self, client_frame::Verb, relay_frame::Event};
use hongyan_relay::core::queue::QueueConfig;
use hongyan_relay::core::{CoreConfig, Input};
use hongyan_relay::store::{Store, Table};

/// A hello that is refused: with a reject, and a close of the same code.
#[track_caller]
fn hello_refused(world: &mut World, hello: wire::Hello) -> Code {
    let connection = world.open();
    let code = world.refused(connection, Verb::Hello(hello));
    assert_eq!(world.closed.get(&connection), Some(&code));
    code
}

#[test]
fn a_hello_is_checked() {
    let mut world = World::with(CoreConfig { connections_per_user_max: 2, ..Default::default() });
    let good = || hello("alice", "a");
    let refused = &mut |change: &dyn Fn(&mut wire::Hello)| {
        let mut body = good();
        change(&mut body);
        hello_refused(&mut world, body)
    };
    assert_eq!(refused(&|hello| hello.version = 0), Code::VERSION_UNSUPPORTED);
    assert_eq!(refused(&|hello| hello.version = 2), Code::VERSION_UNSUPPORTED);
    assert_eq!(refused(&|hello| hello.user = String::new()), Code::BAD_REQUEST);
    assert_eq!(refused(&|hello| hello.device = "x".repeat(129)), Code::BAD_REQUEST);
    assert_eq!(refused(&|hello| hello.epoch = "a\nb".into()), Code::BAD_REQUEST);
    assert_eq!(refused(&|hello| hello.agent = "x".repeat(129)), Code::BAD_REQUEST);
    assert_eq!(refused(&|hello| hello.token = "forged".into()), Code::TOKEN_INVALID);
    assert_eq!(refused(&|hello| hello.token = "x".repeat(8193)), Code::TOKEN_INVALID);
    assert_eq!(refused(&|hello| hello.token = token("bob", 1 << 40)), Code::TOKEN_USER_MISMATCH);
    assert_eq!(refused(&|hello| hello.token = token("alice", START - 5_000)), Code::TOKEN_EXPIRED);
    // Within the leeway.
    let connection = world.open();
    let late = wire::Hello { token: token("alice", START - 4_999), ..hello("alice", "a") };
    let Event::Welcome(welcome) = world.call(connection, Verb::Hello(late)) else { panic!() };
    assert_eq!((welcome.version, welcome.head, welcome.token_expires_in_ms), (1, 0, 0));
    assert_eq!((welcome.ping_interval_ms, welcome.silence_ms), (7_000, 15_000));
    assert_eq!(welcome.epoch, world.epoch());
    world.login("alice", "b");
    assert_eq!(hello_refused(&mut world, hello("alice", "c")), Code::TOO_MANY_CONNECTIONS);
    // A second hello, and a first frame that is none.
    let connection = world.login("bob", "b");
    assert_eq!(world.refused(connection, Verb::Hello(hello("bob", "b"))), Code::HELLO_EXPECTED);
    assert!(world.closed.contains_key(&connection));
    let connection = world.open();
    assert_eq!(world.refused(connection, send("~3.bob.bob", "k", "x")), Code::HELLO_EXPECTED);
    assert!(world.closed.contains_key(&connection));
}

#[test]
fn connections_are_bounded() {
    let mut world = World::with(CoreConfig { connections_max: 2, ..Default::default() });
    let (first, _second, third) = (world.open(), world.open(), world.open());
    assert_eq!(world.closed.get(&third), Some(&Code::BUSY));
    world.input(Input::Closed(first));
    let fourth = world.open();
    assert!(!world.closed.contains_key(&fourth));
}

#[test]
fn what_is_no_frame_ends_the_connection_and_an_unknown_verb_does_not() {
    let mut world = World::new();
    let alice = world.login("alice", "a");
    world.bytes(alice, vec![0x08, 0x05]); // request 5, no verb
    let Some(Event::Reject(reject)) = world.answer(alice, 5) else { panic!() };
    assert_eq!(reject.code, u32::from(Code::VERB_UNKNOWN.0));
    world.bytes(alice, vec![0x08, 0x06, 0xfa, 0x3e, 0x00]); // request 6, field 1007
    let Some(Event::Reject(reject)) = world.answer(alice, 6) else { panic!() };
    assert_eq!(reject.code, u32::from(Code::VERB_UNKNOWN.0));
    for bytes in [vec![0xff; 10], vec![0x12, 0x7f], vec![0; 131_073]] {
        let alice = world.login("alice", "b");
        world.bytes(alice, bytes);
        assert_eq!(world.closed.get(&alice), Some(&Code::BAD_FRAME));
    }
    assert!(!world.closed.contains_key(&alice));
}

#[test]
fn silence_hello_and_token_have_their_deadlines() {
    let mut world = World::new();
    let mute = world.open();
    world.pass(9_999);
    assert!(!world.closed.contains_key(&mute));
    world.pass(1);
    assert_eq!(world.closed.get(&mute), Some(&Code::HELLO_TIMED_OUT));

    let (alive, silent) = (world.login("alice", "a"), world.login("alice", "b"));
    world.take(silent);
    for _ in 0..4 {
        world.pass(7_000);
        let pings = world.take(alive);
        let Some(Event::Ping(ping)) = pings.first() else { panic!("no ping") };
        assert_eq!(pings.len(), 1, "one ping for one interval");
        world.frame(alive, 0, Verb::Pong(wire::Pong { nonce: ping.nonce }));
    }
    assert_eq!(world.closed.get(&silent), Some(&Code::SILENT));
    assert!(!world.closed.contains_key(&alive));

    let short = wire::Hello { token: token("bob", world.now + 3_000), ..hello("bob", "b") };
    let bob = world.open();
    world.call(bob, Verb::Hello(short));
    world.pass(2_000);
    let renew = |user: &str, ends| Verb::Renew(wire::Renew { token: token(user, ends) });
    let verb = renew("bob", world.now + 4_000);
    let Event::Renewed(renewed) = world.call(bob, verb) else { panic!() };
    assert_eq!(renewed.token_expires_in_ms, 4_000);
    world.pass(4_000 + 4_999);
    assert!(!world.closed.contains_key(&bob));
    world.pass(1);
    assert_eq!(world.closed.get(&bob), Some(&Code::TOKEN_EXPIRED));
    let bob = world.login("bob", "b");
    assert_eq!(world.refused(bob, renew("alice", 1 << 40)), Code::TOKEN_USER_MISMATCH);
    assert!(world.closed.contains_key(&bob));
}

#[test]
fn catching_up_waits_for_the_socket_and_for_acknowledgements() {
    // A new device is told all of it.
    let queue = QueueConfig { capacity: 10_000, ..Default::default() };
    let config = CoreConfig { outgoing_bytes_target: 1, sends_burst: 10_000, queue, ..Default::default() };
    let mut world = World::with(config);
    let alice = world.login("alice", "a");
    let conversation = direct("alice", "bob");
    for n in 1..=5_000 {
        world.send(alice, &conversation, &format!("k{n}"), &n.to_string());
    }
    world.auto_write = false;
    let bob = world.login("bob", "b");
    let mut got = Vec::new();
    let mut rounds = 0;
    loop {
        rounds += 1;
        let texts = world.texts(bob);
        assert!(texts.len() <= 256, "one batch fills a target of one byte");
        got.extend(texts);
        let Some(bytes) = world.unwritten.remove(&bob) else { break };
        world.input(Input::Written(vec![(bob, bytes)]));
    }
    assert!(rounds >= 16);
    assert_eq!(got.len(), 4_096, "the window of what is not acknowledged");
    world.frame(bob, 0, Verb::Ack(wire::Ack { cursor: 4_000 }));
    while let Some(bytes) = world.unwritten.remove(&bob) {
        world.input(Input::Written(vec![(bob, bytes)]));
    }
    got.extend(world.texts(bob));
    assert_eq!(got, (1..=5_000).map(|n| n.to_string()).collect::<Vec<_>>());
    // From here it follows live.
    world.auto_write = true;
    world.frame(bob, 0, Verb::Ack(wire::Ack { cursor: 5_000 }));
    world.send(alice, &conversation, "live", "live");
    assert_eq!(world.texts(bob), ["live"]);
}

#[test]
fn many_that_catch_up_take_turns() {
    let mut world = World::with(CoreConfig { sends_burst: 10_000, ..Default::default() });
    let alice = world.login("alice", "a");
    for n in 1..=600 {
        world.send(alice, &direct("alice", "bob"), &format!("k{n}"), "x");
    }
    // All at once: hello is in, but the host is slow to come back.
    let connections: Vec<_> = (0..40).map(|n| world.login("bob", &format!("b{n}"))).collect();
    for connection in connections {
        assert_eq!(world.texts(connection).len(), 600);
    }
}

#[test]
fn a_resume_streams_again_and_a_cursor_ahead_resets() {
    let mut world = World::new();
    let alice = world.login("alice", "a");
    for n in 1..=5 {
        world.send(alice, &direct("alice", "bob"), &format!("k{n}"), &n.to_string());
    }
    world.take(alice);
    world.ask(alice, Verb::Resume(wire::Resume { cursor: 3 }));
    assert_eq!(world.texts(alice), ["4", "5"]);
    // What was sent before the resume may still be acknowledged.
    world.frame(alice, 0, Verb::Ack(wire::Ack { cursor: 5 }));
    world.ask(alice, Verb::Resume(wire::Resume { cursor: 6 }));
    let events = world.take(alice);
    let Event::Reset(reset) = &events[0] else { panic!("{}", name(&events[0])) };
    assert!(reset.pos == 5 && reset.cause() == wire::ResetCause::CursorAhead);
    assert!(matches!(&events[1], Event::Snapshot(snapshot) if snapshot.done));
    world.frame(alice, 0, Verb::Ack(wire::Ack { cursor: 6 }));
    assert_eq!(world.closed.get(&alice), Some(&Code::BAD_FRAME));
}

#[test]
fn cursors_are_kept_and_never_move_back() {
    let mut world = World::new();
    let (alice, same) = (world.login_tab("alice", "a", "1"), world.login_tab("alice", "a", "2"));
    for n in 1..=5 {
        world.send(alice, &direct("alice", "bob"), &format!("k{n}"), "x");
    }
    let device = |world: &World| world.store.get(Table::Devices, b"alice\0a\0").unwrap();
    let commits = world.relay.counters().commits;
    for cursor in [1, 4, 2, 3] {
        world.frame(alice, 0, Verb::Ack(wire::Ack { cursor }));
    }
    world.frame(same, 0, Verb::Ack(wire::Ack { cursor: 2 }));
    assert_eq!(world.relay.counters().commits, commits, "acknowledgements alone force no commit at once");
    world.pass(1_000);
    assert_eq!(world.relay.counters().commits, commits + 1);
    let stored = device(&world).unwrap();
    assert_eq!(stored[..2], [0x08, 4], "field 1 is the cursor");
    world.frame(same, 0, Verb::Ack(wire::Ack { cursor: 3 }));
    world.pass(1_000);
    assert!(device(&world).unwrap() == stored);
}

#[test]
fn a_reset_gives_the_conversations_as_they_are() {
    for (epoch, cursor, cause) in [
        (Some("another"), 3, wire::ResetCause::EpochUnknown),
        (Some(""), 3, wire::ResetCause::EpochUnknown),
        (None, 1_000, wire::ResetCause::CursorAhead),
    ] {
        let mut world = World::new();
        let (alice, bob) = (world.login("alice", "a"), world.login("bob", "b"));
        let group = world.group(alice, "g", &["bob", "carol"]);
        world.send(alice, &direct("alice", "bob"), "1", "one");
        world.send(bob, &direct("alice", "bob"), "2", "two");
        world.send(alice, &direct("alice", "bob"), "3", "three");
        world.call(alice, mark_read(&direct("alice", "bob"), 1));
        world.send(bob, &group, "4", "in the group");
        let left = world.group(bob, "h", &["alice"]);
        world.send(bob, &left, "5", "before");
        world.call(alice, Verb::LeaveGroup(wire::LeaveGroup { conversation: left.clone() }));
        world.send(bob, &left, "6", "after");

        let epoch = epoch.map_or(world.epoch(), Into::into);
        let connection = world.login_at("alice", "new", &epoch, cursor);
        let events = world.take(connection);
        let Event::Reset(reset) = &events[0] else { panic!("{}", name(&events[0])) };
        assert!(reset.cause() == cause && reset.epoch == world.epoch());
        let Event::Snapshot(snapshot) = &events[1] else { panic!() };
        assert!(snapshot.done && events.len() == 2 && snapshot.conversations.len() == 3);
        let state = |id: &str| snapshot.conversations.iter().find(|state| state.conversation == id).unwrap();
        let of_direct = state(&direct("alice", "bob"));
        assert_eq!((of_direct.last_seq, of_direct.read_seq, of_direct.left), (3, 1, false));
        assert_eq!(of_direct.own_unread, [3]);
        assert_eq!(text(of_direct.last_message.as_ref().unwrap()), "three");
        let of_group = state(&group);
        assert_eq!((of_group.title.as_str(), of_group.owner.as_str()), ("Geese", "alice"));
        assert_eq!((of_group.member_count, of_group.version, of_group.last_seq), (3, 1, 1));
        let of_left = state(&left);
        assert_eq!((of_left.left, of_left.last_seq, of_left.member_count), (true, 1, 1));
        assert!(of_left.last_message.is_none());
        // Then the queue goes on.
        world.send(bob, &direct("alice", "bob"), "next", "next");
        let entries = world.entries(connection);
        assert_eq!((entries.len(), entries[0].pos), (1, reset.pos + 1));
    }
}

#[test]
fn a_snapshot_comes_in_frames() {
    let mut world = World::with(CoreConfig { sends_burst: 10_000, ..Default::default() });
    let alice = world.login("alice", "a");
    for n in 0..250 {
        world.send(alice, &direct("alice", &format!("user{n}")), &n.to_string(), "x");
    }
    let connection = world.login_at("alice", "b", "gone", 9);
    let mut seen = Vec::new();
    let mut dones = Vec::new();
    for event in world.take(connection) {
        if let Event::Snapshot(snapshot) = event {
            assert!(snapshot.conversations.len() <= 100);
            seen.extend(snapshot.conversations.iter().map(|state| state.conversation.clone()));
            dones.push(snapshot.done);
        }
    }
    assert_eq!(dones, [false, false, true]);
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 250);
    // Somebody without conversations gets an empty one.
    let nobody = world.login_at("nobody", "n", "gone", 9);
    let events = world.take(nobody);
    assert!(
        matches!(&events[1], Event::Snapshot(snapshot) if snapshot.done && snapshot.conversations.is_empty())
    );
}

#[test]
fn a_slow_reader_is_closed_and_resumes() {
    let config =
        CoreConfig { outgoing_bytes_max: 30_000, outgoing_bytes_target: 10_000, ..Default::default() };
    let mut world = World::with(config);
    let alice = world.login("alice", "a");
    let bob = world.login("bob", "b");
    world.auto_write = false;
    let conversation = direct("alice", "bob");
    for n in 1..=20 {
        world.send(alice, &conversation, &format!("k{n}"), &"x".repeat(3_000));
        let bytes = world.unwritten.remove(&alice).unwrap();
        world.input(Input::Written(vec![(alice, bytes)]));
    }
    // The stream waits at the target; only answers to its own requests go beyond.
    assert!(world.texts(bob).len() < 6 && !world.closed.contains_key(&bob));
    for _ in 0..10 {
        world.ask(bob, history(&conversation, 0, 0, 3));
    }
    assert_eq!(world.closed.get(&bob), Some(&Code::SLOW_READER));

    // One that stalls is closed too.
    world.unwritten.clear();
    let bob = world.login("bob", "b");
    for _ in 0..12 {
        world.pass(900);
        world.frame(bob, 0, Verb::Pong(wire::Pong::default()));
    }
    assert_eq!(world.closed.get(&bob), Some(&Code::SLOW_READER));
    world.auto_write = true;
    let bob = world.login("bob", "b");
    assert_eq!(world.texts(bob).len(), 20);
}

#[test]
fn rates_are_held_and_a_flood_is_closed() {
    let mut world = World::with(CoreConfig { sends_burst: 3, sends_per_second: 1, ..Default::default() });
    let (alice, tablet) = (world.login("alice", "a"), world.login("alice", "t"));
    let conversation = direct("alice", "bob");
    for n in 0..3 {
        world.send(alice, &conversation, &n.to_string(), "x");
    }
    let Event::Reject(reject) = world.call(tablet, send(&conversation, "more", "x")) else { panic!() };
    assert_eq!((reject.code, reject.retry_after_ms), (u32::from(Code::RATE_LIMITED.0), 1_000));
    world.pass(1_000);
    world.send(tablet, &conversation, "more", "x");
    // Other users and other verbs are not held.
    let bob = world.login("bob", "b");
    world.send(bob, &conversation, "b", "x");
    for _ in 0..200 {
        world.call(alice, history(&conversation, 0, 0, 1));
    }
    assert_eq!(world.refused(alice, history(&conversation, 0, 0, 1)), Code::RATE_LIMITED);
    for _ in 0..1_000 {
        world.ask(alice, send(&conversation, "flood", "x"));
    }
    assert_eq!(world.closed.get(&alice), Some(&Code::BUSY));
    assert!(!world.closed.contains_key(&bob) && !world.closed.contains_key(&tablet));
}

#[test]
fn goodbye_and_logout() {
    let mut world = World::new();
    let bye = |logout| Verb::Bye(wire::Bye { logout, ..wire::Bye::default() });
    let (one, two) = (world.login_tab("alice", "a", "1"), world.login_tab("alice", "a", "2"));
    let other = world.login("alice", "other");
    world.pass(1_000);
    world.frame(one, 0, bye(false));
    assert_eq!(world.closed.get(&one), Some(&Code(1000)));
    assert!(!world.closed.contains_key(&two));
    let three = world.login_tab("alice", "a", "3");
    world.pass(1_000);
    assert!(world.store.get(Table::Devices, b"alice\0a\0").unwrap().is_some());
    world.auto_commit = false;
    world.frame(three, 0, bye(true));
    world.frame(three, 9, send(&direct("alice", "bob"), "late", "x"));
    assert!(!world.closed.contains_key(&three), "not before it is durable");
    world.commit_all();
    assert_eq!(world.closed.get(&three), Some(&Code(1000)));
    assert_eq!(world.closed.get(&two), Some(&Code::LOGGED_OUT));
    assert!(!world.closed.contains_key(&other));
    assert!(world.store.get(Table::Devices, b"alice\0a\0").unwrap().is_none());
    assert!(world.store.get(Table::Devices, b"alice\0other\0").unwrap().is_some());
    assert_eq!(world.relay.counters().sessions, 1);
}
