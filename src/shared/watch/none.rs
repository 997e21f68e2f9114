//! The watch on systems other than Linux, where kache watches nothing.

use std::io;
use std::path::Path;
use std::time::Duration;

use super::WatchEvent;
use crate::shared::entry::Inode;

/// A watch, which cannot be made here.
#[derive(Debug)]
pub(in crate::shared) enum Watch {}

impl Watch {
    /// Returns an error: this system reports no changes of single links.
    pub(in crate::shared) fn new() -> io::Result<Watch> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Watches a directory, which is at the path `below` in the target directory.
    pub(in crate::shared) fn add(&self, _dir: &Path, _target: Inode, _below: &Path) -> io::Result<()> {
        match *self {}
    }

    /// Waits for an event, or until the timeout. Returns whether there is one.
    pub(in crate::shared) fn wait(&self, _timeout: Duration) -> io::Result<bool> {
        match *self {}
    }

    /// Returns all events since the last call. Does not wait.
    pub(in crate::shared) fn events(&self) -> io::Result<Vec<WatchEvent>> {
        match *self {}
    }
}
