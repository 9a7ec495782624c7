//! The connection: how it is made, kept, lost and ended.

// Helpers are test code too; clippy sees only `#[test]` functions so.
#![allow(clippy::unwrap_used)]

mod common;

use bytes::Bytes;
use common::*;
use hongyan_client::limits::*;
use hongyan_client::view::SessionStatus::{Connecting, Offline, Online, Stopped};
use hongyan_client::{Command, Event, Generation, HostEvent, Input};
use hongyan_protocol::wire::client_frame::Verb;
use hongyan_protocol::wire::{self, relay_frame::Event as Relay};
use hongyan_protocol::{Code, DeviceId, VERSION};

#[test]
fn login_asks_once_for_a_token_and_says_who_it_is() {
    let mut bed = Bed::new();
    assert_eq!((bed.status(), bed.tokens_asked, bed.dials.len()), (Connecting, 1, 0));
    bed.pass(5_000);
    assert_eq!(bed.tokens_asked, 1);
    let hello = bed.greet();
    assert_eq!(hello.version, VERSION);
    assert_eq!(
        (hello.token.as_str(), hello.user.as_str(), hello.agent.as_str()),
        ("token", "alice", "test/1")
    );
    assert_eq!((hello.epoch.as_str(), hello.cursor), ("", 0));
    assert_eq!(Some(hello.device.as_str()), bed.client.device().map(DeviceId::as_str));
    assert_eq!(bed.status(), Connecting);
    bed.say(1, welcome("e1", 0));
    assert_eq!(bed.status(), Online);
    assert!(bed.client.state().caught_up);
}

#[test]
fn the_device_keeps_its_id_and_another_user_gets_another() {
    let mut bed = Bed::online();
    let device = bed.client.device().cloned();
    bed.crash();
    assert_eq!(bed.client.device().cloned(), device);
    let hello = bed.greet();
    assert_eq!(Some(hello.device.as_str()), device.as_ref().map(DeviceId::as_str));
}

/// What ends a connection, and what state and tries follow.
#[test]
fn the_class_of_the_end_decides() {
    let cases = [
        (Code(1006), Offline),
        (Code::BUSY, Offline),
        (Code::GOING_AWAY, Offline),
        (Code::SLOW_READER, Offline),
        (Code(4299), Offline),
        (Code(3000), Offline),
        (Code::TOKEN_USER_MISMATCH, Stopped),
        (Code::VERSION_UNSUPPORTED, Stopped),
        (Code(4399), Stopped),
    ];
    for (code, status) in cases {
        let mut bed = Bed::online();
        bed.close(code);
        assert_eq!((bed.status(), bed.reason()), (status, Some(code)), "{code:?}");
        bed.pass(120_000);
        assert_eq!(bed.dials.len() > 1, status == Offline, "{code:?}");

        let mut bed = Bed::new();
        bed.greet();
        bed.reject(1, code, 0);
        assert_eq!((bed.status(), bed.reason()), (status, Some(code)), "reject of the hello: {code:?}");
        assert_eq!(bed.hangups.len(), 1);

        let mut bed = Bed::online();
        bed.reject(0, code, 0);
        assert_eq!((bed.status(), bed.reason()), (status, Some(code)), "unasked reject: {code:?}");
    }
}

#[test]
fn back_off_doubles_to_its_cap_with_full_jitter_and_starts_again_after_a_good_connection() {
    let mut bed = Bed::new();
    bed.feed(Input::Token(Ok("token".into())));
    let mut longest = 0;
    for failure in 0..40u32 {
        bed.socket = *bed.dials.last().unwrap();
        bed.close(Code(1006));
        let wait = bed.client.state().retry_at.unwrap().0 - bed.now;
        assert!(wait <= (BACKOFF_FIRST_MS << failure.min(16)).min(BACKOFF_MAX_MS));
        longest = longest.max(wait);
        bed.until(bed.now + wait + 1);
        assert_eq!(bed.status(), Connecting);
    }
    assert!(longest > BACKOFF_MAX_MS / 2 && longest <= BACKOFF_MAX_MS);
    assert_eq!(bed.tokens_asked, 1, "a token that was not refused is kept");

    // A relay that welcomes and dies at once is no reason to come faster …
    bed.socket = *bed.dials.last().unwrap();
    bed.feed(Input::Opened(bed.socket));
    bed.say(0, welcome("e1", 0));
    bed.close(Code(1006));
    let waits: Vec<_> = (0..20)
        .map(|_| {
            let wait = bed.client.state().retry_at.unwrap().0 - bed.now;
            bed.pass(wait + 1);
            bed.socket = *bed.dials.last().unwrap();
            bed.feed(Input::Opened(bed.socket));
            bed.say(0, welcome("e1", 0));
            bed.close(Code(1006));
            wait
        })
        .collect();
    assert!(waits.iter().max().unwrap() > &(BACKOFF_MAX_MS / 2));
    // … one that held is.
    let wait = bed.client.state().retry_at.unwrap().0 - bed.now;
    bed.pass(wait + 1);
    bed.socket = *bed.dials.last().unwrap();
    bed.feed(Input::Opened(bed.socket));
    bed.say(0, welcome("e1", 0));
    bed.pass(STABLE_MS);
    bed.close(Code(1006));
    assert!(bed.client.state().retry_at.unwrap().0 - bed.now <= BACKOFF_FIRST_MS);
}

