//! The staging directory, with which a client decides whether the daemon may still change its checkout.
//!
//! A client that waits too long runs the compiler itself. A daemon that was stopped may continue a
//! minute later, between any two of its instructions. Files that it would restore then would be in the
//! compiler's way, or would replace what the compiler has made. No check in the daemon can rule that
//! out, so the client decides. It makes a staging directory beside the outputs before it sends the
//! call, and removes that directory when it goes on alone. Every change that the daemon makes in a
//! checkout is one system call that names a path in the staging directory, so from then on every change
//! fails. The kernel decides, and there is no moment in between.
//!
//! Before the first output of a result is renamed to its place, all outputs are in a list in the staging
//! directory. With that list the client removes the files of a restore that did not end.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use kache_client::staging::OUTPUTS;
use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;
use thiserror::Error;

use super::write_file::write_file_by;

/// Why a checkout could not be changed through a staging directory.
#[derive(Debug, Error)]
pub enum StagingError {
    /// The client could not make a staging directory beside the outputs.
    #[error("there is no staging directory beside the outputs")]
    Missing,
    /// A file or directory could not be written.
    #[error("failed to write `{}`: {source}", path.display())]
    Io {
        /// The path of the file or directory.
        path: PathBuf,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
}

/// The staging directory of a client. The default is of a client that has none.
#[derive(Clone, Debug, Default)]
pub struct Staging {
    dir: Option<Arc<Path>>,
}

impl Staging {
    /// Creates the value for a client that has made this directory. Without a directory nothing can be
    /// restored.
    pub fn new(dir: Option<PathBuf>) -> Staging {
        Staging { dir: dir.map(Arc::from) }
    }

    /// The path of the directory, or an error if the client has made none.
    pub fn dir(&self) -> Result<&Path, StagingError> {
        self.dir.as_deref().ok_or(StagingError::Missing)
    }

    /// Whether the client has removed the directory, or has never made one.
    pub fn is_gone(&self) -> bool {
        self.dir.as_deref().is_none_or(|dir| fs::symlink_metadata(dir).is_err())
    }

    /// Adds outputs that are about to be restored to the list. Each path ends with a zero byte; the
    /// client ignores one that does not, because it was cut off.
    pub fn announce(&self, outputs: &[PathBuf]) -> Result<(), StagingError> {
        let path = self.dir()?.join(OUTPUTS);
        let mut text = Vec::new();
        for output in outputs {
            text.extend_from_slice(output.as_os_str().as_bytes());
            text.push(0);
        }
        let write = || OpenOptions::new().append(true).create(true).open(&path)?.write_all(&text);
        write().map_err(|source| StagingError::Io { path, source })
    }

    /// Writes a small file with exactly this mode.
    pub fn write(&self, path: &Path, bytes: &[u8], mode: u32) -> Result<(), StagingError> {
        let draft = self.name()?;
        write_file_by(&draft, path, bytes, mode)
            .map_err(|source| StagingError::Io { path: path.to_owned(), source })
    }

    /// Removes files that were restored. Errors are ignored: the client removes what is left.
    pub fn undo(&self, paths: &[PathBuf]) {
        for path in paths {
            // A rename into the staging directory, because it fails if the client has removed the
            // directory. The file may be the compiler's by then.
            let Ok(draft) = self.name() else { return };
            if fs::rename(path, &draft).is_ok() {
                let _ = fs::remove_file(draft);
            }
        }
    }

    /// Sets the date of a file in the checkout.
    pub fn set_date(&self, path: &Path, date: SystemTime) -> io::Result<()> {
        let name = self.name().map_err(io::Error::other)?;
        fs::hard_link(path, &name)?;
        // The date is set by the name in the staging directory and not by an open file, so that this
        // fails if the client has removed the directory.
        let since = date.duration_since(SystemTime::UNIX_EPOCH).map_err(io::Error::other)?;
        let modified = TimeSpec::from_duration(since);
        let dated =
            utimensat(AT_FDCWD, &name, &TimeSpec::UTIME_OMIT, &modified, UtimensatFlags::FollowSymlink);
        fs::remove_file(&name)?;
        Ok(dated?)
    }

    /// Removes a directory with all that is in it. It is moved into the staging directory first, so that it
    /// is removed as a whole or not at all.
    pub fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let taken = self.name().map_err(io::Error::other)?;
        fs::rename(path, &taken)?;
        fs::remove_dir_all(taken)
    }

