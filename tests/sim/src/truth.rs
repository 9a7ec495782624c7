//! Reads the relay's records as its documentation gives them, without its code: what is true of a store.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use hongyan_protocol::wire::{self, GroupChangeKind};
use hongyan_relay::store::{Batch, Table};
use prost::Message as _;

use crate::disk::Tables;

/// A run of entries of a queue.
#[derive(Clone, PartialEq, prost::Message)]
struct RowRecord {
    #[prost(string, repeated, tag = "1")]
    conversations: Vec<String>,
    #[prost(uint64, repeated, tag = "2")]
    entries: Vec<u64>,
    #[prost(sint64, repeated, tag = "3")]
    steps: Vec<i64>,
    #[prost(uint64, tag = "5")]
    time: u64,
}

impl RowRecord {
    /// Its entries, the last of which is at `last`; one that makes no sense is left out.
    fn entries(self, last: u64) -> impl Iterator<Item = Entry> {
        let first = last.saturating_add(1).saturating_sub(self.entries.len() as u64);
        let mut steps = self.steps.into_iter();
        let mut messages = vec![0_u64; self.conversations.len()];
        let mut changes = messages.clone();
        let mut profiles = messages.clone();
        (first..).zip(self.entries).filter_map(move |(pos, entry)| {
            let (index, kind) = (usize::try_from(entry >> 3).ok()?, entry & 7);
            let conversation = self.conversations.get(index)?.clone();
            // Of the other kinds the number is of no interest here.
            let step = if matches!(kind, 0 | 4) { 1 } else { steps.next()?.cast_unsigned() };
            // A rare kind has a number more, which says which it is.
            let rare = if kind == 6 { steps.next() } else { None };
            let is_profile = rare == Some(2);
            let last = match kind {
                // Where a group changes over is told as the distance from a message.
                0 | 1 | 4 | 5 => Some(&mut messages[index]),
                6 if !is_profile => Some(&mut messages[index]),
                6 => Some(&mut profiles[index]),
                7 => Some(&mut changes[index]),
                _ => None,
            };
            if let Some(last) = last {
                *last = last.wrapping_add(step);
            }
            let message = matches!(kind, 0 | 1 | 4 | 5).then(|| messages[index]);
            let change = (kind == 7).then(|| changes[index]);
            let profile = is_profile.then(|| profiles[index]);
            Some(Entry { pos, conversation, message, change, profile })
        })
    }
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct DeviceRecord {
    #[prost(uint64, tag = "1")]
    cursor: u64,
    #[prost(int32, tag = "2")]
    kind: i32,
    #[prost(uint64, tag = "4")]
    seen: u64,
    #[prost(uint64, tag = "5")]
    signed_out: u64,
    #[prost(int32, tag = "6")]
    ended: i32,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct UserRecord {
    #[prost(bool, tag = "1")]
    invisible: bool,
    #[prost(uint64, tag = "2")]
    revoked_before: u64,
}

/// A conversation as one user has it.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct Membership {
    /// The read mark.
    #[prost(uint64, tag = "1")]
    pub(crate) read_seq: u64,
    /// The version that ended it; 0 while it lasts.
    #[prost(uint64, tag = "2")]
    pub(crate) left: u64,
}

/// An entry of a queue that carries a message, or another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Where it is in the queue.
    pub(crate) pos: u64,
    /// Of which conversation.
    pub(crate) conversation: String,
    /// The message's number; `None` for a read mark or a group's change.
    pub(crate) message: Option<u64>,
    /// The number of the change of a message.
    pub(crate) change: Option<u64>,
    /// The version of the profile of the other one of the conversation.
    pub(crate) profile: Option<u64>,
}

/// A change of a message.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub(crate) struct ChangeRecord {
    #[prost(uint64, tag = "1")]
    pub(crate) seq: u64,
    #[prost(int32, tag = "2")]
    pub(crate) kind: i32,
    #[prost(string, tag = "3")]
    pub(crate) by: String,
    #[prost(uint64, tag = "4")]
    pub(crate) time: u64,
    #[prost(string, tag = "5")]
    pub(crate) reaction: String,
}

pub(crate) fn prefix(id: &str) -> Vec<u8> {
    [id.as_bytes(), &[0]].concat()
}

