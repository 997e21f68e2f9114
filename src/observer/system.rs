//! Calls of the operating system for records and libraries, and stubs for systems without an observer.

pub use imp::is_made_up;
pub(super) use imp::{is_executable, reserve};

#[cfg(target_os = "linux")]
mod imp {
    use std::fs::File;
    use std::io;
    use std::path::Path;

    use nix::fcntl::{FallocateFlags, fallocate};
    use nix::sys::statfs::{
        BPF_FS_MAGIC, CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, DEBUGFS_MAGIC, DEVPTS_SUPER_MAGIC, FsType,
        PROC_SUPER_MAGIC, SECURITYFS_MAGIC, SYSFS_MAGIC, TRACEFS_MAGIC, statfs,
    };
    use nix::sys::statvfs::{FsFlags, statvfs};

    /// Reserves space on the disk for a file.
    pub(in super::super) fn reserve(file: &File, bytes: u32) -> io::Result<()> {
        Ok(fallocate(file, FallocateFlags::empty(), 0, i64::from(bytes))?)
    }

    /// File systems whose files are made up by the kernel.
    const OF_THE_KERNEL: &[FsType] = &[
        BPF_FS_MAGIC,
        CGROUP_SUPER_MAGIC,
        CGROUP2_SUPER_MAGIC,
        DEBUGFS_MAGIC,
        DEVPTS_SUPER_MAGIC,
        PROC_SUPER_MAGIC,
        SECURITYFS_MAGIC,
        SYSFS_MAGIC,
        TRACEFS_MAGIC,
    ];

    /// Whether the kernel makes up the file at this path, or one that would be created there: the path is on
    /// such a file system, or is a device.
    pub fn is_made_up(path: &Path) -> bool {
        use std::os::unix::fs::FileTypeExt as _;
        let is_device = |kind: std::fs::FileType| kind.is_char_device() || kind.is_block_device();
        if path.metadata().is_ok_and(|metadata| is_device(metadata.file_type())) {
            return true;
        }
        let there = path.ancestors().find_map(|place| statfs(place).ok());
        there.is_some_and(|system| OF_THE_KERNEL.contains(&system.filesystem_type()))
    }

    /// Whether files in this directory may be loaded into programs.
    pub(in super::super) fn is_executable(dir: &Path) -> io::Result<bool> {
        Ok(!statvfs(dir)?.flags().contains(FsFlags::ST_NOEXEC))
    }
}

#[cfg(not(target_os = "linux"))]
mod imp {
    use std::fs::File;
    use std::io;
    use std::path::Path;

    /// Fails, as no record is written on this system.
    pub(in super::super) fn reserve(_file: &File, _bytes: u32) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// No path is made up by the kernel here, as nothing is observed on this system.
    pub fn is_made_up(_path: &Path) -> bool {
        false
    }

    /// Returns `false`, as no observer is loaded on this system.
    pub(in super::super) fn is_executable(_dir: &Path) -> io::Result<bool> {
        Ok(false)
    }
}
