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
pub(super) enum Event {
    /// The attributes of a file may have been changed by this name, or its bytes.
    Touched {
        /// The target directory.
        target: Inode,
        /// The file, below it.
        below: PathBuf,
        /// Whether it was open for writing.
        is_written: bool,
    },
    /// A directory is not watched any more: it is gone.
    Gone {
        /// The target directory.
        target: Inode,
        /// The directory, below it.
        below: PathBuf,
    },
    /// The system dropped events, because its queue was full.
    Lost,
}
