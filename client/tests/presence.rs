//! How watched users are.

// Helpers are test code too; clippy sees only `#[test]` functions so.
#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use hongyan_client::limits::*;
use hongyan_client::view::{Presence, PresenceCause, PresenceStatus};
use hongyan_client::{Answer, Command, Event, HostEvent, Input};
use hongyan_protocol::limits::{WATCH_USERS_MAX, WATCHED_MAX};
use hongyan_protocol::wire::client_frame::Verb;
use hongyan_protocol::wire::{self, entry::Change, relay_frame::Event as Relay};
use hongyan_protocol::{Code, Time, UserId};

fn users(names: &[&str]) -> Vec<UserId> {
    names.iter().map(|name| user(name)).collect()
}

fn watch(bed: &mut Bed, by: u32, names: &[&str]) -> u64 {
    bed.command(Command::Watch { by, users: users(names) })
}

/// The next frame asks how these are.
fn asked(bed: &mut Bed) -> (u64, Vec<String>) {
    match bed.frame() {
        wire::ClientFrame { request, verb: Some(Verb::Watch(watch)) } => (request, watch.users),
        _ => panic!("a request to watch"),
    }
}

fn unwatched(bed: &mut Bed) -> Vec<String> {
    match bed.frame().verb {
        Some(Verb::Unwatch(unwatch)) => unwatch.users,
        _ => panic!("the end of a watch"),
    }
}

fn is(user: &str, status: wire::PresenceStatus, since: u64) -> wire::Presence {
    wire::Presence { user: user.into(), status: status.into(), since, ..Default::default() }
}

fn online(user: &str) -> wire::Presence {
    is(user, wire::PresenceStatus::Online, 7)
}

fn refused(user: &str) -> wire::Presence {
    wire::Presence { refused: true, ..is(user, wire::PresenceStatus::Unknown, 0) }
}

fn answer(bed: &mut Bed, request: u64, presences: Vec<wire::Presence>) {
    bed.say(request, Relay::Watched(wire::Watched { presences }));
}

fn push(bed: &mut Bed, presence: wire::Presence) {
    bed.say(0, Relay::Presence(presence));
}

/// The answer to a watch: name and status.
fn shown(bed: &mut Bed, request: u64) -> Vec<(String, PresenceStatus)> {
    match bed.replies.remove(&request) {
        Some(Ok(Answer::Presences(presences))) => presences.iter().map(short).collect(),
        Some(_) => panic!("another answer"),
        None => panic!("no answer"),
    }
}

fn short(presence: &Presence) -> (String, PresenceStatus) {
    (presence.user.as_str().to_owned(), presence.status)
}

/// What was told since the last look.
fn told(bed: &mut Bed) -> Vec<(String, PresenceStatus)> {
    presences(bed).iter().map(short).collect()
}

fn presences(bed: &mut Bed) -> Vec<Presence> {
    let events = std::mem::take(&mut bed.events);
    let presence = |event| match event {
        Event::Presence(presence) => Some(presence),
        _ => None,
    };
    events.into_iter().filter_map(presence).collect()
}

fn line(user: &str, status: PresenceStatus) -> (String, PresenceStatus) {
    (user.to_owned(), status)
}

/// Online, with bob and carol watched and told to be online.
fn watching() -> Bed {
    let mut bed = Bed::online();
    let watch = watch(&mut bed, 1, &["bob", "carol"]);
    let (request, _) = asked(&mut bed);
    answer(&mut bed, request, vec![online("bob"), online("carol")]);
    shown(&mut bed, watch);
    bed.events.clear();
    bed
}

