//! Handles changes of shared files as soon as the watch reports them.
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

use super::check::RepairSource;
use super::entry::{Attributes, Entry, Inode};
use super::files::{SharedFiles, SharedTarget};
use super::repair::{digest_of, unshare};
use super::uplifted::is_first_name;
use super::watch::{Watch, WatchEvent};
use crate::inputs::is_absence;

/// The inodes that were changed, each with the links through which they were changed.
type Changes = HashMap<Inode, Vec<(Arc<SharedTarget>, PathBuf)>>;

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

    /// Checks all shared files that are recorded. This undoes changes that were made while no daemon
    /// watched, because kache cannot tell in which checkout they were made.
    pub fn check_all(&self, files: &dyn LocalFiles, blobs: &dyn BlobStore) -> io::Result<()> {
        for target in self.targets() {
            self.check_entries(&target, target.entries(), RepairSource { files, blobs })?;
        }
        Ok(())
    }

    /// Waits until there are events, or until the timeout. Returns whether there are any.
    pub fn wait_for_events(&self, timeout: Duration) -> io::Result<bool> {
        self.active_watch().map_or(Ok(false), |watch| watch.wait(timeout))
    }

    /// Handles all changes that the watch has reported until now. One thread at a time does this;
    /// others wait for it.
    ///
    /// First the changed inodes are collected from all events, each with the links through which it was
    /// changed; then they are handled. So a file that was changed in two checkouts stays in both.
    pub fn process_events(&self, files: &dyn LocalFiles, blobs: &dyn BlobStore) -> io::Result<()> {
        let Some(watch) = self.active_watch() else { return Ok(()) };
        let source = RepairSource { files, blobs };
        let _one_at_a_time = self.processing.lock();
        // One entry for each link, because a tool that rewrites a file causes hundreds of events for it.
        let mut links: HashMap<(Inode, PathBuf), bool> = HashMap::new();
        let mut is_complete = true;
        for event in watch.events()? {
            match event {
                WatchEvent::Touched { target, below, is_written } => {
                    *links.entry((target, below)).or_default() |= is_written;
                }
                WatchEvent::Gone { target, below } => self.watch_again(target, &below),
                WatchEvent::Lost => is_complete = false,
            }
        }
        let mut changes = Changes::new();
        for ((target, below), is_written) in links {
            let Some(target) = self.by_identity(target) else { continue };
            let Some((recorded, inode)) = changed_file(&target, &below, is_written)? else { continue };
            let links = changes.entry(inode).or_default();
            // A tool that changes a whole directory tree changes a file by each of its names there.
            if !links.iter().any(|(other, below)| Arc::ptr_eq(other, &target) && *below == recorded) {
                links.push((target, recorded));
            }
        }
        self.separate(&changes, source)?;
        // The system drops events when its queue is full. Then only a check of all files finds what changed.
        if is_complete { Ok(()) } else { self.check_all(files, blobs) }
    }

    fn active_watch(&self) -> Option<&Watch> {
        self.watch.get()?.as_ref()
    }

    /// Watches a removed directory again, if it was made again in the same target directory.
    fn watch_again(&self, target: Inode, below: &Path) {
        if let Some(target) = self.by_identity(target) {
            target.note_unwatched(below);
            if target.is_in_place() {
                self.watch_over(&target);
            }
        }
    }

    /// Leaves changed files as they are where they were changed, and restores them elsewhere.
    fn separate(&self, changes: &Changes, source: RepairSource<'_>) -> io::Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        for links in changes.values() {
            for (index, (target, below)) in links.iter().enumerate() {
                // Two checkouts that changed the same inode must not share it any longer.
                if index > 0 {
                    unshare(&target.dir().join(below))?;
                }
                target.remove_entries([below.clone()])?;
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
            // The links through which the inode was changed have no entries any more, so only the other checkouts
            // are repaired.
            let report = self.check_entries(&target, entries, source)?;
            tracing::info!(
                "{} shared files were changed in another checkout: in `{}`, {} were restored and {} removed",
                inodes.len(),
                target.dir().display(),
                report.repaired,
                report.removed
            );
        }
        Ok(())
    }
}

/// Returns the recorded path and the inode of a file that was changed by this name; `None` if it is not
/// shared or was not changed.
///
/// The recorded path may be another name of the file.
fn changed_file(
    target: &SharedTarget,
    below: &Path,
    is_written: bool,
) -> io::Result<Option<(PathBuf, Inode)>> {
    let entry = target.entry(below);
    if entry.is_none() && is_first_name(below) {
        return Ok(None);
    }
    let path = target.dir().join(below);
    let metadata = match fs::symlink_metadata(&path) {
        Err(error) if is_absence(&error) => return Ok(None),
        metadata => metadata?,
    };
    let recorded = entry.map(|entry| (below.to_owned(), entry)).or_else(|| target.entry_of(&metadata));
    let Some((recorded, entry)) = recorded.filter(|(_, entry)| entry.is(&metadata)) else { return Ok(None) };
    let is_changed = Attributes::of(&metadata) != entry.attributes
        || (is_written && digest_of(&path)? != Some(entry.digest.hash));
    Ok(is_changed.then_some((recorded, entry.inode)))
}
