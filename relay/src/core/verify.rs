//! A full check of what a store holds, table by table, against what the records mean and what they say of each other.
//!
//! Every row is read once, in order, so the engine's checksums are all compared on the way. Memory stays bounded:
//! nothing is held but the row at hand and what is known of the conversations and users seen lately.

mod queues;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use hongyan_protocol::{ChangeNumber, ConversationId, DeviceId, Epoch, GroupVersion, Key, Seq, UserId, wire};

use super::records::{
    ChangeRecord, DeviceRecord, FORMAT, GroupRecord, KeyRecord, META_EPOCH, META_FORMAT, MemberRecord,
    MembershipRecord, UserRecord, change_key, group_change_key, group_key, member_key, membership_key,
    message_key, prefix, prefix_end, profile_key,
};
use super::users::last_number;
use crate::store::{Order, Store, StoreError, Table};

/// Heads and groups that are remembered; then they are looked up again.
const REMEMBERED_MAX: usize = 50_000;
/// Rows between two words about the progress.
const ROWS_PER_WORD: u64 = 100_000;
/// After every key there can be: ids begin with no such byte, and no key is longer.
const KEY_END: [u8; 1] = [0xff];

/// What a check says while it runs.
pub enum Word<'a> {
    /// So many rows of this table were looked at.
    Progress(Table, u64),
    /// Something is not as it must be.
    Finding(&'a Finding),
}

/// One thing that is not as it must be. It names no content.
pub struct Finding {
    /// Where.
    pub table: Table,
    /// The row's key; empty when the whole table is meant.
    pub key: Bytes,
    /// What is wrong, in words.
    pub what: String,
}

impl core::fmt::Display for Finding {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} \"{}\": {}", self.table.name(), self.key.escape_ascii(), self.what)
    }
}

/// What there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Of each table: its rows, and the bytes of their keys and values.
    pub tables: Vec<(Table, u64, u64)>,
    /// How many things are not as they must be.
    pub findings: u64,
}

/// Checks everything, and tells each finding as it is made.
pub fn verify<S: Store>(store: &S, tell: &mut dyn FnMut(Word<'_>)) -> Summary {
    let mut check = Check {
        store,
        tell,
        summary: Summary::default(),
        heads: BTreeMap::new(),
        groups: BTreeMap::new(),
        listed: BTreeSet::new(),
    };
    check.meta();
    check.messages();
    check.changes();
    check.queues();
    check.groups_and_changes();
    check.each_row(Table::Keys, Check::key_row);
    check.each_row(Table::Logs, Check::log_row);
    check.each_row(Table::Members, Check::member_row);
    check.each_row(Table::Memberships, Check::membership_row);
    check.each_row(Table::Devices, Check::device_row);
    check.each_row(Table::Users, Check::user_row);
    check.each_row(Table::Profiles, Check::profile_row);
    check.summary
}

struct Check<'a, S> {
    store: &'a S,
    tell: &'a mut dyn FnMut(Word<'_>),
    summary: Summary,
    /// The last numbers of logs and queues.
    heads: BTreeMap<(Table, String), u64>,
    /// The groups' versions; `None` for what is no group.
    groups: BTreeMap<ConversationId, Option<u64>>,
    /// Memberships, also ended ones, that are there.
    listed: BTreeSet<(UserId, ConversationId)>,
}

/// A row's fault in words.
type Fault = String;

/// Looks at one row.
type Visit<'a, 's, S> = &'a mut dyn FnMut(&mut Check<'s, S>, &[u8], &[u8]) -> Result<(), Fault>;

impl<'s, S: Store> Check<'s, S> {
    fn finding(&mut self, table: Table, key: &[u8], what: impl Into<String>) {
        self.summary.findings += 1;
        (self.tell)(Word::Finding(&Finding { table, key: Bytes::copy_from_slice(key), what: what.into() }));
    }

