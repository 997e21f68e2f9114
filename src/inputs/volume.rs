//! Which filesystems say by a file's dates that it was changed.
//!
//! A stamp proves nothing where a write leaves no trace in it. Most of that is about mapped files:
//! a program that maps a file for writing changes it without a call to the kernel. Filesystems on
//! disks date the file when a clean page is written to for the first time; later writes to the
//! same page leave no trace until the kernel has written the page to the disk, which it does about
//! half a minute later. On ext4, XFS, btrfs and overlayfs a file that stays mapped could be
//! changed for 25 to 40 seconds without a new date; on tmpfs for ever, and without any new date at
//! all where the program has read the page before.
//!
//! It knows no digests and remembers nothing of files.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use nix::sys::statfs::{Statfs, fstatfs, statfs};

use super::stamp::Stamp;

/// From this age on no page of a file on a disk is still waiting to be written. The kernel waits
/// 30 s, looks every 5 s, and was seen to take up to 40 s; some laptops are told to wait 60 s.
const WRITTEN_BACK: Duration = Duration::from_secs(120);

/// How many overlays are remembered.
const OVERLAYS_MAX: usize = 1024;

/// What the dates of a filesystem tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dates {
    /// Every change of a file or a directory, apart from writes to a page that is mapped already and
    /// has not been written to the disk since.
    Everything,
    /// Every change of a directory. A file that is mapped may change without a trace.
    Directories,
    /// Nothing ever changes while it is mounted. Who made the image chose the dates, and another
    /// image may have the same ones.
    Mounted,
    /// Nothing: dates are coarse, come late from another machine, or are made up.
    Nothing,
}

/// A filesystem that is known.
struct Kind {
    /// What `statfs` calls it.
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "other systems have names"))]
    magic: i64,
    #[cfg_attr(target_os = "linux", expect(dead_code, reason = "for readers"))]
    name: &'static str,
    dates: Dates,
}

const fn kind(magic: i64, name: &'static str, dates: Dates) -> Kind {
    Kind { magic, name, dates }
}

/// The number of overlayfs, whose dates are those of the filesystem that is written to.
const OVERLAYFS: i64 = 0x794c_7630;

/// All that are known. What is not listed tells nothing: so do FUSE (with virtiofs and fuseblk), NFS,
/// SMB, 9p, Ceph and AFS, whose attributes are cached and come from another program or machine; FAT
/// and exFAT, whose dates are coarse and whose inodes have no date of their own; and the kernel's
/// own, such as proc.
const KINDS: &[Kind] = &[
    kind(0xef53, "ext4", Dates::Everything),
    kind(0x5846_5342, "xfs", Dates::Everything),
    kind(0x9123_683e, "btrfs", Dates::Everything),
    // Pages are write-protected and dated as on ext4.
    kind(0xf2f5_2010, "f2fs", Dates::Everything),
    kind(0xca45_1a4e, "bcachefs", Dates::Everything),
    // Dates a mapped file when its pages are written to the disk, not when they are changed.
    kind(0x2fc1_2fc1, "zfs", Dates::Directories),
    // Their pages are never written to a disk, so no second write to a page is ever noticed.
    kind(0x0102_1994, "tmpfs", Dates::Directories),
    kind(0x8584_58f6, "ramfs", Dates::Directories),
    // How they date mapped files was not measured.
    kind(0, "apfs", Dates::Directories),
    kind(0, "hfs", Dates::Directories),
    kind(0x7371_7368, "squashfs", Dates::Mounted),
    kind(0xe0f5_e1e2, "erofs", Dates::Mounted),
    kind(0x9660, "isofs", Dates::Mounted),
    kind(0x28cd_3d45, "cramfs", Dates::Mounted),
    kind(0x7275, "romfs", Dates::Mounted),
];

/// Chooses the signal that tells the holder of a lease about somebody who wants to write.
#[cfg(target_os = "linux")]
const F_SETSIG: libc::c_int = 10;

/// The mounted filesystems that were looked at, and whether their dates can be trusted.
#[derive(Debug, Default)]
pub(super) struct Volumes {
    overlays: Mutex<HashMap<u64, Dates>>,
}

impl Volumes {
    /// Whether a file that is about to be read, and looks like this, is known by these looks from
    /// now on. The caller makes sure that its dates are old enough for the filesystem's clock.
    pub(super) fn proves_file(&self, file: &File, stamp: &Stamp, now: SystemTime) -> bool {
        let Ok(status) = fstatfs(file) else { return false };
        match self.dates(&status, file, stamp.inode.mount) {
            Dates::Everything if stamp.is_older_than(WRITTEN_BACK, now) => true,
            // An overlay does not know of mappings: they belong to the file below it.
            Dates::Everything => !is_overlay(&status) && has_no_writer(file),
            Dates::Mounted => stamp.inode.mount != 0,
            Dates::Directories | Dates::Nothing => false,
        }
    }

