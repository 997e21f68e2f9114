//! Eviction's interface to the store on disk.
//!
//! Pages come in the database's own order. A deletion takes the lock of its hash, or gives up if
//! another thread has it. It marks the key so that no promise can be made meanwhile, deletes the
//! record and all its names in one batch, and deletes the file last: a crash in between leaves a
//! file without a blob, never a blob without a file.

use std::fs;
use std::io;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use rocksdb::WriteBatch;

use super::database::DbTable;
use super::record::{
    BlobLocation, BlobRecord, Totals, decode_action, decode_action_key, decode_hash, encode_action_key,
};
use super::store::{DiskStore, StoreInner, TOTALS};
use super::uses::{action_key, blob_key};
use crate::digest::{BlobNames, Digest, Hash};
use crate::error::StoreError;
use crate::evict::{ActionEntry, BlobEntry, Catalog, Usage};
use crate::leases::Retention;
use crate::store::{ActionKey, StoredResult};

impl Catalog for DiskStore {
    fn usage(&self) -> Result<Usage, StoreError> {
        let balance = self.inner.ledger.balance();
        Ok(Usage {
            physical_bytes: balance.physical_bytes.saturating_add(balance.reserved_bytes),
            logical_bytes: balance.logical_bytes,
            blobs: balance.blobs,
            action_results: self.inner.database.keys_estimated(DbTable::Actions),
            reclaimable_bytes: balance.reclaimable_bytes,
            volume_free_bytes: Some(balance.volume_free_bytes),
        })
    }

    fn actions_after(
        &self,
        after: Option<&ActionKey>,
        entries_max: usize,
    ) -> Result<Vec<ActionEntry>, StoreError> {
        let after = after.map(encode_action_key);
        let page = self.inner.database.page(
            DbTable::Actions,
            after.as_deref(),
            entries_max,
            "list action results",
        )?;
        let keys: Vec<_> = page.iter().map(|(key, _)| action_key(key)).collect();
        let retentions = self.inner.uses.look(&self.inner.database, &keys)?;
        let entries = page.iter().zip(retentions);
        entries.map(|((key, value), retention)| action_entry(key, value, retention)).collect()
    }

    fn blobs_after(&self, after: Option<&Hash>, entries_max: usize) -> Result<Vec<BlobEntry>, StoreError> {
        let after = after.map(|hash| &hash.0[..]);
        let page = self.inner.database.page(DbTable::Blobs, after, entries_max, "list blobs")?;
        let hashes = page.iter().map(|(key, _)| decode_hash(key)).collect::<Result<Vec<_>, _>>()?;
        let keys: Vec<_> = hashes.iter().map(blob_key).collect();
        let retentions = self.inner.uses.look(&self.inner.database, &keys)?;
        let entries = hashes.iter().zip(&page).zip(retentions);
        entries
            .map(|((hash, (_, value)), retention)| {
                Ok(blob_entry(*hash, &BlobRecord::decode(value)?, retention))
            })
            .collect()
    }

    fn action_entry(&self, key: &ActionKey) -> Result<Option<ActionEntry>, StoreError> {
        self.inner.action_entry(&encode_action_key(key))
    }

    fn blob_entry(&self, digest: &Digest) -> Result<Option<BlobEntry>, StoreError> {
        let Some(blake3) = self.inner.blake3(digest.function, digest.hash)? else { return Ok(None) };
        let Some(record) =
            self.inner.record(&blake3)?.filter(|record| record.size_bytes == digest.size_bytes)
        else {
            return Ok(None);
        };
        let retention = self.inner.uses.look(&self.inner.database, &[blob_key(&blake3)])?.remove(0);
        Ok(Some(blob_entry(blake3, &record, retention)))
    }

    fn delete_action(&self, key: &ActionKey, expected: Retention) -> Result<bool, StoreError> {
        let Some(_lock) = self.inner.locks.try_enter(key.hash) else { return Ok(false) };
        let key = encode_action_key(key);
        // Read again under the lock: the result may have been replaced since the page was read.
        let Some(entry) = self.inner.action_entry(&key)? else { return Ok(true) };
        let (used_key, now_ms) = (action_key(&key), self.inner.now_ms());
        let is_spared = |retention: Retention| retention != expected || retention.is_leased(now_ms);
        // The entry's retention already includes the recorded uses. Merging is idempotent, so the
        // merge differs from `expected` only if there was an access since.
        if !self.inner.uses.begin_deletion(&self.inner.database, &used_key, |retention| {
            !is_spared(retention.merged(entry.retention))
        })? {
            return Ok(false);
        }
        let deleted = self.inner.delete_action_locked(&key, &entry.result);
        self.inner.uses.end_deletion(&used_key);
        deleted.map(|()| true)
    }