#[test]
fn a_watch_waits_for_the_relay_and_then_each_change_is_told_once() {
    let mut bed = Bed::online();
    let request = watch(&mut bed, 1, &["carol", "bob"]);
    let (number, names) = asked(&mut bed);
    assert_eq!(names, ["bob", "carol"]);
    assert!(!bed.replies.contains_key(&request));
    let web = wire::DevicePresence {
        kind: wire::DeviceKind::Web.into(),
        status: wire::PresenceStatus::Away.into(),
        cause: wire::PresenceCause::Background.into(),
        since: 5,
        until: 9,
    };
    let away = wire::Presence {
        cause: wire::PresenceCause::Background.into(),
        until: 9,
        devices: vec![web],
        ..is("bob", wire::PresenceStatus::Away, 5)
    };
    answer(&mut bed, number, vec![away.clone(), online("carol")]);
    let Some(Ok(Answer::Presences(now))) = bed.replies.remove(&request) else { panic!("presences") };
    assert_eq!(now.iter().map(|one| one.user.as_str()).collect::<Vec<_>>(), ["carol", "bob"], "its order");
    assert_eq!((now[0].status, now[0].cause, now[0].since), (PresenceStatus::Online, None, Some(Time(7))));
    assert_eq!((now[1].cause, now[1].until), (Some(PresenceCause::Background), Some(Time(9))));
    assert_eq!((now[1].devices.len(), now[1].devices[0].since), (1, Some(Time(5))));
    assert!(now[1].devices[0].kind == wire::DeviceKind::Web);
    assert!(told(&mut bed).is_empty(), "the answer told it");
    push(&mut bed, away);
    assert!(told(&mut bed).is_empty());
    push(&mut bed, online("bob"));
    push(&mut bed, online("bob"));
    push(&mut bed, online("nobody-watched"));
    assert_eq!(told(&mut bed), [line("bob", PresenceStatus::Online)]);
    // A status that this version does not know is no guess.
    push(&mut bed, wire::Presence { status: 99, cause: 99, ..online("bob") });
    let one = presences(&mut bed).remove(0);
    assert_eq!((one.status, one.cause), (PresenceStatus::Unknown, None));
}

#[test]
fn whom_several_watch_is_asked_for_once_and_given_up_when_nobody_does() {
    let mut bed = watching();
    let same = watch(&mut bed, 2, &["bob"]);
    assert_eq!(shown(&mut bed, same), [line("bob", PresenceStatus::Online)]);
    let more = watch(&mut bed, 2, &["bob", "dave"]);
    let (number, names) = asked(&mut bed);
    assert_eq!(names, ["dave"]);
    push(&mut bed, is("bob", wire::PresenceStatus::Away, 8));
    assert_eq!(told(&mut bed), [line("bob", PresenceStatus::Away)], "also while another one waits");
    answer(&mut bed, number, vec![online("dave")]);
    assert_eq!(
        shown(&mut bed, more),
        [line("bob", PresenceStatus::Away), line("dave", PresenceStatus::Online)]
    );
    watch(&mut bed, 1, &[]);
    assert_eq!(unwatched(&mut bed), ["carol"]);
    push(&mut bed, is("carol", wire::PresenceStatus::Away, 8));
    assert!(told(&mut bed).is_empty());
    watch(&mut bed, 2, &[]);
    assert_eq!(unwatched(&mut bed), ["bob", "dave"]);
    // Whoever waited only for one who is not watched any more is answered.
    let waits = watch(&mut bed, 3, &["erin"]);
    assert!(!bed.answered(waits));
    let none = watch(&mut bed, 3, &[]);
    assert!(bed.answered(none) && bed.answered(waits));
    bed.close(Code(1006));
    bed.frames.clear();
    bed.go_online(0);
    assert!(bed.frames.is_empty());
}

