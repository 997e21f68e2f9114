//! Changes of shared files, handled as soon as the watch reports them.
//!
//! The checkout through whose link a file was changed keeps the change; its entry leaves the
//! record, because the file is its own from then on. In every other target directory that shares
//! the inode the file is replaced by what it was.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kache_cas::{BlobStore, LocalFiles};

use super::check::Stores;
use super::entry::{Attributes, Entry, Inode};
use super::files::{SharedFiles, Target, lock};
use super::repair::{digest_of, unshare};
use super::watch::{Event, Watch};
use crate::inputs::is_absence;

/// Inodes that were changed, each with the links through which that was done.
type Changes = HashMap<Inode, Vec<(Arc<Target>, PathBuf)>>;

impl SharedFiles {
    /// Starts to watch shared files, including those that earlier daemons recorded.
    pub fn start_watching(&self) -> io::Result<()> {
        let (watch, outcome) = match Watch::new() {
            Ok(watch) => (Some(watch), Ok(())),
            Err(error) => (None, Err(error)),
        };
        // A second call changes nothing.
        let _ = self.watch.set(watch);
        self.read_all()?;
        outcome
    }

    /// Checks all shared files that are known. It undoes changes that were made while no daemon
    /// watched: nothing tells in which checkout they were made.
    pub fn check_all(&self, files: &dyn LocalFiles, blobs: &dyn BlobStore) -> io::Result<()> {
        for target in self.targets() {
            self.check_entries(&target, target.entries(), Stores { files, blobs })?;
        }
        Ok(())
    }

    /// Waits until there are events, or until the timeout. Returns whether there are any.
    pub fn wait_for_events(&self, timeout: Duration) -> io::Result<bool> {
        self.active_watch().map_or(Ok(false), |watch| watch.wait(timeout))
    }

    /// Handles all changes that were made until now and that the watch saw. One thread at a time
    /// does this; others wait for it.
    pub fn process_events(&self, files: &dyn LocalFiles, blobs: &dyn BlobStore) -> io::Result<()> {
        let Some(watch) = self.active_watch() else { return Ok(()) };
        let stores = Stores { files, blobs };
        let _one_at_a_time = lock(&self.processing);
        let mut links: HashMap<(Inode, PathBuf), bool> = HashMap::new();
        let mut is_complete = true;
        for event in watch.events()? {
            match event {
                Event::Touched { target, below, is_written } => {
                    *links.entry((target, below)).or_default() |= is_written;
                }
                Event::Gone { target, below } => self.watch_again(target, &below),
                Event::Lost => is_complete = false,
            }
        }
        let mut changes = Changes::new();
        for ((target, below), is_written) in links {
            let Some(target) = self.known(target) else { continue };
            if let Some(inode) = changed_inode(&target, &below, is_written)? {
                changes.entry(inode).or_default().push((target, below));
            }
        }
        self.separate(&changes, stores)?;
        if is_complete { Ok(()) } else { self.check_all(files, blobs) }
    }

    fn active_watch(&self) -> Option<&Watch> {
        self.watch.get()?.as_ref()
    }

    /// A watched directory is gone. It may have been made again in the same target directory.
    fn watch_again(&self, target: Inode, below: &Path) {
        if let Some(target) = self.known(target) {
            target.is_unwatched(below);
            if target.is_in_place() {
                self.watch_over(&target);
            }
        }
    }

    /// Leaves changed files as they are where they were changed, and restores them elsewhere.
    fn separate(&self, changes: &Changes, stores: Stores<'_>) -> io::Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        for links in changes.values() {
            for (place, (target, below)) in links.iter().enumerate() {
                // Two checkouts that changed the same inode must not share it any longer.
                if place > 0 {
                    unshare(&target.dir().join(below))?;
                }
                target.release([below.clone()])?;
            }
        }
        for target in self.targets() {
            let entries = target.entries().into_iter();
            let entries: Vec<(PathBuf, Entry)> =
                entries.filter(|(_, entry)| changes.contains_key(&entry.inode)).collect();
            if entries.is_empty() {
                continue;
            }
            let inodes: HashSet<Inode> = entries.iter().map(|(_, entry)| entry.inode).collect();
            let report = self.check_entries(&target, entries, stores)?;
            tracing::info!(
                "{} shared files were changed elsewhere: in `{}`, {} were restored and {} removed",
                inodes.len(),
                target.dir().display(),
                report.repaired,
                report.removed
            );
        }
        Ok(())
    }
}

/// The inode of this link, if it is a shared one that was changed.
fn changed_inode(target: &Target, below: &Path, is_written: bool) -> io::Result<Option<Inode>> {
    let Some(entry) = target.entry(below) else { return Ok(None) };
    let path = target.dir().join(below);
    let metadata = match fs::symlink_metadata(&path) {
        Err(error) if is_absence(&error) => return Ok(None),
        metadata => metadata?,
    };
    if !entry.is(&metadata) {
        return Ok(None);
    }
    let is_changed = Attributes::of(&metadata) != entry.attributes
        || (is_written && digest_of(&path)? != Some(entry.digest.hash));
    Ok(is_changed.then_some(entry.inode))
}
