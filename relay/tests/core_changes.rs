//! Changes of messages: who may, what becomes of the message, and who is told.

#![allow(clippy::unwrap_used)] // The helpers are outside of test functions.

mod core_world;

use core_world::*;
use hongyan_protocol::limits::{CHANGE_PAGE_MAX, REACTIONS_MAX};
use hongyan_protocol::wire::{self, client_frame::Verb, entry::Change, relay_frame::Event};
use hongyan_protocol::{Code, ConversationId};
use hongyan_relay::core::limits::CHANGES_SINCE_LEFT_MAX;
use hongyan_relay::core::queries::{Answer, Query};
use hongyan_relay::core::queue::Diffusion;
use hongyan_relay::core::{ConnectionId, CoreConfig};

/// A message in words: `text`, `text*` once it was edited, `-` when it was recalled, and then its reactions.
fn words(message: &wire::Message) -> String {
    let mut words = if message.recalled > 0 { "-".to_owned() } else { text(message) };
    if message.recalled > 0 {
        assert!(message.content.is_empty() && message.mentions.is_empty() && message.reactions.is_empty());
    } else if message.edited > 0 {
        words.push('*');
    }
    for reaction in &message.reactions {
        assert!(!reaction.users.is_empty());
        words.push_str(&format!(" {}:{}", reaction.reaction, reaction.users.join("+")));
    }
    words
}

fn told(change: &wire::MessageChange) -> String {
    let message = change.message.as_ref().unwrap();
    format!("#{} {} {}", change.number, change.by, words(message))
}

/// What came: messages by the queue, `>` by the log; changes as `#number who message`, by the log with `>` before.
fn heard(world: &mut World, connection: ConnectionId) -> Vec<String> {
    let mut heard = Vec::new();
    for event in world.take(connection) {
        match event {
            Event::Batch(batch) => {
                for entry in batch.entries {
                    match entry.change {
                        Some(Change::Message(message)) => heard.push(words(&message)),
                        Some(Change::MessageChange(change)) => heard.push(told(&change)),
                        _ => {}
                    }
                }
            }
            Event::LogMessages(news) => {
                heard.extend(news.messages.iter().map(|message| format!(">{}", words(message))));
            }
            Event::LogChanges(news) => {
                heard.extend(news.changes.iter().map(|change| format!(">{}", told(change))));
            }
            Event::LogHeads(heads) => {
                heard.extend(heads.heads.iter().map(|head| format!("={}/{}", head.last_seq, head.changes)));
            }
            _ => {}
        }
    }
    heard
}

/// Makes a change, and gives the message that was answered.
fn changed(world: &mut World, connection: ConnectionId, verb: Verb) -> String {
    match world.call(connection, verb) {
        Event::MessageChanged(done) => words(&done.message.unwrap()),
        event => panic!("not changed but {}", name(&event)),
    }
}

fn log(world: &mut World, connection: ConnectionId, conversation: &str) -> Vec<String> {
    match world.call(connection, history(conversation, 0, 0, 0)) {
        Event::HistoryPage(page) => page.messages.iter().map(words).collect(),
        event => panic!("no page but {}", name(&event)),
    }
}

#[test]
fn a_change_reaches_all_devices_of_both_and_the_log_has_what_is_now() {
    let mut world = World::new();
    let [alice, tablet, bob] =
        [("alice", "a1"), ("alice", "a2"), ("bob", "b")].map(|(user, device)| world.login(user, device));
    let chat = direct("alice", "bob");
    for (key, text) in [("1", "one"), ("2", "two"), ("3", "three")] {
        world.send(alice, &chat, key, text);
    }
    for connection in [alice, tablet, bob] {
        assert_eq!(heard(&mut world, connection), ["one", "two", "three"]);
    }
    assert_eq!(changed(&mut world, alice, edit(&chat, 1, "e", "uno")), "uno*");
    assert_eq!(changed(&mut world, bob, react(&chat, 1, "r", "👍")), "uno* 👍:bob");
    assert_eq!(changed(&mut world, alice, react(&chat, 1, "r", "👍")), "uno* 👍:bob+alice");
    assert_eq!(changed(&mut world, bob, unreact(&chat, 1, "u", "👍")), "uno* 👍:alice");
    assert_eq!(changed(&mut world, alice, recall(&chat, 2, "c")), "-");
    let all = [
        "#1 alice uno*",
        "#2 bob uno* 👍:bob",
        "#3 alice uno* 👍:bob+alice",
        "#4 bob uno* 👍:alice",
        "#5 alice -",
    ];
    for connection in [alice, tablet, bob] {
        assert_eq!(heard(&mut world, connection), all);
    }
    assert_eq!(log(&mut world, bob, &chat), ["uno* 👍:alice", "-", "three"]);

    // Who comes later is told of each, with the message as it is by now, and never of what was recalled.
    let phone = world.login("bob", "b2");
    let now = "uno* 👍:alice";
    let late: Vec<String> = [now, "-", "three"]
        .map(String::from)
        .into_iter()
        .chain((1..=4).map(|number| format!("#{number} {} {now}", ["alice", "bob"][1 - number % 2])))
        .chain(["#5 alice -".into()])
        .collect();
    assert_eq!(heard(&mut world, phone), late);
}

