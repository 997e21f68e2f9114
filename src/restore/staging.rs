//! The directory by which a client decides whether what is laid down for it still counts.
//!
//! A call that waits too long is compiled without the daemon, and a daemon that was stopped may go
//! on a minute later, between any two of its instructions. What it would lay down then lies in the
//! compiler's way, or takes the place of what the compiler has made. No check that the daemon makes
//! can rule that out, so the client decides: it makes a staging directory beside the outputs before
//! it asks, and takes it away when it goes on alone. Every change that the daemon makes in a
//! checkout is one system call that names a path in the staging directory, so it fails from then
//! on. The kernel decides, and there is no moment in between.
//!
//! Before the first output of a result is renamed to its place, all of them are in a list in the
//! staging directory. By that list the client removes what was laid down in part.

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

use super::error::RestoreError;
use super::write_file::write_file_by;

/// A client's staging directory.
#[derive(Clone, Debug, Default)]
pub struct Staging {
    dir: Option<Arc<Path>>,
}

impl Staging {
    /// For a client that has made this directory; without one nothing can be laid down.
    pub fn new(dir: Option<PathBuf>) -> Staging {
        Staging { dir: dir.map(Arc::from) }
    }

    /// The directory.
    pub fn dir(&self) -> Result<&Path, RestoreError> {
        self.dir.as_deref().ok_or(RestoreError::NoStaging)
    }

    /// Whether the client has taken it away, or has never had one.
    pub fn is_gone(&self) -> bool {
        self.dir.as_deref().is_none_or(|dir| fs::symlink_metadata(dir).is_err())
    }

    /// Lists what is about to be laid down. Each path ends with a byte of zero: one that does not
    /// was not written to its end.
    pub fn announce(&self, outputs: &[PathBuf]) -> Result<(), RestoreError> {
        let path = self.dir()?.join(OUTPUTS);
        let mut text = Vec::new();
        for output in outputs {
            text.extend_from_slice(output.as_os_str().as_bytes());
            text.push(0);
        }
        let write = || OpenOptions::new().append(true).create(true).open(&path)?.write_all(&text);
        write().map_err(|source| RestoreError::Io { path, source })
    }

    /// Writes a small file with exactly this mode.
    pub fn write(&self, path: &Path, bytes: &[u8], mode: u32) -> Result<(), RestoreError> {
        let draft = self.name()?;
        write_file_by(&draft, path, bytes, mode)
            .map_err(|source| RestoreError::Io { path: path.to_owned(), source })
    }

    /// Takes files back that were laid down.
    pub fn undo(&self, paths: &[PathBuf]) {
        for path in paths {
            // The client removes what cannot be taken back.
            let Ok(taken) = self.name() else { return };
            if fs::rename(path, &taken).is_ok() {
                let _ = fs::remove_file(taken);
            }
        }
    }

    /// Dates a file that lies in the checkout.
    pub fn set_date(&self, path: &Path, date: SystemTime) -> io::Result<()> {
        let name = self.name().map_err(io::Error::other)?;
        fs::hard_link(path, &name)?;
        // By the name in the staging directory, not by an open file: when the client has taken the
        // directory away, this fails.
        let since = date.duration_since(SystemTime::UNIX_EPOCH).map_err(io::Error::other)?;
        let modified = TimeSpec::from_duration(since);
        let dated =
            utimensat(AT_FDCWD, &name, &TimeSpec::UTIME_OMIT, &modified, UtimensatFlags::FollowSymlink);
        fs::remove_file(&name)?;
        Ok(dated?)
    }

    /// Makes a directory with those above it that are not there.
    pub fn make_dirs(&self, path: &Path, umask: u32) -> Result<(), RestoreError> {
        if path.is_dir() {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            self.make_dirs(parent, umask)?;
        }
        let failed = |source| RestoreError::Io { path: path.to_owned(), source };
        let draft = self.name()?;
        make_dir(&draft, umask).map_err(failed)?;
        let made = fs::rename(&draft, path);
        if made.is_err() {
            let _ = fs::remove_dir(&draft);
        }
        // Another thread may have made it meanwhile.
        made.or_else(|error| if path.is_dir() { Ok(()) } else { Err(failed(error)) })
    }

