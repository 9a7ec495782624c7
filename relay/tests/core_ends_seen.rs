//! What is seen of sessions that are ended from elsewhere: by the watchers, in the list of one's devices, and by the
//! app's server.

#![allow(clippy::unwrap_used)] // The helpers are outside of test functions.

mod core_world;

use core_world::presence::*;
use core_world::*;
use hongyan_protocol::wire::{self, DeviceKind, PresenceStatus, client_frame::Verb, relay_frame::Event};
use hongyan_protocol::{Code, DeviceId};
use hongyan_relay::core::queries::{Answer, Query, UserPresence};
use hongyan_relay::core::{ConnectionId, CoreConfig, DevicesMax};

fn login_as(world: &mut World, user: &str, device: &str, kind: DeviceKind) -> ConnectionId {
    world.greet(user, device, |hello| hello.device_kind = kind.into()).0
}

fn sign_out(device: &str) -> Verb {
    Verb::SignOut(wire::SignOut { device: device.into() })
}

fn list(world: &mut World, connection: ConnectionId) -> Vec<wire::Device> {
    match world.call(connection, Verb::Devices(wire::Devices {})) {
        Event::DeviceList(list) => list.devices,
        event => panic!("no list but {}", name(&event)),
    }
}

/// How one's devices are, by id.
fn statuses(world: &mut World, connection: ConnectionId) -> Vec<String> {
    let word = |status: PresenceStatus| status.as_str_name()["PRESENCE_STATUS_".len()..].to_lowercase();
    let devices = list(world, connection);
    let mut all: Vec<_> = devices.iter().map(|it| format!("{} {}", it.device, word(it.status()))).collect();
    all.sort();
    all
}

fn asked(world: &mut World, name: &str) -> UserPresence {
    match world.answered(Query::Presence(vec![user(name)])) {
        Answer::Presence(mut presences) => presences.remove(0),
        _ => panic!("no presence"),
    }
}

#[test]
fn a_signed_out_device_is_offline_once_that_is_durable() {
    let mut world = World::new();
    let bob = world.bob_watches_alice();
    let here = world.login("alice", "here");
    world.saw(bob);
    world.auto_commit = false;
    world.ask(here, sign_out("here"));
    assert!(world.saw(bob).is_empty(), "not before it is durable");
    world.commit_all();
    assert_eq!(world.saw(bob), ["offline kicked"]);
    assert_eq!(world.closed.get(&here), Some(&Code::LOGGED_OUT));
    // Nothing of its end comes later.
    world.auto_commit = true;
    world.wait_alive(bob, 5_000);
    assert!(world.saw(bob).is_empty());
    // The relay knows it after a restart, too.
    let mut world = World::over(world.store.clone(), CoreConfig::default());
    let bob = world.login("bob", "b");
    world.wait_alive(bob, 30_000);
    assert_eq!(seen(&world.watch(bob, &["alice"])[0]), "offline kicked");
}

#[test]
fn of_a_signed_out_mini_program_it_is_known_that_it_is_gone() {
    let mut world = World::new();
    let bob = world.bob_watches_alice();
    let mini = login_as(&mut world, "alice", "mini", DeviceKind::Miniprogram);
    world.cut(mini);
    world.wait_alive(bob, 2_000);
    assert_eq!(world.saw(bob), ["online", "unknown no-channel"]);
    let out = Query::SignOut(user("alice"), DeviceId::new("mini").unwrap());
    assert!(matches!(world.answered(out), Answer::SignedOut));
    let presence = world.pushed(bob).pop().unwrap();
    assert!(presence.status() == PresenceStatus::Offline);
    // With another device there, nothing is told of it but in the list.
    login_as(&mut world, "alice", "mini-too", DeviceKind::Miniprogram);
    let web = world.login("alice", "web");
    assert_eq!(statuses(&mut world, web), ["mini-too online", "web online"]);
}

/// The simulated world's seed 1854: a watcher was told of a sign-out whose commit was under way.
#[test]
fn of_who_has_no_lease_a_sign_out_is_seen_once_it_is_durable() {
    let mut world = World::new();
    let bob = world.bob_watches_alice();
    let mini = login_as(&mut world, "alice", "mini", DeviceKind::Miniprogram);
    world.cut(mini);
    world.wait_alive(bob, 2_000);
    world.auto_commit = false;
    world.query(Query::SignOut(user("alice"), DeviceId::new("mini").unwrap()));
    assert_eq!(seen(&world.watch(bob, &["alice"])[0]), "unknown no-channel");
    // Also when another device comes and goes meanwhile.
    let web = world.login("alice", "web");
    world.frame(web, 0, bye(0, false));
    assert_eq!(seen(&world.watch(bob, &["alice"])[0]), "unknown no-channel");
    world.commit_all();
    assert_eq!(world.saw(bob).last().unwrap(), "offline closed");
    assert_eq!(seen(&world.watch(bob, &["alice"])[0]), "offline closed");
}

#[test]
fn a_superseded_device_makes_no_flap() {
    let devices_max = DevicesMax { web: 1, ..DevicesMax::default() };
    let mut world = World::with(CoreConfig { devices_max, ..CoreConfig::default() });
    let bob = world.bob_watches_alice();
    let first = world.login("alice", "one");
    let since = world.pushed(bob).pop().unwrap().since;
    world.wait_alive(bob, 3_000);
    let second = world.login("alice", "two");
    assert_eq!(world.closed.get(&first), Some(&Code::SUPERSEDED));
    // Who is told anything is told that she is online, since she was.
    for presence in world.pushed(bob) {
        assert_eq!((seen(&presence).as_str(), presence.since), ("online", since));
    }
    assert_eq!(asked(&mut world, "alice").presence.since, since);
    assert_eq!(statuses(&mut world, second), ["one offline", "two online"]);
}

