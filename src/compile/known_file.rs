//! An output whose digest is known without reading it.

use std::path::PathBuf;

use kache_cas::{Digest, FileStamp};

/// A file that kache has stored or restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownFile {
    /// The path of the file.
    pub path: PathBuf,
    /// The digest of its content.
    pub digest: Digest,
    /// The size, inode and dates that the file had when it had this content; `None` if it was written
    /// to in the meantime.
    pub seen: Option<FileStamp>,
}
