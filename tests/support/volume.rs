//! A filesystem in an image file, mounted through a loop device.
//!
//! Mounting needs root. Without it the tests that use this file fail and say so, unless
//! `KACHE_TEST_MOUNTS=skip` is set, which CI must not do.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use self::skip::is_skipped;

#[path = "skip.rs"]
pub(crate) mod skip;

/// A mounted image, which is unmounted on drop.
pub(crate) struct Volume {
    pub(crate) mountpoint: PathBuf,
}

impl Volume {
    /// Creates a filesystem and mounts it. Returns `None` if tests that mount are skipped.
    pub(crate) fn new(dir: &Path, mkfs: &[&str], size_mib: u64) -> Option<Volume> {
        if is_skipped("KACHE_TEST_MOUNTS") {
            return None;
        }
        let image = dir.join("volume.img");
        let mountpoint = dir.join("volume");
        fs::create_dir(&mountpoint).unwrap();
        fs::File::create(&image).unwrap().set_len(size_mib << 20).unwrap();
        run(Command::new(mkfs[0]).args(&mkfs[1..]).arg(&image));
        run(Command::new("mount").args(["-o", "loop"]).args([&image, &mountpoint]));
        Some(Volume { mountpoint })
    }

    /// Mounts the filesystem again with other options.
    pub(crate) fn remount(&self, options: &str) {
        run(Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(&self.mountpoint));
    }

    /// Returns the bytes in use on the volume, after all buffers are written.
    pub(crate) fn used_bytes(&self) -> u64 {
        run(Command::new("sync").arg("-f").arg(&self.mountpoint));
        let output =
            Command::new("df").args(["-B1", "--output=used"]).arg(&self.mountpoint).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().nth(1).unwrap().trim().parse().unwrap()
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.mountpoint).status();
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("failed to run {command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?} failed; mounting needs root (or, outside of CI, set KACHE_TEST_MOUNTS=skip): {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
