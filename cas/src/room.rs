//! Lets a writer that finds the store full evict a little, in its own thread, before it gives up.
//!
//! Maintenance keeps room free ahead of need; this decorator is for writers that are faster than
//! maintenance. A writer that is refused evicts in bounded steps and tries again; if nothing may
//! be evicted, it is refused quickly. Reads pass straight through: no hit waits for eviction
//! (STO-10). The implementation keeps the limit and says when it is met (STO-06); this decorator
//! only decides what to do then.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use kache_proto::reapi::ActionResult;
use parking_lot::Mutex;

use crate::clock::{Clock, Stopwatch};
use crate::digest::{BlobNames, Digest, DigestFunction, Hash};
use crate::error::StoreError;
use crate::evict::{Catalog, EvictionStep, EvictionTarget, Evictor, SizeLimits};
use crate::metering::Meter;
use crate::store::{
    AccessKind, ActionCache, ActionKey, BlobStore, BlobWriter, Content, Link, LinkedFile, LocalFiles,
    PlaceOptions, Sharing, StoredResult,
};

/// How long one write may spend on making room. With a longer wait its client would be better off
/// without the cache.
pub const MAKE_ROOM_MAX: Duration = Duration::from_millis(250);

/// How often one write is attempted: other writers may take the room that it made.
const ATTEMPTS_MAX: usize = 4;

/// The one evictor of a store, shared by the writers that need room and by maintenance.
pub struct SharedEvictor<S: ?Sized> {
    store: Arc<S>,
    clock: Arc<dyn Clock>,
    /// A step that panics loses its round, which is taken out of the evictor during the step; the
    /// rest of the evictor is consistent.
    evictor: Mutex<Evictor>,
    meter: Arc<Meter>,
    /// Whether a writer found no room, and no step of eviction since has ended with nothing due.
    is_short_of_room: AtomicBool,
}

impl<S: BlobStore + Catalog> SharedEvictor<S> {
    /// Makes the evictor of `store`, which keeps to `limits`.
    pub fn new(store: Arc<S>, clock: Arc<dyn Clock>, limits: SizeLimits, meter: Arc<Meter>) -> Self {
        let (evictor, is_short_of_room) = (Mutex::new(Evictor::new(limits)), AtomicBool::new(false));
        SharedEvictor { store, clock, evictor, meter, is_short_of_room }
    }

    /// Makes one step of eviction if any is due. Waits while another thread makes a step.
    pub fn step(&self) -> Result<EvictionStep, StoreError> {
        self.step_locked(&mut self.evictor.lock())
    }

    fn step_locked(&self, evictor: &mut Evictor) -> Result<EvictionStep, StoreError> {
        let target = EvictionTarget { catalog: &*self.store, blobs: &*self.store, clock: &*self.clock };
        let step = evictor.step(&target)?;
        self.is_short_of_room.store(step.more_is_due, Ordering::Relaxed);
        self.meter.actions_evicted.add(step.evicted.actions);
        self.meter.blobs_evicted.add(step.evicted.blobs);
        self.meter.bytes_evicted.add(step.evicted.physical_bytes);
        Ok(step)
    }

    /// Evicts until about `wanted_bytes` are free, nothing more may be evicted, or
    /// [`MAKE_ROOM_MAX`] has passed. Returns whether anything was evicted.
    fn make_room(&self, wanted_bytes: u64, since: Stopwatch) -> bool {
        self.evictor.lock().want(wanted_bytes);
        let mut freed_bytes = 0;
        while freed_bytes < wanted_bytes.max(1) {
            // Maintenance meets the same error and reports it; the writer reports that it found no
            // room.
            let Ok(step) = self.step() else { break };
            freed_bytes += step.evicted.physical_bytes;
            if !step.more_is_due || since.elapsed() >= MAKE_ROOM_MAX {
                break;
            }
        }
        freed_bytes > 0
    }

