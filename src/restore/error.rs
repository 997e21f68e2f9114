//! Why a result could not be restored. The compiler runs instead.

use std::io;
use std::path::PathBuf;

use kache_cas::{Digest, StoreError};
use thiserror::Error;

use crate::outputs::StagingError;
use crate::outputs::dep_info::DepInfoError;

/// A failed restore, of which nothing is left in the checkout (RST-05).
#[derive(Debug, Error)]
pub enum RestoreError {
    /// The store failed.
    #[error("failed to restore from the store: {0}")]
    Store(#[from] StoreError),
    /// A blob that the lookup found is no longer in the store.
    #[error("`{digest}` is no longer in the store")]
    Gone {
        /// The digest of the blob.
        digest: Digest,
    },
    /// The client has removed its staging directory and runs the compiler itself.
    #[error("the restore took longer than the client waits")]
    TooLate,
    /// The client could not make a staging directory beside the outputs.
    #[error("there is no staging directory beside the outputs")]
    NoStaging,
    /// The result contains a file that is no output of this call (NET-02).
    #[error("the result has a file `{path}` that is no output of the call")]
    Unexpected {
        /// The file's path in the result.
        path: String,
    },
    /// The result does not contain a required output of this call.
    #[error("the result has no output `{}`", path.display())]
    Lacking {
        /// The path of the output in the checkout.
        path: PathBuf,
    },
    /// The result is not one that kache stored.
    #[error("the result is malformed: {what}")]
    Malformed {
        /// The malformed part of it.
        what: &'static str,
    },
    /// The stored dep-info is not understood.
    #[error("failed to read the stored dep-info: {0}")]
    DepInfo(#[from] DepInfoError),
    /// A file could not be written.
    #[error("failed to write `{}`: {source}", path.display())]
    Io {
        /// The path of the file.
        path: PathBuf,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
}

impl From<StagingError> for RestoreError {
    fn from(error: StagingError) -> Self {
        match error {
            StagingError::Missing => RestoreError::NoStaging,
            StagingError::Io { path, source } => RestoreError::Io { path, source },
        }
    }
}
