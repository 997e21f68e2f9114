//! Why there is no key.

use kache_cas::encoding::EncodingError;
use thiserror::Error;

/// Why a compile has no key. It is passed on, or its result not stored.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ActionError {
    /// An argument already contains the text of a stand-in, so replacing paths could not be undone.
    #[error("`{text}` holds a path that stands for something else")]
    StandIn {
        /// The argument as it was given.
        text: String,
    },
    /// One file has two contents: it changed while inputs and observations were gathered (KEY-05).
    #[error("`{path}` has two contents")]
    Conflict {
        /// The path of the file in the input root.
        path: String,
    },
    /// A message of the action cannot be encoded.
    #[error("failed to encode the action: {0}")]
    Encoding(#[from] EncodingError),
}
