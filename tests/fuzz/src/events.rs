//! What a relay says, as a program draws it: from a queue that is the same whenever it is asked, or anything.

use bytes::Bytes;
use hongyan_protocol::wire::{self, Content, GroupChangeKind, entry::Change, relay_frame::Event};
use prost::Message as _;

use crate::names::{DEVICES, KEYS, USERS, direct, user, users};
use crate::program::Program;

/// Epochs of the relay.
pub(crate) const EPOCHS: [&str; 3] = ["one", "two", ""];
/// A group.
pub(crate) const GROUP: &str = "geese";

/// The entry at a position of alice's queue in one epoch, always the same: messages of two conversations in the order
/// of their logs, read marks, changes of a group, and of the way its messages come.
pub(crate) fn entry(epoch: &str, pos: u64) -> wire::Entry {
    // Every six entries: two of bob's conversation, one of the group's, one own, a read mark, and something of a group.
    let (round, place) = (pos / 6, pos % 6);
    let message = |conversation: String, seq: u64, from: &str| {
        let content = Content { text: format!("{epoch}{pos}"), ..Default::default() }.encode_to_vec().into();
        let key = format!("{epoch}{pos}");
        let (from, time) = (from.to_owned(), pos);
        Change::Message(wire::Message { conversation, seq, key, from, time, content, ..Default::default() })
    };
    let change = match place {
        0 => message(direct(0, 1), 3 * round + 1, "bob"),
        1 => message(direct(0, 1), 3 * round + 2, "bob"),
        2 => message(GROUP.into(), round + 1, "carol"),
        3 => message(direct(0, 1), 3 * round + 3, "alice"),
        4 if round % 3 == 2 => Change::Profile(wire::Profile {
            user: USERS[usize::try_from(round % 2).unwrap_or(0)].into(),
            version: round / 6 + 1,
            ..wire::Profile::default()
        }),
        4 => Change::Read(wire::ReadMark { conversation: direct(0, 1), seq: 3 * round + 2 }),
        _ if round % 2 == 1 => Change::Diffusion(wire::Diffusion {
            conversation: GROUP.into(),
            seq: round + 1,
            by_log: round % 4 == 1,
        }),
        _ => Change::Group(group_change(round + 1)),
    };
    wire::Entry { pos, change: Some(change) }
}

fn group_change(version: u64) -> wire::GroupChange {
    let kind = match version % 5 {
        1 => GroupChangeKind::Created,
        2 => GroupChangeKind::Removed,
        3 => GroupChangeKind::Added,
        4 => GroupChangeKind::Left,
        _ => GroupChangeKind::Unspecified,
    };
    wire::GroupChange {
        conversation: GROUP.into(),
        kind: kind.into(),
        by: "bob".into(),
        users: vec!["alice".into()],
        time: version,
        version,
        title: "Geese".into(),
        owner: "bob".into(),
        member_count: 3,
        last_seq: version,
        by_log: version.is_multiple_of(3),
        changes: version / 3,
    }
}

/// Consecutive entries of the queue of `epoch`, from after about `cursor`.
pub(crate) fn batch(program: &mut Program<'_>, epoch: &str, cursor: u64) -> Event {
    // Mostly what follows; now and then some of it again, or with a gap.
    let first = match program.below(8) {
        0 => cursor.saturating_sub(program.number()),
        1 => cursor.saturating_add(program.number()),
        _ => cursor.saturating_add(1),
    };
    let count = program.below(12);
    let entries: Vec<_> =
        (0..count as u64).map_while(|n| first.checked_add(n)).map(|pos| entry(epoch, pos)).collect();
    let head = entries.last().map_or(cursor, |entry| entry.pos);
    Event::Batch(wire::Batch { entries, head })
}

