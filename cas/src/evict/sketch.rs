//! How often things are named, counted in bounded memory.
//!
//! A counting Bloom filter: a few bytes a name instead of a hash table of a million
//! digests. It lives as long as one round of eviction; nothing of it is ever stored, so
//! there are no reference counts to go wrong (STO-05).
//!
//! Invariant: an estimate is never below the true count, so what it calls unnamed is
//! unnamed. The other error, to think something named that is not, keeps a little garbage
//! until the next round, which hashes differently. A cell that is full stays full.

use std::hash::{BuildHasher, Hash, RandomState};

/// Cells for each expected name. With two cells a name, about one name in six is then
/// thought to be in use when it is not.
const CELLS_PER_NAME: u64 = 4;

/// Even a small store gets so many cells: 64 KiB.
const CELLS_MIN: u64 = 1 << 16;

/// And a huge one no more: 32 MiB, within what a daemon with a million results may take.
const CELLS_MAX: u64 = 1 << 25;

/// NameCounts by name, estimated from above.
pub(super) struct NameCounts {
    cells: Vec<u8>,
    hasher: RandomState,
}

impl NameCounts {
    /// Room for about so many different names.
    pub(super) fn for_names(names: u64) -> Self {
        let cells = names.saturating_mul(CELLS_PER_NAME).clamp(CELLS_MIN, CELLS_MAX).next_power_of_two();
        let cells = usize::try_from(cells).expect("at most `CELLS_MAX`");
        NameCounts { cells: vec![0; cells], hasher: RandomState::new() }
    }

    fn places(&self, name: &impl Hash) -> [usize; 2] {
        let hash = self.hasher.hash_one(name);
        let mask = self.cells.len() - 1;
        // Two halves of one good hash are as good as two hashes.
        let place = |half: u64| usize::try_from(half & 0xffff_ffff).expect("32 bits") & mask;
        let (first, second) = (place(hash), place(hash >> 32));
        // Both in one cell would count twice.
        [first, if second == first { first ^ 1 } else { second }]
    }

    /// NameCounts one more.
    pub(super) fn add(&mut self, name: &impl Hash) {
        for place in self.places(name) {
            self.cells[place] = self.cells[place].saturating_add(1);
        }
    }

    /// Takes back what was added. To take back more would break the invariant.
    pub(super) fn remove(&mut self, name: &impl Hash) {
        for place in self.places(name) {
            if self.cells[place] != u8::MAX {
                self.cells[place] = self.cells[place].saturating_sub(1);
            }
        }
    }

    /// At least how often this was added and not removed.
    pub(super) fn estimate(&self, name: &impl Hash) -> u8 {
        let [first, second] = self.places(name);
        self.cells[first].min(self.cells[second])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// In a sketch far too small, so that cells collide and fill up.
        #[test]
        fn sto_05_an_estimate_is_never_below_the_count(
            steps in proptest::collection::vec((0u16..20, proptest::bool::weighted(0.7)), 0..3_000),
        ) {
            let mut counts = NameCounts { cells: vec![0; 8], hasher: RandomState::new() };
            let mut model = HashMap::<u16, usize>::new();
            for (name, add) in steps {
                let count = model.entry(name).or_default();
                if add {
                    counts.add(&name);
                    *count += 1;
                } else if *count > 0 {
                    counts.remove(&name);
                    *count -= 1;
                }
            }
            for (name, count) in model {
                prop_assert!(usize::from(counts.estimate(&name)) >= count.min(usize::from(u8::MAX)));
            }
        }
    }

    #[test]
    fn sto_05_a_full_cell_stays_full() {
        let mut counts = NameCounts::for_names(1);
        (0..300).for_each(|_| counts.add(&"name"));
        (0..290).for_each(|_| counts.remove(&"name"));
        assert!(counts.estimate(&"name") >= 10);
    }

    #[test]
    fn most_of_what_is_unnamed_is_known_to_be() {
        let mut counts = NameCounts::for_names(100_000);
        (0..100_000u32).for_each(|name| counts.add(&name));
        let mistaken = (100_000..200_000u32).filter(|name| counts.estimate(name) > 0).count();
        assert!(mistaken < 30_000, "{mistaken} of 100000");
        (0..100_000u32).for_each(|name| counts.remove(&name));
        assert!((0..200_000u32).all(|name| counts.estimate(&name) == 0));
    }

    #[test]
    fn memory_is_bounded() {
        assert_eq!(NameCounts::for_names(u64::MAX).cells.len() as u64, CELLS_MAX);
        assert_eq!(NameCounts::for_names(0).cells.len() as u64, CELLS_MIN);
    }
}
