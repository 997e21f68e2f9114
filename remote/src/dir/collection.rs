//! Holds the limit of a shared folder: what was used longest ago goes.
//!
//! Many machines write and collect at once, and nothing but the folder itself coordinates them. The date of a
//! file's last use is its date of modification, which a reader renews at most once an hour. All dates are
//! compared with the folder's own clock: the date of a file that was just made there. So a machine whose clock
//! is wrong removes nothing too early.
//!
//! The date of the file `{dir}/collected` says when a machine last began or went on to collect. It only saves
//! work: two machines that collect at once choose the same files, and a file that is gone counts as removed.
//! A collection can be interrupted at any moment, because every step removes one file.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use kache_cas::Hash;
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::libc;
use nix::sys::stat::{FileStat, Mode, UtimensatFlags, fstatat, futimens, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::ages::{Age, Ages, Excess};
use super::folder::{Folder, Space, TMP, directory, made_directory};
use crate::uuid;

/// The file whose date says when a machine last collected.
const MARK: &str = "collected";

/// How long after a collection of any machine the next one begins.
pub(super) const COLLECT_EVERY: Duration = Duration::from_secs(10 * 60);

/// The age at which a file that is still being written is taken for a leftover.
const LEFTOVER_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// What a collection did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Collected {
    /// The bytes of all files before it.
    pub(crate) bytes_before: u64,
    /// The bytes of the files that are gone.
    pub(crate) bytes_removed: u64,
}

/// One collection of a folder. It ends early if the folder's remote is closed.
pub(super) struct Collection {
    root: OwnedFd,
    tmp: OwnedFd,
    now: SystemTime,
    folder: Weak<Folder>,
}

impl Collection {
    /// Begins a collection; `None` if a machine has collected lately, or does so now.
    pub(super) fn begin(folder: &Arc<Folder>) -> io::Result<Option<Collection>> {
        let root = folder.root()?;
        let tmp = made_directory(&root, TMP)?;
        let now = folder_time(&tmp)?;
        let collection = Collection { root, tmp, now, folder: Arc::downgrade(folder) };
        Ok(collection.takes_turn()?.then_some(collection))
    }

    /// Removes leftovers, and what exceeds the limit, if there is one.
    pub(super) fn run(&self, size_bytes_max: Option<u64>) -> io::Result<Collected> {
        self.remove_leftovers()?;
        let Some(size_bytes_max) = size_bytes_max else { return Ok(Collected::default()) };
        let mut ages = Ages::default();
        let mut bytes_before = 0;
        for space in [Space::Results, Space::Blobs] {
            self.each_file(space, |shelf, name, stat| {
                let age = self.age(stat);
                if age == Age::Unknown {
                    // It ages from now on. Where this user may not set the date, it stays the youngest.
                    let _ = utimensat(shelf, name, &NOW, &NOW, UtimensatFlags::NoFollowSymlink);
                }
                ages.add(age, size_bytes(stat));
                bytes_before += size_bytes(stat);
                true
            })?;
        }
        let bytes_removed = match ages.excess(size_bytes_max) {
            Some(excess) => self.remove(&excess)?,
            None => 0,
        };
        Ok(Collected { bytes_before, bytes_removed })
    }

    /// Removes what is too much: first results, so that few readers find one whose blobs are gone.
    fn remove(&self, excess: &Excess) -> io::Result<u64> {
        let mut removed = 0;
        for space in [Space::Results, Space::Blobs] {
            self.each_file(space, |shelf, name, stat| {
                let is_excess = match space {
                    Space::Results => excess.has_result(self.age(stat)),
                    Space::Blobs => excess.has_blob(self.age(stat)),
                };
                if is_excess && is_gone(unlinkat(shelf, name, UnlinkatFlags::NoRemoveDir)) {
                    removed += size_bytes(stat);
                }
                removed < excess.bytes
            })?;
        }
        Ok(removed)
    }

    /// Removes what crashed writers have left.
    fn remove_leftovers(&self) -> io::Result<()> {
        each_entry(&self.tmp, |name, stat| {
            if self.now.duration_since(used(stat)).is_ok_and(|age| age >= LEFTOVER_AGE) {
                let _ = unlinkat(&self.tmp, name, UnlinkatFlags::NoRemoveDir);
            }
            true
        })
    }