fn numbered(id: &str, number: u64) -> Vec<u8> {
    [id.as_bytes(), &[0], &number.to_be_bytes()].concat()
}

fn number(key: &[u8]) -> u64 {
    key.last_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

fn second(key: &[u8]) -> String {
    String::from_utf8_lossy(key.split(|byte| *byte == 0).nth(1).unwrap_or_default()).into_owned()
}

/// The rows of a table whose first string is `id`, from `from` on.
fn rows<'a>(
    tables: &'a Tables,
    table: Table,
    id: &str,
    from: Vec<u8>,
) -> impl Iterator<Item = (&'a Bytes, &'a Bytes)> + use<'a> {
    let range = Bytes::from(from)..Bytes::from([id.as_bytes(), &[1]].concat());
    tables.get(&table).into_iter().flat_map(move |rows| rows.range(range.clone()))
}

/// The store's epoch.
#[must_use]
pub(crate) fn epoch(tables: &Tables) -> String {
    let value = tables.get(&Table::Meta).and_then(|rows| rows.get(&b"epoch"[..]));
    value.map(|bytes| String::from_utf8_lossy(bytes).into_owned()).unwrap_or_default()
}

/// A user's queue after a position, as commits brought it: also what is not kept any more.
pub(crate) fn queue<'a>(tables: &'a Tables, user: &str, after: u64) -> impl Iterator<Item = Entry> + use<'a> {
    let from = Bytes::from(numbered(user, after.saturating_add(1)));
    let rows = tables.queues.range(from..Bytes::from([user.as_bytes(), &[1]].concat()));
    rows.flat_map(|(key, value)| RowRecord::decode(value.clone()).unwrap_or_default().entries(number(key)))
        .skip_while(move |entry| entry.pos <= after)
}

/// What of a user's queue is kept: the overflow, then the hot part.
pub(crate) fn kept(tables: &Tables, user: &str) -> Vec<Entry> {
    let rows = [Table::Overflow, Table::Queue].map(|table| rows(tables, table, user, prefix(user)));
    let rows = rows.into_iter().flatten();
    rows.flat_map(|(key, value)| RowRecord::decode(value.clone()).unwrap_or_default().entries(number(key)))
        .collect()
}

/// The first position that is kept of a user's queue.
pub(crate) fn first_kept(tables: &Tables, user: &str) -> u64 {
    let rows = [Table::Overflow, Table::Queue].map(|table| rows(tables, table, user, prefix(user)));
    rows.into_iter().flatten().next().map_or(1, |(key, value)| {
        let row = RowRecord::decode(value.clone()).unwrap_or_default();
        number(key).saturating_add(1).saturating_sub(row.entries.len() as u64)
    })
}

/// When the row with this entry was made.
pub(crate) fn made_at(tables: &Tables, user: &str, pos: u64) -> u64 {
    let row = tables.queues.range(Bytes::from(numbered(user, pos))..).next();
    row.map_or(0, |(_, value)| RowRecord::decode(value.clone()).unwrap_or_default().time)
}

/// A user's devices that are not signed out: id, cursor, and when each was last seen.
pub(crate) fn cursors(tables: &Tables, user: &str) -> Vec<(String, u64, u64)> {
    rows(tables, Table::Devices, user, prefix(user))
        .map(|(key, value)| (second(key), DeviceRecord::decode(value.clone()).unwrap_or_default()))
        .filter(|(_, record)| record.signed_out == 0)
        .map(|(device, record)| (device, record.cursor, record.seen))
        .collect()
}

/// The last position of a user's queue.
#[must_use]
pub(crate) fn head(tables: &Tables, user: &str) -> u64 {
    let range = Bytes::from(prefix(user))..Bytes::from([user.as_bytes(), &[1]].concat());
    let rows = tables.get(&Table::Queue);
    rows.and_then(|rows| rows.range(range).next_back()).map_or(0, |(key, _)| number(key))
}

/// One message.
#[must_use]
pub(crate) fn message(tables: &Tables, conversation: &str, seq: u64) -> Option<wire::Message> {
    let value = tables.get(&Table::Messages)?.get(&numbered(conversation, seq)[..])?;
    wire::Message::decode(value.clone()).ok()
}

