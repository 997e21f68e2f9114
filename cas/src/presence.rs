//! A decorator that remembers which blobs are present, so that a second request costs no lookup.
//!
//! Clients ask for the same digests build after build, a thousand at a time. Only presence is
//! remembered, never absence: a missing blob may be uploaded at any moment.
//!
//! Invariant (STO-04): a remembered answer promises no less than the store's own. It is used only
//! while the store's count of deletions has not moved since the store said that the blob is
//! present, and for a promise only while the recorded lease still has a whole
//! [`PROMISE_LEASE`](crate::PROMISE_LEASE) to run.

use std::sync::Arc;

use bytes::Bytes;
use quick_cache::sync::Cache;

use crate::clock::{Clock, duration_ms};
use crate::digest::{BlobNames, Digest, DigestFunction, Hash};
use crate::error::StoreError;
use crate::leases::RENEWAL_SLACK;
use crate::store::{AccessKind, BlobStore, BlobWriter, Content};

/// How many blobs are remembered: at about 90 bytes each, 6 MiB.
const REMEMBERED_MAX: usize = 65_536;

/// The times at which the store said that a blob is present, and its count of deletions then.
#[derive(Clone, Copy)]
struct KnownPresent {
    deletions: u64,
    used_ms: u64,
    promised_ms: u64,
}

impl KnownPresent {
    /// Tells whether this access need not be passed on to the store.
    fn still_covers(&self, deletions: u64, access: AccessKind, now_ms: u64) -> bool {
        // A clock that went back makes nothing recent.
        let recent = |then_ms: u64| {
            now_ms.checked_sub(then_ms).is_some_and(|age_ms| age_ms < duration_ms(RENEWAL_SLACK) / 2)
        };
        let is_covered = match access {
            AccessKind::Peek => true,
            AccessKind::Use => recent(self.used_ms),
            AccessKind::Promise => recent(self.promised_ms),
        };
        is_covered && self.deletions == deletions
    }
}

/// Decorates a store so that it is asked only for blobs that are not remembered.
pub struct PresenceCache<S: ?Sized> {
    inner: Arc<S>,
    clock: Arc<dyn Clock>,
    present: Cache<Digest, KnownPresent>,
}

impl<S: BlobStore + ?Sized> PresenceCache<S> {
    /// Returns a store that remembers which blobs `inner` has.
    pub fn new(inner: Arc<S>, clock: Arc<dyn Clock>) -> Self {
        PresenceCache { inner, clock, present: Cache::new(REMEMBERED_MAX) }
    }

    fn remember(&self, digest: &Digest, deletions: u64, access: AccessKind, now_ms: u64) {
        let before = self.present.get(digest).filter(|before| before.deletions == deletions);
        let mut present = before.unwrap_or(KnownPresent { deletions, used_ms: 0, promised_ms: 0 });
        match access {
            AccessKind::Peek => {}
            AccessKind::Use => present.used_ms = now_ms,
            AccessKind::Promise => (present.used_ms, present.promised_ms) = (now_ms, now_ms),
        }
        self.present.insert(*digest, present);
    }
}

impl<S: BlobStore + ?Sized> BlobStore for PresenceCache<S> {
    fn find_missing(&self, digests: &[Digest], access: AccessKind) -> Result<Vec<bool>, StoreError> {
        let now_ms = self.clock.now_ms();
        // Read before the store is asked, so that a deletion in between makes the answer stale.
        let deletions = self.inner.deletions();
        let is_known = |digest: &Digest| {
            self.present.get(digest).is_some_and(|present| present.still_covers(deletions, access, now_ms))
        };
        let mut answers = vec![false; digests.len()];
        let unknown: Vec<usize> = (0..digests.len()).filter(|&at| !is_known(&digests[at])).collect();
        if unknown.is_empty() {
            return Ok(answers);
        }
        let asked: Vec<Digest> = unknown.iter().map(|&at| digests[at]).collect();
        let missing = self.inner.find_missing(&asked, access)?;
        for (at, is_missing) in unknown.into_iter().zip(missing) {
            answers[at] = is_missing;
            if !is_missing {
                self.remember(&digests[at], deletions, access, now_ms);
            }
        }
        Ok(answers)
    }

    fn open(&self, digest: &Digest, access: AccessKind) -> Result<Option<Content>, StoreError> {
        self.inner.open(digest, access)
    }

    fn size_of(&self, function: DigestFunction, hash: Hash) -> Result<Option<u64>, StoreError> {
        self.inner.size_of(function, hash)
    }

    fn names_of(&self, digest: &Digest) -> Result<Option<BlobNames>, StoreError> {
        self.inner.names_of(digest)
    }

    fn create(&self, digest: &Digest) -> Result<Box<dyn BlobWriter>, StoreError> {
        self.inner.create(digest)
    }

