//! Stores blobs that arrive as a stream.
//!
//! A small blob is gathered in memory and never written to a file. A larger one is written to a
//! file in `tmp/` in large pieces, each hashed while it is in the processor's cache. Room for the
//! whole blob is reserved before the first byte is written.
//!
//! Invariant: a blob is not visible before its length and hash were checked, and a writer that is
//! dropped leaves nothing behind.

use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;

use super::commit::{Draft, RECORD_BYTES};
use super::ledger::Reservation;
use super::store::StoreInner;
use crate::digest::{BlobNames, Digest};
use crate::error::StoreError;
use crate::store::BlobWriter;
use crate::verify::{BLOB_BYTES_MAX, DigestCheck};

/// Blobs up to this size are stored in the database: a file would occupy this much even for one
/// byte, and reading it would take three system calls instead of none.
pub(super) const INLINE_BYTES_MAX: u64 = 4 << 10;

/// Smaller pieces are gathered to this size before they are hashed and written: clients
/// send 16 KiB at a time.
const PIECE_BYTES: usize = 128 << 10;

/// The unit in which filesystems allocate.
const BLOCK_BYTES: u64 = 4 << 10;

/// Returns the space that a blob of this size will occupy, with its record.
pub(super) fn room_bytes(size_bytes: u64) -> u64 {
    if size_bytes <= INLINE_BYTES_MAX {
        return size_bytes + RECORD_BYTES;
    }
    size_bytes.div_ceil(BLOCK_BYTES).saturating_mul(BLOCK_BYTES).saturating_add(RECORD_BYTES)
}

/// A blob that is being written.
pub(super) struct DiskWriter {
    store: Arc<StoreInner>,
    digest: Digest,
    check: DigestCheck,
    received_bytes: u64,
    gathered: Vec<u8>,
    /// The file of a large blob; `None` for a small one.
    draft: Option<Draft>,
    room: Reservation,
}

impl DiskWriter {
    pub(super) fn new(store: &Arc<StoreInner>, digest: &Digest) -> Result<DiskWriter, StoreError> {
        store.check_size(digest.size_bytes)?;
        let is_large = digest.size_bytes > INLINE_BYTES_MAX;
        let room = store.ledger.reserve(room_bytes(digest.size_bytes))?;
        let draft = is_large.then(|| store.draft()).transpose()?;
        Ok(DiskWriter {
            store: Arc::clone(store),
            digest: *digest,
            check: DigestCheck::new(digest),
            received_bytes: 0,
            gathered: Vec::new(),
            draft,
            room,
        })
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.check.update(bytes)?;
        if let Some(draft) = &self.draft {
            draft.file().write_all(bytes).map_err(|error| StoreError::io("write to", draft.path(), error))?;
        }
        Ok(())
    }

    fn put_gathered(&mut self) -> Result<(), StoreError> {
        let gathered = std::mem::take(&mut self.gathered);
        let result = self.put(&gathered);
        self.gathered = gathered;
        result
    }
}

impl BlobWriter for DiskWriter {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.received_bytes = self.received_bytes.saturating_add(bytes.len() as u64);
        if self.received_bytes > self.digest.size_bytes {
            return Err(StoreError::Length { claimed: self.digest, received_bytes: self.received_bytes });
        }
        if self.draft.is_none() || self.gathered.len() + bytes.len() < PIECE_BYTES {
            self.gathered.extend_from_slice(bytes);
            return Ok(());
        }
        self.put_gathered()?;
        self.gathered.clear();
        if bytes.len() >= PIECE_BYTES {
            return self.put(bytes);
        }
        self.gathered.extend_from_slice(bytes);
        Ok(())
    }

    fn commit(mut self: Box<Self>) -> Result<BlobNames, StoreError> {
        self.put_gathered()?;
        let DiskWriter { store, check, gathered, draft, room, .. } = *self;
        let names = check.finish()?;
        match draft {
            Some(draft) => store.commit_file(&names, &draft, None, room).map(drop)?,
            None => store.commit_inline(&[(names, Bytes::from(gathered))], room)?,
        }
        Ok(names)
    }
}

impl StoreInner {
    pub(super) fn check_size(&self, size_bytes: u64) -> Result<(), StoreError> {
        if size_bytes <= self.blob_bytes_max {
            return Ok(());
        }
        Err(StoreError::TooLarge { limit: BLOB_BYTES_MAX, limit_bytes: self.blob_bytes_max, size_bytes })
    }

    /// Stores blobs whose bytes are in memory, the small ones in one batch.
    pub(super) fn insert_blobs(self: &Arc<Self>, blobs: &[(Digest, Bytes)]) -> Vec<Result<(), StoreError>> {
        let mut answers: Vec<Option<Result<(), StoreError>>> = Vec::with_capacity(blobs.len());
        let mut small = Vec::new();
        for (digest, bytes) in blobs {
            if digest.size_bytes > INLINE_BYTES_MAX {
                answers.push(Some(self.insert_one(digest, bytes)));
                continue;
            }
            match names_of(digest, bytes) {
                Ok(names) => {
                    small.push((names, bytes.clone()));
                    answers.push(None);
                }
                Err(error) => answers.push(Some(Err(error))),
            }
        }
        let together = self.insert_small(&small);
        let settle = |((digest, bytes), answer): (&(Digest, Bytes), Option<_>)| match (answer, &together) {
            (Some(answer), _) => answer,
            (None, Ok(())) => Ok(()),
            // The batch as a whole may have failed for want of room where single blobs still fit.
            (None, Err(_)) => self.insert_one(digest, bytes),
        };
        blobs.iter().zip(answers).map(settle).collect()
    }

    fn insert_small(&self, blobs: &[(BlobNames, Bytes)]) -> Result<(), StoreError> {
        if blobs.is_empty() {
            return Ok(());
        }
        let room_bytes = blobs.iter().map(|(names, _)| room_bytes(names.size_bytes)).sum();
        self.commit_inline(blobs, self.ledger.reserve(room_bytes)?)
    }

    fn insert_one(self: &Arc<Self>, digest: &Digest, bytes: &[u8]) -> Result<(), StoreError> {
        let mut writer = Box::new(DiskWriter::new(self, digest)?);
        writer.write(bytes)?;
        writer.commit().map(drop)
    }
}

fn names_of(digest: &Digest, bytes: &[u8]) -> Result<BlobNames, StoreError> {
    let mut check = DigestCheck::new(digest);
    check.update(bytes)?;
    check.finish()
}
