//! Directories that belong to this user alone (DMN-02).
//!
//! Invariant: a path that passed [`ensure_private_dir`] or [`check_private_dir`] is a real directory
//! (no symlink), owned by this user, and no other user can write to it. In `/tmp` another user may
//! have created the path first, so its owner and mode are always checked.

use std::fs::{self, DirBuilder, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::user::own_uid;

/// The mode of a private directory.
const PRIVATE_MODE: u32 = 0o700;

/// The mode bits that let other users write.
const OTHERS_WRITE: u32 = 0o022;

/// The reason why a directory is not private.
#[derive(Debug, Error)]
pub enum DirError {
    /// Another user owns the directory.
    #[error("`{}` belongs to user {owner}, not to you (user {us}); remove it, or set KACHE_SOCKET_DIR to a directory of your own", path.display())]
    Foreign {
        /// The path of the directory.
        path: PathBuf,
        /// The id of its owner.
        owner: u32,
        /// The id of this user.
        us: u32,
    },
    /// Other users can write to the directory, so its content cannot be trusted.
    #[error("other users can write to `{}` (mode {mode:o}); remove it, and kache creates it again", path.display())]
    Open {
        /// The path of the directory.
        path: PathBuf,
        /// The permission bits of the directory.
        mode: u32,
    },
    /// The path is a link or a file.
    #[error("`{}` is not a directory; remove it, or set KACHE_SOCKET_DIR to a directory of your own", path.display())]
    NotADirectory {
        /// The path that should be a directory.
        path: PathBuf,
    },
    /// A system call on the directory failed.
    #[error("failed to {doing} `{}`: {source}", path.display())]
    Io {
        /// The operation that failed, as a verb.
        doing: &'static str,
        /// The path of the directory.
        path: PathBuf,
        /// The error that the operating system returned.
        source: io::Error,
    },
}

/// Creates the directory if it does not exist, and makes sure that it is private. The parent must
/// exist.
pub fn ensure_private_dir(path: &Path) -> Result<(), DirError> {
    let io = |doing| move |source| DirError::Io { doing, path: path.to_owned(), source };
    match DirBuilder::new().mode(PRIVATE_MODE).create(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(io("create")(error)),
    }
    let metadata = fs::symlink_metadata(path).map_err(io("examine"))?;
    check(path, &metadata)?;
    if metadata.mode() & 0o777 != PRIVATE_MODE {
        // Other users could read it and never write to it, so changing the mode is enough.
        fs::set_permissions(path, Permissions::from_mode(PRIVATE_MODE)).map_err(io("close"))?;
    }
    Ok(())
}

/// Returns whether the directory exists; fails if it exists and is not private. It changes nothing,
/// as commands that only read demand (DMN-06).
pub fn check_private_dir(path: &Path) -> Result<bool, DirError> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => check(path, &metadata).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(DirError::Io { doing: "examine", path: path.to_owned(), source }),
    }
}

fn check(path: &Path, metadata: &Metadata) -> Result<(), DirError> {
    let path = || path.to_owned();
    if !metadata.is_dir() {
        return Err(DirError::NotADirectory { path: path() });
    }
    if metadata.uid() != own_uid() {
        return Err(DirError::Foreign { path: path(), owner: metadata.uid(), us: own_uid() });
    }
    let mode = metadata.mode() & 0o777;
    if mode & OTHERS_WRITE != 0 {
        return Err(DirError::Open { path: path(), mode });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn mode_of(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn dmn_02_a_new_directory_is_closed_to_others() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kache");
        assert!(!check_private_dir(&path).unwrap(), "looking creates nothing");
        ensure_private_dir(&path).unwrap();
        assert_eq!(mode_of(&path), 0o700);
        assert!(check_private_dir(&path).unwrap());
    }

    #[test]
    fn dmn_02_an_own_directory_that_others_could_only_read_is_closed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kache");
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        ensure_private_dir(&path).unwrap();
        assert_eq!(mode_of(&path), 0o700);
    }

    #[test]
    fn dmn_02_a_directory_that_others_can_write_to_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kache");
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(ensure_private_dir(&path), Err(DirError::Open { mode: 0o777, .. })));
        assert!(matches!(check_private_dir(&path), Err(DirError::Open { .. })));
    }

    #[test]
    fn dmn_02_links_and_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (real, link, file) = (dir.path().join("real"), dir.path().join("link"), dir.path().join("file"));
        ensure_private_dir(&real).unwrap();
        symlink(&real, &link).unwrap();
        fs::write(&file, "").unwrap();
        for path in [&link, &file] {
            assert!(matches!(ensure_private_dir(path), Err(DirError::NotADirectory { .. })));
            assert!(matches!(check_private_dir(path), Err(DirError::NotADirectory { .. })));
        }
    }

    #[test]
    fn dmn_02_a_directory_of_another_user_is_refused() {
        // Only root can change the owner of a directory. For other users `/` is a directory of another user.
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kache");
        fs::create_dir(&path).unwrap();
        let foreign = match std::os::unix::fs::chown(&path, Some(own_uid() + 1), None) {
            Ok(()) => path,
            Err(_) => PathBuf::from("/"),
        };
        assert!(matches!(ensure_private_dir(&foreign), Err(DirError::Foreign { .. })));
        assert!(matches!(check_private_dir(&foreign), Err(DirError::Foreign { .. })));
    }
}