    fn insert(&self, blobs: &[(Digest, Bytes)]) -> Vec<Result<(), StoreError>> {
        self.inner.insert(blobs)
    }

    fn deletions(&self) -> u64 {
        self.inner.deletions()
    }

    fn may_block(&self) -> bool {
        self.inner.may_block()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use std::time::Duration;

    use super::*;
    use crate::clock::ManualClock;

    /// Has every blob of even size and no blob of odd size, and counts the digests it is asked for.
    #[derive(Default)]
    struct Fake {
        asked: AtomicU64,
        deletions: AtomicU64,
        may_block: AtomicBool,
    }

    impl BlobStore for Fake {
        fn find_missing(&self, digests: &[Digest], _access: AccessKind) -> Result<Vec<bool>, StoreError> {
            self.asked.fetch_add(digests.len() as u64, Ordering::Relaxed);
            Ok(digests.iter().map(|digest| digest.size_bytes % 2 == 1).collect())
        }
        fn open(&self, _digest: &Digest, _access: AccessKind) -> Result<Option<Content>, StoreError> {
            Ok(None)
        }
        fn size_of(&self, _function: DigestFunction, _hash: Hash) -> Result<Option<u64>, StoreError> {
            Ok(None)
        }
        fn names_of(&self, _digest: &Digest) -> Result<Option<BlobNames>, StoreError> {
            Ok(None)
        }
        fn create(&self, _digest: &Digest) -> Result<Box<dyn BlobWriter>, StoreError> {
            Err(StoreError::Closing)
        }
        fn deletions(&self) -> u64 {
            self.deletions.load(Ordering::Relaxed)
        }
        fn may_block(&self) -> bool {
            self.may_block.load(Ordering::Relaxed)
        }
    }

    fn digest(size_bytes: u64) -> Digest {
        Digest::new(DigestFunction::Sha256, Hash([1; Hash::LEN]), size_bytes)
    }

    fn setup() -> (Arc<Fake>, Arc<ManualClock>, PresenceCache<Fake>) {
        let (fake, clock) = (Arc::new(Fake::default()), Arc::new(ManualClock::default()));
        clock.advance(Duration::from_secs(1_000_000));
        let presence = PresenceCache::new(Arc::clone(&fake), Arc::clone(&clock) as Arc<dyn Clock>);
        (fake, clock, presence)
    }

    /// Asks for the digests, and returns how many of them the store was asked for.
    fn ask(presence: &PresenceCache<Fake>, digests: &[Digest], access: AccessKind, expected: &[bool]) -> u64 {
        let before = presence.inner.asked.load(Ordering::Relaxed);
        assert_eq!(presence.find_missing(digests, access).unwrap(), expected);
        presence.inner.asked.load(Ordering::Relaxed) - before
    }

    #[test]
    fn presence_is_remembered_and_absence_is_not() {
        let (_fake, _clock, presence) = setup();
        let digests = [digest(2), digest(3), digest(4)];
        assert_eq!(ask(&presence, &digests, AccessKind::Promise, &[false, true, false]), 3);
        assert_eq!(ask(&presence, &digests, AccessKind::Promise, &[false, true, false]), 1);
        assert_eq!(ask(&presence, &[digest(6), digest(2)], AccessKind::Promise, &[false, false]), 1);
    }

    #[test]
    fn sto_10_the_store_below_tells_whether_calls_may_block() {
        let (fake, _clock, presence) = setup();
        assert!(!presence.may_block());
        fake.may_block.store(true, Ordering::Relaxed);
        assert!(presence.may_block());
    }

    #[test]
    fn sto_04_a_deletion_invalidates_remembered_presence() {
        let (fake, _clock, presence) = setup();
        assert_eq!(ask(&presence, &[digest(2)], AccessKind::Promise, &[false]), 1);
        fake.deletions.fetch_add(1, Ordering::Relaxed);
        assert_eq!(ask(&presence, &[digest(2)], AccessKind::Promise, &[false]), 1);
        assert_eq!(ask(&presence, &[digest(2)], AccessKind::Promise, &[false]), 0);
    }

    #[test]
    fn sto_04_a_promise_is_renewed_before_less_than_a_whole_one_is_left() {
        let (_fake, clock, presence) = setup();
        assert_eq!(ask(&presence, &[digest(2)], AccessKind::Use, &[false]), 1);
        assert_eq!(ask(&presence, &[digest(2)], AccessKind::Use, &[false]), 0);
        assert_eq!(ask(&presence, &[digest(2)], AccessKind::Promise, &[false]), 1, "a use promises nothing");
        assert_eq!(ask(&presence, &[digest(2)], AccessKind::Promise, &[false]), 0);
        clock.advance(RENEWAL_SLACK);
        assert_eq!(ask(&presence, &[digest(2)], AccessKind::Promise, &[false]), 1);
        assert_eq!(ask(&presence, &[digest(2)], AccessKind::Peek, &[false]), 0);
    }
}