#[test]
fn the_relays_retry_after_is_the_least_wait_also_when_the_host_wakes() {
    for how in ["reject", "retire"] {
        let mut bed = Bed::online();
        if how == "reject" {
            bed.reject(0, Code::BUSY, 7_000);
        } else {
            bed.say(0, Relay::Retire(wire::Retire { retry_after_ms: 7_000 }));
        }
        let began = bed.now;
        assert_eq!(bed.status(), Offline);
        assert_eq!(bed.hangups.len(), 1);
        bed.host(HostEvent::Wake);
        bed.pass(6_999);
        assert_eq!(bed.dials.len(), 1, "{how}");
        bed.until(began + 7_000 + BACKOFF_FIRST_MS);
        assert_eq!(bed.dials.len(), 2, "{how}");
    }
}

#[test]
fn an_expired_token_is_replaced_and_a_provider_that_repeats_it_does_not_make_a_tight_loop() {
    let mut bed = Bed::new();
    let began = bed.now;
    for round in 1..=12 {
        bed.greet();
        bed.reject(1, Code::TOKEN_EXPIRED, 0);
        assert_eq!(bed.tokens_asked, round);
        assert_eq!(bed.status(), Offline);
    }
    assert!(bed.now - began > 10_000, "{} ms", bed.now - began);
}

#[test]
fn a_token_that_served_before_is_tried_fresh_once_before_its_refusal_is_final() {
    let mut bed = Bed::online();
    bed.close(Code(1006));
    bed.greet();
    assert_eq!(bed.tokens_asked, 1);
    bed.reject(1, Code::TOKEN_INVALID, 0);
    assert_eq!(bed.status(), Offline);
    bed.greet();
    assert_eq!(bed.tokens_asked, 2);
    bed.reject(1, Code::TOKEN_INVALID, 0);
    assert_eq!((bed.status(), bed.reason()), (Stopped, Some(Code::TOKEN_INVALID)));
    bed.pass(600_000);
    assert_eq!(bed.dials.len(), 3);
}

#[test]
fn a_provider_that_fails_or_is_silent_leads_to_another_try() {
    let mut bed = Bed::new();
    bed.feed(Input::Token(Err("no session cookie".into())));
    assert_eq!(bed.status(), Offline);
    assert_eq!(bed.client.state().reason.unwrap().message, "no session cookie");
    bed.pass(BACKOFF_FIRST_MS + 1);
    assert_eq!((bed.status(), bed.tokens_asked), (Connecting, 2));
    // Silent: offline after its time, but never asked again before it answers.
    bed.pass(TOKEN_MS + BACKOFF_MAX_MS);
    assert_eq!((bed.tokens_asked, bed.dials.len()), (2, 0));
    bed.feed(Input::Token(Ok("late".into())));
    bed.pass(BACKOFF_MAX_MS);
    assert!(!bed.dials.is_empty());
}

#[test]
fn a_token_that_cannot_be_one_is_the_providers_failure() {
    for token in [String::new(), "x".repeat(8 * 1024 + 1)] {
        let mut bed = Bed::new();
        bed.feed(Input::Token(Ok(token)));
        assert_eq!((bed.status(), bed.dials.len()), (Offline, 0));
        bed.pass(BACKOFF_FIRST_MS + 1);
        assert_eq!(bed.tokens_asked, 2);
    }
}

