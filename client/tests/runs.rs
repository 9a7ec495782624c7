//! Runs of messages: what is loaded is what was written last, in whatever parts it was written.

// Helpers are test code too; clippy sees only `#[test]` functions so.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

mod common;

use std::collections::BTreeMap;

use bytes::Bytes;
use common::conversation;
use hongyan_client::limits::{RUN_BYTES_TARGET, RUN_MESSAGES_MAX};
use hongyan_client::runs::{self, Runs};
use hongyan_protocol::{ConversationId, Seq};
use proptest::prelude::*;

const ALL: (Seq, Seq) = (Seq::ZERO, Seq(u64::MAX));

/// A database that sorts its keys, as a browser's does.
#[derive(Default, Clone)]
struct Store {
    runs: BTreeMap<(ConversationId, Seq, Seq), Bytes>,
    version: u64,
}

impl Store {
    fn save(&mut self, messages: impl IntoIterator<Item = (ConversationId, Seq, Bytes)>) {
        let mut runs = Runs::default();
        for (of, seq, record) in messages {
            runs.add(of, seq, record);
        }
        self.version += 1;
        for (of, run) in runs.take(self.version) {
            self.runs.insert((of, run.last, run.first), run.record);
        }
    }

    fn between(&self, of: &ConversationId, from: Seq, to: Seq) -> Vec<(ConversationId, Seq, Seq)> {
        let (from, to) = ((of.clone(), from, Seq::ZERO), (of.clone(), to, Seq(u64::MAX)));
        self.runs.range(from..=to).map(|(key, _)| key.clone()).collect()
    }

    fn load(&self, of: &ConversationId, (from, to): (Seq, Seq)) -> Vec<(u64, Bytes)> {
        let keys = self.between(of, from, runs::last_max(to));
        let found = keys.into_iter().map(|key| (key.2, self.runs[&key].clone()));
        runs::messages(found, from, to).into_iter().map(|(seq, record)| (seq.0, record)).collect()
    }

    fn drop_below(&mut self, of: &ConversationId, bound: Seq) {
        for key in self.between(of, Seq::ZERO, runs::kept_from(bound).previous()) {
            self.runs.remove(&key);
        }
    }
}

fn messages(
    of: &ConversationId,
    seqs: impl IntoIterator<Item = u64>,
    text: &str,
) -> Vec<(ConversationId, Seq, Bytes)> {
    seqs.into_iter().map(|seq| (of.clone(), Seq(seq), format!("{seq} {text}").into())).collect()
}

#[test]
fn a_save_makes_a_run_of_what_is_consecutive_within_a_block_and_not_too_long() {
    let id = conversation("g1");
    let cut = |messages: Vec<(ConversationId, Seq, Bytes)>| {
        let mut store = Store::default();
        store.save(messages);
        store.runs.into_keys().map(|(_, last, first)| (first.0, last.0)).collect::<Vec<_>>()
    };
    let block = RUN_MESSAGES_MAX;
    assert_eq!(cut(messages(&id, 5..=9, "")), [(5, 9)]);
    assert_eq!(cut(messages(&id, [9, 5, 7, 6], "")), [(5, 7), (9, 9)]);
    assert_eq!(
        cut(messages(&id, block - 2..=2 * block, "")),
        [(block - 2, block - 1), (block, 2 * block - 1), (2 * block, 2 * block)]
    );
    let half = "x".repeat(RUN_BYTES_TARGET / 2);
    assert_eq!(cut(messages(&id, 1..=5, &half)), [(1, 2), (3, 4), (5, 5)]);
}

#[test]
fn a_message_that_is_written_again_is_as_written_last() {
    let id = conversation("g1");
    let mut store = Store::default();
    store.save(messages(&id, 1..=10, "old"));
    let before = store.clone();
    for n in 0..100 {
        store.save(messages(&id, [4], &format!("edit {n}")));
    }
    assert_eq!(store.runs.len(), 2, "each edit takes the place of the one before");
    let texts: Vec<_> = store.load(&id, (Seq(3), Seq(5))).into_iter().map(|(_, record)| record).collect();
    assert_eq!(texts, ["3 old", "4 edit 99", "5 old"]);
    // A page of history with the message of before the edit would win, being later; so would the edit, again.
    store.save(messages(&id, 2..=6, "page"));
    assert_eq!(store.load(&id, (Seq(4), Seq(4))), [(4, "4 page".into())]);
    store.save(messages(&id, [4], "at last"));
    assert_eq!(store.load(&id, (Seq(4), Seq(4))), [(4, "4 at last".into())]);
    // A save that never became durable has changed nothing.
    assert_eq!(before.load(&id, ALL).len(), 10);
    assert_eq!(before.load(&id, (Seq(4), Seq(4))), [(4, "4 old".into())]);
}

