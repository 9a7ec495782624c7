//! Sends, keys, streams and history over the core.

mod core_world;

use core_world::*;
use hongyan_protocol::Code;
use hongyan_protocol::wire::{self, client_frame::Verb, relay_frame::Event};

#[test]
fn a_message_reaches_both_users_and_all_their_devices() {
    let mut world = World::new();
    let (alice, tablet, bob) =
        (world.login("alice", "a1"), world.login("alice", "a2"), world.login("bob", "b1"));
    let conversation = direct("alice", "bob");
    let sent = world.send(alice, &conversation, "k1", "hi");
    assert_eq!((sent.seq, sent.key.as_str(), sent.conversation.as_str()), (1, "k1", conversation.as_str()));
    for connection in [alice, tablet, bob] {
        let entries = world.entries(connection);
        assert_eq!(entries.len(), 1);
        let message = message(&entries[0]).unwrap();
        assert_eq!((entries[0].pos, message.seq, message.from.as_str()), (1, 1, "alice"));
        assert_eq!((message.key.as_str(), message.time, text(message).as_str()), ("k1", sent.time, "hi"));
    }
    // Who comes later gets the same from the store.
    let phone = world.login("bob", "b2");
    assert_eq!(world.texts(phone), ["hi"]);
}

#[test]
fn nothing_is_told_before_it_is_durable() {
    let mut world = World::new();
    let (alice, bob) = (world.login("alice", "a"), world.login("bob", "b"));
    world.pass(2_000);
    world.auto_commit = false;
    let conversation = direct("alice", "bob");
    let first = world.ask(alice, send(&conversation, "k1", "one"));
    let second = world.ask(alice, send(&conversation, "k2", "two"));
    // The same key while it is in flight waits for the same commit.
    let again = world.ask(alice, send(&conversation, "k1", "one"));
    // Readers are not told either, even if the engine already shows it.
    let (_, batch) = world.pending.front().unwrap().clone();
    hongyan_relay::store::Store::commit(&world.store, &batch).unwrap();
    let Event::HistoryPage(page) = world.call(bob, history(&conversation, 0, 0, 0)) else { panic!() };
    assert_eq!((page.messages.len(), page.last_seq), (0, 0));
    let late = world.login("bob", "b2");
    assert!(world.entries(late).is_empty() && world.entries(bob).is_empty());
    assert!(world.answer(alice, first).is_none() && world.answer(alice, again).is_none());
    assert_eq!(world.relay.counters().waiting, 3);

    world.commit();
    assert_eq!(world.texts(bob), ["one"]);
    assert_eq!(world.texts(late), ["one"]);
    let Some(Event::Sent(one)) = world.answer(alice, first) else { panic!() };
    let Some(Event::Sent(same)) = world.answer(alice, again) else { panic!() };
    assert!(one == same);
    assert!(world.answer(alice, second).is_none());
    world.commit_all();
    let Some(Event::Sent(two)) = world.answer(alice, second) else { panic!() };
    assert_eq!(two.seq, 2);
    assert_eq!(world.relay.counters().waiting, 0);
}

#[test]
fn a_key_is_answered_with_the_first_result() {
    let mut world = World::new();
    let (alice, bob) = (world.login("alice", "a"), world.login("bob", "b"));
    let first = world.send(alice, &direct("alice", "bob"), "k", "one");
    world.pass(5_000);
    assert!(world.send(alice, &direct("alice", "bob"), "k", "changed") == first);
    assert!(world.send(alice, &direct("alice", "carol"), "k", "elsewhere") == first);
    assert_eq!(world.texts(bob), ["one"]);
    // Another sender's same key is another one.
    assert_eq!(world.send(bob, &direct("alice", "bob"), "k", "two").seq, 2);
}