/// A message as it was at any time.
pub(crate) fn states<'a>(
    tables: &'a Tables,
    conversation: &str,
    seq: u64,
) -> impl Iterator<Item = wire::Message> + use<'a> {
    let states = tables.states.get(&numbered(conversation, seq)[..]).into_iter().flatten();
    states.filter_map(|state| wire::Message::decode(state.clone()).ok())
}

/// A message as it was after this change of its conversation's messages, or at any time since.
pub(crate) fn states_since(
    tables: &Tables,
    conversation: &str,
    seq: u64,
    number: u64,
) -> impl Iterator<Item = wire::Message> + use<> {
    let before = changes(tables, conversation, 0);
    let before = before.iter().filter(|(at, record)| *at <= number && record.seq == seq).count();
    states(tables, conversation, seq).skip(before).collect::<Vec<_>>().into_iter()
}

/// A user's profile.
#[must_use]
pub(crate) fn profile(tables: &Tables, user: &str) -> Option<wire::Profile> {
    let value = tables.get(&Table::Profiles)?.get(&prefix(user)[..])?;
    wire::Profile::decode(value.clone()).ok()
}

/// A user's profile as it was at any time.
pub(crate) fn profiles<'a>(tables: &'a Tables, user: &str) -> impl Iterator<Item = wire::Profile> + use<'a> {
    let states = tables.states.get(&prefix(user)[..]).into_iter().flatten();
    states.filter_map(|state| wire::Profile::decode(state.clone()).ok())
}

/// How many profiles are still to be told to some.
#[must_use]
pub(crate) fn telling(tables: &Tables) -> usize {
    rows(tables, Table::Profiles, "", prefix("")).count()
}

/// Whether a message ever said this.
#[must_use]
pub(crate) fn said(tables: &Tables, conversation: &str, seq: u64, words: &str) -> bool {
    states(tables, conversation, seq).any(|message| text(&message) == words)
}

/// The changes of a conversation's messages after a number, by number.
#[must_use]
pub(crate) fn changes(tables: &Tables, conversation: &str, after: u64) -> Vec<(u64, ChangeRecord)> {
    rows(tables, Table::Changes, conversation, numbered(conversation, after.saturating_add(1)))
        .map(|(key, value)| (number(key), ChangeRecord::decode(value.clone()).unwrap_or_default()))
        .collect()
}

/// The last number of a log.
#[must_use]
pub(crate) fn log_head(tables: &Tables, conversation: &str) -> u64 {
    let last = rows(tables, Table::Messages, conversation, prefix(conversation)).last();
    last.map_or(0, |(key, _)| number(key))
}

/// What a message says.
#[must_use]
pub(crate) fn text(message: &wire::Message) -> String {
    wire::Content::decode(message.content.clone()).unwrap_or_default().text
}

/// All logs, each message as it was written.
#[must_use]
pub(crate) fn logs(tables: &Tables) -> BTreeMap<String, Vec<wire::Message>> {
    let mut logs: BTreeMap<String, Vec<wire::Message>> = BTreeMap::new();
    for key in tables.get(&Table::Messages).into_iter().flat_map(BTreeMap::keys) {
        let Some(value) = tables.states.get(key).and_then(|states| states.first()) else { continue };
        let message = wire::Message::decode(value.clone()).unwrap_or_default();
        logs.entry(message.conversation.clone()).or_default().push(message);
    }
    logs
}

/// What a user is or was in.
#[must_use]
pub(crate) fn memberships(tables: &Tables, user: &str) -> BTreeMap<String, Membership> {
    rows(tables, Table::Memberships, user, prefix(user))
        .map(|(key, value)| (second(key), Membership::decode(value.clone()).unwrap_or_default()))
        .collect()
}

/// A user's devices that are signed out.
pub(crate) fn signed_out<'a>(tables: &'a Tables, user: &str) -> impl Iterator<Item = String> + use<'a> {
    rows(tables, Table::Devices, user, prefix(user))
        .filter(|(_, value)| DeviceRecord::decode((*value).clone()).unwrap_or_default().signed_out > 0)
        .map(|(key, _)| second(key))
}

