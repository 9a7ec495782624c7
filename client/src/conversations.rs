//! The conversation list. What is shown is derived: unread is counted from the read mark, the head and one's own
//! messages, and never added up.
//!
//! *Invariant:* a line's `own` are seqs above its `read_seq`; neither `read_seq` nor `last_seq` moves back while
//! the epoch is the same.

use hongyan_protocol::limits::OWN_UNREAD_MAX;
use hongyan_protocol::wire::{self, Content, ConversationState};
use hongyan_protocol::{
    ChangeNumber, ConversationId, ConversationKind, GroupVersion, Key, MENTION_ALL, Seq, Time, UserId,
};
use prost::Message as _;

use crate::changes::ChangeCursor;
use crate::defects::{self, Defect};
use crate::io::Write;
use crate::limits::{CACHED_MESSAGES_MAX, CACHED_MESSAGES_STEP, CONVERSATIONS_MAX};
use crate::logs::LogCursor;
use crate::records::{ConversationRecord, LogRecord};
use crate::sorted::{SortedMap, SortedSet};
use crate::view::{Conversation, Group, Message, Reaction, Status};

/// A conversation as it is held here.
#[derive(Default)]
pub(crate) struct Line {
    /// The log's head as far as it is known; zero while nothing is.
    pub(crate) last_seq: Seq,
    pub(crate) read_seq: Seq,
    /// One's own messages above `read_seq`.
    pub(crate) own: SortedSet<u64>,
    /// The newest message of the log that came here.
    pub(crate) last: Option<wire::Message>,
    pub(crate) group: Option<Group>,
    pub(crate) left: bool,
    pub(crate) time: Time,
    /// The relay has not yet taken the read mark.
    pub(crate) read_pending: bool,
    /// The request that tells it is on the wire.
    pub(crate) read_in_flight: bool,
    /// The group's version that the queue told last.
    pub(crate) applied: GroupVersion,
    /// The group's messages come by its log.
    pub(crate) log: Option<LogCursor>,
    /// The newest message above `read_seq` that calls the user; zero when none does, or that one was recalled: nobody keeps
    /// which call was before it.
    pub(crate) called: Seq,
    pub(crate) changes: ChangeCursor,
}

impl Line {
    /// The line that a record holds; `None` when it can't be read.
    pub(crate) fn restore(record: &[u8]) -> Option<(ConversationId, Self)> {
        let record = ConversationRecord::decode(record).ok()?;
        let (id, mut line) = Self::from_state(record.state?)?;
        line.read_pending = record.read_pending;
        line.time = line.time.max(Time(record.time));
        line.applied = GroupVersion(record.applied);
        line.called = Seq(record.called);
        line.changes.hint(ChangeNumber(record.changes_head));
        line.log = record.log.map(|log| LogCursor {
            told: Seq(log.told),
            head: Seq(log.head),
            ends: log.ends.map(Seq),
            ..LogCursor::default()
        });
        Some((id, line))
    }

    /// The line that a snapshot tells.
    pub(crate) fn from_state(state: ConversationState) -> Option<(ConversationId, Self)> {
        let id = ConversationId::new(&state.conversation).ok()?;
        let group = match id.kind() {
            ConversationKind::Direct => None,
            ConversationKind::Group => group(state.title, &state.owner, state.member_count, state.version),
        };
        let mut line = Self {
            last_seq: Seq(state.last_seq.max(state.read_seq)),
            read_seq: Seq(state.read_seq),
            own: state.own_unread.into_iter().filter(|seq| *seq > state.read_seq).collect(),
            time: state.last_message.as_ref().map_or(Time::ZERO, |message| Time(message.time)),
            last: state.last_message,
            group,
            left: state.left,
            applied: GroupVersion(state.version),
            log: state.by_log.then(|| LogCursor::at(Seq(state.last_seq))),
            changes: ChangeCursor::at(ChangeNumber(state.changes)),
            ..Self::default()
        };
        line.tidy();
        Some((id, line))
    }

    /// Its record.
    pub(crate) fn record(&self, id: &ConversationId) -> Vec<u8> {
        let group = self.group.as_ref();
        ConversationRecord {
            state: Some(ConversationState {
                conversation: id.as_str().into(),
                last_seq: self.last_seq.0,
                read_seq: self.read_seq.0,
                own_unread: self.own.as_slice().to_vec(),
                last_message: self.last.clone(),
                left: self.left,
                title: group.map(|group| group.title.clone()).unwrap_or_default(),
                owner: group.map(|group| group.owner.as_str().into()).unwrap_or_default(),
                member_count: group.map_or(0, |group| group.member_count),
                version: group.map_or(0, |group| group.version.0),
                by_log: self.log.is_some(),
                changes: self.changes.told.0,
            }),
            read_pending: self.read_pending,
            time: self.time.0,
            applied: self.applied.0,
            log: self.log.map(|log| LogRecord {
                told: log.told.0,
                head: log.head.0,
                ends: log.ends.map(|ends| ends.0),
            }),
            called: self.called.0,
            changes_head: self.changes.head.0,
        }
        .encode_to_vec()
    }

