//! The stamp of a file: size, inode and dates, by which kache tells that the file did not change.
//!
//! One system call takes a stamp and follows links. Two equal stamps mean equal content only if the
//! filesystem dates every change and the file is old enough: `volume` decides the first,
//! [`Stamp::is_settled`] the second (KEY-05).

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kache_cas::FileStamp;

/// A file that was changed less than this time ago may be changed again without getting another date:
/// the coarsest clock of a filesystem in use counts in steps of two seconds.
pub const CLOCK_GRAIN: Duration = Duration::from_secs(2);

/// The state of an inode as `stat` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stamp {
    /// The inode that the path led to.
    pub inode: Inode,
    /// The size of the content.
    pub size_bytes: u64,
    /// The date of the last change of the content, in nanoseconds since 1970. Programs can set it.
    pub mtime_ns: i64,
    /// The date of the last change of content, permissions or links, in nanoseconds since 1970. Only the
    /// kernel sets it.
    pub ctime_ns: i64,
    /// The type and the permissions, as in `st_mode`.
    pub mode: u32,
}

/// The device, the mount and the number of an inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Inode {
    /// The number of the device.
    pub device: u64,
    /// The number of the mount through which the inode was found. The kernel gives no number twice
    /// while the system runs, so another image on the same device has another number. 0 if the kernel
    /// does not tell the number (Linux before 6.8, other systems).
    pub mount: u64,
    /// The inode number on the device.
    pub number: u64,
}

impl Stamp {
    /// Takes the stamp of a path; `None` if nothing is there.
    pub fn of(path: &Path) -> io::Result<Option<Stamp>> {
        present(system::stamp(None, path.as_os_str()))
    }

    /// Takes the stamp of an open file.
    pub fn of_file(file: &File) -> io::Result<Stamp> {
        system::stamp(Some(file), OsStr::new(""))
    }

    /// Whether the file is the one that the store saw, in the same state.
    pub fn is_as_seen(&self, seen: &FileStamp) -> bool {
        let FileStamp { device, inode, size_bytes, modified_ns, changed_ns } = *seen;
        (self.inode.device, self.inode.number) == (device, inode)
            && self.size_bytes == size_bytes
            && (self.mtime_ns, self.ctime_ns) == (modified_ns, changed_ns)
    }

    /// Whether the inode is a directory.
    pub fn is_directory(&self) -> bool {
        self.mode & libc::S_IFMT == libc::S_IFDIR
    }

    /// Whether the inode is a regular file.
    pub fn is_file(&self) -> bool {
        self.mode & libc::S_IFMT == libc::S_IFREG
    }

    /// Whether the owner may execute the file.
    pub fn is_executable(&self) -> bool {
        self.mode & libc::S_IXUSR != 0
    }

    /// Whether the last change lies so long before `moment` that every change after `moment` gives the
    /// file another date.
    pub fn is_settled(&self, moment: SystemTime) -> bool {
        self.is_older_than(CLOCK_GRAIN, moment)
    }

    /// Whether the last change lies more than `age` before `moment`.
    pub fn is_older_than(&self, age: Duration, moment: SystemTime) -> bool {
        let since_epoch = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
        let limit = since_epoch.saturating_sub(age);
        let limit_ns = i64::try_from(limit.as_nanos()).unwrap_or(i64::MAX);
        self.mtime_ns < limit_ns && self.ctime_ns < limit_ns
    }
}

/// An open directory, for taking the stamps of several entries. The kernel resolves the path of the
/// directory only once, and that is most of the cost of a `stat` of a deep path.
#[derive(Debug)]
pub(crate) struct OpenDir(File);

impl OpenDir {
    /// Opens a directory; `None` if there is no directory at this path.
    pub(crate) fn open(path: &Path) -> io::Result<Option<OpenDir>> {
        let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
        match OpenOptions::new().read(true).custom_flags(flags).open(path) {
            Ok(dir) => Ok(Some(OpenDir(dir))),
            Err(error) if is_absence(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Takes the stamp of the entry with this name, like [`Stamp::of`].
    pub(crate) fn stamp(&self, name: &OsStr) -> io::Result<Option<Stamp>> {
        present(system::stamp(Some(&self.0), name))
    }
}

fn present(stamp: io::Result<Stamp>) -> io::Result<Option<Stamp>> {
    match stamp {
        Ok(stamp) => Ok(Some(stamp)),
        Err(error) if is_absence(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether an error means that nothing is at a path. Every other error means that kache does not know
/// what is there (STO-08).
pub(crate) fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn nanoseconds(seconds: i64, nanoseconds: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
}

/// Uses `statx`, which also tells the number of the mount.
#[cfg(target_os = "linux")]
mod system {
    use std::ffi::CString;
    use std::mem::MaybeUninit;
    use std::os::fd::AsRawFd as _;
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;

    /// Takes the stamp of a path below an open directory, below the working directory without one, or of
    /// the open file itself where the path is empty.
    pub(crate) fn stamp(below: Option<&File>, path: &OsStr) -> io::Result<Stamp> {
        let directory = below.map_or(libc::AT_FDCWD, |file| file.as_raw_fd());
        let name = CString::new(path.as_bytes())
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a path with a zero byte"))?;
        let flags = libc::AT_STATX_SYNC_AS_STAT | if path.is_empty() { libc::AT_EMPTY_PATH } else { 0 };
        let wanted = libc::STATX_BASIC_STATS | libc::STATX_MNT_ID_UNIQUE;
        let mut found = MaybeUninit::<libc::statx>::zeroed();
        // SAFETY: the name ends with a zero byte, and there is room for what is found.
        if unsafe { libc::statx(directory, name.as_ptr(), flags, wanted, found.as_mut_ptr()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: it was zeroed, which is a value of this type, and then filled in.
        let found = unsafe { found.assume_init() };
        let has_mount = found.stx_mask & libc::STATX_MNT_ID_UNIQUE != 0;
        Ok(Stamp {
            inode: Inode {
                device: libc::makedev(found.stx_dev_major, found.stx_dev_minor),
                mount: if has_mount { found.stx_mnt_id } else { 0 },
                number: found.stx_ino,
            },
            size_bytes: found.stx_size,
            mtime_ns: nanoseconds(found.stx_mtime.tv_sec, i64::from(found.stx_mtime.tv_nsec)),
            ctime_ns: nanoseconds(found.stx_ctime.tv_sec, i64::from(found.stx_ctime.tv_nsec)),
            mode: u32::from(found.stx_mode),
        })
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use nix::fcntl::{AT_FDCWD, AtFlags};
    use nix::sys::stat::{fstat, fstatat};

    use super::*;

    /// Takes the stamp of a path below an open directory, below the working directory without one, or of
    /// the open file itself where the path is empty.
    pub(crate) fn stamp(below: Option<&File>, path: &OsStr) -> io::Result<Stamp> {
        let status = match below {
            Some(file) if path.is_empty() => fstat(file)?,
            Some(dir) => fstatat(dir, path, AtFlags::empty())?,
            None => fstatat(AT_FDCWD, path, AtFlags::empty())?,
        };
        Ok(Stamp {
            inode: Inode { device: status.st_dev as u64, mount: 0, number: status.st_ino },
            size_bytes: u64::try_from(status.st_size).unwrap_or_default(),
            mtime_ns: nanoseconds(status.st_mtime, status.st_mtime_nsec),
            ctime_ns: nanoseconds(status.st_ctime, status.st_ctime_nsec),
            mode: u32::from(status.st_mode),
        })
    }
}