#[test]
fn history_goes_both_ways() {
    let mut world = World::new();
    let alice = world.login("alice", "a");
    let conversation = direct("alice", "bob");
    for n in 1..=120 {
        world.send(alice, &conversation, &format!("k{n}"), &n.to_string());
    }
    let mut page =
        |before, after, limit| match world.call(alice, history(&conversation, before, after, limit)) {
            Event::HistoryPage(page) => {
                assert_eq!(page.last_seq, 120);
                page.messages.iter().map(|message| message.seq).collect::<Vec<_>>()
            }
            event => panic!("{}", name(&event)),
        };
    assert_eq!(page(0, 0, 0), (71..=120).collect::<Vec<_>>());
    assert_eq!(page(71, 0, 30), (41..=70).collect::<Vec<_>>());
    assert_eq!(page(0, 110, 100), (111..=120).collect::<Vec<_>>());
    assert_eq!(page(0, 5, 3), [6, 7, 8]);
    assert_eq!(page(0, 0, 4_000_000_000).len(), 100);
    assert_eq!(page(1, 0, 9), [0u64; 0]);
    assert_eq!(page(0, 120, 9), [0u64; 0]);
    assert_eq!(page(u64::MAX, 0, 1), [120]);
    assert_eq!(page(0, u64::MAX, 1), [0u64; 0]);
    assert_eq!(world.refused(alice, history(&conversation, 1, 1, 0)), Code::BAD_REQUEST);
    assert_eq!(world.refused(alice, history(&direct("bob", "carol"), 0, 0, 0)), Code::NOT_A_MEMBER);
    assert_eq!(world.refused(alice, history("gnone", 0, 0, 0)), Code::NOT_A_MEMBER);
    let Event::HistoryPage(empty) = world.call(alice, history(&direct("alice", "dora"), 0, 0, 0)) else {
        panic!()
    };
    assert_eq!((empty.messages.len(), empty.last_seq), (0, 0));
}

#[test]
fn notes_to_oneself_are_told_once() {
    let mut world = World::new();
    let alice = world.login("alice", "a");
    world.send(alice, &direct("alice", "alice"), "k", "remember");
    assert_eq!(world.texts(alice), ["remember"]);
}

#[test]
fn bad_sends_get_their_code() {
    let mut world = World::new();
    let alice = world.login("alice", "a");
    let conversation = direct("alice", "bob");
    let good = wire::Send { conversation, key: "k".into(), content: content("x"), ..Default::default() };
    let mut refused = |change: &dyn Fn(&mut wire::Send)| {
        let mut body = good.clone();
        change(&mut body);
        world.refused(alice, Verb::Send(body))
    };
    assert_eq!(refused(&|send| send.key = String::new()), Code::BAD_REQUEST);
    assert_eq!(refused(&|send| send.key = "x".repeat(129)), Code::BAD_REQUEST);
    assert_eq!(refused(&|send| send.conversation = "a\0b".into()), Code::BAD_REQUEST);
    assert_eq!(refused(&|send| send.conversation = direct("bob", "carol")), Code::NOT_A_MEMBER);
    assert_eq!(refused(&|send| send.conversation = "~3.bob.alice".into()), Code::NOT_A_MEMBER);
    assert_eq!(refused(&|send| send.conversation = "gone".into()), Code::NOT_A_MEMBER);
    assert_eq!(refused(&|send| send.content = content(&"x".repeat(65_536))), Code::CONTENT_TOO_LARGE);
    assert_eq!(refused(&|send| send.content = vec![0x0a, 0xff].into()), Code::BAD_REQUEST);
    assert_eq!(refused(&|send| send.reply_to = 1), Code::BAD_REQUEST);
    assert_eq!(refused(&|send| send.mentions = vec!["u".into(); 65]), Code::BAD_REQUEST);
    assert_eq!(refused(&|send| send.mentions = vec![String::new()]), Code::BAD_REQUEST);
    assert!(world.closed.is_empty() && world.relay.counters().sends == 0);
    // None of that used up the key.
    assert!(matches!(world.call(alice, Verb::Send(good)), Event::Sent(_)));
}