    /// Visits a table's rows in order. The visitor's fault is a finding; so is a read that fails, which ends the table.
    fn walk(&mut self, table: Table, visit: Visit<'_, 's, S>) {
        let (mut rows, mut bytes) = (0, 0);
        let mut last = Bytes::new();
        let store = self.store;
        let result = store.scan(table, b"", &KEY_END, Order::Ascending, &mut |key, value| {
            rows += 1;
            bytes += (key.len() + value.len()) as u64;
            if let Err(what) = visit(self, key, value) {
                self.finding(table, key, what);
            }
            if rows % ROWS_PER_WORD == 0 {
                (self.tell)(Word::Progress(table, rows));
            }
            last = Bytes::copy_from_slice(key);
            true
        });
        if let Err(error) = result {
            self.finding(table, &last, format!("the rows after this one can't be read: {}", words(&error)));
        }
        (self.tell)(Word::Progress(table, rows));
        self.summary.tables.push((table, rows, bytes));
    }

    fn each_row(&mut self, table: Table, mut row: impl FnMut(&mut Self, &[u8], &[u8]) -> Result<(), Fault>) {
        self.walk(table, &mut row);
    }

    fn meta(&mut self) {
        let (mut has_format, mut has_epoch) = (false, false);
        self.walk(Table::Meta, &mut |_, key, value| {
            let text = core::str::from_utf8(value).map_err(|_| "it is no text")?;
            match key {
                META_FORMAT => {
                    has_format = true;
                    if text != FORMAT.to_string() {
                        return Err(format!("this version of the relay knows format {FORMAT} only"));
                    }
                }
                META_EPOCH => {
                    has_epoch = true;
                    Epoch::new(text).map_err(|_| "it is no valid epoch")?;
                }
                _ => {}
            }
            Ok(())
        });
        for (is_there, key) in [(has_format, META_FORMAT), (has_epoch, META_EPOCH)] {
            // A store that was never served has neither.
            if !is_there && (has_format || has_epoch) {
                self.finding(Table::Meta, key, "it is missing");
            }
        }
    }

    fn messages(&mut self) {
        let mut before: (String, u64) = Default::default();
        self.walk(Table::Messages, &mut |check, key, value| {
            let (name, seq) = numbered(key)?;
            let gap = follows(&mut before, name, seq);
            let id = ConversationId::new(name).map_err(|_| "its conversation is no valid id")?;
            let message: wire::Message = decode(value)?;
            if message.conversation != name || message.seq != seq {
                return Err("the message says that it belongs elsewhere".into());
            }
            let from = UserId::new(&message.from).map_err(|_| "its sender is no valid id")?;
            Key::new(&message.key).map_err(|_| "its key is no valid one")?;
            match id.users() {
                Some((one, other)) => {
                    if from != one && from != other {
                        return Err("its sender is none of the two".into());
                    }
                    for user in [one, other] {
                        if seq == 1 && !check.has(Table::Memberships, &membership_key(&user, &id))? {
                            return Err("the conversation is missing in the list of one of the two".into());
                        }
                    }
                }
                None if seq == 1 && check.group(&id)?.is_none() => {
                    return Err("the group of the log has no record".into());
                }
                None => {}
            }
            gap
        });
    }

    fn changes(&mut self) {
        let mut before: (String, u64) = Default::default();
        self.walk(Table::Changes, &mut |check, key, value| {
            let (name, number) = numbered(key)?;
            let gap = follows(&mut before, name, number);
            let id = ConversationId::new(name).map_err(|_| "its conversation is no valid id")?;
            let record: ChangeRecord = decode(value)?;
            UserId::new(&record.by).map_err(|_| "who made it is no valid id")?;
            if record.kind() == wire::MessageChangeKind::Unspecified {
                return Err("it does not say what was changed".into());
            }
            if !check.is_in_log(&id, record.seq)? {
                return Err(format!("it changes message {}, which is not there", record.seq));
            }
            gap
        });
    }

    /// A group's record comes before its changes.
    fn groups_and_changes(&mut self) {
        let mut at: Option<(ConversationId, GroupRecord, u64)> = None;
        self.walk(Table::Groups, &mut |check, key, value| {
            let name = first(key)?;
            let id = ConversationId::new(name).map_err(|_| "it is no valid id")?;
            if key.len() == name.len() + 1 {
                let ended = at.take();
                let record: GroupRecord = decode(value)?;
                let missing = check.record_fault(&id, &record)?;
                at = Some((id, record, 0));
                check.changes_are_all_there(ended);
                return missing.map_or(Ok(()), Err);
            }
            let (_, version) = numbered(key)?;
            let change: wire::GroupChange = decode(value)?;
            let Some((of, record, last)) = at.as_mut().filter(|(of, ..)| *of == id) else {
                return Err("it is a change of a group that has no record".into());
            };
            if version != *last + 1 {
                let fault = format!("change {version} follows on change {last}");
                *last = version;
                return Err(fault);
            }
            *last = version;
            if change.conversation != of.as_str() || change.version != version {
                return Err("the change says that it belongs elsewhere".into());
            }
            if version == record.version && (change.owner != record.owner || change.title != record.title) {
                return Err("the last change and the group's record differ".into());
            }
            if version == record.version && change.member_count != record.members {
                return Err("the last change and the group's record count other members".into());
            }
            Ok(())
        });
        self.changes_are_all_there(at);
    }