#[test]
fn a_repeated_change_is_answered_and_made_once() {
    let mut world = World::new();
    let (alice, bob) = (world.login("alice", "a"), world.login("bob", "b"));
    let chat = direct("alice", "bob");
    world.send(alice, &chat, "1", "one");
    world.auto_commit = false;
    let first = world.ask(bob, react(&chat, 1, "r", "+"));
    let again = world.ask(bob, react(&chat, 1, "r", "+"));
    // What changes nothing waits for what made it so.
    let nothing = world.ask(bob, react(&chat, 1, "other", "+"));
    assert!(world.answer(bob, first).is_none() && world.answer(bob, nothing).is_none());
    world.commit_all();
    world.auto_commit = true;
    for request in [first, again, nothing] {
        let Some(Event::MessageChanged(done)) = world.answer(bob, request) else { panic!("not answered") };
        assert_eq!(words(&done.message.unwrap()), "one +:bob");
    }
    assert_eq!(changed(&mut world, alice, edit(&chat, 1, "e", "uno")), "uno* +:bob");
    // Long after, and after others.
    assert_eq!(changed(&mut world, bob, react(&chat, 1, "r", "+")), "uno* +:bob");
    assert_eq!(changed(&mut world, bob, unreact(&chat, 1, "u", "-")), "uno* +:bob");
    assert_eq!(changed(&mut world, alice, edit(&chat, 1, "e2", "uno")), "uno* +:bob");
    assert_eq!(heard(&mut world, alice), ["one", "#1 bob one +:bob", "#2 alice uno* +:bob"]);
}

#[test]
fn a_change_is_told_when_it_is_durable_even_if_the_engine_shows_it() {
    let mut world = World::new();
    let (alice, bob) = (world.login("alice", "a"), world.login("bob", "b"));
    let chat = direct("alice", "bob");
    world.send(alice, &chat, "1", "one");
    world.auto_commit = false;
    world.ask(alice, edit(&chat, 1, "e", "uno"));
    world.ask(alice, recall(&chat, 1, "r"));
    let (_, batch) = world.pending.front().unwrap().clone();
    hongyan_relay::store::Store::commit(&world.store, &batch).unwrap();
    assert_eq!(log(&mut world, bob, &chat), ["one"]);
    world.commit();
    let phone = world.login("bob", "b2");
    assert_eq!(heard(&mut world, bob), ["one", "#1 alice uno*"]);
    assert_eq!(heard(&mut world, phone), ["uno*", "#1 alice uno*"]);
    let (_, batch) = world.pending.front().unwrap().clone();
    hongyan_relay::store::Store::commit(&world.store, &batch).unwrap();
    assert_eq!(log(&mut world, bob, &chat), ["uno*"]);
    let Event::ChangePage(page) = world.call(bob, changes(&chat, 0)) else { panic!("no page") };
    assert_eq!(page.changes.iter().map(told).collect::<Vec<_>>(), ["#1 alice uno*"]);
    world.commit_all();
    assert_eq!(log(&mut world, bob, &chat), ["-"]);
    assert_eq!(heard(&mut world, phone), ["#2 alice -"]);
}

