//! Finds and reads blobs.
//!
//! The index alone tells which blobs exist, for many digests in one call. A blob of at most 4 KiB
//! is read in one lookup; a larger one is an open file. An error is never taken for absence
//! (STO-08).
//!
//! Invariant (STO-04): a blob is leased before a client is told that it exists, and no deletion
//! that began before the lease removes it afterwards.

use std::fs::{File, Metadata};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;

use bytes::Bytes;

use super::database::DbTable;
use super::record::{Alias, BlobLocation, BlobRecord, is_servable_as};
use super::store::StoreInner;
use super::uses::{NoteOutcome, blob_key};
use super::verify::{BlobCheck, damaged};
use super::writer::INLINE_BYTES_MAX;
use crate::digest::{BlobNames, Digest, DigestFunction, Hash};
use crate::error::StoreError;
use crate::leases::Retention;
use crate::store::{AccessKind, Content};

/// How often a blob that is being deleted is looked up again before it counts as missing. A
/// deletion takes longer than all tries together; one that is called off is over sooner.
const LEASE_TRIES_MAX: u32 = 16;

/// A blob that the index has for a digest.
#[derive(Clone, Copy)]
struct LocatedBlob {
    blake3: Hash,
    /// Whether the blob has to be hashed before a client is told that it exists.
    is_suspect: bool,
}

impl StoreInner {
    pub(super) fn find_missing_blobs(
        &self,
        digests: &[Digest],
        access: AccessKind,
    ) -> Result<Vec<bool>, StoreError> {
        let located = self.locate_and_note(digests, access)?;
        let answers = digests.iter().zip(&located);
        answers
            .map(|(digest, found)| match found {
                Some(found) if found.is_suspect => {
                    Ok(!matches!(self.examine(found.blake3)?, BlobCheck::Whole(_)))
                }
                found => Ok(found.is_none() && !digest.is_empty_blob()),
            })
            .collect()
    }

    /// Looks up the blobs of these digests in the index, and notes the access for each.
    ///
    /// A promise must not be made for a blob that a deletion takes away. There are two cases. A
    /// deletion that begins after the lease sees the lease and gives up. A deletion that began
    /// before the lease makes the lease fail as long as it runs, and has moved `deletions` when it
    /// is over. So if a lease failed, everything is looked up again. If all leases were taken but
    /// `deletions` has moved, some blobs may have been deleted between the lookup and the lease: a
    /// second lookup shows which are left, and these stay.
    fn locate_and_note(
        &self,
        digests: &[Digest],
        access: AccessKind,
    ) -> Result<Vec<Option<LocatedBlob>>, StoreError> {
        let mut tries_left = LEASE_TRIES_MAX;
        loop {
            tries_left -= 1;
            // Read before the lookup, so that a deletion that ends during the lookup or the leases is noticed.
            let deletions = self.deletions.load(Ordering::SeqCst);
            let mut located = self.locate(digests)?;
            let mut all_leased = true;
            for found in &mut located {
                if found.is_some_and(|found| !self.access(&found, access)) {
                    all_leased = false;
                    *found = None;
                }
            }
            if !all_leased && tries_left > 0 {
                // The deletion that refused a lease is short. The next lookup shows whether the blob is gone.
                thread::yield_now();
                continue;
            }
            if self.deletions.load(Ordering::SeqCst) != deletions {
                let again = self.locate(digests)?;
                located.iter_mut().zip(again).for_each(|(found, again)| *found = found.and(again));
            }
            return Ok(located);
        }
    }

    /// Notes an access. Returns `false` if the blob is being deleted.
    fn access(&self, found: &LocatedBlob, access: AccessKind) -> bool {
        self.note_access(&blob_key(&found.blake3), access)
    }

    pub(super) fn note_access(&self, key: &[u8], access: AccessKind) -> bool {
        if access == AccessKind::Peek {
            return true;
        }
        let noted = self.uses.note(key, Retention::default().accessed(access, self.now_ms()));
        if noted == NoteOutcome::WriteDue {
            // An error is not lost: the next step of upkeep meets and reports it.
            let _ = self.uses.flush_shard_of(&self.database, key);
        }
        noted != NoteOutcome::BeingDeleted
    }

    /// Looks up the blobs of these digests in the index; one result for each.
    fn locate(&self, digests: &[Digest]) -> Result<Vec<Option<LocatedBlob>>, StoreError> {
        let names = self.names_of(digests)?;
        // An alias exists exactly as long as its blob can be served. So where no blob is suspect,
        // a digest that has an alias needs no second lookup for the blob's record.
        let is_trusting = !self.epochs.has_suspects();
        let is_known = |digest: &Digest| is_trusting && digest.function == DigestFunction::Sha256;
        let unknown = names.iter().zip(digests).filter(|(_, digest)| !is_known(digest));
        let keys: Vec<Hash> = unknown.filter_map(|(name, _)| name.map(|name| name.blake3)).collect();
        let values =
            self.database.get_many(DbTable::Blobs, keys.iter().map(|hash| &hash.0), "look up blobs")?;
        let mut values = values.into_iter();
        let look = |(name, digest): (Option<Alias>, &Digest)| {
            let Some(Alias { blake3, size_bytes }) = name else { return Ok(None) };
            if is_known(digest) {
                let found = LocatedBlob { blake3, is_suspect: false };
                return Ok((size_bytes == digest.size_bytes).then_some(found));
            }
            let Some(value) = values.next().flatten() else { return Ok(None) };
            let record = BlobRecord::decode(&value)?;
            let found = LocatedBlob { blake3, is_suspect: self.is_suspect(&record) };
            Ok(is_servable_as(&record, digest).then_some(found))
        };
        names.into_iter().zip(digests).map(look).collect()
    }

