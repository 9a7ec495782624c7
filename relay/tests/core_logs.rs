//! Groups that come by their logs: what is told, to whom, and how a group changes over.

#![allow(clippy::unwrap_used)] // The helpers are outside of test functions.

mod core_world;

use std::collections::VecDeque;

use core_world::*;
use hongyan_protocol::Code;
use hongyan_protocol::wire::{client_frame::Verb, entry::Change, relay_frame::Event};
use hongyan_relay::core::limits::LOG_PUSHES_IN_FLIGHT;
use hongyan_relay::core::queries::{Answer, GroupQuery, GroupShown, Query};
use hongyan_relay::core::queue::{Diffusion, DiffusionConfig};
use hongyan_relay::core::{ConnectionId, CoreConfig};

/// Groups of more than three come by their logs.
fn config() -> CoreConfig {
    let diffusion = DiffusionConfig { log_members: 3, ..DiffusionConfig::default() };
    CoreConfig { diffusion, ..CoreConfig::default() }
}

/// What came: `text` by the queue, `>text` by the log, `=head`, `log from seq` and `queue from seq`.
fn heard(world: &mut World, connection: ConnectionId) -> Vec<String> {
    let mut heard = Vec::new();
    for event in world.take(connection) {
        match event {
            Event::Batch(batch) => {
                for entry in batch.entries {
                    match entry.change {
                        Some(Change::Message(message)) => heard.push(text(&message)),
                        Some(Change::Diffusion(change)) => {
                            let way = if change.by_log { "log" } else { "queue" };
                            heard.push(format!("{way} from {}", change.seq));
                        }
                        _ => {}
                    }
                }
            }
            Event::LogMessages(news) => {
                heard.extend(news.messages.iter().map(|message| format!(">{}", text(message))));
            }
            Event::LogHeads(heads) => {
                heard.extend(heads.heads.iter().map(|head| format!("={}", head.last_seq)));
            }
            _ => {}
        }
    }
    heard
}

#[test]
fn a_group_changes_over_both_ways_and_its_messages_go_on() {
    let mut world = World::with(config());
    let [alice, bob] = ["alice", "bob"].map(|user| world.login(user, &format!("{user}'s")));
    let group = world.group(alice, "g", &["bob", "carol"]);
    world.send(bob, &group, "1", "one");
    world.call(alice, add(&group, &["dora", "emil"]));
    world.send(bob, &group, "2", "two");
    assert_eq!(heard(&mut world, alice), ["one", "log from 1", ">two"]);
    assert_eq!(heard(&mut world, bob), ["one", "log from 1", ">two"]);

    // Who comes later has the change in her queue, and is told how far the log is.
    let carol = world.login("carol", "carol's");
    assert_eq!(heard(&mut world, carol), ["=2", "one", "log from 1"]);

    // With half as many it comes by the queues again, also for those who were added when it did not.
    world.call(alice, remove(&group, &["emil"]));
    assert_eq!(heard(&mut world, alice), Vec::<String>::new(), "not to and fro with each who goes");
    world.call(alice, remove(&group, &["bob", "carol"]));
    world.call(alice, remove(&group, &["dora"]));
    world.call(alice, add(&group, &["dora"]));
    world.send(alice, &group, "3", "three");
    assert_eq!(heard(&mut world, alice), ["queue from 2", "three"]);
    let dora = world.login("dora", "dora's");
    let told = heard(&mut world, dora);
    assert!(told.ends_with(&["three".into()]) && !told.iter().any(|word| word.starts_with('=')), "{told:?}");
    assert_eq!(world.relay.counters().logs, 0);
}