#[test]
fn a_page_of_history_counts_what_it_tells_not_what_the_engine_has_already() {
    let mut world = World::new();
    let alice = world.login("alice", "a");
    let chat = direct("alice", "bob");
    let long = "long".repeat(15_000);
    for n in 1..=20 {
        world.send(alice, &chat, &format!("{n}"), &long);
    }
    world.auto_commit = false;
    for n in 1..=20 {
        world.ask(alice, edit(&chat, n, &format!("e{n}"), "short"));
    }
    world.commit();
    // The engine shows the edits before it says that they are durable.
    let (_, batch) = world.pending.front().unwrap().clone();
    hongyan_relay::store::Store::commit(&world.store, &batch).unwrap();
    let page = log(&mut world, alice, &chat);
    assert!(!page.is_empty() && page.iter().all(|words| words.len() == long.len()));
}

#[test]
fn who_may_not_change_is_refused_and_so_is_what_cannot_be() {
    let mut world = World::with(CoreConfig { change_within_ms: 1_000, ..CoreConfig::default() });
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|user| world.login(user, user));
    let chat = direct("alice", "bob");
    world.send(alice, &chat, "1", "one");
    let cases = [
        (bob, edit(&chat, 1, "k", "mine"), Code::NOT_PERMITTED),
        (bob, recall(&chat, 1, "k"), Code::NOT_PERMITTED),
        (carol, edit(&chat, 1, "k", "mine"), Code::NOT_A_MEMBER),
        (carol, react(&chat, 1, "k", "+"), Code::NOT_A_MEMBER),
        (carol, changes(&chat, 0), Code::NOT_A_MEMBER),
        (carol, react("gnone", 1, "k", "+"), Code::NOT_A_MEMBER),
        (alice, edit(&chat, 0, "k", "none"), Code::BAD_REQUEST),
        (alice, edit(&chat, 2, "k", "none"), Code::BAD_REQUEST),
        (alice, edit(&chat, u64::MAX, "k", "none"), Code::BAD_REQUEST),
        (alice, react(&chat, 1, "", "+"), Code::BAD_REQUEST),
        (alice, react(&chat, 1, "k", ""), Code::BAD_REQUEST),
        (alice, react(&chat, 1, "k", &"+".repeat(65)), Code::BAD_REQUEST),
        (alice, react(&chat, 1, "k", "a\nb"), Code::BAD_REQUEST),
        (alice, edit(&chat, 1, "k", &"long".repeat(20_000)), Code::CONTENT_TOO_LARGE),
        (
            alice,
            Verb::ChangeMessage(wire::ChangeMessage {
                conversation: chat.clone(),
                seq: 1,
                key: "k".into(),
                ..Default::default()
            }),
            Code::BAD_REQUEST,
        ),
    ];
    for (n, (connection, verb, code)) in cases.into_iter().enumerate() {
        assert_eq!(world.refused(connection, verb), code, "case {n}");
    }
    world.pass(1_001);
    assert_eq!(world.refused(alice, edit(&chat, 1, "k", "late")), Code::NOT_PERMITTED);
    assert_eq!(world.refused(alice, recall(&chat, 1, "k")), Code::NOT_PERMITTED);
    // Reactions are never late.
    assert_eq!(changed(&mut world, bob, react(&chat, 1, "k", "+")), "one +:bob");

    // A group's owner may recall at any time, and what was recalled changes no more.
    let group = world.group(alice, "g", &["bob", "carol"]);
    world.send(bob, &group, "1", "rude");
    world.pass(2_000);
    assert_eq!(world.refused(carol, recall(&group, 1, "k1")), Code::NOT_PERMITTED);
    assert_eq!(changed(&mut world, alice, recall(&group, 1, "k1")), "-");
    assert_eq!(changed(&mut world, alice, recall(&group, 1, "k2")), "-");
    assert_eq!(changed(&mut world, bob, recall(&group, 1, "k3")), "-");
    assert_eq!(world.refused(bob, edit(&group, 1, "k4", "polite")), Code::NOT_PERMITTED);
    assert_eq!(world.refused(carol, react(&group, 1, "k4", "+")), Code::NOT_PERMITTED);
    assert_eq!(heard(&mut world, carol), ["rude", "#1 alice -"]);
}