    fn changes_are_all_there(&mut self, group: Option<(ConversationId, GroupRecord, u64)>) {
        if let Some((id, record, last)) = group.filter(|(_, record, last)| record.version != *last) {
            let what = format!("the group is at version {}, and its changes end with {last}", record.version);
            self.finding(Table::Groups, &group_key(&id), what);
        }
    }

    fn record_fault(&mut self, id: &ConversationId, record: &GroupRecord) -> Result<Option<Fault>, Fault> {
        if id.users().is_some() {
            return Ok(Some("it is a group under the id of a direct conversation".into()));
        }
        let members = self.member_count(id)?;
        if u64::from(record.members) != members {
            let fault = format!("its record counts {} members, and there are {members}", record.members);
            return Ok(Some(fault));
        }
        if record.by_log != self.has(Table::Logs, &group_key(id))? {
            return Ok(Some("its record and the list of logs say otherwise of each other".into()));
        }
        if record.owner.is_empty() {
            let fault = "it has members and no owner".to_owned();
            return Ok((members > 0).then_some(fault));
        }
        let owner = UserId::new(&record.owner).map_err(|_| "its owner is no valid id")?;
        let is_member = self.has(Table::Members, &member_key(id, &owner))?;
        Ok((!is_member).then(|| "its owner is no member".to_owned()))
    }

    fn key_row(&mut self, key: &[u8], value: &[u8]) -> Result<(), Fault> {
        let (user, name) = joined(key)?;
        UserId::new(user).map_err(|_| "its user is no valid id")?;
        Key::new(name).map_err(|_| "it is no valid key")?;
        let record: KeyRecord = decode(value)?;
        if record.is_of_profile() {
            let version = self.profile(user)?.map_or(0, |profile| profile.version);
            if record.profile > version {
                return Err(format!("it names version {} of a profile, which is not there", record.profile));
            }
            return if record.key == name { Ok(()) } else { Err("it is another key's".into()) };
        }
        let id = ConversationId::new(&record.conversation).map_err(|_| "it names no valid conversation")?;
        if record.seq == 0 {
            // Its first change says who made it, and when.
            let first = self.get(Table::Groups, &group_change_key(&id, GroupVersion(1)))?;
            let first: wire::GroupChange = decode(&first.ok_or("the group that it made is not there")?)?;
            return if first.by == user && first.time == record.time {
                Ok(())
            } else {
                Err("the group was made by another one or at another time".into())
            };
        }
        let seq = record.seq;
        if record.change > 0 {
            let change = self.get(Table::Changes, &change_key(&id, ChangeNumber(record.change)))?;
            let change: ChangeRecord = decode(&change.ok_or("the change that it made is not there")?)?;
            let is_hers = change.by == user && change.key == name;
            return if is_hers && (change.seq, change.time) == (seq, record.time) {
                Ok(())
            } else {
                Err("its change is another one's, or was made under another key".into())
            };
        }
        let Some(message) = self.get(Table::Messages, &message_key(&id, Seq(seq)))? else {
            return Err(format!("its message {seq} is not there"));
        };
        if record.unchanged {
            return Ok(());
        }
        let message: wire::Message = decode(&message)?;
        if message.from != user || message.key != name || message.time != record.time {
            return Err(format!("its message {seq} is another one's, or was sent under another key"));
        }
        Ok(())
    }

    fn log_row(&mut self, key: &[u8], _: &[u8]) -> Result<(), Fault> {
        let id = ConversationId::new(first(key)?).map_err(|_| "it is no valid id")?;
        match self.group(&id)? {
            Some(_) => Ok(()),
            None => Err("its group has no record".into()),
        }
    }

