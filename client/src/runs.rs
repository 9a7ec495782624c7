//! Several messages in one record, for a store to which a record costs more than its bytes: a browser's database takes
//! as long for one message as for fifty.
//!
//! A *run* is consecutive messages of one conversation that were written together, within one block of
//! [`RUN_MESSAGES_MAX`] seqs. It is keyed by (conversation, last seq, first seq), so those that hold anything of a range
//! lie together: from the range's begin to the end of its last block ([`last_max`]).
//!
//! A run is never read to be changed. What is written later of the same message lies in a run of its own, of a higher
//! version, and wins where both are read; so a save only adds, and a message that is rewritten again and again
//! takes the place of the rewriting before.
//!
//! *Invariant:* versions rise from save to save, also across those who write one after the other.

use bytes::{Buf as _, Bytes};
use hongyan_protocol::{ConversationId, Seq};

use crate::limits::{RUN_BYTES_TARGET, RUN_MESSAGES_MAX};
use crate::sorted::SortedMap;

/// Messages to be written together. The last record of a message is its record.
#[derive(Default)]
pub struct Runs(SortedMap<ConversationId, SortedMap<Seq, Bytes>>);

/// A run, to be stored under its conversation, `last` and `first`.
pub struct Run {
    /// The lowest seq.
    pub first: Seq,
    /// The highest seq.
    pub last: Seq,
    /// The version, in 8 bytes, then the messages' records, each after its length as Protocol Buffers write it.
    pub record: Bytes,
}

impl Runs {
    /// Adds a message.
    pub fn add(&mut self, of: ConversationId, seq: Seq, record: Bytes) {
        self.0.get_or_insert_with(of, SortedMap::new).insert(seq, record);
    }

    /// Takes them all, as runs of this version.
    pub fn take(&mut self, version: u64) -> Vec<(ConversationId, Run)> {
        let mut runs = Vec::new();
        for (of, messages) in core::mem::take(&mut self.0) {
            let mut gathering: Option<Gathering> = None;
            for (seq, record) in messages {
                if let Some(run) = gathering.take_if(|run| !run.takes(seq)) {
                    runs.push((of.clone(), run.end()));
                }
                gathering.get_or_insert_with(|| Gathering::at(seq, version)).push(seq, &record);
            }
            if let Some(run) = gathering {
                runs.push((of, run.end()));
            }
        }
        runs
    }
}

struct Gathering {
    first: Seq,
    last: Seq,
    record: Vec<u8>,
}

impl Gathering {
    fn at(seq: Seq, version: u64) -> Self {
        Self { first: seq, last: seq, record: version.to_be_bytes().to_vec() }
    }

    fn takes(&self, seq: Seq) -> bool {
        seq == self.last.next() && seq <= last_max(self.first) && self.record.len() < RUN_BYTES_TARGET
    }

    fn push(&mut self, seq: Seq, record: &[u8]) {
        self.last = seq;
        // A list grows as it must.
        let _ = prost::encode_length_delimiter(record.len(), &mut self.record);
        self.record.extend_from_slice(record);
    }

    fn end(self) -> Run {
        Run { first: self.first, last: self.last, record: self.record.into() }
    }
}

/// The highest `last` of runs that may hold this message.
#[must_use]
pub fn last_max(seq: Seq) -> Seq {
    Seq(seq.0 | (RUN_MESSAGES_MAX - 1))
}

/// When messages below the bound are to go: runs whose `last` is below this. Less than a block more stays, and all that was
/// written of each message together: else what was written first would show again.
#[must_use]
pub fn kept_from(bound: Seq) -> Seq {
    Seq(bound.0 & !(RUN_MESSAGES_MAX - 1))
}

/// The messages with `from` ≤ seq ≤ `to`, ascending, of runs given as their `first` and record. What can't be read is not
/// there: the cache is no more than that.
pub fn messages(runs: impl IntoIterator<Item = (Seq, Bytes)>, from: Seq, to: Seq) -> Vec<(Seq, Bytes)> {
    let mut found: SortedMap<Seq, (u64, Bytes)> = SortedMap::new();
    for (first, mut record) in runs {
        let Ok(version) = record.try_get_u64() else { continue };
        let mut seq = first;
        while let Ok(length) = prost::decode_length_delimiter(&mut record)
            && length <= record.len()
        {
            let message = record.split_to(length);
            let is_older = found.get(&seq).is_some_and(|(other, _)| *other > version);
            if from <= seq && seq <= to && !is_older {
                found.insert(seq, (version, message));
            }
            seq = seq.next();
        }
    }
    let mut messages = Vec::new();
    for (seq, (_, message)) in found {
        messages.push((seq, message));
    }
    messages
}
