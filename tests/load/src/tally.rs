//! Whether each receiver got each message once and in order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hongyan_client::view::Message;
use hongyan_protocol::UserId;

use crate::histogram::Latencies;

/// What did not come as it was sent. Anything but zero is a defect of the relay, of the client, or of the generator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Never came.
    pub lost: u64,
    /// Came again.
    pub doubled: u64,
    /// Came after a later one of the same sender.
    pub reordered: u64,
}

impl Losses {
    /// Nothing of the kind.
    #[must_use]
    pub fn is_none(self) -> bool {
        self == Self::default()
    }

    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            lost: self.lost + other.lost,
            doubled: self.doubled + other.doubled,
            reordered: self.reordered + other.reordered,
        }
    }
}

/// What one receiver got, by sender.
#[derive(Default)]
pub struct Tally {
    senders: BTreeMap<UserId, Numbers>,
    received: u64,
    losses: Losses,
    /// From the moment at which each was due.
    latencies: Latencies,
}

/// The numbers of one sender; the first is 1.
struct Numbers {
    next: u64,
    missing: BTreeSet<u64>,
}

impl Default for Numbers {
    fn default() -> Self {
        Self { next: 1, missing: BTreeSet::new() }
    }
}

impl Tally {
    /// Takes a message that came; `origin` is that of [`Stamp::text`].
    pub fn take(&mut self, message: &Message, origin: Instant) {
        if let Some(stamp) = Stamp::read(&message.content.text) {
            let due = origin + Duration::from_micros(stamp.due_us);
            self.latencies.record(due.elapsed());
            self.count(&message.from, stamp.number);
        }
    }

    fn count(&mut self, from: &UserId, number: u64) {
        if !self.senders.contains_key(from) {
            self.senders.insert(from.clone(), Numbers::default());
        }
        let Some(numbers) = self.senders.get_mut(from) else { return };
        if number >= numbers.next {
            numbers.missing.extend(numbers.next..number);
            numbers.next = number + 1;
            self.received += 1;
        } else if numbers.missing.remove(&number) {
            self.losses.reordered += 1;
            self.received += 1;
        } else {
            self.losses.doubled += 1;
        }
    }

    /// Different messages that came.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received
    }

    /// What is wrong, given how many each sender sent.
    #[must_use]
    pub fn losses(&self, sent: &BTreeMap<UserId, u64>) -> Losses {
        let missing = sent.iter().map(|(user, sent)| {
            let came =
                self.senders.get(user).map_or(0, |numbers| numbers.next - 1 - numbers.missing.len() as u64);
            sent.saturating_sub(came)
        });
        Losses { lost: missing.sum(), ..self.losses }
    }

    /// How long deliveries took.
    #[must_use]
    pub fn latencies(&self) -> &Latencies {
        &self.latencies
    }
}

/// One tally for each receiver.
pub struct Board {
    origin: Instant,
    tallies: Vec<Mutex<Tally>>,
}

impl Board {
    /// For so many receivers.
    #[must_use]
    pub fn new(receivers: usize) -> Self {
        Self { origin: Instant::now(), tallies: (0..receivers).map(|_| Mutex::default()).collect() }
    }

    /// The moment from which stamps count.
    #[must_use]
    pub fn origin(&self) -> Instant {
        self.origin
    }

    /// A message came to the receiver of this number.
    pub fn take(&self, receiver: usize, message: &Message) {
        if let Some(tally) = self.tallies.get(receiver) {
            tally.lock().unwrap_or_else(PoisonError::into_inner).take(message, self.origin);
        }
    }

    /// Different messages that came, over all receivers.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.sum(0, |received, tally| received + tally.received())
    }

    /// What went wrong for the receivers of these numbers, given what was sent to each of them.
    #[must_use]
    pub fn losses(&self, receivers: std::ops::Range<usize>, sent: &BTreeMap<UserId, u64>) -> Losses {
        self.tallies.get(receivers).unwrap_or_default().iter().fold(Losses::default(), |losses, tally| {
            losses.and(tally.lock().unwrap_or_else(PoisonError::into_inner).losses(sent))
        })
    }

    /// How long deliveries took, over all receivers.
    #[must_use]
    pub fn latencies(&self) -> Latencies {
        self.sum(Latencies::default(), |mut sum, tally| {
            sum.add(tally.latencies());
            sum
        })
    }

    fn sum<T>(&self, first: T, mut add: impl FnMut(T, &Tally) -> T) -> T {
        self.tallies
            .iter()
            .fold(first, |sum, tally| add(sum, &tally.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// What a numbered text begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The how many-th of its sender it is, from 1.
    pub number: u64,
    /// When it was due, in microseconds from the board's origin.
    pub due_us: u64,
}

impl Stamp {
    /// A text of so many bytes.
    #[must_use]
    pub fn text(self, bytes: usize) -> String {
        let mut text = format!("{} {} ", self.number, self.due_us);
        text.push_str(&letters(self.number, bytes.saturating_sub(text.len())));
        text
    }

    /// The stamp of a text.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let mut words = text.splitn(3, ' ');
        let number = words.next()?.parse().ok()?;
        let due_us = words.next()?.parse().ok()?;
        words.next()?;
        Some(Self { number, due_us })
    }
}

/// So many letters, others for each number: what people write does not compress as one repeated letter does.
#[must_use]
pub fn letters(number: u64, count: usize) -> String {
    let mut state = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut text = String::with_capacity(count);
    while text.len() < count {
        // Marsaglia's xorshift64.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        for byte in state.to_le_bytes().into_iter().take(count - text.len()) {
            text.push(char::from(b'a' + byte % 26));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_read_from_its_text() {
        let stamp = Stamp { number: 17, due_us: 1_234_567 };
        assert_eq!(stamp.text(300).len(), 300);
        assert_eq!(Stamp::read(&stamp.text(300)), Some(stamp));
        assert_eq!(Stamp::read(&stamp.text(0)), Some(stamp));
        assert_eq!(letters(3, 1_001).len(), 1_001);
        assert_ne!(letters(3, 50), letters(4, 50));
        for text in ["", "17", "17 x y", "hello there you"] {
            assert_eq!(Stamp::read(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_lost_doubled_or_reordered_is_counted() {
        let check = |numbers: &[u64], sent: u64, lost: u64, doubled: u64, reordered: u64| {
            let user = UserId::new("a").unwrap();
            let mut tally = Tally::default();
            numbers.iter().for_each(|number| tally.count(&user, *number));
            let losses = tally.losses(&BTreeMap::from([(user, sent)]));
            assert_eq!(losses, Losses { lost, doubled, reordered }, "{numbers:?} of {sent}");
        };
        check(&[1, 2, 3], 3, 0, 0, 0);
        check(&[1, 2], 3, 1, 0, 0);
        check(&[2, 3], 3, 1, 0, 0);
        check(&[], 3, 3, 0, 0);
        check(&[1, 2, 2, 3], 3, 0, 1, 0);
        check(&[1, 3, 2], 3, 0, 0, 1);
        check(&[3, 1, 1], 3, 1, 1, 1);
    }
}