#[test]
fn who_was_removed_hears_nothing_that_was_said_afterwards() {
    let mut world = World::with(config());
    let [alice, bob] = ["alice", "bob"].map(|user| world.login(user, &format!("{user}'s")));
    let group = world.group(alice, "g", &["bob", "carol", "dora", "emil"]);
    world.take(bob);
    world.auto_commit = false;
    let sent = world.ask(alice, send(&group, "1", "before"));
    world.ask(alice, remove(&group, &["bob"]));
    world.ask(alice, send(&group, "2", "after"));
    world.commit_all();
    assert!(matches!(world.answer(alice, sent), Some(Event::Sent(_))));
    let told = heard(&mut world, bob);
    assert!(!told.contains(&">after".into()), "{told:?}");
    assert_eq!(world.refused(bob, history(&group, 0, 0, 0)), Code::NOT_A_MEMBER);
    world.auto_commit = true;
    assert_eq!(world.refused(bob, send(&group, "3", "me")), Code::NOT_A_MEMBER);
    world.send(alice, &group, "4", "more");
    assert_eq!(heard(&mut world, bob), Vec::<String>::new());
    assert!(heard(&mut world, alice).ends_with(&[">more".into()]));
}

#[test]
fn a_message_that_calls_somebody_is_in_her_queue_as_well() {
    let mut world = World::with(config());
    let alice = world.login("alice", "alice's");
    let group = world.group(alice, "g", &["bob", "carol", "dora", "emil"]);
    let Verb::Send(mut called) = send(&group, "1", "bob!") else { panic!() };
    called.mentions = vec!["bob".into(), "stranger".into()];
    world.call(alice, Verb::Send(called));
    let Verb::Send(mut all) = send(&group, "2", "all!") else { panic!() };
    all.mentions = vec!["*".into()];
    world.call(alice, Verb::Send(all));
    let bob = world.login("bob", "bob's");
    let events = world.take(bob);
    let head = events.iter().find_map(|event| match event {
        Event::LogHeads(heads) => heads.heads.first().cloned(),
        _ => None,
    });
    let head = head.unwrap();
    assert_eq!((head.last_seq, head.called_all, head.member_count), (2, 2, 5));
    let in_queue = events.iter().filter_map(|event| match event {
        Event::Batch(batch) => Some(batch.entries.iter().filter_map(message).map(text)),
        _ => None,
    });
    assert_eq!(in_queue.flatten().collect::<Vec<_>>(), ["bob!"]);
    let stranger = world.login("stranger", "s");
    assert_eq!(world.entries(stranger).len(), 0);
}

#[test]
fn who_has_no_room_is_told_later_how_far_it_is() {
    let mut config = config();
    config.outgoing_bytes_target = 2_000;
    let mut world = World::with(config);
    let [alice, bob] = ["alice", "bob"].map(|user| world.login(user, &format!("{user}'s")));
    let group = world.group(alice, "g", &["bob", "carol", "dora", "emil"]);
    world.take(bob);
    world.auto_write = false;
    for n in 0..20 {
        world.send(alice, &group, &format!("k{n}"), &"x".repeat(300));
        world.written_all(alice);
    }
    let told = heard(&mut world, bob);
    assert!(told.len() < 20 && !told.is_empty(), "{}", told.len());
    world.written_all(bob);
    assert_eq!(heard(&mut world, bob), ["=20"]);
    world.written_all(bob);
    world.send(alice, &group, "last", "last");
    assert_eq!(heard(&mut world, bob), [">last"]);
}

#[test]
fn a_fan_out_leaves_room_for_others_and_reaches_all() {
    let mut world = World::with(config());
    let owner = world.login("owner", "o");
    let group = world.group(owner, "g", &[]);
    let names: Vec<String> = (0..LOG_PUSHES_IN_FLIGHT + 50).map(|n| format!("u{n:04}")).collect();
    for page in names.chunks(200) {
        let page: Vec<&str> = page.iter().map(String::as_str).collect();
        world.call(owner, add(&group, &page));
    }
    let crowd: Vec<_> = names.iter().map(|name| world.login(name, name)).collect();
    crowd.iter().for_each(|one| drop(world.take(*one)));
    world.auto_write = false;
    world.auto_tick = false;
    world.send(owner, &group, "1", "hello");
    world.settle();
    let reached = crowd.iter().filter(|one| !world.inbox.get(one).is_none_or(VecDeque::is_empty)).count();
    assert!(reached <= LOG_PUSHES_IN_FLIGHT && reached > LOG_PUSHES_IN_FLIGHT - 3, "{reached}");
    // Sockets that take something make room; those that take nothing are not waited for.
    world.written_all(crowd[0]);
    world.settle();
    world.pass(1_000);
    let told: Vec<_> = crowd.iter().map(|one| heard(&mut world, *one)).collect();
    assert!(told.iter().all(|told| *told == [">hello"]));
}

