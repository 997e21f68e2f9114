//! What tells that a file is still the one that was read.
//!
//! Taken by one `stat`, links followed. Two equal stamps mean equal content as far as the
//! filesystem's clock can tell; [`Stamp::is_settled`] says when it can (KEY-05).

use std::ffi::OsStr;
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kache_cas::Seen;
use nix::fcntl::AtFlags;
use nix::sys::stat::fstatat;

/// Below this age a file may be written again without its dates showing it: the coarsest
/// clock of a filesystem in use counts in steps of two seconds.
pub const CLOCK_GRAIN: Duration = Duration::from_secs(2);

/// Which inode, and in which state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stamp {
    /// Which inode.
    pub inode: Inode,
    /// How many bytes.
    pub size_bytes: u64,
    /// When the content was last changed, in nanoseconds since 1970.
    pub mtime_ns: i64,
    /// When anything about it was last changed, in nanoseconds since 1970.
    pub ctime_ns: i64,
    /// Type and permissions.
    pub mode: u32,
}

/// The name of an inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Inode {
    /// The volume.
    pub device: u64,
    /// The number there.
    pub number: u64,
}

impl Stamp {
    /// What is at this path; `None` if nothing is.
    pub fn of(path: &Path) -> io::Result<Option<Stamp>> {
        match std::fs::metadata(path) {
            Ok(metadata) => Ok(Some(Stamp::from_metadata(&metadata))),
            Err(error) if is_absence(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The same of an open file.
    pub fn from_metadata(metadata: &Metadata) -> Stamp {
        Stamp {
            inode: Inode { device: metadata.dev(), number: metadata.ino() },
            size_bytes: metadata.size(),
            mtime_ns: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            ctime_ns: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
            mode: metadata.mode(),
        }
    }

    /// Whether it is the file that the store saw, in the same state.
    pub fn is_as_seen(&self, seen: &Seen) -> bool {
        let Seen { device, inode, size_bytes, modified_ns, changed_ns } = *seen;
        self.inode == Inode { device, number: inode }
            && self.size_bytes == size_bytes
            && (self.mtime_ns, self.ctime_ns) == (modified_ns, changed_ns)
    }

    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        self.mode & libc::S_IFMT == libc::S_IFDIR
    }

    /// Whether it is a plain file.
    pub fn is_file(&self) -> bool {
        self.mode & libc::S_IFMT == libc::S_IFREG
    }

    /// Whether its owner may execute it.
    pub fn is_executable(&self) -> bool {
        self.mode & libc::S_IXUSR != 0
    }

    /// Whether it was last changed so long before `moment` that a change after `moment`
    /// would show in its dates.
    pub fn is_settled(&self, moment: SystemTime) -> bool {
        let since_epoch = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
        let limit = since_epoch.saturating_sub(CLOCK_GRAIN);
        let limit_ns = i64::try_from(limit.as_nanos()).unwrap_or(i64::MAX);
        self.mtime_ns < limit_ns && self.ctime_ns < limit_ns
    }
}

/// A directory that is asked for several of its entries: the way to it is walked once, which
/// is most of what a `stat` of a deep path costs.
#[derive(Debug)]
pub(super) struct OpenDir(File);

impl OpenDir {
    /// `None` if there is no such directory.
    pub(super) fn open(path: &Path) -> io::Result<Option<OpenDir>> {
        let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
        match OpenOptions::new().read(true).custom_flags(flags).open(path) {
            Ok(dir) => Ok(Some(OpenDir(dir))),
            Err(error) if is_absence(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// As [`Stamp::of`].
    pub(super) fn stamp(&self, name: &OsStr) -> io::Result<Option<Stamp>> {
        match fstatat(&self.0, name, AtFlags::empty()).map_err(io::Error::from) {
            Ok(status) => Ok(Some(Stamp {
                inode: Inode { device: status.st_dev, number: status.st_ino },
                size_bytes: u64::try_from(status.st_size).unwrap_or_default(),
                mtime_ns: nanoseconds(status.st_mtime, status.st_mtime_nsec),
                ctime_ns: nanoseconds(status.st_ctime, status.st_ctime_nsec),
                mode: status.st_mode,
            })),
            Err(error) if is_absence(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Whether an error says that there is nothing. All others are trouble (STO-08).
pub(super) fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn nanoseconds(seconds: i64, nanoseconds: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
}
