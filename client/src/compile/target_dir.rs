//! A target directory that nothing was built in yet, held so that no cargo begins to.
//!
//! It is made as cargo makes one, and locked with cargo's own lock: whoever else builds there
//! waits, or has begun and is left alone.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

/// What cargo writes into a target directory that it makes, byte for byte: it does not write it
/// into one that is there.
const CACHEDIR_TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55
# This file is a cache directory tag created by cargo.
# For information about cache directory tags see https://bford.info/cachedir/
";

/// The file in every profile's directory that cargo locks while it builds there.
const LOCK: &str = ".cargo-lock";

/// Where cargo keeps what it knows of units.
const FINGERPRINTS: &str = ".fingerprint";

/// It is held until this is dropped.
#[derive(Debug)]
pub(super) struct TargetDir {
    _locks: Vec<File>,
}

impl TargetDir {
    /// Takes these profiles' directories, relative to the target directory; `None` where
    /// somebody has built in one of them, or is about to.
    pub(super) fn hold<'a>(
        target_dir: &Path,
        profiles: impl IntoIterator<Item = &'a Path>,
    ) -> io::Result<Option<TargetDir>> {
        make(target_dir)?;
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
            if fs::symlink_metadata(directory.join(FINGERPRINTS)).is_ok() {
                return Ok(None);
            }
        }
        Ok(Some(TargetDir { _locks: locks }))
    }
}

/// Beside its place first, as cargo does it: a directory without its tag is never seen.
fn make(target_dir: &Path) -> io::Result<()> {
    if fs::symlink_metadata(target_dir).is_ok() {
        return Ok(());
    }
    let (Some(parent), Some(name)) = (target_dir.parent(), target_dir.file_name()) else { return Ok(()) };
    fs::create_dir_all(parent)?;
    let mut draft = name.to_owned();
    draft.push(format!(".kache-{}", std::process::id()));
    let draft: PathBuf = parent.join(draft);
    fs::create_dir(&draft)?;
    let made = File::create(draft.join("CACHEDIR.TAG"))
        .and_then(|mut tag| io::Write::write_all(&mut tag, CACHEDIR_TAG.as_bytes()))
        .and_then(|()| fs::rename(&draft, target_dir));
    made.or_else(|error| {
        let _ = fs::remove_dir_all(&draft);
        // Somebody else made it meanwhile.
        if target_dir.is_dir() { Ok(()) } else { Err(error) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hold(target_dir: &Path) -> Option<TargetDir> {
        TargetDir::hold(target_dir, [Path::new("debug")]).unwrap()
    }

    #[test]
    fn it_is_made_as_cargo_makes_one() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("ws/target");
        let held = hold(&target).unwrap();
        assert_eq!(fs::read_to_string(target.join("CACHEDIR.TAG")).unwrap(), CACHEDIR_TAG);
        assert!(hold(&target).is_none(), "it is held");
        drop(held);
        assert!(hold(&target).is_some());
        let left: Vec<_> = fs::read_dir(dir.path().join("ws")).unwrap().flatten().collect();
        assert_eq!(left.len(), 1, "nothing lies beside it: {left:?}");
    }

    #[test]
    fn one_that_was_built_in_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("debug/.fingerprint")).unwrap();
        assert!(hold(dir.path()).is_none());
        let other = TargetDir::hold(dir.path(), [Path::new("release")]).unwrap();
        assert!(other.is_some(), "another profile is another directory");
    }
}
