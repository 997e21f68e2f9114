//! Statuses of gRPC as errors of remotes.
//!
//! Pure. NOT_FOUND means "the server has it not" only where the caller asks for a result or a blob, so the
//! caller looks for it first.

use std::error::Error as _;

use kache_proto::rpc;
use tonic::{Code, Status};

use crate::error::RemoteError;

/// The most characters of a server's message that an error repeats.
const MESSAGE_CHARS_MAX: usize = 500;

/// Converts the status of a request. `what` is the request, such as `GetActionResult`.
pub(super) fn of_status(what: &str, status: &Status) -> RemoteError {
    if status.source().is_some() {
        // No server sent this status: the connection failed.
        return RemoteError::unavailable(format!("{what}: {}", causes(status)));
    }
    of_code(what, status.code(), status.message())
}

/// Converts the status of one blob in the response for a batch; `None` if the blob was processed.
pub(super) fn of_blob(what: &str, status: Option<&rpc::Status>) -> Option<RemoteError> {
    let status = status?;
    let code = Code::from_i32(status.code);
    (code != Code::Ok).then(|| of_code(what, code, &status.message))
}

/// Whether a blob in a response is one that the server does not have.
pub(super) fn is_not_found(status: Option<&rpc::Status>) -> bool {
    status.is_some_and(|status| Code::from_i32(status.code) == Code::NotFound)
}

fn of_code(what: &str, code: Code, words: &str) -> RemoteError {
    let message = format!("{what}: {} ({})", printable(words), name(code));
    match code {
        Code::Unavailable
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::Cancelled
        | Code::Internal
        | Code::Unknown => RemoteError::unavailable(message),
        Code::ResourceExhausted if is_about_message_size(words) => RemoteError::too_large(message),
        Code::ResourceExhausted
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::Unimplemented
        | Code::FailedPrecondition
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists => RemoteError::refused(message),
        // A client of gRPC says `OutOfRange` where the server's message is too large for it.
        Code::Ok | Code::OutOfRange | Code::DataLoss => RemoteError::malformed(message),
    }
}

/// Whether RESOURCE_EXHAUSTED is about the size of one message and not about a quota. The libraries of gRPC
/// say "Received message larger than max (5000400 vs. 4194304)", or "message length too large".
fn is_about_message_size(words: &str) -> bool {
    let words = words.to_lowercase();
    words.contains("message") && ["larger than", "too large", "exceeds"].iter().any(|w| words.contains(w))
}

/// Returns the code as the documents of gRPC write it.
fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// Shortens a server's words, and removes control characters, so that they cannot forge log lines.
fn printable(words: &str) -> String {
    let words: String = words.chars().filter(|c| !c.is_control()).take(MESSAGE_CHARS_MAX).collect();
    if words.is_empty() { "the server gave no reason".to_owned() } else { words }
}

/// Returns the innermost causes of a failed connection. The outer ones only say `transport error`.
fn causes(status: &Status) -> String {
    let mut texts: Vec<String> = Vec::new();
    let mut next = status.source();
    while let Some(cause) = next {
        let text = printable(&cause.to_string());
        if !texts.contains(&text) && text != "transport error" {
            texts.push(text);
        }
        next = cause.source();
    }
    if texts.is_empty() { printable(status.message()) } else { texts.join(": ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(error: &RemoteError) -> &'static str {
        match error {
            RemoteError::Unavailable { .. } => "unavailable",
            RemoteError::Refused { .. } => "refused",
            RemoteError::TooLarge { .. } => "too large",
            RemoteError::Malformed { .. } => "malformed",
            RemoteError::Local { .. } => "local",
        }
    }

    #[test]
    fn codes_are_sorted_by_what_helps() {
        for (code, words, expected) in [
            (Code::Unavailable, "draining", "unavailable"),
            (Code::Unknown, "oops", "unavailable"),
            (Code::Internal, "oops", "unavailable"),
            (Code::ResourceExhausted, "quota of 5 GB is used up", "refused"),
            (Code::ResourceExhausted, "Received message larger than max (5000400 vs. 4194304)", "too large"),
            (Code::PermissionDenied, "read-only", "refused"),
            (Code::Unauthenticated, "no token", "refused"),
            (Code::InvalidArgument, "the bytes have another hash", "refused"),
            (Code::OutOfRange, "decoded message length too large", "malformed"),
        ] {
            let error = of_status("Write", &Status::new(code, words));
            assert_eq!(kind(&error), expected, "{code:?} {words}");
            let text = error.to_string();
            assert!(text.contains(words) && text.contains(name(code)), "{text}");
        }
    }

    #[test]
    fn words_of_a_server_cannot_forge_lines() {
        let words = format!("a\nb\u{1b}{}", "x".repeat(10_000));
        let text = of_status("Read", &Status::internal(words)).to_string();
        assert!(text.len() < 700 && text.contains("ab") && !text.contains(['\n', '\u{1b}']), "{text}");
    }

    #[test]
    fn a_blob_has_a_status_of_its_own() {
        let status = |code: Code| rpc::Status { code: code as i32, ..rpc::Status::default() };
        assert!(of_blob("BatchReadBlobs", None).is_none());
        assert!(of_blob("BatchReadBlobs", Some(&status(Code::Ok))).is_none());
        assert!(is_not_found(Some(&status(Code::NotFound))));
        let error = of_blob("BatchUpdateBlobs", Some(&status(Code::PermissionDenied))).unwrap();
        assert_eq!(kind(&error), "refused");
    }
}
