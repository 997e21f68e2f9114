//! How much to free, and which entries to evict first. Pure: values in, values out.
//!
//! [`SizeLimits::bytes_to_free`] turns a usage into a goal. Eviction begins at a high mark and ends
//! at a low one, so that it runs in rounds and not for every blob. [`EvictionSelection`] is offered every
//! entry once, in any order, and keeps those of least worth, in a heap of bounded size. It keeps
//! more than the goal needs, because deleting a result does not free the blobs that other results
//! name too; so only the deletion itself knows when enough is freed.

use std::collections::BinaryHeap;

use super::catalog::Usage;
use super::worth::Worth;
use crate::digest::Digest;
use crate::store::ActionKey;

/// Eviction begins when only a sixteenth of the limit is left, or earlier when a writer is refused.
pub(crate) const HIGH_MARK_PARTS: u64 = 16;

/// Eviction ends when an eighth of the limit is left, so that the next round is a sixteenth away.
const LOW_MARK_PARTS: u64 = 8;

/// The most space that is left unused on purpose at the high mark, however large the limit is.
const MARK_BYTES_MAX: u64 = 4 << 30;

/// How much before the volume's reserve is reached eviction begins at most: other processes write
/// to the volume too.
const VOLUME_MARK_BYTES_MAX: u64 = 256 << 20;

/// The two limits on the size of a store.
#[derive(Clone, Copy, Debug)]
pub struct SizeLimits {
    /// The most that the store may occupy on the volume.
    pub limit_bytes: u64,
    /// How much of the volume the store leaves free.
    pub reserve_bytes: u64,
}

impl SizeLimits {
    /// Returns how many bytes to free; zero if none. `wanted_bytes` is the size of the write that
    /// was refused; zero if none was.
    pub fn bytes_to_free(&self, usage: &Usage, wanted_bytes: u64) -> u64 {
        // Deleted records still occupy space until the database compacts. Without subtracting them,
        // eviction would go on meanwhile and empty the store.
        let in_use_bytes = usage.physical_bytes.saturating_sub(usage.reclaimable_bytes);
        let for_limit = self.for_limit(in_use_bytes, wanted_bytes);
        let for_volume = usage.volume_free_bytes.map_or(0, |free_bytes| {
            self.for_volume(free_bytes.saturating_add(usage.reclaimable_bytes), wanted_bytes)
        });
        for_limit.max(for_volume).min(in_use_bytes)
    }

    fn for_limit(&self, in_use_bytes: u64, wanted_bytes: u64) -> u64 {
        let mark = |parts: u64, scale: u64| {
            self.limit_bytes.saturating_sub((self.limit_bytes / parts).min(MARK_BYTES_MAX * scale))
        };
        let high = mark(HIGH_MARK_PARTS, 1);
        let low = mark(LOW_MARK_PARTS, 2);
        let needed = in_use_bytes.saturating_add(wanted_bytes);
        // A refused writer needs room even below the high mark: the implementation also counts
        // the blobs that are being written.
        if needed > high || wanted_bytes > 0 { needed.saturating_sub(low).max(wanted_bytes) } else { 0 }
    }

    fn for_volume(&self, free_bytes: u64, wanted_bytes: u64) -> u64 {
        let mark = (self.limit_bytes / HIGH_MARK_PARTS).min(VOLUME_MARK_BYTES_MAX);
        let keep = self.reserve_bytes.saturating_add(wanted_bytes);
        if free_bytes < keep.saturating_add(mark) {
            keep.saturating_add(mark.saturating_mul(2)).saturating_sub(free_bytes)
        } else {
            0
        }
    }
}

/// An entry that may be evicted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvictionCandidate {
    /// The worth of the entry.
    pub worth: Worth,
    /// About how much its deletion frees.
    pub physical_bytes: u64,
    /// The entry that eviction would remove.
    pub what: Evictable,
}

/// An entry of either kind that may be evicted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Evictable {
    /// A result, and those of its blobs that no other result names.
    Action(ActionKey),
    /// A blob that no result names, by its BLAKE3.
    Orphan(Digest),
}

/// Orders by worth. The other fields only make the order total, so that a selection does not depend
/// on the order of the scan.
impl Ord for EvictionCandidate {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.worth
            .cmp(&other.worth)
            .then_with(|| other.physical_bytes.cmp(&self.physical_bytes))
            .then_with(|| self.what.cmp(&other.what))
    }
}