/// Up to when a user's tokens are revoked; 0 when none is.
#[must_use]
pub(crate) fn revoked_before(tables: &Tables, user: &str) -> u64 {
    let row = tables.get(&Table::Users).and_then(|rows| rows.get(&prefix(user)[..]));
    row.map_or(0, |value| UserRecord::decode(value.clone()).unwrap_or_default().revoked_before)
}

/// What a batch says of devices that are signed out, by user and id, and of revoked tokens.
#[must_use]
pub(crate) fn ends_in(batch: &Batch) -> (BTreeSet<(String, String)>, BTreeMap<String, u64>) {
    let (mut signed_out, mut revoked) = (BTreeSet::new(), BTreeMap::new());
    for (table, key, value) in &batch.changes {
        let Some(value) = value.clone() else { continue };
        let first = key.split(|byte| *byte == 0).next().unwrap_or_default();
        let user = String::from_utf8_lossy(first).into_owned();
        match table {
            Table::Devices if DeviceRecord::decode(value.clone()).unwrap_or_default().signed_out > 0 => {
                signed_out.insert((user, second(key)));
            }
            Table::Users => {
                let until = UserRecord::decode(value).unwrap_or_default().revoked_before;
                revoked.insert(user, until);
            }
            _ => {}
        }
    }
    (signed_out, revoked)
}

/// A user's devices that are not signed out: user, id, kind, and how each has ended.
#[must_use]
pub(crate) fn devices(tables: &Tables, user: &str) -> Vec<(String, String, i32, i32)> {
    let rows = tables.get(&Table::Devices).into_iter();
    let rows = rows.flat_map(|rows| {
        rows.range(Bytes::from(prefix(user))..Bytes::from([user.as_bytes(), &[1]].concat()))
    });
    rows.map(|(key, value)| {
        let record = DeviceRecord::decode(value.clone()).unwrap_or_default();
        (user.to_owned(), second(key), record)
    })
    .filter(|(.., record)| record.signed_out == 0)
    .map(|(user, device, record)| (user, device, record.kind, record.ended))
    .collect()
}

/// The user is shown to nobody.
#[must_use]
pub(crate) fn is_invisible(tables: &Tables, user: &str) -> bool {
    let rows = tables.get(&Table::Users);
    let row = rows.and_then(|rows| rows.get(&prefix(user)[..]));
    row.is_some_and(|value| UserRecord::decode(value.clone()).unwrap_or_default().invisible)
}

/// Whether the user is a member of a group.
#[must_use]
pub(crate) fn is_member(tables: &Tables, group: &str, user: &str) -> bool {
    let key = [group.as_bytes(), &[0], user.as_bytes(), &[0]].concat();
    tables.get(&Table::Members).is_some_and(|rows| rows.contains_key(&key[..]))
}

/// The last change of a group's messages when the user's membership ended, of who is a member no more.
#[must_use]
pub(crate) fn left_at(tables: &Tables, group: &str, user: &str) -> Option<u64> {
    let left = memberships(tables, user).remove(group)?.left;
    let changes = group_changes(tables, group);
    changes.into_iter().find(|change| left > 0 && change.version == left).map(|change| change.changes)
}

/// The changes of a group by version.
#[must_use]
pub(crate) fn group_changes(tables: &Tables, group: &str) -> Vec<wire::GroupChange> {
    rows(tables, Table::Groups, group, numbered(group, 0))
        .map(|(_, value)| wire::GroupChange::decode(value.clone()).unwrap_or_default())
        .collect()
}

/// A time when a user was a member of a group no more.
pub(crate) struct Absence {
    /// The last message of her membership.
    pub(crate) last_seq: u64,
    /// The last change of the group's messages in it.
    pub(crate) after: u64,
    /// The last change when she joined again; `None` while she is away.
    pub(crate) until: Option<u64>,
}

/// When the user was a member of a group no more.
pub(crate) fn absences(tables: &Tables, group: &str, user: &str) -> Vec<Absence> {
    let mut absences: Vec<Absence> = Vec::new();
    for change in group_changes(tables, group) {
        if !change.users.iter().any(|concerned| concerned == user) {
            continue;
        }
        match change.kind() {
            GroupChangeKind::Removed | GroupChangeKind::Left => {
                absences.push(Absence { last_seq: change.last_seq, after: change.changes, until: None });
            }
            GroupChangeKind::Created | GroupChangeKind::Added => {
                if let Some(absence) = absences.last_mut() {
                    absence.until.get_or_insert(change.changes);
                }
            }
            GroupChangeKind::Renamed | GroupChangeKind::Unspecified => {}
        }
    }
    absences
}

