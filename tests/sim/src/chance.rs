//! All chance of a world: one seed, SplitMix64 (a public-domain generator). Each purpose draws from a stream of its
//! own, so that leaving one thing out of a scenario changes as little as possible of the rest.

/// One stream.
#[derive(Clone)]
pub struct Chance(u64);

impl Chance {
    /// The stream of a seed for a purpose.
    #[must_use]
    pub fn new(seed: u64, purpose: u64) -> Self {
        let mut chance = Self(seed ^ purpose.wrapping_mul(0xd6e8_feb8_6659_fd93));
        chance.draw();
        chance
    }

    /// The next 64 bits.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One of 0 … `bound` − 1; 0 when the bound is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.draw() % bound.max(1)
    }

    /// From `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// True so many times in a hundred.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// A place in a list of this length.
    pub fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap_or(0)
    }

    /// One of a list that is not empty.
    pub fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.index(list.len())]
    }

    /// A row of a table with weights.
    pub fn weighted<T: Copy>(&mut self, rows: &[(u64, T)]) -> T {
        let mut at = self.below(rows.iter().map(|(weight, _)| weight).sum());
        for (weight, row) in rows {
            match at.checked_sub(*weight) {
                Some(rest) => at = rest,
                None => return *row,
            }
        }
        rows[0].1
    }

    /// Entropy for a core.
    pub fn seed(&mut self) -> [u8; 32] {
        let mut seed = [0; 32];
        seed.chunks_mut(8).for_each(|part| part.copy_from_slice(&self.draw().to_le_bytes()));
        seed
    }
}
