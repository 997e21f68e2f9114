//! Converts a `StoreError` to a gRPC status, and nothing else does.
//!
//! `NOT_FOUND` always means a miss (STO-08): if the store fails to tell, the status is `INTERNAL`
//! or `UNAVAILABLE`. Paths of this machine are logged and not sent; a client is told which
//! operation failed.

use std::io;

use kache_cas::StoreError;
use kache_proto::rpc;
use tonic::{Code, Status};

/// The status for a failed store operation. Faults of the store are logged.
pub fn of_store_error(error: &StoreError) -> Status {
    let code = code_of(error);
    match error {
        StoreError::Io { doing, source, .. } => {
            tracing::error!(%error, cause = %source, "the store failed");
            Status::new(code, format!("the store failed to {doing} a file: {source}"))
        }
        StoreError::Database { .. } => {
            tracing::error!(%error, "the store's database failed");
            Status::new(code, error.to_string())
        }
        StoreError::Unusable { .. } => {
            tracing::error!(%error, "the store is unusable");
            Status::new(code, "the store cannot be used; see the log of the daemon")
        }
        _ => Status::new(code, error.to_string()),
    }
}

fn code_of(error: &StoreError) -> Code {
    match error {
        _ if error.is_callers_fault() => Code::InvalidArgument,
        _ if error.is_no_space() => Code::ResourceExhausted,
        // A damaged blob is not served any more, so this is a miss. Uploading it again repairs it.
        StoreError::Damaged { .. } => Code::NotFound,
        StoreError::Closing | StoreError::Unusable { .. } => Code::Unavailable,
        StoreError::Io { source, .. } if is_transient(source) => Code::Unavailable,
        _ => Code::Internal,
    }
}

/// Whether a retry may succeed: the process lacked descriptors or memory, or was interrupted.
fn is_transient(error: &io::Error) -> bool {
    let transient = [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::EAGAIN, libc::EINTR];
    error.raw_os_error().is_some_and(|code| transient.contains(&code))
}

/// The status as a message, for responses that hold one for each blob.
pub fn to_message(status: &Status) -> rpc::Status {
    rpc::Status { code: status.code() as i32, message: status.message().to_owned(), details: Vec::new() }
}

/// The status for a request that exceeds a limit, with the name and value of the limit.
pub fn over_limit(code: Code, what: &str, limit: &str, limit_value: impl std::fmt::Display) -> Status {
    Status::new(code, format!("{what}: more than `{limit}` ({limit_value}) allows"))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use kache_cas::{Digest, DigestFunction};

    use super::*;

    fn io_error(raw: i32) -> StoreError {
        StoreError::io("open", "/secret/place", io::Error::from_raw_os_error(raw))
    }

    #[test]
    fn each_error_has_its_code() {
        let digest: Digest = Digest::empty(DigestFunction::Sha256);
        for (error, code) in [
            (StoreError::Mismatch { claimed: digest, actual: digest }, Code::InvalidArgument),
            (StoreError::Length { claimed: digest, received_bytes: 1 }, Code::InvalidArgument),
            (StoreError::InvalidResult { why: "no".to_owned() }, Code::InvalidArgument),
            (
                StoreError::TooLarge { limit: "blob_bytes_max", limit_bytes: 1, size_bytes: 2 },
                Code::InvalidArgument,
            ),
            (StoreError::NoSpace { wanted_bytes: 1, why: "full".to_owned() }, Code::ResourceExhausted),
            (io_error(libc::ENOSPC), Code::ResourceExhausted),
            (io_error(libc::EDQUOT), Code::ResourceExhausted),
            (io_error(libc::EMFILE), Code::Unavailable),
            (io_error(libc::EIO), Code::Internal),
            (io_error(libc::ENOENT), Code::Internal),
            (StoreError::Database { doing: "read", message: "bad".to_owned() }, Code::Internal),
            (StoreError::Damaged { digest }, Code::NotFound),
            (StoreError::Unusable { path: PathBuf::from("/x"), why: "is odd".to_owned() }, Code::Unavailable),
            (StoreError::Closing, Code::Unavailable),
        ] {
            assert_eq!(of_store_error(&error).code(), code, "{error:?}");
        }
    }

    #[test]
    fn sto_08_a_failed_lookup_is_not_absence() {
        for raw in [libc::EIO, libc::ENOENT, libc::EACCES, libc::EMFILE] {
            assert_ne!(of_store_error(&io_error(raw)).code(), Code::NotFound, "{raw}");
        }
    }

    #[test]
    fn clients_learn_no_path_of_this_machine() {
        let status = of_store_error(&io_error(libc::EIO));
        assert!(!status.message().contains("secret"), "{status}");
        assert!(status.message().contains("open"), "{status}");
    }
}
