//! Makes one file from another by reflink, hard link or copy.
//!
//! Which of these works depends on the two filesystems, so a permanent refusal is remembered for
//! that pair of devices. A refusal that concerns only this file (too many links, another owner) is
//! not. This module knows files and devices, but no blobs.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use parking_lot::RwLock;

/// The device numbers of the filesystems of the source and the destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct DevicePair {
    from: u64,
    to: u64,
}

impl DevicePair {
    pub(super) fn new(from: &fs::Metadata, to: &fs::Metadata) -> DevicePair {
        DevicePair { from: from.dev(), to: to.dev() }
    }

    pub(super) fn is_one_device(self) -> bool {
        self.from == self.to
    }
}

/// Which links are known to fail between a pair of devices, and whether a reflink has worked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct PairSupport {
    reflink_refused: bool,
    reflink_proven: bool,
    hardlink_refused: bool,
}

/// Remembers which links work between pairs of devices.
#[derive(Default)]
pub(super) struct LinkSupport {
    known: RwLock<HashMap<DevicePair, PairSupport>>,
}

/// How many pairs are remembered. There is a limit because some filesystems have a device number
/// for each directory.
const PAIRS_MAX: usize = 256;

impl LinkSupport {
    fn known(&self, pair: DevicePair) -> PairSupport {
        let known = self.known.read();
        known.get(&pair).copied().unwrap_or_default()
    }

    fn remember(&self, pair: DevicePair, change: impl FnOnce(&mut PairSupport)) {
        let mut known = self.known.write();
        if known.len() >= PAIRS_MAX {
            // Forgetting a pair only costs one failed attempt.
            known.clear();
        }
        change(known.entry(pair).or_default());
    }

    /// Tells whether a reflink may work between this pair.
    pub(super) fn may_reflink(&self, pair: DevicePair) -> bool {
        !self.known(pair).reflink_refused
    }

    /// Tells whether a reflink has worked between this pair.
    pub(super) fn is_reflink_proven(&self, pair: DevicePair) -> bool {
        self.known(pair).reflink_proven
    }

    /// Tells whether a hard link may work between this pair.
    pub(super) fn may_hardlink(&self, pair: DevicePair) -> bool {
        !self.known(pair).hardlink_refused
    }

    /// Makes `to`, which is empty, share the extents of `from`. Returns whether that worked.
    pub(super) fn reflink(&self, pair: DevicePair, from: &File, to: &File) -> bool {
        if self.known(pair).reflink_refused {
            return false;
        }
        match clone_file(from, to) {
            Ok(()) => {
                if !self.known(pair).reflink_proven {
                    self.remember(pair, |known| known.reflink_proven = true);
                }
                true
            }
            Err(error) => {
                if is_permanent(&error) {
                    self.remember(pair, |known| known.reflink_refused = true);
                }
                false
            }
        }
    }

    /// Makes `to` another name of `from`. Returns whether that worked; a missing `from` is an error.
    pub(super) fn hardlink(&self, pair: DevicePair, from: &Path, to: &Path) -> io::Result<bool> {
        if self.known(pair).hardlink_refused {
            return Ok(false);
        }
        match fs::hard_link(from, to) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(error),
            Err(error) => {
                if is_permanent(&error) {
                    self.remember(pair, |known| known.hardlink_refused = true);
                }
                Ok(false)
            }
        }
    }
}

/// Tells whether an error is due to the filesystems, so that it will occur for all files.
fn is_permanent(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EXDEV | libc::EOPNOTSUPP | libc::ENOTTY | libc::ENOSYS))
}

#[cfg(target_os = "linux")]
fn clone_file(from: &File, to: &File) -> io::Result<()> {
    // SAFETY: both descriptors are open as long as the files live, and FICLONE takes the
    // source's descriptor by value.
    match unsafe { libc::ioctl(to.as_raw_fd(), libc::FICLONE, from.as_raw_fd()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Copies all of `from` to `to`, in the kernel where that is possible. Returns the number of bytes.
pub(super) fn copy(mut from: &File, mut to: &File) -> io::Result<u64> {
    io::copy(&mut from, &mut to)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> DevicePair {
        DevicePair { from: 1, to: 2 }
    }

    #[test]
    fn a_refusal_of_the_filesystems_is_remembered() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir_in("/dev/shm").unwrap());
        let from = here.path().join("from");
        fs::write(&from, "x").unwrap();
        let pairs = LinkSupport::default();
        let to = there.path().join("to");
        let directories = [here.path(), there.path()].map(|path| fs::metadata(path).unwrap());
        let pair = DevicePair::new(&directories[0], &directories[1]);
        if pair.from == pair.to {
            return; // One filesystem for everything: nothing is refused.
        }
        assert!(!pairs.hardlink(pair, &from, &to).unwrap());
        let (source, target) = (File::open(&from).unwrap(), File::create(&to).unwrap());
        assert!(!pairs.reflink(pair, &source, &target));
        assert_eq!(
            pairs.known(pair),
            PairSupport { reflink_refused: true, hardlink_refused: true, ..PairSupport::default() }
        );
        assert_eq!(copy(&source, &target).unwrap(), 1);
        assert_eq!(fs::read(&to).unwrap(), b"x");
    }

    #[test]
    fn a_refusal_of_one_file_is_not_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::write(&from, "x").unwrap();
        fs::write(&to, "in the way").unwrap();
        let pairs = LinkSupport::default();
        assert!(!pairs.hardlink(pair(), &from, &to).unwrap());
        assert_eq!(pairs.known(pair()), PairSupport::default());
        fs::remove_file(&to).unwrap();
        assert!(pairs.hardlink(pair(), &from, &to).unwrap());
        assert!(pairs.hardlink(pair(), &dir.path().join("absent"), &to).is_err());
    }

    #[test]
    fn only_errors_of_the_filesystems_are_permanent() {
        for (code, for_good) in [
            (libc::EXDEV, true),
            (libc::EOPNOTSUPP, true),
            (libc::EMLINK, false),
            (libc::EPERM, false),
            (libc::ENOSPC, false),
        ] {
            assert_eq!(is_permanent(&io::Error::from_raw_os_error(code)), for_good, "{code}");
        }
    }
}
