//! The paths in a store's directory, and the lock that keeps other processes out.
//!
//! ```text
//! VERSION      one line: which format the rest has
//! lock         taken (flock) by the one process that has the store open
//! db/          RocksDB
//! blobs/ab/…   one file a blob, named by its BLAKE3
//! tmp/         files on their way in; files that are here at the start are left-overs
//! set-aside/   the last store that could not be read
//! ```
//!
//! This module does not know what is in the files. Invariant: a process that has a `Layout` holds
//! the lock, so two processes never write to one store.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::clock::{Clock, SystemClock};
use crate::digest::Hash;
use crate::error::StoreError;

/// Only the owner may enter: a cache holds sources and binaries, which may be confidential.
const DIRECTORY_MODE: u32 = 0o700;

/// The number of directories over which blobs are spread: one for each first byte of the hash, so
/// that in a store of a million blobs none has more than some thousand names.
pub(super) const FAN_OUT: usize = 256;

/// The paths of a store that this process has locked.
#[derive(Debug)]
pub(super) struct Layout {
    root: PathBuf,
    /// Begins the names of this process's temporary files, to tell them from those of a process
    /// that died.
    session: String,
    sequence: AtomicU64,
    _lock: Flock<File>,
}

impl Layout {
    /// Makes the directory if it does not exist, and takes the lock. Fails with `InUse` if another
    /// process has it.
    pub(super) fn lock(root: &Path) -> Result<Layout, StoreError> {
        make_directory(root)?;
        let path = root.join("lock");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(|error| StoreError::io("open", &path, error))?;
        let lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((_, Errno::EWOULDBLOCK)) => return Err(StoreError::InUse { path: root.to_owned() }),
            Err((_, errno)) => return Err(StoreError::io("lock", &path, errno.into())),
        };
        let session = format!("{}-{}", std::process::id(), SystemClock.now_ms());
        Ok(Layout { root: root.to_owned(), session, sequence: AtomicU64::new(0), _lock: lock })
    }

    /// Makes all directories of a store except the database's.
    pub(super) fn make_directories(&self) -> Result<(), StoreError> {
        make_directory(&self.blobs())?;
        make_directory(&self.tmp())?;
        for first in 0..FAN_OUT {
            make_directory(&self.fan(first))?;
        }
        Ok(())
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn version(&self) -> PathBuf {
        self.root.join("VERSION")
    }

    pub(super) fn db(&self) -> PathBuf {
        self.root.join("db")
    }

    pub(super) fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }

    /// Returns the directory of all blobs whose hash begins with this byte.
    pub(super) fn fan(&self, first: usize) -> PathBuf {
        self.root.join(format!("blobs/{first:02x}"))
    }

    pub(super) fn blob(&self, hash: &Hash) -> PathBuf {
        let hex = hash.to_hex();
        let mut path = String::with_capacity(6 + 3 + hex.len());
        path.push_str("blobs/");
        path.push_str(&hex[..2]);
        path.push('/');
        path.push_str(&hex);
        self.root.join(path)
    }

    pub(super) fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    /// Returns a path in `tmp/` that is not in use.
    pub(super) fn tmp_name(&self) -> PathBuf {
        let number = self.sequence.fetch_add(1, Ordering::Relaxed);
        self.root.join(format!("tmp/{}-{number}", self.session))
    }

    /// Tells whether a name in `tmp/` belongs to this process.
    pub(super) fn is_own_tmp(&self, name: &str) -> bool {
        name.strip_prefix(&self.session).is_some_and(|rest| rest.starts_with('-'))
    }

    pub(super) fn set_aside(&self) -> PathBuf {
        self.root.join("set-aside")
    }
}

/// Returns an unused path in the directory of `path`, for a file that is renamed to `path` when it
/// is whole.
pub(super) fn draft_path_beside(path: &Path) -> PathBuf {
    static SEQUENCE: AtomicU64 = AtomicU64::new(0);
    let number = SEQUENCE.fetch_add(1, Ordering::Relaxed);
    path.with_file_name(format!(".kache-{}-{number}", std::process::id()))
}

fn make_directory(path: &Path) -> Result<(), StoreError> {
    match DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(path) {
        Ok(()) => Ok(()),
        Err(error) => Err(StoreError::io("make the directory", path, error)),
    }
}

/// Tells whether something exists at `path`. An error other than "not found" is returned.
pub(super) fn exists(path: &Path) -> Result<bool, StoreError> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(StoreError::io("look at", path, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_process_cannot_lock_the_store() {
        let dir = tempfile::tempdir().unwrap();
        let first = Layout::lock(dir.path()).unwrap();
        let error = Layout::lock(dir.path()).unwrap_err().to_string();
        assert!(error.contains("in use") && error.contains(dir.path().to_str().unwrap()), "{error}");
        drop(first);
        Layout::lock(dir.path()).unwrap();
    }

    #[test]
    fn a_blob_is_in_the_directory_of_its_first_byte() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::lock(dir.path()).unwrap();
        let hash = Hash([0xab; 32]);
        assert_eq!(layout.blob(&hash), dir.path().join("blobs/ab").join("ab".repeat(32)));
        assert_eq!(layout.fan(0xab), layout.blob(&hash).parent().unwrap());
    }

    #[test]
    fn temporary_names_are_unique_and_tell_their_process() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::lock(dir.path()).unwrap();
        let (one, two) = (layout.tmp_name(), layout.tmp_name());
        assert_ne!(one, two);
        assert!(layout.is_own_tmp(one.file_name().unwrap().to_str().unwrap()));
        assert!(!layout.is_own_tmp("1-2-3"));
    }
}
