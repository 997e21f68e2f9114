//! Knows which file systems give a file a new date when it changes.
//!
//! A stamp shows a change only if the change gives the file a new date. The problem are mapped files: a
//! program that has mapped a file for writing changes it without a call to the kernel. File systems on disks
//! date the file when the program first writes to a clean page. Later writes to the same page give no new
//! date until the kernel has written the page to the disk, about half a minute later. Measured: on ext4, XFS,
//! btrfs and overlayfs, a mapped file could change for 25 to 40 seconds without a new date; on tmpfs for
//! ever, and without any new date at all if the program had read the page before.
//!
//! This file knows no digests and remembers nothing about single files.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::sys::statfs::{Statfs, fstatfs, statfs};
use parking_lot::Mutex;

use super::stamp::Stamp;

/// The age from which no page of a file on a disk still waits to be written. By default, the kernel waits 30
/// s and checks every 5 s, and it was seen to take up to 40 s; on some laptops it is configured to wait 60 s.
const WRITTEN_BACK: Duration = Duration::from_secs(120);

/// The largest number of overlay mounts that are remembered.
const OVERLAYS_MAX: usize = 1024;

/// The changes to which a file system gives a new date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DatedChanges {
    /// All changes of files and directories, except writes to a mapped page that waits to be written to the
    /// disk.
    All,
    /// All changes of directories. A mapped file may change without a new date.
    OfDirectories,
    /// Nothing changes while the file system is mounted. The dates are those of the image, and another image
    /// may have the same ones.
    ReadOnly,
    /// The dates prove nothing: they are coarse, come late from another machine, or are invented.
    Unreliable,
}

/// A type of file system that kache knows.
struct FilesystemType {
    /// The number that `statfs` returns.
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "other systems have names"))]
    magic: i64,
    #[cfg_attr(target_os = "linux", expect(dead_code, reason = "for readers"))]
    name: &'static str,
    dates: DatedChanges,
}

const fn filesystem(magic: i64, name: &'static str, dates: DatedChanges) -> FilesystemType {
    FilesystemType { magic, name, dates }
}

/// The number of overlayfs. Its dates are those of the file system of its upper directory.
const OVERLAYFS: i64 = 0x794c_7630;

/// All types that kache knows. All others are unreliable: FUSE (with virtiofs and fuseblk), NFS, SMB, 9p,
/// Ceph and AFS cache attributes that come from another program or machine; FAT and exFAT have coarse dates
/// and no date of the inode; the kernel's own ones, such as proc, invent dates.
const FILESYSTEMS: &[FilesystemType] = &[
    filesystem(0xef53, "ext4", DatedChanges::All),
    filesystem(0x5846_5342, "xfs", DatedChanges::All),
    filesystem(0x9123_683e, "btrfs", DatedChanges::All),
    // Pages are write-protected and dated as on ext4.
    filesystem(0xf2f5_2010, "f2fs", DatedChanges::All),
    filesystem(0xca45_1a4e, "bcachefs", DatedChanges::All),
    // It dates a mapped file when the pages are written to the disk, not when they are changed.
    filesystem(0x2fc1_2fc1, "zfs", DatedChanges::OfDirectories),
    // Their pages are never written to a disk, so a second write to a page never gives a new date.
    filesystem(0x0102_1994, "tmpfs", DatedChanges::OfDirectories),
    filesystem(0x8584_58f6, "ramfs", DatedChanges::OfDirectories),
    // It was not measured how they date mapped files.
    filesystem(0, "apfs", DatedChanges::OfDirectories),
    filesystem(0, "hfs", DatedChanges::OfDirectories),
    filesystem(0x7371_7368, "squashfs", DatedChanges::ReadOnly),
    filesystem(0xe0f5_e1e2, "erofs", DatedChanges::ReadOnly),
    filesystem(0x9660, "isofs", DatedChanges::ReadOnly),
    filesystem(0x28cd_3d45, "cramfs", DatedChanges::ReadOnly),
    filesystem(0x7275, "romfs", DatedChanges::ReadOnly),
];

/// Chooses the signal for the holder of a lease when another process opens the file.
#[cfg(target_os = "linux")]
const F_SETSIG: libc::c_int = 10;

/// Answers whether the stamp of a file shows every change, by the file system that the file is on.
#[derive(Debug, Default)]
pub(super) struct Volumes {
    /// The answers for overlay mounts, by the number of the mount.
    overlays: Mutex<HashMap<u64, DatedChanges>>,
}

