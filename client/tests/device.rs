//! This device as others see it: whether somebody looks at it, how it goes, and what ends it for good.

// Helpers are test code too; clippy sees only `#[test]` functions so.
#![allow(clippy::unwrap_used)]

mod common;

use bytes::Bytes;
use common::*;
use hongyan_client::limits::*;
use hongyan_client::view::PresenceStatus;
use hongyan_client::view::SessionStatus::{Connecting, Offline, Online, Stopped};
use hongyan_client::{Answer, Command, Event, HostEvent, Input};
use hongyan_protocol::limits::BYE_TICKET_BYTES_MAX;
use hongyan_protocol::wire::client_frame::Verb;
use hongyan_protocol::wire::{self, relay_frame::Event as Relay};
use hongyan_protocol::{Code, DeviceId};

fn away(bed: &mut Bed) -> Vec<bool> {
    let mut told = Vec::new();
    bed.frames.retain(|frame| match &frame.verb {
        Some(Verb::SetAway(set)) => {
            told.push(set.away);
            false
        }
        _ => true,
    });
    told
}

#[test]
fn whether_somebody_looks_is_told_at_each_change_and_in_each_hello() {
    let mut bed = Bed::fresh();
    bed.host(HostEvent::Visible(false));
    bed.restore();
    let hello = bed.greet();
    assert!(hello.away);
    // It changes while the hello is on its way.
    bed.host(HostEvent::Visible(true));
    assert!(away(&mut bed).is_empty());
    bed.say(1, welcome("e1", 0));
    assert_eq!(away(&mut bed), [false]);
    for (visible, expected) in [(true, None), (false, Some(true)), (false, None), (true, Some(false))] {
        bed.host(HostEvent::Visible(visible));
        assert_eq!(away(&mut bed), Vec::from_iter(expected));
    }
    bed.close(Code(1006));
    bed.host(HostEvent::Visible(false));
    let hello = bed.go_online(0);
    assert!(hello.away && away(&mut bed).is_empty());
}

/// An older relay, or one that limits their rate.
#[test]
fn a_refusal_of_what_wants_no_answer_ends_nothing() {
    for code in [Code::VERB_UNKNOWN, Code::RATE_LIMITED, Code::BAD_REQUEST] {
        let mut bed = Bed::online();
        bed.host(HostEvent::Visible(false));
        bed.command(Command::Typing(with("bob")));
        bed.command(Command::Watch { by: 1, users: vec![user("bob")] });
        bed.command(Command::Watch { by: 1, users: Vec::new() });
        while let Some(frame) = bed.frames.pop_front() {
            assert!(frame.request > 0);
            bed.reject(frame.request, code, 0);
        }
        bed.pass(1_000);
        assert_eq!((bed.status(), bed.hangups.len()), (Online, 0), "{code:?}");
    }
}

#[test]
fn being_invisible_is_part_of_the_state() {
    let mut bed = Bed::new();
    bed.greet();
    let Relay::Welcome(mut hi) = welcome("e1", 0) else { unreachable!() };
    hi.invisible = true;
    bed.say(1, Relay::Welcome(hi));
    assert!(bed.client.state().invisible);
    let set = bed.command(Command::SetInvisible(false));
    let frame = bed.frame();
    assert!(matches!(frame.verb, Some(Verb::SetInvisible(wire::SetInvisible { invisible: false }))));
    bed.say(frame.request, Relay::Invisible(wire::Invisible { invisible: false }));
    assert!(bed.answered(set) && !bed.client.state().invisible);
    // Another device sets it.
    bed.events.clear();
    bed.say(0, Relay::Invisible(wire::Invisible { invisible: true }));
    assert!(matches!(bed.events.as_slice(), [Event::State(state)] if state.invisible));
}

#[test]
fn the_users_devices_are_listed_and_signed_out() {
    let mut bed = Bed::online();
    let list = bed.command(Command::Devices);
    let frame = bed.frame();
    assert!(matches!(frame.verb, Some(Verb::Devices(_))));
    let phone = wire::Device {
        device: "phone".into(),
        kind: wire::DeviceKind::Android.into(),
        agent: "app/2".into(),
        status: wire::PresenceStatus::Away.into(),
        seen: 0,
    };
    let nobody = wire::Device { device: String::new(), ..phone.clone() };
    bed.say(frame.request, Relay::DeviceList(wire::DeviceList { devices: vec![phone, nobody] }));
    let Some(Ok(Answer::Devices(devices))) = bed.replies.remove(&list) else { panic!("devices") };
    assert_eq!(devices.len(), 1);
    assert_eq!((devices[0].agent.as_str(), devices[0].seen), ("app/2", None));
    assert_eq!(devices[0].status, PresenceStatus::Away);
    let out = bed.command(Command::SignOut(DeviceId::new("phone").unwrap()));
    let frame = bed.frame();
    assert!(matches!(&frame.verb, Some(Verb::SignOut(out)) if out.device == "phone"));
    bed.say(frame.request, Relay::SignedOut(wire::SignedOut { device: "phone".into() }));
    assert!(bed.answered(out));
    // Until they are answered they are asked on each connection.
    let list = bed.command(Command::Devices);
    bed.close(Code(1006));
    bed.go_online(0);
    let frame = bed.frame();
    bed.say(frame.request, Relay::DeviceList(wire::DeviceList::default()));
    assert!(bed.answered(list));
}

