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
use super::files::{SharedFiles, Target, lock};
use super::repair::{Repaired, digest_of, repair};
use crate::inputs::is_absence;

/// How long one check may take. What it does not reach is left to the next call.
const CHECK_MAX: Duration = Duration::from_secs(2);

/// The store that files are restored from.
#[derive(Clone, Copy)]
pub(super) struct Stores<'a> {
    pub(super) files: &'a dyn LocalFiles,
    pub(super) blobs: &'a dyn BlobStore,
}

/// What a check found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// How many files were checked.
    pub files: usize,
    /// How many had another date, mode or owner, and were restored.
    pub repaired: usize,
    /// How many had other bytes, and were removed.
    pub removed: usize,
    /// Whether the time was up before all files were checked.
    pub is_partial: bool,
}

/// What lies at a path.
enum Standing {
    /// The recorded file, unchanged.
    Whole(Entry),
    /// The recorded inode, changed.
    Changed,
    /// No file, or one with another inode, which kache did not restore.
    Foreign,
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
    ) -> io::Result<Checked> {
        self.process_events(files, blobs)?;
        let target = match self.target(target_dir) {
            Err(error) if is_absence(&error) => return Ok(Checked::default()),
            target => target?,
        };
        self.check_entries(&target, target.entries(), Stores { files, blobs })
    }

    /// Checks some files of a target directory.
    pub(super) fn check_entries(
        &self,
        target: &Target,
        entries: Vec<(PathBuf, Entry)>,
        stores: Stores<'_>,
    ) -> io::Result<Checked> {
        let _one_at_a_time = lock(&target.checking);
        let (begun, target_dir) = (Instant::now(), target.dir());
        let mut report = Checked { files: entries.len(), ..Checked::default() };
        let mut changes = Vec::new();
        for (below, entry) in entries {
            if begun.elapsed() > CHECK_MAX {
                report.is_partial = true;
                break;
            }
            let after = report.one(&target_dir.join(&below), &entry, stores)?;
            if after != Some(entry) {
                changes.push((below, entry, after));
            }
        }
        target.settle(changes)?;
        Ok(report)
    }
}

impl Checked {
    /// Checks one file, and returns its entry from now on.
    fn one(&mut self, path: &Path, entry: &Entry, stores: Stores<'_>) -> io::Result<Option<Entry>> {
        match standing(path, entry, stores.blobs)? {
            Standing::Whole(entry) => return Ok(Some(entry)),
            Standing::Foreign => return Ok(None),
            Standing::Changed => {}
        }
        Ok(match repair(path, entry, stores)? {
            Repaired::Shared(entry) => {
                self.repaired += 1;
                Some(entry)
            }
            Repaired::Private => {
                self.repaired += 1;
                None
            }
            Repaired::Removed => {
                self.removed += 1;
                None
            }
            Repaired::Foreign => None,
        })
    }
}

fn standing(path: &Path, entry: &Entry, blobs: &dyn BlobStore) -> io::Result<Standing> {
    let metadata = match fs::symlink_metadata(path) {
        Err(error) if is_absence(&error) => return Ok(Standing::Foreign),
        metadata => metadata?,
    };
    if !entry.is(&metadata) {
        return Ok(Standing::Foreign);
    }
    if Attributes::of(&metadata) != entry.attributes {
        return Ok(Standing::Changed);
    }
    if entry.changed_ns != Some(changed_ns(&metadata))
        && !is_vouched_for(entry, blobs)
        && digest_of(path)? != Some(entry.digest.hash)
    {
        return Ok(Standing::Changed);
    }
    Ok(Standing::Whole(Entry { changed_ns: Some(changed_ns(&metadata)), ..*entry }))
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
