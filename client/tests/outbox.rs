//! The outbox: what was written here reaches the log exactly once and in order, or its refusal is told.

// Helpers are test code too; clippy sees only `#[test]` functions so.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;

use common::*;
use hongyan_client::limits::*;
use hongyan_client::view::Status::{Failed, Sending, Sent};
use hongyan_client::{Answer, Command, Event};
use hongyan_protocol::wire::client_frame::Verb;
use hongyan_protocol::wire::{self, Content, entry::Change};
use hongyan_protocol::{Code, ConversationId, Key, Seq};
use proptest::prelude::*;

#[test]
fn a_send_is_shown_at_once_persisted_then_transmitted_and_answered_when_that_is_durable() {
    let mut bed = Bed::online();
    let bob = with("bob");
    bed.saves_at_once = false;
    let send = bed.send(&bob, "k1");
    assert_eq!(bed.outbox_events(), [("k1".into(), Sending, None)]);
    assert!(bed.frames.is_empty(), "not before it is durable here");
    bed.save();
    let (request, wire) = bed.sent();
    assert_eq!((wire.key.as_str(), wire.conversation.as_str()), ("k1", bob.as_str()));
    let line = bed.line(&bob);
    assert_eq!((line.last.unwrap().status, line.unread), (Sending, 0));
    bed.confirm(request, &wire, 1);
    assert!(!bed.answered(send));
    bed.save();
    let Some(Ok(Answer::Sent(message))) = bed.replies.remove(&send) else { panic!("sent") };
    assert_eq!((message.seq, message.status, message.time.0), (Some(Seq(1)), Sent, 1_001));
    assert_eq!(bed.outbox_events()[1], ("k1".into(), Sent, None));
    assert!(bed.disk.outbox.is_empty() && bed.disk.messages.len() == 1);
    let line = bed.line(&bob);
    assert_eq!((line.unread, line.last_seq, line.last.unwrap().seq), (0, Seq(1), Some(Seq(1))));
    // The queue tells it too: an event, but not another message.
    bed.say(0, batch(vec![entry(1, Change::Message(log_message(&bob, 1, "alice", "k1")))]));
    bed.save();
    assert_eq!(bed.messages(), ["k1"]);
    assert_eq!((bed.outbox_events().len(), bed.disk.messages.len()), (2, 1));
}

#[test]
fn keys_are_made_when_absent() {
    let mut bed = Bed::online();
    for _ in 0..2 {
        bed.command(Command::Send {
            conversation: with("bob"),
            key: None,
            content: text("hi"),
            reply_to: Some(Seq(3)),
            mentions: vec![user("bob")],
        });
    }
    let keys: Vec<_> = bed.outbox_events().into_iter().map(|(key, ..)| key).collect();
    assert!(keys[0].len() == 32 && keys[0] != keys[1]);
    let (_, wire) = bed.sent();
    assert_eq!((wire.reply_to, wire.mentions.as_slice()), (3, ["bob".to_owned()].as_slice()));
}

#[test]
fn what_cannot_be_sent_is_refused_at_once() {
    let mut bed = Bed::online();
    let draft = |conversation: &ConversationId, content: Content, mentions: usize| Command::Send {
        conversation: conversation.clone(),
        key: None,
        content,
        reply_to: None,
        mentions: vec![user("bob"); mentions],
    };
    let cases = [
        (draft(&with("bob"), text(&"x".repeat(64 * 1024)), 0), Code::CONTENT_TOO_LARGE),
        (draft(&with("bob"), text("x"), 65), Code::BAD_REQUEST),
        (draft(&conversation("~9.alice.bob"), text("x"), 0), Code::BAD_REQUEST),
        (draft(&conversation("~3.bob.dan"), text("x"), 0), Code::NOT_A_MEMBER),
    ];
    for (command, code) in cases {
        let request = bed.command(command);
        assert_eq!(bed.error(request), code);
    }
    assert!(bed.outbox_events().is_empty() && bed.disk.outbox.is_empty());
    let whole = bed.command(draft(&with("bob"), text("x"), 64));
    assert!(!bed.replies.contains_key(&whole));
}

