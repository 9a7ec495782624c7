//! A byte string as a program: what a fuzzer mutates decides what happens next.
//!
//! Every byte string is a program and the end of one is an endless run of zeros, so no mutation is wasted. Small
//! numbers are one byte, and choices are one byte each: a changed byte changes one thing.

use std::ops::Range;

/// Reads a program.
pub struct Program<'a>(&'a [u8]);

impl<'a> Program<'a> {
    /// From its beginning.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The same rest, to be read once more.
    #[must_use]
    pub const fn fork(&self) -> Self {
        Self(self.0)
    }

    /// Nothing is left.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    /// One byte; zero at the end.
    pub fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((byte, rest)) => {
                self.0 = rest;
                *byte
            }
            None => 0,
        }
    }

    /// Less than `count`, which is at least one and at most 256.
    pub fn below(&mut self, count: usize) -> usize {
        usize::from(self.byte()) % count
    }

    /// One of them.
    pub fn pick<'t, T>(&mut self, among: &'t [T]) -> &'t T {
        &among[self.below(among.len())]
    }

    /// Yes or no.
    pub fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// A small number, one at an edge, or any.
    pub fn number(&mut self) -> u64 {
        match self.byte() {
            small @ 0..=223 => small.into(),
            tag @ 224..=231 => u64::MAX - u64::from(tag - 224),
            tag @ 232..=235 => (1 << 32) - u64::from(tag - 232),
            tag @ 236..=239 => (1 << 63) - u64::from(tag - 236),
            tag @ 240..=243 => 1 << (8 * (tag - 240) + 7),
            244..=249 => u64::from(self.byte()) << 8 | u64::from(self.byte()),
            250..=255 => (0..8).fold(0, |number, _| number << 8 | u64::from(self.byte())),
        }
    }

    /// As [`Program::number`], cut to 32 bits.
    pub fn small(&mut self) -> u32 {
        u32::try_from(self.number() & u64::from(u32::MAX)).unwrap_or(0)
    }

    /// Bytes as they are, up to 4 KiB.
    pub fn bytes(&mut self) -> &'a [u8] {
        let len = match self.byte() {
            255 => usize::from(self.byte() & 15) << 8 | usize::from(self.byte()),
            len => len.into(),
        };
        let (bytes, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        bytes
    }

    /// One of the texts, or another one.
    pub fn text(&mut self, among: &[&str]) -> String {
        let which = usize::from(self.byte());
        match among.get(which % (among.len() + 1)) {
            Some(text) => (*text).to_owned(),
            None if which < 128 => String::from_utf8_lossy(self.bytes()).into_owned(),
            // Longer than any id may be, for one byte.
            None => "x".repeat(which * 8),
        }
    }

    /// So many things.
    pub fn times<T>(&mut self, count: Range<usize>, mut one: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let count = count.start + self.below(count.len().max(1));
        (0..count).map(|_| one(self)).collect()
    }
}