/// Anything but a batch.
pub(crate) fn event(program: &mut Program<'_>, epoch: &str, conversations: &[String]) -> Event {
    let conversation = program.pick(conversations).clone();
    match program.below(28) {
        0 | 1 => Event::Welcome(welcome(program, epoch)),
        2 => Event::Renewed(wire::Renewed { token_expires_in_ms: program.number() }),
        3 => Event::Reset(wire::Reset { epoch: program.text(&EPOCHS), pos: program.number(), cause: 1 }),
        4 | 5 => Event::Snapshot(wire::Snapshot {
            conversations: program.times(0..4, |program| state(program, conversations)),
            done: program.flag(),
        }),
        6 => Event::Ping(wire::Ping { nonce: program.number() }),
        7 => Event::Pong(wire::Pong { nonce: program.number() }),
        8 | 9 => Event::Reject(wire::Reject {
            code: match program.below(4) {
                0 => program.small(),
                1 => 4100 + u32::from(program.byte() % 4),
                2 => 4200 + u32::from(program.byte() % 8),
                _ => 4300 + u32::from(program.byte() % 18),
            },
            reason: program.text(&["", "A reason."]),
            retry_after_ms: program.small(),
        }),
        10 => Event::Retire(wire::Retire { retry_after_ms: program.small() }),
        11 => Event::Sent(wire::Sent {
            key: program.text(&KEYS),
            conversation,
            seq: program.number(),
            time: program.number(),
        }),
        12 => Event::MarkedRead(wire::MarkedRead { conversation, seq: program.number() }),
        13..=15 => {
            let first = program.number();
            let count = program.below(8) as u64;
            let messages = (0..count).map(|n| log_message(program, &conversation, first.wrapping_add(n)));
            Event::HistoryPage(wire::HistoryPage {
                messages: messages.collect(),
                conversation,
                last_seq: program.number(),
            })
        }
        18 | 19 => Event::Watched(wire::Watched { presences: program.times(0..4, presence) }),
        20 => Event::Presence(presence(program)),
        21 => Event::Typed(wire::Typed { conversation, user: user(program), expires_in_ms: program.small() }),
        22 => match program.below(3) {
            0 => Event::DeviceList(wire::DeviceList {
                devices: program.times(0..3, |program| wire::Device {
                    device: program.text(&DEVICES),
                    kind: i32::from(program.byte()),
                    agent: String::new(),
                    status: i32::from(program.byte()),
                    seen: program.number(),
                }),
            }),
            1 => Event::SignedOut(wire::SignedOut { device: program.text(&DEVICES) }),
            _ => Event::Invisible(wire::Invisible { invisible: program.flag() }),
        },
        25 => Event::LogHeads(wire::LogHeads {
            heads: program.times(0..3, |program| log_head(program, conversations)),
        }),
        26 | 27 => {
            let first = program.number();
            let count = program.below(8) as u64;
            let messages = (0..count).map(|n| log_message(program, GROUP, first.wrapping_add(n))).collect();
            let group = program.flag().then(|| log_head(program, conversations));
            Event::LogMessages(wire::LogMessages { messages, group })
        }
        24 => of_changes(program, conversation),
        16 | 17 => Event::GroupDone(wire::GroupDone { conversation, version: program.number() }),
        _ => Event::MemberPage(wire::MemberPage {
            conversation,
            members: program.times(0..4, |program| wire::Member {
                user: user(program),
                role: i32::from(program.byte() & 3),
            }),
            more: program.flag(),
            version: program.number(),
        }),
    }
}

fn of_changes(program: &mut Program<'_>, conversation: String) -> Event {
    match program.below(5) {
        3 => {
            Event::ProfileSet(wire::ProfileSet { key: program.text(&KEYS), profile: Some(profile(program)) })
        }
        4 => Event::ProfileList(wire::ProfileList { profiles: program.times(0..4, profile) }),
        0 => {
            let changes = message_changes(program, GROUP);
            Event::LogChanges(wire::LogChanges { conversation: GROUP.into(), changes })
        }
        1 => {
            let changes = message_changes(program, &conversation);
            Event::ChangePage(wire::ChangePage { conversation, changes, last: program.number() })
        }
        _ => {
            let (key, seq) = (program.text(&KEYS), program.number());
            let message = program.flag().then(|| log_message(program, &conversation, seq));
            Event::MessageChanged(wire::MessageChanged { key, message })
        }
    }
}

