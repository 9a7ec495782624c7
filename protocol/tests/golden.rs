//! Golden bytes: what this version of the wire looks like, byte by byte, in `golden/v1/` as commented hex. A change
//! that these files show is a change that clients in the field would feel.
//!
//! *How to add one:* a row in [`rows`], then `HONGYAN_GOLDEN=write cargo test -p hongyan-protocol --test golden`, which
//! writes files that are missing and never touches one that is there. Read what it wrote.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod schema;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use hongyan_protocol::wire::{
    self, Batch, ClientFrame, Content, Entry, Message, RelayFrame, client_frame::Verb, entry::Change,
    relay_frame::Event,
};
use prost::Message as _;

/// What a file's bytes must be.
enum Expected {
    Client(ClientFrame),
    Relay(RelayFrame),
    Content(Content),
    Beacon(wire::Beacon),
    /// Bytes with what this version does not know, and what it makes of them.
    ClientFromNewer(Vec<u8>, ClientFrame),
    RelayFromNewer(Vec<u8>, RelayFrame),
    ContentFromNewer(Vec<u8>, Content),
}

impl Expected {
    /// The type's name in the `.proto`.
    fn name(&self) -> &'static str {
        match self {
            Expected::Client(_) | Expected::ClientFromNewer(..) => "ClientFrame",
            Expected::Relay(_) | Expected::RelayFromNewer(..) => "RelayFrame",
            Expected::Content(_) | Expected::ContentFromNewer(..) => "Content",
            Expected::Beacon(_) => "Beacon",
        }
    }

    fn bytes(&self) -> Vec<u8> {
        match self {
            Expected::Client(frame) => frame.to_bytes().unwrap().to_vec(),
            Expected::Relay(frame) => frame.to_bytes().unwrap().to_vec(),
            Expected::Content(content) => content.encode_to_vec(),
            Expected::Beacon(beacon) => beacon.encode_to_vec(),
            Expected::ClientFromNewer(bytes, _)
            | Expected::RelayFromNewer(bytes, _)
            | Expected::ContentFromNewer(bytes, _) => bytes.clone(),
        }
    }

    /// Whether the bytes are read as this value.
    fn is_read_from(&self, bytes: Bytes) -> bool {
        match self {
            Expected::Client(frame) | Expected::ClientFromNewer(_, frame) => {
                ClientFrame::from_bytes(bytes).as_ref() == Ok(frame)
            }
            Expected::Relay(frame) | Expected::RelayFromNewer(_, frame) => {
                RelayFrame::from_bytes(bytes).as_ref() == Ok(frame)
            }
            Expected::Content(content) | Expected::ContentFromNewer(_, content) => {
                Content::decode(bytes).as_ref() == Ok(content)
            }
            Expected::Beacon(beacon) => wire::Beacon::decode(bytes).as_ref() == Ok(beacon),
        }
    }
}

