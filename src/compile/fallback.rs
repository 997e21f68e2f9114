//! Another wrapper, for what kache passes by (`cache.fallback`).
//!
//! It is looked for as the caller would, in the caller's `PATH` (DMN-01). One that is not
//! there costs nothing: the compiler is called without it, and the log says so once.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// How many wrappers that are missing are remembered, so that each is complained of once.
const MISSING_MAX: usize = 64;

/// Our own programs: one that stood before itself would never come to an end.
const OURS: [&str; 2] = ["kache", "kached"];

/// Wrappers in front of calls.
#[derive(Debug, Default)]
pub struct Fallbacks {
    missing: Mutex<HashSet<PathBuf>>,
}

impl Fallbacks {
    /// None seen yet.
    pub fn new() -> Self {
        Fallbacks::default()
    }

    /// The command line with this wrapper in front, or as it is where there is no such
    /// wrapper. A bare name is looked up in `search`, the caller's `PATH`; a path counts
    /// from nowhere but the root.
    pub fn before(&self, argv: Vec<OsString>, wrapper: &Path, search: Option<&OsStr>) -> Vec<OsString> {
        let Some(found) = find_program(wrapper, search).filter(|found| !is_ours(found)) else {
            self.complain(wrapper);
            return argv;
        };
        // The wrapper may be the compiler's own stand-in, called by name already.
        if argv.first().is_some_and(|first| Path::new(first) == found) {
            return argv;
        }
        std::iter::once(found.into_os_string()).chain(argv).collect()
    }

    fn complain(&self, wrapper: &Path) {
        let mut missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        if missing.len() < MISSING_MAX && missing.insert(wrapper.to_owned()) {
            tracing::warn!(
                wrapper = %wrapper.display(),
                "`cache.fallback` names no other wrapper that could be run; compilers are called without it"
            );
        }
    }
}

fn is_ours(program: &Path) -> bool {
    let real = program.canonicalize().unwrap_or_else(|_| program.to_owned());
    [program, &real].iter().any(|path| OURS.iter().any(|name| path.file_name() == Some(OsStr::new(name))))
}

/// The program that a shell would run: a path as it is, a bare name by `search`.
pub fn find_program(program: &Path, search: Option<&OsStr>) -> Option<PathBuf> {
    let is_program = |path: &Path| {
        fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    if program.components().nth(1).is_some() {
        return is_program(program).then(|| program.to_owned());
    }
    std::env::split_paths(search?).map(|dir| dir.join(program)).find(|path| is_program(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn program(path: &Path, mode: u32) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_wrapper_stands_in_front_if_it_is_there_and_not_ourselves() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        program(&path("a/other"), 0o644);
        program(&path("b/other"), 0o755);
        program(&path("b/kache"), 0o755);
        symlink(path("b/kache"), path("b/link")).unwrap();
        let search = std::env::join_paths([path("a"), path("b")]).unwrap();
        let argv = || vec![OsString::from("rustc"), OsString::from("-vV")];
        let fallbacks = Fallbacks::new();
        let before = |wrapper: &Path| fallbacks.before(argv(), wrapper, Some(&search));
        let with_other = vec![path("b/other").into_os_string(), "rustc".into(), "-vV".into()];
        assert_eq!(before(Path::new("other")), with_other);
        assert_eq!(before(&path("b/other")), with_other);
        for wrapper in [Path::new("kache"), Path::new("link"), Path::new("gone"), &path("a/other")] {
            assert_eq!(before(wrapper), argv(), "{}", wrapper.display());
            before(wrapper);
        }
        assert_eq!(fallbacks.missing.lock().unwrap().len(), 4, "each is complained of once");
        assert_eq!(fallbacks.before(argv(), Path::new("other"), None), argv());
    }
}
