//! Leases over the core: what a watcher sees of hellos, goodbyes, broken sockets and silence.

#![allow(clippy::unwrap_used)] // The helpers are outside of test functions.

mod core_world;

use core_world::presence::*;
use core_world::*;
use hongyan_protocol::Code;
use hongyan_protocol::wire::{self, DeviceKind, client_frame::Verb, relay_frame::Event};
use hongyan_relay::core::queue::QueueConfig;
use hongyan_relay::core::{CoreConfig, Input};
use hongyan_relay::store::{Store, Table};
use prost::Message as _;

const NOTHING: [&str; 0] = [];

#[test]
fn online_and_away_and_how_the_watcher_learns_it() {
    let mut world = World::new();
    let bob = world.bob_watches_alice();
    let (alice, welcome) = world.greet("alice", "a", |_| {});
    assert!(!welcome.bye_ticket.is_empty() && !welcome.invisible);
    let online = world.pushed(bob);
    assert_eq!(online.len(), 1);
    assert_eq!((seen(&online[0]), online[0].since, online[0].until), ("online".into(), world.time(), 0));
    let device = &online[0].devices[0];
    assert!(device.kind() == DeviceKind::Web && device.since == world.time());
    world.pass(500);
    world.frame(alice, 0, set_away(true));
    world.frame(alice, 0, set_away(true));
    let away = world.pushed(bob);
    assert_eq!((away.len(), seen(&away[0]), away[0].until), (1, "away background".into(), 0));
    assert_eq!(away[0].since, world.time());
    world.frame(alice, 0, set_away(false));
    assert_eq!(world.saw(bob), ["online"]);
    // A device that begins hidden.
    world.frame(alice, 0, bye(0, false));
    assert_eq!(world.saw(bob), ["offline closed"]);
    world.greet("alice", "a", |hello| hello.away = true);
    assert_eq!(world.saw(bob), ["away background"]);
}

#[test]
fn a_goodbye_is_shown_as_leaving_until_it_is_too_late_to_come_back() {
    for (returns_in_ms, ms) in [(1, 500), (700, 700), (4_000, 4_000), (u32::MAX, 4_000)] {
        let mut world = World::new();
        let bob = world.bob_watches_alice();
        let alice = world.login("alice", "a");
        world.saw(bob);
        world.frame(alice, 0, bye(returns_in_ms, false));
        assert_eq!(world.closed.get(&alice), Some(&Code(1000)));
        let leaving = world.pushed(bob);
        assert_eq!(seen(&leaving[0]), "leaving closed");
        assert_eq!((leaving[0].since, leaving[0].until), (world.time(), world.time() + ms));
        world.pass(ms - 1);
        assert_eq!(world.saw(bob), NOTHING);
        world.pass(1);
        let offline = world.pushed(bob);
        assert_eq!((seen(&offline[0]), offline[0].since), ("offline closed".into(), world.time()));
        assert!(offline[0].devices.is_empty() && offline.len() == 1);
        assert_eq!(world.relay.counters().leases, 1, "bob's");
    }
}

#[test]
fn who_closes_for_good_is_offline_at_once() {
    let mut world = World::new();
    let bob = world.bob_watches_alice();
    let alice = world.login("alice", "a");
    world.saw(bob);
    world.frame(alice, 0, bye(0, false));
    assert_eq!(world.saw(bob), ["offline closed"]);
}

#[test]
fn nobody_is_offline_who_comes_back_in_time() {
    let mut world = World::new();
    let bob = world.bob_watches_alice();
    let mut alice = world.login("alice", "a");
    world.saw(bob);
    // A reload that is known to be one, a socket that breaks, a goodbye that is none.
    world.frame(alice, 0, bye(1_000, true));
    world.pass(999);
    alice = world.login("alice", "a");
    world.pass(2_000);
    assert_eq!(world.saw(bob), NOTHING);
    world.cut(alice);
    world.pass(599);
    alice = world.login("alice", "a");
    world.pass(2_000);
    assert_eq!(world.saw(bob), NOTHING);
    world.frame(alice, 0, bye(1_000, false));
    world.pass(999);
    world.login("alice", "a");
    world.pass(2_000);
    assert_eq!(world.saw(bob), ["leaving closed", "online"]);
}

