//! The last step of storing a blob, which makes it visible: the rename of a file, or the write of
//! a small blob's bytes, together with the index record.
//!
//! Callers have hashed the bytes, so their names are right. If the store has the blob already and
//! trusts it, the stored blob stays: it only gains the new name and a new upload grace. A
//! damaged or suspect blob is replaced.
//!
//! Invariant (STO-01): the record is written after the file is in place, in one batch with all
//! names and the totals, under the lock of the hash.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use rocksdb::WriteBatch;

use super::database::DbTable;
use super::ledger::Reservation;
use super::record::{Alias, BlobLocation, BlobRecord, InodeStamp, Totals};
use super::store::{StoreInner, TOTALS};
use super::uses::blob_key;
use super::verify::inode_stamp;
use crate::digest::{BlobNames, Hash};
use crate::error::StoreError;
use crate::leases::Retention;

/// The space in the database for a record, an alias and their keys, estimated.
pub(super) const RECORD_BYTES: u64 = 256;

/// A stored file is read-only for every process, the daemon included.
const BLOB_MODE: u32 = 0o444;

/// A file in `tmp/`. Dropping this value deletes the file, unless it was renamed.
pub(super) struct Draft {
    path: PathBuf,
    file: File,
}

impl Draft {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Takes over a hard link in `tmp/` of a file outside the store.
    pub(super) fn adopt(path: PathBuf, file: File) -> Draft {
        Draft { path, file }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // After a rename this name does not exist. If the deletion fails, the next start deletes
        // the file.
        let _ = fs::remove_file(&self.path);
    }
}

impl StoreInner {
    /// Makes an empty file in `tmp/`.
    pub(super) fn draft(&self) -> Result<Draft, StoreError> {
        let path = self.layout.tmp_name();
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(BLOB_MODE)
            .open(&path)
            .map_err(|error| StoreError::io("create", &path, error))?;
        Ok(Draft { path, file })
    }

    /// Stores a file whose bytes have these names. Returns `false` if the store had the blob
    /// already; the draft is then not used.
    pub(super) fn commit_file(
        &self,
        names: &BlobNames,
        draft: &Draft,
        stamp: Option<InodeStamp>,
        room: Reservation,
    ) -> Result<bool, StoreError> {
        let metadata =
            draft.file.metadata().map_err(|error| StoreError::io("look at", draft.path(), error))?;
        // The lock of the hash keeps deletions, other writers and the clean-up of orphans away between the rename
        // below and the record. The epoch must not end in between either: the blob records the epoch whose sync
        // covers the file.
        let _lock = self.locks.enter(names.blake3);
        let entered = self.epochs.enter()?;
        let known = self.record(&names.blake3)?;
        let mut batch = WriteBatch::default();
        if let Some(record) = known.as_ref().filter(|record| self.is_servable(record)) {
            self.renew_stored_blob(&mut batch, names, record);
            self.write_blobs(batch)?;
            return Ok(false);
        }
        let path = self.layout.blob(&names.blake3);
        // The file comes before its record. A crash in between leaves an orphan, which the next start deletes; the
        // reverse order would leave a record without a file.
        fs::rename(draft.path(), &path).map_err(|error| StoreError::io("rename to", &path, error))?;
        let record = BlobRecord {
            size_bytes: names.size_bytes,
            physical_bytes: metadata.blocks() * 512,
            epoch: entered.epoch(),
            created_ms: self.now_ms(),
            location: BlobLocation::File,
            damaged: false,
            sha256: names.sha256.or(known.and_then(|known| known.sha256)),
            stamp: stamp.map(|before| stamp_after_rename(before, &path)),
        };
        let difference = self.put(&mut batch, &names.blake3, &record, known.as_ref());
        if let Err(error) = self.write_blobs(batch) {
            if known.is_none() {
                // No record names this file. If it cannot be deleted here, the next start does so.
                let _ = fs::remove_file(&path);
            }
            return Err(error);
        }
        room.settle(difference, RECORD_BYTES);
        Ok(true)
    }

