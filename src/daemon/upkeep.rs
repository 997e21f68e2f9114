//! The store's slow work, on threads of its own: opening, upkeep, closing.
//!
//! Threads and not the runtime's pool, because a dead disk can hold any of them for ever,
//! and a runtime waits for its pool when it ends; the process does not wait for these.
//! Upkeep is one bounded step at a time, when the core says so (STO-10).

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use kache_cas::{Store, StoreError};
use tokio::sync::mpsc;

use super::control::Signal;
use super::core::Event;

/// How the store is opened. Called again after it failed.
pub(super) type OpenStore = Arc<dyn Fn() -> Result<Store, StoreError> + Send + Sync>;

/// A store that is open, and where it lies.
#[derive(Clone)]
pub(super) struct Open {
    pub(super) store: Arc<Store>,
    dir: Arc<Landmark>,
}

/// What came of opening it.
pub(super) type Opened = Result<Open, String>;

/// Opens the store in this directory.
pub(super) fn open(how: OpenStore, dir: PathBuf, done: mpsc::Sender<Opened>) {
    spawn("store-open", move || {
        let opened = how().map_err(|error| in_full(&error));
        let opened = opened.map(|store| Open { store: Arc::new(store), dir: Arc::new(Landmark::of(dir)) });
        let _ = done.blocking_send(opened);
    });
}

/// Does one step of upkeep. A store whose directory somebody removed is not kept up: what is
/// written there is lost, and a daemon that stayed would stand in a fresh one's way.
pub(super) fn step(open: Open, signals: mpsc::Sender<Signal>) {
    spawn("store-upkeep", move || {
        if let Some(why) = open.dir.lost() {
            let _ = signals.blocking_send(Signal::Event(Event::StoreLost(why)));
        }
        let event = match open.store.maintain() {
            Ok(done) => Event::UpkeepDone(done.more_is_due),
            Err(error @ StoreError::Stuck { .. }) => Event::StoreStuck(in_full(&error)),
            Err(error) => Event::UpkeepFailed(in_full(&error)),
        };
        let _ = signals.blocking_send(Signal::Event(event));
    });
}

/// A path, and what was there when it was last looked at on purpose.
#[derive(Debug)]
pub(super) struct Landmark {
    path: PathBuf,
    inode: Option<u64>,
}

impl Landmark {
    /// What is there now.
    pub(super) fn of(path: PathBuf) -> Self {
        let inode = fs::symlink_metadata(&path).ok().map(|metadata| metadata.ino());
        Landmark { path, inode }
    }

    /// Whether it was removed or replaced. A disk that does not answer has lost nothing.
    pub(super) fn lost(&self) -> Option<String> {
        let inode = self.inode?;
        let is_lost = match fs::symlink_metadata(&self.path) {
            Ok(metadata) => metadata.ino() != inode,
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        is_lost.then(|| format!("`{}` was removed or replaced", self.path.display()))
    }
}

/// Closes the store.
pub(super) fn close(store: Arc<Store>, signals: mpsc::Sender<Signal>) {
    spawn("store-close", move || {
        let trouble = store.close().err().map(|error| in_full(&error));
        drop(store);
        let _ = signals.blocking_send(Signal::Event(Event::StoreClosed(trouble)));
    });
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) {
    let spawned = thread::Builder::new().name(name.to_owned()).spawn(work);
    if let Err(error) = spawned {
        tracing::error!("failed to start the thread `{name}`: {error}");
    }
}

/// The error and what caused it, in one line.
pub(super) fn in_full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_landmark_that_is_removed_or_replaced_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        assert_eq!(Landmark::of(path.clone()).lost(), None, "what was never there cannot be lost");
        fs::create_dir(&path).unwrap();
        let landmark = Landmark::of(path.clone());
        assert_eq!(landmark.lost(), None);
        fs::rename(&path, dir.path().join("elsewhere")).unwrap();
        assert!(landmark.lost().is_some());
        fs::create_dir(&path).unwrap();
        assert!(landmark.lost().is_some());
    }

    #[test]
    fn errors_are_told_with_their_causes() {
        let source = io::Error::other("no such device");
        let error = StoreError::io("open", "/dead", source);
        assert_eq!(in_full(&error), "failed to open `/dead`: no such device");
    }
}
