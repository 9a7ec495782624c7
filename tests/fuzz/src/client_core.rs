//! The client's core under a program of inputs: a relay that says anything, a cache that fails, is slow or is damaged,
//! a host that sleeps.
//!
//! What must hold whatever comes: nothing panics; one save, one question for a token and one socket at most; nothing is
//! sent on a socket that is not open; each command is answered once, all of them when the application closes; a cursor
//! never moves back within an epoch; and as long as the relay's batches are of one queue, each conversation's messages
//! are told in ascending order, none twice.

use core::mem::Discriminant;
use std::collections::HashSet;

use bytes::Bytes;
use hongyan_client::{Change, Command, Generation, HostEvent, Input, Ticket};
use hongyan_protocol::wire::{Content, RelayFrame, client_frame::Verb, relay_frame::Event};
use hongyan_protocol::{Code, ConversationId, DeviceId, Key, Seq, UserId};

use crate::events::{self, EPOCHS, GROUP};
use crate::host::Host;
use crate::names::{KEYS, USERS, direct};
use crate::program::Program;

/// Inputs of one program at most.
const INPUTS_MAX: usize = 4_000;

/// The client's core under any inputs.
pub fn client_core(data: &[u8]) {
    verbs_of_client_core(data);
}

/// The same; gives the kinds of verbs that the client sent, so that a test knows how far a corpus reaches.
pub fn verbs_of_client_core(data: &[u8]) -> HashSet<Discriminant<Verb>> {
    let mut program = Program::new(data);
    let mut host = Host::new();
    let conversations = [direct(0, 1), GROUP.to_owned(), direct(0, 0), direct(0, 2), direct(1, 2)];
    if program.flag() {
        let restored = host.disk.restored();
        host.input(Input::Restored(restored));
    }
    while !program.is_over() && host.inputs < INPUTS_MAX {
        step(&mut program, &mut host, &conversations);
    }
    host.close();
    host.said
}

fn step(program: &mut Program<'_>, host: &mut Host, conversations: &[String]) {
    match program.below(32) {
        0 => {
            // Once more, too: it must be ignored then.
            if host.client.device().is_none() {
                damage(program, host);
            }
            let restored = host.disk.restored();
            host.input(Input::Restored(restored));
        }
        1 | 2 => host.token(match program.below(4) {
            0 => Err("The provider is not there.".into()),
            1 => Ok(program.text(&["", "token"])),
            _ => Ok("token".into()),
        }),
        3 | 4 => host.opened(),
        5 => host.frame(Bytes::copy_from_slice(program.bytes()), false),
        6..=10 => {
            let epoch = host.epoch.clone();
            let (cursor, request) = (host.cursor, program.number());
            let event = if program.flag() {
                events::batch(program, &epoch, cursor)
            } else {
                events::event(program, &epoch, conversations)
            };
            say(host, request, event);
        }
        11 | 12 => {
            if host.greets() {
                let epoch = *program.pick(&EPOCHS);
                let welcome = events::welcome(program, epoch);
                say(host, 1, Event::Welcome(welcome));
            }
        }
        13 => {
            if let Some((generation, _)) = host.socket {
                let generation =
                    if program.below(8) == 0 { Generation(program.number()) } else { generation };
                let code = match program.below(3) {
                    0 => Code(1006),
                    1 => *program.pick(Code::ALL),
                    _ => Code(u16::try_from(program.number() & 0xffff).unwrap_or(0)),
                };
                host.input(Input::Closed { generation, code, reason: program.text(&["", "A reason."]) });
            }
        }
        14..=16 => drop(host.save()),
        17 => {
            if program.below(4) == 0 {
                host.fail_save();
            }
        }
        18 => {
            let at = program.below(256);
            host.load(at, None);
        }
        19 => {
            let at = program.below(256);
            let any =
                |program: &mut Program<'_>| (Seq(program.number()), Bytes::copy_from_slice(program.bytes()));
            let messages = program.times(0..4, any);
            host.load(at, Some(messages));
        }
        20 => {
            let event = match program.below(6) {
                5 => HostEvent::Leave { returns_in_ms: program.small(), returns: program.flag() },
                0 => HostEvent::Visible(true),
                1 => HostEvent::Visible(false),
                2 => HostEvent::Network(true),
                3 => HostEvent::Network(false),
                _ => HostEvent::Wake,
            };
            host.input(Input::Host(event));
        }
        21 | 22 => {
            // To the next deadline.
            if let Some(at) = host.client.next_deadline() {
                host.moment = at.0;
                host.input(Input::Tick);
            }
        }
        23 => {
            host.moment = host.moment.saturating_add(program.number() % 200_000);
            host.time = program.number();
            host.input(Input::Tick);
        }
        24 => {
            if program.below(4) == 0 {
                host.crash();
                damage(program, host);
                let restored = host.disk.restored();
                host.input(Input::Restored(restored));
            }
        }
        25 => {
            // What belongs to another life of the host.
            let number = program.number();
            host.input(match program.below(5) {
                0 => Input::Saved(Ticket(number ^ 1 << 60)),
                1 => Input::SaveFailed(Ticket(number ^ 1 << 60), String::new()),
                2 => Input::Loaded(Ticket(number ^ 1 << 60), Vec::new()),
                3 => Input::Opened(Generation(number ^ 1 << 60)),
                _ => Input::Frame(Generation(number ^ 1 << 60), Bytes::copy_from_slice(program.bytes())),
            });
        }
        _ => {
            let count = if program.below(16) == 0 { program.number() % 300 } else { 1 };
            // The same one over and over.
            for _ in 1..count {
                host.command(command(&mut program.fork(), conversations));
            }
            host.command(command(program, conversations));
        }
    }
}

