//! A filesystem for one benchmark, in an image that is mounted. Mounting needs root.
//!
//! `du` counts an extent that files share once for each file. Only the free space of the whole volume shows what is
//! really used, and that requires a volume to which no other program writes.

use std::ffi::CString;
use std::fs::{self, File};
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;

/// Room for three target directories of the largest project and a cache. The image is sparse.
const IMAGE_BYTES: u64 = 16 << 30;

/// A filesystem whose files can share extents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Filesystem {
    Btrfs,
    Xfs,
}

impl Filesystem {
    /// Its name in options and messages.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Filesystem::Btrfs => "btrfs",
            Filesystem::Xfs => "xfs",
        }
    }

    fn mkfs(self) -> Command {
        let mut command = Command::new(format!("mkfs.{}", self.name()));
        command.arg("-q");
        if self == Filesystem::Xfs {
            command.args(["-m", "reflink=1"]);
        }
        command
    }
}

/// A mounted image; dropping it unmounts and removes it.
#[derive(Debug)]
pub(crate) struct Volume {
    dir: PathBuf,
    image: PathBuf,
}

impl Volume {
    /// Creates and mounts an image in this directory.
    pub(crate) fn mount(filesystem: Filesystem, within: &Path) -> Result<Volume> {
        let name = filesystem.name();
        let volume =
            Volume { dir: within.join(format!("volume-{name}")), image: within.join(format!("{name}.img")) };
        fs::create_dir_all(&volume.dir)
            .with_context(|| format!("failed to create `{}`", volume.dir.display()))?;
        let image = File::create(&volume.image)
            .with_context(|| format!("failed to create `{}`", volume.image.display()))?;
        image.set_len(IMAGE_BYTES)?;
        run(filesystem.mkfs().arg(&volume.image))?;
        run(Command::new("mount").args(["-o", "loop"]).args([&volume.image, &volume.dir]))?;
        Ok(volume)
    }

    /// Returns the directory at which the volume is mounted.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        // `drop` cannot report an error, and a volume that stays mounted harms no figure.
        let _ = Command::new("umount").arg("--lazy").arg(&self.dir).status();
        let _ = fs::remove_file(&self.image);
    }
}

/// The bytes in use on the volume of this directory, after all data is written.
pub(crate) fn used_bytes(dir: &Path) -> Result<u64> {
    let failed = || format!("failed to measure the volume of `{}`", dir.display());
    let file = File::open(dir).with_context(failed)?;
    let path = CString::new(dir.as_os_str().as_bytes())?;
    let mut found = MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: the descriptor is open, the path ends in a zero, and the structure is read only after the call has
    // filled it in.
    let found = unsafe {
        ensure!(libc::syncfs(file.as_raw_fd()) == 0, failed());
        ensure!(libc::statvfs(path.as_ptr(), found.as_mut_ptr()) == 0, failed());
        found.assume_init()
    };
    Ok((found.f_blocks - found.f_bfree) * found.f_frsize)
}

fn run(command: &mut Command) -> Result<()> {
    let shown = format!("{command:?}");
    let output = command.output().with_context(|| format!("failed to run {shown}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{shown} failed; mounting an image needs root: {said}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Uses a filesystem in memory, because other programs free space on a disk at any time.
    #[test]
    fn what_is_written_is_in_use() {
        const WRITTEN: usize = 8 << 20;
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        let before = used_bytes(dir.path()).unwrap();
        fs::write(dir.path().join("a"), vec![1; WRITTEN]).unwrap();
        let after = used_bytes(dir.path()).unwrap();
        assert!(after >= before + WRITTEN as u64 / 2, "{before} and then {after}");
    }
}