#[test]
fn the_application_is_told_each_state_once() {
    let mut bed = Bed::online();
    bed.say(0, bobs(1, 1));
    bed.pass(30);
    bed.close(Code::GOING_AWAY);
    bed.pass(BACKOFF_FIRST_MS + 1);
    bed.command(Command::Close);
    let states: Vec<_> = bed
        .events
        .iter()
        .filter_map(|event| match event {
            Event::State(state) => Some(state),
            _ => None,
        })
        .collect();
    let statuses: Vec<_> = states.iter().map(|state| state.status).collect();
    assert_eq!(statuses, [Connecting, Online, Offline, Connecting, Stopped]);
    assert!(states[2].retry_at.is_some() && states[2].reason.is_some());
    assert!(states[1].caught_up && !states[0].caught_up);
}

#[test]
fn dialling_and_hello_have_deadlines() {
    let mut bed = Bed::new();
    bed.feed(Input::Token(Ok("token".into())));
    bed.pass(DIAL_MS);
    assert_eq!((bed.status(), bed.reason(), bed.hangups.len()), (Offline, Some(Code::TIMED_OUT), 1));
    bed.greet();
    bed.pass(HELLO_MS);
    assert_eq!((bed.status(), bed.reason(), bed.hangups.len()), (Offline, Some(Code::HELLO_TIMED_OUT), 2));
}

#[test]
fn without_network_nothing_is_dialled_and_its_return_dials_at_once() {
    let mut bed = Bed::fresh();
    bed.host(HostEvent::Network(false));
    bed.restore();
    assert_eq!((bed.status(), bed.tokens_asked), (Offline, 0));
    bed.pass(3_600_000);
    bed.host(HostEvent::Wake);
    assert_eq!((bed.status(), bed.tokens_asked), (Offline, 0));
    bed.host(HostEvent::Network(true));
    assert_eq!((bed.status(), bed.tokens_asked), (Connecting, 1));
    bed.feed(Input::Token(Ok("token".into())));
    bed.host(HostEvent::Network(false));
    assert_eq!((bed.status(), bed.hangups.len()), (Offline, 1));
    assert_eq!(bed.client.next_deadline(), None);
    bed.host(HostEvent::Network(true));
    assert_eq!(bed.dials.len(), 2);
}

#[test]
fn a_hidden_idle_page_stops_dialling_until_it_is_looked_at_or_has_something_to_send() {
    for wakes in [true, false] {
        let mut bed = Bed::online();
        bed.host(HostEvent::Visible(false));
        bed.pass(10_000);
        bed.close(Code(1006));
        bed.pass(HIDDEN_IDLE_MS * 3);
        for _ in 0..100 {
            if let Some(dial) = bed.dials.last().filter(|_| bed.status() == Connecting) {
                bed.socket = *dial;
                bed.close(Code(1006));
            }
            bed.pass(BACKOFF_MAX_MS);
        }
        assert_eq!((bed.status(), bed.client.state().retry_at), (Offline, None));
        let before = bed.dials.len();
        bed.pass(3_600_000);
        assert_eq!(bed.dials.len(), before);
        // The token may have ended meanwhile: a fresh one is asked for then.
        let asked = bed.tokens_asked;
        if wakes {
            bed.host(HostEvent::Visible(true));
        } else {
            bed.send(&with("bob"), "k1");
        }
        assert_eq!(bed.status(), Connecting);
        assert_eq!(bed.tokens_asked, asked + 1);
    }
}

#[test]
fn the_relays_ping_is_answered_at_once() {
    let mut bed = Bed::online();
    bed.say(0, Relay::Ping(wire::Ping { nonce: 77 }));
    assert!(matches!(bed.frame().verb, Some(Verb::Pong(wire::Pong { nonce: 77 }))));
}

fn ping(bed: &mut Bed) -> u64 {
    match bed.frame().verb {
        Some(Verb::Ping(ping)) => ping.nonce,
        _ => panic!("a probe"),
    }
}

#[test]
fn a_probe_ends_a_socket_only_when_it_is_not_answered() {
    type Cause = fn(&mut Bed);
    let causes: [(&str, Cause); 6] = [
        ("wake", |bed| bed.host(HostEvent::Wake)),
        ("visible", |bed| bed.host(HostEvent::Visible(true))),
        ("network", |bed| bed.host(HostEvent::Network(true))),
        ("silence", |bed| bed.pass(15_000)),
        ("slow send", |bed| {
            bed.send(&with("bob"), "k1");
            bed.sent();
            bed.pass(ANSWER_SLOW_MS);
        }),
        ("slow request", |bed| {
            bed.history(&with("bob"), None, None, 10);
            bed.frame();
            bed.pass(ANSWER_SLOW_MS);
        }),
    ];
    for (name, cause) in causes {
        let mut bed = Bed::online();
        cause(&mut bed);
        let nonce = ping(&mut bed);
        bed.say(0, Relay::Pong(wire::Pong { nonce }));
        bed.pass(PROBE_MS + 1);
        assert_eq!((bed.status(), bed.hangups.len()), (Online, 0), "{name}");

        let mut bed = Bed::online();
        cause(&mut bed);
        ping(&mut bed);
        assert!(bed.frames.is_empty(), "{name}: one probe at a time");
        bed.pass(PROBE_MS);
        assert_eq!(bed.hangups, [Code::SILENT], "{name}");
        assert_eq!(bed.status(), Offline, "{name}");
        bed.pass(BACKOFF_FIRST_MS + 1);
        assert_eq!(bed.dials.len(), 2, "{name}");
    }
}

