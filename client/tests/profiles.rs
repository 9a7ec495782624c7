//! Profiles on the device: from the cache at once, from the queue, and from the relay where it is asked.

#![allow(clippy::unwrap_used)] // The helpers are outside of test functions.

mod common;

use common::*;
use hongyan_client::limits::{
    PROFILES_AT_ONCE_MAX, PROFILES_DELAY_MS, PROFILES_IN_FLIGHT_MAX, PROFILES_MAX, PROFILES_WAITED_MAX,
    SAVED_BYTES_TARGET,
};
use hongyan_client::{Answer, Command, Event, Write};
use hongyan_protocol::wire::client_frame::Verb;
use hongyan_protocol::wire::{self, entry::Change, relay_frame::Event as Relay};
use hongyan_protocol::{Code, Key, UserId, limits};
use proptest::prelude::*;

fn profile(of: &str, version: u64, name: &str) -> wire::Profile {
    wire::Profile {
        user: of.into(),
        version,
        time: 1_000 + version,
        name: name.into(),
        avatar: String::new(),
    }
}

/// A profile in words: `bob#2 Bob`.
fn words(profile: &hongyan_client::view::Profile) -> String {
    format!("{}#{} {}", profile.user, profile.version, profile.name.as_deref().unwrap_or("-"))
}

/// The profiles that the application was told of since it was last asked.
fn told(bed: &mut Bed) -> Vec<String> {
    let events = core::mem::take(&mut bed.events);
    let told = |event| match event {
        Event::Profile(profile) => Some(words(&profile)),
        _ => None,
    };
    events.into_iter().filter_map(told).collect()
}

fn get(bed: &mut Bed, users: &[&str]) -> u64 {
    bed.command(Command::Profiles(users.iter().map(|id| user(id)).collect()))
}

/// The answer to a `get`, if it came.
fn got(bed: &mut Bed, request: u64) -> Option<Vec<String>> {
    match bed.replies.remove(&request)? {
        Ok(Answer::Profiles(profiles)) => Some(profiles.iter().map(words).collect()),
        Ok(_) => panic!("no profiles"),
        Err(error) => panic!("{error:?}"),
    }
}

/// The requests for profiles on the wire: whom, with the version that is known.
fn asked(bed: &mut Bed) -> Vec<(u64, Vec<(String, u64)>)> {
    let mut asked = Vec::new();
    bed.frames.retain(|frame| match &frame.verb {
        Some(Verb::GetProfiles(get)) => {
            let users = get.users.iter().map(|one| (one.user.clone(), one.version)).collect();
            asked.push((frame.request, users));
            false
        }
        _ => true,
    });
    asked
}

fn list(profiles: Vec<wire::Profile>) -> Relay {
    Relay::ProfileList(wire::ProfileList { profiles })
}

fn told_by_queue(bed: &mut Bed, pos: u64, profile: wire::Profile) {
    bed.say(0, batch(vec![entry(pos, Change::Profile(profile))]));
}

#[test]
fn what_is_missing_is_asked_for_in_one_request_for_all_of_a_moment() {
    let mut bed = Bed::online();
    let first = get(&mut bed, &["bob"]);
    let second = get(&mut bed, &["carol", "bob"]);
    assert!(asked(&mut bed).is_empty() && got(&mut bed, first).is_none());
    bed.pass(PROFILES_DELAY_MS);
    let requests = asked(&mut bed);
    assert_eq!(requests[0].1, [("bob".to_owned(), 0), ("carol".to_owned(), 0)]);
    assert_eq!(requests.len(), 1);
    bed.say(requests[0].0, list(vec![profile("bob", 2, "Bob")]));
    assert_eq!(got(&mut bed, first).unwrap(), ["bob#2 Bob"]);
    assert_eq!(got(&mut bed, second).unwrap(), ["carol#0 -", "bob#2 Bob"]);
    assert_eq!(told(&mut bed), ["bob#2 Bob"]);

    // Once for a connection, also of who has none.
    let again = get(&mut bed, &["bob", "carol"]);
    assert_eq!(got(&mut bed, again).unwrap(), ["bob#2 Bob", "carol#0 -"]);
    bed.pass(1_000);
    assert!(asked(&mut bed).is_empty() && told(&mut bed).is_empty());
}