#[test]
fn watching_is_bounded_and_goes_in_requests_within_their_limit() {
    let mut bed = Bed::online();
    let many: Vec<_> = (0..WATCHED_MAX).map(|n| user(&format!("u{n:04}"))).collect();
    let all = bed.command(Command::Watch { by: 1, users: many.clone() });
    let mut asked_for = 0;
    let requests: Vec<_> = (0..WATCHED_MAX / WATCH_USERS_MAX).map(|_| asked(&mut bed)).collect();
    assert!(bed.frames.is_empty());
    for (request, names) in requests {
        assert_eq!(names.len(), WATCH_USERS_MAX);
        assert!(!bed.replies.contains_key(&all));
        asked_for += names.len();
        answer(&mut bed, request, names.iter().map(|name| online(name)).collect());
    }
    assert_eq!((asked_for, shown(&mut bed, all).len()), (WATCHED_MAX, WATCHED_MAX));
    let over = watch(&mut bed, 2, &["one-more"]);
    assert_eq!(bed.error(over), Code::WATCH_FULL);
    let over = bed.command(Command::Watch { by: 3, users: vec![user("u0000"); WATCHED_MAX + 1] });
    assert_eq!(bed.error(over), Code::WATCH_FULL);
    assert!(bed.frames.is_empty(), "nothing changed");
    let known = watch(&mut bed, 2, &["u0001"]);
    assert!(bed.answered(known));
    // Those that ask are bounded, too …
    for by in 3..WATCHERS_MAX {
        watch(&mut bed, u32::try_from(by + 1).unwrap(), &["u0001"]);
    }
    let last = watch(&mut bed, 9_000, &["u0001"]);
    assert!(bed.answered(last));
    let over = watch(&mut bed, 9_001, &["u0001"]);
    assert_eq!(bed.error(over), Code::WATCH_FULL);

    // … and what is on the wire: the rest is asked for when an answer came.
    let mut bed = Bed::online();
    for by in 0..20 {
        watch(&mut bed, by, &[&format!("u{by}")]);
    }
    assert_eq!(bed.frames.len(), WATCHES_IN_FLIGHT_MAX);
    let (request, names) = asked(&mut bed);
    answer(&mut bed, request, vec![online(&names[0])]);
    assert_eq!(bed.frames.len(), WATCHES_IN_FLIGHT_MAX);
    assert_eq!(asked(&mut bed).1.len(), 1);
    let rest = bed.frames.pop_back().unwrap();
    assert!(matches!(rest.verb, Some(Verb::Watch(watch)) if watch.users.len() == 20 - WATCHES_IN_FLIGHT_MAX));
}

#[test]
fn a_short_loss_shows_nothing_but_real_differences() {
    let mut bed = watching();
    bed.close(Code(1006));
    bed.pass(PRESENCE_STALE_MS - 1_000);
    bed.go_online(0);
    assert!(told(&mut bed).is_empty());
    let (request, names) = asked(&mut bed);
    assert_eq!(names, ["bob", "carol"], "each connection asks for all");
    // The new connection has as long for its answer.
    bed.pass(PRESENCE_STALE_MS - 1);
    answer(&mut bed, request, vec![online("bob"), is("carol", wire::PresenceStatus::Away, 9)]);
    assert_eq!(told(&mut bed), [line("carol", PresenceStatus::Away)]);
    bed.pass(PRESENCE_STALE_MS * 2);
    assert!(told(&mut bed).is_empty());
}

#[test]
fn what_was_heard_on_a_connection_that_is_gone_becomes_unknown() {
    let mut bed = watching();
    push(&mut bed, is("carol", wire::PresenceStatus::Unknown, 3));
    bed.host(HostEvent::Network(false));
    bed.close(Code(1006));
    bed.events.clear();
    bed.pass(PRESENCE_STALE_MS - 1);
    assert!(told(&mut bed).is_empty());
    bed.pass(1);
    let one = presences(&mut bed);
    assert_eq!(one.len(), 1, "carol was unknown before");
    assert_eq!(short(&one[0]), line("bob", PresenceStatus::Unknown));
    assert_eq!(one[0].cause, Some(PresenceCause::NoChannel));
    assert_eq!(one[0].since, Some(bed.time().time));
    // The next tries change nothing.
    bed.host(HostEvent::Network(true));
    bed.pass(60_000);
    assert!(told(&mut bed).is_empty());
    bed.go_online(0);
    let (request, _) = asked(&mut bed);
    answer(&mut bed, request, vec![online("bob"), online("carol")]);
    assert_eq!(told(&mut bed), [line("bob", PresenceStatus::Online), line("carol", PresenceStatus::Online)]);

    // A connection that does not answer is none, and one that ends again and again gives no more time.
    bed.close(Code(1006));
    bed.go_online(0);
    let began = bed.now;
    bed.until(began + 3_000);
    bed.close(Code(1006));
    bed.host(HostEvent::Network(false));
    bed.until(began + PRESENCE_STALE_MS);
    assert_eq!(told(&mut bed).len(), 2);
}

