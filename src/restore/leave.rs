//! Leave to lay files down, which whoever gave it takes back when it takes too long.
//!
//! A call that is given up is compiled. What would be laid down for it after that would lie in
//! the compiler's way, which refuses to write where a read-only file lies, or would take the
//! place of what it has made. Invariant: once leave was taken back, nothing is laid down or
//! removed any more.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use super::error::RestoreError;

/// How long a file may take that is being laid down while leave is taken back. Only a disk that
/// hangs takes longer; what it brings then, nobody can keep it from.
const LAYING_MAX: Duration = Duration::from_secs(1);

/// How often it is looked whether it is done.
const GLANCE: Duration = Duration::from_millis(1);

/// Leave that was given.
#[derive(Debug, Default)]
pub struct Leave {
    is_taken_back: AtomicBool,
    /// Shared by those who lay a file down, and nobody's who takes leave back.
    laying: RwLock<()>,
    laid: Mutex<Vec<PathBuf>>,
}

impl Leave {
    /// Lays this file down, unless leave was taken back.
    pub fn lay<T>(
        &self,
        path: &Path,
        lay: impl FnOnce() -> Result<T, RestoreError>,
    ) -> Result<T, RestoreError> {
        let _laying = self.laying.read().unwrap_or_else(PoisonError::into_inner);
        if self.is_taken_back.load(Ordering::SeqCst) {
            return Err(RestoreError::TooLate);
        }
        let done = lay()?;
        lock(&self.laid).push(path.to_owned());
        Ok(done)
    }

    /// Removes these files, which were laid down, unless leave was taken back.
    pub(super) fn undo(&self, paths: &[PathBuf]) {
        let _laying = self.laying.read().unwrap_or_else(PoisonError::into_inner);
        if !self.is_taken_back.load(Ordering::SeqCst) {
            remove(paths);
        }
    }

    /// Takes it back: what was laid down is removed, and nothing more is.
    pub fn take_back(&self) {
        self.is_taken_back.store(true, Ordering::SeqCst);
        let deadline = Instant::now() + LAYING_MAX;
        let _laying = loop {
            match self.laying.try_write() {
                Ok(laying) => break Some(laying),
                Err(TryLockError::Poisoned(laying)) => break Some(laying.into_inner()),
                Err(TryLockError::WouldBlock) if Instant::now() > deadline => break None,
                Err(TryLockError::WouldBlock) => thread::sleep(GLANCE),
            }
        };
        remove(&lock(&self.laid));
    }
}

fn remove(paths: &[PathBuf]) {
    for path in paths {
        // What cannot be removed is overwritten by the compiler, which runs next.
        let _ = fs::remove_file(path);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::sync_channel;

    fn make(path: &Path) -> Result<(), RestoreError> {
        fs::File::create(path).map(drop).map_err(|source| RestoreError::Io { path: path.to_owned(), source })
    }

    #[test]
    fn rst_05_what_was_laid_down_goes_and_nothing_follows() {
        let dir = tempfile::tempdir().unwrap();
        let [first, second] = ["a", "b"].map(|name| dir.path().join(name));
        let leave = Leave::default();
        leave.lay(&first, || make(&first)).unwrap();
        leave.take_back();
        assert!(!first.exists());
        let late = leave.lay(&second, || make(&second));
        assert!(matches!(late, Err(RestoreError::TooLate)) && !second.exists());
        // Now it is the compiler's.
        make(&first).unwrap();
        leave.undo(std::slice::from_ref(&first));
        assert!(first.exists());
    }

    #[test]
    fn rst_05_a_file_that_is_being_laid_down_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let leave = Leave::default();
        let (begun, has_begun) = sync_channel(0);
        thread::scope(|scope| {
            let laying = scope.spawn(|| {
                leave.lay(&path, || {
                    begun.send(()).unwrap();
                    thread::sleep(Duration::from_millis(50));
                    make(&path)
                })
            });
            has_begun.recv().unwrap();
            leave.take_back();
            assert!(!path.exists());
            laying.join().unwrap().unwrap();
        });
        assert!(!path.exists());
    }

    #[test]
    fn dmn_03_a_disk_that_hangs_is_not_waited_for_for_ever() {
        let leave = Leave::default();
        let _hangs = leave.laying.read().unwrap();
        let begun = Instant::now();
        leave.take_back();
        assert!(begun.elapsed() >= LAYING_MAX);
    }
}