fn say(host: &mut Host, request: u64, event: Event) {
    if let Ok(bytes) = RelayFrame::of(request, event).to_bytes() {
        host.frame(bytes, true);
    }
}

/// Records that are not what the client wrote.
fn damage(program: &mut Program<'_>, host: &mut Host) {
    for _ in 0..program.below(4) {
        host.forget();
        match program.below(6) {
            0 => host.disk.meta = Some(Bytes::copy_from_slice(program.bytes())),
            1 => {
                let (order, record) = (program.number(), Bytes::copy_from_slice(program.bytes()));
                host.disk.outbox.insert(order, record);
            }
            2 => {
                if let Ok(id) = ConversationId::new(&program.text(&[GROUP])) {
                    host.disk.conversations.insert(id, Bytes::copy_from_slice(program.bytes()));
                }
            }
            place => {
                // One byte is another one.
                let (at, by) = (usize::from(program.byte()), program.byte());
                let record = match place {
                    3 => host.disk.meta.as_mut(),
                    4 => host.disk.conversations.values_mut().next(),
                    _ => host.disk.outbox.values_mut().next(),
                };
                if let Some(record) = record {
                    let mut bytes = record.to_vec();
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte ^= by;
                    }
                    *record = bytes.into();
                }
            }
        }
    }
}

fn command(program: &mut Program<'_>, conversations: &[String]) -> Command {
    let conversation = id(program, conversations);
    match program.below(20) {
        0 => Command::Discard(key(program)),
        1..=4 => {
            let bound = |program: &mut Program<'_>| program.flag().then(|| Seq(program.number()));
            let limit = usize::try_from(program.number()).unwrap_or(usize::MAX);
            Command::History { conversation, before: bound(program), after: bound(program), limit }
        }
        5 => Command::Conversations {
            limit: usize::try_from(program.number()).unwrap_or(usize::MAX),
            before: program.flag().then_some(conversation),
        },
        6 | 7 => Command::MarkRead { conversation, seq: program.flag().then(|| Seq(program.number())) },
        8 => Command::CreateGroup {
            key: program.flag().then(|| key(program)),
            title: program.text(&["Geese"]),
            members: users(program),
        },
        9 => Command::AddMembers(conversation, users(program)),
        10 => Command::RemoveMembers(conversation, users(program)),
        11 => Command::LeaveGroup(conversation),
        12 => Command::Members {
            conversation,
            after: program.flag().then(|| users(program).pop()).flatten(),
            limit: usize::try_from(program.number()).unwrap_or(usize::MAX),
        },
        13 if program.below(8) == 0 => Command::Close,
        14 if program.below(8) == 0 => Command::Logout { keep_cache: program.flag() },
        13 => Command::RenameGroup(conversation, program.text(&["Swans"])),
        14 => Command::Change {
            conversation,
            seq: Seq(program.number()),
            key: program.flag().then(|| key(program)),
            change: match program.below(4) {
                0 => Change::Edit(Content { text: program.text(&["hello"]), ..Content::default() }),
                1 => Change::Recall,
                2 => Change::React(program.text(&["+"])),
                _ => Change::Unreact(program.text(&["+"])),
            },
        },
        15 => Command::Watch { by: program.small() % 4, users: users(program) },
        16 => match program.below(6) {
            0 => Command::Devices,
            1 => Command::SignOut(DeviceId::new("phone").expect("an id")),
            2 => Command::SetInvisible(program.flag()),
            3 => Command::Profiles(users(program)),
            4 => Command::SetProfile {
                key: program.flag().then(|| key(program)),
                name: program.flag().then(|| program.text(&["Alice", ""])),
                avatar: program.flag().then(|| program.text(&["http://a", ""])),
            },
            _ => Command::Typing(conversation),
        },
        _ => Command::Send {
            conversation,
            key: program.flag().then(|| key(program)),
            content: Content {
                kind: program.text(&["", "image"]),
                text: program.text(&["hello"]),
                json: String::new(),
            },
            reply_to: program.flag().then(|| Seq(program.number())),
            mentions: users(program),
        },
    }
}

fn id(program: &mut Program<'_>, conversations: &[String]) -> ConversationId {
    let texts: Vec<&str> = conversations.iter().map(String::as_str).collect();
    ConversationId::new(&program.text(&texts))
        .unwrap_or_else(|_| ConversationId::new("~5.alice").expect("an id"))
}

fn key(program: &mut Program<'_>) -> Key {
    Key::new(&program.text(&KEYS)).unwrap_or_else(|_| Key::new("k").expect("an id"))
}

fn users(program: &mut Program<'_>) -> Vec<UserId> {
    program.times(0..4, |program| UserId::new(USERS[program.below(USERS.len())]).expect("an id"))
}