    fn member_row(&mut self, key: &[u8], value: &[u8]) -> Result<(), Fault> {
        let (name, user) = joined(key)?;
        let id = ConversationId::new(name).map_err(|_| "its conversation is no valid id")?;
        let user = UserId::new(user).map_err(|_| "its user is no valid id")?;
        let record: MemberRecord = decode(value)?;
        let version = self.group(&id)?.ok_or("its group has no record")?;
        if record.joined == 0 || record.joined > version {
            return Err("it joined with a change that is not there".into());
        }
        match self.get(Table::Memberships, &membership_key(&user, &id))? {
            Some(membership) if decode::<MembershipRecord>(&membership)?.left == 0 => Ok(()),
            Some(_) => Err("the user's own list says that the membership has ended".into()),
            None => Err("the group is missing in the user's own list".into()),
        }
    }

    fn membership_row(&mut self, key: &[u8], value: &[u8]) -> Result<(), Fault> {
        let (name, conversation) = joined(key)?;
        let user = UserId::new(name).map_err(|_| "its user is no valid id")?;
        let id = ConversationId::new(conversation).map_err(|_| "its conversation is no valid id")?;
        let record: MembershipRecord = decode(value)?;
        let head = self.head(Table::Messages, conversation)?;
        if record.read_seq > head {
            return Err(format!("its read mark {} is beyond the log's end {head}", record.read_seq));
        }
        if let Some((one, other)) = id.users() {
            return match (user == one || user == other, record.left) {
                (false, _) => Err("it is a conversation of others".into()),
                (_, 1..) => Err("nobody leaves a direct conversation".into()),
                _ if head == 0 => Err("the conversation's log is not there".into()),
                _ => Ok(()),
            };
        }
        let version = self.group(&id)?.ok_or("its group has no record")?;
        if record.left > version {
            return Err("it ended with a change that is not there".into());
        }
        if (record.left == 0) != self.has(Table::Members, &member_key(&id, &user))? {
            return Err("the group's members say otherwise".into());
        }
        Ok(())
    }

    fn device_row(&mut self, key: &[u8], value: &[u8]) -> Result<(), Fault> {
        let (user, device) = joined(key)?;
        UserId::new(user).map_err(|_| "its user is no valid id")?;
        DeviceId::new(device).map_err(|_| "its device is no valid id")?;
        let (cursor, head) = (decode::<DeviceRecord>(value)?.cursor, self.head(Table::Queue, user)?);
        if cursor > head {
            return Err(format!("its cursor {cursor} is beyond the queue's end {head}"));
        }
        Ok(())
    }

    fn user_row(&mut self, key: &[u8], value: &[u8]) -> Result<(), Fault> {
        let user = first(key)?;
        UserId::new(user).map_err(|_| "its user is no valid id")?;
        if key.len() != user.len() + 1 {
            return Err("its key has more than a user".into());
        }
        decode::<UserRecord>(value).map(drop)
    }

    fn profile_row(&mut self, key: &[u8], value: &[u8]) -> Result<(), Fault> {
        let name = first(key)?;
        if name.is_empty() {
            let (_, user) = joined(key)?;
            return match self.profile(user)? {
                Some(_) => Ok(()),
                None => Err("the profile that is to be told is not there".into()),
            };
        }
        UserId::new(name).map_err(|_| "its user is no valid id")?;
        if key.len() != name.len() + 1 {
            return Err("its key has more than a user".into());
        }
        let profile: wire::Profile = decode(value)?;
        if profile.user != name || profile.version == 0 {
            return Err("the profile says that it is another one's, or has no version".into());
        }
        Ok(())
    }

    // ------------------------------------------------------------ what rows say of each other

