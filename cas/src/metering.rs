//! A decorator that counts the requests to a store, for reports and `/metrics`.
//!
//! Counters only grow, and no decision depends on them. Each is one relaxed atomic, so counting
//! a hit takes a nanosecond.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use kache_proto::reapi::ActionResult;

use crate::digest::{BlobNames, Digest, DigestFunction, Hash};
use crate::error::StoreError;
use crate::store::{
    AccessKind, ActionCache, ActionKey, BlobStore, BlobWriter, Content, Link, LinkedFile, LocalFiles,
    PlaceOptions, Sharing, StoredResult,
};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// How often each thing happened since the store was opened.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counters {
            $($(#[$doc])* pub $name: u64,)*
        }

        /// The running counters, which all decorators share.
        #[derive(Debug, Default)]
        pub struct Meter {
            $($(#[$doc])* pub $name: Counter,)*
        }

        impl Meter {
            /// Reads all counters. Each value is exact; they are of about the same moment.
            pub fn read(&self) -> Counters {
                Counters { $($name: self.$name.read(),)* }
            }
        }
    };
}

counters! {
    /// Lookups of action results that returned one.
    action_hits,
    /// Lookups of action results that found none, or an incomplete one.
    action_misses,
    /// Lookups that found an action result which names a missing blob.
    actions_incomplete,
    /// Action results that were stored.
    action_puts,
    /// Blobs opened for reading or placed as files.
    blob_hits,
    /// Requests for blobs that the store does not have.
    blob_misses,
    /// The sizes of the blobs counted in `blob_hits`.
    blob_bytes_out,
    /// Blobs stored, including those that the store had already.
    blob_puts,
    /// The sizes of the blobs stored.
    blob_bytes_in,
    /// Digests for which a client asked whether the blob is present.
    presence_checks,
    /// Digests of which the answer was that the blob is missing.
    presence_missing,
    /// Blobs and results rejected because the caller's data was wrong.
    refused,
    /// Writes that found no room.
    no_space,
    /// Blobs found damaged and taken out of service.
    damaged,
    /// Operations that failed for another reason.
    failures,
    /// Action results that were evicted.
    actions_evicted,
    /// Blobs that were evicted.
    blobs_evicted,
    /// Physical bytes freed by eviction.
    bytes_evicted,
}

/// One number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one to the number.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Raises the counter by `count`.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Returns the present value.
    pub fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Meter {
    /// Counts an operation that failed, in the counter for its cause.
    pub fn failed(&self, error: &StoreError) {
        let counter = match error {
            StoreError::Damaged { .. } => &self.damaged,
            error if error.is_callers_fault() => &self.refused,
            error if error.is_no_space() => &self.no_space,
            _ => &self.failures,
        };
        counter.increment();
    }

    fn count_failure<T>(&self, outcome: Result<T, StoreError>) -> Result<T, StoreError> {
        outcome.inspect_err(|error| self.failed(error))
    }

    fn served(&self, size_bytes: u64) {
        self.blob_hits.increment();
        self.blob_bytes_out.add(size_bytes);
    }

    fn stored(&self, size_bytes: u64) {
        self.blob_puts.increment();
        self.blob_bytes_in.add(size_bytes);
    }
}

/// Decorates a store so that its requests are counted.
pub struct MeteredStore<S: ?Sized> {
    meter: Arc<Meter>,
    inner: Arc<S>,
}

impl<S: ?Sized> MeteredStore<S> {
    /// Returns a store that counts the calls of `inner` in `meter`.
    pub fn new(inner: Arc<S>, meter: Arc<Meter>) -> Self {
        MeteredStore { meter, inner }
    }
}

impl<S: BlobStore + ?Sized> BlobStore for MeteredStore<S> {
    fn find_missing(&self, digests: &[Digest], access: AccessKind) -> Result<Vec<bool>, StoreError> {
        let missing = self.meter.count_failure(self.inner.find_missing(digests, access))?;
        self.meter.presence_checks.add(missing.len() as u64);
        self.meter.presence_missing.add(missing.iter().filter(|&&is_missing| is_missing).count() as u64);
        Ok(missing)
    }

    fn open(&self, digest: &Digest, access: AccessKind) -> Result<Option<Content>, StoreError> {
        let content = self.meter.count_failure(self.inner.open(digest, access))?;
        match &content {
            Some(content) => self.meter.served(content.size_bytes()),
            None => self.meter.blob_misses.increment(),
        }
        Ok(content)
    }

    fn size_of(&self, function: DigestFunction, hash: Hash) -> Result<Option<u64>, StoreError> {
        self.meter.count_failure(self.inner.size_of(function, hash))
    }

    fn names_of(&self, digest: &Digest) -> Result<Option<BlobNames>, StoreError> {
        self.meter.count_failure(self.inner.names_of(digest))
    }

    fn create(&self, digest: &Digest) -> Result<Box<dyn BlobWriter>, StoreError> {
        let inner = self.meter.count_failure(self.inner.create(digest))?;
        Ok(Box::new(MeteredWriter { meter: Arc::clone(&self.meter), inner }))
    }

    fn insert(&self, blobs: &[(Digest, Bytes)]) -> Vec<Result<(), StoreError>> {
        let outcomes = self.inner.insert(blobs);
        for ((_, bytes), outcome) in blobs.iter().zip(&outcomes) {
            match outcome {
                Ok(()) => self.meter.stored(bytes.len() as u64),
                Err(error) => self.meter.failed(error),
            }
        }
        outcomes
    }

    fn deletions(&self) -> u64 {
        self.inner.deletions()
    }

    fn may_block(&self) -> bool {
        self.inner.may_block()
    }
}

struct MeteredWriter {
    meter: Arc<Meter>,
    inner: Box<dyn BlobWriter>,
}

impl BlobWriter for MeteredWriter {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.meter.count_failure(self.inner.write(bytes))
    }

    fn commit(self: Box<Self>) -> Result<BlobNames, StoreError> {
        let names = self.meter.count_failure(self.inner.commit())?;
        self.meter.stored(names.size_bytes);
        Ok(names)
    }
}

