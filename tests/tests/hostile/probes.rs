//! Every verb of the wire, tried by everybody who has no business with it.
//!
//! *How to add a verb:* a row in the table below. Without it this file does not compile.

use std::collections::BTreeMap;

use hongyan_protocol::Code;
use hongyan_protocol::wire::{self, RelayFrame, client_frame::Verb, relay_frame::Event};
use prost::Message as _;

use crate::hellos::forged_token;
use crate::raw::{AGENT, Heard, Peer, device, hello};
use crate::requests::{content, notes};
use crate::scene::{BODY, Scene, TITLE, expired_token, good_token};

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fate {
    /// It is refused.
    Reject(Code),
    /// It is refused, and the connection ends with the same code.
    End(Code),
    /// The connection ends.
    Close(Code),
    /// It has no answer.
    Silence,
    /// It is answered, and the answer is of the asker's own affairs.
    Own,
}

use Fate::{Close, End, Own, Reject, Silence};

/// Who asks, and for what.
struct Ask {
    user: &'static str,
    token: String,
    conversation: String,
}

/// One verb, and what becomes of it for those who are not in a conversation.
struct Row {
    name: &'static str,
    verb: fn(&Ask) -> Verb,
    /// On a connection that was not opened by a hello.
    unopened: Fate,
    /// Of a direct conversation of others.
    of_direct: Fate,
    /// Of a group of others, and of one that does not exist.
    of_group: Fate,
    /// Of a group from which the asker was removed.
    of_former: Fate,
}

macro_rules! rows {
    ($($verb:ident, $unopened:expr, $of_direct:expr, $of_group:expr, $of_former:expr, $ask:pat => $body:expr;)*) => {
        fn rows() -> Vec<Row> {
            vec![$(Row {
                name: stringify!($verb),
                verb: |$ask| Verb::$verb($body),
                unopened: $unopened,
                of_direct: $of_direct,
                of_group: $of_group,
                of_former: $of_former,
            }),*]
        }

        /// No arm for the rest: a verb without a row does not compile.
        fn name(verb: &Verb) -> &'static str {
            match verb {
                $(Verb::$verb(_) => stringify!($verb),)*
            }
        }
    };
}

/// Before hello.
const NO: Fate = End(Code::HELLO_EXPECTED);
const STRANGER: Fate = Reject(Code::NOT_A_MEMBER);
/// Only a group's members can change.
const NO_GROUP: Fate = Reject(Code::BAD_REQUEST);
/// Of the asker's own devices, none is named so.
const NO_DEVICE: Fate = Reject(Code::BAD_REQUEST);

/// It is connected all the while.
const DEVICE_OF_ALICE: &str = "device-of-alice";

rows! {
    // verb, before hello, others' direct conversation, others' group, a group of the past
    Hello, End(Code::TOKEN_INVALID), NO, NO, NO, ask => hello(ask.user, ask.token.clone());
    Renew, NO, Own, Own, Own, ask => wire::Renew { token: ask.token.clone() };
    Resume, NO, Silence, Silence, Silence, _ => wire::Resume { cursor: 0 };
    Ack, NO, Silence, Silence, Silence, _ => wire::Ack { cursor: 0 };
    Ping, NO, Own, Own, Own, _ => wire::Ping { nonce: 1 };
    Pong, NO, Silence, Silence, Silence, _ => wire::Pong { nonce: 1 };
    Bye, NO, Close(Code(1000)), Close(Code(1000)), Close(Code(1000)), _ => wire::Bye { logout: true, ..wire::Bye::default() };
    Send, NO, STRANGER, STRANGER, STRANGER, ask => wire::Send {
        conversation: ask.conversation.clone(), key: device(), content: content("intruder"), ..wire::Send::default()
    };
    MarkRead, NO, STRANGER, STRANGER, STRANGER, ask => wire::MarkRead { conversation: ask.conversation.clone(), seq: 1 };
    History, NO, STRANGER, STRANGER, STRANGER, ask => wire::History {
        conversation: ask.conversation.clone(), ..wire::History::default()
    };
    ChangeMessage, NO, STRANGER, STRANGER, STRANGER, ask => wire::ChangeMessage {
        conversation: ask.conversation.clone(), seq: 1, key: device(),
        kind: wire::MessageChangeKind::Reacted.into(), reaction: "intruder".into(), ..wire::ChangeMessage::default()
    };
    Changes, NO, STRANGER, STRANGER, STRANGER, ask => wire::Changes {
        conversation: ask.conversation.clone(), ..wire::Changes::default()
    };
    CreateGroup, NO, Own, Own, Own, _ => wire::CreateGroup {
        key: device(), title: "one's own".into(), members: Vec::new()
    };
    AddMembers, NO, NO_GROUP, STRANGER, STRANGER, ask => wire::AddMembers {
        conversation: ask.conversation.clone(), users: vec![ask.user.into()]
    };
    RemoveMembers, NO, NO_GROUP, STRANGER, STRANGER, ask => wire::RemoveMembers {
        conversation: ask.conversation.clone(), users: vec!["carol".into()]
    };
    RenameGroup, NO, NO_GROUP, STRANGER, STRANGER, ask => wire::RenameGroup {
        conversation: ask.conversation.clone(), title: "intruder".into()
    };
    // Who is out already is told so again: the answer to a leave may have been lost.
    LeaveGroup, NO, NO_GROUP, STRANGER, Own, ask => wire::LeaveGroup { conversation: ask.conversation.clone() };
    Members, NO, STRANGER, STRANGER, STRANGER, ask => wire::Members {
        conversation: ask.conversation.clone(), ..wire::Members::default()
    };
    SetAway, NO, Silence, Silence, Silence, _ => wire::SetAway { away: true };
    // Answered, with nothing in it: a stranger and nobody are the same.
    Watch, NO, Own, Own, Own, ask => wire::Watch {
        users: ["alice", "bob", "carol", "nobody"].map(str::to_owned).into_iter().filter(|user| *user != ask.user).collect()
    };
    Unwatch, NO, Silence, Silence, Silence, _ => wire::Unwatch { users: vec!["alice".into()] };
    Typing, NO, STRANGER, STRANGER, STRANGER, ask => wire::Typing { conversation: ask.conversation.clone() };
    Devices, NO, Own, Own, Own, _ => wire::Devices {};
    // Another user's device is as one that does not exist.
    SignOut, NO, NO_DEVICE, NO_DEVICE, NO_DEVICE, _ => wire::SignOut { device: DEVICE_OF_ALICE.into() };
    SetProfile, NO, Own, Own, Own, _ => wire::SetProfile { key: device(), name: Some("one's own".into()), avatar: None };
    // Answered, with nothing of others in it, as with watching.
    GetProfiles, NO, Own, Own, Own, ask => wire::GetProfiles {
        users: ["alice", "bob", "carol", "nobody"].map(str::to_owned).into_iter().filter(|user| *user != ask.user)
            .map(|user| wire::KnownProfile { user, version: 0 }).collect()
    };
    SetInvisible, NO, Own, Own, Own, _ => wire::SetInvisible { invisible: true };
}

