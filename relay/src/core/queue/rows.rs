//! The one form in which references are stored: a row is a run of consecutive entries of one queue, columns packed.
//!
//! Most entries are the next message of a conversation that the row has named already, and take one byte (two from the
//! 17th conversation of a row on). Everything else takes its number besides, as the distance from the one before of the
//! same kind and conversation. What a row takes in all is measured by this file's tests.
//!
//! No `Debug`: a copy holds what people wrote (promise R10).

use std::collections::BTreeMap;

use bytes::Bytes;
use hongyan_protocol::{ConversationId, Pos, Time};
use prost::Message;

use crate::core::limits::{ROW_BYTES_TARGET, ROW_ENTRIES_MAX};
use crate::core::records::{decode, encode};
use crate::store::StoreError;

/// What an entry of a queue points to, in its conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The message with this seq.
    Message(u64),
    /// The user's read mark, moved to here.
    Read(u64),
    /// The group's change that made this version.
    Group(u64),
    /// The change of a message with this number.
    Change(u64),
    /// The group's messages after this seq come by its log.
    LogBegins(u64),
    /// The group's messages after this seq come by the queue again.
    LogEnds(u64),
    /// The profile of the other user of this direct conversation, of this version or a later one; in one's notes to
    /// oneself, one's own.
    Profile(u64),
}

/// One entry of a queue.
#[derive(Clone, PartialEq, Eq)]
pub struct Reference {
    /// Where it points to.
    pub conversation: ConversationId,
    /// What it points to there.
    pub target: Target,
    /// The message itself (a `wire::Message`), so that nobody needs to look it up (diffusion `copy`).
    pub copy: Option<Bytes>,
}

/// Consecutive entries; at least one, and at most [`ROW_ENTRIES_MAX`].
#[derive(Clone, PartialEq, Eq)]
pub struct Row {
    /// The position of the last one, which is in the row's key.
    pub last: Pos,
    /// When the last one was made.
    pub time: Time,
    /// Entries of the hot part up to this row, its own included, at most; 0 in a segment.
    pub hot: u64,
    /// Bytes of all rows that were ever written to the same part of the queue before this one, keys included.
    pub bytes: u64,
    /// They themselves, by position.
    pub entries: Vec<Reference>,
}

/// As it is stored.
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
struct Stored {
    /// Each conversation once, by first use.
    #[prost(string, repeated, tag = "1")]
    conversations: Vec<String>,
    /// Of each entry: the index of its conversation, and in the lowest bits the [`Kind`].
    #[prost(uint64, repeated, tag = "2")]
    entries: Vec<u64>,
    /// Of each entry that needs one: how far its number is from the one before of its conversation and kind.
    #[prost(sint64, repeated, tag = "3")]
    steps: Vec<i64>,
    /// Of each entry that has one.
    #[prost(bytes = "bytes", repeated, tag = "4")]
    copies: Vec<Bytes>,
    #[prost(uint64, tag = "5")]
    time: u64,
    #[prost(uint64, tag = "6")]
    hot: u64,
    #[prost(uint64, tag = "7")]
    bytes: u64,
}

/// Bits of an entry that hold its kind.
const KIND_BITS: u32 = 3;

/// The kinds of stored entries: what it points to, and which columns have more of it.
const NEXT_MESSAGE: u64 = 0;
const MESSAGE: u64 = 1;
const READ: u64 = 2;
const GROUP: u64 = 3;
const NEXT_MESSAGE_COPY: u64 = 4;
const MESSAGE_COPY: u64 = 5;
/// With two numbers: the second says which of the rare kinds it is.
const RARE: u64 = 6;
const CHANGE: u64 = 7;

/// The rare kinds.
const LOG_ENDS: i64 = 0;
const LOG_BEGINS: i64 = 1;
const PROFILE: i64 = 2;