    /// Fills a directory with files and gives it its place, whole.
    pub fn fill_dir(
        &self,
        path: &Path,
        umask: u32,
        fill: impl FnOnce(&Path) -> io::Result<()>,
    ) -> Result<(), RestoreError> {
        let draft = self.name()?;
        let lay = || {
            make_dir(&draft, umask)?;
            fill(&draft)?;
            for entry in fs::read_dir(&draft)? {
                fs::set_permissions(entry?.path(), Permissions::from_mode(0o666 & !umask))?;
            }
            fs::rename(&draft, path)
        };
        lay().map_err(|source| {
            let _ = fs::remove_dir_all(&draft);
            RestoreError::Io { path: path.to_owned(), source }
        })
    }

    /// A name in it that nothing else has.
    fn name(&self) -> Result<PathBuf, RestoreError> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Ok(self.dir()?.join(format!("{}-{number}", std::process::id())))
    }
}

/// The daemon's umask is not its client's.
fn make_dir(path: &Path, umask: u32) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o777 & !umask))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct World {
        dir: tempfile::TempDir,
        staging: Staging,
    }

    impl World {
        fn new() -> World {
            let dir = tempfile::tempdir().unwrap();
            let made = dir.path().join(".kache-1");
            fs::create_dir(&made).unwrap();
            World { staging: Staging::new(Some(made)), dir }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }

        /// Does to the directory what a client does that goes on alone.
        fn take_away(&self) {
            fs::remove_dir_all(self.staging.dir().unwrap()).unwrap();
        }
    }

    #[test]
    fn rst_05_nothing_changes_once_the_client_has_taken_its_directory_away() {
        let world = World::new();
        let staging = &world.staging;
        let [file, made, filled] = ["file", "a/b/c", "a/b/filled"].map(|name| world.path(name));
        let fill = |dir: &Path| fs::write(dir.join("x"), "");
        staging.write(&file, b"laid down", 0o640).unwrap();
        staging.set_date(&file, SystemTime::UNIX_EPOCH).unwrap();
        staging.make_dirs(&made, 0o22).unwrap();
        staging.fill_dir(&filled, 0o22, fill).unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"laid down");
        let date = |path: &Path| fs::metadata(path).unwrap().modified().unwrap();
        assert_eq!(date(&file), SystemTime::UNIX_EPOCH);
        assert!(made.is_dir() && filled.join("x").exists());
        assert_eq!(fs::read_dir(staging.dir().unwrap()).unwrap().count(), 0, "no draft is left");

        world.take_away();
        assert!(staging.write(&file, b"late", 0o640).is_err());
        assert!(staging.set_date(&file, SystemTime::now()).is_err());
        assert!(staging.make_dirs(&world.path("late/dir"), 0o22).is_err());
        assert!(staging.fill_dir(&world.path("late"), 0o22, fill).is_err());
        assert!(staging.announce(std::slice::from_ref(&file)).is_err());
        staging.undo(std::slice::from_ref(&file));
        assert_eq!((fs::read(&file).unwrap(), date(&file)), (b"laid down".to_vec(), SystemTime::UNIX_EPOCH));
        let left = fs::read_dir(world.dir.path()).unwrap().count();
        assert_eq!(left, 2, "nothing came later");
    }

    #[test]
    fn rst_05_what_was_laid_down_can_be_taken_back() {
        let world = World::new();
        let file = world.path("file");
        world.staging.write(&file, b"laid down", 0o640).unwrap();
        world.staging.undo(std::slice::from_ref(&file));
        assert!(!file.exists());
    }
}