/// Tries all, and returns what is not as it must be.
pub(crate) async fn all(scene: &mut Scene) -> Vec<String> {
    let before = facts(scene).await;
    let of_alice = wire::Hello { device: DEVICE_OF_ALICE.into(), ..hello("alice", good_token("alice")) };
    let of_alice = wire::Hello { agent: "well-behaved".into(), ..of_alice };
    let mut alice = Peer::welcomed(scene.address(), of_alice).await;
    let mut tried = BTreeMap::<Fate, usize>::new();
    let mut wrong = Vec::new();
    let rows = rows();
    for row in &rows {
        for probe in probes(scene, row) {
            let (fate, opened) = probe.run(scene, row).await;
            *tried.entry(fate).or_default() += 1;
            if fate != probe.expected || opened {
                let shown = if opened { ", and shows what is not hers" } else { "" };
                wrong.push(format!("{} {}: {fate:?}{shown}, not {:?}", row.name, probe.what, probe.expected));
            }
        }
        scene.goes_on().await;
        // Each time, so that she is not silent for long where all of it takes long.
        let ping = alice.ask(Verb::Ping(wire::Ping { nonce: 1 })).await;
        assert!(alice.answer(ping).await.is_ok(), "her device is signed in");
    }
    println!("{} verbs, {} probes:", rows.len(), tried.values().sum::<usize>());
    for (fate, count) in tried {
        println!("  {count:3} {fate:?}");
    }
    assert!(facts(scene).await == before, "the group and its log are as they were");
    wrong
}

/// One way to try a verb.
struct Probe {
    what: &'static str,
    /// Said first, if anything is; it is answered with a welcome if the token is good.
    hello: Option<wire::Hello>,
    ask: Ask,
    expected: Fate,
    /// What of the scene the asker may see anyway.
    knows_past: bool,
}

fn probes(scene: &Scene, row: &Row) -> Vec<Probe> {
    let (direct, group) = (scene.direct.as_str().to_owned(), scene.group.as_str().to_owned());
    let ask =
        |user, token: String, conversation: &str| Ask { user, token, conversation: conversation.into() };
    let mut probes = vec![Probe {
        what: "without hello",
        hello: None,
        ask: ask("alice", String::new(), &direct),
        expected: row.unopened,
        knows_past: false,
    }];
    // As alice, who might do it all; with tokens that are not hers.
    for (what, token, code) in [
        ("with a forged token", forged_token("alice"), Code::TOKEN_INVALID),
        ("with an expired token", expired_token("alice"), Code::TOKEN_EXPIRED),
        ("with another user's token", good_token("bob"), Code::TOKEN_USER_MISMATCH),
    ] {
        for conversation in [&direct, &group] {
            probes.push(Probe {
                what,
                hello: Some(hello("alice", token.clone())),
                ask: ask("alice", token.clone(), conversation),
                expected: End(code),
                knows_past: false,
            });
        }
    }
    for (what, user, conversation, expected) in [
        ("of others' direct conversation", "mallory", direct.as_str(), row.of_direct),
        ("of others' group", "mallory", &group, row.of_group),
        ("of a group that is none", "mallory", "g-that-is-none", row.of_group),
        ("of a group of the past", "dave", &group, row.of_former),
    ] {
        probes.push(Probe {
            what,
            hello: Some(hello(user, good_token(user))),
            ask: ask(user, good_token(user), conversation),
            expected,
            knows_past: user == "dave",
        });
    }
    probes
}