#[test]
fn one_of_a_conversation_is_on_the_wire_and_a_bounded_number_in_all() {
    let mut bed = Bed::online();
    for n in 0..3 {
        bed.send(&with("bob"), &format!("b{n}"));
    }
    let (request, wire) = bed.sent();
    assert!(bed.frames.is_empty());
    bed.confirm(request, &wire, 1);
    assert_eq!(bed.sent().1.key, "b1");
    for n in 0..SENDS_IN_FLIGHT_MAX + 5 {
        bed.send(&with(&format!("user{n}")), &format!("u{n}"));
    }
    assert_eq!(bed.frames.len(), SENDS_IN_FLIGHT_MAX - 1);
}

#[test]
fn a_refusal_for_good_is_durable_told_and_can_be_tried_again_or_discarded() {
    let mut bed = Bed::online();
    let bob = with("bob");
    let first = bed.send(&bob, "k1");
    let second = bed.send(&bob, "k2");
    let (request, _) = bed.sent();
    bed.reject(request, Code::NOT_PERMITTED, 0);
    assert_eq!(bed.error(first), Code::NOT_PERMITTED);
    assert_eq!(bed.outbox_events()[2], ("k1".into(), Failed, Some(Code::NOT_PERMITTED)));
    let (request, wire) = bed.sent();
    assert_eq!(wire.key, "k2", "the others go on");
    bed.confirm(request, &wire, 1);
    assert!(bed.answered(second));
    bed.crash();
    assert_eq!(bed.outbox_events().last().unwrap(), &("k1".into(), Failed, Some(Code::NOT_PERMITTED)));
    bed.go_online(0);
    assert!(bed.frames.is_empty(), "not tried again by itself");
    let again = bed.send(&bob, "k1");
    let (request, wire) = bed.sent();
    assert_eq!(wire.key, "k1");
    let early = bed.command(Command::Discard(Key::new("k1").unwrap()));
    assert_eq!(bed.error(early), Code::BAD_REQUEST);
    bed.reject(request, Code::CONTENT_TOO_LARGE, 0);
    assert_eq!(bed.error(again), Code::CONTENT_TOO_LARGE);
    let discard = bed.command(Command::Discard(Key::new("k1").unwrap()));
    assert!(bed.answered(discard) && bed.disk.outbox.is_empty());
    assert_eq!(bed.line(&bob).last.unwrap().key.as_str(), "k2");
}

#[test]
fn a_refusal_for_now_keeps_its_conversation_in_order_and_waits() {
    let mut bed = Bed::online();
    bed.send(&with("bob"), "b1");
    bed.send(&with("bob"), "b2");
    let (request, _) = bed.sent();
    bed.reject(request, Code::RATE_LIMITED, 3_000);
    bed.send(&with("carol"), "c1");
    assert_eq!(bed.sent().1.key, "c1", "another conversation does not wait");
    bed.pass(2_999);
    assert!(bed.frames.iter().all(|frame| !matches!(frame.verb, Some(Verb::Send(_)))));
    bed.pass(BACKOFF_FIRST_MS + 1);
    assert_eq!(bed.sent().1.key, "b1");
}

#[test]
fn what_was_on_the_wire_goes_again_with_its_key_and_in_order() {
    let mut bed = Bed::online();
    let bob = with("bob");
    let send = bed.send(&bob, "k1");
    bed.send(&bob, "k2");
    bed.sent();
    bed.close(Code(1006));
    bed.go_online(0);
    let (_, wire) = bed.sent();
    assert_eq!(wire.key, "k1");
    // It was stored before the end: the queue tells so before the answer does.
    bed.say(0, batch(vec![entry(1, Change::Message(log_message(&bob, 1, "alice", "k1")))]));
    assert!(bed.answered(send));
    assert_eq!(bed.sent().1.key, "k2");
    bed.confirm(2, &wire, 1);
    let sent = bed.outbox_events().iter().filter(|(key, status, _)| key == "k1" && *status == Sent).count();
    assert_eq!(sent, 1, "confirmed once");
}

#[test]
fn the_outbox_survives_a_crash_and_events_tell_what_becomes_of_it() {
    let mut bed = Bed::new();
    for n in 1..=3 {
        bed.send(&with("bob"), &format!("k{n}"));
    }
    bed.events.clear();
    bed.crash();
    let keys: Vec<_> = bed.outbox_events();
    assert_eq!(
        keys,
        [("k1".into(), Sending, None), ("k2".into(), Sending, None), ("k3".into(), Sending, None)]
    );
    bed.go_online(0);
    for seq in 1..=3 {
        let (request, wire) = bed.sent();
        assert_eq!(wire.key, format!("k{seq}"));
        bed.confirm(request, &wire, seq);
    }
    assert_eq!(bed.outbox_events().last().unwrap(), &("k3".into(), Sent, None));
    assert!(bed.disk.outbox.is_empty());
}

