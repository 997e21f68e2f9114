//! Calls by way of a link to this program that has a compiler's name, such as `rustc`.
//!
//! The wrapped compiler is the first program of that name on `PATH` that is not this program.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::variables;

/// Returns the compiler to run, if this program was called by a compiler's name. Where `PATH` has
/// no such program, that is the bare name, and executing it fails with the system's error.
pub(crate) fn wrapped_compiler(
    own_name: Option<&OsStr>,
    is_compiler: impl Fn(&OsStr) -> bool,
) -> Option<OsString> {
    let name = Path::new(own_name?).file_name()?;
    if !is_compiler(name) {
        return None;
    }
    let own = own_path();
    let path = variables::get(variables::PATH).unwrap_or_default();
    Some(next_on_path(name, &path, own.as_deref()).map_or_else(|| name.to_owned(), PathBuf::into_os_string))
}

fn own_path() -> Option<PathBuf> {
    std::env::current_exe().ok()?.canonicalize().ok()
}

fn next_on_path(name: &OsStr, path: &OsStr, own: Option<&Path>) -> Option<PathBuf> {
    let dirs = path.as_bytes().split(|byte| *byte == b':').filter(|dir| !dir.is_empty());
    let candidates = dirs.map(|dir| Path::new(OsStr::from_bytes(dir)).join(name));
    // Any link to this program is skipped, whatever its directory; otherwise it would call itself.
    candidates.into_iter().find(|path| {
        let real = path.canonicalize();
        real.is_ok_and(|real| real.is_file() && Some(&*real) != own)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_shim_finds_the_compiler_behind_itself() {
        let dir = tempfile::tempdir().unwrap();
        let (shims, real) = (dir.path().join("shims"), dir.path().join("real"));
        std::fs::create_dir_all(&shims).unwrap();
        std::fs::create_dir_all(&real).unwrap();
        File::create(dir.path().join("kache")).unwrap();
        File::create(real.join("rustc")).unwrap();
        symlink(dir.path().join("kache"), shims.join("rustc")).unwrap();
        let own = dir.path().join("kache").canonicalize().unwrap();
        let path = format!("{}:/nonexistent:{}", shims.display(), real.display());
        let found = next_on_path(OsStr::new("rustc"), OsStr::new(&path), Some(&own));
        assert_eq!(found, Some(real.join("rustc")));
        assert_eq!(next_on_path(OsStr::new("rustc"), OsStr::new(""), None), None);
    }
}