    /// Whether a file that kache itself has just written or stored is known by its looks.
    pub(super) fn proves_placed(&self, path: &Path, stamp: &Stamp) -> bool {
        self.dates_at(path, stamp) == Dates::Everything
    }

    /// Whether what is at this path, which may be a directory or nothing, is known by its looks.
    pub(super) fn proves(&self, path: &Path, stamp: Option<&Stamp>) -> bool {
        let is_plain = stamp.is_some_and(|stamp| !stamp.is_directory());
        let existing = || path.ancestors().find_map(|above| Some((above, Stamp::of(above).ok()??)));
        let Some((path, stamp)) = stamp.map(|stamp| (path, *stamp)).or_else(existing) else { return false };
        match self.dates_at(path, &stamp) {
            Dates::Everything => true,
            Dates::Directories => !is_plain,
            Dates::Mounted => stamp.inode.mount != 0,
            Dates::Nothing => false,
        }
    }

    fn dates_at(&self, path: &Path, stamp: &Stamp) -> Dates {
        let Ok(status) = statfs(path) else { return Dates::Nothing };
        if !is_overlay(&status) {
            return dates_of(&status);
        }
        let opened = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path);
        opened.map_or(Dates::Nothing, |file| self.dates(&status, &file, stamp.inode.mount))
    }

    fn dates(&self, status: &Statfs, file: &File, mount: u64) -> Dates {
        if !is_overlay(status) {
            return dates_of(status);
        }
        let known = || self.overlays.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(dates) = known().get(&mount) {
            return *dates;
        }
        let dates = overlaid(file);
        let mut known = known();
        // The number of a mount is never given to another one; 0 is none.
        if mount != 0 && known.len() < OVERLAYS_MAX {
            known.insert(mount, dates);
        }
        dates
    }
}

#[cfg(target_os = "linux")]
fn dates_of(status: &Statfs) -> Dates {
    let magic = status.filesystem_type().0;
    KINDS.iter().find(|kind| kind.magic == magic).map_or(Dates::Nothing, |kind| kind.dates)
}

#[cfg(not(target_os = "linux"))]
fn dates_of(status: &Statfs) -> Dates {
    let name = status.filesystem_type_name();
    KINDS.iter().find(|kind| kind.name == name).map_or(Dates::Nothing, |kind| kind.dates)
}

#[cfg(target_os = "linux")]
fn is_overlay(status: &Statfs) -> bool {
    status.filesystem_type().0 == OVERLAYFS
}

#[cfg(not(target_os = "linux"))]
fn is_overlay(_status: &Statfs) -> bool {
    false
}

/// The dates of an overlay are those of the directory that takes what is written to it. In a
/// container that directory cannot be seen; it is taken for one on a disk, as containers have it.
fn overlaid(file: &File) -> Dates {
    match upper_directory(file).and_then(|dir| statfs(&dir).ok()) {
        Some(status) if !is_overlay(&status) => dates_of(&status),
        _ => Dates::Everything,
    }
}

fn upper_directory(file: &File) -> Option<PathBuf> {
    let about = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd())).ok()?;
    let id = about.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    let line = mounts.lines().find(|line| line.split(' ').next() == Some(id))?;
    let (_, filesystem) = line.split_once(" - ")?;
    let options = filesystem.split(' ').nth(2)?;
    options.split(',').find_map(|option| option.strip_prefix("upperdir=")).map(PathBuf::from)
}

/// Whether nobody has the file open or mapped for writing. Whoever wants to write to it after this
/// has to open it first, and then its dates move.
///
/// A read lease is only given where there is no writer; it is handed back at once. It takes the
/// file's owner, or a privilege, to ask for one.
#[cfg(target_os = "linux")]
fn has_no_writer(file: &File) -> bool {
    let descriptor = file.as_raw_fd();
    // SAFETY: the descriptor is open as long as the file lives, and these requests take numbers.
    unsafe {
        // Somebody who opens the file just now sends a signal to the holder of the lease. The usual
        // one would end this process, and nobody minds this one.
        libc::fcntl(descriptor, F_SETSIG, libc::SIGURG) == 0
            && libc::fcntl(descriptor, libc::F_SETLEASE, libc::F_RDLCK) == 0
            && libc::fcntl(descriptor, libc::F_SETLEASE, libc::F_UNLCK) == 0
    }
}

#[cfg(not(target_os = "linux"))]
fn has_no_writer(_file: &File) -> bool {
    false
}