#[test]
fn without_a_connection_a_watch_is_answered_with_what_is_known() {
    let mut bed = watching();
    bed.host(HostEvent::Network(false));
    bed.close(Code(1006));
    let offline = watch(&mut bed, 1, &["bob", "dave"]);
    assert_eq!(
        shown(&mut bed, offline),
        [line("bob", PresenceStatus::Online), line("dave", PresenceStatus::Unknown)]
    );
    bed.pass(PRESENCE_STALE_MS);
    assert_eq!(told(&mut bed), [line("bob", PresenceStatus::Unknown)]);
    // On the way to a connection it waits, until the connection fails …
    bed.host(HostEvent::Network(true));
    let waits = watch(&mut bed, 2, &["bob"]);
    assert!(!bed.replies.contains_key(&waits));
    bed.socket = *bed.dials.last().unwrap();
    bed.close(Code(1006));
    assert_eq!(shown(&mut bed, waits), [line("bob", PresenceStatus::Unknown)]);
    // … or for as long as other requests do.
    bed.go_online(0);
    let (request, _) = asked(&mut bed);
    let waits = watch(&mut bed, 2, &["bob"]);
    for _ in 0..REQUEST_MS / 1_000 {
        assert!(!bed.replies.contains_key(&waits));
        bed.pass(1_000);
        // The relay lives, it only does not answer this.
        while let Some(frame) = bed.frames.pop_front() {
            if let Some(Verb::Ping(ping)) = frame.verb {
                bed.say(0, Relay::Pong(wire::Pong { nonce: ping.nonce }));
            }
        }
    }
    assert_eq!(shown(&mut bed, waits), [line("bob", PresenceStatus::Unknown)]);
    bed.events.clear();
    answer(&mut bed, request, vec![online("bob"), online("dave")]);
    assert_eq!(told(&mut bed), [line("bob", PresenceStatus::Online), line("dave", PresenceStatus::Online)]);
}

#[test]
fn a_stop_makes_everybody_unknown_at_once() {
    for code in [Code::SUPERSEDED, Code::CLOSED] {
        let mut bed = watching();
        let waits = watch(&mut bed, 2, &["dave"]);
        if code == Code::CLOSED {
            bed.command(Command::Close);
        } else {
            bed.close(code);
        }
        assert_eq!(
            told(&mut bed),
            [line("bob", PresenceStatus::Unknown), line("carol", PresenceStatus::Unknown)]
        );
        // Who still waits hears the same: nothing is known.
        match code {
            Code::CLOSED => assert_eq!(bed.error(waits), code),
            _ => assert_eq!(shown(&mut bed, waits), [line("dave", PresenceStatus::Unknown)]),
        }
        let late = watch(&mut bed, 1, &["bob"]);
        assert_eq!(bed.error(late), code);
        assert_eq!(bed.client.next_deadline(), None);
    }
}

#[test]
fn who_was_refused_is_asked_for_again_when_that_may_have_changed() {
    let mut bed = Bed::online();
    let request = watch(&mut bed, 1, &["bob", "carol", "dave"]);
    let (number, _) = asked(&mut bed);
    answer(&mut bed, number, vec![refused("bob"), refused("carol"), online("dave")]);
    let Some(Ok(Answer::Presences(now))) = bed.replies.remove(&request) else { panic!("presences") };
    assert!(now[0].refused && !now[2].refused);
    // A first message of bob, and more of them within the second.
    bed.say(0, bobs(1, 1));
    let (number, names) = asked(&mut bed);
    assert_eq!(names, ["bob"]);
    answer(&mut bed, number, vec![refused("bob")]);
    bed.events.clear();
    bed.say(0, bobs(2, 2));
    bed.say(0, bobs(3, 3));
    bed.pass(REFUSED_ASK_MS - 1);
    let _ = bed.acks();
    assert!(bed.frames.is_empty());
    bed.pass(1);
    let (number, names) = asked(&mut bed);
    assert_eq!(names, ["bob"]);
    answer(&mut bed, number, vec![online("bob")]);
    assert_eq!(told(&mut bed), [line("bob", PresenceStatus::Online)]);
    bed.pass(REFUSED_ASK_MS);
    // Who is not refused is not asked for again; a group's change may permit everybody.
    let change = wire::GroupChange {
        conversation: "g1".into(),
        kind: wire::GroupChangeKind::Created.into(),
        by: "erin".into(),
        users: vec!["alice".into(), "carol".into()],
        version: 1,
        owner: "erin".into(),
        ..Default::default()
    };
    bed.say(0, batch(vec![entry(4, Change::Group(change))]));
    assert_eq!(asked(&mut bed).1, ["carol"]);
}