impl<S: ActionCache + ?Sized> ActionCache for MeteredStore<S> {
    fn get(&self, key: &ActionKey, access: AccessKind) -> Result<Option<StoredResult>, StoreError> {
        let found = self.meter.count_failure(self.inner.get(key, access))?;
        match &found {
            // A peek is part of another request, which is counted by itself.
            _ if access == AccessKind::Peek => {}
            Some(_) => self.meter.action_hits.increment(),
            None => self.meter.action_misses.increment(),
        }
        Ok(found)
    }

    fn put(&self, key: &ActionKey, result: &ActionResult) -> Result<StoredResult, StoreError> {
        let stored = self.meter.count_failure(self.inner.put(key, result))?;
        self.meter.action_puts.increment();
        Ok(stored)
    }

    fn remove(&self, key: &ActionKey) -> Result<bool, StoreError> {
        self.meter.count_failure(self.inner.remove(key))
    }

    fn page(
        &self,
        after: Option<&ActionKey>,
        results_max: usize,
    ) -> Result<Vec<(ActionKey, StoredResult)>, StoreError> {
        self.meter.count_failure(self.inner.page(after, results_max))
    }
}

impl<S: LocalFiles + ?Sized> LocalFiles for MeteredStore<S> {
    fn ingest(
        &self,
        path: &Path,
        function: DigestFunction,
        sharing: Sharing,
    ) -> Result<(BlobNames, LinkedFile), StoreError> {
        let (names, linked) = self.meter.count_failure(self.inner.ingest(path, function, sharing))?;
        self.meter.stored(names.size_bytes);
        Ok((names, linked))
    }

    fn place(
        &self,
        digest: &Digest,
        path: &Path,
        placing: &PlaceOptions<'_>,
    ) -> Result<Option<LinkedFile>, StoreError> {
        let linked = self.meter.count_failure(self.inner.place(digest, path, placing))?;
        match linked {
            Some(_) => self.meter.served(digest.size_bytes),
            None => self.meter.blob_misses.increment(),
        }
        Ok(linked)
    }

    fn shares(&self, directory: &Path) -> Result<Link, StoreError> {
        self.meter.count_failure(self.inner.shares(directory))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::memory::MemoryStore;

    #[test]
    fn each_request_is_counted_once() {
        let meter = Arc::new(Meter::default());
        let memory = Arc::new(MemoryStore::new(Arc::new(ManualClock::default())));
        let store = MeteredStore::new(memory, Arc::clone(&meter));
        let digest = Digest::of(DigestFunction::Sha256, b"bytes");
        let other = Digest::of(DigestFunction::Sha256, b"other");

        let outcomes =
            store.insert(&[(digest, Bytes::from_static(b"bytes")), (other, Bytes::from_static(b"wrong"))]);
        assert!(outcomes[0].is_ok() && outcomes[1].is_err());
        let mut writer = store.create(&digest).unwrap();
        writer.write(b"bytes").unwrap();
        writer.commit().unwrap();
        store.find_missing(&[digest, other], AccessKind::Peek).unwrap();
        store.open(&digest, AccessKind::Use).unwrap();
        store.open(&other, AccessKind::Use).unwrap();

        let key = ActionKey { instance: "".into(), function: DigestFunction::Sha256, hash: digest.hash };
        store.get(&key, AccessKind::Use).unwrap();
        store.get(&key, AccessKind::Peek).unwrap();
        store.put(&key, &ActionResult::default()).unwrap();
        store.get(&key, AccessKind::Use).unwrap();

        let expected = Counters {
            action_hits: 1,
            action_misses: 1,
            action_puts: 1,
            blob_hits: 1,
            blob_misses: 1,
            blob_bytes_out: 5,
            blob_puts: 2,
            blob_bytes_in: 10,
            presence_checks: 2,
            presence_missing: 1,
            refused: 1,
            ..Default::default()
        };
        assert_eq!(meter.read(), expected);
    }

    #[test]
    fn a_failure_is_counted_by_its_cause() {
        let meter = Meter::default();
        let digest = Digest::of(DigestFunction::Sha256, b"x");
        meter.failed(&StoreError::Damaged { digest });
        meter.failed(&StoreError::NoSpace { wanted_bytes: 1, why: String::new() });
        meter.failed(&StoreError::Closing);
        let expected = Counters { damaged: 1, no_space: 1, failures: 1, ..Default::default() };
        assert_eq!(meter.read(), expected);
    }
}
