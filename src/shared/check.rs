//! Whether the shared files of a target directory are as they were recorded.
//!
//! A check costs one `lstat` for each file. A new or removed link moves the inode's change time
//! and nothing else. In that case the store is asked, which knows about the links that it made
//! itself; a file that the store does not vouch for is hashed.

use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kache_cas::{AccessKind, BlobStore, Content, LocalFiles};

use super::entry::{Attributes, Entry, changed_ns, inode};
use super::files::{SharedFiles, SharedTarget};
use super::repair::{RepairOutcome, digest_of, repair};
use crate::inputs::is_absence;

/// How long one check may take. What it does not reach is left to the next call.
const CHECK_MAX: Duration = Duration::from_secs(2);

/// The store from which changed files are restored.
#[derive(Clone, Copy)]
pub(super) struct RepairSource<'a> {
    pub(super) files: &'a dyn LocalFiles,
    pub(super) blobs: &'a dyn BlobStore,
}

/// The outcome of a check.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// How many files were checked.
    pub files: usize,
    /// How many had another date, mode or owner, and were restored.
    pub repaired: usize,
    /// How many had been overwritten, and were removed.
    pub removed: usize,
    /// Whether the check reached its time limit before all files were checked.
    pub is_partial: bool,
}

/// The state of the file at a recorded path.
enum FileStatus {
    /// The recorded file is unchanged. The entry has its present change time.
    Unchanged(Entry),
    /// The recorded inode is there, and was changed.
    Changed,
    /// There is no file, or one with another inode, which kache did not restore.
    Replaced,
}

impl SharedFiles {
    /// Checks the shared files of this target directory, and restores those that were changed.
    /// Changes that the watch saw in this target directory stay. One thread at a time checks a
    /// target directory; others wait for it.
    pub fn check(
        &self,
        target_dir: &Path,
        files: &dyn LocalFiles,
        blobs: &dyn BlobStore,
    ) -> io::Result<CheckReport> {
        self.process_events(files, blobs)?;
        let target = match self.target(target_dir) {
            Err(error) if is_absence(&error) => return Ok(CheckReport::default()),
            target => target?,
        };
        self.check_entries(&target, target.entries(), RepairSource { files, blobs })
    }

    /// Checks some files of a target directory.
    pub(super) fn check_entries(
        &self,
        target: &SharedTarget,
        entries: Vec<(PathBuf, Entry)>,
        source: RepairSource<'_>,
    ) -> io::Result<CheckReport> {
        let _one_at_a_time = target.checking.lock();
        let (begun, target_dir) = (Instant::now(), target.dir());
        let mut report = CheckReport { files: entries.len(), ..CheckReport::default() };
        let mut changes = Vec::new();
        for (below, entry) in entries {
            if begun.elapsed() > CHECK_MAX {
                report.is_partial = true;
                break;
            }
            let after = report.check_file(&target_dir.join(&below), &entry, source)?;
            if after != Some(entry) {
                changes.push((below, entry, after));
            }
        }
        target.apply(changes)?;
        Ok(report)
    }
}

impl CheckReport {
    /// Checks one file and restores it if it was changed. Returns the entry that replaces the recorded
    /// one; `None` if the file is no longer shared.
    fn check_file(
        &mut self,
        path: &Path,
        entry: &Entry,
        source: RepairSource<'_>,
    ) -> io::Result<Option<Entry>> {
        match status(path, entry, source.blobs)? {
            FileStatus::Unchanged(entry) => return Ok(Some(entry)),
            FileStatus::Replaced => return Ok(None),
            FileStatus::Changed => {}
        }
        Ok(match repair(path, entry, source)? {
            RepairOutcome::Shared(entry) => {
                self.repaired += 1;
                Some(entry)
            }
            RepairOutcome::Private => {
                self.repaired += 1;
                None
            }
            RepairOutcome::Removed => {
                self.removed += 1;
                None
            }
            RepairOutcome::Replaced => None,
        })
    }
}

/// Compares a file with its entry, the cheapest comparison first. The bytes are hashed only if the
/// change time moved and the store does not know why.
fn status(path: &Path, entry: &Entry, blobs: &dyn BlobStore) -> io::Result<FileStatus> {
    let metadata = match fs::symlink_metadata(path) {
        Err(error) if is_absence(&error) => return Ok(FileStatus::Replaced),
        metadata => metadata?,
    };
    if !entry.is(&metadata) {
        return Ok(FileStatus::Replaced);
    }
    // A date, a mode or an owner that differs is a change in any case, so nothing is hashed.
    if Attributes::of(&metadata) != entry.attributes {
        return Ok(FileStatus::Changed);
    }
    // The change time also moves when a link is made or removed. The store knows its own links; for others only the
    // bytes tell.
    if entry.changed_ns != Some(changed_ns(&metadata))
        && !is_vouched_for(entry, blobs)
        && digest_of(path)? != Some(entry.digest.hash)
    {
        return Ok(FileStatus::Changed);
    }
    Ok(FileStatus::Unchanged(Entry { changed_ns: Some(changed_ns(&metadata)), ..*entry }))
}

/// Whether this is the store's own inode, and the store knows that its bytes are right.
fn is_vouched_for(entry: &Entry, blobs: &dyn BlobStore) -> bool {
    let Ok(Some(Content::File { file, .. })) = blobs.open(&entry.digest, AccessKind::Peek) else {
        return false;
    };
    file.metadata().is_ok_and(|metadata: Metadata| inode(&metadata) == entry.inode)
}

/// A name beside `path`, for a file that is not complete yet.
pub(super) fn beside(path: &Path) -> PathBuf {
    use std::sync::atomic::{AtomicU64, Ordering};
    static SEQUENCE: AtomicU64 = AtomicU64::new(0);
    let number = SEQUENCE.fetch_add(1, Ordering::Relaxed);
    path.with_file_name(format!(".kache-anew-{}-{number}", std::process::id()))
}
