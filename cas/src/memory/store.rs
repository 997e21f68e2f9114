//! `BlobStore` and `ActionCache` in memory.
//!
//! One lock guards everything, so a lookup and the lease that it grants are one step (STO-04).
//! `commit` accepts only bytes that were checked (STO-02).

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};

use super::state::{MemoryState, key, order};
use crate::clock::Clock;
use crate::digest::{BlobNames, Digest, DigestFunction, Hash};
use crate::error::StoreError;
use crate::store::{AccessKind, ActionCache, ActionKey, BlobStore, BlobWriter, Content, StoredResult};
use crate::verify::DigestCheck;

/// A store in memory, for tests: nothing of it outlives the value.
pub struct MemoryStore {
    state: Arc<Mutex<MemoryState>>,
    clock: Arc<dyn Clock>,
    limit_bytes: u64,
}

impl MemoryStore {
    /// Makes an empty store without a limit.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        MemoryStore::limited(clock, u64::MAX)
    }

    /// Makes an empty store that holds at most `limit_bytes`.
    pub fn limited(clock: Arc<dyn Clock>, limit_bytes: u64) -> Self {
        MemoryStore { state: Arc::default(), clock, limit_bytes }
    }

    pub(super) fn limit_bytes(&self) -> u64 {
        self.limit_bytes
    }

    pub(super) fn state(&self) -> MutexGuard<'_, MemoryState> {
        self.state.lock()
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }
}

impl BlobStore for MemoryStore {
    fn find_missing(&self, digests: &[Digest], access: AccessKind) -> Result<Vec<bool>, StoreError> {
        let now_ms = self.now_ms();
        let mut state = self.state();
        let is_missing =
            |digest: &Digest| !digest.is_empty_blob() && state.access_blob(digest, access, now_ms).is_none();
        Ok(digests.iter().map(is_missing).collect())
    }

    fn open(&self, digest: &Digest, access: AccessKind) -> Result<Option<Content>, StoreError> {
        if digest.is_empty_blob() {
            return Ok(Some(Content::Memory(Bytes::new())));
        }
        let now_ms = self.now_ms();
        let mut state = self.state();
        let record = state.access_blob(digest, access, now_ms);
        Ok(record.map(|record| Content::Memory(record.bytes.clone())))
    }

    fn size_of(&self, function: DigestFunction, hash: Hash) -> Result<Option<u64>, StoreError> {
        if Digest::<crate::digest::Blob>::new(function, hash, 0).is_empty_blob() {
            return Ok(Some(0));
        }
        let state = self.state();
        let record = state.blake3_of(function, hash).and_then(|blake3| state.blobs.get(&blake3));
        Ok(record.map(|record| record.bytes.len() as u64))
    }

    fn names_of(&self, digest: &Digest) -> Result<Option<BlobNames>, StoreError> {
        let state = self.state();
        let blake3 = state.blake3_of(digest.function, digest.hash);
        let record = blake3.and_then(|blake3| Some((blake3, state.blobs.get(&blake3)?)));
        let names = record.map(|(blake3, record)| BlobNames {
            blake3,
            sha256: state.aliases.iter().find(|(_, to)| **to == blake3).map(|(sha256, _)| *sha256),
            size_bytes: record.bytes.len() as u64,
        });
        Ok(names.filter(|names| names.size_bytes == digest.size_bytes))
    }

    fn create(&self, digest: &Digest) -> Result<Box<dyn BlobWriter>, StoreError> {
        self.state().reserve(digest.size_bytes, self.limit_bytes)?;
        Ok(Box::new(MemoryWriter {
            size_bytes: digest.size_bytes,
            check: Some(DigestCheck::new(digest)),
            bytes: Vec::new(),
            state: Arc::clone(&self.state),
            clock: Arc::clone(&self.clock),
        }))
    }

    fn deletions(&self) -> u64 {
        self.state().deletions
    }

    fn may_block(&self) -> bool {
        false
    }
}

/// A blob that is being written. Its reservation ends when it is dropped, after `commit` has counted
/// the bytes.
struct MemoryWriter {
    size_bytes: u64,
    /// `None` once `commit` has run.
    check: Option<DigestCheck>,
    bytes: Vec<u8>,
    state: Arc<Mutex<MemoryState>>,
    clock: Arc<dyn Clock>,
}

impl BlobWriter for MemoryWriter {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.check.as_mut().expect("`commit` comes last").update(bytes)?;
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn commit(mut self: Box<Self>) -> Result<BlobNames, StoreError> {
        let names = self.check.take().expect("`commit` comes once").finish()?;
        if names.size_bytes > 0 {
            let bytes = Bytes::from(std::mem::take(&mut self.bytes));
            self.state.lock().add_blob(&names, bytes, self.clock.now_ms());
        }
        Ok(names)
    }
}

impl Drop for MemoryWriter {
    fn drop(&mut self) {
        self.state.lock().release(self.size_bytes);
    }
}

impl ActionCache for MemoryStore {
    fn get(&self, key: &ActionKey, access: AccessKind) -> Result<Option<StoredResult>, StoreError> {
        let now_ms = self.now_ms();
        let mut state = self.state();
        let Some(record) = state.actions.get_mut(&order(key)) else { return Ok(None) };
        record.retention = record.retention.accessed(access, now_ms);
        Ok(Some(record.result.clone()))
    }

    fn put(
        &self,
        key: &ActionKey,
        result: &kache_proto::reapi::ActionResult,
    ) -> Result<StoredResult, StoreError> {
        let admitted = crate::references::admit(key.function, result.clone())?;
        let stored = StoredResult::new(&admitted);
        let size_bytes = stored.encoded.len() as u64;
        let now_ms = self.now_ms();
        let mut state = self.state();
        state.reserve(size_bytes, self.limit_bytes)?;
        state.add_action(key, stored.clone(), now_ms);
        state.release(size_bytes);
        Ok(stored)
    }

    fn remove(&self, key: &ActionKey) -> Result<bool, StoreError> {
        Ok(self.state().remove_action(&order(key)).is_some())
    }

    fn page(
        &self,
        after: Option<&ActionKey>,
        results_max: usize,
    ) -> Result<Vec<(ActionKey, StoredResult)>, StoreError> {
        let first = after.map_or(Bound::Unbounded, |key| Bound::Excluded(order(key)));
        let state = self.state();
        let found = state.actions.range((first, Bound::Unbounded)).take(results_max);
        Ok(found.map(|(order, record)| (key(order), record.result.clone())).collect())
    }
}
