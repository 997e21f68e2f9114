//! Tells whether a file changed since it was last read.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;

/// Identifies the content of a file: if none of this changed, the file did not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileVersion {
    device: u64,
    inode: u64,
    size_bytes: u64,
    changed: (i64, i64),
}

impl FileVersion {
    /// The version of the file that has this metadata.
    pub(super) fn of(metadata: &Metadata) -> Self {
        FileVersion {
            device: metadata.dev(),
            inode: metadata.ino(),
            size_bytes: metadata.size(),
            // Unlike the modification time, the change time moves when only the mode changes.
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}