    /// Whether this machine collects now. Of several that ask at once, mostly one does.
    fn takes_turn(&self) -> io::Result<bool> {
        match fstatat(&self.root, MARK, AtFlags::AT_SYMLINK_NOFOLLOW) {
            // A date ahead of the folder's clock is one of a clock that was wrong.
            Ok(stat)
                if self.now.duration_since(used(&stat)).is_ok_and(|age| age < COLLECT_EVERY)
                    || used(&stat).duration_since(self.now).is_ok_and(|ahead| ahead < COLLECT_EVERY) =>
            {
                return Ok(false);
            }
            Ok(_) => match unlinkat(&self.root, MARK, UnlinkatFlags::NoRemoveDir) {
                // Another machine was faster.
                Err(Errno::ENOENT) => return Ok(false),
                outcome => outcome?,
            },
            Err(Errno::ENOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        match openat(&self.root, MARK, flags, Mode::from_bits_truncate(0o666)) {
            Ok(_) => Ok(true),
            Err(Errno::EEXIST) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Calls a function for each file of a space, until it returns `false`.
    fn each_file(
        &self,
        space: Space,
        mut visit: impl FnMut(&OwnedFd, &str, &FileStat) -> bool,
    ) -> io::Result<()> {
        let Some(shelves) = if_there(directory(&self.root, space.name()))? else { return Ok(()) };
        for number in 0..=u8::MAX {
            if self.folder.strong_count() == 0 {
                return Err(io::Error::other("the folder is not used any more"));
            }
            let shelf_name = format!("{number:02x}");
            let Some(shelf) = if_there(directory(&shelves, &shelf_name))? else { continue };
            // Other machines see that this one still collects.
            let _ = utimensat(&self.root, MARK, &NOW, &NOW, UtimensatFlags::NoFollowSymlink);
            let mut goes_on = true;
            each_entry(&shelf, |name, stat| {
                if name.starts_with(&shelf_name) && is_hash(name) {
                    goes_on = visit(&shelf, name, stat);
                }
                goes_on
            })?;
            if !goes_on {
                break;
            }
        }
        Ok(())
    }

    fn age(&self, stat: &FileStat) -> Age {
        Age::of(used(stat), self.now)
    }
}

/// Says to the file system that a date is the present, by its own clock.
pub(super) const NOW: TimeSpec = TimeSpec::UTIME_NOW;

/// Calls a function for each regular file of a directory, until it returns `false`.
fn each_entry(dir: &OwnedFd, mut visit: impl FnMut(&str, &FileStat) -> bool) -> io::Result<()> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    for entry in Dir::openat(dir, ".", flags, Mode::empty())?.iter() {
        let entry = entry?;
        let Ok(name) = entry.file_name().to_str() else { continue };
        match fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) if stat.st_mode & libc::S_IFMT == libc::S_IFREG => {
                if !visit(name, &stat) {
                    return Ok(());
                }
            }
            // Not a file, or another machine has removed it.
            Ok(_) | Err(Errno::ENOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// Returns the present by the clock of the folder's file system.
fn folder_time(tmp: &OwnedFd) -> io::Result<SystemTime> {
    let name = uuid::random();
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let file = File::from(openat(tmp, name.as_str(), flags, Mode::from_bits_truncate(0o666))?);
    let modified = file.metadata().and_then(|metadata| metadata.modified());
    unlinkat(tmp, name.as_str(), UnlinkatFlags::NoRemoveDir)?;
    modified
}

/// Renews the date of a file's last use, unless it was renewed within the last hour. A user who may not write
/// the file cannot do that; then the file is removed sooner.
pub(super) fn note_use(file: impl AsFd, used: SystemTime) -> bool {
    let (now, recently) = (SystemTime::now(), Duration::from_secs(60 * 60));
    let is_recent =
        now.duration_since(used).map_or_else(|ahead| ahead.duration() < recently, |age| age < recently);
    if !is_recent {
        let _ = futimens(file, &NOW, &NOW);
    }
    !is_recent
}

fn used(stat: &FileStat) -> SystemTime {
    match u64::try_from(stat.st_mtime) {
        Ok(seconds) => SystemTime::UNIX_EPOCH + Duration::from_secs(seconds),
        Err(_) => SystemTime::UNIX_EPOCH,
    }
}

fn size_bytes(stat: &FileStat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

/// Whether a file is gone, because this machine or another one has removed it.
fn is_gone(removed: nix::Result<()>) -> bool {
    matches!(removed, Ok(()) | Err(Errno::ENOENT))
}

fn is_hash(name: &str) -> bool {
    name.len() == 2 * size_of::<Hash>() && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Returns `None` if there is no such directory, or something else in its place.
fn if_there(outcome: io::Result<OwnedFd>) -> io::Result<Option<OwnedFd>> {
    let is_other = |error: &io::Error| {
        let errno = error.raw_os_error().map(Errno::from_raw);
        matches!(errno, Some(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP))
    };
    match outcome {
        Err(error) if is_other(&error) => Ok(None),
        outcome => outcome.map(Some),
    }
}
