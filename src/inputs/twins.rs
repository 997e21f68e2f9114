//! The SHA-256 of contents whose BLAKE3 is known, for remotes that take no other digests.
//!
//! A twin belongs to a content and not to a file, so it never becomes wrong. Nothing is computed and nothing
//! is kept here unless a remote needs it.

use std::collections::HashMap;

use kache_cas::{Digest, DigestFunction, Hash};
use parking_lot::RwLock;

/// The largest number of twins; each takes about 100 bytes. Beyond it they are forgotten, which costs hashing
/// the files again.
const TWINS_MAX: usize = 200_000;

/// The twins of contents, by their digests.
#[derive(Debug, Default)]
pub(super) struct Twins {
    by_digest: RwLock<HashMap<Digest, Hash>>,
}

impl Twins {
    /// Returns the digest of the same content in another function; `None` if it is not known.
    pub(super) fn get(&self, digest: &Digest, function: DigestFunction) -> Option<Digest> {
        if digest.function == function {
            return Some(*digest);
        }
        let hash = self.by_digest.read().get(digest).copied()?;
        Some(Digest::new(function, hash, digest.size_bytes))
    }

    /// Remembers the hash of a content in the other function. Returns whether it is new.
    pub(super) fn put(&self, digest: Digest, hash: Hash) -> bool {
        let mut by_digest = self.by_digest.write();
        if by_digest.len() >= TWINS_MAX {
            by_digest.clear();
        }
        by_digest.insert(digest, hash).is_none()
    }

    /// Copies all twins, in no particular order.
    pub(super) fn all(&self) -> Vec<(Digest, Hash)> {
        self.by_digest.read().iter().map(|(digest, hash)| (*digest, *hash)).collect()
    }
}