impl Volumes {
    /// Whether this stamp of an open file will show every later change. The caller has to check that the
    /// dates are old enough for the clock of the file system.
    pub(super) fn proves_file(&self, file: &File, stamp: &Stamp, now: SystemTime) -> bool {
        let Ok(status) = fstatfs(file) else { return false };
        match self.dates(&status, file, stamp.inode.mount) {
            DatedChanges::All if stamp.is_older_than(WRITTEN_BACK, now) => true,
            // An overlay does not know the mappings, which belong to the file below it.
            DatedChanges::All => !is_overlay(&status) && has_no_writer(file),
            DatedChanges::ReadOnly => stamp.inode.mount != 0,
            DatedChanges::OfDirectories | DatedChanges::Unreliable => false,
        }
    }

    /// Whether the stamp of a file that kache itself has just placed or ingested will show every later
    /// change.
    pub(super) fn proves_placed(&self, path: &Path, stamp: &Stamp) -> bool {
        self.dates_at(path, stamp) == DatedChanges::All
    }

    /// Whether this stamp of a path will show every later change. The path may be a directory; for a path
    /// with nothing at it, the answer is that of the nearest existing directory above.
    pub(super) fn proves(&self, path: &Path, stamp: Option<&Stamp>) -> bool {
        let is_file = stamp.is_some_and(|stamp| !stamp.is_directory());
        let existing = || path.ancestors().find_map(|above| Some((above, Stamp::of(above).ok()??)));
        let Some((path, stamp)) = stamp.map(|stamp| (path, *stamp)).or_else(existing) else { return false };
        match self.dates_at(path, &stamp) {
            DatedChanges::All => true,
            DatedChanges::OfDirectories => !is_file,
            DatedChanges::ReadOnly => stamp.inode.mount != 0,
            DatedChanges::Unreliable => false,
        }
    }

    fn dates_at(&self, path: &Path, stamp: &Stamp) -> DatedChanges {
        let Ok(status) = statfs(path) else { return DatedChanges::Unreliable };
        if !is_overlay(&status) {
            return dates_of(&status);
        }
        let opened = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path);
        opened.map_or(DatedChanges::Unreliable, |file| self.dates(&status, &file, stamp.inode.mount))
    }

    fn dates(&self, status: &Statfs, file: &File, mount: u64) -> DatedChanges {
        if !is_overlay(status) {
            return dates_of(status);
        }
        let overlays = || self.overlays.lock();
        if let Some(dates) = overlays().get(&mount) {
            return *dates;
        }
        let dates = overlaid(file);
        let mut overlays = overlays();
        // The kernel gives no number of a mount twice; 0 means that it did not tell the number.
        if mount != 0 && overlays.len() < OVERLAYS_MAX {
            overlays.insert(mount, dates);
        }
        dates
    }
}

#[cfg(target_os = "linux")]
fn dates_of(status: &Statfs) -> DatedChanges {
    let magic = status.filesystem_type().0;
    FILESYSTEMS.iter().find(|one| one.magic == magic).map_or(DatedChanges::Unreliable, |one| one.dates)
}

#[cfg(not(target_os = "linux"))]
fn dates_of(status: &Statfs) -> DatedChanges {
    let name = status.filesystem_type_name();
    FILESYSTEMS.iter().find(|one| one.name == name).map_or(DatedChanges::Unreliable, |one| one.dates)
}

#[cfg(target_os = "linux")]
fn is_overlay(status: &Statfs) -> bool {
    status.filesystem_type().0 == OVERLAYFS
}

#[cfg(not(target_os = "linux"))]
fn is_overlay(_status: &Statfs) -> bool {
    false
}

/// Returns the dated changes of an overlay mount: those of its upper directory, which takes all writes.
/// Inside a container that directory cannot be seen, and kache assumes that it is on a disk, as usual for
/// containers.
fn overlaid(file: &File) -> DatedChanges {
    match upper_directory(file).and_then(|dir| statfs(&dir).ok()) {
        Some(status) if !is_overlay(&status) => dates_of(&status),
        _ => DatedChanges::All,
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

/// Whether no process has the file open or mapped for writing. A process that wants to write later has to
/// open the file first, and its first write gives the file a new date.
///
/// The kernel grants a read lease only if there is no writer; the lease is given back at once. Only the owner
/// of the file, or a privileged process, may ask for one.
#[cfg(target_os = "linux")]
fn has_no_writer(file: &File) -> bool {
    let descriptor = file.as_raw_fd();
    // SAFETY: the descriptor is open as long as the file lives, and these requests take numbers.
    unsafe {
        // If another process opens the file right now, the kernel sends a signal to the holder of the lease.
        // The default signal would end this process; `SIGURG` is ignored.
        libc::fcntl(descriptor, F_SETSIG, libc::SIGURG) == 0
            && libc::fcntl(descriptor, libc::F_SETLEASE, libc::F_RDLCK) == 0
            && libc::fcntl(descriptor, libc::F_SETLEASE, libc::F_UNLCK) == 0
    }
}

#[cfg(not(target_os = "linux"))]
fn has_no_writer(_file: &File) -> bool {
    false
}
