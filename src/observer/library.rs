//! The library on its way from the engine to a place where programs can load it.

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

/// The library; empty where it cannot be made.
static LIBRARY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/observer.so"));

/// Whether there is one for this system.
const IS_AVAILABLE: bool = !LIBRARY.is_empty();

/// Everybody may read and load it.
const MODE: u32 = 0o755;

/// Why nothing can be observed.
#[derive(Debug, Error)]
pub enum Unavailable {
    /// There is no library for this system.
    #[error("there is no observer for this system")]
    NoLibrary,
    /// `LD_PRELOAD` is a list with separators.
    #[error("`{}` has a space or a colon in it", .0.display())]
    Unspeakable(PathBuf),
    /// Programs would be told that they cannot load it, and say so.
    #[error("nothing in `{}` may be executed", .0.display())]
    NotExecutable(PathBuf),
    /// The system refuses.
    #[error("failed to use `{}`: {source}", path.display())]
    Io {
        /// What.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Whether the library could be laid down for a cache with this directory for it, and loaded. Changes
/// nothing.
pub(super) fn check(own: &Path) -> Result<(), Unavailable> {
    first(own, |dir, is_own| if is_own { is_loadable(dir) } else { check_private(dir) })
}

/// Lays the library down where programs can load it, unless it is there, and says where: in this directory
/// of the cache, or where nothing can be loaded from that, in one of this user's alone. It is named for its
/// content: two versions do not disturb each other.
pub(super) fn install(own: &Path) -> Result<PathBuf, Unavailable> {
    first(own, |dir, is_own| {
        match is_own {
            true => is_loadable(dir)?,
            false => make_private(dir)?,
        }
        install_in(dir)
    })
}

/// The first directory with which it goes well; where it does with none, why not with the cache's own.
fn first<T>(
    own: &Path,
    mut run: impl FnMut(&Path, bool) -> Result<T, Unavailable>,
) -> Result<T, Unavailable> {
    if !IS_AVAILABLE {
        return Err(Unavailable::NoLibrary);
    }
    let why = match run(own, true) {
        // A directory that fails may do so for a moment only.
        Err(why @ (Unavailable::Unspeakable(_) | Unavailable::NotExecutable(_))) => why,
        outcome => return outcome,
    };
    private_dirs().iter().find_map(|dir| run(dir, false).ok()).ok_or(why)
}

/// Directories of this user's in places that everybody may write to, or beside the program.
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

/// Whether programs could load something from this directory, or one that is made there.
pub(super) fn is_loadable(dir: &Path) -> Result<(), Unavailable> {
    if dir.as_os_str().as_bytes().iter().any(|byte| matches!(byte, b' ' | b':' | b'$' | b'\n')) {
        return Err(Unavailable::Unspeakable(dir.to_owned()));
    }
    let there = dir.ancestors().find(|dir| dir.is_dir()).unwrap_or(dir);
    match is_executable(there).map_err(|source| Unavailable::Io { path: there.to_owned(), source })? {
        true => Ok(()),
        false => Err(Unavailable::NotExecutable(there.to_owned())),
    }
}

/// Whether this is a directory that nobody else can change, or can become one.
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

/// Makes such a directory, unless it is there.
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
    fn key_04_a_place_that_others_can_change_is_not_used() {
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
