//! Why there is no key.

use kache_cas::encoding::EncodingError;
use thiserror::Error;

/// Why a compile has no key. It is passed on, or its result not stored.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ActionError {
    /// An argument holds a stand-in for a root before anything was replaced.
    #[error("`{text}` holds a path that stands for something else")]
    StandIn {
        /// The argument.
        text: String,
    },
    /// One file has two contents: it changed in between (KEY-05).
    #[error("`{path}` has two contents")]
    Conflict {
        /// The file.
        path: String,
    },
    /// It cannot be encoded.
    #[error("failed to encode the action: {0}")]
    Encoding(#[from] EncodingError),
}
