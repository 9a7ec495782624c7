//! A table of what is in memory, bounded: what was not used for long goes first.

use std::collections::BTreeMap;
use std::ops::Bound;

struct Slot<V> {
    used: bool,
    weight: usize,
    value: V,
}

/// Values by key. Eviction is the clock algorithm in key order, so it depends on the inputs only.
pub(super) struct Hot<K, V> {
    slots: BTreeMap<K, Slot<V>>,
    weight: usize,
    hand: Option<K>,
    /// How many came since it was last evicted from.
    came: usize,
}

impl<K: Ord + Clone, V> Hot<K, V> {
    pub(super) fn new() -> Self {
        Self { slots: BTreeMap::new(), weight: 0, hand: None, came: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    #[cfg(test)]
    pub(super) fn weight(&self) -> usize {
        self.weight
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.slots.get(key).map(|slot| &slot.value)
    }

    pub(super) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let slot = self.slots.get_mut(key)?;
        slot.used = true;
        Some(&mut slot.value)
    }

    pub(super) fn insert(&mut self, key: K, weight: usize, value: V) {
        self.weight += weight;
        self.came += 1;
        if let Some(before) = self.slots.insert(key, Slot { used: true, weight, value }) {
            self.weight -= before.weight;
        }
    }

    /// A value became heavier or lighter.
    pub(super) fn weigh(&mut self, key: &K, weight: usize) {
        if let Some(slot) = self.slots.get_mut(key) {
            self.weight = self.weight - slot.weight + weight;
            slot.weight = weight;
        }
    }

    /// Looks at up to `steps` values, and at as many more as may have to go because others came, and evicts those that
    /// were not used since it last looked.
    pub(super) fn evict(
        &mut self,
        steps: usize,
        over: impl Fn(usize, usize) -> bool,
        pinned: impl Fn(&V) -> bool,
    ) {
        // Who comes was used, so that it is looked at twice until it goes.
        let steps = steps + 3 * std::mem::take(&mut self.came);
        for _ in 0..steps {
            if !over(self.slots.len(), self.weight) {
                return;
            }
            let after = match &self.hand {
                Some(hand) => (Bound::Excluded(hand.clone()), Bound::Unbounded),
                None => (Bound::Unbounded, Bound::Unbounded),
            };
            let Some((key, slot)) = self.slots.range_mut(after).next() else {
                self.hand = None;
                continue;
            };
            let key = key.clone();
            if slot.used || pinned(&slot.value) {
                slot.used = false;
            } else if let Some(gone) = self.slots.remove(&key) {
                self.weight -= gone.weight;
            }
            self.hand = Some(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_or_pinned_stays() {
        let mut hot = Hot::new();
        for n in 0..10u32 {
            hot.insert(n, 1, n);
        }
        hot.came = 0;
        let evict = |hot: &mut Hot<u32, u32>, steps| {
            hot.evict(steps, |len, _| len > 4, |value| *value == 3);
        };
        evict(&mut hot, 11);
        assert_eq!(hot.len(), 10, "the first round only forgets the uses");
        hot.get_mut(&5);
        evict(&mut hot, 100);
        assert_eq!(hot.len(), 4);
        assert!(hot.get(&3).is_some() && hot.get(&5).is_some());
        assert_eq!(hot.weight(), 4);
        // As many go as come, however few steps there are.
        for n in 100..1_000 {
            hot.insert(n, 1, n);
            evict(&mut hot, 1);
        }
        assert!(hot.len() <= 6, "{}", hot.len());
    }
}