/// Online, with a ticket for the goodbye.
fn ticketed(ticket: &'static [u8]) -> Bed {
    let mut bed = Bed::new();
    bed.greet();
    let Relay::Welcome(mut hi) = welcome("e1", 0) else { unreachable!() };
    hi.bye_ticket = Bytes::from_static(ticket);
    bed.say(1, Relay::Welcome(hi));
    bed
}

const LEAVE: HostEvent = HostEvent::Leave { returns_in_ms: 800, returns: false };

#[test]
fn a_page_that_leaves_says_goodbye_on_the_socket_and_by_beacon() {
    let mut bed = ticketed(b"ticket");
    bed.say(0, bobs(1, 2));
    bed.host(HostEvent::Leave { returns_in_ms: 800, returns: true });
    assert_eq!(bed.acks(), [2], "what is durable is told before");
    let bye = wire::Bye { logout: false, returns_in_ms: 800, returns: true };
    assert!(bed.frame().verb == Some(Verb::Bye(bye)));
    assert!(matches!(bed.beacons.as_slice(), [one] if one.ticket == "ticket" && one.bye == Some(bye)));
    assert_eq!(bed.said_last, ["transmit", "transmit", "beacon", "hangup", "event"]);
    assert_eq!(bed.hangups, [Code(1000)]);
    let state = bed.client.state();
    assert_eq!((state.status, state.reason, state.retry_at), (Offline, None, None));
    // Once.
    bed.host(LEAVE);
    assert!(bed.frames.is_empty());
    assert_eq!((bed.beacons.len(), bed.hangups.len()), (1, 1));

    // Without a ticket, or with one that can't be one, there is no beacon.
    for ticket in [b"".as_slice(), [7; BYE_TICKET_BYTES_MAX + 1].as_slice()] {
        let mut bed = ticketed(ticket);
        bed.host(LEAVE);
        assert!(matches!(bed.frame().verb, Some(Verb::Bye(_))));
        assert!(bed.beacons.is_empty());
    }
    // A ticket opens the goodbye of its own connection only.
    let mut bed = ticketed(b"ticket");
    bed.close(Code(1006));
    bed.go_online(0);
    bed.host(LEAVE);
    assert!(bed.beacons.is_empty());
    // A hello that was not answered yet is followed by the goodbye.
    let mut bed = Bed::new();
    bed.greet();
    bed.host(LEAVE);
    assert!(matches!(bed.frame().verb, Some(Verb::Bye(_))));
    assert_eq!(bed.hangups, [Code(1000)]);
}

#[test]
fn a_page_that_left_does_not_dial_whatever_comes_until_it_wakes() {
    type Before = fn() -> Bed;
    let cases: [(&str, Before); 6] = [
        ("online", Bed::online),
        ("waiting for a token", Bed::new),
        ("dialling", || {
            let mut bed = Bed::new();
            bed.feed(Input::Token(Ok("token".into())));
            bed
        }),
        ("greeting", || {
            let mut bed = Bed::new();
            bed.greet();
            bed
        }),
        ("backing off", || {
            let mut bed = Bed::online();
            bed.close(Code(1006));
            bed
        }),
        ("reading the cache", Bed::fresh),
    ];
    for (name, before) in cases {
        let mut bed = before();
        bed.host(LEAVE);
        bed.restore();
        let (dials, asked) = (bed.dials.len(), bed.tokens_asked);
        bed.feed(Input::Token(Ok("late".into())));
        bed.feed(Input::Opened(bed.socket));
        bed.say(1, welcome("e1", 0));
        bed.close(Code(1006));
        bed.host(HostEvent::Visible(false));
        bed.host(HostEvent::Visible(true));
        bed.host(HostEvent::Network(false));
        bed.host(HostEvent::Network(true));
        bed.host(LEAVE);
        let send = bed.send(&with("bob"), "k1");
        let list = bed.command(Command::Conversations { limit: 1, before: None });
        let leave = bed.command(Command::LeaveGroup(conversation("g1")));
        bed.pass(3_600_000);
        assert_eq!(bed.status(), Offline, "{name}");
        assert_eq!((bed.dials.len(), bed.tokens_asked), (dials, asked), "{name}");
        assert!(bed.answered(list), "{name}");
        assert_eq!(bed.error(leave), Code::TIMED_OUT, "{name}");
        assert_eq!(bed.disk.outbox.len(), 1, "{name}");
        // Waking dials at once (or asks for the token that is missing).
        bed.host(HostEvent::Wake);
        assert_eq!(bed.status(), Connecting, "{name}");
        assert_eq!(bed.dials.len() + bed.tokens_asked, dials + asked + 1, "{name}");
        bed.go_online(0);
        let (number, sent) = bed.sent();
        bed.confirm(number, &sent, 1);
        assert!(bed.answered(send), "{name}");
    }
}