#[test]
fn what_is_cached_is_given_at_once_and_asked_for_once_on_each_connection() {
    let mut bed = Bed::online();
    told_by_queue(&mut bed, 1, profile("bob", 2, "Bob"));
    bed.crash();
    // Without a connection there is the cache, and nothing more to wait for.
    let request = get(&mut bed, &["bob"]);
    assert_eq!(got(&mut bed, request).unwrap(), ["bob#2 Bob"]);
    bed.go_online(1);
    bed.pass(PROFILES_DELAY_MS);
    let requests = asked(&mut bed);
    assert_eq!(requests[0].1, [("bob".to_owned(), 2)]);
    told(&mut bed);
    bed.say(requests[0].0, list(Vec::new()));
    assert!(told(&mut bed).is_empty());

    bed.close(Code(1006));
    bed.go_online(1);
    bed.pass(1_000);
    assert!(asked(&mut bed).is_empty(), "nobody wants it on this connection");
    let request = get(&mut bed, &["bob"]);
    assert_eq!(got(&mut bed, request).unwrap(), ["bob#2 Bob"]);
    bed.pass(PROFILES_DELAY_MS);
    let requests = asked(&mut bed);
    bed.say(requests[0].0, list(vec![profile("bob", 3, "Bobby")]));
    assert_eq!(told(&mut bed), ["bob#3 Bobby"]);
    let request = get(&mut bed, &["bob"]);
    assert_eq!(got(&mut bed, request).unwrap(), ["bob#3 Bobby"]);
}

#[test]
fn who_waits_is_answered_with_what_is_known_when_nothing_comes() {
    let mut bed = Bed::online();
    let request = get(&mut bed, &["bob"]);
    bed.pass(PROFILES_DELAY_MS);
    assert_eq!(asked(&mut bed).len(), 1);
    bed.close(Code(1006));
    assert_eq!(got(&mut bed, request).unwrap(), ["bob#0 -"]);
    // What was asked and not answered is asked on the next connection, and told as it comes.
    bed.go_online(0);
    bed.pass(PROFILES_DELAY_MS);
    let requests = asked(&mut bed);
    bed.say(requests[0].0, list(vec![profile("bob", 1, "Bob")]));
    assert_eq!(told(&mut bed), ["bob#1 Bob"]);

    // A relay that does not answer.
    let request = get(&mut bed, &["carol"]);
    bed.pass(20_000);
    assert_eq!(got(&mut bed, request).unwrap(), ["carol#0 -"]);
    // A relay that does not know profiles.
    let mut bed = Bed::online();
    let request = get(&mut bed, &["carol"]);
    bed.pass(PROFILES_DELAY_MS);
    let requests = asked(&mut bed);
    bed.reject(requests[0].0, Code::VERB_UNKNOWN, 0);
    assert_eq!(got(&mut bed, request).unwrap(), ["carol#0 -"]);
    // One that has more to do is asked later.
    let request = get(&mut bed, &["dora"]);
    bed.pass(PROFILES_DELAY_MS);
    let requests = asked(&mut bed);
    bed.reject(requests[0].0, Code::RATE_LIMITED, 2_000);
    bed.pass(1_999);
    assert!(asked(&mut bed).is_empty());
    bed.pass(4_001);
    let requests = asked(&mut bed);
    bed.say(requests[0].0, list(vec![profile("dora", 1, "Dora")]));
    assert_eq!(got(&mut bed, request).unwrap(), ["dora#1 Dora"]);
}

