//! Changes to the files of one checkout's target directory, while another checkout shares
//! some of them.

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::home::eventually;

/// One thing that people and tools do to target directories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meddling {
    /// `touch`.
    Now,
    /// `touch -d tomorrow`.
    Tomorrow,
    /// `touch -d yesterday`, as a backup that restores dates would.
    Yesterday,
    /// `chmod -R u+w`.
    Writable,
    /// `chmod -R a-w`.
    ReadOnly,
    /// `chown -R`; nothing where that takes root and this is not root.
    Owner,
    /// Other bytes in every library, written into the file that is there.
    Overwritten,
    /// Every library is cut short, in place.
    Truncated,
}

pub(super) const ALL: &[Meddling] = &[
    Meddling::Now,
    Meddling::Tomorrow,
    Meddling::Yesterday,
    Meddling::Writable,
    Meddling::ReadOnly,
    Meddling::Owner,
    Meddling::Overwritten,
    Meddling::Truncated,
];

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

impl Meddling {
    /// Does it to all files below.
    pub(super) fn apply(self, target: &Path) {
        for path in files_below(target) {
            self.apply_to(&path);
        }
    }

    /// Whether bytes of libraries are lost, also in other checkouts that share them.
    pub(super) fn loses_bytes(self) -> bool {
        matches!(self, Meddling::Overwritten | Meddling::Truncated)
    }

    fn apply_to(self, path: &Path) {
        let now = SystemTime::now();
        let dated = |date: SystemTime| File::open(path).unwrap().set_modified(date).unwrap();
        let mode = |change: fn(u32) -> u32| {
            let old = fs::metadata(path).unwrap().permissions().mode();
            fs::set_permissions(path, Permissions::from_mode(change(old))).unwrap();
        };
        match self {
            Meddling::Now => dated(now),
            Meddling::Tomorrow => dated(now + DAY),
            Meddling::Yesterday => dated(now - DAY),
            Meddling::Writable => mode(|mode| mode | 0o200),
            Meddling::ReadOnly => mode(|mode| mode & !0o222),
            Meddling::Owner => drop(chown(path, Some(1), Some(1))),
            Meddling::Overwritten if is_library(path) => {
                mode(|mode| mode | 0o200);
                let mut file = File::options().write(true).open(path).unwrap();
                file.write_all(b"these bytes were written in place").unwrap();
            }
            Meddling::Truncated if is_library(path) => {
                mode(|mode| mode | 0o200);
                File::options().write(true).open(path).unwrap().set_len(100).unwrap();
            }
            Meddling::Overwritten | Meddling::Truncated => {}
        }
    }
}

fn is_library(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "rlib" || end == "rmeta" || end == "so")
}

/// The device and number of a file's inode. There is none where the daemon is replacing the file just now.
type Inode = (u64, u64);

fn inode(path: &Path) -> Option<Inode> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// Whether a file below one directory is also a file below the other.
pub(super) fn share_files(one: &Path, other: &Path) -> bool {
    let inodes =
        |top: &Path| files_below(top).iter().filter_map(|path| inode(path)).collect::<BTreeSet<Inode>>();
    !inodes(one).is_disjoint(&inodes(other))
}

/// Libraries below one directory whose inodes are also below another one.
#[derive(Debug)]
pub(super) struct SharedLibraries(Vec<(PathBuf, Inode)>);

impl SharedLibraries {
    pub(super) fn below(one: &Path, other: &Path) -> SharedLibraries {
        let others: BTreeSet<_> = files_below(other).iter().filter_map(|path| inode(path)).collect();
        // Cargo links those outside of `deps` again in its next build, and nothing is made from them.
        let is_read = |path: &PathBuf| is_library(path) && path.parent().unwrap().ends_with("deps");
        let libraries = files_below(one).into_iter().filter(is_read);
        let libraries = libraries.filter_map(|path| inode(&path).map(|inode| (path, inode)));
        SharedLibraries(libraries.filter(|(_, inode)| others.contains(inode)).collect())
    }

    /// Waits until the daemon has handled all of them, whose bytes were changed, and returns those that it has
    /// removed. It keeps a file if it sees the changed mode of the file before the bytes are changed.
    pub(super) fn removed(&self) -> impl Iterator<Item = &Path> {
        eventually("the separation of files whose bytes were changed", || {
            self.0.iter().all(|(path, before)| inode(path) != Some(*before))
        });
        self.0.iter().map(|(path, _)| &**path).filter(|path| !path.exists())
    }
}

fn files_below(top: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![top.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten() {
            let entry = entry.unwrap();
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                left.push(entry.path());
            } else if kind.is_file() {
                found.push(entry.path());
            }
        }
    }
    found
}
