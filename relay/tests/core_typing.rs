//! Somebody types.

#![allow(clippy::unwrap_used)] // The helpers are outside of test functions.

mod core_world;

use core_world::*;
use hongyan_protocol::Code;
use hongyan_protocol::wire::{self, client_frame::Verb, relay_frame::Event};
use hongyan_relay::core::{ConnectionId, CoreConfig};

fn typing(conversation: &str) -> Verb {
    Verb::Typing(wire::Typing { conversation: conversation.into() })
}

/// Who is told to type, of what came to a connection.
fn typed(world: &mut World, connection: ConnectionId) -> Vec<(String, String, u32)> {
    let typed = |event| match event {
        Event::Typed(typed) => Some((typed.conversation, typed.user, typed.expires_in_ms)),
        _ => None,
    };
    world.take(connection).into_iter().filter_map(typed).collect()
}

#[test]
fn the_other_members_are_told_and_nobody_else() {
    let mut world = World::new();
    let (alice, tablet) = (world.login("alice", "a"), world.login("alice", "t"));
    let (bob, carol) = (world.login("bob", "b"), world.login("carol", "c"));
    let phone = world.login("bob", "p");
    let conversation = direct("alice", "bob");
    let commits = world.relay.counters().commits;
    world.ask(alice, typing(&conversation));
    for connection in [bob, phone] {
        assert_eq!(typed(&mut world, connection), [(conversation.clone(), "alice".into(), 5_000)]);
    }
    for connection in [alice, tablet, carol] {
        assert_eq!(typed(&mut world, connection), []);
    }
    assert_eq!(world.relay.counters().commits, commits, "it is never stored");
    for conversation in [direct("alice", "bob"), "g-that-is-none".into()] {
        assert_eq!(world.refused(carol, typing(&conversation)), Code::NOT_A_MEMBER);
    }
    let group = world.group(alice, "g", &["bob", "carol"]);
    world.call(carol, Verb::LeaveGroup(wire::LeaveGroup { conversation: group.clone() }));
    world.pass(2_000);
    world.ask(alice, typing(&group));
    assert_eq!(typed(&mut world, bob).len(), 1);
    assert_eq!(typed(&mut world, carol), []);
    assert_eq!(world.refused(carol, typing(&group)), Code::NOT_A_MEMBER);
    // Who is being added is no member before it is durable.
    world.auto_commit = false;
    let add = wire::AddMembers { conversation: group.clone(), users: vec!["carol".into()] };
    world.ask(alice, Verb::AddMembers(add));
    world.pass(1_000);
    world.ask(alice, typing(&group));
    assert_eq!(typed(&mut world, carol), []);
    assert_eq!(world.refused(carol, typing(&group)), Code::NOT_A_MEMBER);
}

#[test]
fn more_than_a_few_times_a_second_is_not_told() {
    let mut world = World::with(CoreConfig { requests_burst: 1_000, ..Default::default() });
    let (alice, bob) = (world.login("alice", "a"), world.login("bob", "b"));
    let carol = world.login("carol", "c");
    for n in 0..100 {
        world.ask(alice, typing(&direct("alice", if n % 2 == 0 { "bob" } else { "carol" })));
        world.pass(100);
    }
    let told = typed(&mut world, bob).len() + typed(&mut world, carol).len();
    assert!((18..=25).contains(&told), "{told} in ten seconds");
    assert!(!world.closed.contains_key(&alice));
}

#[test]
fn a_big_group_is_not_told_nor_is_anybody_of_one_who_is_invisible() {
    let mut world = World::new();
    let (alice, bob) = (world.login("alice", "a"), world.login("bob", "b"));
    let others: Vec<_> = (0..198).map(|n| format!("u{n}")).collect();
    let mut members: Vec<_> = others.iter().map(String::as_str).collect();
    members.push("bob");
    let group = world.group(alice, "g", &members);
    world.ask(alice, typing(&group));
    assert_eq!(typed(&mut world, bob).len(), 1);
    let add = wire::AddMembers { conversation: group.clone(), users: vec!["one-more".into()] };
    world.call(alice, Verb::AddMembers(add));
    world.pass(1_000);
    world.ask(alice, typing(&group));
    assert_eq!(typed(&mut world, bob), []);
    world.call(alice, Verb::SetInvisible(wire::SetInvisible { invisible: true }));
    world.ask(alice, typing(&direct("alice", "bob")));
    assert_eq!(typed(&mut world, bob), []);
}