    /// Messages of others above the read mark.
    pub(crate) fn unread(&self) -> u64 {
        let above = self.last_seq.0.saturating_sub(self.read_seq.0);
        above.saturating_sub(u64::try_from(self.own.len()).unwrap_or(u64::MAX))
    }

    /// A message of the log is known now. Seeing it again changes nothing.
    pub(crate) fn take(&mut self, message: &wire::Message, own: bool) {
        if own {
            self.take_own(Seq(message.seq));
        }
        self.last_seq = self.last_seq.max(Seq(message.seq));
        if self.last.as_ref().is_none_or(|last| last.seq <= message.seq) {
            self.show(message);
        }
        self.tidy();
    }

    /// The newest message that came here, as it is now.
    pub(crate) fn show(&mut self, message: &wire::Message) {
        self.time = self.time.max(Time(message.time));
        self.last = Some(message.clone());
    }

    /// A message of the log is one's own.
    pub(crate) fn take_own(&mut self, seq: Seq) {
        if !defects::is_on(Defect::OwnUnread) {
            self.own.insert(seq.0);
        }
        if self.called == seq {
            // The head of a log tells of a call, and not whose it is.
            self.called = Seq::ZERO;
        }
        self.tidy();
    }

    /// The message calls the user.
    pub(crate) fn call(&mut self, seq: Seq) {
        if seq > self.read_seq {
            self.called = self.called.max(seq);
        }
    }

    /// Moves the read mark up to `seq`; says whether it moved.
    pub(crate) fn read(&mut self, seq: Seq) -> bool {
        if seq <= self.read_seq && !defects::is_on(Defect::ReadMovesBack) {
            return false;
        }
        self.read_seq = seq;
        self.last_seq = self.last_seq.max(seq);
        self.tidy();
        true
    }

    /// Keeps the invariant, and the newest of one's own within their limit.
    fn tidy(&mut self) {
        let read = self.read_seq.0;
        if self.called <= self.read_seq {
            self.called = Seq::ZERO;
        }
        self.own.retain(|seq| *seq > read);
        self.own.keep_last(OWN_UNREAD_MAX);
    }
}

/// Takes a group's properties off the wire.
pub(crate) fn group(title: String, owner: &str, member_count: u32, version: u64) -> Option<Group> {
    let owner = UserId::new(owner).ok()?;
    Some(Group { title, owner, member_count, version: GroupVersion(version) })
}

/// A message of the log as the application sees it; `None` when its ids are no ids.
pub(crate) fn view(message: &wire::Message) -> Option<Message> {
    Some(Message {
        conversation: ConversationId::new(&message.conversation).ok()?,
        seq: Some(Seq(message.seq)),
        key: Key::new(&message.key).ok()?,
        from: UserId::new(&message.from).ok()?,
        time: Time(message.time),
        content: content(&message.content),
        reply_to: seq(message.reply_to),
        mentions: users(&message.mentions),
        status: Status::Sent,
        edited: time(message.edited),
        recalled: time(message.recalled),
        reactions: message
            .reactions
            .iter()
            .map(|one| Reaction { reaction: one.reaction.clone(), users: users(&one.users) })
            .collect(),
    })
}

/// Whether the message mentions the user, or everybody.
pub(crate) fn calls(message: &wire::Message, user: &UserId) -> bool {
    message.mentions.iter().any(|called| called == user.as_str() || called == MENTION_ALL)
}

/// A content's bytes are another client's: what can't be read is shown as nothing, and kept as it came.
pub(crate) fn content(bytes: &[u8]) -> Content {
    Content::decode(bytes).unwrap_or_default()
}

/// Zero on the wire is none.
pub(crate) fn seq(seq: u64) -> Option<Seq> {
    (seq > 0).then_some(Seq(seq))
}

/// Zero on the wire is none.
pub(crate) fn time(time: u64) -> Option<Time> {
    (time > 0).then_some(Time(time))
}

/// The ids among them.
pub(crate) fn users(users: &[String]) -> Vec<UserId> {
    users.iter().filter_map(|user| UserId::new(user).ok()).collect()
}