#[test]
fn a_profile_is_told_when_it_is_durable_and_other_tabs_before() {
    let mut bed = Bed::online();
    bed.saves_at_once = false;
    told_by_queue(&mut bed, 1, profile("bob", 1, "Bob"));
    assert!(told(&mut bed).is_empty());
    let request = get(&mut bed, &["bob"]);
    assert_eq!(got(&mut bed, request).unwrap(), ["bob#1 Bob"]);
    let (_, writes) = bed.saves.front().unwrap();
    assert!(writes.iter().any(|write| matches!(write, Write::Profile(of, _) if of.as_str() == "bob")));
    bed.save();
    assert_eq!(told(&mut bed), ["bob#1 Bob"]);

    let mut bed = Bed::fresh();
    bed.shared = true;
    bed.crash();
    bed.go_online(0);
    told_by_queue(&mut bed, 1, profile("bob", 1, "Bob"));
    let prepared = bed.prepared.iter().flatten();
    assert_eq!(prepared.filter(|event| matches!(event, Event::Profile(_))).count(), 1);
}

#[test]
fn ones_own_is_changed_by_a_request_and_known_by_its_answer() {
    let mut bed = Bed::online();
    let key = Some(Key::new("k").unwrap());
    let request = bed.command(Command::SetProfile { key, name: Some("Alice".into()), avatar: None });
    let frame = bed.frame();
    let Some(Verb::SetProfile(set)) = frame.verb else { panic!("a change") };
    assert_eq!((set.key.as_str(), set.name.as_deref(), set.avatar), ("k", Some("Alice"), None));
    // It is asked again on the next connection, with the same key.
    bed.close(Code(1006));
    bed.go_online(0);
    let frame = bed.frames.iter().find(|frame| matches!(frame.verb, Some(Verb::SetProfile(_)))).unwrap();
    let request_again = frame.request;
    // Another device was faster, and the queue told that first.
    told_by_queue(&mut bed, 1, profile("alice", 2, "Al"));
    let own = Some(profile("alice", 1, "Alice"));
    bed.say(request_again, Relay::ProfileSet(wire::ProfileSet { key: "k".into(), profile: own }));
    match bed.replies.remove(&request) {
        Some(Ok(Answer::Profiles(profiles))) => assert_eq!(words(&profiles[0]), "alice#2 Al"),
        _ => panic!("a profile"),
    }
    assert_eq!(told(&mut bed), ["alice#2 Al"]);
    let request = bed.command(Command::SetProfile { key: None, name: None, avatar: Some(String::new()) });
    let frame = bed.frames.pop_back().unwrap();
    let own = Some(profile("alice", 3, "Al"));
    bed.say(frame.request, Relay::ProfileSet(wire::ProfileSet { key: "?".into(), profile: own }));
    assert!(bed.answered(request));
    assert_eq!(told(&mut bed), ["alice#3 Al"]);

    let long = |bytes: usize| Some("x".repeat(bytes));
    for (name, avatar) in
        [(long(limits::PROFILE_NAME_BYTES_MAX + 1), None), (None, long(limits::PROFILE_AVATAR_BYTES_MAX + 1))]
    {
        let request = bed.command(Command::SetProfile { key: None, name, avatar });
        assert_eq!(bed.error(request), Code::BAD_REQUEST);
    }
}

/// A reset to this epoch, with an empty list.
fn reset(bed: &mut Bed, epoch: &str) {
    bed.close(Code(1006));
    bed.greet();
    bed.say(0, welcome(epoch, 1));
    // Until the list has come, an answer would be of another life than what is known.
    bed.pass(PROFILES_DELAY_MS);
    assert!(asked(bed).is_empty());
    let cause = wire::ResetCause::EpochUnknown.into();
    bed.say(0, Relay::Reset(wire::Reset { epoch: epoch.into(), pos: 1, cause }));
    bed.say(0, Relay::Snapshot(wire::Snapshot { conversations: Vec::new(), done: true }));
}

fn knows_bob_and_carol() -> Bed {
    let mut bed = Bed::online();
    for (pos, name) in [(1, "bob"), (2, "carol")] {
        told_by_queue(&mut bed, pos, profile(name, 5, name));
    }
    told(&mut bed);
    bed
}