fn content() -> Content {
    Content { kind: String::new(), text: "你好, bob".into(), json: r#"{"size":1}"#.into() }
}

/// A `Content` with a field that this version does not know, as a newer client writes it.
fn newer_content() -> Vec<u8> {
    let mut bytes = content().encode_to_vec();
    bytes.extend([0x98, 0x06, 0x2a]); // field 99, a number: 42
    bytes
}

fn message() -> Message {
    Message {
        conversation: "~5.alice.bob".into(),
        seq: 300,
        key: "k1".into(),
        from: "alice".into(),
        time: 1_790_000_000_000,
        content: content().encode_to_vec().into(),
        reply_to: 7,
        mentions: vec!["bob".into(), "carol".into()],
        ..Message::default()
    }
}

/// A message with all that can be told of its changes.
fn changed_message() -> Message {
    let reaction = |reaction: &str, users: &[&str]| wire::Reaction {
        reaction: reaction.into(),
        users: users.iter().map(|user| (*user).to_owned()).collect(),
    };
    Message {
        edited: 1_790_000_000_500,
        reactions: vec![reaction("👍", &["bob", "alice"]), reaction("party", &["carol"])],
        ..message()
    }
}

fn group() -> String {
    "g-1".into()
}

fn batch(change: Change) -> RelayFrame {
    RelayFrame::push(Event::Batch(Batch { entries: vec![Entry { pos: 12, change: Some(change) }], head: 13 }))
}

/// Every file, by its path without `.hex`.
fn rows() -> Vec<(&'static str, Expected)> {
    let mut rows = Vec::new();
    rows.extend(client_rows());
    rows.extend(relay_rows());
    rows.extend(log_rows());
    rows.extend(change_rows());
    rows.extend(profile_rows());
    rows.extend(presence_rows());
    rows.extend(newer_rows());
    rows.push(("content", Expected::Content(content())));
    rows
}

fn client_rows() -> Vec<(&'static str, Expected)> {
    let users = || vec!["bob".to_owned(), "carol".to_owned()];
    let hello = wire::Hello {
        version: 1,
        token: "e30.e30.c2ln".into(),
        user: "alice".into(),
        device: "d-1".into(),
        device_kind: wire::DeviceKind::Web.into(),
        epoch: "e-1".into(),
        cursor: 300,
        agent: "hongyan-web/0.1.0".into(),
        ..wire::Hello::default()
    };
    let send = wire::Send {
        conversation: "~5.alice.bob".into(),
        key: "k1".into(),
        content: content().encode_to_vec().into(),
        reply_to: 7,
        mentions: users(),
    };
    let history = wire::History { conversation: group(), before: 300, after: 0, limit: 50 };
    [
        ("client/hello", 1, Verb::Hello(hello)),
        ("client/renew", 2, Verb::Renew(wire::Renew { token: "e30.e30.c2ln".into() })),
        ("client/resume", 0, Verb::Resume(wire::Resume { cursor: 300 })),
        ("client/ack", 0, Verb::Ack(wire::Ack { cursor: 300 })),
        ("client/ping", 0, Verb::Ping(wire::Ping { nonce: 9 })),
        ("client/pong", 0, Verb::Pong(wire::Pong { nonce: 9 })),
        ("client/bye", 0, Verb::Bye(wire::Bye { logout: true, ..wire::Bye::default() })),
        ("client/send", 128, Verb::Send(send)),
        ("client/mark_read", 129, Verb::MarkRead(wire::MarkRead { conversation: group(), seq: 300 })),
        ("client/history", 130, Verb::History(history)),
        (
            "client/create_group",
            131,
            Verb::CreateGroup(wire::CreateGroup { key: "k2".into(), title: "雁".into(), members: users() }),
        ),
        (
            "client/add_members",
            132,
            Verb::AddMembers(wire::AddMembers { conversation: group(), users: users() }),
        ),
        (
            "client/remove_members",
            133,
            Verb::RemoveMembers(wire::RemoveMembers { conversation: group(), users: users() }),
        ),
        ("client/leave_group", 134, Verb::LeaveGroup(wire::LeaveGroup { conversation: group() })),
        (
            "client/members",
            135,
            Verb::Members(wire::Members { conversation: group(), after: "bob".into(), limit: 500 }),
        ),
    ]
    .map(|(file, request, verb)| (file, Expected::Client(ClientFrame::of(request, verb))))
    .into()
}

fn relay_rows() -> Vec<(&'static str, Expected)> {
    let welcome = wire::Welcome {
        version: 1,
        epoch: "e-1".into(),
        head: 300,
        token_expires_in_ms: 86_400_000,
        ping_interval_ms: 7_000,
        silence_ms: 15_000,
        content_bytes_max: 65_536,
        time: 1_790_000_000_000,
        ..wire::Welcome::default()
    };
    let state = wire::ConversationState {
        conversation: group(),
        last_seq: 300,
        read_seq: 290,
        own_unread: vec![295, 300],
        last_message: Some(message()),
        left: true,
        title: "雁".into(),
        owner: "alice".into(),
        member_count: 3,
        version: 4,
        by_log: false,
        changes: 0,
    };
    let sent = wire::Sent {
        key: "k1".into(),
        conversation: "~5.alice.bob".into(),
        seq: 300,
        time: 1_790_000_000_000,
    };
    let page = wire::HistoryPage { conversation: group(), messages: vec![message()], last_seq: 300 };
    let members = vec![
        wire::Member { user: "alice".into(), role: wire::Role::Owner.into() },
        wire::Member { user: "bob".into(), role: wire::Role::Member.into() },
    ];
    let group_change = wire::GroupChange {
        conversation: group(),
        kind: wire::GroupChangeKind::Added.into(),
        by: "alice".into(),
        users: vec!["bob".into()],
        time: 1_790_000_000_000,
        version: 4,
        title: "雁".into(),
        owner: "alice".into(),
        member_count: 3,
        last_seq: 300,
        by_log: false,
        changes: 0,
    };
    let reject = wire::Reject { code: 4101, reason: "Slow down.".into(), retry_after_ms: 250 };
    let reset = wire::Reset { epoch: "e-1".into(), pos: 300, cause: wire::ResetCause::CursorAhead.into() };
    let done = wire::GroupDone { conversation: group(), version: 4 };
    let member_page = wire::MemberPage { conversation: group(), members, more: true, version: 4 };
    let read_mark = wire::ReadMark { conversation: group(), seq: 300 };
    [
        ("relay/welcome", RelayFrame::of(1, Event::Welcome(welcome))),
        (
            "relay/renewed",
            RelayFrame::of(2, Event::Renewed(wire::Renewed { token_expires_in_ms: 86_400_000 })),
        ),
        ("relay/reset", RelayFrame::push(Event::Reset(reset))),
        (
            "relay/snapshot",
            RelayFrame::push(Event::Snapshot(wire::Snapshot { conversations: vec![state], done: true })),
        ),
        ("relay/batch", RelayFrame::push(Event::Batch(Batch { entries: vec![Entry::default()], head: 13 }))),
        ("relay/batch_message", batch(Change::Message(message()))),
        ("relay/batch_read", batch(Change::Read(read_mark))),
        ("relay/batch_group", batch(Change::Group(group_change))),
        ("relay/ping", RelayFrame::push(Event::Ping(wire::Ping { nonce: 9 }))),
        ("relay/pong", RelayFrame::push(Event::Pong(wire::Pong { nonce: 9 }))),
        ("relay/reject", RelayFrame::of(128, Event::Reject(reject))),
        ("relay/retire", RelayFrame::push(Event::Retire(wire::Retire { retry_after_ms: 5_000 }))),
        ("relay/sent", RelayFrame::of(128, Event::Sent(sent))),
        (
            "relay/marked_read",
            RelayFrame::of(129, Event::MarkedRead(wire::MarkedRead { conversation: group(), seq: 300 })),
        ),
        ("relay/history_page", RelayFrame::of(130, Event::HistoryPage(page))),
        ("relay/group_done", RelayFrame::of(131, Event::GroupDone(done))),
        ("relay/member_page", RelayFrame::of(135, Event::MemberPage(member_page))),
    ]
    .map(|(file, frame)| (file, Expected::Relay(frame)))
    .into()
}

/// What has to do with groups that come by their logs.
fn log_rows() -> Vec<(&'static str, Expected)> {
    let head = wire::LogHead {
        conversation: group(),
        last_seq: 300,
        title: "雁".into(),
        owner: "alice".into(),
        member_count: 1_000_000,
        version: 4,
        called_all: 290,
        changes: 0,
    };
    let state = wire::ConversationState {
        conversation: group(),
        last_seq: 300,
        by_log: true,
        ..wire::ConversationState::default()
    };
    let change = wire::GroupChange {
        conversation: group(),
        kind: wire::GroupChangeKind::Added.into(),
        version: 4,
        last_seq: 300,
        by_log: true,
        ..wire::GroupChange::default()
    };
    let diffusion = wire::Diffusion { conversation: group(), seq: 300, by_log: true };
    let news = wire::LogMessages { messages: vec![message()], group: Some(head.clone()) };
    let snapshot = wire::Snapshot { conversations: vec![state], done: true };
    [
        ("relay/log_heads", RelayFrame::push(Event::LogHeads(wire::LogHeads { heads: vec![head] }))),
        ("relay/log_messages", RelayFrame::push(Event::LogMessages(news))),
        ("relay/snapshot_by_log", RelayFrame::push(Event::Snapshot(snapshot))),
        ("relay/batch_group_by_log", batch(Change::Group(change))),
        ("relay/batch_diffusion", batch(Change::Diffusion(diffusion))),
    ]
    .map(|(file, frame)| (file, Expected::Relay(frame)))
    .into()
}

/// What has to do with changes of messages, and of a group's title.
fn change_rows() -> Vec<(&'static str, Expected)> {
    let change = wire::ChangeMessage {
        conversation: group(),
        seq: 300,
        key: "k3".into(),
        kind: wire::MessageChangeKind::Edited.into(),
        content: content().encode_to_vec().into(),
        reaction: String::new(),
    };
    let reaction = wire::ChangeMessage {
        kind: wire::MessageChangeKind::Reacted.into(),
        content: Bytes::new(),
        reaction: "👍".into(),
        ..change.clone()
    };
    let changes = wire::Changes { conversation: group(), after: 300, limit: 100 };
    let rename = wire::RenameGroup { conversation: group(), title: "鸿雁".into() };
    let client = [
        ("client/change_message", 140, Verb::ChangeMessage(change)),
        ("client/change_message_reaction", 141, Verb::ChangeMessage(reaction)),
        ("client/changes", 142, Verb::Changes(changes)),
        ("client/rename_group", 143, Verb::RenameGroup(rename)),
    ];
    let reacted = wire::MessageChange {
        number: 301,
        kind: wire::MessageChangeKind::Reacted.into(),
        by: "bob".into(),
        time: 1_790_000_000_000,
        reaction: "👍".into(),
        message: Some(changed_message()),
    };
    let gone =
        Message { content: Bytes::new(), mentions: Vec::new(), recalled: 1_790_000_000_700, ..message() };
    let recalled = wire::MessageChange {
        number: 302,
        kind: wire::MessageChangeKind::Recalled.into(),
        reaction: String::new(),
        message: Some(gone),
        ..reacted.clone()
    };
    let renamed = wire::GroupChange {
        conversation: group(),
        kind: wire::GroupChangeKind::Renamed.into(),
        by: "alice".into(),
        version: 5,
        title: "鸿雁".into(),
        changes: 302,
        ..wire::GroupChange::default()
    };
    let head =
        wire::LogHead { conversation: group(), last_seq: 300, changes: 302, ..wire::LogHead::default() };
    let state = wire::ConversationState {
        conversation: group(),
        last_seq: 300,
        changes: 302,
        ..wire::ConversationState::default()
    };
    let changes = vec![reacted.clone(), recalled.clone()];
    let news = wire::LogChanges { conversation: group(), changes: changes.clone() };
    let page = wire::ChangePage { conversation: group(), changes, last: 302 };
    let answer = wire::MessageChanged { key: "k3".into(), message: Some(changed_message()) };
    let snapshot = wire::Snapshot { conversations: vec![state], done: true };
    let heads = wire::LogHeads { heads: vec![head] };
    let relay = [
        ("relay/batch_message_change", batch(Change::MessageChange(reacted))),
        ("relay/batch_message_change_recalled", batch(Change::MessageChange(recalled))),
        ("relay/batch_group_renamed", batch(Change::Group(renamed))),
        ("relay/log_heads_changes", RelayFrame::push(Event::LogHeads(heads))),
        ("relay/log_changes", RelayFrame::push(Event::LogChanges(news))),
        ("relay/message_changed", RelayFrame::of(140, Event::MessageChanged(answer))),
        ("relay/change_page", RelayFrame::of(142, Event::ChangePage(page))),
        ("relay/snapshot_changes", RelayFrame::push(Event::Snapshot(snapshot))),
    ];
    let client = client
        .into_iter()
        .map(|(file, request, verb)| (file, Expected::Client(ClientFrame::of(request, verb))));
    client.chain(relay.into_iter().map(|(file, frame)| (file, Expected::Relay(frame)))).collect()
}

/// What has to do with what users show of themselves.
fn profile_rows() -> Vec<(&'static str, Expected)> {
    let profile = wire::Profile {
        user: "alice".into(),
        version: 300,
        time: 1_790_000_000_000,
        name: "爱丽丝".into(),
        avatar: "https://example.com/a.png".into(),
    };
    let set = wire::SetProfile {
        key: "k4".into(),
        name: Some("爱丽丝".into()),
        avatar: Some("https://example.com/a.png".into()),
    };
    // The name stays as it is, the picture goes.
    let without = wire::SetProfile { key: "k5".into(), name: None, avatar: Some(String::new()) };
    let known = |user: &str, version| wire::KnownProfile { user: user.into(), version };
    let get = wire::GetProfiles { users: vec![known("alice", 299), known("bob", 0)] };
    let set_done = wire::ProfileSet { key: "k4".into(), profile: Some(profile.clone()) };
    let list = wire::ProfileList { profiles: vec![profile.clone()] };
    let client = [
        ("client/set_profile", 144, Verb::SetProfile(set)),
        ("client/set_profile_avatar_gone", 145, Verb::SetProfile(without)),
        ("client/get_profiles", 146, Verb::GetProfiles(get)),
    ];
    let relay = [
        ("relay/batch_profile", batch(Change::Profile(profile))),
        ("relay/profile_set", RelayFrame::of(144, Event::ProfileSet(set_done))),
        ("relay/profile_list", RelayFrame::of(146, Event::ProfileList(list))),
    ];
    let client = client
        .into_iter()
        .map(|(file, request, verb)| (file, Expected::Client(ClientFrame::of(request, verb))));
    client.chain(relay.into_iter().map(|(file, frame)| (file, Expected::Relay(frame)))).collect()
}

/// What has to do with who is there.
fn presence_rows() -> Vec<(&'static str, Expected)> {
    let users = || vec!["bob".to_owned(), "carol".to_owned()];
    let hello = wire::Hello {
        version: 1,
        token: "e30.e30.c2ln".into(),
        user: "alice".into(),
        device: "d-1".into(),
        device_kind: wire::DeviceKind::Miniprogram.into(),
        tab: "t-1".into(),
        term: 3,
        dial: 300,
        away: true,
        ..wire::Hello::default()
    };
    let bye = wire::Bye { logout: false, returns_in_ms: 700, returns: true };
    let client = [
        ("client/hello_tab", 1, Verb::Hello(hello)),
        ("client/bye_returns", 0, Verb::Bye(bye)),
        ("client/set_away", 0, Verb::SetAway(wire::SetAway { away: true })),
        ("client/watch", 136, Verb::Watch(wire::Watch { users: users() })),
        ("client/unwatch", 0, Verb::Unwatch(wire::Unwatch { users: users() })),
        ("client/typing", 0, Verb::Typing(wire::Typing { conversation: group() })),
        ("client/devices", 137, Verb::Devices(wire::Devices {})),
        ("client/sign_out", 138, Verb::SignOut(wire::SignOut { device: "d-2".into() })),
        ("client/set_invisible", 139, Verb::SetInvisible(wire::SetInvisible { invisible: true })),
    ];
    let welcome = wire::Welcome {
        version: 1,
        epoch: "e-1".into(),
        bye_ticket: Bytes::from_static(&[7; 40]),
        invisible: true,
        ..wire::Welcome::default()
    };
    let device = wire::DevicePresence {
        kind: wire::DeviceKind::Web.into(),
        status: wire::PresenceStatus::Leaving.into(),
        cause: wire::PresenceCause::Closed.into(),
        since: 1_790_000_000_000,
        until: 1_790_000_000_700,
    };
    let presence = wire::Presence {
        user: "bob".into(),
        status: device.status,
        cause: device.cause,
        since: device.since,
        until: device.until,
        devices: vec![device],
        refused: false,
    };
    let refused = wire::Presence {
        user: "carol".into(),
        status: wire::PresenceStatus::Unknown.into(),
        refused: true,
        ..wire::Presence::default()
    };
    let watched = wire::Watched { presences: vec![presence.clone(), refused] };
    let device = wire::Device {
        device: "d-2".into(),
        kind: wire::DeviceKind::Ios.into(),
        agent: "hongyan-ios/0.1.0".into(),
        status: wire::PresenceStatus::Offline.into(),
        seen: 1_790_000_000_000,
    };
    let typed = wire::Typed { conversation: group(), user: "bob".into(), expires_in_ms: 5_000 };
    let relay = [
        ("relay/welcome_ticket", 1, Event::Welcome(welcome)),
        ("relay/watched", 136, Event::Watched(watched)),
        ("relay/presence", 0, Event::Presence(presence)),
        ("relay/typed", 0, Event::Typed(typed)),
        ("relay/device_list", 137, Event::DeviceList(wire::DeviceList { devices: vec![device] })),
        ("relay/signed_out", 138, Event::SignedOut(wire::SignedOut { device: "d-2".into() })),
        ("relay/invisible", 139, Event::Invisible(wire::Invisible { invisible: true })),
    ];
    let client = client
        .into_iter()
        .map(|(file, request, verb)| (file, Expected::Client(ClientFrame::of(request, verb))));
    let relay = relay
        .into_iter()
        .map(|(file, request, event)| (file, Expected::Relay(RelayFrame::of(request, event))));
    let beacon = wire::Beacon { ticket: Bytes::from_static(&[7; 40]), bye: Some(bye) };
    client.chain(relay).chain([("beacon", Expected::Beacon(beacon))]).collect()
}

/// What a newer peer may say: it is passed over or carried, never an error.
fn newer_rows() -> Vec<(&'static str, Expected)> {
    // Field 900 of a frame: a verb or event with two bytes in it.
    let unknown_kind = [0x08, 0x05, 0xa2, 0x38, 0x02, 0x08, 0x01];
    let ack = ClientFrame::of(0, Verb::Ack(wire::Ack { cursor: 300 }));
    // The Ack has a field 99 besides: a string.
    let unknown_field = [0x2a, 0x08, 0x08, 0xac, 0x02, 0x9a, 0x06, 0x02, b'h', b'i'];
    let entry = Entry { pos: 12, change: None };
    let passed_over = RelayFrame::push(Event::Batch(Batch { entries: vec![entry], head: 13 }));
    let unknown_change = [0x32, 0x08, 0x0a, 0x04, 0x08, 0x0c, 0x7a, 0x00, 0x10, 0x0d];
    let send = ClientFrame::of(
        1,
        Verb::Send(wire::Send { key: "k1".into(), content: newer_content().into(), ..wire::Send::default() }),
    );
    let carried = Message { content: newer_content().into(), ..message() };
    vec![
        (
            "client/newer_verb",
            Expected::ClientFromNewer(unknown_kind.into(), ClientFrame { request: 5, verb: None }),
        ),
        ("client/newer_field", Expected::ClientFromNewer(unknown_field.into(), ack)),
        (
            "relay/newer_event",
            Expected::RelayFromNewer(unknown_kind.into(), RelayFrame { request: 5, event: None }),
        ),
        ("relay/newer_change", Expected::RelayFromNewer(unknown_change.into(), passed_over)),
        ("client/send_newer_content", Expected::Client(send)),
        ("relay/batch_newer_content", Expected::Relay(batch(Change::Message(carried)))),
        ("content_newer", Expected::ContentFromNewer(newer_content(), content())),
    ]
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1")
}

/// The bytes of commented hex.
fn parse(text: &str) -> Vec<u8> {
    let hex = text.lines().flat_map(|line| line.split('#').next().unwrap_or("").split_whitespace());
    hex.map(|byte| u8::from_str_radix(byte, 16).expect("two hex digits")).collect()
}

/// The files that are there, by their path without `.hex`.
fn files() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for place in ["", "client/", "relay/"] {
        for entry in fs::read_dir(folder().join(place)).expect("the golden folder") {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if let Some(name) = name.strip_suffix(".hex") {
                found.insert(format!("{place}{name}"));
            }
        }
    }
    found
}

