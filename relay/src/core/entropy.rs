//! Everything of the core that is left to chance comes from the seed it was given.

use hongyan_protocol::{ConversationId, Epoch};
use rand::rngs::ChaCha12Rng;
use rand::{Rng, SeedableRng};

use super::limits::GROUP_ID_CHARACTERS;

/// Lower case and without what people confuse: RFC 4648's base 32.
const CHARACTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

pub(super) struct Entropy(ChaCha12Rng);

impl Entropy {
    pub(super) fn new(seed: [u8; 32]) -> Self {
        Self(ChaCha12Rng::from_seed(seed))
    }

    /// From 0 to `max`.
    pub(super) fn up_to(&mut self, max: u64) -> u64 {
        // A modulus favours low values by less than one in 2^31 for the spreads that are used.
        self.0.next_u64() % max.saturating_add(1).max(1)
    }

    pub(super) fn group(&mut self) -> Option<ConversationId> {
        ConversationId::new(&format!("g{}", self.characters(GROUP_ID_CHARACTERS))).ok()
    }

    pub(super) fn epoch(&mut self) -> Option<Epoch> {
        Epoch::new(&self.characters(GROUP_ID_CHARACTERS)).ok()
    }

    /// A key that nobody can guess.
    pub(super) fn key(&mut self) -> [u8; 64] {
        let mut key = [0; 64];
        self.0.fill_bytes(&mut key);
        key
    }

    fn characters(&mut self, count: usize) -> String {
        let mut bytes = vec![0; count];
        self.0.fill_bytes(&mut bytes);
        bytes.iter().map(|byte| char::from(CHARACTERS[usize::from(byte & 31)])).collect()
    }
}
