//! Counts in bounded memory how many results name each blob.
//!
//! This is a counting Bloom filter: a few bytes for each name instead of a hash table of a million
//! digests. It lives for one round of eviction and is never stored, so there are no reference
//! counts that could go wrong (STO-05).
//!
//! Invariant: an estimate is never below the true count, so a blob that is estimated as unnamed is
//! unnamed. An estimate may be too high; that keeps a few unnamed blobs until the next round,
//! which hashes with another key. A cell that has reached its maximum stays there.

use std::hash::{BuildHasher, Hash, RandomState};

/// The number of cells for each expected name. Each name uses two of them, so about one unnamed
/// blob in six is taken for named.
const CELLS_PER_NAME: u64 = 4;

/// The number of cells for a small store: 64 KiB.
const CELLS_MIN: u64 = 1 << 16;

/// The number of cells for a huge store: 32 MiB, within the memory that a daemon with a million
/// results may use.
const CELLS_MAX: u64 = 1 << 25;

/// The count of each name, estimated from above.
pub(super) struct NameCounts {
    cells: Vec<u8>,
    hasher: RandomState,
}

impl NameCounts {
    /// Makes a filter for about this many different names.
    pub(super) fn for_names(names: u64) -> Self {
        let cells = names.saturating_mul(CELLS_PER_NAME).clamp(CELLS_MIN, CELLS_MAX).next_power_of_two();
        let cells = usize::try_from(cells).expect("at most `CELLS_MAX`");
        NameCounts { cells: vec![0; cells], hasher: RandomState::new() }
    }

    fn cells_of(&self, name: &impl Hash) -> [usize; 2] {
        let hash = self.hasher.hash_one(name);
        let mask = self.cells.len() - 1;
        // Two halves of one good hash are as good as two hashes.
        let cell = |half: u64| usize::try_from(half & 0xffff_ffff).expect("32 bits") & mask;
        let (first, second) = (cell(hash), cell(hash >> 32));
        // A name whose two cells are one would be counted twice in it.
        [first, if second == first { first ^ 1 } else { second }]
    }

    /// Adds one to the count of a name.
    pub(super) fn add(&mut self, name: &impl Hash) {
        for cell in self.cells_of(name) {
            self.cells[cell] = self.cells[cell].saturating_add(1);
        }
    }

    /// Subtracts one from the count of a name that was added before. To subtract more than was added
    /// would break the invariant.
    pub(super) fn remove(&mut self, name: &impl Hash) {
        for cell in self.cells_of(name) {
            if self.cells[cell] != u8::MAX {
                self.cells[cell] = self.cells[cell].saturating_sub(1);
            }
        }
    }

    /// Returns an upper bound of how often the name was added and not removed, up to 255.
    pub(super) fn estimate(&self, name: &impl Hash) -> u8 {
        let [first, second] = self.cells_of(name);
        self.cells[first].min(self.cells[second])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The filter is far too small, so that cells collide and reach their maximum.
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
    fn sto_05_a_cell_at_its_maximum_is_not_decremented() {
        let mut counts = NameCounts::for_names(1);
        (0..300).for_each(|_| counts.add(&"name"));
        (0..290).for_each(|_| counts.remove(&"name"));
        assert!(counts.estimate(&"name") >= 10);
    }

    #[test]
    fn most_unnamed_blobs_are_recognised() {
        let mut counts = NameCounts::for_names(100_000);
        (0..100_000u32).for_each(|name| counts.add(&name));
        let mistaken = (100_000..200_000u32).filter(|name| counts.estimate(name) > 0).count();
        assert!(mistaken < 30_000, "{mistaken} of 100000");
        (0..100_000u32).for_each(|name| counts.remove(&name));
        assert!((0..200_000u32).all(|name| counts.estimate(&name) == 0));
    }

    #[test]
    fn the_number_of_cells_is_bounded() {
        assert_eq!(NameCounts::for_names(u64::MAX).cells.len() as u64, CELLS_MAX);
        assert_eq!(NameCounts::for_names(0).cells.len() as u64, CELLS_MIN);
    }
}