#[test]
fn a_restored_relay_is_asked_for_all_and_what_was_known_is_shown_until_it_answers() {
    let mut bed = knows_bob_and_carol();
    reset(&mut bed, "e2");
    // It has an older one of one, and none of the other. Before it could say so the network went.
    assert_eq!(asked(&mut bed)[0].1, [("bob".to_owned(), 0), ("carol".to_owned(), 0)]);
    bed.close(Code(1006));
    bed.pass(1_000);
    for _ in 0..2 {
        bed.feed(hongyan_client::Input::Host(hongyan_client::HostEvent::Network(false)));
        let request = get(&mut bed, &["bob", "carol"]);
        assert_eq!(got(&mut bed, request).unwrap(), ["bob#0 bob", "carol#0 carol"]);
        bed.crash();
    }
    assert!(told(&mut bed).is_empty());
    bed.feed(hongyan_client::Input::Host(hongyan_client::HostEvent::Network(true)));
    bed.greet();
    bed.say(0, welcome("e2", 1));
    let request = get(&mut bed, &["bob", "carol"]);
    bed.pass(PROFILES_DELAY_MS);
    let requests = asked(&mut bed);
    assert_eq!(requests[0].1, [("bob".to_owned(), 0), ("carol".to_owned(), 0)]);
    bed.say(requests[0].0, list(vec![profile("bob", 3, "Bob")]));
    assert_eq!(told(&mut bed), ["bob#3 Bob", "carol#0 -"]);
    assert_eq!(got(&mut bed, request).unwrap(), ["bob#3 Bob", "carol#0 -"]);
    // Nor does it come back with the next process.
    bed.crash();
    bed.feed(hongyan_client::Input::Host(hongyan_client::HostEvent::Network(false)));
    let request = get(&mut bed, &["bob", "carol"]);
    assert_eq!(got(&mut bed, request).unwrap(), ["bob#3 Bob", "carol#0 -"]);
}

#[test]
fn a_reset_of_the_same_epoch_forgets_nothing_and_asks_for_what_is_newer() {
    let mut bed = knows_bob_and_carol();
    let before = bed.disk.profiles.clone();
    reset(&mut bed, "e1");
    let requests = asked(&mut bed);
    assert_eq!(requests[0].1, [("bob".to_owned(), 5), ("carol".to_owned(), 5)]);
    bed.say(requests[0].0, list(vec![profile("carol", 6, "Carol")]));
    assert_eq!(told(&mut bed), ["carol#6 Carol"]);
    let request = get(&mut bed, &["bob", "carol"]);
    assert_eq!(got(&mut bed, request).unwrap(), ["bob#5 bob", "carol#6 Carol"]);
    let bob = UserId::new("bob").unwrap();
    assert!(bed.disk.profiles[&bob] == before[&bob]);
}

/// Found by the simulated world: the next process took for certain what this one had only not asked for yet.
#[test]
fn what_may_be_old_since_a_reset_is_asked_for_by_the_next_process() {
    let mut bed = knows_bob_and_carol();
    reset(&mut bed, "e1");
    assert_eq!(asked(&mut bed).len(), 1);
    bed.crash();
    bed.greet();
    bed.say(0, welcome("e1", 1));
    bed.pass(PROFILES_DELAY_MS);
    let requests = asked(&mut bed);
    assert_eq!(requests[0].1, [("bob".to_owned(), 0), ("carol".to_owned(), 0)]);
    bed.say(requests[0].0, list(vec![profile("bob", 5, "bob"), profile("carol", 6, "Carol")]));
    bed.crash();
    bed.feed(hongyan_client::Input::Host(hongyan_client::HostEvent::Network(false)));
    let request = get(&mut bed, &["bob", "carol"]);
    assert_eq!(got(&mut bed, request).unwrap(), ["bob#5 bob", "carol#6 Carol"]);
}