#[test]
fn a_hidden_page_that_was_frozen_comes_back_when_it_resumes() {
    let mut bed = Bed::online();
    bed.host(HostEvent::Visible(false));
    bed.pass(10);
    bed.host(LEAVE);
    bed.pass(HIDDEN_IDLE_MS * 10);
    assert_eq!((bed.status(), bed.dials.len()), (Offline, 1));
    bed.host(HostEvent::Wake);
    assert_eq!(bed.dials.len(), 2);
    assert!(bed.go_online(0).away);
}

#[test]
fn a_client_that_closes_does_not_come_back() {
    for logout in [false, true] {
        let mut bed = ticketed(b"ticket");
        bed.command(if logout { Command::Logout { keep_cache: true } } else { Command::Close });
        let bye = wire::Bye { logout, returns_in_ms: 0, returns: false };
        assert!(bed.frame().verb == Some(Verb::Bye(bye)));
        assert_eq!(bed.status(), Stopped);
        bed.host(LEAVE);
        bed.host(HostEvent::Wake);
        assert_eq!((bed.status(), bed.dials.len(), bed.frames.len()), (Stopped, 1, 0));
    }
}

#[test]
fn hellos_are_ordered_by_the_process_and_its_connections() {
    let mut bed = Bed::fresh();
    bed.term = 41;
    bed.restore();
    let first = bed.go_online(0);
    bed.close(Code(1006));
    let second = bed.go_online(0);
    bed.term = 42;
    bed.crash();
    let third = bed.greet();
    assert_eq!((first.term, second.term, third.term), (41, 41, 42));
    assert!(first.dial < second.dial);
    assert_eq!(first.tab, "");
}

const ENDS: [Code; 4] = [Code::SUPERSEDED, Code::TOKEN_REVOKED, Code::KICKED, Code::OUTDATED];

#[test]
fn a_code_that_ends_the_session_stops_for_good_wherever_it_comes() {
    type How = fn(&mut Bed, Code);
    let hows: [(&str, How); 5] = [
        ("close", Bed::close),
        ("reject", |bed, code| bed.reject(0, code, 0)),
        ("reject of a send", |bed, code| {
            bed.send(&with("bob"), "k1");
            let (request, _) = bed.sent();
            bed.reject(request, code, 5);
        }),
        ("reject of what nobody waits for", |bed, code| bed.reject(9_999, code, 0)),
        ("reject of a hello", |bed, code| {
            bed.close(Code(1006));
            bed.greet();
            bed.reject(1, code, 0);
        }),
    ];
    for code in ENDS {
        for (name, how) in hows {
            let mut bed = Bed::online();
            how(&mut bed, code);
            assert_eq!((bed.status(), bed.reason()), (Stopped, Some(code)), "{code:?} {name}");
            let (dials, asked) = (bed.dials.len(), bed.tokens_asked);
            // The relay closes after its reject, too.
            bed.close(code);
            bed.host(HostEvent::Wake);
            bed.host(HostEvent::Visible(true));
            bed.host(HostEvent::Network(true));
            bed.feed(Input::Token(Ok("fresh".into())));
            bed.send(&with("bob"), "k2");
            bed.pass(3_600_000);
            assert_eq!((bed.status(), bed.dials.len(), bed.tokens_asked), (Stopped, dials, asked), "{name}");
            assert_eq!(bed.client.next_deadline(), None, "{code:?} {name}");
            assert!(!bed.disk.outbox.is_empty(), "the next process sends it");
        }
    }
}

#[test]
fn a_peer_that_ends_the_session_in_the_clients_own_words_leaves_nobody_without_an_answer() {
    for code in [Code::CLOSED, Code::LOGGED_OUT] {
        let mut bed = Bed::online();
        let send = bed.send(&with("bob"), "k1");
        bed.close(code);
        let close = bed.command(Command::Close);
        assert!(bed.answered(close));
        assert_eq!(bed.error(send), code);
    }
}

#[test]
fn a_hello_that_came_too_late_is_said_again_ever_more_rarely() {
    let mut bed = Bed::new();
    let began = bed.now;
    for _ in 0..12 {
        let hello = bed.greet();
        assert!(hello.dial > 0);
        bed.reject(1, Code::REPLACED, 0);
        assert_eq!((bed.status(), bed.reason()), (Offline, Some(Code::REPLACED)));
    }
    assert!(bed.now - began > 10_000, "{} ms", bed.now - began);
    bed.go_online(0);
    assert_eq!((bed.status(), bed.tokens_asked), (Online, 1));
}