    fn delete_blob(&self, blake3: &Hash, expected: Retention) -> Result<Option<u64>, StoreError> {
        let Some(_lock) = self.inner.locks.try_enter(*blake3) else { return Ok(None) };
        let Some(record) = self.inner.record(blake3)? else { return Ok(None) };
        let (used_key, now_ms) = (blob_key(blake3), self.inner.now_ms());
        let permits = |retention: Retention| {
            let retention = Retention::uploaded(record.created_ms).followed_by(retention);
            // The same computation as in `blob_entry`, whose value the caller compared.
            retention == expected && !retention.is_promised(now_ms)
        };
        if !self.inner.uses.begin_deletion(&self.inner.database, &used_key, permits)? {
            return Ok(None);
        }
        let deleted = self.inner.delete_unused_blob(blake3, &record);
        self.inner.uses.forget(&used_key);
        self.inner.uses.end_deletion(&used_key);
        deleted.map(|()| Some(record.physical_bytes))
    }

    fn upkeep(&self) -> Result<bool, StoreError> {
        self.inner.upkeep_step()
    }
}

impl StoreInner {
    fn action_entry(&self, key: &[u8]) -> Result<Option<ActionEntry>, StoreError> {
        let Some(value) = self.database.get(DbTable::Actions, key, "read an action result")? else {
            return Ok(None);
        };
        let retention = self.uses.look(&self.database, &[action_key(key)])?.remove(0);
        action_entry(key, &value, retention).map(Some)
    }

    fn delete_unused_blob(&self, blake3: &Hash, record: &BlobRecord) -> Result<(), StoreError> {
        let _entered = self.epochs.enter()?;
        let difference = Totals::default().minus(Totals::of(record));
        let mut batch = WriteBatch::default();
        batch.delete_cf(self.database.table(DbTable::Blobs), blake3.0);
        // One batch, so that no reader finds a name whose record is gone.
        batch.delete_cf(self.database.table(DbTable::Uses), blob_key(blake3));
        if record.location == BlobLocation::Inline {
            batch.delete_cf(self.database.table(DbTable::Inline), blake3.0);
        }
        if let Some(sha256) = record.sha256 {
            batch.delete_cf(self.database.table(DbTable::Aliases), sha256.0);
        }
        batch.merge_cf(self.database.table(DbTable::Meta), TOTALS, difference.encode());
        // Counted before and after the write: a reader may read the count between the two, and
        // must see it move again, since its lookup may have found the blob.
        self.deletions.fetch_add(1, Ordering::SeqCst);
        let written = self.database.write(batch, "delete a blob");
        self.deletions.fetch_add(1, Ordering::SeqCst);
        written?;
        self.ledger.count(difference);
        if record.location == BlobLocation::Inline {
            self.ledger.count_deleted(record.physical_bytes);
            return Ok(());
        }
        let path = self.layout.blob(blake3);
        match fs::remove_file(&path) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(StoreError::io("delete", path, error)),
        }
    }
}

fn action_entry(key: &[u8], value: &[u8], retention: Retention) -> Result<ActionEntry, StoreError> {
    let (created_ms, encoded) = decode_action(value)?;
    Ok(ActionEntry {
        key: decode_action_key(key)?,
        result: StoredResult { encoded: Bytes::copy_from_slice(encoded) },
        retention: Retention::used(created_ms).followed_by(retention),
    })
}

fn blob_entry(blake3: Hash, record: &BlobRecord, retention: Retention) -> BlobEntry {
    BlobEntry {
        names: BlobNames { blake3, sha256: record.sha256, size_bytes: record.size_bytes },
        physical_bytes: record.physical_bytes,
        retention: Retention::uploaded(record.created_ms).followed_by(retention),
    }
}
