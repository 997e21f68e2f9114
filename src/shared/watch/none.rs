//! Systems on which kache watches nothing.

use std::io;
use std::path::Path;
use std::time::Duration;

use super::Event;
use crate::shared::entry::Inode;

/// A watch, of which there is none.
#[derive(Debug)]
pub(in crate::shared) enum Watch {}

impl Watch {
    /// Returns an error: this system reports no changes of single links.
    pub(in crate::shared) fn new() -> io::Result<Watch> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Watches this directory, which lies there below a target directory.
    pub(in crate::shared) fn add(&self, _dir: &Path, _target: Inode, _below: &Path) -> io::Result<()> {
        match *self {}
    }

    /// Waits for an event, or until the timeout. Returns whether there is one.
    pub(in crate::shared) fn wait(&self, _timeout: Duration) -> io::Result<bool> {
        match *self {}
    }

    /// All events since the last call.
    pub(in crate::shared) fn events(&self) -> io::Result<Vec<Event>> {
        match *self {}
    }
}
