//! What one connection said and was told, held against what may be told.

use core::mem::{Discriminant, discriminant};
use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;
use hongyan_protocol::wire::{self, ClientFrame, RelayFrame, client_frame::Verb, entry, relay_frame::Event};
use hongyan_protocol::{ConversationId, ConversationKind, UserId};
use hongyan_relay::store::{MemoryStore, Order, Store, Table};

/// What was told so far, to anybody.
#[derive(Default)]
pub(crate) struct Heard {
    /// The kinds of events.
    pub(crate) kinds: HashSet<Discriminant<Event>>,
    /// Groups, by their ids.
    pub(crate) groups: Vec<String>,
    /// Each user's entries.
    entries: BTreeMap<(String, u64), wire::Entry>,
    /// What each user's keys were answered.
    answers: BTreeMap<(String, String), wire::Sent>,
}

/// A connection as its host sees it.
#[derive(Default)]
pub(crate) struct Peer {
    /// Bytes that were transmitted and not written.
    pub(crate) unwritten: usize,
    /// Who it said it was, and was taken for.
    claims: String,
    user: Option<String>,
    /// Frames with each request's number, less the answers.
    asked: BTreeMap<u64, u32>,
    /// The last entry that came.
    pub(crate) cursor: u64,
    /// The next entry may be any: a resume is on its way.
    resumes: bool,
    /// Rejects since `refused_at`.
    pub(crate) refusals: u32,
    refused_at: u64,
    /// What it may say goodbye with.
    pub(crate) ticket: Bytes,
}

impl Peer {
    pub(crate) fn says(&mut self, bytes: &Bytes) {
        let Ok(frame) = ClientFrame::from_bytes(bytes.clone()) else { return };
        *self.asked.entry(frame.request).or_default() += 1;
        match frame.verb {
            Some(Verb::Hello(hello)) if self.user.is_none() => {
                self.claims = hello.user;
                self.cursor = hello.cursor;
            }
            Some(Verb::Resume(_)) => self.resumes = true,
            _ => {}
        }
    }