#[test]
fn a_watch_that_the_relay_puts_off_or_refuses_ends_well() {
    let mut bed = Bed::online();
    let request = watch(&mut bed, 1, &["bob"]);
    let (number, _) = asked(&mut bed);
    bed.reject(number, Code::RATE_LIMITED, 1_000);
    let other = watch(&mut bed, 2, &["carol"]);
    bed.pass(999);
    assert!(bed.frames.is_empty(), "others wait, too");
    bed.pass(1 + BACKOFF_FIRST_MS);
    let (number, names) = asked(&mut bed);
    assert_eq!(names, ["bob", "carol"]);
    // An older relay: nothing is known, and it is not asked again.
    bed.reject(number, Code::VERB_UNKNOWN, 0);
    assert_eq!(shown(&mut bed, request), [line("bob", PresenceStatus::Unknown)]);
    assert_eq!(shown(&mut bed, other), [line("carol", PresenceStatus::Unknown)]);
    bed.pass(10_000);
    assert!(bed.frames.iter().all(|frame| !matches!(frame.verb, Some(Verb::Watch(_)))));
    // An answer that lacks somebody.
    let request = watch(&mut bed, 3, &["dave", "erin"]);
    bed.frames.retain(|frame| matches!(frame.verb, Some(Verb::Watch(_))));
    let (number, _) = asked(&mut bed);
    answer(&mut bed, number, vec![online("dave")]);
    assert_eq!(
        shown(&mut bed, request),
        [line("dave", PresenceStatus::Online), line("erin", PresenceStatus::Unknown)]
    );
}

mod whatever_happens {
    use std::collections::BTreeMap;

    use hongyan_client::view::SessionStatus;
    use proptest::prelude::*;

    use super::*;

    const NAMES: [&str; 4] = ["bob", "carol", "dave", "erin"];

    /// What the application shows, and what is true.
    struct World {
        bed: Bed,
        truth: [u64; 4],
        /// Whom the relay was told to watch on this connection.
        at_relay: [bool; 4],
        watched: [bool; 4],
        shown: BTreeMap<String, Presence>,
        lost_at: Option<u64>,
    }

    impl World {
        fn is(&self, at: usize) -> wire::Presence {
            is(NAMES[at], wire::PresenceStatus::Online, self.truth[at])
        }

        fn comes_online(&mut self) {
            self.at_relay = [false; 4];
            self.bed.go_online(0);
        }

        /// The relay takes what the client sent; with `answers`, it answers.
        fn relay(&mut self, answers: bool) {
            while let Some(frame) = self.bed.frames.pop_front() {
                match frame.verb {
                    Some(Verb::Watch(watch)) => {
                        let at = |name: &String| NAMES.iter().position(|other| other == name).unwrap();
                        let users: Vec<_> = watch.users.iter().map(at).collect();
                        users.iter().for_each(|at| self.at_relay[*at] = true);
                        if answers {
                            let presences = users.iter().map(|at| self.is(*at)).collect();
                            answer(&mut self.bed, frame.request, presences);
                        } else {
                            self.bed.reject(frame.request, Code::BUSY, 10);
                            users.iter().for_each(|at| self.at_relay[*at] = false);
                        }
                    }
                    Some(Verb::Unwatch(unwatch)) => {
                        for (at, name) in NAMES.iter().enumerate() {
                            self.at_relay[at] &= !unwatch.users.iter().any(|other| other == name);
                        }
                    }
                    Some(Verb::Ping(ping)) => {
                        self.bed.say(0, Relay::Pong(wire::Pong { nonce: ping.nonce }));
                    }
                    _ => {}
                }
            }
        }