/// Whether the user left a group, or was removed, when it had this message already.
#[must_use]
pub(crate) fn left_after(tables: &Tables, group: &str, user: &str, seq: u64) -> bool {
    absences(tables, group, user).iter().any(|absence| absence.last_seq >= seq)
}

/// A message as it was at any time up to this change of its conversation's messages.
pub(crate) fn states_until(
    tables: &Tables,
    conversation: &str,
    seq: u64,
    number: u64,
) -> impl Iterator<Item = wire::Message> {
    let until = changes(tables, conversation, 0);
    let until = until.iter().filter(|(at, record)| *at <= number && record.seq == seq).count();
    states(tables, conversation, seq).take(until + 1)
}

/// More changes since somebody left are not looked through for her.
const CHANGES_SINCE_LEFT_MAX: usize = 200;

/// The user is maybe never told a message of a group: she left, it was changed before she was back, and what it was
/// before that is not kept.
#[must_use]
pub(crate) fn is_withheld(tables: &Tables, group: &str, seq: u64, user: &str) -> bool {
    let absences = absences(tables, group, user);
    absences.iter().any(|absence| absence.last_seq >= seq && is_withheld_in(tables, group, seq, absence))
}

/// The user is maybe never told of a change of a group's messages, for the same reason.
#[must_use]
pub(crate) fn is_change_withheld(tables: &Tables, group: &str, number: u64, user: &str) -> bool {
    let changes = changes(tables, group, number.saturating_sub(1));
    let Some((_, record)) = changes.first().filter(|(at, _)| *at == number) else { return false };
    let absences = absences(tables, group, user);
    absences
        .iter()
        .any(|absence| absence.after >= number && is_withheld_in(tables, group, record.seq, absence))
}

fn is_withheld_in(tables: &Tables, group: &str, seq: u64, absence: &Absence) -> bool {
    let mut since = changes(tables, group, absence.after);
    since.retain(|(number, _)| absence.until.is_none_or(|until| *number <= until));
    let is_many = since.len() > CHANGES_SINCE_LEFT_MAX;
    since.iter().any(|(_, record)| record.seq == seq)
        || (is_many && changes(tables, group, 0).iter().any(|(_, record)| record.seq == seq))
}

/// The change of a group's messages that a user who was told the ones up to `told` is to be told next, as far as those
/// before `number` say: none that was made while she was no member.
#[must_use]
pub(crate) fn next_change(tables: &Tables, group: &str, user: &str, told: u64, number: u64) -> u64 {
    let before = changes(tables, group, 0);
    // Who does the same twice at one moment is told twice of what can't be told apart.
    let record = before.iter().find(|(at, _)| *at == told).map(|(_, record)| record);
    let alike = before.iter().filter(|(_, other)| Some(other) == record).map(|(at, _)| *at);
    let told = alike.max().unwrap_or(told);
    let group_changes = group_changes(tables, group);
    let joins = group_changes.iter().filter(|change| {
        change.kind() == GroupChangeKind::Added && change.users.iter().any(|joined| joined == user)
    });
    joins.map(|change| change.changes).filter(|at| *at < number).max().unwrap_or(0).max(told) + 1
}

/// Who was in a group when its message `seq` was accepted.
#[must_use]
pub(crate) fn members_at(changes: &[wire::GroupChange], seq: u64) -> BTreeSet<String> {
    let mut members = BTreeSet::new();
    for change in changes.iter().filter(|change| change.last_seq < seq) {
        match change.kind() {
            GroupChangeKind::Created | GroupChangeKind::Added => members.extend(change.users.iter().cloned()),
            GroupChangeKind::Removed | GroupChangeKind::Left => {
                members.retain(|user| !change.users.contains(user));
            }
            GroupChangeKind::Renamed | GroupChangeKind::Unspecified => {}
        }
    }
    members
}