#[test]
fn what_is_trimmed_does_not_show_as_it_was_before_it_was_written_again() {
    let id = conversation("g1");
    let mut store = Store::default();
    let block = RUN_MESSAGES_MAX;
    store.save(messages(&id, 1..=3 * block, "secret"));
    store.save(messages(&id, [block + 1], "recalled"));
    store.drop_below(&id, Seq(block + 5));
    let found = store.load(&id, ALL);
    assert_eq!(found.len() as u64, 2 * block + 1, "less than a block more than was asked for");
    assert_eq!(found[1], (block + 1, format!("{} recalled", block + 1).into()));
}

#[test]
fn within_a_save_too_the_last_one_counts() {
    let id = conversation("g1");
    let mut store = Store::default();
    store.save([messages(&id, 1..=3, "old"), messages(&id, [2], "new")].concat());
    assert_eq!(store.load(&id, (Seq(2), Seq(2))), [(2, "2 new".into())]);
    assert_eq!(store.runs.len(), 1);
}

#[test]
fn a_record_that_is_none_of_ours_is_passed_over() {
    let (id, junk) = (conversation("g1"), Bytes::from_static(b"\xff\xff\xff\xff\x07\x08\x09"));
    let mut store = Store::default();
    store.save(messages(&id, 1..=2, ""));
    store.runs.insert((id.clone(), Seq(2), Seq(2)), junk);
    assert_eq!(store.load(&id, ALL).len(), 2);
    assert!(runs::messages([(Seq(u64::MAX), Bytes::new())], ALL.0, ALL.1).is_empty());
}

#[derive(Debug, Clone)]
enum Step {
    Write(Vec<(u8, u64)>),
    Below(u8, u64),
    Load(u8, u64, u64),
}

fn step() -> impl Strategy<Value = Step> {
    let seq = 1_u64..300;
    let stretch = (0_u8..3, seq.clone(), 1_u64..90)
        .prop_map(|(of, first, count)| (first..first + count).map(|seq| (of, seq)).collect::<Vec<_>>());
    prop_oneof![
        4 => prop::collection::vec(stretch, 1..4).prop_map(|parts| Step::Write(parts.concat())),
        1 => (0_u8..3, seq.clone()).prop_map(|(of, bound)| Step::Below(of, bound)),
        3 => (0_u8..3, seq, 0_u64..150).prop_map(|(of, from, more)| Step::Load(of, from, from + more)),
    ]
}

proptest! {
    #[test]
    fn runs_are_a_map_of_messages(steps in prop::collection::vec(step(), 1..40)) {
        let id = |of: u8| conversation(&format!("g{of}"));
        let mut store = Store::default();
        let mut model: BTreeMap<(u8, u64), Bytes> = BTreeMap::new();
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Write(seqs) => {
                    let record = |seq| Bytes::from(format!("{seq} in save {number}"));
                    store.save(seqs.iter().map(|(of, seq)| (id(*of), Seq(*seq), record(*seq))));
                    model.extend(seqs.iter().map(|(of, seq)| ((*of, *seq), record(*seq))));
                }
                Step::Below(of, bound) => {
                    store.drop_below(&id(of), Seq(bound));
                    // Less than a block more stays.
                    model.retain(|(other, seq), _| *other != of || *seq >= bound - bound % RUN_MESSAGES_MAX);
                }
                Step::Load(of, from, to) => {
                    let found = store.load(&id(of), (Seq(from), Seq(to)));
                    let written = model.range((of, from)..=(of, to));
                    prop_assert_eq!(found, written.map(|((_, seq), record)| (*seq, record.clone())).collect::<Vec<_>>());
                }
            }
        }
    }
}