    pub(crate) fn hears(&mut self, bytes: Bytes, moment: u64, durable: &MemoryStore, heard: &mut Heard) {
        let frame = RelayFrame::from_bytes(bytes).expect("the relay's frames can be read");
        let event = frame.event.expect("the relay sends no empty frames");
        heard.kinds.insert(discriminant(&event));
        if frame.request > 0 {
            let asked = self.asked.get_mut(&frame.request).expect("an answer to what was not asked");
            assert!(*asked > 0, "a request is answered twice");
            *asked -= 1;
        }
        if let Event::Reject(reject) = &event {
            if moment.saturating_sub(self.refused_at) >= 1_000 {
                (self.refused_at, self.refusals) = (moment, 0);
            }
            self.refusals += 1;
            assert!((4100..4400).contains(&reject.code) && !reject.reason.is_empty());
            return;
        }
        if let Event::Welcome(welcome) = event {
            assert!(self.user.is_none(), "a second welcome");
            self.user = Some(self.claims.clone());
            self.ticket = welcome.bye_ticket;
            return;
        }
        let user = match (&self.user, &event) {
            // Before hello nobody is told anything but that the relay stops.
            (None, Event::Retire(_)) => return,
            (None, _) => panic!("told before hello"),
            (Some(user), _) => user.clone(),
        };
        match event {
            Event::Batch(batch) => {
                assert!(!batch.entries.is_empty(), "an empty batch");
                for entry in batch.entries {
                    self.entry(&user, entry, batch.head, durable, heard);
                }
            }
            Event::Reset(reset) => self.cursor = reset.pos,
            Event::Sent(sent) => {
                let key = joined(&user, &sent.key);
                assert!(has(durable, Table::Keys, &key), "a send is answered before it is durable");
                assert!(has(durable, Table::Messages, &numbered(&sent.conversation, sent.seq)));
                let first = heard.answers.entry((user, sent.key.clone())).or_insert_with(|| sent.clone());
                assert!(*first == sent, "a key is answered with two results");
            }
            Event::HistoryPage(page) => {
                readable(&user, &page.conversation);
                for pair in page.messages.windows(2) {
                    assert_eq!(pair[0].seq + 1, pair[1].seq, "a page of history has a gap");
                }
                for message in &page.messages {
                    assert!(message.conversation == page.conversation && message.seq <= page.last_seq);
                    assert!(has(durable, Table::Messages, &numbered(&message.conversation, message.seq)));
                }
            }
            Event::LogHeads(heads) => {
                for head in heads.heads {
                    let last = numbered(&head.conversation, head.last_seq);
                    assert!(head.last_seq == 0 || has(durable, Table::Messages, &last));
                }
            }
            Event::LogMessages(news) => {
                for pair in news.messages.windows(2) {
                    assert_eq!(pair[0].seq + 1, pair[1].seq, "a push of a log has a gap");
                }
                for message in &news.messages {
                    assert!(has(durable, Table::Messages, &numbered(&message.conversation, message.seq)));
                }
            }
            Event::LogChanges(news) => changes(&user, &news.conversation, &news.changes, durable),
            Event::ChangePage(page) => changes(&user, &page.conversation, &page.changes, durable),
            Event::MessageChanged(changed) => {
                let message = changed.message.expect("a change is answered with its message");
                readable(&user, &message.conversation);
                assert!(has(durable, Table::Messages, &numbered(&message.conversation, message.seq)));
            }
            Event::GroupDone(done) => {
                let key = [done.conversation.as_bytes(), &[0]].concat();
                assert!(has(durable, Table::Groups, &key), "a group is told before it is durable");
                if !heard.groups.contains(&done.conversation) {
                    heard.groups.push(done.conversation);
                }
            }
            Event::MarkedRead(marked) => readable(&user, &marked.conversation),
            Event::MemberPage(page) => {
                readable(&user, &page.conversation);
                assert!(page.members.windows(2).all(|pair| pair[0].user < pair[1].user));
            }
            Event::ProfileSet(set) => {
                let profile = set.profile.expect("a change is answered with the profile");
                assert!(profile.user == user, "a change of another's profile");
                assert!(profile.version == 0 || has(durable, Table::Profiles, &alone(&user)));
            }
            Event::ProfileList(list) => {
                for profile in &list.profiles {
                    assert!(profile.version > 0 && has(durable, Table::Profiles, &alone(&profile.user)));
                }
            }
            Event::Watched(watched) => {
                watched.presences.iter().for_each(|presence| may_be_seen(&user, presence, durable));
            }
            Event::Presence(presence) => may_be_seen(&user, &presence, durable),
            Event::Typed(typed) => {
                readable(&user, &typed.conversation);
                assert!(typed.user != user, "told of one's own typing");
            }
            Event::Snapshot(snapshot) => {
                for state in &snapshot.conversations {
                    readable(&user, &state.conversation);
                    assert!(has(durable, Table::Memberships, &joined(&user, &state.conversation)));
                    assert!(state.read_seq <= state.last_seq || state.left);
                }
            }
            Event::Welcome(_)
            | Event::Reject(_)
            | Event::Renewed(_)
            | Event::Ping(_)
            | Event::Pong(_)
            | Event::Retire(_)
            | Event::DeviceList(_)
            | Event::SignedOut(_)
            | Event::Invisible(_) => {}
        }
    }

    fn entry(&mut self, user: &str, entry: wire::Entry, head: u64, durable: &MemoryStore, heard: &mut Heard) {
        assert!(entry.pos <= head, "an entry beyond the head");
        assert!(self.resumes || entry.pos == self.cursor + 1, "{} follows {}", entry.pos, self.cursor);
        self.cursor = entry.pos;
        self.resumes = false;
        assert!(has_entry(durable, user, entry.pos), "an entry is told before it is durable");
        // Of a profile that a later entry tells there is none.
        let Some(change) = &entry.change else { return };
        match change {
            entry::Change::Profile(profile) => {
                assert!(profile.version > 0 && has(durable, Table::Profiles, &alone(&profile.user)));
                let direct = direct_of(user, &profile.user);
                assert!(profile.user == user || has(durable, Table::Memberships, &joined(user, &direct)));
                // It is told as it is now.
                return;
            }
            entry::Change::Message(message) => {
                readable(user, &message.conversation);
                assert!(has(durable, Table::Messages, &numbered(&message.conversation, message.seq)));
            }
            entry::Change::Read(mark) => readable(user, &mark.conversation),
            entry::Change::Group(change) => readable(user, &change.conversation),
            entry::Change::Diffusion(change) => readable(user, &change.conversation),
            entry::Change::MessageChange(change) => {
                let of = change.message.as_ref().map_or("", |message| &message.conversation);
                changes(user, of, core::slice::from_ref(change), durable);
            }
        }
        let first = heard.entries.entry((user.to_owned(), entry.pos)).or_insert_with(|| entry.clone());
        let is_changed = [&*first, &entry].into_iter().any(tells_a_change);
        let is_alike = *first == entry || (is_changed && as_written(first.clone()) == as_written(entry));
        assert!(is_alike, "an entry changed");
    }
}

