//! Another wrapper for calls that kache passes on (`cache.fallback`).
//!
//! It is looked up in the `PATH` of the call (DMN-01). If it does not exist, the compiler is called
//! without it, and the daemon's log says so once.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

/// The number of missing wrappers that are remembered, so that each is logged once.
const MISSING_MAX: usize = 64;

/// The names of kache's own programs. As a fallback wrapper kache would call itself for ever.
const OWN_NAMES: [&str; 2] = ["kache", "kached"];

/// Puts other wrappers in front of calls.
#[derive(Debug, Default)]
pub struct Fallbacks {
    /// The wrappers that were missing and are logged already.
    missing: Mutex<HashSet<PathBuf>>,
}

impl Fallbacks {
    /// Creates it without any missing wrapper.
    pub fn new() -> Self {
        Fallbacks::default()
    }

    /// Returns the command line with this wrapper in front, or unchanged if there is no such wrapper.
    /// A bare name is looked up in `search`, the `PATH` of the call. A path must be absolute, since
    /// the daemon has no directory of its own.
    pub fn before(&self, argv: Vec<OsString>, wrapper: &Path, search: Option<&OsStr>) -> Vec<OsString> {
        let Some(program) = find_program(wrapper, search).filter(|program| !is_kache(program)) else {
            self.warn_once(wrapper);
            return argv;
        };
        // The call may have named the wrapper in place of a compiler.
        if argv.first().is_some_and(|first| Path::new(first) == program) {
            return argv;
        }
        std::iter::once(program.into_os_string()).chain(argv).collect()
    }

    fn warn_once(&self, wrapper: &Path) {
        let mut missing = self.missing.lock();
        if missing.len() < MISSING_MAX && missing.insert(wrapper.to_owned()) {
            tracing::warn!(
                wrapper = %wrapper.display(),
                "`cache.fallback` names no other wrapper that can be run; compilers are called without it"
            );
        }
    }
}

fn is_kache(program: &Path) -> bool {
    let real = program.canonicalize().unwrap_or_else(|_| program.to_owned());
    let is_own_name = |path: &Path| OWN_NAMES.iter().any(|name| path.file_name() == Some(OsStr::new(name)));
    is_own_name(program) || is_own_name(&real)
}

/// Returns the program that a shell would run: a path as it is, and a bare name looked up in
/// `search`. `None` if there is no such file or it is not executable.
pub fn find_program(program: &Path, search: Option<&OsStr>) -> Option<PathBuf> {
    let is_program = |path: &Path| {
        fs::metadata(path)
            .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
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
    fn a_wrapper_is_put_in_front_if_it_exists_and_is_not_kache() {
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
        assert_eq!(fallbacks.missing.lock().len(), 4, "each is logged once");
        assert_eq!(fallbacks.before(argv(), Path::new("other"), None), argv());
    }
}