/// The last number of each kind in one conversation.
#[derive(Clone, Copy, Default)]
struct Last {
    message: u64,
    read: u64,
    group: u64,
    change: u64,
    profile: u64,
}

impl Reference {
    /// What it takes in memory and in a row, roughly and at least.
    pub(crate) fn weight(&self) -> usize {
        self.copy.as_ref().map_or(0, Bytes::len) + size_of::<Self>()
    }
}

impl Row {
    /// The position of the first entry.
    #[must_use]
    pub fn first(&self) -> Pos {
        Pos(self.last.0.saturating_sub(self.entries.len() as u64).saturating_add(1))
    }

    /// The entries with their positions.
    pub fn numbered(&self) -> impl Iterator<Item = (Pos, &Reference)> {
        (self.first().0..=self.last.0).map(Pos).zip(&self.entries)
    }

    /// The bytes to store.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut stored = Stored { time: self.time.0, hot: self.hot, bytes: self.bytes, ..Stored::default() };
        stored.entries.reserve(self.entries.len());
        let mut known: BTreeMap<&ConversationId, (u64, Last)> = BTreeMap::new();
        for Reference { conversation, target, copy } in &self.entries {
            let next = known.len() as u64;
            let (index, last) = known.entry(conversation).or_insert_with(|| {
                stored.conversations.push(conversation.as_str().to_owned());
                (next, Last::default())
            });
            let mut kind = match *target {
                Target::Message(seq) => {
                    if last.message.checked_add(1) == Some(seq) {
                        last.message = seq;
                        NEXT_MESSAGE
                    } else {
                        stored.steps.push(step(&mut last.message, seq));
                        MESSAGE
                    }
                }
                Target::Read(seq) => {
                    // People read what was written a moment ago.
                    last.read = last.read.max(last.message);
                    stored.steps.push(step(&mut last.read, seq));
                    READ
                }
                Target::Group(version) => {
                    stored.steps.push(step(&mut last.group, version));
                    GROUP
                }
                Target::Change(number) => {
                    stored.steps.push(step(&mut last.change, number));
                    CHANGE
                }
                Target::LogBegins(seq) => {
                    stored.steps.extend([step(&mut last.message, seq), LOG_BEGINS]);
                    RARE
                }
                Target::LogEnds(seq) => {
                    stored.steps.extend([step(&mut last.message, seq), LOG_ENDS]);
                    RARE
                }
                Target::Profile(version) => {
                    stored.steps.extend([step(&mut last.profile, version), PROFILE]);
                    RARE
                }
            };
            if let (Some(copy), NEXT_MESSAGE | MESSAGE) = (copy, kind) {
                stored.copies.push(copy.clone());
                kind += NEXT_MESSAGE_COPY;
            }
            stored.entries.push(*index << KIND_BITS | kind);
        }
        encode(&stored)
    }

    /// Reads a row; its key says the last position.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when the bytes are no row, or one that cannot end there.
    pub fn decode(last: Pos, bytes: Bytes) -> Result<Self, StoreError> {
        let stored: Stored = decode(bytes, "queue")?;
        let damaged = |what: &str| StoreError::Damaged(format!("a row of a queue {what}"));
        let count = stored.entries.len();
        if count == 0 || count > ROW_ENTRIES_MAX || count as u64 > last.0 {
            return Err(damaged("has no entry or too many"));
        }
        let named = stored.conversations.iter().map(|id| ConversationId::new(id));
        let named: Vec<_> =
            named.collect::<Result<_, _>>().map_err(|_| damaged("names no valid conversation"))?;
        let mut lasts = vec![Last::default(); named.len()];
        let (mut steps, mut copies) = (stored.steps.into_iter(), stored.copies.into_iter());
        let mut entries = Vec::with_capacity(count);
        for entry in stored.entries {
            let index = usize::try_from(entry >> KIND_BITS).ok();
            let index = index.filter(|index| *index < named.len());
            let index = index.ok_or_else(|| damaged("has an entry of no conversation"))?;
            let last = &mut lasts[index];
            let kind = entry & ((1 << KIND_BITS) - 1);
            let mut next = || steps.next().ok_or_else(|| damaged("lacks a number"));
            let add = |last: &mut u64, step: i64| {
                *last = last.wrapping_add(step.cast_unsigned());
                *last
            };
            let mut number = |last: &mut u64| Ok::<_, StoreError>(add(last, next()?));
            let target = match kind {
                NEXT_MESSAGE | NEXT_MESSAGE_COPY => {
                    last.message = last.message.checked_add(1).ok_or_else(|| damaged("counts too far"))?;
                    Target::Message(last.message)
                }
                MESSAGE | MESSAGE_COPY => Target::Message(number(&mut last.message)?),
                READ => {
                    last.read = last.read.max(last.message);
                    Target::Read(number(&mut last.read)?)
                }
                GROUP => Target::Group(number(&mut last.group)?),
                CHANGE => Target::Change(number(&mut last.change)?),
                RARE => match (next()?, next()?) {
                    (step, LOG_BEGINS) => Target::LogBegins(add(&mut last.message, step)),
                    (step, LOG_ENDS) => Target::LogEnds(add(&mut last.message, step)),
                    (step, PROFILE) => Target::Profile(add(&mut last.profile, step)),
                    _ => return Err(damaged("has an entry of a rare kind that this version does not know")),
                },
                _ => return Err(damaged("has an entry of a kind that this version does not know")),
            };
            let copy = match kind {
                NEXT_MESSAGE_COPY | MESSAGE_COPY => {
                    Some(copies.next().ok_or_else(|| damaged("lacks a copy"))?)
                }
                _ => None,
            };
            entries.push(Reference { conversation: named[index].clone(), target, copy });
        }
        if steps.next().is_some() || copies.next().is_some() {
            return Err(damaged("has more numbers or copies than entries"));
        }
        Ok(Self { last, time: Time(stored.time), hot: stored.hot, bytes: stored.bytes, entries })
    }
}

