//! An action by its hash alone, since that is what people have.

use bytes::Bytes;
use kache_cas::{Digest, DigestFunction, Hash};
use thiserror::Error;

use crate::action::{self, Entry};

/// A way to bytes by their hash.
pub trait Blobs {
    /// The bytes; `None` where they are not. What cannot be told is an error (STO-08).
    fn get(&self, hash: Hash) -> Result<Option<Bytes>, String>;
}

/// Why an action cannot be explained.
#[derive(Debug, Error)]
pub enum LoadError {
    /// It is not there, or part of it is not.
    #[error("action `{hash}` is not in the store any more, or part of it is not: {why}")]
    Missing {
        /// Its hash.
        hash: String,
        /// What is missing.
        why: String,
    },
    /// The bytes are there, and are something else.
    #[error("`{hash}` is no action: {why}")]
    Other {
        /// Its hash.
        hash: String,
        /// What is wrong with it.
        why: String,
    },
    /// It could not be asked for.
    #[error("failed to read `{hash}`: {why}")]
    Unreadable {
        /// Its hash.
        hash: String,
        /// Why.
        why: String,
    },
}

/// What an action is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    /// Its name.
    pub hash: Hash,
    /// What it is made of, in order.
    pub entries: Vec<Entry>,
}

/// Reads an action back.
pub fn load(blobs: &dyn Blobs, hash: Hash) -> Result<Explained, LoadError> {
    let name = || hash.to_hex();
    let bytes = blobs.get(hash).map_err(|why| LoadError::Unreadable { hash: name(), why })?;
    let Some(bytes) = bytes else {
        return Err(LoadError::Missing { hash: name(), why: "nothing has this digest".to_owned() });
    };
    let digest = Digest::new(DigestFunction::Blake3, hash, bytes.len() as u64);
    let mut trouble = None;
    let mut fetch = |digest: Digest| match blobs.get(digest.hash) {
        Ok(found) => found,
        Err(why) => {
            trouble.get_or_insert((digest.hash.to_hex(), why));
            None
        }
    };
    let explained = action::explain_stored(digest, &mut fetch);
    if let Some((hash, why)) = trouble {
        return Err(LoadError::Unreadable { hash, why });
    }
    match explained {
        Ok(entries) => Ok(Explained { hash, entries }),
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
    use crate::explain::testing::{Made, Shelf};

    #[test]
    fn an_action_is_read_back() {
        let shelf = Shelf::default();
        let hash = shelf.put(&Made { args: &["rustc", "-O"], env: &[("A", "1")], ..Made::default() });
        let explained = load(&shelf, hash).unwrap();
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
    fn what_is_not_there_or_something_else_is_told_apart() {
        let shelf = Shelf::default();
        let nothing = Shelf::hash(b"nothing");
        assert!(matches!(load(&shelf, nothing), Err(LoadError::Missing { .. })));
        for bytes in [&b""[..], b"\xff\xff\xff", b"\x1a\x00"] {
            let hash = shelf.put_bytes(bytes);
            assert!(matches!(load(&shelf, hash), Err(LoadError::Other { .. })), "{bytes:?}");
        }
        let hash = shelf.put(&Made { files: &[("ws/a.rs", "a")], ..Made::default() });
        shelf.keep_only(hash);
        assert!(matches!(load(&shelf, hash), Err(LoadError::Missing { .. })));
    }

    #[test]
    fn sto_08_a_store_that_fails_is_not_an_action_that_is_gone() {
        struct Broken(Shelf, Hash);
        impl Blobs for Broken {
            fn get(&self, hash: Hash) -> Result<Option<Bytes>, String> {
                if hash == self.1 { self.0.get(hash) } else { Err("the disk is on fire".to_owned()) }
            }
        }
        let shelf = Shelf::default();
        let hash = shelf.put(&Made::default());
        for readable in [hash, Shelf::hash(b"x")] {
            let error = load(&Broken(Shelf::default(), readable), hash);
            let error = if readable == hash { load(&Broken(shelf.clone(), hash), hash) } else { error };
            assert!(matches!(error, Err(LoadError::Unreadable { .. })), "{error:?}");
        }
    }
}
