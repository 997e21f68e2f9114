//! Why something is not on a remote or did not come from one, by kinds that a user can act on.

use kache_cas::StoreError;
use kache_remote::RemoteError;

use super::download::DownloadError;
use super::upload::UploadError;

/// The kind of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FailureCause {
    /// The remote does not allow it.
    Refused,
    /// The remote does not answer, or says that it cannot answer now.
    Unreachable,
    /// The remote does not take a blob of this size.
    TooLarge,
    /// The store of this machine has no room.
    NoRoom,
    /// The side that it was to be copied from does not have all of it.
    Missing,
    /// Another error.
    Other,
}

/// Why one result is not where it was to be copied to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TransferFailure {
    /// The kind of the failure.
    pub cause: FailureCause,
    /// The words of the remote or of the system.
    pub message: String,
}

impl TransferFailure {
    /// Creates a failure.
    pub fn new(cause: FailureCause, message: impl Into<String>) -> TransferFailure {
        TransferFailure { cause, message: message.into() }
    }
}

impl From<&RemoteError> for TransferFailure {
    fn from(error: &RemoteError) -> Self {
        let (cause, message) = match error {
            RemoteError::Refused { message } => (FailureCause::Refused, message),
            RemoteError::Unavailable { message } => (FailureCause::Unreachable, message),
            RemoteError::TooLarge { message } => (FailureCause::TooLarge, message),
            RemoteError::Malformed { .. } | RemoteError::Local { .. } => {
                return TransferFailure::new(FailureCause::Other, error.to_string());
            }
        };
        TransferFailure::new(cause, message)
    }
}

impl From<&StoreError> for TransferFailure {
    fn from(error: &StoreError) -> Self {
        let cause = match error {
            StoreError::NoSpace { .. } | StoreError::TooLarge { .. } => FailureCause::NoRoom,
            _ => FailureCause::Other,
        };
        TransferFailure::new(cause, kache_cas::with_causes(error))
    }
}

impl From<&UploadError> for TransferFailure {
    fn from(error: &UploadError) -> Self {
        match error {
            UploadError::Remote(error) => error.into(),
            UploadError::Store(error) => error.into(),
            UploadError::Gone(_) => TransferFailure::new(FailureCause::Missing, error.to_string()),
        }
    }
}

impl From<&DownloadError> for TransferFailure {
    fn from(error: &DownloadError) -> Self {
        match error {
            DownloadError::Remote(error) => error.into(),
            DownloadError::Store(error) => error.into(),
            DownloadError::Missing(_) => TransferFailure::new(FailureCause::Missing, error.to_string()),
        }
    }
}