#[test]
fn who_is_waited_for_stays() {
    let mut bed = Bed::online();
    let names: Vec<String> = (0..PROFILES_WAITED_MAX).map(|n| format!("user{n:05}")).collect();
    let users: Vec<_> = names.iter().map(String::as_str).collect();
    let waiting: Vec<_> =
        users.chunks(PROFILES_AT_ONCE_MAX).map(|users| (get(&mut bed, users), users)).collect();
    // So many are waited for that one more is refused, and what is told meanwhile goes at the cost of others.
    let late = get(&mut bed, &["one-more"]);
    assert_eq!(bed.error(late), Code::BUSY);
    for n in 0..PROFILES_MAX {
        told_by_queue(&mut bed, n as u64 + 1, profile(&format!("other{n:05}"), 1, "Other"));
    }
    bed.pass(PROFILES_DELAY_MS);
    let mut requests = asked(&mut bed);
    while let Some((number, asked_for)) = requests.pop() {
        let all = asked_for.iter().map(|(of, _)| profile(of, 1, "It")).collect();
        bed.say(number, list(all));
        requests.extend(asked(&mut bed));
    }
    for (request, users) in waiting {
        let all: Vec<_> = users.iter().map(|user| format!("{user}#1 It")).collect();
        assert_eq!(got(&mut bed, request).unwrap(), all);
    }
    let free = get(&mut bed, &["one-more"]);
    assert!(got(&mut bed, free).is_none());
    assert!(bed.disk.profiles.len() <= PROFILES_MAX);
}

#[test]
fn what_answers_bring_while_a_save_is_under_way_is_saved_in_parts() {
    let mut bed = Bed::online();
    let names: Vec<String> = (0..2 * PROFILES_AT_ONCE_MAX).map(|n| format!("user{n:05}")).collect();
    for names in names.chunks(PROFILES_AT_ONCE_MAX) {
        get(&mut bed, &names.iter().map(String::as_str).collect::<Vec<_>>());
    }
    bed.pass(PROFILES_DELAY_MS);
    bed.saves_at_once = false;
    let avatar = "x".repeat(limits::PROFILE_AVATAR_BYTES_MAX);
    let name = "y".repeat(limits::PROFILE_NAME_BYTES_MAX);
    let mut requests = asked(&mut bed);
    while let Some((number, asked_for)) = requests.pop() {
        let whole = |of: &String| wire::Profile { avatar: avatar.clone(), ..profile(of, 1, &name) };
        bed.say(number, list(asked_for.iter().map(|(of, _)| whole(of)).collect()));
        requests.extend(asked(&mut bed));
    }
    let mut parts = Vec::new();
    while let Some((_, writes)) = bed.saves.front() {
        let bytes = |write: &Write| if let Write::Profile(_, record) = write { record.len() } else { 0 };
        parts.push(writes.iter().map(bytes).sum::<usize>());
        bed.save();
    }
    let page = parts[0];
    assert!(parts.len() > 2 && parts.iter().all(|bytes| *bytes <= SAVED_BYTES_TARGET + page), "{parts:?}");
    assert_eq!(told(&mut bed).len(), names.len());
}

#[test]
fn a_cache_of_more_than_are_kept_is_brought_down() {
    let mut bed = Bed::online();
    for n in 0..PROFILES_MAX + 10 {
        let name = format!("user{n:05}");
        let record = prost::Message::encode_to_vec(&profile(&name, 1, "It"));
        bed.disk.profiles.insert(user(&name), record.into());
    }
    bed.crash();
    assert_eq!(bed.disk.profiles.len(), PROFILES_MAX);
    assert_eq!(bed.go_online(0).epoch, "e1");
}

#[test]
fn who_could_not_be_seen_is_asked_for_again_when_a_group_has_changed() {
    let mut bed = Bed::online();
    let request = get(&mut bed, &["carol"]);
    bed.pass(PROFILES_DELAY_MS);
    let requests = asked(&mut bed);
    bed.say(requests[0].0, list(Vec::new()));
    assert_eq!(got(&mut bed, request).unwrap(), ["carol#0 -"]);
    let change = wire::GroupChange {
        conversation: "g1".into(),
        kind: wire::GroupChangeKind::Added.into(),
        by: "carol".into(),
        users: vec!["alice".into()],
        version: 2,
        title: "Geese".into(),
        owner: "carol".into(),
        member_count: 2,
        ..wire::GroupChange::default()
    };
    bed.say(0, batch(vec![entry(1, Change::Group(change))]));
    let request = get(&mut bed, &["carol"]);
    assert!(got(&mut bed, request).is_none());
    bed.pass(PROFILES_DELAY_MS);
    let requests = asked(&mut bed);
    bed.say(requests[0].0, list(vec![profile("carol", 1, "Carol")]));
    assert_eq!(got(&mut bed, request).unwrap(), ["carol#1 Carol"]);
}