#[test]
fn who_does_not_come_back_is_offline_when_the_time_is_over() {
    let mut world = World::new();
    let bob = world.bob_watches_alice();
    let alice = world.login("alice", "a");
    world.saw(bob);
    world.cut(alice);
    world.pass(599);
    assert_eq!(world.saw(bob), NOTHING);
    world.pass(1);
    assert_eq!(world.saw(bob), ["offline lost"]);
    let alice = world.login("alice", "a");
    world.frame(alice, 0, bye(800, true));
    world.pass(799);
    assert_eq!(world.saw(bob), ["online"]);
    world.pass(1);
    assert_eq!(world.saw(bob), ["offline closed"]);
    // Silence has lasted long enough already.
    let alice = world.login("alice", "a");
    world.saw(bob);
    world.wait_alive(bob, 15_000);
    assert_eq!(world.closed.get(&alice), Some(&Code::SILENT));
    assert_eq!(world.saw(bob), ["offline lost"]);
    assert_eq!(world.relay.counters().leases, 1);
}

#[test]
fn a_newer_connection_takes_the_device_over_and_a_late_one_is_refused() {
    let mut world = World::new();
    let bob = world.bob_watches_alice();
    let order = |term, dial| move |hello: &mut wire::Hello| (hello.term, hello.dial) = (term, dial);
    let (first, _) = world.greet("alice", "a", order(3, 7));
    assert_eq!(world.saw(bob), ["online"]);
    let (second, _) = world.greet("alice", "a", order(3, 8));
    assert_eq!(world.closed.get(&first), Some(&Code::SUPERSEDED));
    for (term, dial) in [(3, 8), (3, 7), (2, 900), (1, 0), (0, 1)] {
        let late = world.open();
        let hello = wire::Hello { term, dial, ..hello("alice", "a") };
        assert_eq!(world.refused(late, Verb::Hello(hello)), Code::REPLACED);
        assert_eq!(world.closed.get(&late), Some(&Code::REPLACED));
    }
    assert!(!world.closed.contains_key(&second));
    let (third, _) = world.greet("alice", "a", order(4, 0));
    assert_eq!(world.closed.get(&second), Some(&Code::SUPERSEDED));
    // Who does not order its connections is always the newest; then everybody is newer.
    let (fourth, _) = world.greet("alice", "a", order(0, 0));
    assert_eq!(world.closed.get(&third), Some(&Code::SUPERSEDED));
    let (fifth, _) = world.greet("alice", "a", order(1, 1));
    assert_eq!(world.closed.get(&fourth), Some(&Code::SUPERSEDED));
    // A lease whose connection has ended holds nobody off.
    world.cut(fifth);
    world.greet("alice", "a", order(1, 0));
    world.pass(5_000);
    assert_eq!(world.saw(bob), NOTHING, "no flap in all of this");
    // A device that takes itself over needs no room for two.
    let mut world = World::with(CoreConfig { connections_per_user_max: 1, ..Default::default() });
    world.login("alice", "a");
    world.login("alice", "a");
}

#[test]
fn tabs_stand_beside_each_other_and_the_last_decides() {
    let mut world = World::new();
    let bob = world.bob_watches_alice();
    let (one, two) = (world.login_tab("alice", "a", "1"), world.login_tab("alice", "a", "2"));
    let again = world.login_tab("alice", "a", "1");
    assert_eq!(world.closed.get(&one), Some(&Code::SUPERSEDED));
    assert!(!world.closed.contains_key(&two));
    world.frame(two, 0, bye(500, false));
    world.pass(1_000);
    assert_eq!(world.saw(bob), ["online"]);
    world.frame(again, 0, set_away(true));
    let three = world.login_tab("alice", "a", "3");
    assert_eq!(world.saw(bob), ["away background", "online"]);
    world.frame(again, 0, bye(500, false));
    world.frame(three, 0, bye(500, false));
    world.pass(500);
    assert_eq!(world.saw(bob), ["leaving closed", "offline closed"]);
    // Of two that go by themselves the better goes first.
    let (one, two) = (world.login_tab("alice", "a", "1"), world.login_tab("alice", "a", "2"));
    world.frame(two, 0, set_away(true));
    world.frame(one, 0, bye(500, true));
    world.cut(two);
    world.pass(500);
    assert_eq!(world.saw(bob), ["online", "away background"]);
    world.pass(200);
    assert_eq!(world.saw(bob), ["offline lost"]);
    // One that stands for the whole device ends them all.
    let (one, two) = (world.login_tab("alice", "a", "1"), world.login_tab("alice", "a", "2"));
    world.saw(bob);
    world.login("alice", "a");
    for tab in [one, two] {
        assert_eq!(world.closed.get(&tab), Some(&Code::SUPERSEDED));
    }
    world.pass(2_000);
    assert_eq!(world.saw(bob), NOTHING);
    let connection = world.open();
    let bad = wire::Hello { tab: "x".repeat(129), ..hello("alice", "a") };
    assert_eq!(world.refused(connection, Verb::Hello(bad)), Code::BAD_REQUEST);
}

