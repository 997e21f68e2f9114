//! Reads a stored action back by its hash. The size in its digest is not needed, because people
//! copy only the hash.

use bytes::Bytes;
use kache_cas::{Digest, DigestFunction, Hash};
use thiserror::Error;

use crate::action::{self, Entry};

/// A source of blobs.
pub trait Blobs {
    /// Returns a blob's bytes; `None` if there is no such blob. A failure to read is an error
    /// and not an absence (STO-08).
    fn get(&self, hash: Hash) -> Result<Option<Bytes>, String>;
}

/// Why an action cannot be loaded.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The action or a blob that belongs to it is not stored.
    #[error("action `{hash}` is not in the store, or not all of it: {why}")]
    Missing {
        /// The hash of the action that was asked for.
        hash: String,
        /// The blob that is missing.
        why: String,
    },
    /// The blob is not an action.
    #[error("`{hash}` is not an action: {why}")]
    Other {
        /// The hash of the blob that is missing.
        hash: String,
        /// The reason why its bytes cannot be an action.
        why: String,
    },
    /// A blob could not be read.
    #[error("failed to read `{hash}`: {why}")]
    Unreadable {
        /// The hash of the blob that cannot be read.
        hash: String,
        /// The error of the decoder.
        why: String,
    },
}

/// An action in the form in which it can be printed and compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExplainedAction {
    /// The hash of the action.
    pub hash: Hash,
    /// The parts of the action, in the order in which they enter its digest.
    pub entries: Vec<Entry>,
}

/// Reads a stored action.
pub fn load(blobs: &dyn Blobs, hash: Hash) -> Result<ExplainedAction, LoadError> {
    let name = || hash.to_hex();
    let bytes = blobs.get(hash).map_err(|why| LoadError::Unreadable { hash: name(), why })?;
    let Some(bytes) = bytes else {
        return Err(LoadError::Missing { hash: name(), why: "no blob has this digest".to_owned() });
    };
    let digest = Digest::new(DigestFunction::Blake3, hash, bytes.len() as u64);
    // `explain_stored` knows only present and absent blobs, so the first failure to read is
    // kept here and reported instead of the absence.
    let mut first_error = None;
    let mut fetch = |digest: Digest| match blobs.get(digest.hash) {
        Ok(content) => content,
        Err(why) => {
            first_error.get_or_insert((digest.hash.to_hex(), why));
            None
        }
    };
    let explained = action::explain_stored(digest, &mut fetch);
    if let Some((hash, why)) = first_error {
        return Err(LoadError::Unreadable { hash, why });
    }
    match explained {
        Ok(entries) => Ok(ExplainedAction { hash, entries }),
        Err(error @ action::ExplainError::Missing { .. }) => {
            Err(LoadError::Missing { hash: name(), why: error.to_string() })
        }
        Err(error) => Err(LoadError::Other { hash: name(), why: error.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::Section;
    use crate::explain::testing::{MemoryBlobs, TestAction};

    #[test]
    fn an_action_is_read_back() {
        let blobs = MemoryBlobs::default();
        let hash =
            blobs.put(&TestAction { args: &["rustc", "-O"], env: &[("A", "1")], ..TestAction::default() });
        let explained = load(&blobs, hash).unwrap();
        assert_eq!(explained.hash, hash);
        let found: Vec<_> = explained.entries.iter().map(|entry| (entry.section, &*entry.value)).collect();
        assert_eq!(
            found,
            [
                (Section::Salt, ""),
                (Section::Argument, "rustc"),
                (Section::Argument, "-O"),
                (Section::Variable, "1")
            ]
        );
    }

    #[test]
    fn a_missing_blob_and_a_blob_that_is_not_an_action_are_different_errors() {
        let blobs = MemoryBlobs::default();
        let nothing = MemoryBlobs::hash(b"nothing");
        assert!(matches!(load(&blobs, nothing), Err(LoadError::Missing { .. })));
        for bytes in [&b""[..], b"\xff\xff\xff", b"\x1a\x00"] {
            let hash = blobs.put_bytes(bytes);
            assert!(matches!(load(&blobs, hash), Err(LoadError::Other { .. })), "{bytes:?}");
        }
        let hash = blobs.put(&TestAction { files: &[("ws/a.rs", "a")], ..TestAction::default() });
        blobs.keep_only(hash);
        assert!(matches!(load(&blobs, hash), Err(LoadError::Missing { .. })));
    }

    #[test]
    fn sto_08_a_store_that_fails_is_not_an_action_that_is_gone() {
        struct Broken(MemoryBlobs, Hash);
        impl Blobs for Broken {
            fn get(&self, hash: Hash) -> Result<Option<Bytes>, String> {
                if hash == self.1 { self.0.get(hash) } else { Err("the disk is on fire".to_owned()) }
            }
        }
        let blobs = MemoryBlobs::default();
        let hash = blobs.put(&TestAction::default());
        for readable in [hash, MemoryBlobs::hash(b"x")] {
            let error = load(&Broken(MemoryBlobs::default(), readable), hash);
            let error = if readable == hash { load(&Broken(blobs.clone(), hash), hash) } else { error };
            assert!(matches!(error, Err(LoadError::Unreadable { .. })), "{error:?}");
        }
    }
}
