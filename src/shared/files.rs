//! The records of all target directories, in memory and on the disk.
//!
//! A target directory is identified by its inode, so it is still known after it or its checkout
//! was renamed. Records of target directories that were not seen for [`UNSEEN_MAX`] are removed,
//! and beyond [`RECORDS_MAX`] those that were written longest ago.

use std::collections::{HashMap, HashSet};
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use kache_cas::Digest;
use parking_lot::Mutex;

use super::entry::{Entry, Inode, inode};
use super::record::{self, Record};
use super::uplifted::directories;
use super::watch::Watch;
use crate::inputs::is_absence;

/// The directory of the records in the cache directory.
const DIRECTORY: &str = "shared";

/// The file in a target directory in which cargo keeps the compiler's version.
const VERSIONS: &str = ".rustc_info.json";

/// How many records are kept, one for each target directory.
const RECORDS_MAX: usize = 200;

/// How long a record is kept whose target directory is not at its path: it may have been renamed.
const UNSEEN_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// How many shared files one target directory may have. Further files are copied.
const ENTRIES_MAX: usize = 50_000;

/// The largest record that is read. A frame has about 150 bytes.
const RECORD_BYTES_MAX: u64 = 64 << 20;

/// A record is rewritten once it has more frames than this for each entry.
const FRAMES_PER_ENTRY_MAX: usize = 4;

/// A record with fewer frames is never rewritten for its length.
const FRAMES_FEW: usize = 1000;

/// The records of all target directories, and the watch on them.
#[derive(Debug)]
pub struct SharedFiles {
    dir: PathBuf,
    /// The target directories whose records were read, by the inode of the directory.
    targets: Mutex<HashMap<Inode, Arc<SharedTarget>>>,
    /// Reports changes. It is set when watching starts, to `None` where that is not possible.
    pub(super) watch: OnceLock<Option<Watch>>,
    /// Held while events are processed.
    pub(super) processing: Mutex<()>,
}

/// A path with its new entry; `None` if the file is no longer shared.
type Change = (PathBuf, Option<Entry>);

/// A target directory with shared files.
///
/// Lock order: `checking` before `record`. Neither is held while `watched` is waited for.
#[derive(Debug)]
pub(super) struct SharedTarget {
    pub(super) identity: Inode,
    /// The file of the record.
    file: PathBuf,
    /// The directories below it that are watched.
    watched: Mutex<HashSet<PathBuf>>,
    /// Whether one of its directories could not be watched.
    is_unobserved: AtomicBool,
    /// Held while its files are checked.
    pub(super) checking: Mutex<()>,
    record: Mutex<Record>,
}

impl SharedFiles {
    /// Creates the value for this cache directory. No record is read yet.
    pub fn new(cache_dir: &Path) -> SharedFiles {
        SharedFiles {
            dir: cache_dir.join(DIRECTORY),
            targets: Mutex::default(),
            watch: OnceLock::new(),
            processing: Mutex::default(),
        }
    }

    /// Records outputs that were restored or stored below this target directory: which of them are
    /// shared, and that the others are not. After an error none of them may stay shared.
    pub fn note(
        &self,
        target_dir: &Path,
        shared: &[(PathBuf, Digest)],
        others: &mut dyn Iterator<Item = &Path>,
    ) -> io::Result<()> {
        let target = self.target(target_dir)?;
        let below = |path: &Path| path.strip_prefix(target_dir).map(Path::to_owned).map_err(io::Error::other);
        let change = |(path, digest): &(PathBuf, Digest)| {
            Ok((below(path)?, Some(Entry::of(*digest, &fs::symlink_metadata(path)?))))
        };
        let mut changes: Vec<Change> = shared.iter().map(change).collect::<io::Result<_>>()?;
        let others = others.filter_map(|path| Some((below(path).ok()?, None)));
        changes.extend(others.filter(|(path, _)| target.has_entry(path)));
        if changes.is_empty() {
            return Ok(());
        }
        let directories = directories(changes.iter().map(|(path, _)| path));
        target.append(changes)?;
        self.watch_directories(&target, directories);
        Ok(())
    }

    /// Returns the target directories that are still at their recorded paths. One that was renamed is
    /// found again with the next call that compiles in it.
    pub(super) fn targets(&self) -> Vec<Arc<SharedTarget>> {
        let targets: Vec<_> = self.targets.lock().values().cloned().collect();
        targets.into_iter().filter(|target| target.is_in_place()).collect()
    }

    /// Returns the target directory with this inode, if its record was read.
    pub(super) fn by_identity(&self, identity: Inode) -> Option<Arc<SharedTarget>> {
        self.targets.lock().get(&identity).cloned()
    }

    /// Watches the directories of this target directory in which shared files lie.
    pub(super) fn watch_over(&self, target: &SharedTarget) {
        self.watch_directories(target, target.directories());
    }