#[test]
fn reactions_are_bounded() {
    let mut world = World::new();
    let alice = world.login("alice", "a");
    let chat = direct("alice", "alice");
    world.send(alice, &chat, "1", "one");
    for n in 0..REACTIONS_MAX {
        if n % 50 == 49 {
            world.pass(10_000);
        }
        changed(&mut world, alice, react(&chat, 1, &format!("k{n}"), &format!("r{n}")));
    }
    world.pass(10_000);
    assert_eq!(world.refused(alice, react(&chat, 1, "k", "more")), Code::TOO_MANY_REACTIONS);
    changed(&mut world, alice, unreact(&chat, 1, "k", "r7"));
    changed(&mut world, alice, react(&chat, 1, "again", "more"));
    // Pages of changes, all of them with what the message is now.
    let mut after = 0;
    let mut numbers = Vec::new();
    loop {
        let Event::ChangePage(page) = world.call(alice, changes(&chat, after)) else { panic!("no page") };
        assert!(page.changes.len() <= CHANGE_PAGE_MAX);
        assert_eq!(page.last, REACTIONS_MAX as u64 + 2);
        let Some(last) = page.changes.last() else { break };
        after = last.number;
        numbers.extend(page.changes.iter().map(|change| change.number));
    }
    assert!(numbers.iter().copied().eq(1..=REACTIONS_MAX as u64 + 2));
}

#[test]
fn a_page_of_changes_is_as_long_as_asked_for_and_no_longer_than_its_bound() {
    let mut world = World::new();
    let alice = world.login("alice", "a");
    let chat = direct("alice", "alice");
    world.send(alice, &chat, "1", "one");
    let last = CHANGE_PAGE_MAX as u64 + 5;
    for n in 0..last {
        if n % 50 == 49 {
            world.pass(10_000);
        }
        let verb = if n % 2 == 0 { react } else { unreact };
        changed(&mut world, alice, verb(&chat, 1, &format!("k{n}"), "+"));
    }
    world.pass(10_000);
    let max = CHANGE_PAGE_MAX as u64;
    for (after, limit, count) in [(0, 0, max), (0, u32::MAX, max), (0, 3, 3), (5, 1, 1), (last - 2, 9, 2)] {
        let verb = Verb::Changes(wire::Changes { conversation: chat.clone(), after, limit });
        let Event::ChangePage(page) = world.call(alice, verb) else { panic!("no page") };
        let numbers = page.changes.iter().map(|change| change.number);
        assert!(numbers.eq(after + 1..=after + count), "{} changes for {limit}", page.changes.len());
        assert_eq!(page.last, last);
    }
}

/// Nothing is written per member: who is connected is pushed the change, who is not learns how far changes are.
#[test]
fn changes_of_a_group_by_its_log_are_pushed_and_pulled() {
    let mut world = World::new();
    let [alice, bob] = ["alice", "bob"].map(|user| world.login(user, user));
    let large = Query::CreateGroup {
        title: "Geese".into(),
        owner: user("alice"),
        members: vec![user("bob"), user("carol")],
        mode: Diffusion::Log,
    };
    let Answer::Group(group) = world.answered(large) else { panic!("no group") };
    let group = ConversationId::as_str(&group.id).to_owned();
    world.send(bob, &group, "1", "one");
    changed(&mut world, bob, edit(&group, 1, "e", "uno"));
    changed(&mut world, alice, react(&group, 1, "r", "+"));
    let all = [">one", ">#1 bob uno*", ">#2 alice uno* +:alice"];
    assert_eq!(heard(&mut world, alice), all);
    assert_eq!(heard(&mut world, bob), all);
    let carol = world.login("carol", "carol");
    assert_eq!(heard(&mut world, carol), ["=1/2"]);
    let Event::ChangePage(page) = world.call(carol, changes(&group, 1)) else { panic!("no page") };
    assert_eq!(page.changes.iter().map(told).collect::<Vec<_>>(), ["#2 alice uno* +:alice"]);
    // Who is removed is told nothing of later changes, and pulls nothing.
    world.auto_commit = false;
    world.ask(alice, remove(&group, &["carol"]));
    world.ask(bob, recall(&group, 1, "c"));
    world.commit_all();
    world.auto_commit = true;
    assert_eq!(heard(&mut world, alice), [">#3 bob -"]);
    assert!(heard(&mut world, carol).is_empty());
    assert_eq!(world.refused(carol, changes(&group, 0)), Code::NOT_A_MEMBER);

    // Not even how many there are, where it is so much that only that is told.
    world.call(alice, add(&group, &["carol"]));
    world.send(bob, &group, "2", "two");
    changed(&mut world, bob, edit(&group, 2, "o", "due"));
    for connection in [alice, bob, carol] {
        heard(&mut world, connection);
    }
    world.auto_commit = false;
    world.ask(bob, react(&group, 2, "s", "+"));
    world.ask(alice, remove(&group, &["carol"]));
    for n in 0..25 {
        world.ask(bob, edit(&group, 2, &format!("o{n}"), &format!("{}", n % 10).repeat(60_000)));
    }
    world.commit_all();
    world.auto_commit = true;
    assert_eq!(heard(&mut world, alice), [">#5 bob due* +:bob", "=0/30"]);
    assert_eq!(heard(&mut world, carol), [">#5 bob due* +:bob"]);
    heard(&mut world, bob);

    // Back to the queues: the next change comes by them.
    let back = hongyan_relay::core::queries::GroupQuery::SetMode(Diffusion::Reference);
    let id = ConversationId::new(&group).unwrap();
    world.answered(Query::Group(id, back));
    world.send(alice, &group, "3", "three");
    changed(&mut world, alice, edit(&group, 3, "e2", "drei"));
    assert_eq!(heard(&mut world, bob), ["three", "#31 alice drei*"]);
}

