//! A target directory in which nothing was built yet, locked so that no cargo begins to build there.
//!
//! The directory is created as cargo creates it and locked with cargo's own lock files. A cargo that
//! comes later waits; where one has built before, or is building, the directory is not touched.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

/// The file that cargo writes into a target directory when it creates it, byte for byte. Cargo does
/// not add it to a directory that exists.
const CACHEDIR_TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55
# This file is a cache directory tag created by cargo.
# For information about cache directory tags see https://bford.info/cachedir/
";

/// The file in every profile's directory that cargo locks while it builds there.
const LOCK: &str = ".cargo-lock";

/// The directory of cargo's records of units, which exists once something was built.
const FINGERPRINTS: &str = ".fingerprint";

/// A target directory whose locks are held until this is dropped.
#[derive(Debug)]
pub(super) struct LockedTargetDir {
    _locks: Vec<File>,
}

impl LockedTargetDir {
    /// Creates the target directory and locks the directories of the profiles, which are given
    /// relative to it. Returns `None` where cargo has built in one of them or holds its lock.
    pub(super) fn lock<'a>(
        target_dir: &Path,
        profiles: impl IntoIterator<Item = &'a Path>,
    ) -> io::Result<Option<LockedTargetDir>> {
        create(target_dir)?;
        let mut locks = Vec::new();
        for profile in profiles {
            let directory = target_dir.join(profile);
            fs::create_dir_all(&directory)?;
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false);
            let lock = options.open(directory.join(LOCK))?;
            match lock.try_lock() {
                Ok(()) => locks.push(lock),
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error),
            }
            // This is checked under the lock: no cargo can begin to build after the check.
            if fs::symlink_metadata(directory.join(FINGERPRINTS)).is_ok() {
                return Ok(None);
            }
        }
        Ok(Some(LockedTargetDir { _locks: locks }))
    }
}

/// Creates the target directory under another name and renames it, as cargo does, so that it never
/// exists without its tag.
fn create(target_dir: &Path) -> io::Result<()> {
    if fs::symlink_metadata(target_dir).is_ok() {
        return Ok(());
    }
    let (Some(parent), Some(name)) = (target_dir.parent(), target_dir.file_name()) else { return Ok(()) };
    fs::create_dir_all(parent)?;
    let mut draft = name.to_owned();
    draft.push(format!(".kache-{}", std::process::id()));
    let draft: PathBuf = parent.join(draft);
    fs::create_dir(&draft)?;
    let created = File::create(draft.join("CACHEDIR.TAG"))
        .and_then(|mut tag| io::Write::write_all(&mut tag, CACHEDIR_TAG.as_bytes()))
        .and_then(|()| fs::rename(&draft, target_dir));
    created.or_else(|error| {
        let _ = fs::remove_dir_all(&draft);
        // Another process may have created the directory in the meantime.
        if target_dir.is_dir() { Ok(()) } else { Err(error) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(target_dir: &Path) -> Option<LockedTargetDir> {
        LockedTargetDir::lock(target_dir, [Path::new("debug")]).unwrap()
    }

    #[test]
    fn a_target_directory_is_created_as_cargo_creates_it() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("ws/target");
        let locked = lock(&target).unwrap();
        assert_eq!(fs::read_to_string(target.join("CACHEDIR.TAG")).unwrap(), CACHEDIR_TAG);
        assert!(lock(&target).is_none(), "it is locked already");
        drop(locked);
        assert!(lock(&target).is_some());
        let left: Vec<_> = fs::read_dir(dir.path().join("ws")).unwrap().flatten().collect();
        assert_eq!(left.len(), 1, "nothing else is left there: {left:?}");
    }

    #[test]
    fn a_profile_in_which_cargo_has_built_is_not_locked() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("debug/.fingerprint")).unwrap();
        assert!(lock(dir.path()).is_none());
        let other = LockedTargetDir::lock(dir.path(), [Path::new("release")]).unwrap();
        assert!(other.is_some(), "another profile is another directory");
    }
}
