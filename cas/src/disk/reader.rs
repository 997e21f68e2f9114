//! Finding and reading blobs.
//!
//! What exists is answered by the index alone, many digests in one call. A blob of at most
//! 4 KiB is read in one lookup; a larger one is an open file. Never deletes anything but
//! what `verify` condemns, and never takes an error for absence (STO-08).
//!
//! Invariant (STO-04): an answer that promises a blob has leased it before it is given, and
//! no deletion that began before the lease has taken the blob.

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
use crate::digest::{Digest, DigestFunction, Hash};
use crate::error::StoreError;
use crate::leases::Retention;
use crate::store::{AccessKind, Content};

/// How often what is being deleted is looked for again before it counts as gone. A deletion
/// takes longer than all of these together; one that is called off takes less.
const LEASE_TRIES_MAX: u32 = 16;

/// What was found for one digest.
#[derive(Clone, Copy)]
struct LocatedBlob {
    blake3: Hash,
    /// Whether it has to be hashed before anybody is told of it.
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

    /// What the index has for these digests, all of it leased as the mention says.
    ///
    /// A lease that was taken is respected by every deletion that begins after it. One that
    /// began before it makes the lease fail for as long as it lasts, and has moved
    /// `deletions` once it is over. So when all leases were taken and something was deleted
    /// meanwhile, what the index has now will stay; and when one was not taken, everything is
    /// asked again.
    fn locate_and_note(
        &self,
        digests: &[Digest],
        access: AccessKind,
    ) -> Result<Vec<Option<LocatedBlob>>, StoreError> {
        let mut tries_left = LEASE_TRIES_MAX;
        loop {
            tries_left -= 1;
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

    /// Notes a mention. Whether the blob may still be used.
    fn access(&self, found: &LocatedBlob, access: AccessKind) -> bool {
        self.note_access(&blob_key(&found.blake3), access)
    }

    pub(super) fn note_access(&self, key: &[u8], access: AccessKind) -> bool {
        if access == AccessKind::Peek {
            return true;
        }
        let noted = self.uses.note(key, Retention::default().accessed(access, self.now_ms()));
        if noted == NoteOutcome::WriteDue {
            // The next step of upkeep reports what goes wrong here.
            let _ = self.uses.flush_shard_of(&self.database, key);
        }
        noted != NoteOutcome::BeingDeleted
    }

    /// What the index has for these digests, one answer each.
    fn locate(&self, digests: &[Digest]) -> Result<Vec<Option<LocatedBlob>>, StoreError> {
        let names = self.names_of(digests)?;
        // An alias is there exactly as long as its blob can be served: that answers, unless
        // the blob may be a suspect.
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

    /// The store's own names of these digests, where it knows one, and their sizes.
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

    /// The store's own name of one digest.
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
            // It is in hand already: that it may be doomed changes nothing.
            self.note_access(&blob_key(&blake3), access);
        }
        Ok(content)
    }

    /// A small blob is always inline, so nothing else has to be looked up.
    fn open_inline(&self, blake3: &Hash, digest: &Digest) -> Result<Option<Content>, StoreError> {
        let value = self.database.get(DbTable::Inline, blake3.0, "read a small blob")?;
        let bytes = value.filter(|value| value.len() as u64 == digest.size_bytes);
        let bytes = bytes.map(|bytes| Bytes::copy_from_slice(&bytes));
        Ok(bytes.or_else(|| digest.is_empty_blob().then(Bytes::new)).map(Content::Memory))
    }

    /// The open file of a blob, hashed first if there is doubt, and how it looks.
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
            // Evicted since the lookup, or lost: the lock tells which.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(StoreError::io("open", path, error)),
        }
        match self.examine(blake3)? {
            BlobCheck::Whole(file) => look(&file).map(|metadata| Some((file, metadata))),
            BlobCheck::Absent => Ok(None),
            BlobCheck::Damaged => Err(damaged(digest)),
        }
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
