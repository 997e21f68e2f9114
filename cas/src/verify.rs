//! Bytes are checked against their digest before they are stored (STO-02).
//!
//! [`DigestCheck`] is the check itself, which every writer of blobs makes. [`VerifyingStore`] is a
//! decorator that answers requests which need no store at all: for the empty blob, for a blob over
//! the limit, for a length that cannot be right. Implementations never see these. Neither knows
//! where bytes are kept.

use std::sync::Arc;

use bytes::Bytes;

use crate::digest::{BlobNames, Digest, DigestFunction, Hash, Hasher};
use crate::error::StoreError;
use crate::store::{AccessKind, BlobStore, BlobWriter, Content};

/// The name of the limit on the size of one blob, for messages.
pub const BLOB_BYTES_MAX: &str = "blob_bytes_max";

/// Checks the bytes of a blob, as they arrive, against the digest that the caller stated.
pub struct DigestCheck {
    digest: Digest,
    hasher: Hasher,
}

impl DigestCheck {
    /// Begins the check for `digest`.
    pub fn new(digest: &Digest) -> Self {
        DigestCheck { digest: *digest, hasher: Hasher::new(digest.function) }
    }

    /// Adds the next bytes. Fails at the first byte too many, so that an endless stream is not
    /// hashed.
    pub fn update(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let received_bytes = self.hasher.size_bytes().saturating_add(bytes.len() as u64);
        if received_bytes > self.digest.size_bytes {
            return Err(StoreError::Length { claimed: self.digest, received_bytes });
        }
        self.hasher.update(bytes);
        Ok(())
    }

