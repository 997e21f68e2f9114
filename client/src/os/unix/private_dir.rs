//! Directories that belong to this user alone (DMN-02).
//!
//! Invariant: a path that passed [`ensure_private_dir`] or [`check_private_dir`] is a real
//! directory (no symlink), owned by us, closed to everyone else. In `/tmp` anyone may have
//! created the name first, so what is found there is checked and never believed.

use std::fs::{self, DirBuilder, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::user::own_uid;

/// What a private directory allows: everything, to us.
const PRIVATE_MODE: u32 = 0o700;

/// The bits that let others write.
const OTHERS_WRITE: u32 = 0o022;

/// Why a directory cannot be private.
#[derive(Debug, Error)]
pub enum DirError {
    /// Somebody else made it.
    #[error("`{}` belongs to user {owner}, not to you (user {us}); remove it, or set KACHE_SOCKET_DIR to a directory of your own", path.display())]
    Foreign {
        /// Which directory.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who we are.
        us: u32,
    },
    /// Others could have put something there.
    #[error("`{}` may be written to by others (mode {mode:o}); remove it, and kache makes it anew", path.display())]
    Open {
        /// Which directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Something else has its name.
    #[error("`{}` is not a directory; remove it, or set KACHE_SOCKET_DIR to a directory of your own", path.display())]
    NotADirectory {
        /// Which path.
        path: PathBuf,
    },
    /// The system refused.
    #[error("failed to {doing} `{}`: {source}", path.display())]
    Io {
        /// A verb.
        doing: &'static str,
        /// Which directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Makes sure that the directory is there and private. Parents are not created.
pub fn ensure_private_dir(path: &Path) -> Result<(), DirError> {
    let io = |doing| move |source| DirError::Io { doing, path: path.to_owned(), source };
    match DirBuilder::new().mode(PRIVATE_MODE).create(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(io("create")(error)),
    }
    let metadata = fs::symlink_metadata(path).map_err(io("examine"))?;
    judge(path, &metadata)?;
    if metadata.mode() & 0o777 != PRIVATE_MODE {
        // Ours and never writable by others, only readable: closing it is enough.
        fs::set_permissions(path, Permissions::from_mode(PRIVATE_MODE)).map_err(io("close"))?;
    }
    Ok(())
}

/// Whether the directory is there, and if so, private; for those who only look (DMN-06).
pub fn check_private_dir(path: &Path) -> Result<bool, DirError> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => judge(path, &metadata).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(DirError::Io { doing: "examine", path: path.to_owned(), source }),
    }
}

fn judge(path: &Path, metadata: &Metadata) -> Result<(), DirError> {
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
    fn dmn_02_our_own_is_closed_if_others_could_only_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kache");
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        ensure_private_dir(&path).unwrap();
        assert_eq!(mode_of(&path), 0o700);
    }

    #[test]
    fn dmn_02_one_that_others_could_write_to_is_refused() {
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
    fn dmn_02_somebody_elses_is_refused() {
        // Root can give a directory away; anybody else tries the root directory itself.
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