#[test]
fn what_changed_nothing_is_answered_the_same_whatever_comes_between() {
    let mut world = World::new();
    let [alice, bob] = ["alice", "bob"].map(|user| world.login(user, user));
    let chat = direct("alice", "bob");
    world.send(alice, &chat, "1", "one");
    world.send(alice, &chat, "2", "two");
    assert_eq!(changed(&mut world, alice, edit(&chat, 1, "same", "one")), "one");
    assert_eq!(changed(&mut world, bob, unreact(&chat, 2, "none", "+")), "two");
    changed(&mut world, alice, edit(&chat, 1, "other", "uno"));
    changed(&mut world, bob, react(&chat, 2, "some", "+"));
    // They were done, though nothing had to be done: they are not done again.
    assert_eq!(changed(&mut world, alice, edit(&chat, 1, "same", "one")), "uno*");
    assert_eq!(changed(&mut world, bob, unreact(&chat, 2, "none", "+")), "two +:bob");
    assert_eq!(heard(&mut world, bob), ["one", "two", "#1 alice uno*", "#2 bob two +:bob"]);
    let (mut words, store) = (Vec::new(), world.store.clone());
    let summary = hongyan_relay::core::verify::verify(&store, &mut |word| {
        if let hongyan_relay::core::verify::Word::Finding(finding) = word {
            words.push(finding.to_string());
        }
    });
    assert_eq!((summary.findings, words), (0, vec![]));
}

#[test]
fn who_has_just_joined_is_told_nothing_before_that_is_durable() {
    let mut world = World::new();
    let [alice, bob] = ["alice", "bob"].map(|user| world.login(user, user));
    let group = world.group(alice, "g", &["carol"]);
    world.send(alice, &group, "1", "secret");
    world.auto_commit = false;
    world.ask(alice, add(&group, &["bob"]));
    let nothing = world.ask(bob, unreact(&group, 1, "u", "+"));
    assert!(world.answer(bob, nothing).is_none());
    world.commit_all();
    let Some(Event::MessageChanged(done)) = world.answer(bob, nothing) else { panic!("not answered") };
    assert_eq!(words(&done.message.unwrap()), "secret");
}

/// Promise R8: a repeated change is answered with the message as it is, so only to who may still read it.
#[test]
fn who_was_removed_is_not_answered_what_a_message_became() {
    let mut world = World::new();
    let [alice, bob] = ["alice", "bob"].map(|user| world.login(user, user));
    let group = world.group(alice, "g", &["bob"]);
    world.send(alice, &group, "1", "one");
    assert_eq!(changed(&mut world, bob, react(&group, 1, "r", "+")), "one +:bob");
    world.auto_commit = false;
    let again = world.ask(bob, react(&group, 1, "r2", "-"));
    world.ask(alice, remove(&group, &["bob"]));
    world.commit_all();
    world.auto_commit = true;
    assert!(matches!(world.answer(bob, again), Some(Event::MessageChanged(_))), "it was made before");
    changed(&mut world, alice, edit(&group, 1, "e", "secret"));
    for key in ["r", "r2"] {
        assert_eq!(world.refused(bob, react(&group, 1, key, "+")), Code::NOT_A_MEMBER);
    }
    // A send is answered still: that says nothing of what is there now.
    world.call(alice, add(&group, &["bob"]));
    assert_eq!(changed(&mut world, bob, react(&group, 1, "r", "+")), "secret* +:bob -:bob");
}