    /// Returns the names of the bytes, or an error if length or hash are not those of the digest.
    pub fn finish(self) -> Result<BlobNames, StoreError> {
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

/// Decorates a store so that it never sees the empty blob, nor a blob that is too large.
pub struct VerifyingStore<S: ?Sized> {
    inner: Arc<S>,
    blob_bytes_max: u64,
}

impl<S: BlobStore + ?Sized> VerifyingStore<S> {
    /// Decorates `inner`, which gets no blob larger than `blob_bytes_max`.
    pub fn new(inner: Arc<S>, blob_bytes_max: u64) -> Self {
        VerifyingStore { inner, blob_bytes_max }
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

impl<S: BlobStore + ?Sized> BlobStore for VerifyingStore<S> {
    fn find_missing(&self, digests: &[Digest], access: AccessKind) -> Result<Vec<bool>, StoreError> {
        if !digests.iter().any(has_no_bytes) {
            return self.inner.find_missing(digests, access);
        }
        let rest: Vec<Digest> = digests.iter().filter(|digest| !has_no_bytes(digest)).copied().collect();
        let mut answers = self.inner.find_missing(&rest, access)?.into_iter();
        let answer = |digest: &Digest| match has_no_bytes(digest) {
            true => !digest.is_empty_blob(),
            false => answers.next().expect("there is one answer for each digest asked about"),
        };
        Ok(digests.iter().map(answer).collect())
    }

    fn open(&self, digest: &Digest, access: AccessKind) -> Result<Option<Content>, StoreError> {
        if has_no_bytes(digest) {
            return Ok(digest.is_empty_blob().then(|| Content::Memory(Bytes::new())));
        }
        self.inner.open(digest, access)
    }

    fn size_of(&self, function: DigestFunction, hash: Hash) -> Result<Option<u64>, StoreError> {
        if Digest::<crate::digest::Blob>::new(function, hash, 0).is_empty_blob() {
            return Ok(Some(0));
        }
        self.inner.size_of(function, hash)
    }

    fn names_of(&self, digest: &Digest) -> Result<Option<BlobNames>, StoreError> {
        self.inner.names_of(digest)
    }

    fn create(&self, digest: &Digest) -> Result<Box<dyn BlobWriter>, StoreError> {
        self.check_size(digest)?;
        if has_no_bytes(digest) {
            return Ok(Box::new(EmptyBlobWriter { check: DigestCheck::new(digest) }));
        }
        self.inner.create(digest)
    }

    fn insert(&self, blobs: &[(Digest, Bytes)]) -> Vec<Result<(), StoreError>> {
        let check = |(digest, bytes): &(Digest, Bytes)| {
            self.check_size(digest)?;
            if bytes.len() as u64 != digest.size_bytes {
                return Err(StoreError::Length { claimed: *digest, received_bytes: bytes.len() as u64 });
            }
            match has_no_bytes(digest) {
                true => DigestCheck::new(digest).finish().map(|_| false),
                false => Ok(true),
            }
        };
        let checked: Vec<Result<bool, StoreError>> = blobs.iter().map(check).collect();
        // Usually all blobs are valid and none is empty. Then the batch is passed on without copying it.
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

    fn may_block(&self) -> bool {
        self.inner.may_block()
    }
}

/// Tells whether a digest has size zero. Only one such blob exists, the empty one; a digest of
/// size zero with any other hash names nothing.
fn has_no_bytes(digest: &Digest) -> bool {
    digest.size_bytes == 0
}

/// Checks that no bytes arrive, and stores nothing.
struct EmptyBlobWriter {
    check: DigestCheck,
}

impl BlobWriter for EmptyBlobWriter {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.check.update(bytes)
    }

    fn commit(self: Box<Self>) -> Result<BlobNames, StoreError> {
        self.check.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::memory::MemoryStore;

    const SHA256: DigestFunction = DigestFunction::Sha256;

    fn store() -> VerifyingStore<MemoryStore> {
        VerifyingStore::new(Arc::new(MemoryStore::new(Arc::new(ManualClock::default()))), 100)
    }

    fn digest(bytes: &[u8]) -> Digest {
        Digest::of(SHA256, bytes)
    }

    fn with_size(digest: Digest, size_bytes: u64) -> Digest {
        Digest::new(digest.function, digest.hash, size_bytes)
    }

    fn write<S: BlobStore>(store: &S, digest: &Digest, bytes: &[u8]) -> Result<BlobNames, StoreError> {
        let mut writer = store.create(digest)?;
        bytes.chunks(3).try_for_each(|chunk| writer.write(chunk))?;
        writer.commit()
    }

    #[test]
    fn sto_02_bytes_that_do_not_match_their_digest_are_rejected() {
        let store = store();
        let good = digest(b"the bytes");
        for (claimed, bytes) in [
            (good, b"the bytez".as_slice()),
            (good, b"the byte"),
            (good, b"the bytes!"),
            (with_size(good, 8), b"the bytes"),
            (with_size(good, 10), b"the bytes"),
            (Digest::new(DigestFunction::Blake3, good.hash, 9), b"the bytes"),
        ] {
            assert!(write(&store, &claimed, bytes).unwrap_err().is_callers_fault());
            let inserted = store.insert(&[(claimed, Bytes::copy_from_slice(bytes))]);
            assert!(inserted[0].as_ref().unwrap_err().is_callers_fault());
            assert_eq!(store.find_missing(&[claimed], AccessKind::Peek).unwrap(), [true]);
        }
        let names = write(&store, &good, b"the bytes").unwrap();
        assert_eq!(names.digest(SHA256), Some(good));
        assert_eq!(store.find_missing(&[good, with_size(good, 8)], AccessKind::Peek).unwrap(), [false, true]);
        assert_eq!(store.open(&good, AccessKind::Use).unwrap().unwrap().read_all().unwrap(), "the bytes");
    }

    #[test]
    fn a_stream_is_rejected_at_the_first_byte_too_many() {
        let mut check = DigestCheck::new(&digest(b"1234"));
        check.update(b"1234").unwrap();
        assert!(matches!(check.update(b"5"), Err(StoreError::Length { received_bytes: 5, .. })));
    }

    #[test]
    fn the_empty_blob_is_always_present_and_never_stored() {
        let store = store();
        for function in DigestFunction::ALL {
            let empty = Digest::empty(function);
            assert_eq!(store.find_missing(&[empty], AccessKind::Promise).unwrap(), [false]);
            assert_eq!(store.open(&empty, AccessKind::Use).unwrap().unwrap().size_bytes(), 0);
            assert_eq!(store.size_of(function, empty.hash).unwrap(), Some(0));
            write(&store, &empty, b"").unwrap();
            assert!(write(&store, &empty, b"x").is_err());
            assert!(store.insert(&[(empty, Bytes::new())])[0].is_ok());
        }
        // The BLAKE3 of nothing is not the SHA-256 of anything empty.
        let wrong = Digest::new(SHA256, Digest::<crate::digest::Blob>::empty(DigestFunction::Blake3).hash, 0);
        assert_eq!(store.find_missing(&[wrong], AccessKind::Peek).unwrap(), [true]);
        assert!(store.open(&wrong, AccessKind::Use).unwrap().is_none());
        assert!(write(&store, &wrong, b"").is_err());
        assert!(store.insert(&[(wrong, Bytes::new())])[0].is_err());
        assert_eq!(crate::evict::Catalog::usage(&*store.inner).unwrap().blobs, 0);
    }

    #[test]
    fn a_blob_that_is_too_large_is_rejected_before_its_first_byte() {
        let store = store();
        let bytes = [7; 101];
        let is_too_large =
            |error: &StoreError| matches!(error, StoreError::TooLarge { limit_bytes: 100, .. });
        assert!(store.create(&digest(&bytes)).is_err_and(|error| is_too_large(&error)));
        write(&store, &digest(&bytes[1..]), &bytes[1..]).unwrap();
        let outcomes = store.insert(&[
            (digest(&bytes), Bytes::copy_from_slice(&bytes)),
            (digest(b"a"), Bytes::from_static(b"a")),
            (digest(b""), Bytes::new()),
            (digest(b"b"), Bytes::from_static(b"x")),
            (digest(b"c"), Bytes::from_static(b"c")),
        ]);
        assert!(outcomes[0].as_ref().is_err_and(is_too_large));
        assert_eq!(outcomes.iter().map(Result::is_ok).collect::<Vec<_>>(), [false, true, true, false, true]);
        assert_eq!(
            store.find_missing(&["a", "c", "b"].map(|t| digest(t.as_bytes())), AccessKind::Peek).unwrap(),
            [false, false, true]
        );
    }
}