impl Probe {
    /// What became of it, and whether anything was seen that is not for the asker.
    async fn run(&self, scene: &Scene, row: &Row) -> (Fate, bool) {
        let verb = (row.verb)(&self.ask);
        assert_eq!(name(&verb), row.name);
        let mut peer = Peer::open(scene.address()).await;
        let greeting = match &self.hello {
            Some(hello) => Some(peer.ask(Verb::Hello(hello.clone())).await),
            None => None,
        };
        // Nothing is waited for: a request right behind a bad hello must be as useless as one after it.
        let request = peer.ask(verb).await;
        let fence = peer.ask(Verb::Ping(wire::Ping { nonce: 1 })).await;
        let (mut fate, mut fenced, mut opened) = (None, false, false);
        while !(fenced && (fate.is_some() || self.expected == Silence)) {
            match peer.hear().await {
                Heard::Frame(frame) => {
                    opened |= shows(&frame, self.knows_past)
                        || shows_presence(&frame, self.ask.user)
                        || shows_profile(&frame, self.ask.user)
                        || shows_devices(&frame);
                    fenced |= frame.request == fence;
                    let of_greeting = Some(frame.request) == greeting;
                    if frame.request == request
                        || (of_greeting && !matches!(frame.event, Some(Event::Welcome(_))))
                    {
                        assert_eq!(fate, None, "one answer");
                        fate = Some(match frame.event {
                            Some(Event::Reject(reject)) => Reject(Code(u16::try_from(reject.code).unwrap())),
                            _ => Own,
                        });
                    }
                }
                Heard::Pong => {}
                Heard::Close(code) => {
                    assert!(!fenced, "served to the end");
                    let code = Code(code);
                    return (if fate == Some(Reject(code)) { End(code) } else { Close(code) }, opened);
                }
                Heard::End => return (Close(Code(1006)), opened),
            }
        }
        (fate.unwrap_or(Silence), opened)
    }
}

/// Whether a frame holds what only the conversations' members may know.
fn shows(frame: &RelayFrame, knows_past: bool) -> bool {
    let bytes = frame.encode_to_vec();
    let holds = |text: &str| bytes.windows(text.len()).any(|at| at == text.as_bytes());
    if knows_past { holds("without dave") || holds("intruder") } else { holds(BODY) || holds(TITLE) }
}

/// Whether a frame tells how another user is.
fn shows_presence(frame: &RelayFrame, asker: &str) -> bool {
    let of_others = |presence: &wire::Presence| presence.user != asker && !presence.refused;
    match &frame.event {
        Some(Event::Watched(watched)) => watched.presences.iter().any(of_others),
        Some(Event::Presence(presence)) => of_others(presence),
        Some(Event::Typed(_)) => true,
        _ => false,
    }
}

/// Whether a frame tells what another user shows of herself.
fn shows_profile(frame: &RelayFrame, asker: &str) -> bool {
    let is_of_another = |profile: &wire::Profile| profile.user != asker;
    match &frame.event {
        Some(Event::ProfileList(list)) => list.profiles.iter().any(is_of_another),
        Some(Event::ProfileSet(set)) => set.profile.iter().any(is_of_another),
        Some(Event::Batch(batch)) => batch.entries.iter().any(|entry| match &entry.change {
            Some(wire::entry::Change::Profile(profile)) => is_of_another(profile),
            _ => false,
        }),
        _ => false,
    }
}

/// Whether a frame tells of a device of somebody else.
fn shows_devices(frame: &RelayFrame) -> bool {
    match &frame.event {
        Some(Event::DeviceList(list)) => list.devices.iter().any(|device| device.agent != AGENT),
        _ => false,
    }
}

/// Who is in the group and how often it changed, how long its log is, and how long mallory's.
async fn facts(scene: &Scene) -> (wire::MemberPage, u64, u64) {
    let mut alice = scene.user("alice").await;
    let members = wire::Members { conversation: scene.group.as_str().into(), ..wire::Members::default() };
    let request = alice.ask(Verb::Members(members)).await;
    let Ok(Event::MemberPage(page)) = alice.answer(request).await else { panic!("a page is due") };
    let mut last = Vec::new();
    for (user, conversation) in [("alice", scene.group.as_str().to_owned()), ("mallory", notes())] {
        let mut peer = scene.user(user).await;
        let request =
            peer.ask(Verb::History(wire::History { conversation, ..wire::History::default() })).await;
        let Ok(Event::HistoryPage(page)) = peer.answer(request).await else { panic!("a page is due") };
        last.push(page.last_seq);
    }
    (page, last[0], last[1])
}
