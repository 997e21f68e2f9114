//! Why a result could not be laid down. The compiler runs instead.

use std::io;
use std::path::PathBuf;

use kache_cas::{Digest, StoreError};
use thiserror::Error;

use super::dep_info::DepInfoError;

/// A restore that did not happen: nothing of it is left (RST-05).
#[derive(Debug, Error)]
pub enum RestoreError {
    /// The store failed.
    #[error("failed to restore from the store: {0}")]
    Store(#[from] StoreError),
    /// A blob is gone since the lookup.
    #[error("`{digest}` is no longer in the store")]
    Gone {
        /// Which.
        digest: Digest,
    },
    /// The client has gone on without it.
    #[error("it took too long")]
    TooLate,
    /// The client could make no staging directory beside the outputs.
    #[error("nothing can be laid down where the outputs belong")]
    NoStaging,
    /// The result names a file that this call did not ask for (NET-02).
    #[error("the result has an output `{path}` that was not asked for")]
    Unexpected {
        /// As the result names it.
        path: String,
    },
    /// The result lacks a file that this call asked for.
    #[error("the result has no `{}`", path.display())]
    Lacking {
        /// Where it would have gone.
        path: PathBuf,
    },
    /// The result is not one that kache stored.
    #[error("the result is malformed: {what}")]
    Malformed {
        /// What is wrong with it.
        what: &'static str,
    },
    /// The stored dep-info is not understood.
    #[error("failed to read the stored dep-info: {0}")]
    DepInfo(#[from] DepInfoError),
    /// A file could not be written.
    #[error("failed to write `{}`: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}
