//! Finds programs, and tells which of them have to be observed when they run.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::stamp::Stamp;
use crate::invocation::Call;

/// A directory in which each path contains a hash of the file and of everything that the file uses, so that
/// even a script is identified by its path.
const CONTENT_ADDRESSED: &str = "/nix/store/";

/// Finds a program as `execvp` does; `None` if there is none.
pub(crate) fn on_path(program: &Path, call: &Call) -> Option<PathBuf> {
    if program.as_os_str().as_bytes().contains(&b'/') {
        return Some(call.cwd.join(program));
    }
    let path = call.env.get("PATH")?;
    let is_program = |path: &PathBuf| {
        Stamp::of(path).ok().flatten().is_some_and(|stamp| stamp.is_file() && stamp.is_executable())
    };
    std::env::split_paths(path).map(|dir| call.cwd.join(dir).join(program)).find(is_program)
}

/// Whether a program is a script that may read and run any file, so that its run must be observed. A sealed
/// script (see [`is_sealed`]) needs no observation. A program that cannot be read counts as a script.
pub fn is_script(program: &Path) -> bool {
    let mut start = [0; 2];
    let Ok(real) = program.canonicalize() else { return true };
    let read = File::open(&real).and_then(|mut file| file.read(&mut start));
    !is_sealed(&real) && (read.is_err() || start == *b"#!")
}

/// Whether the path identifies the content of the file and of everything that the file uses.
pub fn is_sealed(path: &Path) -> bool {
    path.starts_with(CONTENT_ADDRESSED)
}