    fn watch_directories(&self, target: &SharedTarget, directories: HashSet<PathBuf>) {
        let Some(watch) = self.watch.get() else { return };
        // The outer `None` means that the watch has not begun; it will read all records then. The inner one means
        // that there is no watch on this system.
        let Some(watch) = watch else { return target.is_unobserved.store(true, Ordering::Relaxed) };
        let target_dir = target.dir();
        let mut watched = target.watched.lock();
        for below in directories {
            if watched.contains(&below) {
                continue;
            }
            match watch.add(&target_dir.join(&below), target.identity, &below) {
                Ok(()) => {
                    watched.insert(below);
                }
                // There is nothing to watch in a directory that was removed.
                Err(error) if is_absence(&error) => {}
                Err(error) => {
                    tracing::debug!("failed to watch `{}`: {error}", target_dir.join(&below).display());
                    target.is_unobserved.store(true, Ordering::Relaxed);
                }
            }
        }
    }

    /// Makes cargo ask for the compiler's version in its next build, by removing the file in which it
    /// keeps the answer: in target directories that are not watched, or everywhere. kache then checks
    /// their files before cargo compares dates.
    pub fn make_cargo_ask(&self, everywhere: bool) {
        for target in self.targets() {
            if (everywhere || target.is_unobserved.load(Ordering::Relaxed)) && target.has_entries() {
                // If this fails, the files are checked at cargo's first compile.
                let _ = fs::remove_file(target.dir().join(VERSIONS));
            }
        }
    }

    /// Reads the records of all target directories that are still at their recorded paths.
    pub(super) fn read_all(&self) -> io::Result<()> {
        self.prepare()?;
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            let Ok(record) = read(&path) else { continue };
            let Ok(found) = fs::metadata(&record.target_dir) else { continue };
            let identity = inode(&found);
            if self.file(identity) == path {
                let target = self.target(&record.target_dir)?;
                self.watch_over(&target);
            }
        }
        Ok(())
    }

    /// Returns the target directory at this path, with its record. Fails if there is no directory.
    pub(super) fn target(&self, target_dir: &Path) -> io::Result<Arc<SharedTarget>> {
        let identity = inode(&fs::metadata(target_dir)?);
        let target = {
            let mut targets = self.targets.lock();
            if targets.is_empty() {
                self.prepare()?;
            }
            if !targets.contains_key(&identity) {
                // Another directory that was at this path before is gone, or was renamed.
                targets.retain(|_, other| other.dir() != target_dir);
                targets.insert(identity, Arc::new(self.load(identity, target_dir)));
            }
            Arc::clone(&targets[&identity])
        };
        if target.move_to(target_dir)? {
            target.watched.lock().clear();
            self.watch_over(&target);
        }
        Ok(target)
    }

    /// Makes the directory of the records, and removes records that will not be used any more.
    fn prepare(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        let mut kept = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            // The date of a record that is kept.
            let kept_date = || {
                let record = read(&path).ok()?;
                let written = fs::metadata(&path).and_then(|metadata| metadata.modified()).ok()?;
                let metadata = fs::metadata(&record.target_dir).ok();
                // A record is named for the inode of its target directory, so a new directory at the same path has
                // another one.
                let is_in_place = metadata.is_some_and(|metadata| self.file(inode(&metadata)) == path);
                let is_recent = || written.elapsed().unwrap_or_default() < UNSEEN_MAX;
                (is_in_place || is_recent()).then_some(written)
            };
            match kept_date() {
                Some(written) => kept.push((written, path)),
                None => fs::remove_file(&path)?,
            }
        }
        // By date, so that the oldest ones are removed if there are too many.
        kept.sort();
        for (_, path) in kept.iter().rev().skip(RECORDS_MAX) {
            fs::remove_file(path)?;
        }
        Ok(())
    }

    fn file(&self, identity: Inode) -> PathBuf {
        self.dir.join(format!("{:x}-{:x}", identity.device, identity.number))
    }

    /// Reads the record of a target directory. One that cannot be read counts as empty.
    fn load(&self, identity: Inode, target_dir: &Path) -> SharedTarget {
        let file = self.file(identity);
        let empty = || Record { target_dir: target_dir.to_owned(), ..Record::default() };
        let record = read(&file).unwrap_or_else(|_| empty());
        SharedTarget {
            identity,
            file,
            watched: Mutex::default(),
            is_unobserved: AtomicBool::new(false),
            checking: Mutex::default(),
            record: Mutex::new(record),
        }
    }
}

impl SharedTarget {
    /// All entries, by path below the target directory.
    pub(super) fn entries(&self) -> Vec<(PathBuf, Entry)> {
        let record = self.record.lock();
        record.entries.iter().map(|(path, entry)| (path.clone(), *entry)).collect()
    }

    fn has_entries(&self) -> bool {
        !self.record.lock().entries.is_empty()
    }

    fn has_entry(&self, path: &Path) -> bool {
        self.record.lock().entries.contains_key(path)
    }

