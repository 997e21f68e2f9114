//! The errors that requests to remotes return.

use thiserror::Error;

/// Why a request to a remote failed. "Not found" is no error.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum RemoteError {
    /// The remote could not be reached, did not answer in time, or answered that it cannot answer now. The
    /// same request may succeed later.
    #[error("{message}")]
    Unavailable {
        /// The error of the system, or the remote's words.
        message: String,
    },
    /// The remote does not allow the request: wrong credentials, a read-only remote, a quota that is
    /// exhausted. The same request would be refused again.
    #[error("refused: {message}")]
    Refused {
        /// The text that the remote sent as its reason.
        message: String,
    },
    /// The remote does not take a blob of this size.
    #[error("too large for the remote: {message}")]
    TooLarge {
        /// The text that the remote sent as its reason.
        message: String,
    },
    /// The remote's response breaks the protocol, or holds bytes that are not those of their digest.
    #[error("the remote's response cannot be used: {message}")]
    Malformed {
        /// A sentence that says what is wrong with the response.
        message: String,
    },
    /// A file of this machine that was to be sent could not be read.
    #[error("failed to read a blob of the local store: {message}")]
    Local {
        /// The error of the system.
        message: String,
    },
}

impl RemoteError {
    /// Creates an error for a remote that did not answer.
    pub fn unavailable(message: impl Into<String>) -> RemoteError {
        RemoteError::Unavailable { message: message.into() }
    }

    /// Creates an error for a request that the remote does not allow.
    pub fn refused(message: impl Into<String>) -> RemoteError {
        RemoteError::Refused { message: message.into() }
    }

    /// Creates an error for a blob that is too large for the remote.
    pub fn too_large(message: impl Into<String>) -> RemoteError {
        RemoteError::TooLarge { message: message.into() }
    }

    /// Creates an error for a response that breaks the protocol.
    pub fn malformed(message: impl Into<String>) -> RemoteError {
        RemoteError::Malformed { message: message.into() }
    }

    /// Creates an error for a local file that could not be read.
    pub fn local(message: impl Into<String>) -> RemoteError {
        RemoteError::Local { message: message.into() }
    }

    /// Whether the same request may succeed later, so that the caller may try it again.
    pub fn is_transient(&self) -> bool {
        matches!(self, RemoteError::Unavailable { .. })
    }
}
