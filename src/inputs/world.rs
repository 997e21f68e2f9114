//! The state of files, as a trait: memoised on disk, made up in tests.

use std::io;
use std::path::{Path, PathBuf};

use kache_cas::Digest;
use thiserror::Error;

/// What is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileState {
    /// A file, links followed.
    File {
        /// Its content.
        digest: Digest,
        /// Whether it may be executed.
        is_executable: bool,
    },
    /// A directory.
    Directory,
    /// Nothing.
    Absent,
}

/// Why the state of a path is not known. Not absence (STO-08).
#[derive(Debug, Error)]
#[error("failed to read `{}`: {source}", path.display())]
pub struct WorldError {
    /// The path.
    pub path: PathBuf,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

/// The world as far as a key depends on it.
pub trait World: Send + Sync {
    /// What is at this path, by content.
    fn state(&self, path: &Path) -> Result<FileState, WorldError>;

    /// The names in a directory and the kind of each entry (file, directory, symbolic link, other),
    /// as one digest; `None` if there is no directory.
    fn listing(&self, path: &Path) -> Result<Option<Digest>, WorldError>;

    /// What the symbolic link at this path says; `None` if there is none.
    fn link(&self, path: &Path) -> Result<Option<Vec<u8>>, WorldError>;

    /// The path with every link followed; `None` where nothing is there or it cannot be told.
    fn real(&self, path: &Path) -> Option<PathBuf> {
        std::fs::canonicalize(path).ok()
    }
}