    /// Stores small blobs whose bytes have these names, in one batch.
    pub(super) fn commit_inline(
        &self,
        blobs: &[(BlobNames, Bytes)],
        room: Reservation,
    ) -> Result<(), StoreError> {
        let hashes: Vec<Hash> = blobs.iter().map(|(names, _)| names.blake3).collect();
        // All locks are taken at once and in a fixed order, so that two batches with the same hashes do not
        // deadlock.
        let _locks = self.locks.enter_all(hashes.clone());
        let entered = self.epochs.enter()?;
        let mut known = self.records(&hashes)?;
        let mut batch = WriteBatch::default();
        let mut difference = Totals::default();
        let mut written_bytes = 0;
        for (names, bytes) in blobs {
            // `known` is updated while the batch is made, so a blob that occurs twice in it is stored and counted
            // once.
            let before = known.get(&names.blake3).copied();
            if let Some(record) = before.filter(|record| self.is_servable(record)) {
                let record = self.renew_stored_blob(&mut batch, names, &record);
                known.insert(names.blake3, record);
                continue;
            }
            let record = BlobRecord {
                size_bytes: names.size_bytes,
                physical_bytes: names.size_bytes + RECORD_BYTES,
                epoch: entered.epoch(),
                created_ms: self.now_ms(),
                location: BlobLocation::Inline,
                damaged: false,
                sha256: names.sha256.or(before.and_then(|before| before.sha256)),
                stamp: None,
            };
            batch.put_cf(self.database.table(DbTable::Inline), names.blake3.0, bytes);
            difference = difference.plus(self.put(&mut batch, &names.blake3, &record, before.as_ref()));
            written_bytes += record.physical_bytes;
            known.insert(names.blake3, record);
        }
        self.write_blobs(batch)?;
        room.settle(difference, written_bytes);
        Ok(())
    }

    fn is_servable(&self, record: &BlobRecord) -> bool {
        !record.damaged && !self.is_suspect(record)
    }

    fn records(&self, hashes: &[Hash]) -> Result<HashMap<Hash, BlobRecord>, StoreError> {
        let values =
            self.database.get_many(DbTable::Blobs, hashes.iter().map(|hash| &hash.0), "look up blobs")?;
        let known = hashes.iter().zip(values).filter_map(|(hash, value)| value.map(|value| (hash, value)));
        known.map(|(hash, value)| Ok((*hash, BlobRecord::decode(&value)?))).collect()
    }

    /// Handles the upload of a blob that the store has: the blob gets a new upload grace, and its
    /// SHA-256 if it had none. Returns its record.
    fn renew_stored_blob(
        &self,
        batch: &mut WriteBatch,
        names: &BlobNames,
        record: &BlobRecord,
    ) -> BlobRecord {
        // No deletion of this blob is under way, because deletions hold the lock of the hash.
        self.uses.note(&blob_key(&names.blake3), Retention::uploaded(self.now_ms()));
        let mut record = *record;
        if names.sha256.is_some() && record.sha256.is_none() {
            record.sha256 = names.sha256;
            self.put_names(batch, &names.blake3, &record);
        }
        record
    }

    /// Adds a blob's record and names to a batch, in place of the record `before`. Returns the
    /// change of the totals.
    pub(super) fn put(
        &self,
        batch: &mut WriteBatch,
        blake3: &Hash,
        record: &BlobRecord,
        before: Option<&BlobRecord>,
    ) -> Totals {
        let before = before.map_or_else(Totals::default, Totals::of);
        let difference = Totals::of(record).minus(before);
        self.put_names(batch, blake3, record);
        batch.merge_cf(self.database.table(DbTable::Meta), TOTALS, difference.encode());
        difference
    }

    fn put_names(&self, batch: &mut WriteBatch, blake3: &Hash, record: &BlobRecord) {
        batch.put_cf(self.database.table(DbTable::Blobs), blake3.0, record.encode());
        if let Some(sha256) = record.sha256 {
            let alias = Alias { blake3: *blake3, size_bytes: record.size_bytes };
            batch.put_cf(self.database.table(DbTable::Aliases), sha256.0, alias.encode());
        }
    }

    fn write_blobs(&self, batch: WriteBatch) -> Result<(), StoreError> {
        if batch.is_empty() {
            return Ok(());
        }
        self.database.write(batch, "record a blob")
    }
}

/// Returns the stamp of a shared file after its rename into the store, which itself moves the
/// inode's change date. If anything else has changed, the result is the old stamp, which no longer
/// matches, so that the file is hashed before it is served.
fn stamp_after_rename(before: InodeStamp, path: &Path) -> InodeStamp {
    match fs::symlink_metadata(path).map(|metadata| inode_stamp(&metadata)) {
        Ok(now) if (now.inode, now.modified_ns) == (before.inode, before.modified_ns) => now,
        _ => before,
    }
}
