//! What a failed store operation is called on the wire.
//!
//! The one place where a `StoreError` becomes a gRPC status. `NOT_FOUND` means a miss and
//! nothing else (STO-08): a store that could not tell says `INTERNAL` or `UNAVAILABLE`.
//! Paths of this machine are for the log; a client is told what was being done.

use std::io;

use kache_cas::StoreError;
use kache_proto::rpc;
use tonic::{Code, Status};

/// The status of a failed store operation.
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
            Status::new(code, "the store cannot be used; the daemon's log says why")
        }
        _ => Status::new(code, error.to_string()),
    }
}

fn code_of(error: &StoreError) -> Code {
    match error {
        _ if error.is_callers_fault() => Code::InvalidArgument,
        _ if error.is_no_space() => Code::ResourceExhausted,
        // A damaged blob is out of service: it is not there, and uploading it again mends it.
        StoreError::Damaged { .. } => Code::NotFound,
        StoreError::Closing | StoreError::Unusable { .. } => Code::Unavailable,
        StoreError::Io { source, .. } if is_passing(source) => Code::Unavailable,
        _ => Code::Internal,
    }
}

/// Whether the system may well succeed the next time: out of handles or memory, interrupted.
fn is_passing(error: &io::Error) -> bool {
    let passing = [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::EAGAIN, libc::EINTR];
    error.raw_os_error().is_some_and(|code| passing.contains(&code))
}

/// The same, as a part of a message that answers for several blobs.
pub fn to_message(status: &Status) -> rpc::Status {
    rpc::Status { code: status.code() as i32, message: status.message().to_owned(), details: Vec::new() }
}

/// A refusal because of a limit, with its name, its value and what to do.
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
    fn a_client_is_told_no_path() {
        let status = of_store_error(&io_error(libc::EIO));
        assert!(!status.message().contains("secret"), "{status}");
        assert!(status.message().contains("open"), "{status}");
    }
}
