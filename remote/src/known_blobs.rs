//! The hashes of blobs that a remote is known to have.
//!
//! HTTP and S3 cannot be asked about many blobs at once, so what they confirmed is remembered for a while.
//! The memory is bounded: the hashes that were confirmed first are forgotten first.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use kache_cas::Hash;
use parking_lot::Mutex;
use tokio::time::Instant;

/// How long a confirmation counts. A server may evict a blob sooner; the result that names it is then a miss.
const AGE_MAX: Duration = Duration::from_secs(3600);

/// The number of remembered hashes, which need about 10 MB.
const HASHES_MAX: usize = 65_536;

/// The hashes that a remote confirmed lately.
#[derive(Debug)]
pub(crate) struct KnownBlobs {
    state: Mutex<State>,
    hashes_max: usize,
}

#[derive(Debug, Default)]
struct State {
    confirmed: HashMap<Hash, Instant>,
    /// All confirmations in their order. One that is not in `confirmed` any more, or is there with a later
    /// time, has no effect.
    order: VecDeque<(Instant, Hash)>,
}

impl Default for KnownBlobs {
    fn default() -> Self {
        KnownBlobs { state: Mutex::default(), hashes_max: HASHES_MAX }
    }
}

impl KnownBlobs {
    /// Remembers that the remote has this blob now.
    pub(crate) fn confirm(&self, hash: Hash) {
        let now = Instant::now();
        let mut state = self.state.lock();
        state.confirmed.insert(hash, now);
        state.order.push_back((now, hash));
        while state.order.len() > self.hashes_max {
            state.drop_oldest();
        }
    }

    /// Forgets a blob that the remote turned out not to have.
    pub(crate) fn forget(&self, hash: Hash) {
        self.state.lock().confirmed.remove(&hash);
    }

    /// Whether the remote confirmed the blob within the last hour.
    pub(crate) fn is_known(&self, hash: Hash) -> bool {
        let state = self.state.lock();
        state.confirmed.get(&hash).is_some_and(|confirmed| confirmed.elapsed() < AGE_MAX)
    }
}

impl State {
    fn drop_oldest(&mut self) {
        let Some((at, hash)) = self.order.pop_front() else { return };
        if self.confirmed.get(&hash) == Some(&at) {
            self.confirmed.remove(&hash);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(byte: u8) -> Hash {
        Hash([byte; 32])
    }

    #[tokio::test(start_paused = true)]
    async fn confirmations_count_for_an_hour() {
        let known = KnownBlobs::default();
        known.confirm(hash(1));
        tokio::time::advance(Duration::from_secs(3599)).await;
        assert!(known.is_known(hash(1)) && !known.is_known(hash(2)));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!known.is_known(hash(1)));
        known.confirm(hash(1));
        assert!(known.is_known(hash(1)));
        known.forget(hash(1));
        assert!(!known.is_known(hash(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_are_forgotten_first() {
        let known = KnownBlobs { hashes_max: 3, ..KnownBlobs::default() };
        for byte in [1, 2, 1, 3] {
            known.confirm(hash(byte));
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!([1, 2, 3, 4].map(|byte| known.is_known(hash(byte))), [true, true, true, false]);
        known.confirm(hash(4));
        assert_eq!([1, 2, 3, 4].map(|byte| known.is_known(hash(byte))), [true, false, true, true]);
    }
}