#[test]
fn what_is_known_asked_and_on_the_wire_is_bounded() {
    let mut bed = Bed::online();
    let names: Vec<String> = (0..PROFILES_AT_ONCE_MAX).map(|n| format!("user{n:05}")).collect();
    let users: Vec<_> = names.iter().map(String::as_str).collect();
    let too_many = [users.as_slice(), &["one-more"]].concat();
    let request = get(&mut bed, &too_many);
    assert_eq!(bed.error(request), Code::BAD_REQUEST);
    let request = get(&mut bed, &users);
    bed.pass(PROFILES_DELAY_MS);
    let mut requests = asked(&mut bed);
    assert_eq!(requests.len(), PROFILES_IN_FLIGHT_MAX);
    let mut count = 0;
    while let Some((number, asked_for)) = requests.pop() {
        assert!(asked_for.len() <= limits::PROFILES_MAX);
        count += asked_for.len();
        let all = asked_for.iter().map(|(of, _)| profile(of, 1, of)).collect();
        bed.say(number, list(all));
        requests.extend(asked(&mut bed));
        assert!(requests.len() <= PROFILES_IN_FLIGHT_MAX);
    }
    assert_eq!(count, PROFILES_AT_ONCE_MAX);
    assert_eq!(got(&mut bed, request).unwrap().len(), PROFILES_AT_ONCE_MAX);

    // What was not used for longest goes, from the cache as well.
    for n in 0..PROFILES_MAX {
        told_by_queue(&mut bed, n as u64 + 1, profile(&format!("other{n:05}"), 1, "Other"));
        if n % 1_000 == 0 {
            get(&mut bed, &["user00000"]);
        }
    }
    assert_eq!(bed.disk.profiles.len(), PROFILES_MAX);
    assert!(bed.disk.profiles.contains_key(&user("user00000")));
    assert!(!bed.disk.profiles.contains_key(&user("user00001")));
    // What is larger than a relay of ours may send is not taken.
    let long = "x".repeat(limits::PROFILE_NAME_BYTES_MAX + 1);
    told_by_queue(&mut bed, PROFILES_MAX as u64 + 1, profile("large", 1, &long));
    assert!(!bed.disk.profiles.contains_key(&user("large")));
    assert_eq!(bed.disk.profiles.len(), PROFILES_MAX, "and nobody goes for it");
}

#[test]
fn a_stopped_client_asks_nobody_and_a_signed_out_one_keeps_nothing() {
    let mut bed = Bed::online();
    told_by_queue(&mut bed, 1, profile("bob", 1, "Bob"));
    let waits = get(&mut bed, &["carol"]);
    bed.close(Code::LOGGED_OUT);
    assert_eq!(got(&mut bed, waits).unwrap(), ["carol#0 -"]);
    let late = get(&mut bed, &["bob"]);
    assert_eq!(bed.error(late), Code::LOGGED_OUT);
    assert!(bed.disk.profiles.is_empty());
}

/// What may happen to a client that shows profiles.
#[derive(Clone, Debug)]
enum Step {
    /// The relay's profile of one of three users changes, and the queue tells it, or does not (they share a group only).
    Changes(usize, bool),
    /// The queue tells an entry again that was made for an older version.
    Again(usize),
    Get(usize),
    /// What was asked is answered.
    Answers,
    Saves,
    Crash,
    Cut,
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..3_usize, any::<bool>()).prop_map(|(of, told)| Step::Changes(of, told)),
        2 => (0..3_usize).prop_map(Step::Again),
        4 => (0..3_usize).prop_map(Step::Get),
        4 => Just(Step::Answers),
        3 => Just(Step::Saves),
        1 => Just(Step::Crash),
        1 => Just(Step::Cut),
        2 => (1..200_u64).prop_map(Step::Pass),
    ];
    proptest::collection::vec(step, 1..60)
}