#[test]
fn a_repeated_change_is_refused_only_when_its_author_is_durably_gone() {
    let mut world = World::new();
    let [alice, bob] = ["alice", "bob"].map(|user| world.login(user, user));
    let group = world.group(alice, "g", &["bob"]);
    world.send(alice, &group, "1", "one");
    changed(&mut world, bob, react(&group, 1, "r", "+"));
    world.auto_commit = false;
    world.ask(alice, remove(&group, &["bob"]));
    let again = world.ask(bob, react(&group, 1, "r", "+"));
    assert!(world.answer(bob, again).is_none(), "the removal may be lost yet");
    world.commit_all();
    let Some(Event::Reject(reject)) = world.answer(bob, again) else { panic!("a refusal") };
    assert_eq!(reject.code, u32::from(Code::NOT_A_MEMBER.0));
}

/// A key names one write of its user, of whatever kind.
#[test]
fn a_key_that_named_another_kind_of_write_is_refused() {
    let mut world = World::new();
    let alice = world.login("alice", "a");
    let group = world.group(alice, "group", &["bob"]);
    world.send(alice, &group, "message", "one");
    changed(&mut world, alice, react(&group, 1, "change", "+"));
    let kinds = ["group", "message", "change", "profile"];
    let ask = |kind: &str, key: &str| match kind {
        "group" => {
            Verb::CreateGroup(wire::CreateGroup { key: key.into(), title: "g".into(), ..Default::default() })
        }
        "message" => send(&group, key, "two"),
        "change" => react(&group, 1, key, "-"),
        _ => Verb::SetProfile(wire::SetProfile { key: key.into(), name: Some("Alice".into()), avatar: None }),
    };
    world.call(alice, ask("profile", "profile"));
    for key in kinds {
        for kind in kinds.into_iter().filter(|kind| *kind != key) {
            assert_eq!(
                world.refused(alice, ask(kind, key)),
                Code::BAD_REQUEST,
                "{kind} under the key of a {key}"
            );
        }
    }
}

/// Promise R8: what waits for a former member in her queue is told as it was when she left, or not at all.
#[test]
fn who_was_removed_learns_nothing_of_what_was_changed_afterwards() {
    for diffusion in [Diffusion::Copy, Diffusion::Reference] {
        let mut world = World::new();
        let [alice, bob] = ["alice", "bob"].map(|user| world.login(user, user));
        let made = Query::CreateGroup {
            title: "Geese".into(),
            owner: user("alice"),
            members: vec![user("bob"), user("carol")],
            mode: diffusion,
        };
        let Answer::Group(group) = world.answered(made) else { panic!("no group") };
        let group = ConversationId::as_str(&group.id).to_owned();
        for (key, text) in [
            ("1", "one"),
            ("2", "two"),
            ("3", "three"),
            ("4", "four"),
            ("5", "five"),
            ("6", "six"),
            ("7", "seven"),
        ] {
            world.send(bob, &group, key, text);
        }
        changed(&mut world, bob, edit(&group, 2, "e2", "due"));
        changed(&mut world, bob, recall(&group, 3, "c3"));
        changed(&mut world, bob, react(&group, 4, "r4", "+"));
        changed(&mut world, bob, react(&group, 7, "r7", "+"));
        world.call(alice, remove(&group, &["carol"]));
        changed(&mut world, bob, unreact(&group, 7, "u7", "+"));
        changed(&mut world, bob, edit(&group, 1, "e1", "secret"));
        changed(&mut world, bob, recall(&group, 5, "c5"));
        changed(&mut world, alice, react(&group, 6, "r6", "secret"));
        let carol = world.login("carol", "carol");
        let all = world.entries(carol).into_iter().map(|entry| match entry.change {
            Some(Change::Message(message)) => words(&message),
            Some(Change::MessageChange(change)) => told(&change),
            Some(Change::Group(change)) => format!("v{}", change.version),
            Some(_) => "another".into(),
            None => "nothing".into(),
        });
        let all: Vec<_> = all.collect();
        let messages = [
            "nothing",
            "due*",
            "-",
            "four +:bob",
            "nothing",
            "nothing",
            "seven",
            "#1 bob due*",
            "#2 bob -",
            "#3 bob four +:bob",
            "nothing",
            "v3",
        ];
        assert_eq!(all[all.len() - messages.len()..], messages, "{diffusion:?}");
        // Who is in it again sees all of it.
        world.call(alice, add(&group, &["carol"]));
        let tablet = world.login("carol", "carol's");
        assert!(heard(&mut world, tablet).contains(&"secret*".to_owned()));
    }
}