    /// Runs `attempt`; while it fails for want of room, makes some and runs it again.
    fn with_room<T>(&self, attempt: impl Fn() -> Result<T, StoreError>) -> Result<T, StoreError> {
        let since = Stopwatch::start();
        for _ in 1..ATTEMPTS_MAX {
            let wanted_bytes = match attempt() {
                Err(StoreError::NoSpace { wanted_bytes, .. }) => wanted_bytes,
                outcome => return outcome,
            };
            let is_enough = since.elapsed() >= MAKE_ROOM_MAX || !self.make_room(wanted_bytes, since);
            self.is_short_of_room.store(true, Ordering::Relaxed);
            if is_enough {
                break;
            }
        }
        attempt()
    }
}

/// Decorates a store so that its writers make room when it is full.
pub struct EvictingStore<S: ?Sized, E: ?Sized> {
    inner: Arc<S>,
    room: Arc<SharedEvictor<E>>,
}

impl<S: ?Sized, E: BlobStore + Catalog> EvictingStore<S, E> {
    /// Decorates `inner`; `room` evicts from the same store.
    pub fn new(inner: Arc<S>, room: Arc<SharedEvictor<E>>) -> Self {
        EvictingStore { inner, room }
    }
}

impl<S: BlobStore + ?Sized, E: BlobStore + Catalog> BlobStore for EvictingStore<S, E> {
    fn find_missing(&self, digests: &[Digest], access: AccessKind) -> Result<Vec<bool>, StoreError> {
        self.inner.find_missing(digests, access)
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
        self.room.with_room(|| self.inner.create(digest))
    }

    fn insert(&self, blobs: &[(Digest, Bytes)]) -> Vec<Result<(), StoreError>> {
        let mut outcomes = self.inner.insert(blobs);
        for (blob, outcome) in blobs.iter().zip(&mut outcomes) {
            if matches!(outcome, Err(StoreError::NoSpace { .. })) {
                let again = || self.inner.insert(std::slice::from_ref(blob)).remove(0);
                *outcome = self.room.with_room(again);
            }
        }
        outcomes
    }

    fn deletions(&self) -> u64 {
        self.inner.deletions()
    }

    fn may_block(&self) -> bool {
        self.inner.may_block() || self.room.is_short_of_room.load(Ordering::Relaxed)
    }
}

impl<S: ActionCache + ?Sized, E: BlobStore + Catalog> ActionCache for EvictingStore<S, E> {
    fn get(&self, key: &ActionKey, access: AccessKind) -> Result<Option<StoredResult>, StoreError> {
        self.inner.get(key, access)
    }

    fn put(&self, key: &ActionKey, result: &ActionResult) -> Result<StoredResult, StoreError> {
        self.room.with_room(|| self.inner.put(key, result))
    }

    fn remove(&self, key: &ActionKey) -> Result<bool, StoreError> {
        self.inner.remove(key)
    }

    fn page(
        &self,
        after: Option<&ActionKey>,
        results_max: usize,
    ) -> Result<Vec<(ActionKey, StoredResult)>, StoreError> {
        self.inner.page(after, results_max)
    }
}

impl<S: LocalFiles + ?Sized, E: BlobStore + Catalog> LocalFiles for EvictingStore<S, E> {
    fn ingest(
        &self,
        path: &Path,
        function: DigestFunction,
        sharing: Sharing,
    ) -> Result<(BlobNames, LinkedFile), StoreError> {
        self.room.with_room(|| self.inner.ingest(path, function, sharing))
    }

    fn place(
        &self,
        digest: &Digest,
        path: &Path,
        placing: &PlaceOptions<'_>,
    ) -> Result<Option<LinkedFile>, StoreError> {
        self.inner.place(digest, path, placing)
    }

    fn shares(&self, directory: &Path) -> Result<Link, StoreError> {
        self.inner.shares(directory)
    }
}

#[cfg(test)]
#[path = "room_tests.rs"]
mod tests;