    /// Makes a directory, and the missing directories above it.
    pub fn make_dirs(&self, path: &Path, umask: u32) -> Result<(), StagingError> {
        if path.is_dir() {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            self.make_dirs(parent, umask)?;
        }
        let failed = |source| StagingError::Io { path: path.to_owned(), source };
        let draft = self.name()?;
        make_dir(&draft, umask).map_err(failed)?;
        let made = fs::rename(&draft, path);
        if made.is_err() {
            let _ = fs::remove_dir(&draft);
        }
        // Another thread may have made it meanwhile.
        made.or_else(|error| if path.is_dir() { Ok(()) } else { Err(failed(error)) })
    }

    /// Makes a directory with files, which appears at its path with all of them at once.
    pub fn fill_dir(
        &self,
        path: &Path,
        umask: u32,
        fill: impl FnOnce(&Path) -> io::Result<()>,
    ) -> Result<(), StagingError> {
        let draft = self.name()?;
        let make = || {
            make_dir(&draft, umask)?;
            fill(&draft)?;
            for entry in fs::read_dir(&draft)? {
                fs::set_permissions(entry?.path(), Permissions::from_mode(0o666 & !umask))?;
            }
            fs::rename(&draft, path)
        };
        make().map_err(|source| {
            let _ = fs::remove_dir_all(&draft);
            StagingError::Io { path: path.to_owned(), source }
        })
    }

    /// A path in the directory that no other file has.
    fn name(&self) -> Result<PathBuf, StagingError> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Ok(self.dir()?.join(format!("{}-{number}", std::process::id())))
    }
}

/// Makes a directory with the mode that the client's umask gives; the daemon's umask is another one.
fn make_dir(path: &Path, umask: u32) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o777 & !umask))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct TestCheckout {
        dir: tempfile::TempDir,
        staging: Staging,
    }

    impl TestCheckout {
        fn new() -> TestCheckout {
            let dir = tempfile::tempdir().unwrap();
            let made = dir.path().join(".kache-1");
            fs::create_dir(&made).unwrap();
            TestCheckout { staging: Staging::new(Some(made)), dir }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }

        /// Removes the staging directory, as a client does that goes on alone.
        fn remove_staging(&self) {
            fs::remove_dir_all(self.staging.dir().unwrap()).unwrap();
        }
    }

    #[test]
    fn rst_05_nothing_changes_once_the_client_has_removed_its_staging_directory() {
        let checkout = TestCheckout::new();
        let staging = &checkout.staging;
        let [file, made, filled] = ["file", "a/b/c", "a/b/filled"].map(|name| checkout.path(name));
        let fill = |dir: &Path| fs::write(dir.join("x"), "");
        staging.write(&file, b"restored", 0o640).unwrap();
        staging.set_date(&file, SystemTime::UNIX_EPOCH).unwrap();
        staging.make_dirs(&made, 0o22).unwrap();
        staging.fill_dir(&filled, 0o22, fill).unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"restored");
        let date = |path: &Path| fs::metadata(path).unwrap().modified().unwrap();
        assert_eq!(date(&file), SystemTime::UNIX_EPOCH);
        assert!(made.is_dir() && filled.join("x").exists());
        staging.remove_dir(&filled).unwrap();
        assert!(!filled.exists());
        assert_eq!(fs::read_dir(staging.dir().unwrap()).unwrap().count(), 0, "no draft is left");

        checkout.remove_staging();
        assert!(staging.remove_dir(&made).is_err() && made.exists());
        assert!(staging.write(&file, b"late", 0o640).is_err());
        assert!(staging.set_date(&file, SystemTime::now()).is_err());
        assert!(staging.make_dirs(&checkout.path("late/dir"), 0o22).is_err());
        assert!(staging.fill_dir(&checkout.path("late"), 0o22, fill).is_err());
        assert!(staging.announce(std::slice::from_ref(&file)).is_err());
        staging.undo(std::slice::from_ref(&file));
        assert_eq!((fs::read(&file).unwrap(), date(&file)), (b"restored".to_vec(), SystemTime::UNIX_EPOCH));
        let left = fs::read_dir(checkout.dir.path()).unwrap().count();
        assert_eq!(left, 2, "no file came later");
    }

    #[test]
    fn rst_05_a_restored_file_can_be_removed_again() {
        let checkout = TestCheckout::new();
        let file = checkout.path("file");
        checkout.staging.write(&file, b"restored", 0o640).unwrap();
        checkout.staging.undo(std::slice::from_ref(&file));
        assert!(!file.exists());
    }
}