#[test]
fn a_user_is_as_the_best_of_her_devices() {
    let mut world = World::new();
    let bob = world.bob_watches_alice();
    let phone = world.login("alice", "phone");
    world.pass(100);
    let began = world.time();
    let desk = world.login("alice", "desk");
    world.saw(bob);
    world.frame(phone, 0, set_away(true));
    assert_eq!(world.saw(bob), ["online (online, away background)"]);
    world.pass(100);
    world.frame(desk, 0, set_away(true));
    world.pass(100);
    let away = world.pushed(bob).pop().unwrap();
    assert_eq!(away.since, began + 100);
    // The best device is now one that was away for longer: the user is not away for longer by that.
    world.frame(desk, 0, bye(0, false));
    let still = world.pushed(bob).pop().unwrap();
    assert_eq!((seen(&still), still.since), ("away background".into(), away.since));
    world.frame(phone, 0, bye(500, false));
    world.pass(500);
    assert_eq!(world.saw(bob), ["leaving closed", "offline closed"]);
}

#[test]
fn late_ends_of_an_old_connection_touch_nothing() {
    let mut world = World::new();
    let bob = world.bob_watches_alice();
    let (old, welcome) = world.greet("alice", "a", |_| {});
    world.cut(old);
    world.login("alice", "a");
    world.saw(bob);
    world.input(Input::Closed(old));
    world.frame(old, 0, bye(0, false));
    world.input(beacon(&welcome.bye_ticket, 0, false));
    world.pass(5_000);
    assert_eq!(world.saw(bob), NOTHING);
}

#[test]
fn a_beacon_says_goodbye_once_and_only_that() {
    let mut world = World::new();
    let bob = world.bob_watches_alice();
    let (alice, welcome) = world.greet("alice", "a", |_| {});
    let (_, others) = world.greet("mallory", "m", |_| {});
    world.saw(bob);
    // With the ticket of another, with one that is forged, with no ticket.
    let mut forged = welcome.bye_ticket.to_vec();
    forged[39] ^= 1;
    for ticket in [others.bye_ticket, forged.into(), Default::default()] {
        world.input(beacon(&ticket, 500, false));
    }
    for bytes in [&[0xff; 20][..], &[0; 300], &[]] {
        world.input(Input::Goodbye(bytes.to_vec().into()));
    }
    assert_eq!(world.saw(bob), NOTHING);
    // A logout in it is none.
    let goodbye = bye(500, false);
    let logout = Some(wire::Bye { logout: true, returns_in_ms: 500, returns: false });
    let body = wire::Beacon { ticket: welcome.bye_ticket.clone(), bye: logout }.encode_to_vec();
    world.pass(1_500);
    world.input(Input::Goodbye(body.into()));
    assert_eq!(world.closed.get(&alice), Some(&Code(1000)));
    assert_eq!(world.saw(bob), ["leaving closed"]);
    world.pass(100);
    world.input(beacon(&welcome.bye_ticket, 4_000, true));
    world.pass(400);
    assert_eq!(world.saw(bob), ["offline closed"]);
    assert!(world.store.get(Table::Devices, b"alice\0a\0").unwrap().is_some());

    // It makes a goodbye of a socket that broke, but not twice one of a goodbye.
    let (alice, welcome) = world.greet("alice", "a", |_| {});
    world.cut(alice);
    world.pass(300);
    world.input(beacon(&welcome.bye_ticket, 600, false));
    assert_eq!(world.saw(bob), ["online", "leaving closed"]);
    world.pass(599);
    assert_eq!(world.saw(bob), NOTHING);
    let (alice, welcome) = world.greet("alice", "a", |_| {});
    world.frame(alice, 0, goodbye);
    world.input(beacon(&welcome.bye_ticket, 4_000, true));
    world.pass(500);
    assert_eq!(world.saw(bob), ["online", "leaving closed", "offline closed"]);
    // And none of one that is over.
    world.input(beacon(&welcome.bye_ticket, 4_000, false));
    assert_eq!(world.saw(bob), NOTHING);
}

