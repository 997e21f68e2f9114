//! What the system does for a record and a library, where it can be observed at all.

pub(super) use imp::{is_executable, reserve};

#[cfg(target_os = "linux")]
mod imp {
    use std::fs::File;
    use std::io;
    use std::path::Path;

    use nix::fcntl::{FallocateFlags, fallocate};
    use nix::sys::statvfs::{FsFlags, statvfs};

    /// Makes sure that a file has so much room on the disk.
    pub(in super::super) fn reserve(file: &File, bytes: u32) -> io::Result<()> {
        Ok(fallocate(file, FallocateFlags::empty(), 0, i64::from(bytes))?)
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

    /// Nothing is recorded here.
    pub(in super::super) fn reserve(_file: &File, _bytes: u32) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Nothing is loaded here.
    pub(in super::super) fn is_executable(_dir: &Path) -> io::Result<bool> {
        Ok(false)
    }
}
