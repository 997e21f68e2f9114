//! The errors of the store, each of which names the path or digest.
//!
//! "Not there" is never an error: it is `None` or a missing digest (STO-08). An error means that
//! the store could not find out or could not do what was asked; nothing was deleted.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use crate::digest::{Digest, DigestError};

/// Why a store operation failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The bytes do not have the digest that the caller stated.
    #[error("the bytes do not match `{claimed}`: they are `{actual}`")]
    Mismatch {
        /// The digest that the caller stated.
        claimed: Digest,
        /// The digest of the bytes.
        actual: Digest,
    },
    /// More or fewer bytes arrived than the digest says.
    #[error("`{claimed}` was given {received_bytes} bytes")]
    Length {
        /// The digest that the caller stated.
        claimed: Digest,
        /// How many bytes had arrived when the length was known to be wrong.
        received_bytes: u64,
    },
    /// A text that should be a digest is malformed.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// The blob or the action result is larger than a limit allows.
    #[error("{size_bytes} bytes are more than `{limit}` ({limit_bytes}) allows")]
    TooLarge {
        /// The name of the limit.
        limit: &'static str,
        /// The value of the limit.
        limit_bytes: u64,
        /// The size of the blob or result.
        size_bytes: u64,
    },
    /// The store is at its limit and nothing more may be evicted, or the volume is full.
    #[error("no room for {wanted_bytes} bytes: {why}")]
    NoSpace {
        /// How many bytes the writer needs.
        wanted_bytes: u64,
        /// A sentence on the limit that is met, with its numbers.
        why: String,
    },
    /// The action result breaks a rule of the protocol and must not be stored.
    #[error("the action result is not well-formed: {why}")]
    InvalidResult {
        /// The wrong field, and what is wrong with it.
        why: String,
    },
    /// A file operation failed.
    #[error("failed to {doing} `{}`", path.display())]
    Io {
        /// The operation, as a verb such as `open`.
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The error that the operating system returned.
        #[source]
        source: io::Error,
    },
    /// The database failed.
    #[error("failed to {doing}: {message}")]
    Database {
        /// The operation, as a verb with its object such as `read an action result`.
        doing: &'static str,
        /// The message that RocksDB returned.
        message: String,
    },
    /// The stored bytes no longer have their digest. The blob is not served any more.
    #[error("`{digest}` was damaged on disk and is out of service")]
    Damaged {
        /// The digest under which the blob is stored.
        digest: Digest,
    },
    /// A file changed while it was stored or placed, so the bytes that were read are of no use.
    #[error("`{}` changed while it was read", path.display())]
    Changed {
        /// The file that changed.
        path: PathBuf,
    },
    /// The store on disk cannot be used as it is.
    #[error("the store at `{}` {why}", path.display())]
    Unusable {
        /// The store's directory, or the database's.
        path: PathBuf,
        /// The problem, and how to solve it.
        why: String,
    },
    /// Another process has the store open.
    #[error("the store at `{}` is in use by another process; only one may have it open at a time", path.display())]
    InUse {
        /// The directory of the store that cannot be opened.
        path: PathBuf,
    },
    /// The database has given up writing until it is closed and opened again.
    #[error("the database does not write until the store is opened again: {message}")]
    Stuck {
        /// The message that RocksDB returned.
        message: String,
    },
    /// The store is being closed.
    #[error("the store is closing")]
    Closing,
}

impl StoreError {
    /// Makes the error of a file operation: `doing` is a verb such as `open`.
    pub fn io(doing: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        StoreError::Io { doing, path: path.into(), source }
    }

    /// Tells whether the caller's data is wrong, so that trying again cannot help.
    pub fn is_callers_fault(&self) -> bool {
        matches!(
            self,
            StoreError::Mismatch { .. }
                | StoreError::Length { .. }
                | StoreError::Digest(_)
                | StoreError::TooLarge { .. }
                | StoreError::InvalidResult { .. }
        )
    }

    /// Tells whether room is missing, either below the store's limit or on the volume.
    pub fn is_no_space(&self) -> bool {
        match self {
            StoreError::NoSpace { .. } => true,
            StoreError::Io { source, .. } => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            _ => false,
        }
    }
}

/// Returns an error and its causes in one line. [`StoreError::Io`], for one, leaves the system's error to
/// its cause.
pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_reported_with_its_causes() {
        let source = io::Error::other("no such device");
        let error = StoreError::io("open", "/dead", source);
        assert_eq!(with_causes(&error), "failed to open `/dead`: no such device");
    }
}