impl PartialOrd for EvictionCandidate {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// The candidates of least worth among all that were offered.
pub struct EvictionSelection {
    candidates_max: usize,
    chosen: BinaryHeap<EvictionCandidate>,
    overflowed: bool,
}

impl EvictionSelection {
    /// Makes an empty selection that keeps at most `candidates_max`.
    pub fn new(candidates_max: usize) -> Self {
        EvictionSelection { candidates_max, chosen: BinaryHeap::new(), overflowed: false }
    }

    /// Selects a candidate. If the selection is full, the one of most worth is dropped, which may be this one.
    pub fn offer(&mut self, candidate: EvictionCandidate) {
        if self.chosen.len() < self.candidates_max {
            self.chosen.push(candidate);
            return;
        }
        self.overflowed = true;
        if let Some(mut worthiest) = self.chosen.peek_mut()
            && candidate < *worthiest
        {
            *worthiest = candidate;
        }
    }

    /// Tells whether a candidate was dropped because the selection was full.
    pub fn overflowed(&self) -> bool {
        self.overflowed
    }

    /// Returns the selected candidates, those of least worth first.
    pub fn into_order(self) -> Vec<EvictionCandidate> {
        self.chosen.into_sorted_vec()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::digest::{DigestFunction, Hash};

    fn usage(physical_bytes: u64, volume_free_bytes: Option<u64>) -> Usage {
        Usage { physical_bytes, volume_free_bytes, ..Default::default() }
    }

    #[test]
    fn sto_06_eviction_begins_at_the_high_mark_and_aims_at_the_low_one() {
        let limits = SizeLimits { limit_bytes: 1_600, reserve_bytes: 0 };
        assert_eq!(limits.bytes_to_free(&usage(1_500, None), 0), 0);
        assert_eq!(limits.bytes_to_free(&usage(1_501, None), 0), 101);
        assert_eq!(limits.bytes_to_free(&usage(1_600, None), 0), 200);
    }

    #[test]
    fn sto_06_a_refused_writer_starts_eviction_below_the_high_mark() {
        let limits = SizeLimits { limit_bytes: 1_600, reserve_bytes: 0 };
        assert_eq!(limits.bytes_to_free(&usage(1_000, None), 900), 900);
        assert_eq!(limits.bytes_to_free(&usage(1_000, None), 10), 10);
        assert_eq!(limits.bytes_to_free(&usage(0, None), 10), 0, "there is nothing to free");
    }

    #[test]
    fn sto_07_eviction_frees_the_reserve_of_the_volume() {
        let limits = SizeLimits { limit_bytes: 1_600, reserve_bytes: 1_000 };
        assert_eq!(limits.bytes_to_free(&usage(800, Some(1_100)), 0), 0);
        assert_eq!(limits.bytes_to_free(&usage(800, Some(1_099)), 0), 101);
        assert_eq!(limits.bytes_to_free(&usage(800, Some(500)), 0), 700);
        assert_eq!(limits.bytes_to_free(&usage(800, Some(0)), 0), 800, "no more than there is");
    }

    #[test]
    fn deleted_bytes_that_await_compaction_are_not_evicted_again() {
        let limits = SizeLimits { limit_bytes: 1_600, reserve_bytes: 1_000 };
        let waiting = Usage { reclaimable_bytes: 200, ..usage(1_600, Some(900)) };
        assert_eq!(limits.bytes_to_free(&waiting, 0), 0);
    }

    #[test]
    fn a_store_with_a_large_limit_leaves_little_unused() {
        let limits = SizeLimits { limit_bytes: 1 << 40, reserve_bytes: 0 };
        assert_eq!(limits.bytes_to_free(&usage((1 << 40) - (5 << 30), None), 0), 0);
    }

    fn candidate((cost_ms, physical_bytes, name): (u64, u64, u8)) -> EvictionCandidate {
        let worth = Worth::of(cost_ms, 1 << 20, 0);
        let what = Evictable::Orphan(Digest::new(DigestFunction::Blake3, Hash([name; 32]), physical_bytes));
        EvictionCandidate { worth, physical_bytes, what }
    }

    proptest! {
        #[test]
        fn the_selection_does_not_depend_on_the_order_of_the_scan(
            entries in proptest::collection::vec((1u64..9, 1u64..9, any::<u8>()), 0..60).prop_shuffle(),
            candidates_max in 0usize..80,
        ) {
            let mut sorted: Vec<_> = entries.iter().copied().map(candidate).collect();
            sorted.sort();
            let mut selection = EvictionSelection::new(candidates_max);
            entries.into_iter().for_each(|entry| selection.offer(candidate(entry)));
            prop_assert_eq!(selection.overflowed(), sorted.len() > candidates_max);
            sorted.truncate(candidates_max);
            prop_assert_eq!(selection.into_order(), sorted);
        }
    }
}
