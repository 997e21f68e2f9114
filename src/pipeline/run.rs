//! What is run on a miss.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

use super::answer::Run;
use crate::invocation::Call;

/// The call as it was made, without `-C incremental`.
pub(super) fn as_called(call: &Call) -> Run {
    Run { argv: without_incremental(&call.argv), feed_stdin: call.stdin.is_some(), ..Run::default() }
}

/// A command line without `-C incremental`, in every way of writing it. The client does the
/// same where it has nobody to ask.
pub(super) fn without_incremental(argv: &[OsString]) -> Vec<OsString> {
    let is_incremental = |value: &OsStr| value.as_bytes().starts_with(b"incremental=");
    let is_joined = |word: &OsStr| {
        let bytes = word.as_bytes();
        let value = bytes.strip_prefix(b"-C").or_else(|| bytes.strip_prefix(b"--codegen="));
        value.is_some_and(|value| is_incremental(OsStr::from_bytes(value)))
    };
    let mut kept = Vec::with_capacity(argv.len());
    let mut words = argv.iter().peekable();
    while let Some(word) = words.next() {
        let takes_next = matches!(word.as_bytes(), b"-C" | b"--codegen");
        if takes_next && words.peek().is_some_and(|next| is_incremental(next)) {
            words.next();
        } else if !is_joined(word) {
            kept.push(word.clone());
        }
    }
    kept
}
