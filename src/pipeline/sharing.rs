//! What the files of a call may share with other checkouts, and the checks of files that are shared.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kache_cas::{Digest, Sharing, Store};
use tokio::sync::watch;

use super::slot::StoreSlot;
use crate::action::Task;
use crate::compile::KnownFile;
use crate::config::{CompileSettings, FileSharing};
use crate::roles::Role;
use crate::shared::{self, CheckReport, SharedFiles};

/// The files of checkouts that are hard links to inodes which several checkouts share.
#[derive(Debug)]
pub struct SharedOutputs {
    files: SharedFiles,
    /// Whether restored files may become such links. Only a daemon may share inodes, because it stays
    /// and checks them.
    shares_inodes: bool,
    store: watch::Receiver<StoreSlot>,
}

impl SharedOutputs {
    /// The shared files of this cache directory's store.
    pub(super) fn new(cache_dir: &Path, store: watch::Receiver<StoreSlot>) -> SharedOutputs {
        SharedOutputs { files: SharedFiles::new(cache_dir), shares_inodes: true, store }
    }

    /// The same, for a process that shares no inodes.
    pub(super) fn without_shared_inodes(self) -> SharedOutputs {
        SharedOutputs { shares_inodes: false, ..self }
    }

    fn store(&self) -> Option<Arc<Store>> {
        self.store.borrow().store().ok()
    }

    /// The closest sharing that the settings allow between a file of this call and the store.
    pub(super) fn most(&self, settings: &CompileSettings) -> Sharing {
        match settings.sharing {
            FileSharing::Copy => Sharing::Copy,
            FileSharing::Reflink => Sharing::Private,
            FileSharing::Hardlink if self.shares_inodes => Sharing::Hardlink,
            FileSharing::Hardlink => Sharing::Exclusive,
        }
    }

    /// Records which of these outputs are shared from now on. Files that cannot be recorded are
    /// replaced by copies that are not shared.
    pub(super) fn note(&self, task: &Task, shared: &[(PathBuf, Digest)], outputs: &[KnownFile]) {
        let Some(target_dir) = task.roots.dir(Role::Target) else { return };
        let is_shared = |path: &Path| shared.iter().any(|(shared, _)| shared == path);
        let mut others = outputs.iter().map(|output| &*output.path).filter(|path| !is_shared(path));
        let Err(error) = self.files.note(target_dir, shared, &mut others) else { return };
        tracing::warn!("failed to record the shared files in `{}`: {error}", target_dir.display());
        for (path, _) in shared {
            if let Err(error) = shared::unshare(path) {
                tracing::warn!("failed to copy `{}`, which is shared: {error}", path.display());
            }
        }
    }

    /// Starts to watch shared files. Without a watch they are still checked when a build begins.
    pub fn start_watching(&self) {
        if let Err(error) = self.files.start_watching() {
            tracing::info!("shared files are not watched: {error}");
        }
    }

    /// Checks all shared files. Returns `false` while the store is not open.
    pub fn check_all(&self) -> io::Result<bool> {
        let Some(store) = self.store() else { return Ok(false) };
        self.files.check_all(store.files(), store.blobs())?;
        Ok(true)
    }

    /// Waits until a shared file is changed, or until the timeout, and handles the change. Returns
    /// whether there were events; `None` while the store is not open.
    pub fn process_events(&self, timeout: Duration) -> io::Result<Option<bool>> {
        let has_events = self.files.wait_for_events(timeout)?;
        let Some(store) = self.store() else { return Ok(None) };
        if has_events {
            self.files.process_events(store.files(), store.blobs())?;
        }
        Ok(Some(has_events))
    }

    /// Prepares for the end of the daemon, after which shared files are not watched. Makes every cargo
    /// ask for the compiler's version before it compares dates, so that the files are checked first.
    pub fn stop_watching(&self) {
        self.files.make_cargo_ask(true);
    }

    /// The files that several checkouts share; `None` if this process shares none.
    pub fn files(&self) -> Option<&SharedFiles> {
        self.shares_inodes.then_some(&self.files)
    }

    /// Checks the shared files in a target directory, and returns whether all of them were checked.
    /// After an error it returns `true`, so that they are not checked again for the same build.
    pub fn check(&self, target_dir: &Path) -> bool {
        let Some(store) = self.store() else { return false };
        let begun = Instant::now();
        match self.files.check(target_dir, store.files(), store.blobs()) {
            Ok(report) => {
                let CheckReport { files, repaired, removed, is_partial } = report;
                tracing::debug!("checked {files} shared files in {:?}", begun.elapsed());
                if repaired + removed > 0 {
                    tracing::info!(
                        "of {files} shared files in `{}`, {repaired} were changed and are restored, {removed} \
                         were overwritten and are removed",
                        target_dir.display()
                    );
                }
                !is_partial
            }
            Err(error) => {
                tracing::warn!("failed to check the shared files in `{}`: {error}", target_dir.display());
                true
            }
        }
    }
}