        fn look(&mut self) {
            for presence in presences(&mut self.bed) {
                let name = presence.user.as_str().to_owned();
                let before = self.shown.insert(name.clone(), presence.clone());
                assert!(before != Some(presence), "{name} is told to be as before");
            }
            match self.bed.status() {
                SessionStatus::Online => self.lost_at = None,
                _ => {
                    let lost = *self.lost_at.get_or_insert(self.bed.now);
                    if self.bed.now >= lost + PRESENCE_STALE_MS {
                        for (at, name) in NAMES.iter().enumerate().filter(|(at, _)| self.watched[*at]) {
                            let status = self.shown.get(*name).map(|one| one.status);
                            let unknown = status.is_none_or(|status| status == PresenceStatus::Unknown);
                            assert!(unknown, "{name} ({at}) is shown from a connection that is gone");
                        }
                    }
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn presence_is_the_relays_or_unknown_whatever_happens(
            steps in proptest::collection::vec((0_u8..8, 0_usize..4, any::<u16>()), 1..80)
        ) {
            let mut world = World {
                bed: Bed::online(),
                truth: [1; 4],
                at_relay: [false; 4],
                watched: [false; 4],
                shown: BTreeMap::new(),
                lost_at: None,
            };
            let mut time = 1;
            for (step, at, any) in steps {
                let is_online = world.bed.status() == SessionStatus::Online;
                match step {
                    0 | 1 => {
                        let names: Vec<_> = (0..4).filter(|n| any >> n & 1 == 1).collect();
                        world.watched = std::array::from_fn(|n| names.contains(&n));
                        let names: Vec<_> = names.iter().map(|n| NAMES[*n]).collect();
                        watch(&mut world.bed, 1, &names);
                        world.shown.retain(|name, _| names.contains(&name.as_str()));
                    }
                    2 | 3 => {
                        time += 1;
                        world.truth[at] = time;
                        if is_online && world.at_relay[at] {
                            let presence = world.is(at);
                            push(&mut world.bed, presence);
                        }
                    }
                    4 if is_online => world.bed.close(Code(1006)),
                    5 if !is_online => world.comes_online(),
                    6 if is_online => world.relay(any & 1 == 0),
                    _ => world.bed.pass(u64::from(any) % 3_000),
                }
                world.look();
                // What waits for an answer is answered by a reply, which counts as told.
                for (_, reply) in std::mem::take(&mut world.bed.replies) {
                    if let Ok(Answer::Presences(now)) = reply {
                        for one in now {
                            let name = one.user.as_str().to_owned();
                            let at = NAMES.iter().position(|other| *other == name).unwrap();
                            if world.watched[at] {
                                world.shown.insert(name, one);
                            }
                        }
                    }
                }
            }
            for _ in 0..200 {
                if world.bed.status() != SessionStatus::Online {
                    world.comes_online();
                }
                world.relay(true);
                world.bed.pass(BACKOFF_FIRST_MS);
            }
            world.look();
            for (_, reply) in std::mem::take(&mut world.bed.replies) {
                if let Ok(Answer::Presences(now)) = reply {
                    for one in now {
                        world.shown.insert(one.user.as_str().to_owned(), one);
                    }
                }
            }
            for (at, name) in NAMES.iter().enumerate().filter(|(at, _)| world.watched[*at]) {
                let shown = world.shown.get(*name);
                prop_assert!(shown.is_some_and(|one| one.since == Some(Time(world.truth[at]))), "{}", name);
            }
        }
    }
}

#[test]
fn no_presence_makes_the_client_panic_or_reply_twice() {
    let mut bed = watching();
    for odd in [online(""), online(&"x".repeat(300)), wire::Presence::default()] {
        push(&mut bed, odd.clone());
        answer(&mut bed, 0, vec![odd.clone()]);
        answer(&mut bed, 12_345, vec![odd]);
    }
    assert!(told(&mut bed).is_empty());
    bed.feed(Input::Tick);
}
