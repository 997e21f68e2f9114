//! The library on its way from the engine to a place where programs can load it.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use kache_cas::{Digest, DigestFunction};
use thiserror::Error;

use super::system::is_executable;
use crate::restore::write_file;

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

/// Whether the library could be laid down in this directory, and loaded from it. Changes
/// nothing.
pub(super) fn check(dir: &Path) -> Result<(), Unavailable> {
    if !IS_AVAILABLE {
        return Err(Unavailable::NoLibrary);
    }
    if dir.as_os_str().as_bytes().iter().any(|byte| matches!(byte, b' ' | b':' | b'$' | b'\n')) {
        return Err(Unavailable::Unspeakable(dir.to_owned()));
    }
    let there = dir.ancestors().find(|dir| dir.is_dir()).unwrap_or(dir);
    match is_executable(there).map_err(|source| Unavailable::Io { path: there.to_owned(), source })? {
        true => Ok(()),
        false => Err(Unavailable::NotExecutable(there.to_owned())),
    }
}

/// Lays the library down in this directory, unless it is there, and says where. It is named
/// for its content: two versions do not disturb each other.
pub(super) fn install(dir: &Path) -> Result<PathBuf, Unavailable> {
    check(dir)?;
    let digest: Digest = Digest::of(DigestFunction::Blake3, LIBRARY);
    let path = dir.join(format!("observer-{}.so", &digest.hash.to_hex()[..16]));
    if fs::read(&path).ok().as_deref() != Some(LIBRARY) {
        let failed = |source| Unavailable::Io { path: path.clone(), source };
        write_file(&path, LIBRARY, MODE).map_err(failed)?;
    }
    Ok(path)
}