    /// Returns the BLAKE3 and the size of each blob, where the store knows them.
    fn names_of(&self, digests: &[Digest]) -> Result<Vec<Option<Alias>>, StoreError> {
        let is_alias = |digest: &&Digest| digest.function == DigestFunction::Sha256;
        let keys = digests.iter().filter(is_alias).map(|digest| &digest.hash.0);
        let aliases = self.database.get_many(DbTable::Aliases, keys, "look up other names of blobs")?;
        let mut aliases = aliases.into_iter();
        let name = |digest: &Digest| match digest.function {
            DigestFunction::Blake3 => Ok(Some(Alias { blake3: digest.hash, size_bytes: digest.size_bytes })),
            DigestFunction::Sha256 => aliases.next().flatten().map(|value| Alias::decode(&value)).transpose(),
        };
        digests.iter().map(name).collect()
    }

    /// Returns the BLAKE3 of the blob with this hash; `None` if no alias names it.
    pub(super) fn blake3(&self, function: DigestFunction, hash: Hash) -> Result<Option<Hash>, StoreError> {
        match function {
            DigestFunction::Blake3 => Ok(Some(hash)),
            DigestFunction::Sha256 => {
                let value = self.database.get(DbTable::Aliases, hash.0, "look up another name of a blob")?;
                Ok(value.map(|value| Alias::decode(&value)).transpose()?.map(|alias| alias.blake3))
            }
        }
    }

    pub(super) fn open_blob(
        &self,
        digest: &Digest,
        access: AccessKind,
    ) -> Result<Option<Content>, StoreError> {
        let Some(blake3) = self.blake3(digest.function, digest.hash)? else {
            return Ok(digest.is_empty_blob().then(|| Content::Memory(Bytes::new())));
        };
        let content = if digest.size_bytes <= INLINE_BYTES_MAX {
            self.open_inline(&blake3, digest)?
        } else {
            self.open_file(blake3, digest)?
                .map(|(file, _)| Content::File { file: Arc::new(file), size_bytes: digest.size_bytes })
        };
        if content.is_some() {
            // The content was opened already, so it can be returned even if the blob is being
            // deleted.
            self.note_access(&blob_key(&blake3), access);
        }
        Ok(content)
    }

    /// Reads a small blob. These are always inline, so one lookup is enough.
    fn open_inline(&self, blake3: &Hash, digest: &Digest) -> Result<Option<Content>, StoreError> {
        let value = self.database.get(DbTable::Inline, blake3.0, "read a small blob")?;
        let bytes = value.filter(|value| value.len() as u64 == digest.size_bytes);
        let bytes = bytes.map(|bytes| Bytes::copy_from_slice(&bytes));
        Ok(bytes.or_else(|| digest.is_empty_blob().then(Bytes::new)).map(Content::Memory))
    }

    /// Opens the file of a blob and returns it with its metadata. The file is hashed first if it is
    /// not trusted.
    pub(super) fn open_file(
        &self,
        blake3: Hash,
        digest: &Digest,
    ) -> Result<Option<(File, Metadata)>, StoreError> {
        let record = self.record(&blake3)?;
        let Some(record) =
            record.filter(|record| is_servable_as(record, digest) && record.location == BlobLocation::File)
        else {
            return Ok(None);
        };
        let path = self.layout.blob(&blake3);
        let look = |file: &File| file.metadata().map_err(|error| StoreError::io("look at", &path, error));
        match File::open(&path) {
            Ok(file) => {
                let metadata = look(&file)?;
                if self.is_trusted(&record, &metadata) {
                    return Ok(Some((file, metadata)));
                }
            }
            // The file was evicted since the lookup, or is lost. `examine` finds out under the
            // lock.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(StoreError::io("open", path, error)),
        }
        match self.examine(blake3)? {
            BlobCheck::Whole(file) => look(&file).map(|metadata| Some((file, metadata))),
            BlobCheck::Absent => Ok(None),
            BlobCheck::Damaged => Err(damaged(digest)),
        }
    }

    pub(super) fn names_of_blob(&self, digest: &Digest) -> Result<Option<BlobNames>, StoreError> {
        let Some(blake3) = self.blake3(digest.function, digest.hash)? else { return Ok(None) };
        let record = self.record(&blake3)?.filter(|record| is_servable_as(record, digest));
        Ok(record.map(|BlobRecord { sha256, size_bytes, .. }| BlobNames { blake3, sha256, size_bytes }))
    }

    pub(super) fn size_of_blob(
        &self,
        function: DigestFunction,
        hash: Hash,
    ) -> Result<Option<u64>, StoreError> {
        let empty: Digest = Digest::empty(function);
        if hash == empty.hash {
            return Ok(Some(0));
        }
        let Some(blake3) = self.blake3(function, hash)? else { return Ok(None) };
        let record = self.record(&blake3)?.filter(|record| !record.damaged);
        Ok(record.map(|record| record.size_bytes))
    }
}
