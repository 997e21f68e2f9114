//! What can go wrong in the store, in words that name the path or digest.
//!
//! "Not there" is never an error here: it is `None` or a missing digest (STO-08). An error
//! means that the store could not tell, or could not do it, and nothing was deleted.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::digest::{Digest, DigestError};

/// A store operation that could not be done.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The bytes are not what the digest says.
    #[error("the bytes do not match `{claimed}`: they are `{actual}`")]
    Mismatch {
        /// What the caller said.
        claimed: Digest,
        /// What the bytes are.
        actual: Digest,
    },
    /// More or fewer bytes arrived than the digest says.
    #[error("`{claimed}` was given {received_bytes} bytes")]
    Length {
        /// What the caller said.
        claimed: Digest,
        /// How many bytes came, at the point where it was certain.
        received_bytes: u64,
    },
    /// A text that should have been a digest was not.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// The blob is larger than any this store takes.
    #[error("{size_bytes} bytes are more than `{limit}` ({limit_bytes}) allows")]
    TooLarge {
        /// The name of the limit.
        limit: &'static str,
        /// Its value.
        limit_bytes: u64,
        /// What was asked for.
        size_bytes: u64,
    },
    /// The store is at its limit and nothing more may be evicted, or the volume is full.
    #[error("no room for {wanted_bytes} bytes: {why}")]
    NoSpace {
        /// What was asked for.
        wanted_bytes: u64,
        /// Which limit stands in the way, and what to do.
        why: String,
    },
    /// An action result that no cache may keep.
    #[error("the action result is not well-formed: {why}")]
    InvalidResult {
        /// The field and what is wrong with it.
        why: String,
    },
    /// A file operation failed.
    #[error("failed to {doing} `{}`", path.display())]
    Io {
        /// A verb, such as `open`.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The database failed.
    #[error("failed to {doing}: {message}")]
    Database {
        /// A verb and its object, such as `read an action result`.
        doing: &'static str,
        /// What RocksDB said.
        message: String,
    },
    /// Stored bytes are not what they were. They are out of service.
    #[error("`{digest}` was damaged on disk and is out of service")]
    Damaged {
        /// Which blob.
        digest: Digest,
    },
    /// A file changed while it was stored or laid down, so what was read of it is of no use.
    #[error("`{}` changed while it was read", path.display())]
    Changed {
        /// Which file.
        path: PathBuf,
    },
    /// The store on disk cannot be used as it is.
    #[error("the store at `{}` {why}", path.display())]
    Unusable {
        /// Where it is.
        path: PathBuf,
        /// What is wrong and what to do.
        why: String,
    },
    /// Another process has it open.
    #[error("the store at `{}` is in use by another process; only one may have it open at a time", path.display())]
    InUse {
        /// Where it is.
        path: PathBuf,
    },
    /// The database has given up writing, and only opening it anew helps.
    #[error("the database writes no more until the store is opened anew: {message}")]
    Stuck {
        /// What RocksDB said.
        message: String,
    },
    /// The store is being closed.
    #[error("the store is closing")]
    Closing,
}

impl StoreError {
    /// Wraps a file error with what was being done and where.
    pub fn io(doing: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        StoreError::Io { doing, path: path.into(), source }
    }

    /// Whether the caller's data is at fault, so that trying again cannot help.
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

    /// Whether room is what is missing: the store's, or the volume's.
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