/// All lines.
#[derive(Default)]
pub(crate) struct Conversations {
    lines: SortedMap<ConversationId, Box<Line>>,
}

impl Conversations {
    pub(crate) fn get(&self, id: &ConversationId) -> Option<&Line> {
        self.lines.get(id).map(|line| &**line)
    }

    pub(crate) fn get_mut(&mut self, id: &ConversationId) -> Option<&mut Line> {
        self.lines.get_mut(id).map(|line| &mut **line)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&ConversationId, &Line)> {
        self.lines.iter().map(|(id, line)| (id, &**line))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (&ConversationId, &mut Line)> {
        self.lines.iter_mut().map(|(id, line)| (id, &mut **line))
    }

    pub(crate) fn insert(&mut self, id: ConversationId, line: Line) {
        self.lines.insert(id, Box::new(line));
    }

    pub(crate) fn clear(&mut self) {
        self.lines.clear();
    }

    /// The line, made when it is new. Beyond the limit the one that was quiet for longest goes, and comes back
    /// with its next message; the writes for that are in `writes`.
    pub(crate) fn entry(&mut self, id: &ConversationId, writes: &mut Vec<Write>) -> &mut Line {
        if !self.lines.contains_key(id) && self.lines.len() >= CONVERSATIONS_MAX {
            let quiet =
                self.lines.iter().filter(|(_, line)| !line.read_pending).min_by_key(|(_, line)| line.time);
            if let Some(quiet) = quiet.map(|(id, _)| id.clone()) {
                self.lines.remove(&quiet);
                writes.push(Write::ConversationGone(quiet));
            }
        }
        self.lines.get_or_insert_with(id.clone(), Box::default)
    }
}

/// The line as the application sees it; `waiting` is the newest message of the outbox there.
pub(crate) fn conversation(
    id: &ConversationId,
    line: &Line,
    user: &UserId,
    waiting: Option<Message>,
) -> Conversation {
    let time = waiting.as_ref().map_or(line.time, |message| message.time.max(line.time));
    Conversation {
        id: id.clone(),
        kind: id.kind(),
        peer: id.peer_of(user),
        group: line.group.clone(),
        last: waiting.or_else(|| line.last.as_ref().and_then(view)),
        unread: line.unread(),
        mentioned: (line.called > Seq::ZERO).then_some(line.called),
        read_seq: line.read_seq,
        last_seq: line.last_seq,
        left: line.left,
        time,
    }
}

/// What is trimmed when the head moves from `before` to `now`: each step above what is kept.
pub(crate) fn trim(before: Seq, now: Seq) -> Option<Seq> {
    let step = |seq: Seq| seq.0.saturating_sub(CACHED_MESSAGES_MAX) / CACHED_MESSAGES_STEP;
    (step(now) > step(before)).then(|| Seq(step(now) * CACHED_MESSAGES_STEP + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(seq: u64) -> wire::Message {
        wire::Message { seq, time: seq * 10, ..Default::default() }
    }

    #[test]
    fn unread_is_derived_and_idempotent() {
        let mut line = Line::default();
        for (seq, own) in [(1, false), (2, true), (2, true), (3, false), (1, false)] {
            line.take(&message(seq), own);
        }
        assert_eq!((line.unread(), line.last_seq), (2, Seq(3)));
        assert!(line.read(Seq(1)));
        assert_eq!(line.unread(), 1);
        assert!(!line.read(Seq(1)));
        assert!(line.read(Seq(3)));
        assert_eq!((line.unread(), line.own.len()), (0, 0));
        line.take(&message(2), true);
        assert_eq!((line.unread(), line.own.len(), line.last_seq), (0, 0, Seq(3)));
    }

    #[test]
    fn a_record_holds_all_of_a_line() {
        let id = ConversationId::new("g1").unwrap();
        let mut line = Line { read_pending: true, time: Time(99), ..Line::default() };
        line.take(&message(4), true);
        line.group = group("Geese".into(), "alice", 3, 7);
        let (restored, again) = Line::restore(&line.record(&id)).unwrap();
        assert_eq!(restored, id);
        assert!(again.record(&id) == line.record(&id));
        assert!(Line::restore(b"\xff").is_none());
    }

    #[test]
    fn trimming_is_in_steps() {
        assert_eq!(trim(Seq(0), Seq(10_000)), None);
        assert_eq!(trim(Seq(10_999), Seq(11_000)), Some(Seq(1_001)));
        assert_eq!(trim(Seq(11_000), Seq(11_999)), None);
        assert_eq!(trim(Seq(0), Seq(50_500)), Some(Seq(40_001)));
    }
}