#[test]
fn a_logout_is_told_when_it_is_durable_and_last_seen_survives_it() {
    let mut world = World::new();
    let bob = world.bob_watches_alice();
    let alice = world.login("alice", "a");
    world.saw(bob);
    world.auto_commit = false;
    world.frame(alice, 0, Verb::Bye(wire::Bye { logout: true, ..wire::Bye::default() }));
    assert_eq!(world.saw(bob), NOTHING);
    world.pass(50);
    world.commit_all();
    world.auto_commit = true;
    let offline = world.pushed(bob);
    assert_eq!((seen(&offline[0]), offline[0].since), ("offline logout".into(), world.time()));
    world.pass(3_000);
    assert!(world.store.get(Table::Devices, b"alice\0a\0").unwrap().is_none());
    let later = world.login("bob", "other");
    let again = world.watch(later, &["alice"]);
    assert_eq!((seen(&again[0]), again[0].since), ("offline logout".into(), offline[0].since));
    world.call(bob, watch(&["alice"]));
}

#[test]
fn a_mini_program_that_is_hidden_is_away_for_its_lease_and_then_nobody_knows() {
    let mut world = World::new();
    let bob = world.bob_watches_alice();
    let mini = |hello: &mut wire::Hello| hello.device_kind = DeviceKind::Miniprogram.into();
    let (alice, _) = world.greet("alice", "m", mini);
    world.pass(1_000);
    world.saw(bob);
    world.frame(alice, 0, set_away(true));
    let away = world.pushed(bob).pop().unwrap();
    assert_eq!((seen(&away), away.until), ("away background".into(), world.time() + 300_000));
    world.pass(2_000);
    world.cut(alice);
    world.wait_alive(bob, 297_999);
    assert_eq!(world.saw(bob), NOTHING);
    world.pass(1);
    let unknown = world.pushed(bob).pop().unwrap();
    assert_eq!((seen(&unknown), unknown.since), ("unknown no-channel".into(), world.time()));
    assert_eq!((unknown.until, unknown.devices.len()), (0, 1));
    // For ever, also for who asks later and for a relay that was restarted.
    world.wait_alive(bob, 100_000);
    assert_eq!(world.saw(bob), NOTHING);
    world.frame(bob, 0, unwatch(&["alice"]));
    let again = &world.watch(bob, &["alice"])[0];
    assert_eq!((seen(again), again.since), (seen(&unknown), unknown.since));
    // Until it comes back, or logs out.
    let (alice, _) = world.greet("alice", "m", mini);
    world.frame(alice, 0, Verb::Bye(wire::Bye { logout: true, ..wire::Bye::default() }));
    assert_eq!(world.saw(bob), ["online", "offline logout"]);
}

#[test]
fn a_mini_program_is_never_called_offline_by_a_guess() {
    let mut world = World::new();
    let bob = world.bob_watches_alice();
    let mini = |world: &mut World| {
        let (alice, _) =
            world.greet("alice", "m", |hello| hello.device_kind = DeviceKind::Miniprogram.into());
        world.saw(bob);
        alice
    };
    // Its socket ends while it is shown; it says goodbye; it closes for good; it is silent.
    let alice = mini(&mut world);
    world.cut(alice);
    world.pass(599);
    assert_eq!(world.saw(bob), NOTHING);
    world.pass(1);
    assert_eq!(world.saw(bob), ["unknown no-channel"]);
    let alice = mini(&mut world);
    world.frame(alice, 0, bye(500, false));
    world.pass(500);
    assert_eq!(world.saw(bob), ["leaving closed", "unknown no-channel"]);
    let alice = mini(&mut world);
    world.frame(alice, 0, bye(0, false));
    assert_eq!(world.saw(bob), ["unknown no-channel"]);
    mini(&mut world);
    world.wait_alive(bob, 15_000);
    assert_eq!(world.saw(bob), ["unknown no-channel"]);
    // Hidden, with a socket that lives longer than the lease: away goes on.
    let alice = mini(&mut world);
    world.frame(alice, 0, set_away(true));
    for _ in 0..400 {
        world.wait_alive(bob, 1_000);
        world.frame(alice, 0, Verb::Pong(wire::Pong::default()));
    }
    let seen_then: Vec<_> = world.pushed(bob).iter().map(|away| (seen(away), away.until > 0)).collect();
    assert_eq!(seen_then, [("away background".into(), true), ("away background".into(), false)]);
    world.cut(alice);
    world.pass(700);
    assert_eq!(world.saw(bob), ["unknown no-channel"]);
    // Another device of hers is better than that, and not worse when it goes.
    let desk = world.login("alice", "desk");
    world.frame(desk, 0, bye(0, false));
    assert_eq!(world.saw(bob), ["online (online, unknown no-channel)", "unknown no-channel"]);
}

