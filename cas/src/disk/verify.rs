//! Whether a file's bytes are still what the index says, where there is doubt.
//!
//! Doubt has three causes: an unclean stop (the blob's epoch is suspect), a shared inode
//! (its stamp no longer matches), or a length that is wrong at sight. A file without doubt
//! is not hashed again. What turns out to be wrong is taken out of service under its lock,
//! counted, and never repaired (STO-02, RST-03).
//!
//! Knows nothing of who asked for the blob.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::atomic::Ordering;

use rocksdb::WriteBatch;

use super::database::DbTable;
use super::record::{BlobLocation, BlobRecord, InodeStamp, Totals};
use super::store::{StoreInner, TOTALS};
use super::uses::blob_key;
use crate::clock::{Clock, SystemClock};
use crate::digest::{BlobNames, Digest, DigestFunction, Hash, Hasher};
use crate::error::StoreError;

/// What is read at a time for hashing: fits into a second-level cache, so the hash reads
/// what the copy has just written there.
pub(super) const READ_BYTES: usize = 256 << 10;

/// How a file looks now. The time is the system's and not the store's clock: it is
/// compared with the filesystem's.
pub(super) fn inode_stamp(metadata: &Metadata) -> InodeStamp {
    let nanoseconds = |seconds: i64, rest: i64| seconds.saturating_mul(1_000_000_000).saturating_add(rest);
    InodeStamp {
        inode: metadata.ino(),
        modified_ns: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
        changed_ns: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        taken_ns: i64::try_from(SystemClock.now_ms()).unwrap_or(i64::MAX).saturating_mul(1_000_000),
    }
}

/// Hashes a file from its beginning, in pieces.
pub(super) fn hash_file(file: &File, function: DigestFunction) -> io::Result<BlobNames> {
    let mut hasher = Hasher::new(function);
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match file.read_at(&mut buffer, hasher.size_bytes()) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(count) => hasher.update(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// What became of a blob that was looked at.
#[derive(Debug)]
pub(super) enum BlobCheck {
    /// It is what it should be.
    Whole(File),
    /// It is gone from the index meanwhile, or its loss was to be expected.
    Absent,
    /// It is not what it should be, which nobody could expect.
    Damaged,
}

impl StoreInner {
    /// Whether this file is to be trusted without hashing it.
    pub(super) fn is_trusted(&self, record: &BlobRecord, metadata: &Metadata) -> bool {
        metadata.len() == record.size_bytes
            && !self.epochs.is_suspect(record.epoch)
            && record.stamp.is_none_or(|known| known.is_unchanged_in(&inode_stamp(metadata)))
    }

    /// Looks at a blob's file under its lock, hashes it if there is doubt, and takes it out
    /// of service if that was justified.
    pub(super) fn examine(&self, hash: Hash) -> Result<BlobCheck, StoreError> {
        let _lock = self.locks.enter(hash);
        self.examine_locked(hash)
    }

    /// The same for who holds the lock.
    pub(super) fn examine_locked(&self, hash: Hash) -> Result<BlobCheck, StoreError> {
        let Some(record) = self.record(&hash)?.filter(|record| !record.damaged) else {
            return Ok(BlobCheck::Absent);
        };
        let path = self.layout.blob(&hash);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return self.take_out_of_service(hash, &record, true);
            }
            Err(error) => return Err(StoreError::io("open", path, error)),
        };
        let look = || file.metadata().map_err(|error| StoreError::io("look at", &path, error));
        let before = look()?;
        if self.is_trusted(&record, &before) {
            return Ok(BlobCheck::Whole(file));
        }
        if before.len() != record.size_bytes {
            return self.take_out_of_service(hash, &record, false);
        }
        let names =
            hash_file(&file, DigestFunction::Blake3).map_err(|error| StoreError::io("read", &path, error))?;
        if names.blake3 != hash {
            return self.take_out_of_service(hash, &record, false);
        }
        self.record_whole(hash, &record, inode_stamp(&before))?;
        Ok(BlobCheck::Whole(file))
    }

    /// Records that the bytes were right when the file looked like `stamp`.
    fn record_whole(&self, hash: Hash, record: &BlobRecord, stamp: InodeStamp) -> Result<(), StoreError> {
        let mut record = *record;
        record.stamp = record.stamp.map(|_| stamp);
        if self.epochs.is_suspect(record.epoch) {
            self.counted.verified.fetch_add(1, Ordering::Relaxed);
        }
        // A store that is closing may still answer; it records nothing any more.
        let Ok(entered) = self.epochs.enter() else { return Ok(()) };
        record.epoch = entered.epoch();
        let mut batch = WriteBatch::default();
        batch.put_cf(self.database.table(DbTable::Blobs), hash.0, record.encode());
        self.database.write(batch, "record that a blob is whole")
    }

    /// Takes a blob out of service. A file that is not there is forgotten; one that is
    /// remains as evidence until it is evicted or stored anew.
    fn take_out_of_service(
        &self,
        hash: Hash,
        record: &BlobRecord,
        is_gone: bool,
    ) -> Result<BlobCheck, StoreError> {
        let is_suspect = self.epochs.is_suspect(record.epoch);
        // Somebody who has the inode too may write to it, and that is no fault of the disk.
        let is_shared = record.stamp.is_some();
        let expected = is_suspect || is_shared;
        let counter = match (is_suspect, is_shared) {
            (true, _) => &self.counted.torn,
            (false, true) => &self.counted.overwritten,
            (false, false) => &self.counted.damaged,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(blob = %hash, is_gone, expected, "a blob is not what it was; it is out of service");
        let entered = self.epochs.enter()?;
        let mut batch = WriteBatch::default();
        if let Some(sha256) = record.sha256 {
            batch.delete_cf(self.database.table(DbTable::Aliases), sha256.0);
        }
        let difference = if is_gone {
            batch.delete_cf(self.database.table(DbTable::Blobs), hash.0);
            batch.delete_cf(self.database.table(DbTable::Uses), blob_key(&hash));
            Totals::default().minus(Totals::of(record))
        } else {
            let damaged = BlobRecord { damaged: true, epoch: entered.epoch(), ..*record };
            batch.put_cf(self.database.table(DbTable::Blobs), hash.0, damaged.encode());
            Totals::default()
        };
        batch.merge_cf(self.database.table(DbTable::Meta), TOTALS, difference.encode());
        self.deletions.fetch_add(1, Ordering::SeqCst);
        let written = self.database.write(batch, "take a blob out of service");
        self.deletions.fetch_add(1, Ordering::SeqCst);
        written?;
        self.ledger.count(difference);
        Ok(if expected { BlobCheck::Absent } else { BlobCheck::Damaged })
    }

    /// What the index knows of this blob.
    pub(super) fn record(&self, hash: &Hash) -> Result<Option<BlobRecord>, StoreError> {
        let value = self.database.get(DbTable::Blobs, hash.0, "look up a blob")?;
        value.map(|value| BlobRecord::decode(&value)).transpose()
    }

    /// Whether a blob of this record may have been torn. What is inline is the database's,
    /// which checks its own.
    pub(super) fn is_suspect(&self, record: &BlobRecord) -> bool {
        record.location == BlobLocation::File && self.epochs.is_suspect(record.epoch)
    }
}

/// The error for a blob that was damaged.
pub(super) fn damaged(digest: &Digest) -> StoreError {
    StoreError::Damaged { digest: *digest }
}