#[test]
fn a_timer_that_comes_late_asks_before_it_ends_a_socket() {
    let mut bed = Bed::online();
    bed.host(HostEvent::Wake);
    ping(&mut bed);
    // The page froze: the deadline is told a minute late, with the answer still in the socket.
    bed.now += 60_000;
    bed.feed(Input::Tick);
    assert_eq!(bed.status(), Online);
    let nonce = ping(&mut bed);
    bed.say(0, Relay::Pong(wire::Pong { nonce }));
    bed.pass(PROBE_MS * 2);
    assert_eq!(bed.status(), Online);
    // Once; a dead socket ends also where all timers are late.
    bed.host(HostEvent::Wake);
    for _ in 0..2 {
        bed.now += 60_000;
        bed.feed(Input::Tick);
    }
    assert_eq!((bed.status(), bed.hangups.as_slice()), (Offline, [Code::SILENT].as_slice()));
}

#[test]
fn frames_that_still_come_put_the_probes_end_off() {
    let mut bed = Bed::online();
    bed.host(HostEvent::Wake);
    let nonce = ping(&mut bed);
    for n in 1..=10 {
        bed.pass(PROBE_MS - 100);
        bed.say(0, bobs(n, n));
    }
    assert_eq!(bed.status(), Online);
    bed.say(0, Relay::Pong(wire::Pong { nonce }));
    bed.pass(PROBE_MS * 2);
    assert_eq!(bed.status(), Online);
}

#[test]
fn events_of_an_older_socket_are_ignored() {
    let mut bed = Bed::online();
    let old = bed.socket;
    bed.close(Code(1006));
    bed.go_online(0);
    let frame = wire::RelayFrame::push(bobs(1, 1)).to_bytes().unwrap();
    bed.feed(Input::Frame(old, frame));
    bed.feed(Input::Opened(old));
    bed.feed(Input::Closed { generation: old, code: Code::LOGGED_OUT, reason: String::new() });
    bed.feed(Input::Closed { generation: Generation(99), code: Code::LOGGED_OUT, reason: String::new() });
    assert_eq!(bed.status(), Online);
    assert!(bed.messages().is_empty());
}

#[test]
fn the_token_is_renewed_on_the_open_connection() {
    for (expires, renew_at) in [(3_600_000, 3_540_000), (100_000, 50_000)] {
        let mut bed = Bed::new();
        bed.greet();
        let Relay::Welcome(mut hi) = welcome("e1", 0) else { unreachable!() };
        hi.token_expires_in_ms = expires;
        hi.silence_ms = 0;
        bed.say(1, Relay::Welcome(hi));
        bed.pass(renew_at - 1);
        assert_eq!(bed.tokens_asked, 1);
        bed.pass(1);
        assert_eq!(bed.tokens_asked, 2);
        bed.pass(100);
        assert_eq!(bed.tokens_asked, 2, "in flight only once");
        // The provider fails once, and is asked again before the end.
        bed.feed(Input::Token(Err("down".into())));
        bed.pass((expires - renew_at) / 2);
        assert_eq!((bed.tokens_asked, bed.status()), (3, Online));
        bed.feed(Input::Token(Ok("fresh".into())));
        let frame = bed.frame();
        assert!(matches!(&frame.verb, Some(Verb::Renew(renew)) if renew.token == "fresh"));
        bed.say(frame.request, Relay::Renewed(wire::Renewed { token_expires_in_ms: expires }));
        let asked = bed.tokens_asked;
        bed.pass(renew_at - 1);
        assert_eq!(bed.tokens_asked, asked);
        bed.pass(1);
        assert_eq!(bed.tokens_asked, asked + 1);
        // The renewed one serves the next hello.
        bed.feed(Input::Token(Ok("third".into())));
        bed.close(Code(1006));
        bed.pass(BACKOFF_FIRST_MS + 1);
        bed.feed(Input::Opened(*bed.dials.last().unwrap()));
        assert!(
            bed.frames
                .iter()
                .any(|frame| matches!(&frame.verb, Some(Verb::Hello(hello)) if hello.token == "third"))
        );
    }
}