    /// The path at which the target directory was last found.
    pub(super) fn dir(&self) -> PathBuf {
        self.record.lock().target_dir.clone()
    }

    /// Whether the target directory is still at its recorded path.
    pub(super) fn is_in_place(&self) -> bool {
        fs::metadata(self.dir()).is_ok_and(|found| inode(&found) == self.identity)
    }

    /// The entry of this path below the target directory.
    pub(super) fn entry(&self, below: &Path) -> Option<Entry> {
        self.record.lock().entries.get(below).copied()
    }

    /// The recorded path and the entry of a file that has other names, too.
    pub(super) fn entry_of(&self, metadata: &Metadata) -> Option<(PathBuf, Entry)> {
        if metadata.nlink() < 2 {
            return None;
        }
        let record = self.record.lock();
        let (below, entry) = record.entries.iter().find(|(_, entry)| entry.is(metadata))?;
        Some((below.clone(), *entry))
    }

    /// Removes the entries of these paths.
    pub(super) fn remove_entries(&self, below: impl IntoIterator<Item = PathBuf>) -> io::Result<()> {
        self.append(below.into_iter().map(|path| (path, None)).collect())
    }

    /// Notes that this directory is not watched any longer.
    pub(super) fn note_unwatched(&self, below: &Path) {
        self.watched.lock().remove(below);
    }

    fn directories(&self) -> HashSet<PathBuf> {
        directories(self.record.lock().entries.keys())
    }

    /// Appends changes to the record, on the disk first and then in memory.
    fn append(&self, changes: Vec<Change>) -> io::Result<()> {
        let mut record = self.record.lock();
        if record.entries.len() + changes.len() > ENTRIES_MAX {
            return Err(io::Error::other("there are too many shared files in it"));
        }
        let mut bytes = Vec::new();
        if record.whole_bytes == 0 {
            bytes = record::header(&record.target_dir);
        }
        changes.iter().for_each(|(path, entry)| bytes.extend(record::frame(path, entry.as_ref())));
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&self.file)?;
        // A frame that a full disk or a crash has cut off would make all later frames unreadable.
        if file.metadata()?.len() != record.whole_bytes as u64 {
            file.set_len(record.whole_bytes as u64)?;
        }
        (&file).write_all(&bytes)?;
        record.whole_bytes += bytes.len();
        record.frames += changes.len();
        changes.into_iter().for_each(|(path, entry)| record.set(path, entry));
        Ok(())
    }

    /// Replaces entries after a check: path, entry before, entry after. `None` removes an entry. A file
    /// that was restored again during the check keeps its newer entry. The record on the disk is only
    /// rewritten if more than change times changed, because those are not stored, or if it is too long.
    pub(super) fn apply(&self, changes: Vec<(PathBuf, Entry, Option<Entry>)>) -> io::Result<()> {
        let mut record = self.record.lock();
        // A record grows with every restore. It is rewritten once most of its frames are outdated.
        let mut is_changed = record.frames > FRAMES_FEW + FRAMES_PER_ENTRY_MAX * record.entries.len();
        for (path, before, after) in changes {
            if record.entries.get(&path).is_none_or(|now| now.inode != before.inode) {
                continue;
            }
            is_changed |=
                after.is_none_or(|after| Entry { changed_ns: before.changed_ns, ..after } != before);
            record.set(path, after);
        }
        if is_changed { self.rewrite(&mut record) } else { Ok(()) }
    }

    /// Notes the present path of the target directory. Returns whether it had another path before.
    fn move_to(&self, target_dir: &Path) -> io::Result<bool> {
        let mut record = self.record.lock();
        if record.target_dir == target_dir {
            return Ok(false);
        }
        target_dir.clone_into(&mut record.target_dir);
        self.rewrite(&mut record)?;
        Ok(true)
    }

    /// Writes a record with one frame for each entry, which replaces the old one.
    fn rewrite(&self, record: &mut Record) -> io::Result<()> {
        let mut bytes = record::header(&record.target_dir);
        record.entries.iter().for_each(|(path, entry)| bytes.extend(record::frame(path, Some(entry))));
        let beside = self.file.with_extension("new");
        let written = File::create(&beside).and_then(|mut file| file.write_all(&bytes));
        written.and_then(|()| fs::rename(&beside, &self.file)).inspect_err(|_| {
            // If it cannot be removed now, `prepare` removes it at the next start.
            let _ = fs::remove_file(&beside);
        })?;
        record.whole_bytes = bytes.len();
        record.frames = record.entries.len();
        Ok(())
    }
}

fn read(file: &Path) -> io::Result<Record> {
    if fs::metadata(file)?.len() > RECORD_BYTES_MAX {
        return Err(io::Error::other("it is too large"));
    }
    record::decode(&fs::read(file)?).ok_or_else(|| io::Error::other("it is no record of this version"))
}