/// Its message may be told as it was, and as a change made it.
fn tells_a_change(entry: &wire::Entry) -> bool {
    match &entry.change {
        Some(entry::Change::Message(message)) => {
            message.edited > 0 || message.recalled > 0 || !message.reactions.is_empty()
        }
        Some(entry::Change::MessageChange(_)) => true,
        _ => false,
    }
}

/// An entry without what a change may make of its message.
fn as_written(mut entry: wire::Entry) -> wire::Entry {
    let message = match &mut entry.change {
        Some(entry::Change::Message(message)) => Some(message),
        Some(entry::Change::MessageChange(change)) => change.message.as_mut(),
        _ => None,
    };
    if let Some(message) = message {
        let wire::Message { conversation, seq, key, from, time, reply_to, .. } = core::mem::take(message);
        *message = wire::Message { conversation, seq, key, from, time, reply_to, ..wire::Message::default() };
    }
    entry
}

/// Consecutive changes of messages, each of which is durable.
fn changes(user: &str, conversation: &str, changes: &[wire::MessageChange], durable: &MemoryStore) {
    readable(user, conversation);
    for pair in changes.windows(2) {
        assert_eq!(pair[0].number + 1, pair[1].number, "changes have a gap");
    }
    for change in changes {
        assert!(has(durable, Table::Changes, &numbered(conversation, change.number)));
        let message = change.message.as_ref().expect("a change is told with its message");
        assert!(message.conversation == conversation);
        assert!(has(durable, Table::Messages, &numbered(conversation, message.seq)));
    }
}

/// A direct conversation is told to its users only.
fn readable(user: &str, conversation: &str) {
    let id = ConversationId::new(conversation).expect("the relay names conversations by ids");
    if id.kind() == ConversationKind::Direct {
        let user = UserId::new(user).expect("whose hello was taken");
        assert!(id.peer_of(&user).is_some(), "{user} is told of {id}");
    }
}

/// The presence of others is told to those who share a conversation with them, and to nobody else.
fn may_be_seen(user: &str, presence: &wire::Presence, durable: &MemoryStore) {
    assert!((1..=5).contains(&presence.status) && presence.user.len() <= 128);
    if presence.refused {
        let nothing = wire::Presence { status: 5, user: String::new(), refused: true, ..Default::default() };
        assert!(
            wire::Presence { user: String::new(), ..presence.clone() } == nothing,
            "a refusal tells something"
        );
        return;
    }
    if presence.user == user {
        return;
    }
    let mut shares = has(durable, Table::Memberships, &joined(user, &direct_of(user, &presence.user)));
    let mut see = |key: &[u8], _: &[u8]| {
        let group = key.split(|byte| *byte == 0).next().unwrap_or_default();
        let member = |user: &str| [group, &[0], user.as_bytes(), &[0]].concat();
        shares |= key == member(user) && has(durable, Table::Members, &member(&presence.user));
        !shares
    };
    durable.scan(Table::Members, &[], &[0xff; 300], Order::Ascending, &mut see).expect("memory");
    assert!(shares, "{user} sees {}", presence.user);
}

fn has(store: &MemoryStore, table: Table, key: &[u8]) -> bool {
    store.get(table, key).expect("memory").is_some()
}

/// A row ends with the position that its key names, and holds what comes before.
pub(crate) fn has_entry(store: &MemoryStore, user: &str, pos: u64) -> bool {
    let mut is_there = false;
    let mut see = |_: &[u8], _: &[u8]| {
        is_there = true;
        false
    };
    let (from, to) = (numbered(user, pos), [user.as_bytes(), &[1]].concat());
    store.scan(Table::Queue, &from, &to, Order::Ascending, &mut see).expect("memory");
    is_there
}

fn joined(first: &str, second: &str) -> Vec<u8> {
    [first.as_bytes(), &[0], second.as_bytes(), &[0]].concat()
}

fn numbered(id: &str, number: u64) -> Vec<u8> {
    [id.as_bytes(), &[0], &number.to_be_bytes()].concat()
}

fn alone(id: &str) -> Vec<u8> {
    [id.as_bytes(), &[0]].concat()
}

fn direct_of(one: &str, other: &str) -> String {
    let id = |user: &str| UserId::new(user).expect("the relay names users by ids");
    ConversationId::direct(&id(one), &id(other)).as_str().to_owned()
}
