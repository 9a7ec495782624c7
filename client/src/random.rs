//! Chance from a seed: xoshiro256**, a public-domain generator. It decides waits and names, never secrets.

/// The generator's state.
pub(crate) struct Random([u64; 4]);

impl Random {
    /// From the host's entropy. The state must not be all zero, so a bit is set.
    pub(crate) fn new(seed: &[u8; 32]) -> Self {
        let mut state = [0u64; 4];
        for (word, bytes) in state.iter_mut().zip(seed.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        if state == [0; 4] {
            state[0] = 1;
        }
        let mut random = Self(state);
        // A seed with few bits set needs some rounds to spread.
        for _ in 0..16 {
            random.next();
        }
        random
    }

    pub(crate) fn next(&mut self) -> u64 {
        let state = &mut self.0;
        let result = state[1].wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let shifted = state[1] << 17;
        state[2] ^= state[0];
        state[3] ^= state[1];
        state[1] ^= state[2];
        state[0] ^= state[3];
        state[2] ^= shifted;
        state[3] = state[3].rotate_left(45);
        result
    }

    /// Evenly from zero to `most`, both included (to within 2⁻³² for the waits drawn here).
    pub(crate) fn up_to(&mut self, most: u64) -> u64 {
        match most.checked_add(1) {
            Some(count) => self.next() % count,
            None => self.next(),
        }
    }

    /// A name of 128 bits, as 32 hexadecimal digits.
    pub(crate) fn name(&mut self) -> String {
        let mut name = String::with_capacity(32);
        for _ in 0..2 {
            let word = self.next();
            for shift in (0..16).rev() {
                let digit = (word >> (shift * 4)) & 15;
                name.push(char::from(b"0123456789abcdef"[usize::try_from(digit).unwrap_or(0)]));
            }
        }
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_give_their_own_names_and_the_same_ones_again() {
        let (mut one, mut again, mut other) =
            (Random::new(&[7; 32]), Random::new(&[7; 32]), Random::new(&[8; 32]));
        let name = one.name();
        assert_eq!(name, again.name());
        assert_ne!(name, other.name());
        assert_eq!(name.len(), 32);
        assert_ne!(Random::new(&[0; 32]).name(), "0".repeat(32));
    }

    #[test]
    fn draws_stay_within_their_bound_and_reach_both_ends() {
        let mut random = Random::new(&[1; 32]);
        let draws: Vec<_> = (0..1000).map(|_| random.up_to(3)).collect();
        assert!((0..=3).all(|value| draws.contains(&value)));
        assert!(draws.iter().all(|draw| *draw <= 3));
        random.up_to(u64::MAX);
    }
}
