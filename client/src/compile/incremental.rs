//! Removes `-C incremental` from a command line.
//!
//! Pure. The option is removed also where kache is switched off for a call or no daemon runs: if
//! incremental state were written in some builds and not in others, outputs would differ for no
//! visible reason.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

/// The beginning of the option's value.
const INCREMENTAL: &[u8] = b"incremental=";

/// Returns the arguments without `-C incremental=…`, in every form that rustc accepts.
pub fn without_incremental(args: &[OsString]) -> Vec<OsString> {
    let mut kept = Vec::with_capacity(args.len());
    let mut args = args.iter().peekable();
    while let Some(arg) = args.next() {
        let takes_next = matches!(arg.as_bytes(), b"-C" | b"--codegen");
        if takes_next && args.peek().is_some_and(|next| is_incremental(next)) {
            args.next();
        } else if !is_joined(arg) {
            kept.push(arg.clone());
        }
    }
    kept
}

fn is_incremental(value: &OsStr) -> bool {
    value.as_bytes().starts_with(INCREMENTAL)
}

fn is_joined(arg: &OsStr) -> bool {
    let value = arg.as_bytes().strip_prefix(b"-C").or_else(|| arg.as_bytes().strip_prefix(b"--codegen="));
    value.is_some_and(|value| value.starts_with(INCREMENTAL))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn incremental_is_removed_in_every_form() {
        for (args, expected) in [
            (&["-C", "incremental=/t", "-C", "debuginfo=2"][..], &["-C", "debuginfo=2"][..]),
            (&["-Cincremental=/t", "x.rs"], &["x.rs"]),
            (&["--codegen", "incremental=/t"], &[]),
            (&["--codegen=incremental=/t", "-C"], &["-C"]),
            (&["-C", "opt-level=3", "incremental=x"], &["-C", "opt-level=3", "incremental=x"]),
            (&["--cfg", "-Cincremental"], &["--cfg", "-Cincremental"]),
        ] {
            let args: Vec<OsString> = args.iter().map(OsString::from).collect();
            assert_eq!(without_incremental(&args), expected);
        }
    }
}
