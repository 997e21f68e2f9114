//! Checks whether a blob's file still has the right bytes, where they are not trusted.
//!
//! There are three reasons for distrust: an unclean stop (the blob's epoch is suspect), a shared
//! inode whose stamp no longer matches, or a wrong length. Other files are not hashed again. A
//! blob whose bytes are wrong is taken out of service under its lock, counted, and never repaired
//! (STO-02, RST-03).

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

/// How much is read at a time for hashing: it fits into a second-level cache, so that the hash
/// reads the bytes there which a copy has just written.
pub(super) const READ_BYTES: usize = 256 << 10;

/// Takes the stamp of a file from its metadata. `taken_ns` is the system's time and not that of the
/// store's clock, because it is compared with the filesystem's dates.
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

/// The result of examining a blob.
#[derive(Debug)]
pub(super) enum BlobCheck {
    /// The bytes are right. The file is open for reading.
    Whole(File),
    /// The index has no such blob any more, or its bytes were lost by an unclean stop or
    /// overwritten through a shared inode. Readers get a miss.
    Absent,
    /// The bytes are wrong for no such reason: the disk is damaged. Readers get an error.
    Damaged,
}

impl StoreInner {
    /// Tells whether a blob's file is trusted without hashing it.
    pub(super) fn is_trusted(&self, record: &BlobRecord, metadata: &Metadata) -> bool {
        metadata.len() == record.size_bytes
            && !self.epochs.is_suspect(record.epoch)
            && record.stamp.is_none_or(|known| known.is_unchanged_in(&inode_stamp(metadata)))
    }

    /// Examines a blob under the lock of its hash: hashes the file if it is not trusted, and takes
    /// the blob out of service if the bytes are wrong.
    pub(super) fn examine(&self, hash: Hash) -> Result<BlobCheck, StoreError> {
        let _lock = self.locks.enter(hash);
        self.examine_locked(hash)
    }

    /// Does the same as `examine` for a caller that holds the lock of the hash.
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
        // A wrong length needs no hashing to be detected.
        if before.len() != record.size_bytes {
            return self.take_out_of_service(hash, &record, false);
        }
        let names =
            hash_file(&file, DigestFunction::Blake3).map_err(|error| StoreError::io("read", &path, error))?;
        if names.blake3 != hash {
            return self.take_out_of_service(hash, &record, false);
        }
        // The stamp from before the hashing is recorded: if another process wrote to a shared inode meanwhile, the
        // stamp no longer fits and the blob is hashed again.
        self.record_whole(hash, &record, inode_stamp(&before))?;
        Ok(BlobCheck::Whole(file))
    }

    /// Records that the bytes were right when the file had this stamp.
    fn record_whole(&self, hash: Hash, record: &BlobRecord, stamp: InodeStamp) -> Result<(), StoreError> {
        let mut record = *record;
        record.stamp = record.stamp.map(|_| stamp);
        if self.epochs.is_suspect(record.epoch) {
            self.counted.verified.fetch_add(1, Ordering::Relaxed);
        }
        // A store that is closing may still serve the blob, but records nothing any more.
        let Ok(entered) = self.epochs.enter() else { return Ok(()) };
        record.epoch = entered.epoch();
        let mut batch = WriteBatch::default();
        batch.put_cf(self.database.table(DbTable::Blobs), hash.0, record.encode());
        self.database.write(batch, "record that a blob is whole")
    }

    /// Takes a blob out of service. If its file does not exist, the record is deleted; otherwise
    /// both remain, marked as damaged, as evidence until the blob is evicted or stored again.
    fn take_out_of_service(
        &self,
        hash: Hash,
        record: &BlobRecord,
        is_gone: bool,
    ) -> Result<BlobCheck, StoreError> {
        let is_suspect = self.epochs.is_suspect(record.epoch);
        // Another process may write to a shared inode, which does not mean that the disk is bad.
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

    /// Returns the index's record of a blob.
    pub(super) fn record(&self, hash: &Hash) -> Result<Option<BlobRecord>, StoreError> {
        let value = self.database.get(DbTable::Blobs, hash.0, "look up a blob")?;
        value.map(|value| BlobRecord::decode(&value)).transpose()
    }

    /// Tells whether an unclean stop may have left this blob incomplete. Inline blobs never are: the
    /// database checks its own records.
    pub(super) fn is_suspect(&self, record: &BlobRecord) -> bool {
        record.location == BlobLocation::File && self.epochs.is_suspect(record.epoch)
    }
}

/// Makes the error for a blob that was damaged.
pub(super) fn damaged(digest: &Digest) -> StoreError {
    StoreError::Damaged { digest: *digest }
}
