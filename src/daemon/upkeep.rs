//! Opens, maintains and closes the store on threads of its own.
//!
//! These are not threads of the runtime's pool: a dead disk can block them for ever, and a runtime
//! waits for its pool when it ends. The process does not wait for these threads. Upkeep runs in
//! bounded steps, one at a time, when the core asks for it (STO-10).

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use kache_cas::{Store, StoreError, with_causes};
use tokio::sync::mpsc;

use super::control::DriverInput;
use super::core::DaemonEvent;

/// A function that opens the store. It is called again after it has failed.
pub(super) type OpenStore = Arc<dyn Fn() -> Result<Store, StoreError> + Send + Sync>;

/// An open store, with the identity of its directory.
#[derive(Clone)]
pub(super) struct OpenedStore {
    pub(super) store: Arc<Store>,
    dir: Arc<PathIdentity>,
}

/// Opens the store in this directory, and sends the store or the error.
pub(super) fn open(how: OpenStore, dir: PathBuf, done: mpsc::Sender<Result<OpenedStore, String>>) {
    // The closure below owns `done`. If its thread cannot be started, this clone reports that.
    let not_started = done.clone();
    let open = move || {
        let opened = how().map_err(|error| with_causes(&error));
        let opened =
            opened.map(|store| OpenedStore { store: Arc::new(store), dir: Arc::new(PathIdentity::of(dir)) });
        let _ = done.blocking_send(opened);
    };
    spawn(thread::Builder::new(), "store-open", open, |why| drop(not_started.try_send(Err(why))));
}

/// Does one step of upkeep and reports its result. It also reports if the store's directory was
/// removed: what is written there is lost, and a daemon that stayed would keep a new one from starting.
pub(super) fn step(opened: OpenedStore, inputs: mpsc::Sender<DriverInput>) {
    let not_started = inputs.clone();
    let maintain = move || {
        if let Some(why) = opened.dir.lost() {
            let _ = inputs.blocking_send(DriverInput::Event(DaemonEvent::StoreLost(why)));
        }
        // The core waits for the end of this step before it closes the store, so the step is done and
        // reported also if the directory is lost.
        let event = match opened.store.maintain() {
            Ok(done) => DaemonEvent::UpkeepDone(done.more_is_due),
            Err(error @ StoreError::Stuck { .. }) => DaemonEvent::StoreStuck(with_causes(&error)),
            Err(error) => DaemonEvent::UpkeepFailed(with_causes(&error)),
        };
        let _ = inputs.blocking_send(DriverInput::Event(event));
    };
    spawn(thread::Builder::new(), "store-upkeep", maintain, |why| {
        report(not_started, DaemonEvent::UpkeepFailed(why));
    });
}

/// A path with the inode that it led to, by which kache tells that it was removed or replaced.
#[derive(Debug)]
pub(super) struct PathIdentity {
    path: PathBuf,
    /// `None` if nothing existed at the path.
    inode: Option<u64>,
}

impl PathIdentity {
    /// Remembers the inode that the path leads to now.
    pub(super) fn of(path: PathBuf) -> Self {
        let inode = fs::symlink_metadata(&path).ok().map(|metadata| metadata.ino());
        PathIdentity { path, inode }
    }

    /// Returns a sentence if the path was removed or replaced. `None` means that it was not, or that
    /// the disk does not answer.
    pub(super) fn lost(&self) -> Option<String> {
        let inode = self.inode?;
        let is_lost = match fs::symlink_metadata(&self.path) {
            Ok(metadata) => metadata.ino() != inode,
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        is_lost.then(|| format!("`{}` was removed or replaced", self.path.display()))
    }
}

/// Closes the store and reports the result.
pub(super) fn close(store: Arc<Store>, inputs: mpsc::Sender<DriverInput>) {
    let not_started = inputs.clone();
    let close = move || {
        let trouble = store.close().err().map(|error| with_causes(&error));
        drop(store);
        let _ = inputs.blocking_send(DriverInput::Event(DaemonEvent::StoreClosed(trouble)));
    };
    spawn(thread::Builder::new(), "store-close", close, |why| {
        report(not_started, DaemonEvent::StoreClosed(Some(why)));
    });
}

/// Runs `work` on a thread of its own, or `if_not_started` with the reason on this thread. The core
/// waits for the event that `work` sends, so `if_not_started` has to send one in its place.
fn spawn(
    builder: thread::Builder,
    name: &str,
    work: impl FnOnce() + Send + 'static,
    if_not_started: impl FnOnce(String),
) {
    if let Err(error) = builder.name(name.to_owned()).spawn(work) {
        let why = format!("failed to start the thread `{name}`: {error}");
        tracing::error!("{why}");
        if_not_started(why);
    }
}

/// Sends an event from the driver's own loop, which must not wait for itself: if its queue is full,
/// a task waits for room.
fn report(inputs: mpsc::Sender<DriverInput>, event: DaemonEvent) {
    tokio::spawn(async move {
        let _ = inputs.send(DriverInput::Event(event)).await;
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_is_removed_or_replaced_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        assert_eq!(PathIdentity::of(path.clone()).lost(), None, "a path that never existed is not lost");
        fs::create_dir(&path).unwrap();
        let identity = PathIdentity::of(path.clone());
        assert_eq!(identity.lost(), None);
        fs::rename(&path, dir.path().join("elsewhere")).unwrap();
        assert!(identity.lost().is_some());
        fs::create_dir(&path).unwrap();
        assert!(identity.lost().is_some());
    }

    #[test]
    fn a_thread_that_cannot_be_started_is_reported_in_place_of_its_work() {
        // No address space is as large as this stack.
        let builder = thread::Builder::new().stack_size(usize::MAX / 2);
        let mut reported = None;
        spawn(builder, "test", || unreachable!("the thread cannot start"), |why| reported = Some(why));
        assert!(reported.is_some_and(|why| why.starts_with("failed to start the thread `test`: ")));
    }
}