fn names(from: usize, to: usize) -> Vec<hongyan_protocol::UserId> {
    (from..to).map(|n| user(&format!("u{n:06}"))).collect()
}

fn shown(answer: Answer) -> GroupShown {
    match answer {
        Answer::Group(group) => group,
        _ => panic!("no group"),
    }
}

#[test]
fn the_apps_server_fills_a_large_group_and_says_how_it_travels() {
    let mut world = World::new();
    let create = Query::CreateGroup {
        title: "Geese".into(),
        owner: user("owner"),
        members: names(0, 450),
        mode: Diffusion::Auto,
    };
    let group = shown(world.answered(create));
    assert_eq!((group.members, group.by_log, group.owner), (451, false, Some(user("owner"))));
    let id = group.id;
    let ask = |world: &mut World, query| world.answered(Query::Group(id.clone(), query));
    for from in (400..5_400).step_by(1_000) {
        ask(&mut world, GroupQuery::Add(names(from, from + 1_000)));
    }
    let group = shown(ask(&mut world, GroupQuery::Show));
    assert_eq!((group.members, group.by_log), (5_401, true));
    // Everybody is there, page by page, each once.
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let Answer::Members(page, more) =
            ask(&mut world, GroupQuery::Members { after: after.clone(), limit: 500 })
        else {
            panic!("no page")
        };
        after = page.last().cloned();
        all.extend(page);
        if !more {
            break;
        }
    }
    assert_eq!(all.len(), 5_401);
    assert!(all.is_sorted());
    // A message to it costs nothing per member.
    let one = world.login("u005000", "d");
    world.take(one);
    world.send(one, id.as_str(), "1", "hello");
    assert_eq!(heard(&mut world, one), [">hello"]);
    // It can't be forced into that many queues, a smaller one can.
    assert!(shown(ask(&mut world, GroupQuery::SetMode(Diffusion::Reference))).by_log);
    let gone = shown(ask(&mut world, GroupQuery::Remove(names(0, 1_000))));
    assert_eq!((gone.members, gone.by_log, gone.mode), (4_401, false, Diffusion::Reference));
    world.send(one, id.as_str(), "2", "again");
    assert_eq!(heard(&mut world, one), ["queue from 1", "again"]);
    // The owner goes among others, and somebody takes over.
    let mut leaving = names(1_000, 1_010);
    leaving.push(user("owner"));
    let left = shown(ask(&mut world, GroupQuery::Remove(leaving)));
    assert_eq!((left.members, left.owner), (4_390, Some(user("u001010"))));
    let none = Query::Group(hongyan_protocol::ConversationId::new("nowhere").unwrap(), GroupQuery::Show);
    assert!(matches!(world.answered(none), Answer::NoSuchGroup));
}

#[test]
fn what_was_looked_up_is_the_same_before_and_after_its_commit() {
    let mut world = World::with(config());
    let alice = world.login("alice", "alice's");
    let group = world.group(alice, "g", &["bob", "carol", "dora", "emil"]);
    world.auto_commit = false;
    world.ask(alice, remove(&group, &["bob"]));
    world.ask(alice, add(&group, &["fred"]));
    let id = hongyan_protocol::ConversationId::new(&group).unwrap();
    let page = world.query(Query::Group(id, GroupQuery::Members { after: None, limit: 3 }));
    assert!(!world.answers.contains_key(&page), "what is not durable is told to nobody");
    world.commit_all();
    let Some(Answer::Members(members, more)) = world.answers.remove(&page) else { panic!("no page") };
    assert_eq!(members, ["alice", "carol", "dora"].map(user));
    assert!(more);
}