#[test]
fn bytes_that_are_no_frame_end_the_connection_and_unknown_kinds_do_not() {
    let mut bed = Bed::online();
    bed.feed(Input::Frame(bed.socket, Bytes::from_static(b"\xfa\x07\x01x")));
    bed.say(0, Relay::Pong(wire::Pong { nonce: 1 }));
    assert_eq!(bed.status(), Online);
    bed.feed(Input::Frame(bed.socket, Bytes::from_static(b"\xff\xff\xff")));
    assert_eq!(
        (bed.status(), bed.reason(), bed.hangups.as_slice()),
        (Offline, Some(Code::BAD_FRAME), [Code::BAD_FRAME].as_slice())
    );
    bed.go_online(0);
}

#[test]
fn a_welcome_of_another_version_stops() {
    let mut bed = Bed::new();
    bed.greet();
    let Relay::Welcome(mut hi) = welcome("e1", 0) else { unreachable!() };
    hi.version = VERSION + 1;
    bed.say(1, Relay::Welcome(hi));
    assert_eq!((bed.status(), bed.reason()), (Stopped, Some(Code::VERSION_UNSUPPORTED)));
    assert_eq!(bed.client.next_deadline(), None);
}

#[test]
fn close_says_goodbye_persists_and_answers_what_waits() {
    let mut bed = Bed::online();
    bed.saves_at_once = false;
    bed.say(0, bobs(1, 1));
    bed.say(0, bobs(2, 2));
    let group = bed.command(Command::CreateGroup { key: None, title: "t".into(), members: vec![] });
    let send = bed.send(&with("bob"), "k1");
    bed.frames.clear();
    let close = bed.command(Command::Close);
    assert!(matches!(bed.frame().verb, Some(Verb::Bye(wire::Bye { logout: false, .. }))));
    assert_eq!(
        (bed.status(), bed.reason(), bed.hangups.as_slice()),
        (Stopped, Some(Code::CLOSED), [Code(1000)].as_slice())
    );
    assert_eq!(bed.error(group), Code::CLOSED);
    assert!(!bed.answered(close), "not before everything is persisted");
    while bed.save() {}
    assert!(bed.answered(close));
    assert_eq!(bed.error(send), Code::CLOSED);
    assert_eq!(bed.messages(), ["b1", "b2"]);
    assert_eq!(bed.disk.outbox.len(), 1);
    let late = bed.send(&with("bob"), "k2");
    assert_eq!(bed.error(late), Code::CLOSED);
    let again = bed.command(Command::Close);
    assert!(bed.answered(again));
    // What was written is sent by the next process.
    bed.saves_at_once = true;
    bed.crash();
    bed.go_online(2);
    assert_eq!(bed.sent().1.key, "k1");
}

#[test]
fn logout_empties_the_cache_unless_it_is_kept() {
    for keep_cache in [false, true] {
        let mut bed = Bed::online();
        bed.say(0, bobs(1, 2));
        bed.frames.clear();
        let logout = bed.command(Command::Logout { keep_cache });
        let _ = bed.acks();
        assert!(matches!(bed.frame().verb, Some(Verb::Bye(wire::Bye { logout: true, .. }))));
        assert!(bed.answered(logout));
        assert_eq!((bed.status(), bed.reason()), (Stopped, Some(Code::LOGGED_OUT)));
        assert_eq!(bed.disk.messages.is_empty(), !keep_cache);
        assert_eq!(bed.disk.meta.is_none(), !keep_cache);
    }
}

#[test]
fn a_device_that_was_signed_out_keeps_nothing() {
    let mut bed = Bed::online();
    bed.say(0, bobs(1, 2));
    let send = bed.send(&with("bob"), "k1");
    bed.close(Code::LOGGED_OUT);
    assert_eq!((bed.status(), bed.reason()), (Stopped, Some(Code::LOGGED_OUT)));
    assert_eq!(bed.error(send), Code::LOGGED_OUT);
    assert!(bed.disk.messages.is_empty() && bed.disk.meta.is_none() && bed.disk.outbox.is_empty());
}

#[test]
#[should_panic(expected = "poll until None")]
fn outputs_are_drained_before_the_next_input() {
    let mut bed = Bed::fresh();
    let now = bed.time();
    bed.client.handle(now, Input::Restored(Default::default()));
    bed.client.handle(now, Input::Tick);
}