#[test]
fn the_same_key_twice_is_one_message_and_two_answers() {
    let mut bed = Bed::online();
    let one = bed.send(&with("bob"), "k1");
    let two = bed.send(&with("bob"), "k1");
    let (request, wire) = bed.sent();
    bed.confirm(request, &wire, 1);
    assert!(bed.answered(one) && bed.answered(two) && bed.frames.is_empty());
}

#[test]
fn a_full_outbox_refuses_and_keeps_what_it_has() {
    let mut bed = Bed::new();
    for n in 0..OUTBOX_MAX {
        bed.send(&with("bob"), &format!("k{n}"));
    }
    let over = bed.send(&with("bob"), "over");
    assert_eq!(bed.error(over), Code::BUSY);
    assert_eq!(bed.disk.outbox.len(), OUTBOX_MAX);
}

/// A relay as it should be: idempotent by key, one log per conversation, one queue.
#[derive(Default)]
struct Relay {
    logs: BTreeMap<String, Vec<wire::Message>>,
    queue: Vec<wire::Message>,
    streamed: usize,
}

impl Relay {
    fn store(&mut self, send: &wire::Send) -> u64 {
        let log = self.logs.entry(send.conversation.clone()).or_default();
        if let Some(known) = log.iter().find(|message| message.key == send.key) {
            return known.seq;
        }
        let seq = log.len() as u64 + 1;
        let id = conversation(&send.conversation);
        let message = log_message(&id, seq, "alice", &send.key);
        log.push(message.clone());
        self.queue.push(message);
        seq
    }
}

#[derive(Clone, Debug)]
enum Step {
    Send(u8),
    /// The relay takes the oldest frame and answers.
    Serve,
    /// It takes it, and the connection ends before the answer.
    ServeAndLose,
    RejectForNow,
    Stream,
    Save,
    Crash,
    Lose,
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => (0..3u8).prop_map(Step::Send),
        5 => Just(Step::Serve),
        2 => Just(Step::ServeAndLose),
        2 => Just(Step::RejectForNow),
        2 => Just(Step::Stream),
        6 => Just(Step::Save),
        1 => Just(Step::Crash),
        1 => Just(Step::Lose),
        2 => (0..2_000u64).prop_map(Step::Pass),
    ];
    proptest::collection::vec(step, 1..80)
}

fn reconnect(bed: &mut Bed, relay: &mut Relay) {
    bed.frames.clear();
    let hello = bed.go_online(relay.queue.len() as u64);
    relay.streamed = usize::try_from(hello.cursor).unwrap();
}

fn next_send(bed: &mut Bed) -> Option<(u64, wire::Send)> {
    while let Some(frame) = bed.frames.pop_front() {
        if let Some(Verb::Send(send)) = frame.verb {
            return Some((frame.request, send));
        }
    }
    None
}

fn stream(bed: &mut Bed, relay: &mut Relay) {
    let entries: Vec<_> = relay.queue[relay.streamed..]
        .iter()
        .zip(relay.streamed as u64 + 1..)
        .map(|(message, pos)| entry(pos, Change::Message(message.clone())))
        .collect();
    relay.streamed = relay.queue.len();
    if !entries.is_empty() {
        bed.say(0, batch(entries));
    }
}

