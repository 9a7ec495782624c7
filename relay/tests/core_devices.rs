//! Devices, sign-outs, the policy per kind, revoked tokens, kicks, and the queries of the app's server over the core.

#![allow(clippy::unwrap_used)] // The helpers are outside of test functions.

mod core_world;

use core_world::*;
use hongyan_protocol::limits::{DEVICES_MAX, WATCH_USERS_MAX};
use hongyan_protocol::wire::{self, DeviceKind, PresenceStatus, client_frame::Verb, relay_frame::Event};
use hongyan_protocol::{Class, Code, DeviceId, Time};
use hongyan_relay::core::queries::{Answer, Query};
use hongyan_relay::core::{ConnectionId, CoreConfig, DevicesMax, Input};
use hongyan_relay::store::{Batch, Store, Table};

fn device(id: &str) -> DeviceId {
    DeviceId::new(id).unwrap()
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

fn ids(devices: &[wire::Device]) -> Vec<&str> {
    devices.iter().map(|device| device.device.as_str()).collect()
}

fn login_as(world: &mut World, user: &str, device: &str, kind: DeviceKind) -> ConnectionId {
    let connection = world.open();
    let hello = wire::Hello { device_kind: kind.into(), ..hello(user, device) };
    let event = world.call(connection, Verb::Hello(hello));
    assert!(matches!(event, Event::Welcome(_)), "welcome, not {}", name(&event));
    connection
}

/// A hello that is refused: with a reject, and a close of the same code.
#[track_caller]
fn hello_refused(world: &mut World, hello: wire::Hello) -> Code {
    let connection = world.open();
    let code = world.refused(connection, Verb::Hello(hello));
    assert_eq!(world.closed.get(&connection), Some(&code));
    code
}

fn issued(user: &str, device: &str, at: u64) -> wire::Hello {
    let token = format!("{}@{at}", token(user, 1 << 40));
    wire::Hello { token, ..hello(user, device) }
}

#[test]
fn a_crowd_s_devices_are_written_in_portions() {
    let mut world = World::new();
    for n in 0..300 {
        login_as(&mut world, &format!("user-{n}"), "phone", DeviceKind::Android);
    }
    let crowd = login_as(&mut world, "many", "0", DeviceKind::Android);
    for n in 1..40 {
        login_as(&mut world, "many", &n.to_string(), DeviceKind::Android);
    }
    world.auto_commit = false;
    world.pass(1_000);
    let (mut written, mut commits) = (0, 0);
    while let Some((_, batch)) = world.pending.front() {
        let devices = batch.changes.iter().filter(|(table, ..)| *table == Table::Devices).count();
        assert!(devices < 64 + 40, "{devices} in one commit");
        written += devices;
        commits += 1;
        if commits == 2 {
            // Behind those whose turn is, and past the time that was set for them.
            login_as(&mut world, "a", "phone", DeviceKind::Android);
            world.pass(1_000);
        }
        world.commit();
    }
    assert_eq!(written, 340);
    assert!((4..=6).contains(&commits), "{commits}");
    world.pass(1_000);
    let (_, batch) = world.pending.front().expect("who came meanwhile is written then");
    assert_eq!(batch.changes.len(), 1, "and each other was written once");
    world.commit();
    assert_eq!(list(&mut world, crowd).len(), 40);
}

#[test]
fn one_s_devices_are_listed_with_what_they_said() {
    let mut world = World::new();
    let phone = login_as(&mut world, "alice", "phone", DeviceKind::Android);
    world.pass(1_000);
    world.input(Input::Closed(phone));
    world.pass(1_000);
    login_as(&mut world, "bob", "not-hers", DeviceKind::Web);
    let tab = world.login_tab("alice", "browser", "1");
    world.login_tab("alice", "browser", "2");
    // Also what is not in the store yet, each device once, the connected ones first.
    let devices = list(&mut world, tab);
    assert_eq!(ids(&devices), ["browser", "phone"]);
    assert!(devices[0].status() == PresenceStatus::Online && devices[0].kind() == DeviceKind::Web);
    assert!(devices[1].status() == PresenceStatus::Offline && devices[1].kind() == DeviceKind::Android);
    assert!(devices.iter().all(|device| device.agent == "test"));
    // A device that logs out is none any more.
    world.frame(tab, 0, Verb::Bye(wire::Bye { logout: true, ..Default::default() }));
    let other = world.login("alice", "other");
    assert_eq!(ids(&list(&mut world, other)), ["other", "phone"]);
}

#[test]
fn a_long_list_is_cut() {
    let mut world = World::new();
    let mut batch = Batch::default();
    for n in 0..3_000 {
        batch.put(Table::Devices, format!("alice\0d{n:04}\0").into_bytes(), vec![0x10, 1]);
    }
    world.store.commit(&batch).unwrap();
    let connection = world.login("alice", "zebra");
    let devices = list(&mut world, connection);
    assert_eq!(devices.len(), DEVICES_MAX);
    assert_eq!(devices[0].device, "zebra", "who is connected is not cut");
}

#[test]
fn a_device_is_signed_out_for_good_once_that_is_durable() {
    let mut world = World::new();
    let here = world.login("alice", "here");
    let (lost, lost_too) = (world.login_tab("alice", "lost", "1"), world.login_tab("alice", "lost", "2"));
    let of_bob = world.login("bob", "lost");
    world.pass(1_000);
    world.auto_commit = false;
    let asked = world.ask(here, sign_out("lost"));
    let again = world.ask(here, sign_out("lost"));
    let listed = world.ask(here, Verb::Devices(wire::Devices {}));
    // It may come anew meanwhile, and say things that are written later.
    let late = world.login_tab("alice", "lost", "3");
    world.frame(late, 0, Verb::Ack(wire::Ack { cursor: 0 }));
    for connection in [lost, lost_too, late] {
        assert!(!world.closed.contains_key(&connection), "not before it is durable");
    }
    assert!(world.answer(here, asked).is_none() && world.answer(here, listed).is_none());
    world.commit_all();
    for connection in [lost, lost_too, late] {
        assert_eq!(world.closed.get(&connection), Some(&Code::LOGGED_OUT));
    }
    for request in [asked, again] {
        assert!(matches!(world.answer(here, request), Some(Event::SignedOut(it)) if it.device == "lost"));
    }
    let Some(Event::DeviceList(devices)) = world.answer(here, listed) else { panic!("no list") };
    assert_eq!(ids(&devices.devices), ["here"]);
    assert!(!world.closed.contains_key(&of_bob));

    world.auto_commit = true;
    world.pass(2_000);
    assert_eq!(hello_refused(&mut world, hello("alice", "lost")), Code::LOGGED_OUT);
    assert_eq!(Code::LOGGED_OUT.class(), Class::Stop);
    // Also after a restart; another user's device of the same name is another device.
    let mut world = World::over(world.store.clone(), CoreConfig::default());
    assert_eq!(hello_refused(&mut world, hello("alice", "lost")), Code::LOGGED_OUT);
    let here = world.login("alice", "here");
    world.login("bob", "lost");
    assert!(matches!(world.call(here, sign_out("lost")), Event::SignedOut(_)), "again is no error");
    world.login("alice", "a-new-one");
}

#[test]
fn a_sign_out_that_is_not_committed_was_none() {
    let mut world = World::new();
    let (here, other) = (world.login("alice", "here"), world.login("alice", "other"));
    world.auto_commit = false;
    let asked = world.ask(here, sign_out("other"));
    world.fail_commit();
    let Some(Event::Reject(reject)) = world.answer(here, asked) else { panic!("answered") };
    assert_eq!(reject.code, u32::from(Code::STORAGE_FAILED.0));
    assert_ne!(world.closed.get(&other), Some(&Code::LOGGED_OUT));
    let mut world = World::over(world.store.clone(), CoreConfig::default());
    world.login("alice", "other");
}

#[test]
fn only_a_device_that_there_is_can_be_signed_out() {
    let mut world = World::new();
    let here = world.login("alice", "here");
    world.login("bob", "bobs");
    for unknown in ["", "nowhere", "bobs", "a\nb"] {
        assert_eq!(world.refused(here, sign_out(unknown)), Code::BAD_REQUEST, "{unknown:?}");
    }
    // Oneself: the answer comes, then the end.
    assert!(matches!(world.call(here, sign_out("here")), Event::SignedOut(_)));
    assert_eq!(world.closed.get(&here), Some(&Code::LOGGED_OUT));
    assert_eq!(hello_refused(&mut world, hello("alice", "here")), Code::LOGGED_OUT);
}

#[test]
fn a_goodbye_does_not_undo_a_sign_out() {
    let mut world = World::new();
    let (here, other) = (world.login("alice", "here"), world.login("alice", "other"));
    world.auto_commit = false;
    world.ask(here, sign_out("other"));
    world.frame(other, 0, Verb::Bye(wire::Bye { logout: true, ..Default::default() }));
    world.commit_all();
    assert!(world.closed.contains_key(&other));
    assert_eq!(hello_refused(&mut world, hello("alice", "other")), Code::LOGGED_OUT);
}

#[test]
fn a_sign_out_is_forgotten_after_a_long_time() {
    let mut world = World::new();
    let (here, _old) = (world.login("alice", "here"), world.login("alice", "old"));
    world.call(here, sign_out("old"));
    let day = 24 * 3_600_000;
    world.input(Input::Closed(here));
    world.pass(89 * day);
    let connection = world.open();
    let fresh =
        |world: &World| wire::Hello { token: token("alice", world.now + day), ..hello("alice", "here") };
    let body = fresh(&world);
    world.call(connection, Verb::Hello(body));
    list(&mut world, connection);
    assert!(world.store.get(Table::Devices, b"alice\0old\0").unwrap().is_some());
    world.input(Input::Closed(connection));
    world.pass(day);
    let connection = world.open();
    let body = fresh(&world);
    world.call(connection, Verb::Hello(body));
    assert_eq!(ids(&list(&mut world, connection)), ["here"]);
    assert!(world.store.get(Table::Devices, b"alice\0old\0").unwrap().is_none());
}

#[test]
fn of_a_kind_so_many_may_be_connected_and_the_longest_goes() {
    let devices_max = DevicesMax { web: 1, android: 2, ..Default::default() };
    let mut world = World::with(CoreConfig { devices_max, ..Default::default() });
    let first = login_as(&mut world, "alice", "w1", DeviceKind::Web);
    let phone = login_as(&mut world, "alice", "p1", DeviceKind::Android);
    let of_bob = login_as(&mut world, "bob", "w9", DeviceKind::Web);
    // Another tab of the same device is the same device.
    let tab = world.login_tab("alice", "w1", "2");
    assert!(world.closed.is_empty());
    let second = login_as(&mut world, "alice", "w2", DeviceKind::Web);
    for connection in [first, tab] {
        assert_eq!(world.closed.get(&connection), Some(&Code::SUPERSEDED));
    }
    assert_eq!(Code::SUPERSEDED.class(), Class::Stop, "so it does not come back by itself");
    for connection in [phone, of_bob, second] {
        assert!(!world.closed.contains_key(&connection));
    }
    // When its user asks for it, it comes back, and takes the other's place.
    login_as(&mut world, "alice", "w1", DeviceKind::Web);
    assert_eq!(world.closed.get(&second), Some(&Code::SUPERSEDED));

    let phone_two = login_as(&mut world, "alice", "p2", DeviceKind::Android);
    world.pass(1);
    // The first one's second connection does not make it younger.
    world.greet("alice", "p1", |hello| {
        (hello.device_kind, hello.tab) = (DeviceKind::Android.into(), "2".into());
    });
    assert!(!world.closed.contains_key(&phone_two));
    let phone_three = login_as(&mut world, "alice", "p3", DeviceKind::Android);
    assert_eq!(world.closed.get(&phone), Some(&Code::SUPERSEDED));
    assert!(!world.closed.contains_key(&phone_two) && !world.closed.contains_key(&phone_three));
    // Kinds without a bound have none.
    let servers: Vec<_> =
        (0..10).map(|n| login_as(&mut world, "alice", &format!("s{n}"), DeviceKind::Server)).collect();
    assert!(servers.iter().all(|server| !world.closed.contains_key(server)));
}

#[test]
fn who_is_superseded_leaves_a_place() {
    let devices_max = DevicesMax { web: 1, ..Default::default() };
    let config = CoreConfig { devices_max, connections_per_user_max: 2, ..Default::default() };
    let mut world = World::with(config);
    let web = login_as(&mut world, "alice", "w1", DeviceKind::Web);
    let phone = login_as(&mut world, "alice", "p1", DeviceKind::Ios);
    let refused = wire::Hello { device_kind: DeviceKind::Ios.into(), ..hello("alice", "p2") };
    assert_eq!(hello_refused(&mut world, refused), Code::TOO_MANY_CONNECTIONS);
    let bad = wire::Hello { token: "forged".into(), ..hello("alice", "w2") };
    assert_eq!(hello_refused(&mut world, bad), Code::TOKEN_INVALID);
    assert!(!world.closed.contains_key(&web), "who is refused supersedes nobody");
    login_as(&mut world, "alice", "w2", DeviceKind::Web);
    assert_eq!(world.closed.get(&web), Some(&Code::SUPERSEDED));
    assert!(!world.closed.contains_key(&phone));
}

#[test]
fn revoked_tokens_open_nothing_and_end_what_they_opened() {
    let mut world = World::new();
    let begun = world.time();
    let old = world.open();
    world.call(old, Verb::Hello(issued("alice", "old", begun)));
    let without = world.login("alice", "without");
    let renewed = world.login("alice", "renewed");
    let of_bob = world.login("bob", "bobs");
    world.pass(5_000);
    let at = world.time();
    // This one's token is of later than the revocation, by a back end whose clock is a little ahead.
    let token_of = |at: u64| issued("alice", "", at).token;
    world.call(renewed, Verb::Renew(wire::Renew { token: token_of(at + 1) }));

    world.auto_commit = false;
    let id = world.query(Query::RevokeTokens(user("alice")));
    let late = world.open();
    assert!(matches!(world.call(late, Verb::Hello(issued("alice", "late", at))), Event::Welcome(_)));
    assert!(world.answers.is_empty() && world.closed.is_empty(), "nothing before it is durable");
    world.commit_all();
    world.auto_commit = true;
    assert!(matches!(world.answers.remove(&id), Some(Answer::TokensRevoked(Time(time))) if time == at));
    for connection in [old, without, late] {
        assert_eq!(world.closed.get(&connection), Some(&Code::TOKEN_REVOKED));
    }
    assert_eq!(Code::TOKEN_REVOKED.class(), Class::Stop);
    for connection in [renewed, of_bob] {
        assert!(!world.closed.contains_key(&connection));
    }

    let mut world = World::over(world.store.clone(), CoreConfig::default());
    assert_eq!(hello_refused(&mut world, hello("alice", "without")), Code::TOKEN_REVOKED);
    assert_eq!(hello_refused(&mut world, issued("alice", "old", at)), Code::TOKEN_REVOKED);
    // Another user's token is told to be that, whatever its age.
    let foreign = wire::Hello { user: "alice".into(), ..issued("bob", "old", at) };
    assert_eq!(hello_refused(&mut world, foreign), Code::TOKEN_USER_MISMATCH);
    let new = world.open();
    assert!(matches!(world.call(new, Verb::Hello(issued("alice", "old", at + 1))), Event::Welcome(_)));
    world.login("bob", "bobs");
    // A renewal with a revoked token ends the connection, as a hello does.
    assert_eq!(world.refused(new, Verb::Renew(wire::Renew { token: token_of(at) })), Code::TOKEN_REVOKED);
    assert_eq!(world.closed.get(&new), Some(&Code::TOKEN_REVOKED));
}

#[test]
fn a_revocation_never_moves_back() {
    let mut world = World::new();
    world.pass(10_000);
    let Answer::TokensRevoked(first) = world.answered(Query::RevokeTokens(user("alice"))) else { panic!() };
    world.now -= 9_000;
    let Answer::TokensRevoked(second) = world.answered(Query::RevokeTokens(user("alice"))) else { panic!() };
    assert_eq!(first, second);
}

#[test]
fn a_kick_ends_what_is_open_and_no_more() {
    let mut world = World::new();
    let (one, tab) = (world.login_tab("alice", "one", "1"), world.login_tab("alice", "one", "2"));
    let two = world.login("alice", "two");
    let of_bob = world.login("bob", "one");
    let kicked = |world: &mut World, of: Option<&str>| match world
        .answered(Query::Kick(user("alice"), of.map(device)))
    {
        Answer::Kicked(count) => count,
        _ => panic!("no kick"),
    };
    assert_eq!(kicked(&mut world, Some("nowhere")), 0);
    assert_eq!(kicked(&mut world, Some("one")), 2);
    for connection in [one, tab] {
        assert_eq!(world.closed.get(&connection), Some(&Code::KICKED));
    }
    assert!(!world.closed.contains_key(&two));
    let one = world.login("alice", "one");
    assert_eq!(kicked(&mut world, None), 2);
    for connection in [one, two] {
        assert_eq!(world.closed.get(&connection), Some(&Code::KICKED));
    }
    assert_eq!(Code::KICKED.class(), Class::Stop);
    assert!(!world.closed.contains_key(&of_bob));
    world.login("alice", "one");
    assert!(matches!(world.answered(Query::Kick(user("nobody"), None)), Answer::Kicked(0)));
}

#[test]
fn the_app_s_server_asks_what_users_ask() {
    let mut world = World::new();
    // Until a moment after the relay's start nobody knows of who is not there.
    world.input(Input::Tick);
    world.pass(30_000);
    let since = world.time();
    let one = world.login("alice", "one");
    world.pass(500);
    login_as(&mut world, "alice", "two", DeviceKind::Ios);
    let users = vec![user("bob"), user("alice")];
    let Answer::Presence(presences) = world.answered(Query::Presence(users)) else { panic!() };
    assert_eq!(presences.iter().map(|it| it.presence.user.as_str()).collect::<Vec<_>>(), ["bob", "alice"]);
    let [of_bob, of_alice] = [0, 1].map(|at| &presences[at].presence);
    assert!(of_bob.status() == PresenceStatus::Offline && of_bob.devices.is_empty());
    assert!(of_alice.status() == PresenceStatus::Online && of_alice.since == since);
    assert_eq!(of_alice.devices.len(), 2);
    assert!(presences.iter().all(|it| !it.invisible));
    let many = vec![user("alice"); WATCH_USERS_MAX + 1];
    assert!(matches!(world.answered(Query::Presence(many)), Answer::Refused(Code::BAD_REQUEST)));

    let Answer::Devices(devices) = world.answered(Query::Devices(user("alice"))) else { panic!() };
    assert!(devices == list(&mut world, one));
    assert!(matches!(world.answered(Query::Devices(user("nobody"))), Answer::Devices(it) if it.is_empty()));

    let out = |id| Query::SignOut(user("alice"), device(id));
    assert!(matches!(world.answered(out("nowhere")), Answer::NoSuchDevice));
    world.auto_commit = false;
    let first = world.query(out("one"));
    let listed = world.query(Query::Devices(user("alice")));
    assert!(world.answers.is_empty(), "not before it is durable");
    world.commit_all();
    assert!(matches!(world.answers.remove(&first), Some(Answer::SignedOut)));
    assert!(matches!(world.answers.remove(&listed), Some(Answer::Devices(it)) if ids(&it) == ["two"]));
    assert_eq!(world.closed.get(&one), Some(&Code::LOGGED_OUT));
    assert!(matches!(world.answered(out("one")), Answer::SignedOut), "again is no error");
}

#[test]
fn every_query_is_answered_also_when_the_relay_ends() {
    let mut world = World::new();
    world.login("alice", "one");
    world.pass(1_000);
    world.auto_commit = false;
    let waiting = world.query(Query::RevokeTokens(user("alice")));
    world.input(Input::Drain { spread_ms: 0 });
    assert!(matches!(world.answered(Query::RevokeTokens(user("bob"))), Answer::Refused(Code::GOING_AWAY)));
    world.fail_commit();
    assert!(matches!(world.answers.remove(&waiting), Some(Answer::Refused(Code::STORAGE_FAILED))));
    for query in [
        Query::Presence(vec![user("alice")]),
        Query::Devices(user("alice")),
        Query::SignOut(user("alice"), device("one")),
        Query::Kick(user("alice"), None),
        Query::RevokeTokens(user("alice")),
    ] {
        assert!(matches!(world.answered(query), Answer::Refused(Code::STORAGE_FAILED)));
    }
}