#[test]
fn the_connections_that_a_hello_ends_leave_their_places() {
    let devices_max = DevicesMax { web: 1, ..DevicesMax::default() };
    let config = CoreConfig { devices_max, connections_per_user_max: 2, ..CoreConfig::default() };
    let mut world = World::with(config);
    login_as(&mut world, "alice", "p1", DeviceKind::Ios);
    let one = world.login("alice", "one");
    // Of the same device.
    let again = world.login("alice", "one");
    assert_eq!(world.closed.get(&one), Some(&Code::SUPERSEDED));
    // Of another one.
    let two = world.login("alice", "two");
    assert_eq!(world.closed.get(&again), Some(&Code::SUPERSEDED));
    // Both places are taken.
    let connection = world.open();
    let more = wire::Hello { tab: "1".into(), ..hello("alice", "two") };
    assert_eq!(world.refused(connection, Verb::Hello(more)), Code::TOO_MANY_CONNECTIONS);
    assert!(!world.closed.contains_key(&two));
}

#[test]
fn kicked_and_revoked_users_are_offline_at_once() {
    let mut world = World::new();
    let bob = world.bob_watches_alice();
    world.login("alice", "one");
    world.saw(bob);
    world.answered(Query::Kick(user("alice"), None));
    assert_eq!(world.saw(bob), ["offline kicked"]);
    world.login("alice", "one");
    world.answered(Query::RevokeTokens(user("alice")));
    assert_eq!(world.saw(bob), ["online", "offline kicked"]);
}

#[test]
fn the_list_tells_how_each_device_is_and_when_it_was_seen() {
    let mut world = World::new();
    let bob = world.bob_watches_alice();
    let (closed, begun) = (world.login("alice", "closed"), world.time());
    world.frame(closed, 0, bye(0, false));
    let leaving = world.login("alice", "leaving");
    let away = world.login("alice", "away");
    world.frame(away, 0, set_away(true));
    let mini = login_as(&mut world, "alice", "mini", DeviceKind::Miniprogram);
    world.cut(mini);
    login_as(&mut world, "alice", "official", DeviceKind::Official);
    let here = world.login("alice", "here");
    world.wait_alive(bob, 1_000);
    world.frame(leaving, 0, bye(4_000, false));
    assert_eq!(
        statuses(&mut world, here),
        ["away away", "closed offline", "here online", "leaving leaving", "mini unknown", "official unknown",]
    );
    let now = world.time();
    let devices = list(&mut world, here);
    assert_eq!(
        devices.iter().map(|it| it.device.as_str()).take(3).collect::<Vec<_>>(),
        ["here", "away", "leaving"]
    );
    let seen = |id: &str| devices.iter().find(|it| it.device == id).unwrap().seen;
    assert_eq!((seen("here"), seen("away"), seen("closed")), (now, now, begun));
    assert!((begun..now).contains(&seen("mini")));
    // After the relay's start nobody knows at first, then what the records say.
    world.pass(2_000);
    let now = world.now;
    let mut world = World::over(world.store.clone(), CoreConfig::default());
    world.now = now;
    let here = world.login("alice", "here");
    assert_eq!(
        statuses(&mut world, here),
        [
            "away unknown",
            "closed unknown",
            "here online",
            "leaving unknown",
            "mini unknown",
            "official unknown"
        ]
    );
    world.wait_alive(here, 30_000);
    assert_eq!(
        statuses(&mut world, here),
        [
            "away offline",
            "closed offline",
            "here online",
            "leaving offline",
            "mini unknown",
            "official unknown"
        ]
    );
}

#[test]
fn the_app_s_server_sees_who_is_invisible_and_that_she_is() {
    let mut world = World::new();
    let bob = world.bob_watches_alice();
    let alice = world.login("alice", "one");
    let before = asked(&mut world, "alice");
    assert!(before.presence.status() == PresenceStatus::Online && !before.invisible);
    world.call(alice, Verb::SetInvisible(wire::SetInvisible { invisible: true }));
    world.pass(500);
    assert_eq!(world.saw(bob).last().map(String::as_str), Some("offline closed"));
    let after = asked(&mut world, "alice");
    assert!(after.presence == before.presence && after.invisible);
    world.frame(alice, 0, bye(0, false));
    let gone = asked(&mut world, "alice");
    assert!(gone.presence.status() == PresenceStatus::Offline && gone.invisible);
    assert!(!asked(&mut world, "nobody").invisible);
}

#[test]
fn a_revocation_and_being_invisible_share_a_record() {
    let mut world = World::new();
    let alice = world.login("alice", "one");
    world.call(alice, Verb::SetInvisible(wire::SetInvisible { invisible: true }));
    world.auto_commit = false;
    // Two changes, each of which waits for its own commit.
    let asked_for = world.ask(alice, Verb::SetInvisible(wire::SetInvisible { invisible: false }));
    let revoked = world.query(Query::RevokeTokens(user("alice")));
    world.commit();
    assert!(matches!(world.answer(alice, asked_for), Some(Event::Invisible(it)) if !it.invisible));
    assert!(!world.answers.contains_key(&revoked) && !world.closed.contains_key(&alice));
    world.commit();
    assert!(matches!(world.answers.remove(&revoked), Some(Answer::TokensRevoked(_))));
    assert_eq!(world.closed.get(&alice), Some(&Code::TOKEN_REVOKED));
    let mut world = World::over(world.store.clone(), CoreConfig::default());
    assert!(!asked(&mut world, "alice").invisible);
    let connection = world.open();
    assert_eq!(world.refused(connection, Verb::Hello(hello("alice", "one"))), Code::TOKEN_REVOKED);
}