    fn profile(&self, user: &str) -> Result<Option<wire::Profile>, Fault> {
        let user = UserId::new(user).map_err(|_| "its user is no valid id")?;
        self.get(Table::Profiles, &profile_key(&user))?.map(|profile| decode(&profile)).transpose()
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, Fault> {
        let failed =
            |error| format!("a row of {} that belongs to it can't be read: {}", table.name(), words(&error));
        self.store.get(table, key).map_err(failed)
    }

    fn has(&self, table: Table, key: &[u8]) -> Result<bool, Fault> {
        Ok(self.get(table, key)?.is_some())
    }

    /// The last number of a log or queue.
    fn head(&mut self, table: Table, id: &str) -> Result<u64, Fault> {
        if let Some(head) = self.heads.get(&(table, id.to_owned())) {
            return Ok(*head);
        }
        let failed = |error| format!("the end of {} can't be read: {}", table.name(), words(&error));
        let head = last_number(self.store, table, id).map_err(failed)?;
        if self.heads.len() >= REMEMBERED_MAX {
            self.heads.clear();
        }
        self.heads.insert((table, id.to_owned()), head);
        Ok(head)
    }

    /// A log without gaps holds what is not beyond its end; its gaps are found in its own table.
    fn is_in_log(&mut self, id: &ConversationId, seq: u64) -> Result<bool, Fault> {
        Ok(seq > 0 && seq <= self.head(Table::Messages, id.as_str())?)
    }

    /// Whether the user's list has the conversation, ended or not.
    fn is_listed(&mut self, user: &UserId, id: &ConversationId) -> Result<bool, Fault> {
        let pair = (user.clone(), id.clone());
        if self.listed.contains(&pair) {
            return Ok(true);
        }
        let is_listed = self.has(Table::Memberships, &membership_key(user, id))?;
        if self.listed.len() >= REMEMBERED_MAX {
            self.listed.clear();
        }
        if is_listed {
            self.listed.insert(pair);
        }
        Ok(is_listed)
    }

    /// The group's version.
    fn group(&mut self, id: &ConversationId) -> Result<Option<u64>, Fault> {
        if let Some(version) = self.groups.get(id) {
            return Ok(*version);
        }
        let version = match self.get(Table::Groups, &group_key(id))? {
            Some(record) => Some(decode::<GroupRecord>(&record)?.version),
            None => None,
        };
        // The change itself is looked for, too: a record alone tells nobody what happened.
        if let Some(version) = version
            && !self.has(Table::Groups, &group_change_key(id, GroupVersion(version)))?
        {
            return Err(format!("the group's change {version} is not there"));
        }
        if self.groups.len() >= REMEMBERED_MAX {
            self.groups.clear();
        }
        self.groups.insert(id.clone(), version);
        Ok(version)
    }

    fn member_count(&self, id: &ConversationId) -> Result<u64, Fault> {
        let (from, to) = (prefix(id.as_str()), prefix_end(id.as_str()));
        let mut count = 0;
        let result = self.store.scan(Table::Members, &from, &to, Order::Ascending, &mut |_, _| {
            count += 1;
            true
        });
        result.map(|()| count).map_err(|error| format!("its members can't be read: {}", words(&error)))
    }
}

fn words(error: &StoreError) -> String {
    let (StoreError::Engine(why) | StoreError::Damaged(why)) = error;
    why.clone()
}

fn decode<M: prost::Message + Default>(value: &[u8]) -> Result<M, Fault> {
    M::decode(value).map_err(|_| "the record can't be read".into())
}

/// Whether a number is the next of its id's, beginning with 1.
fn follows(before: &mut (String, u64), id: &str, number: u64) -> Result<(), Fault> {
    let last = if before.0 == id { before.1 } else { 0 };
    if before.0 != id {
        id.clone_into(&mut before.0);
    }
    before.1 = number;
    if number == last.saturating_add(1) { Ok(()) } else { Err(format!("number {number} follows on {last}")) }
}

/// The id with which a key begins.
fn first(key: &[u8]) -> Result<&str, Fault> {
    let id = key.split(|byte| *byte == 0).next().filter(|id| id.len() < key.len());
    id.and_then(|id| core::str::from_utf8(id).ok()).ok_or_else(|| "the key has no id".into())
}

/// An id and a number.
fn numbered(key: &[u8]) -> Result<(&str, u64), Fault> {
    let id = first(key)?;
    let number: [u8; 8] = key[id.len() + 1..].try_into().map_err(|_| "the key has no number")?;
    Ok((id, u64::from_be_bytes(number)))
}

/// Two ids.
fn joined(key: &[u8]) -> Result<(&str, &str), Fault> {
    let one = first(key)?;
    let other = first(&key[one.len() + 1..])?;
    if key.len() == one.len() + other.len() + 2 {
        Ok((one, other))
    } else {
        Err("the key is no pair of ids".into())
    }
}
