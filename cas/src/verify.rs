//! Bytes are checked against their name on the way in (STO-02).
//!
//! Two things: [`Claim`], the check itself, which every writer of blobs makes; and
//! [`Verified`], the decorator that answers for what needs no store at all (the empty
//! blob, a blob over the limit, a length that cannot be right) so that implementations
//! never see it. Neither knows where bytes are kept.

use std::sync::Arc;

use bytes::Bytes;

use crate::digest::{Digest, DigestFunction, Hash, Hasher, Names};
use crate::error::StoreError;
use crate::store::{BlobStore, BlobWriter, Content, Mention};

/// The name of the limit on one blob, as messages say it.
pub const BLOB_BYTES_MAX: &str = "blob_bytes_max";

/// A digest somebody stated, being checked against bytes as they come.
pub struct Claim {
    digest: Digest,
    hasher: Hasher,
}

impl Claim {
    /// Nothing taken yet.
    pub fn new(digest: &Digest) -> Self {
        Claim { digest: *digest, hasher: Hasher::new(digest.function) }
    }

    /// Takes the next bytes. One byte too many is an error at once: nobody hashes a flood.
    pub fn take(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let received_bytes = self.hasher.size_bytes().saturating_add(bytes.len() as u64);
        if received_bytes > self.digest.size_bytes {
            return Err(StoreError::Length { claimed: self.digest, received_bytes });
        }
        self.hasher.update(bytes);
        Ok(())
    }

    /// The names of the bytes, if they are what was claimed.
    pub fn settle(self) -> Result<Names, StoreError> {
        let received_bytes = self.hasher.size_bytes();
        if received_bytes != self.digest.size_bytes {
            return Err(StoreError::Length { claimed: self.digest, received_bytes });
        }
        let names = self.hasher.finish();
        let actual = names.digest(self.digest.function).expect("the hasher was made for this function");
        if actual != self.digest {
            return Err(StoreError::Mismatch { claimed: self.digest, actual });
        }
        Ok(names)
    }
}

/// The store behind it never sees the empty blob nor one that is too large.
pub struct Verified<S: ?Sized> {
    inner: Arc<S>,
    blob_bytes_max: u64,
}

impl<S: BlobStore + ?Sized> Verified<S> {
    /// In front of `inner`.
    pub fn new(inner: Arc<S>, blob_bytes_max: u64) -> Self {
        Verified { inner, blob_bytes_max }
    }

    fn check_size(&self, digest: &Digest) -> Result<(), StoreError> {
        if digest.size_bytes > self.blob_bytes_max {
            return Err(StoreError::TooLarge {
                limit: BLOB_BYTES_MAX,
                limit_bytes: self.blob_bytes_max,
                size_bytes: digest.size_bytes,
            });
        }
        Ok(())
    }
}

impl<S: BlobStore + ?Sized> BlobStore for Verified<S> {
    fn find_missing(&self, digests: &[Digest], mention: Mention) -> Result<Vec<bool>, StoreError> {
        if !digests.iter().any(names_nothing) {
            return self.inner.find_missing(digests, mention);
        }
        let rest: Vec<Digest> = digests.iter().filter(|digest| !names_nothing(digest)).copied().collect();
        let mut answers = self.inner.find_missing(&rest, mention)?.into_iter();
        let answer = |digest: &Digest| match names_nothing(digest) {
            true => !digest.is_empty_blob(),
            false => answers.next().expect("there is one answer for each digest asked about"),
        };
        Ok(digests.iter().map(answer).collect())
    }

    fn open(&self, digest: &Digest, mention: Mention) -> Result<Option<Content>, StoreError> {
        if names_nothing(digest) {
            return Ok(digest.is_empty_blob().then(|| Content::Memory(Bytes::new())));
        }
        self.inner.open(digest, mention)
    }

    fn size_of(&self, function: DigestFunction, hash: Hash) -> Result<Option<u64>, StoreError> {
        if Digest::<crate::digest::Blob>::new(function, hash, 0).is_empty_blob() {
            return Ok(Some(0));
        }
        self.inner.size_of(function, hash)
    }

    fn create(&self, digest: &Digest) -> Result<Box<dyn BlobWriter>, StoreError> {
        self.check_size(digest)?;
        if names_nothing(digest) {
            return Ok(Box::new(NothingWriter { claim: Claim::new(digest) }));
        }
        self.inner.create(digest)
    }

    fn insert(&self, blobs: &[(Digest, Bytes)]) -> Vec<Result<(), StoreError>> {
        let check = |(digest, bytes): &(Digest, Bytes)| {
            self.check_size(digest)?;
            if bytes.len() as u64 != digest.size_bytes {
                return Err(StoreError::Length { claimed: *digest, received_bytes: bytes.len() as u64 });
            }
            match names_nothing(digest) {
                true => Claim::new(digest).settle().map(|_| false),
                false => Ok(true),
            }
        };
        let checked: Vec<Result<bool, StoreError>> = blobs.iter().map(check).collect();
        if checked.iter().all(|check| matches!(check, Ok(true))) {
            return self.inner.insert(blobs);
        }
        let is_wanted = |check: &Result<bool, StoreError>| matches!(check, Ok(true));
        let wanted: Vec<(Digest, Bytes)> = blobs
            .iter()
            .zip(&checked)
            .filter(|(_, check)| is_wanted(check))
            .map(|(blob, _)| blob.clone())
            .collect();
        let mut answers = self.inner.insert(&wanted).into_iter();
        let answer = |check| match check {
            Ok(true) => answers.next().expect("there is one answer for each blob given"),
            Ok(false) => Ok(()),
            Err(error) => Err(error),
        };
        checked.into_iter().map(answer).collect()
    }

    fn deletions(&self) -> u64 {
        self.inner.deletions()
    }
}

/// Of size zero there is one blob; any other hash with that size names nothing at all.
fn names_nothing(digest: &Digest) -> bool {
    digest.size_bytes == 0
}

/// Checks that no bytes come, and stores none.
struct NothingWriter {
    claim: Claim,
}

impl BlobWriter for NothingWriter {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.claim.take(bytes)
    }

    fn commit(self: Box<Self>) -> Result<Names, StoreError> {
        self.claim.settle()
    }
}