/// What one batch looks through is bounded, over all groups; where that is not enough, less is told, and never more.
#[test]
fn of_groups_with_many_changes_since_then_a_former_member_is_told_no_changed_message() {
    let config = CoreConfig { sends_burst: 10_000, ..CoreConfig::default() };
    let mut world = World::with(config);
    let [alice, bob] = ["alice", "bob"].map(|user| world.login(user, user));
    let groups = ["g1", "g2", "g3"].map(|key| world.group(alice, key, &["bob", "carol"]));
    for (n, group) in groups.iter().enumerate() {
        for (m, text) in ["one", "two", "three"].into_iter().enumerate() {
            world.send(bob, group, &format!("{n}.{m}"), text);
        }
        changed(&mut world, bob, edit(group, 2, &format!("{n}.e"), "due"));
        world.call(alice, remove(group, &["carol"]));
        // The first two take more than half of the budget each, the last one what is left of it.
        let changes = if n == 2 { 5 } else { CHANGES_SINCE_LEFT_MAX / 2 + 1 };
        for m in 0..changes {
            let key = format!("{n}.r{m}");
            let change =
                if m % 2 == 0 { react(group, 3, &key, "secret") } else { unreact(group, 3, &key, "secret") };
            changed(&mut world, bob, change);
        }
    }
    let carol = world.login("carol", "carol");
    let told = heard(&mut world, carol);
    let count = |text: &str| told.iter().filter(|it| it.as_str() == text).count();
    assert_eq!((count("one"), count("due*")), (3, 2), "{told:?}");
    assert!(!told.iter().any(|text| text.contains("secret")), "{told:?}");
}

#[test]
fn a_group_is_renamed_by_its_owner() {
    let mut world = World::new();
    let [alice, bob] = ["alice", "bob"].map(|user| world.login(user, user));
    let group = world.group(alice, "g", &["bob"]);
    let rename = |title: &str| {
        Verb::RenameGroup(wire::RenameGroup { conversation: group.clone(), title: title.into() })
    };
    assert_eq!(world.refused(bob, rename("Ducks")), Code::NOT_PERMITTED);
    assert_eq!(world.refused(alice, rename("")), Code::BAD_REQUEST);
    assert_eq!(world.refused(alice, rename(&"long".repeat(70))), Code::BAD_REQUEST);
    world.entries(bob);
    let done = |event| match event {
        Event::GroupDone(done) => done.version,
        event => panic!("not done but {}", name(&event)),
    };
    assert_eq!(done(world.call(alice, rename("Swans"))), 2);
    assert_eq!(done(world.call(alice, rename("Swans"))), 2, "the same title changes nothing");
    let entries = world.entries(bob);
    let change = group_change(&entries[0]).unwrap();
    assert_eq!((entries.len(), change.title.as_str(), change.version), (1, "Swans", 2));
    assert!(change.kind() == wire::GroupChangeKind::Renamed && change.member_count == 2);

    // Of a group by its log, others are told with its next message.
    let id = ConversationId::new(&group).unwrap();
    let way = hongyan_relay::core::queries::GroupQuery::SetMode(Diffusion::Log);
    world.answered(Query::Group(id, way));
    world.send(bob, &group, "1", "one");
    world.take(bob);
    assert_eq!(done(world.call(alice, rename("Ducks"))), 3);
    changed(&mut world, alice, react(&group, 1, "r", "+"));
    world.send(alice, &group, "2", "two");
    let told = world.take(bob).into_iter().find_map(|event| match event {
        Event::LogMessages(news) => news.group,
        _ => None,
    });
    assert_eq!(told.map(|group| (group.title, group.version)), Some(("Ducks".into(), 3)));
}
