//! Incremental directories that nobody uses any more (`cache.clean_incremental`).
//!
//! Compilers run without them while kache is there; what they left from the time before is
//! megabytes a crate.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;

use crate::invocation::Call;
use crate::invocation::rustc::Rustc;

/// Removes what this crate has in the directory that the call names. Trouble leaves it be.
pub(super) fn tidy(call: &Call, rustc: &Rustc) {
    let Some(dir) = &rustc.incremental else { return };
    // rustc calls them by the crate, a dash, and what tells apart crates of one name; a
    // crate's own name holds no dash.
    let prefix = format!("{}-", rustc.crate_name);
    let Ok(entries) = fs::read_dir(call.cwd.join(dir)) else { return };
    for entry in entries.flatten() {
        let is_ours = entry.file_name().as_bytes().starts_with(prefix.as_bytes());
        if is_ours && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invocation::rustc::{Parsed, parse};

    #[test]
    fn only_the_crates_own_directories_go() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["app-1abc", "app-2def", "app_core-1", "apple-1"] {
            fs::create_dir_all(dir.path().join("inc").join(name).join("s-1")).unwrap();
        }
        let words = ["rustc", "--crate-name", "app", "lib.rs", "--crate-type=lib", "-Cincremental=inc"];
        let call = Call {
            argv: words.iter().map(Into::into).collect(),
            cwd: dir.path().to_owned(),
            ..Call::default()
        };
        let read = |_: &std::path::Path| Err(std::io::ErrorKind::NotFound.into());
        let Parsed::Compile(rustc) = parse(&call, &read) else { panic!("it is a compile") };
        tidy(&call, &rustc);
        let left = fs::read_dir(dir.path().join("inc")).unwrap();
        let mut left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["app_core-1", "apple-1"]);
    }
}
