//! `BlobStore` and `ActionCache` in memory.
//!
//! One lock around everything: a lookup and the lease it grants are one step, which is
//! what STO-04 rests on. Only checked bytes come past `commit` (STO-02).

use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;

use super::state::{State, order};
use crate::clock::Clock;
use crate::digest::{Digest, DigestFunction, Hash, Names};
use crate::error::StoreError;
use crate::store::{ActionCache, ActionKey, BlobStore, BlobWriter, Content, Mention, StoredResult};
use crate::verify::Claim;

/// A store in memory.
pub struct MemoryStore {
    state: Arc<Mutex<State>>,
    clock: Arc<dyn Clock>,
}

impl MemoryStore {
    /// An empty store that tells the time by this clock.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        MemoryStore { state: Arc::default(), clock }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().expect("no holder of this lock panics: maps and sums only")
}

impl BlobStore for MemoryStore {
    fn find_missing(&self, digests: &[Digest], mention: Mention) -> Result<Vec<bool>, StoreError> {
        let now_ms = self.now_ms();
        let mut state = self.state();
        let is_missing = |digest: &Digest| {
            !digest.is_empty_blob() && state.mention_blob(digest, mention, now_ms).is_none()
        };
        Ok(digests.iter().map(is_missing).collect())
    }

    fn open(&self, digest: &Digest, mention: Mention) -> Result<Option<Content>, StoreError> {
        if digest.is_empty_blob() {
            return Ok(Some(Content::Memory(Bytes::new())));
        }
        let now_ms = self.now_ms();
        let mut state = self.state();
        let record = state.mention_blob(digest, mention, now_ms);
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

    fn create(&self, digest: &Digest) -> Result<Box<dyn BlobWriter>, StoreError> {
        Ok(Box::new(MemoryWriter {
            claim: Claim::new(digest),
            bytes: Vec::new(),
            state: Arc::clone(&self.state),
            clock: Arc::clone(&self.clock),
        }))
    }

    fn deletions(&self) -> u64 {
        self.state().deletions
    }
}

struct MemoryWriter {
    claim: Claim,
    bytes: Vec<u8>,
    state: Arc<Mutex<State>>,
    clock: Arc<dyn Clock>,
}

impl BlobWriter for MemoryWriter {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.claim.take(bytes)?;
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn commit(self: Box<Self>) -> Result<Names, StoreError> {
        let names = self.claim.settle()?;
        if names.size_bytes > 0 {
            lock(&self.state).add_blob(&names, Bytes::from(self.bytes), self.clock.now_ms());
        }
        Ok(names)
    }
}

impl ActionCache for MemoryStore {
    fn get(&self, key: &ActionKey, mention: Mention) -> Result<Option<StoredResult>, StoreError> {
        let now_ms = self.now_ms();
        let mut state = self.state();
        let Some(record) = state.actions.get_mut(&order(key)) else { return Ok(None) };
        record.touch = record.touch.mentioned(mention, now_ms);
        Ok(Some(record.result.clone()))
    }

    fn put(
        &self,
        key: &ActionKey,
        result: &kache_proto::reapi::ActionResult,
    ) -> Result<StoredResult, StoreError> {
        let admitted = crate::references::admit(key.function, result.clone())?;
        let stored = StoredResult::new(&admitted);
        self.state().add_action(key, stored.clone(), self.now_ms());
        Ok(stored)
    }

    fn remove(&self, key: &ActionKey) -> Result<bool, StoreError> {
        Ok(self.state().remove_action(&order(key)).is_some())
    }
}
