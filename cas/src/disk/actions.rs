//! Action results on disk, and the implementation of the store's traits.
//!
//! A result is one key and one value. This module does not check whether the blobs that a result
//! names are present: the decorator `completeness` does.

use std::path::Path;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use kache_proto::reapi::ActionResult;
use rocksdb::WriteBatch;

use super::commit::RECORD_BYTES;
use super::database::{DbTable, KeyValue};
use super::ledger::Reservation;
use super::record::{Totals, decode_action, decode_action_key, encode_action, encode_action_key};
use super::store::{DiskStore, StoreInner};
use super::uses::action_key;
use super::writer::DiskWriter;
use crate::digest::{BlobNames, Digest, DigestFunction, Hash};
use crate::error::StoreError;
use crate::references::admit;
use crate::store::{
    AccessKind, ActionCache, ActionKey, BlobStore, BlobWriter, Content, Link, LinkedFile, LocalFiles,
    PlaceOptions, Sharing, StoredResult,
};

/// The size of the largest result that is accepted. Ten thousand output files need some megabytes.
pub(super) const ACTION_BYTES_MAX: u64 = 64 << 20;

impl StoreInner {
    fn action(&self, key: &[u8]) -> Result<Option<StoredResult>, StoreError> {
        let value = self.database.get(DbTable::Actions, key, "read an action result")?;
        let decode = |value: &[u8]| {
            let (_, encoded) = decode_action(value)?;
            Ok(StoredResult { encoded: Bytes::copy_from_slice(encoded) })
        };
        value.map(|value| decode(&value)).transpose()
    }

    fn put_action(&self, key: &ActionKey, result: &StoredResult) -> Result<(), StoreError> {
        let size_bytes = result.encoded.len() as u64;
        if size_bytes > ACTION_BYTES_MAX {
            let limit = "ACTION_BYTES_MAX";
            return Err(StoreError::TooLarge { limit, limit_bytes: ACTION_BYTES_MAX, size_bytes });
        }
        let room: Reservation = self.ledger.reserve(size_bytes + RECORD_BYTES)?;
        let _lock = self.locks.enter(key.hash);
        let _entered = self.epochs.enter()?;
        let mut batch = WriteBatch::default();
        let value = encode_action(self.now_ms(), &result.encoded);
        batch.put_cf(self.database.table(DbTable::Actions), encode_action_key(key), value);
        self.database.write(batch, "store an action result")?;
        room.settle(Totals::default(), size_bytes + RECORD_BYTES);
        Ok(())
    }

    /// Deletes a result. The caller holds the lock of its hash.
    pub(super) fn delete_action_locked(&self, key: &[u8], result: &StoredResult) -> Result<(), StoreError> {
        let _entered = self.epochs.enter()?;
        let mut batch = WriteBatch::default();
        batch.delete_cf(self.database.table(DbTable::Actions), key);
        batch.delete_cf(self.database.table(DbTable::Uses), action_key(key));
        self.database.write(batch, "delete an action result")?;
        self.ledger.count_deleted(result.encoded.len() as u64 + RECORD_BYTES);
        self.uses.forget(&action_key(key));
        Ok(())
    }
}

impl ActionCache for DiskStore {
    fn get(&self, key: &ActionKey, access: AccessKind) -> Result<Option<StoredResult>, StoreError> {
        let key = encode_action_key(key);
        let result = self.inner.action(&key)?;
        if result.is_some() {
            // The result was read already, so it can be returned even if it is being deleted.
            self.inner.note_access(&action_key(&key), access);
        }
        Ok(result)
    }

    fn put(&self, key: &ActionKey, result: &ActionResult) -> Result<StoredResult, StoreError> {
        let result = StoredResult::new(&admit(key.function, result.clone())?);
        self.inner.put_action(key, &result)?;
        Ok(result)
    }

    fn remove(&self, key: &ActionKey) -> Result<bool, StoreError> {
        let _lock = self.inner.locks.enter(key.hash);
        let key = encode_action_key(key);
        let Some(result) = self.inner.action(&key)? else { return Ok(false) };
        self.inner.delete_action_locked(&key, &result)?;
        Ok(true)
    }

    fn page(
        &self,
        after: Option<&ActionKey>,
        results_max: usize,
    ) -> Result<Vec<(ActionKey, StoredResult)>, StoreError> {
        let after = after.map(encode_action_key);
        let doing = "list action results";
        let page = self.inner.database.page(DbTable::Actions, after.as_deref(), results_max, doing)?;
        let decode = |(key, value): &KeyValue| {
            let (_, encoded) = decode_action(value)?;
            Ok((decode_action_key(key)?, StoredResult { encoded: Bytes::copy_from_slice(encoded) }))
        };
        page.iter().map(decode).collect()
    }
}

impl BlobStore for DiskStore {
    fn find_missing(&self, digests: &[Digest], access: AccessKind) -> Result<Vec<bool>, StoreError> {
        self.inner.find_missing_blobs(digests, access)
    }

    fn open(&self, digest: &Digest, access: AccessKind) -> Result<Option<Content>, StoreError> {
        self.inner.open_blob(digest, access)
    }

    fn size_of(&self, function: DigestFunction, hash: Hash) -> Result<Option<u64>, StoreError> {
        self.inner.size_of_blob(function, hash)
    }

    fn names_of(&self, digest: &Digest) -> Result<Option<BlobNames>, StoreError> {
        self.inner.names_of_blob(digest)
    }

    fn create(&self, digest: &Digest) -> Result<Box<dyn BlobWriter>, StoreError> {
        Ok(Box::new(DiskWriter::new(&self.inner, digest)?))
    }

    fn insert(&self, blobs: &[(Digest, Bytes)]) -> Vec<Result<(), StoreError>> {
        self.inner.insert_blobs(blobs)
    }

    fn deletions(&self) -> u64 {
        self.inner.deletions.load(Ordering::SeqCst)
    }

    fn may_block(&self) -> bool {
        self.inner.epochs.has_suspects()
    }
}

impl LocalFiles for DiskStore {
    fn ingest(
        &self,
        path: &Path,
        function: DigestFunction,
        sharing: Sharing,
    ) -> Result<(BlobNames, LinkedFile), StoreError> {
        self.inner.ingest_file(path, function, sharing)
    }

    fn place(
        &self,
        digest: &Digest,
        path: &Path,
        placing: &PlaceOptions<'_>,
    ) -> Result<Option<LinkedFile>, StoreError> {
        self.inner.place_blob(digest, path, placing)
    }

    fn shares(&self, directory: &Path) -> Result<Link, StoreError> {
        self.inner.best_link(directory)
    }
}
