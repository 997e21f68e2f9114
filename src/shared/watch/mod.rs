//! A watch on directories, which reports changes of files and the link that was used.
//!
//! The system queues an event before the system call that caused it returns. A reader of the queue
//! therefore knows about every earlier change.

use std::path::PathBuf;

#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(target_os = "linux"))]
mod none;

#[cfg(target_os = "linux")]
pub(super) use linux::Watch;
#[cfg(not(target_os = "linux"))]
pub(super) use none::Watch;

use super::entry::Inode;

/// A change that the system reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum WatchEvent {
    /// The attributes or the bytes of a file may have been changed through this link.
    Touched {
        /// The inode of the target directory.
        target: Inode,
        /// The path of the file below the target directory.
        below: PathBuf,
        /// Whether a process had the file open for writing.
        is_written: bool,
    },
    /// A watched directory was removed, so it is not watched any more.
    Gone {
        /// The inode of the target directory.
        target: Inode,
        /// The path of the directory below the target directory.
        below: PathBuf,
    },
    /// The system dropped events, because its queue was full.
    Lost,
}