/// Sets the number, and tells how far it is from the one before; around the end of the numbers if that is shorter.
fn step(last: &mut u64, number: u64) -> i64 {
    let step = number.wrapping_sub(*last).cast_signed();
    *last = number;
    step
}

/// Consecutive entries, the last of which is at `last`, in pieces of a bounded size, each with its last position.
pub(crate) fn pieces(mut entries: Vec<Reference>, last: Pos) -> Vec<(Pos, Vec<Reference>)> {
    let mut pieces = Vec::new();
    let mut at = Pos(last.0.saturating_sub(entries.len() as u64));
    while !entries.is_empty() {
        let mut bytes = 0;
        let fits = entries.iter().take(ROW_ENTRIES_MAX).position(|entry| {
            let is_full = bytes >= ROW_BYTES_TARGET;
            bytes += entry.copy.as_ref().map_or(0, Bytes::len);
            is_full
        });
        let rest = entries.split_off(fits.unwrap_or(entries.len().min(ROW_ENTRIES_MAX)));
        at = Pos(at.0.saturating_add(entries.len() as u64));
        pieces.push((at, core::mem::replace(&mut entries, rest)));
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn conversation(n: usize) -> ConversationId {
        ConversationId::new(&format!("conversation-{n:07}")).unwrap()
    }

    /// Conversation, kind, number, copy.
    type Drawn = (usize, u8, u64, Option<Vec<u8>>);

    fn drawn() -> impl Strategy<Value = Drawn> {
        let number = prop_oneof![0..5_u64, any::<u64>(), Just(u64::MAX)];
        (0..20_usize, 0..7_u8, number, prop::option::of(prop::collection::vec(any::<u8>(), 0..40)))
    }

    fn references(drawn: Vec<Drawn>) -> Vec<Reference> {
        let reference = |(n, kind, number, copy): Drawn| {
            let (target, copy) = match kind {
                0 => (Target::Message(number), copy.map(Bytes::from)),
                1 => (Target::Read(number), None),
                2 => (Target::Group(number), None),
                3 => (Target::LogBegins(number), None),
                4 => (Target::Change(number), None),
                5 => (Target::Profile(number), None),
                _ => (Target::LogEnds(number), None),
            };
            Reference { conversation: conversation(n), target, copy }
        };
        drawn.into_iter().map(reference).collect()
    }

    proptest! {
        #[test]
        fn what_is_stored_is_read(
            entries in prop::collection::vec(drawn(), 1..300),
            before in 0..u64::MAX / 2, time in any::<u64>(), hot in any::<u64>(), bytes in any::<u64>(),
        ) {
            let entries = references(entries);
            let last = Pos(before + entries.len() as u64);
            let row = Row { last, time: Time(time), hot, bytes, entries };
            prop_assert!(Row::decode(last, row.encode()).unwrap() == row);
            prop_assert_eq!(row.first(), Pos(before + 1));
        }

        #[test]
        fn bytes_of_any_kind_are_a_row_or_a_typed_error(
            bytes in prop::collection::vec(any::<u8>(), 0..200), last in any::<u64>(),
            entries in prop::collection::vec(drawn(), 1..30), at in any::<prop::sample::Index>(), flip in 1..=255_u8,
        ) {
            let check = |bytes: Vec<u8>| match Row::decode(Pos(last), bytes.into()) {
                Ok(row) => assert!(!row.entries.is_empty() && row.first().0 >= 1),
                Err(error) => assert!(matches!(error, StoreError::Damaged(_))),
            };
            check(bytes);
            let row = Row { last: Pos(30), time: Time(1), hot: 1, bytes: 1, entries: references(entries) };
            let mut bytes = row.encode().to_vec();
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            check(bytes);
        }

        #[test]
        fn pieces_are_consecutive_and_bounded(
            count in 1..2_500_usize, before in 0..1_000_u64, copied in 0..3_000_usize,
        ) {
            let copy = (copied > 0).then(|| Bytes::from(vec![1; copied]));
            let entry = |seq| Reference { conversation: conversation(1), target: Target::Message(seq), copy: copy.clone() };
            let entries: Vec<_> = (1..=count as u64).map(entry).collect();
            let mut last = before;
            let mut all = Vec::new();
            for (at, piece) in pieces(entries.clone(), Pos(before + count as u64)) {
                last += piece.len() as u64;
                prop_assert_eq!(at.0, last);
                prop_assert!(piece.len() <= ROW_ENTRIES_MAX);
                prop_assert!((piece.len() - 1) * copied < ROW_BYTES_TARGET);
                all.extend(piece);
            }
            prop_assert!(all == entries && last == before + count as u64);
        }
    }

    /// What a reference takes in a segment, by how its conversations are mixed.
    #[test]
    fn a_reference_takes_one_byte_and_its_share_of_the_names() {
        for (conversations, most) in [(1, 1.2), (10, 1.4), (100, 4.4)] {
            let mut seqs = vec![100_000; conversations];
            let entries = (0..ROW_ENTRIES_MAX).map(|n| {
                // Every tenth is a read mark, as people read in between.
                let at = n * 7 % conversations;
                let target = if n % 10 == 9 { Target::Read(seqs[at]) } else { Target::Message(seqs[at] + 1) };
                seqs[at] += u64::from(n % 10 != 9);
                Reference { conversation: conversation(at), target, copy: None }
            });
            let last = Pos(1_000_000);
            let row = Row {
                last,
                time: Time(1_800_000_000_000),
                hot: 0,
                bytes: 5_000_000,
                entries: entries.collect(),
            };
            #[allow(clippy::cast_precision_loss, reason = "it is small")]
            let each = row.encode().len() as f64 / row.entries.len() as f64;
            assert!(each < most, "{each} bytes each with {conversations} conversations");
        }
    }
}
