//! Picks the hits that are verified (`cache.verify_sample`).

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts hits, to pick one of every so many.
#[derive(Debug, Default)]
pub(super) struct Sampler(AtomicU64);

impl Sampler {
    /// Counts a hit. Returns `true` for one in `one_in` hits.
    pub(super) fn count(&self, one_in: u64) -> bool {
        self.0.fetch_add(1, Ordering::Relaxed).is_multiple_of(one_in)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_three_hits_is_picked() {
        let sampler = Sampler::default();
        assert_eq!((0..9).filter(|_| sampler.count(3)).count(), 3);
        assert!(sampler.count(1) && sampler.count(1));
    }
}