fn profile(program: &mut Program<'_>) -> wire::Profile {
    wire::Profile {
        user: user(program),
        version: program.number(),
        time: program.number(),
        name: program.text(&["Alice", ""]),
        avatar: program.text(&["http://a", ""]),
    }
}

fn log_head(program: &mut Program<'_>, conversations: &[String]) -> wire::LogHead {
    wire::LogHead {
        conversation: program.pick(conversations).clone(),
        last_seq: program.number(),
        title: program.text(&["Geese", ""]),
        owner: user(program),
        member_count: program.small(),
        version: program.number(),
        called_all: program.number(),
        changes: program.number(),
    }
}

fn presence(program: &mut Program<'_>) -> wire::Presence {
    wire::Presence {
        user: user(program),
        status: i32::from(program.byte() & 7),
        cause: i32::from(program.byte() & 7),
        since: program.number(),
        until: program.number(),
        devices: program.times(0..3, |program| wire::DevicePresence {
            kind: i32::from(program.byte() & 7),
            status: i32::from(program.byte() & 7),
            ..wire::DevicePresence::default()
        }),
        refused: program.flag(),
    }
}

/// A welcome that mostly holds.
pub(crate) fn welcome(program: &mut Program<'_>, epoch: &str) -> wire::Welcome {
    let odd = program.byte();
    wire::Welcome {
        version: if odd == 1 { program.small() } else { 1 },
        epoch: epoch.to_owned(),
        head: program.number(),
        token_expires_in_ms: if odd & 2 == 0 { 3_600_000 } else { program.number() },
        ping_interval_ms: 7_000,
        silence_ms: if odd & 4 == 0 { 15_000 } else { program.small() },
        content_bytes_max: if odd & 8 == 0 { 65_536 } else { program.small() },
        time: program.number(),
        bye_ticket: if odd & 16 == 0 { Bytes::from_static(b"ticket") } else { Bytes::new() },
        invisible: odd & 32 != 0,
    }
}

fn state(program: &mut Program<'_>, conversations: &[String]) -> wire::ConversationState {
    let conversation = program.pick(conversations).clone();
    wire::ConversationState {
        last_seq: program.number(),
        read_seq: program.number(),
        own_unread: program.times(0..4, Program::number),
        last_message: program.flag().then(|| {
            let seq = program.number();
            log_message(program, &conversation, seq)
        }),
        left: program.flag(),
        title: program.text(&["Geese", ""]),
        owner: user(program),
        member_count: program.small(),
        version: program.number(),
        by_log: program.flag(),
        changes: program.number(),
        conversation,
    }
}

/// Consecutive changes, each with a message that may be there or not.
fn message_changes(program: &mut Program<'_>, conversation: &str) -> Vec<wire::MessageChange> {
    let first = program.number();
    let count = program.below(8) as u64;
    let change = |n| wire::MessageChange {
        number: first.wrapping_add(n),
        kind: i32::from(program.byte() & 7),
        by: user(program),
        time: program.number(),
        reaction: program.text(&["", "+"]),
        message: program.flag().then(|| {
            let seq = program.number();
            let recalled = u64::from(program.flag());
            wire::Message { recalled, ..log_message(program, conversation, seq) }
        }),
    };
    (0..count).map(change).collect()
}

fn log_message(program: &mut Program<'_>, conversation: &str, seq: u64) -> wire::Message {
    let content: Bytes = Content { text: "history".into(), ..Default::default() }.encode_to_vec().into();
    wire::Message {
        conversation: conversation.to_owned(),
        seq,
        key: format!("h{seq}"),
        from: (*program.pick(&USERS)).to_owned(),
        time: seq,
        content,
        reply_to: 0,
        mentions: if program.flag() { users(program) } else { Vec::new() },
        ..wire::Message::default()
    }
}
