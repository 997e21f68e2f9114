//! Writes the observer's library, which the engine carries, to a directory from which programs can load it.
//!
//! That is a directory in the cache, or a private directory of this user if `LD_PRELOAD` cannot name the
//! first one or its volume does not allow execution. Invariant: no other user can change the file.

use std::fs::{self, DirBuilder, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use kache_cas::{Digest, DigestFunction};
use nix::unistd::{AccessFlags, Uid, access};
use thiserror::Error;

use super::system::is_executable;
use crate::outputs::write_file;

/// The content of the library; empty on systems for which there is none.
static LIBRARY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/observer.so"));

/// Whether there is a library for this system.
const IS_AVAILABLE: bool = !LIBRARY.is_empty();

/// All users may read and load the library.
const MODE: u32 = 0o755;

/// The reason why compilers cannot be observed.
#[derive(Debug, Error)]
pub enum Unavailable {
    /// There is no library for this system.
    #[error("there is no observer for this system")]
    NoLibrary,
    /// `LD_PRELOAD` is a list whose separators are in the path.
    #[error("`{}` has a space or a colon in it", .0.display())]
    InvalidPath(PathBuf),
    /// The volume does not allow execution, so that programs would print that they cannot load the library.
    #[error("nothing in `{}` may be executed", .0.display())]
    NotExecutable(PathBuf),
    /// An operation of the file system failed.
    #[error("failed to use `{}`: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
}

/// Checks whether [`install`] could write the library and programs could load it. Changes nothing.
pub(super) fn check(own: &Path) -> Result<(), Unavailable> {
    first_usable(own, |dir, is_own| if is_own { is_loadable(dir) } else { check_private(dir) })
}

/// Writes the library to this directory of the cache, or to a private directory if nothing can be loaded
/// from that one, unless it is there already. Returns its path. The name of the file depends on its
/// content, so that two versions of kache do not disturb each other.
pub(super) fn install(own: &Path) -> Result<PathBuf, Unavailable> {
    first_usable(own, |dir, is_own| {
        match is_own {
            true => is_loadable(dir)?,
            false => make_private(dir)?,
        }
        install_in(dir)
    })
}

/// Calls `run` with the cache's own directory and then with each private one, until it succeeds. Returns the
/// error of the cache's own directory if all fail.
fn first_usable<T>(
    own: &Path,
    mut run: impl FnMut(&Path, bool) -> Result<T, Unavailable>,
) -> Result<T, Unavailable> {
    if !IS_AVAILABLE {
        return Err(Unavailable::NoLibrary);
    }
    let why = match run(own, true) {
        // Other errors may pass, so that they are no reason to use another directory.
        Err(why @ (Unavailable::InvalidPath(_) | Unavailable::NotExecutable(_))) => why,
        outcome => return outcome,
    };
    private_dirs().iter().find_map(|dir| run(dir, false).ok()).ok_or(why)
}

/// Directories that would belong to this user alone: in places where all users may write, or beside the
/// program.
fn private_dirs() -> Vec<PathBuf> {
    let user = Uid::current();
    let mut dirs = vec![PathBuf::from(format!("/run/user/{user}/kache-observer"))];
    dirs.extend(
        ["/dev/shm", "/tmp", "/var/tmp"].map(|dir| Path::new(dir).join(format!("kache-observer-{user}"))),
    );
    let beside = std::env::current_exe().ok().and_then(|program| Some(program.parent()?.to_owned()));
    dirs.extend(beside.map(|dir| dir.join(format!(".kache-observer-{user}"))));
    dirs
}

/// Checks whether programs can load a library from this directory, or could once it is created.
pub(super) fn is_loadable(dir: &Path) -> Result<(), Unavailable> {
    if dir.as_os_str().as_bytes().iter().any(|byte| matches!(byte, b' ' | b':' | b'$' | b'\n')) {
        return Err(Unavailable::InvalidPath(dir.to_owned()));
    }
    let there = dir.ancestors().find(|dir| dir.is_dir()).unwrap_or(dir);
    match is_executable(there).map_err(|source| Unavailable::Io { path: there.to_owned(), source })? {
        true => Ok(()),
        false => Err(Unavailable::NotExecutable(there.to_owned())),
    }
}

/// Checks whether a directory is private and programs can load a library from it, or whether it can be
/// created so.
fn check_private(dir: &Path) -> Result<(), Unavailable> {
    is_loadable(dir)?;
    let failed = |source| Unavailable::Io { path: dir.to_owned(), source };
    match fs::symlink_metadata(dir) {
        Ok(found) if is_private(&found) => Ok(()),
        Ok(_) => Err(failed(io::ErrorKind::PermissionDenied.into())),
        Err(_) => {
            let parent = dir.parent().unwrap_or(dir);
            access(parent, AccessFlags::W_OK).map_err(|error| failed(error.into()))
        }
    }
}

/// Creates a private directory, unless it exists, and checks it.
fn make_private(dir: &Path) -> Result<(), Unavailable> {
    is_loadable(dir)?;
    let failed = |source| Unavailable::Io { path: dir.to_owned(), source };
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
        _ => {}
    }
    check_private(dir)
}

fn is_private(found: &Metadata) -> bool {
    found.is_dir() && found.uid() == Uid::current().as_raw() && found.mode() & 0o077 == 0
}

fn install_in(dir: &Path) -> Result<PathBuf, Unavailable> {
    let digest: Digest = Digest::of(DigestFunction::Blake3, LIBRARY);
    let path = dir.join(format!("observer-{}.so", &digest.hash.to_hex()[..16]));
    if fs::read(&path).ok().as_deref() != Some(LIBRARY) {
        let failed = |source| Unavailable::Io { path: path.clone(), source };
        write_file(&path, LIBRARY, MODE).map_err(failed)?;
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn key_04_a_directory_that_others_can_change_is_not_used() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("private");
        assert!(check_private(&dir).is_ok() && !dir.exists());
        assert!(make_private(&dir).is_ok() && check_private(&dir).is_ok());
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o770)).unwrap();
        assert!(make_private(&dir).is_err() && check_private(&dir).is_err());
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).unwrap();
        let link = home.path().join("link");
        symlink(&dir, &link).unwrap();
        assert!(make_private(&link).is_err() && check_private(&link).is_err());
    }
}
