//! Verbs as a program draws them: well formed for the most part, so that they get past the first check.

use hongyan_protocol::wire::{self, Content, client_frame::Verb};
use prost::Message as _;

use crate::names::{DEVICES, KEYS, conversation, user, users};
use crate::program::Program;

/// What a hello may name besides what the program draws.
pub(crate) struct Known<'a> {
    /// The relay's epoch.
    pub(crate) epoch: &'a str,
    /// The groups that there are.
    pub(crate) groups: &'a [String],
}

/// Any verb.
pub(crate) fn verb(program: &mut Program<'_>, known: &Known<'_>) -> Verb {
    let groups = known.groups;
    match program.below(20) {
        0 => Verb::Renew(wire::Renew { token: token(program) }),
        1 => Verb::Resume(wire::Resume { cursor: program.number() }),
        2 | 3 => Verb::Ack(wire::Ack { cursor: program.number() }),
        4 => Verb::Ping(wire::Ping { nonce: program.number() }),
        5 => Verb::Pong(wire::Pong { nonce: program.number() }),
        6 => Verb::Bye(wire::Bye { logout: program.flag(), ..wire::Bye::default() }),
        7 => Verb::MarkRead(wire::MarkRead {
            conversation: conversation(program, groups),
            seq: program.number(),
        }),
        8 | 9 => Verb::History(wire::History {
            conversation: conversation(program, groups),
            before: program.number(),
            after: program.number(),
            limit: program.small(),
        }),
        10 => Verb::CreateGroup(wire::CreateGroup {
            key: program.text(&KEYS),
            title: program.text(&["Geese", ""]),
            members: users(program),
        }),
        11 => Verb::AddMembers(wire::AddMembers {
            conversation: conversation(program, groups),
            users: users(program),
        }),
        12 => Verb::RemoveMembers(wire::RemoveMembers {
            conversation: conversation(program, groups),
            users: users(program),
        }),
        13 => Verb::LeaveGroup(wire::LeaveGroup { conversation: conversation(program, groups) }),
        14 => Verb::Members(wire::Members {
            conversation: conversation(program, groups),
            after: program.text(&["", "alice", "bob"]),
            limit: program.small(),
        }),
        15 => Verb::Hello(hello(program, known)),
        16 => of_presence(program, known),
        _ => Verb::Send(wire::Send {
            conversation: conversation(program, groups),
            key: program.text(&KEYS),
            content: content(program).into(),
            reply_to: program.number(),
            mentions: users(program),
        }),
    }
}

/// What has to do with who is there, and a few others.
fn of_presence(program: &mut Program<'_>, known: &Known<'_>) -> Verb {
    match program.below(9) {
        0 => Verb::SetAway(wire::SetAway { away: program.flag() }),
        1 => Verb::Unwatch(wire::Unwatch { users: users(program) }),
        2 => Verb::Typing(wire::Typing { conversation: conversation(program, known.groups) }),
        3 => Verb::Devices(wire::Devices {}),
        4 => Verb::SignOut(wire::SignOut { device: program.text(&DEVICES) }),
        5 => Verb::SetInvisible(wire::SetInvisible { invisible: program.flag() }),
        6 => Verb::Bye(bye(program)),
        8 => of_changes(program, known),
        _ => Verb::Watch(wire::Watch { users: users(program) }),
    }
}

/// What has to do with what may change.
fn of_changes(program: &mut Program<'_>, known: &Known<'_>) -> Verb {
    match program.below(6) {
        4 => Verb::SetProfile(wire::SetProfile {
            key: program.text(&KEYS),
            name: program.flag().then(|| program.text(&["Alice", ""])),
            avatar: program.flag().then(|| program.text(&["http://a", ""])),
        }),
        5 => Verb::GetProfiles(wire::GetProfiles {
            users: program
                .times(0..4, |program| wire::KnownProfile { user: user(program), version: program.number() }),
        }),
        0 => Verb::RenameGroup(wire::RenameGroup {
            conversation: conversation(program, known.groups),
            title: program.text(&["Swans", ""]),
        }),
        1 => Verb::Changes(wire::Changes {
            conversation: conversation(program, known.groups),
            after: program.number(),
            limit: program.small(),
        }),
        _ => Verb::ChangeMessage(wire::ChangeMessage {
            conversation: conversation(program, known.groups),
            seq: program.number(),
            key: program.text(&KEYS),
            kind: i32::from(program.byte() & 7),
            content: content(program).into(),
            reaction: program.text(&["+", "heart", ""]),
        }),
    }
}

/// A goodbye that may be none.
pub(crate) fn bye(program: &mut Program<'_>) -> wire::Bye {
    wire::Bye { logout: false, returns_in_ms: program.small(), returns: program.flag() }
}

/// A hello that mostly holds.
pub(crate) fn hello(program: &mut Program<'_>, known: &Known<'_>) -> wire::Hello {
    let user = user(program);
    let odd = program.byte();
    wire::Hello {
        version: if odd & 0b1000_0001 == 0b1000_0001 { program.small() } else { 1 },
        token: if odd & 0b100_0001 == 0b100_0001 { token(program) } else { user.clone() },
        user,
        device: program.text(&DEVICES),
        device_kind: (odd & 7).into(),
        epoch: if odd & 0b1000 == 0 { known.epoch.to_owned() } else { program.text(&["", "another"]) },
        cursor: program.number(),
        agent: "fuzz".into(),
        // Of few values, so that late hellos meet those that they are late for.
        tab: if odd & 0b11_0000 == 0b11_0000 { program.text(&["", "1", "2"]) } else { String::new() },
        term: u64::from(odd >> 1 & 1),
        dial: u64::from(odd >> 2 & 1),
        away: odd & 0b10_0000 != 0,
    }
}

/// For this verifier a token is a user, with its end after an `@`.
fn token(program: &mut Program<'_>) -> String {
    let user = user(program);
    if program.flag() {
        format!("{user}@{}", crate::names::TIME.saturating_add(program.number()))
    } else {
        user
    }
}

fn content(program: &mut Program<'_>) -> Vec<u8> {
    if program.below(8) == 0 {
        return program.bytes().to_vec();
    }
    let text = program.text(&["hello", "你好"]);
    Content { text, ..Content::default() }.encode_to_vec()
}
