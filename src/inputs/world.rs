//! The state of the file system as a trait. [`super::DiskWorld`] implements it for the disk; tests make up
//! their own.

use std::io;
use std::path::{Path, PathBuf};

use kache_cas::Digest;
use thiserror::Error;

/// The state of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileState {
    /// A regular file, or a link to one.
    File {
        /// The digest of the content.
        digest: Digest,
        /// Whether the owner may execute the file.
        is_executable: bool,
    },
    /// A directory, or a link to one.
    Directory,
    /// Nothing is at this path.
    Absent,
}

/// The reason why the state of a path is not known. It never stands for absence (STO-08).
#[derive(Debug, Error)]
#[error("failed to read `{}`: {source}", path.display())]
pub struct WorldError {
    /// The path that could not be read.
    pub path: PathBuf,
    /// The error of the system.
    #[source]
    pub source: io::Error,
}

/// The file system, as far as keys and observations depend on it.
pub trait World: Send + Sync {
    /// Returns the state of a path. It may read and hash the whole file.
    fn state(&self, path: &Path) -> Result<FileState, WorldError>;

    /// Returns a digest of the names in a directory and the kind of each entry (file, directory, symbolic
    /// link, other); `None` if there is no directory.
    fn listing(&self, path: &Path) -> Result<Option<Digest>, WorldError>;

    /// Returns the text of the symbolic link at this path; `None` if there is no link.
    fn link(&self, path: &Path) -> Result<Option<Vec<u8>>, WorldError>;

    /// Returns the path with every link resolved; `None` if nothing is there or the system returns an error.
    fn real(&self, path: &Path) -> Option<PathBuf> {
        std::fs::canonicalize(path).ok()
    }
}