#[test]
fn an_official_account_is_unknown_always() {
    let mut world = World::new();
    let bob = world.bob_watches_alice();
    let (alice, _) = world.greet("alice", "o", |hello| hello.device_kind = DeviceKind::Official.into());
    assert_eq!(world.saw(bob), ["unknown no-channel"]);
    world.frame(alice, 0, set_away(true));
    world.frame(alice, 0, bye(700, false));
    world.pass(5_000);
    assert_eq!(world.saw(bob), NOTHING);
    // Also when only the store knows of it.
    let mut world = restarted(&world, 5_000);
    let bob = world.login("bob", "b");
    assert_eq!(seen(&world.watch(bob, &["alice"])[0]), "unknown no-channel");
    world.wait_alive(bob, 60_000);
    assert_eq!(world.saw(bob), NOTHING);
}

/// Another relay over the same store, some time later.
fn restarted(world: &World, after_ms: u64) -> World {
    let mut next = World::over(world.store.clone(), CoreConfig::default());
    next.now = world.now + after_ms;
    next
}

#[test]
fn after_a_restart_nobody_is_called_offline_before_she_could_come_back() {
    let mut world = World::new();
    let bob = world.bob_watches_alice();
    for user in ["carol", "dave", "erin"] {
        world.send(bob, &direct("bob", user), user, "hello");
    }
    let (alice, dave) = (world.login("alice", "a"), world.login("dave", "d"));
    let carol = world.login("carol", "c");
    world.pass(2_000);
    world.frame(carol, 0, bye(0, false));
    let carol_left = world.time();
    world.pass(2_000);
    world.input(Input::Drain { spread_ms: 1_000 });
    let drained = world.time();
    assert!(world.drained);
    world.cut(alice);
    world.cut(dave);
    world.pass(5_000);
    assert_eq!(world.saw(bob), ["online"], "while the relay stops it tells nothing of who goes");

    let mut world = restarted(&world, 3_000);
    let bob = world.login("bob", "b");
    let started = world.time();
    let users = ["alice", "carol", "dave", "erin"];
    for unknown in world.watch(bob, &users) {
        assert_eq!((seen(&unknown), unknown.until), ("unknown no-channel".into(), started + 20_000));
    }
    world.wait_alive(bob, 1_000);
    let alice = world.login("alice", "a");
    assert_eq!(world.saw(bob), ["online"]);
    for _ in 0..25 {
        world.wait_alive(bob, 1_000);
        world.frame(alice, 0, Verb::Pong(wire::Pong::default()));
    }
    let told: Vec<_> = world.pushed(bob).into_iter().map(|p| (p.user.clone(), seen(&p), p.since)).collect();
    let expected = [
        ("carol", "offline closed", carol_left),
        ("dave", "offline lost", drained),
        // She never had a device.
        ("erin", "offline", 0),
    ];
    assert_eq!(told, expected.map(|(user, state, since)| (user.into(), state.into(), since)));
    // Who asks now gets the same.
    let other = world.login("bob", "other");
    let again: Vec<_> = world.watch(other, &users).iter().map(|p| (seen(p), p.since)).collect();
    assert_eq!(again[1..], expected.map(|(_, state, since)| (state.to_owned(), since)));
    assert_eq!(again[0].0, "online");
}