proptest! {
    /// Whatever happens: each version is told once and none after a newer one, what a `get` gives is never older than
    /// what was told before, and in the end everything that the queue told or that is asked for is of now.
    #[test]
    fn profiles_are_told_once_and_never_go_back_whatever_happens(steps in steps()) {
        const USERS: [&str; 3] = ["bob", "carol", "dora"];
        let mut bed = Bed::online();
        bed.saves_at_once = false;
        let (mut now, mut told_last) = ([0_u64; 3], [0_u64; 3]);
        let mut queue: Vec<usize> = Vec::new();
        let of = |user: &str| USERS.iter().position(|other| *other == user).unwrap();
        for step in steps {
            let is_online = bed.status() == hongyan_client::view::SessionStatus::Online;
            match step {
                Step::Changes(at, is_told) => {
                    now[at] += 1;
                    if is_told {
                        queue.push(at);
                        if is_online {
                            told_by_queue(&mut bed, queue.len() as u64, profile(USERS[at], now[at], "x"));
                        }
                    }
                }
                Step::Again(at) if now[at] > 0 => {
                    queue.push(at);
                    // It is told as it is now.
                    if is_online {
                        told_by_queue(&mut bed, queue.len() as u64, profile(USERS[at], now[at], "x"));
                    }
                }
                Step::Again(_) => {}
                Step::Get(at) => {
                    let request = get(&mut bed, &[USERS[at]]);
                    if let Some(got) = got(&mut bed, request) {
                        let version: u64 = got[0].split(['#', ' ']).nth(1).unwrap().parse().unwrap();
                        prop_assert!(version >= told_last[at] && version <= now[at]);
                    }
                }
                Step::Answers => answer_all(&mut bed, &now, &USERS),
                Step::Saves => drop(bed.save()),
                Step::Crash => {
                    bed.crash();
                    come_back(&mut bed, &queue, &now, &USERS);
                }
                Step::Cut if is_online => {
                    bed.close(Code(1006));
                    come_back(&mut bed, &queue, &now, &USERS);
                }
                Step::Cut => {}
                Step::Pass(ms) => bed.pass(ms),
            }
            check_told(&mut bed, &mut told_last, of)?;
        }
        // In the end. Who only shares a group is asked for once for each connection.
        if bed.status() == hongyan_client::view::SessionStatus::Online {
            bed.close(Code(1006));
            come_back(&mut bed, &queue, &now, &USERS);
        }
        let request = get(&mut bed, &USERS);
        for _ in 0..20 {
            bed.pass(100);
            answer_all(&mut bed, &now, &USERS);
            while bed.save() {}
        }
        check_told(&mut bed, &mut told_last, of)?;
        prop_assert!(bed.replies.contains_key(&request));
        prop_assert_eq!(told_last, now);
    }
}

fn check_told(
    bed: &mut Bed,
    told_last: &mut [u64; 3],
    of: impl Fn(&str) -> usize,
) -> Result<(), TestCaseError> {
    for words in told(bed) {
        let (user, rest) = words.split_once('#').unwrap();
        let version: u64 = rest.split(' ').next().unwrap().parse().unwrap();
        let last = &mut told_last[of(user)];
        prop_assert!(version > *last, "{} after {}", words, last);
        *last = version;
    }
    Ok(())
}

fn answer_all(bed: &mut Bed, now: &[u64; 3], users: &[&str; 3]) {
    for (request, asked_for) in asked(bed) {
        let newer = asked_for.iter().filter_map(|(of, known)| {
            let version = now[users.iter().position(|user| user == of).unwrap()];
            (version > *known).then(|| profile(of, version, "x"))
        });
        bed.say(request, list(newer.collect()));
    }
}

/// The relay streams what the device has not durably applied, each profile as it is now.
fn come_back(bed: &mut Bed, queue: &[usize], now: &[u64; 3], users: &[&str; 3]) {
    let hello = bed.go_online(queue.len() as u64);
    let after = usize::try_from(hello.cursor).unwrap();
    let entries = queue.iter().enumerate().skip(after);
    let entries: Vec<_> = entries
        .map(|(at, of)| entry(at as u64 + 1, Change::Profile(profile(users[*of], now[*of], "x"))))
        .collect();
    if !entries.is_empty() {
        bed.say(0, batch(entries));
    }
}