#[test]
fn golden_bytes_are_read_and_written_as_ever() {
    for (file, expected) in rows() {
        let path = folder().join(format!("{file}.hex"));
        if std::env::var_os("HONGYAN_GOLDEN").is_some_and(|value| value == "write") && !path.exists() {
            let of = schema::message(expected.name());
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let text = format!("# {}\n{}", expected.name(), schema::annotate(&of, &expected.bytes()));
            fs::write(&path, text).unwrap();
        }
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let bytes = parse(&text);
        assert!(expected.is_read_from(bytes.clone().into()), "{file}: the bytes are read as another value");
        let wrote = expected.bytes();
        assert_eq!(wrote, bytes, "{file}: the value is written as other bytes");
    }
}

#[test]
fn every_kind_has_golden_bytes() {
    let rows: BTreeSet<String> = rows().iter().map(|(file, _)| (*file).to_owned()).collect();
    assert_eq!(files(), rows, "the files and the rows must be the same");
    let kinds = [("client/", "ClientFrame"), ("relay/", "RelayFrame"), ("relay/batch_", "Entry")];
    for (place, of) in kinds {
        for kind in schema::kinds(of) {
            assert!(rows.contains(&format!("{place}{kind}")), "{of}.{kind} has no golden bytes");
        }
    }
}

/// The relay takes a `Content` as bytes and gives it on as bytes, so what a newer client wrote reaches another newer
/// client through a relay and a cache that do not know it.
#[test]
fn what_is_unknown_in_a_content_survives() {
    let sent = ClientFrame::of(
        1,
        Verb::Send(wire::Send { content: newer_content().into(), ..wire::Send::default() }),
    );
    let came = ClientFrame::from_bytes(sent.to_bytes().unwrap()).unwrap();
    let Some(Verb::Send(send)) = came.verb else { panic!("not a send") };
    let pushed = batch(Change::Message(Message { content: send.content, ..message() }));
    let came = RelayFrame::from_bytes(pushed.to_bytes().unwrap()).unwrap();
    let Some(Event::Batch(Batch { entries, .. })) = came.event else { panic!("not a batch") };
    let Some(Change::Message(message)) = &entries[0].change else { panic!("not a message") };
    assert_eq!(message.content, newer_content());
    assert!(Content::decode(message.content.clone()).unwrap() == content());
}