#[test]
fn nothing_of_presence_waits_for_the_disk_and_last_seen_is_written_lazily() {
    let mut world = World::new();
    let alice = world.login("alice", "a");
    world.pass(1_000);
    let commits = world.relay.counters().commits;
    for away in [true, false, true, false] {
        world.frame(alice, 0, set_away(away));
    }
    world.pass(5_000);
    assert_eq!(world.relay.counters().commits, commits);
    world.frame(alice, 0, bye(500, false));
    world.pass(500);
    assert_eq!(world.relay.counters().commits, commits);
    world.pass(1_000);
    assert_eq!(world.relay.counters().commits, commits + 1);
    assert_eq!(world.relay.counters().leases, 0);
    world.pass(20_000);
    // Nothing but the slow look at all queues.
    let sweep = QueueConfig::default().sweep_interval_ms;
    assert!(world.relay.next_deadline().is_none_or(|at| at.0 >= sweep));
}

#[test]
fn who_is_invisible_is_offline_for_others_and_stays_so() {
    let mut world = World::new();
    let bob = world.bob_watches_alice();
    let alice = world.login("alice", "a");
    let tablet = world.login("alice", "t");
    world.watch(tablet, &["alice"]);
    world.pass(1_000);
    world.saw(bob);
    world.take(tablet);
    let hide = |invisible| Verb::SetInvisible(wire::SetInvisible { invisible });
    world.auto_commit = false;
    let request = world.ask(alice, hide(true));
    assert_eq!(world.saw(bob), NOTHING, "not before it is durable");
    let hidden = world.time();
    world.pass(10);
    world.commit_all();
    world.auto_commit = true;
    assert!(matches!(world.answer(alice, request), Some(Event::Invisible(answer)) if answer.invisible));
    let offline = world.pushed(bob);
    assert_eq!((seen(&offline[0]), offline[0].since), ("offline closed".into(), hidden));
    assert!(offline.len() == 1 && offline[0].devices.is_empty());
    // Her other device learns it, and sees herself as she is.
    let told = world.take(tablet);
    assert!(matches!(&told[..], [Event::Invisible(told)] if told.invisible), "{}", told.len());
    assert_eq!(seen(&world.watch(tablet, &["alice"])[0]), "online (online, online)");
    // Whatever she does, and after a restart.
    world.frame(alice, 0, set_away(true));
    world.frame(tablet, 0, bye(500, false));
    let (_, welcome) = world.greet("alice", "third", |_| {});
    assert!(welcome.invisible);
    world.pass(5_000);
    assert_eq!(world.saw(bob), NOTHING);
    let mut world = restarted(&world, 60_000);
    let bob = world.login("bob", "b");
    let (alice, welcome) = world.greet("alice", "a", |_| {});
    assert!(welcome.invisible);
    let watched = &world.watch(bob, &["alice"])[0];
    assert_eq!((seen(watched), watched.since), ("offline closed".into(), hidden));
    // Shown again, from now on and not from before.
    world.pass(1_000);
    let Event::Invisible(answer) = world.call(alice, hide(false)) else { panic!() };
    assert!(!answer.invisible);
    let online = world.pushed(bob).pop().unwrap();
    assert_eq!((seen(&online), online.since), ("online".into(), world.time()));
    assert_eq!(online.devices[0].since, world.time());
    // What is so already is answered too.
    assert!(matches!(world.call(alice, hide(false)), Event::Invisible(answer) if !answer.invisible));
    assert_eq!(world.saw(bob), NOTHING);
}

#[test]
fn leases_of_one_user_are_bounded() {
    let mut world = World::new();
    for n in 0..1_000 {
        let (connection, _) = world.greet("alice", &format!("a{n}"), |_| {});
        world.frame(connection, 0, bye(4_000, false));
    }
    assert!(world.relay.counters().leases <= 257, "{}", world.relay.counters().leases);
    world.pass(4_000);
    assert_eq!(world.relay.counters().leases, 0);
    // Nor do devices gather of which nobody knows.
    let alice = world.login("alice", "a");
    for n in 0..100 {
        let mini = |hello: &mut wire::Hello| hello.device_kind = DeviceKind::Miniprogram.into();
        let (connection, _) = world.greet("alice", &format!("m{n}"), mini);
        world.frame(connection, 0, bye(0, false));
        world.pass(10);
    }
    assert_eq!(world.watch(alice, &["alice"])[0].devices.len(), 16);
}
