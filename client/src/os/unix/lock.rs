//! `flock` on a file: held until it is dropped, and released by the kernel when its holder dies,
//! however it dies.
//!
//! A lock file is never removed: if it were removed while another process waits for it, two
//! processes could hold the lock.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use thiserror::Error;

/// The pause between two attempts. `flock` itself cannot wait until a deadline.
const RETRY_EVERY: Duration = Duration::from_millis(5);

/// The limit on what is read of a lock file's note.
const NOTE_BYTES_MAX: u64 = 4096;

/// A lock that is held.
#[derive(Debug)]
pub struct Lock {
    file: Flock<File>,
}

/// The reason why a lock could not be taken.
#[derive(Debug, Error)]
pub enum LockError {
    /// Another process holds the lock.
    #[error("`{}` is held by another process", path.display())]
    Held {
        /// The path of the lock file.
        path: PathBuf,
    },
    /// The file cannot be opened or locked.
    #[error("failed to lock `{}`: {source}", path.display())]
    Io {
        /// The path of the lock file.
        path: PathBuf,
        /// The error that the operating system returned.
        source: io::Error,
    },
}

impl Lock {
    /// Takes the lock, or fails at once if another process holds it.
    pub fn take(path: &Path) -> Result<Lock, LockError> {
        let io = |source| LockError::Io { path: path.to_owned(), source };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            // A link could lead to a file that belongs to something else.
            .custom_flags(libc::O_NOFOLLOW)
            .open(path)
            .map_err(io)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => Ok(Lock { file }),
            Err((_, Errno::EWOULDBLOCK)) => Err(LockError::Held { path: path.to_owned() }),
            Err((_, errno)) => Err(io(errno.into())),
        }
    }

    /// Waits for the lock, and fails with [`LockError::Held`] at the deadline.
    pub fn take_by(path: &Path, deadline: Instant) -> Result<Lock, LockError> {
        loop {
            match Lock::take(path) {
                Err(LockError::Held { .. }) if Instant::now() < deadline => std::thread::sleep(RETRY_EVERY),
                other => return other,
            }
        }
    }

    /// Writes a note about the holder into the file, for error messages. The note stays there after
    /// the lock is released, so it does not prove that the lock is held.
    pub fn note(&mut self, text: &str) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.file.write_all(text.as_bytes())
    }

    /// Returns the note of the last holder; `None` if the file cannot be read.
    pub fn read_note(path: &Path) -> Option<String> {
        let mut text = String::new();
        File::open(path).ok()?.take(NOTE_BYTES_MAX).read_to_string(&mut text).ok()?;
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_has_one_holder_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let mut first = Lock::take(&path).unwrap();
        first.note("a long note\n").unwrap();
        first.note("42\n").unwrap();
        assert!(matches!(Lock::take(&path), Err(LockError::Held { .. })));
        assert_eq!(Lock::read_note(&path).as_deref(), Some("42\n"));
        let begun = Instant::now();
        let late = Lock::take_by(&path, begun + Duration::from_millis(30));
        assert!(matches!(late, Err(LockError::Held { .. })));
        assert!(begun.elapsed() >= Duration::from_millis(30));
        drop(first);
        Lock::take(&path).unwrap();
    }

    #[test]
    fn a_lock_is_never_taken_through_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        std::os::unix::fs::symlink(dir.path().join("elsewhere"), &path).unwrap();
        assert!(matches!(Lock::take(&path), Err(LockError::Io { .. })));
        assert!(!dir.path().join("elsewhere").exists());
    }
}