fn check(steps: Vec<Step>) {
    let peers = ["bob", "carol", "dan"];
    let mut bed = Bed::online();
    bed.saves_at_once = false;
    while bed.save() {}
    let mut relay = Relay::default();
    let mut written: Vec<(usize, String)> = Vec::new();
    let online = |bed: &Bed| bed.status() == hongyan_client::view::SessionStatus::Online;
    for step in steps {
        if !online(&bed) {
            reconnect(&mut bed, &mut relay);
        }
        match step {
            Step::Send(peer) => {
                let peer = usize::from(peer);
                let key = format!("k{}", written.len());
                bed.send(&with(peers[peer]), &key);
                written.push((peer, key));
            }
            Step::Serve => {
                if let Some((request, send)) = next_send(&mut bed) {
                    let seq = relay.store(&send);
                    bed.confirm(request, &send, seq);
                }
            }
            Step::ServeAndLose => {
                if let Some((_, send)) = next_send(&mut bed) {
                    relay.store(&send);
                    bed.close(Code(1006));
                }
            }
            Step::RejectForNow => {
                if let Some((request, _)) = next_send(&mut bed) {
                    bed.reject(request, Code::BUSY, 100);
                }
            }
            Step::Stream => stream(&mut bed, &mut relay),
            Step::Save => {
                bed.save();
            }
            Step::Crash => {
                // What was not durable here was never answered, and may be forgotten.
                let durable: Vec<_> = bed.disk.outbox.values().cloned().collect();
                written.retain(|(peer, key)| {
                    let logged = relay.logs.get(with(peers[*peer]).as_str());
                    logged.is_some_and(|log| log.iter().any(|message| message.key == *key))
                        || durable.iter().any(|record| contains(record, key))
                });
                bed.crash();
                while bed.save() {}
            }
            Step::Lose => bed.close(Code(1006)),
            Step::Pass(ms) => bed.pass(ms),
        }
    }
    // Faults stop.
    bed.saves_at_once = true;
    while bed.save() {}
    for _ in 0..written.len() * 4 + 10 {
        if !online(&bed) {
            reconnect(&mut bed, &mut relay);
        }
        while let Some((request, send)) = next_send(&mut bed) {
            let seq = relay.store(&send);
            bed.confirm(request, &send, seq);
        }
        stream(&mut bed, &mut relay);
        bed.pass(1_000);
    }
    assert!(bed.disk.outbox.is_empty());
    for (at, peer) in peers.into_iter().enumerate() {
        let sent: Vec<_> = written.iter().filter(|(to, _)| *to == at).map(|(_, key)| key.as_str()).collect();
        let log: Vec<_> = relay
            .logs
            .get(with(peer).as_str())
            .map(|log| log.iter().map(|message| message.key.as_str()).collect())
            .unwrap_or_default();
        assert_eq!(log, sent, "the log has what was written, once and in order");
    }
    let told: Vec<_> = bed.messages();
    let queue: Vec<_> = relay.queue.iter().map(|message| message.key.clone()).collect();
    assert_eq!(told, queue);
    for (_, key) in &written {
        assert!(bed.events.iter().any(|event| {
            matches!(event, Event::Outbox(message, None) if message.key.as_str() == key && message.status == Sent)
        }));
    }
}

fn contains(record: &[u8], key: &str) -> bool {
    // A key is a field of its record: its length, then its bytes.
    let field = [&[u8::try_from(key.len()).unwrap()], key.as_bytes()].concat();
    record.windows(field.len()).any(|bytes| bytes == field)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn the_log_has_each_message_once_and_in_order_whatever_happens(steps in steps()) {
        check(steps);
    }
}

/// Another tab had sent it, and died before it told so. Found by the simulated world, seed 1795737060001588.
#[test]
fn what_was_sent_before_the_user_left_is_answered_as_sent_to_who_asks_again() {
    let mut bed = Bed::online();
    let group = conversation("g1");
    let gone = wire::GroupChange {
        conversation: "g1".into(),
        kind: wire::GroupChangeKind::Removed.into(),
        by: "bob".into(),
        users: vec!["alice".into()],
        version: 2,
        owner: "bob".into(),
        last_seq: 1,
        ..wire::GroupChange::default()
    };
    let own = log_message(&group, 1, "alice", "k1");
    bed.say(0, batch(vec![entry(1, Change::Message(own)), entry(2, Change::Group(gone))]));
    assert!(bed.line(&group).left);
    let again = bed.send(&group, "k1");
    let (request, send) = bed.sent();
    bed.confirm(request, &send, 1);
    assert!(bed.answered(again));
    // What was not, is refused by the relay, and kept.
    let late = bed.send(&group, "k2");
    let (request, _) = bed.sent();
    bed.reject(request, Code::NOT_A_MEMBER, 0);
    assert!(bed.replies[&late].is_err());
    assert!(bed.outbox_events().contains(&("k2".into(), Failed, Some(Code::NOT_A_MEMBER))));
}
