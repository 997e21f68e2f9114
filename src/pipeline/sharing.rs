//! When the pipeline checks shared files, and what a call's files may share.
//!
//! Cargo compares dates when a build begins. Before that it asks for the compiler's version, unless
//! it remembers the answer; in that case its first compile is the first call that kache gets. At
//! both moments the shared files of the target directory are checked before the call is answered.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use kache_cas::{Digest, Sharing};

use super::begin::Pipeline;
use super::call_state::CallClient;
use super::sessions::CargoQuestion;
use crate::action::Task;
use crate::compile::KnownFile;
use crate::config::{CompileSettings, FileSharing};
use crate::inputs::{self, RootSettings};
use crate::invocation::Call;
use crate::invocation::rustc::{ParsedCall, parse};
use crate::roles::Role;
use crate::shared::{self, CheckReport};

/// How often the files of a target directory are checked for calls that do not come from a cargo.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// How many such target directories are remembered.
const TARGETS_MAX: usize = 256;

/// When target directories were last checked for calls that do not come from a cargo.
#[derive(Debug, Default)]
pub(super) struct LastChecks(Mutex<HashMap<PathBuf, Instant>>);

impl LastChecks {
    /// Returns whether it is time to check this target directory again, and if so, notes that it is
    /// checked now. Of two threads that ask at once, one checks.
    fn begin_if_due(&self, target_dir: &Path) -> bool {
        let mut last_checks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if last_checks.get(target_dir).is_some_and(|at| at.elapsed() < CHECK_EVERY) {
            return false;
        }
        if last_checks.len() >= TARGETS_MAX {
            last_checks.clear();
        }
        last_checks.insert(target_dir.to_owned(), Instant::now());
        true
    }
}

impl Pipeline {
    /// The closest sharing that the settings allow between a file of this call and the store.
    pub(super) fn most_shared(&self, settings: &CompileSettings) -> Sharing {
        match settings.sharing {
            FileSharing::Copy => Sharing::Copy,
            FileSharing::Reflink => Sharing::Private,
            FileSharing::Hardlink if self.shares_inodes => Sharing::Hardlink,
            FileSharing::Hardlink => Sharing::Exclusive,
        }
    }

    /// Records which of these outputs are shared from now on. Files that cannot be recorded are
    /// replaced by copies that are not shared.
    pub(super) fn note_shared(&self, task: &Task, shared: &[(PathBuf, Digest)], outputs: &[KnownFile]) {
        let Some(target_dir) = task.roots.dir(Role::Target) else { return };
        let is_shared = |path: &Path| shared.iter().any(|(shared, _)| shared == path);
        let mut others = outputs.iter().map(|output| &*output.path).filter(|path| !is_shared(path));
        let Err(error) = self.shared.note(target_dir, shared, &mut others) else { return };
        tracing::warn!("failed to record the shared files in `{}`: {error}", target_dir.display());
        for (path, _) in shared {
            if let Err(error) = shared::unshare(path) {
                tracing::warn!("failed to copy `{}`, which is shared: {error}", path.display());
            }
        }
    }

    /// Starts to watch shared files. Without a watch they are still checked when a build begins.
    pub fn start_watching(&self) {
        if let Err(error) = self.shared.start_watching() {
            tracing::info!("shared files are not watched: {error}");
        }
    }

    /// Checks all shared files. Returns `false` while the store is not open.
    pub fn check_all_shared(&self) -> io::Result<bool> {
        let Ok(store) = self.store() else { return Ok(false) };
        self.shared.check_all(store.files(), store.blobs())?;
        Ok(true)
    }

    /// Waits until a shared file is changed, or until the timeout, and handles the change. Returns
    /// whether there were events; `None` while the store is not open.
    pub fn process_events(&self, timeout: Duration) -> io::Result<Option<bool>> {
        let has_events = self.shared.wait_for_events(timeout)?;
        let Ok(store) = self.store() else { return Ok(None) };
        if has_events {
            self.shared.process_events(store.files(), store.blobs())?;
        }
        Ok(Some(has_events))
    }

    /// Prepares for the end of the daemon, after which shared files are not watched. Makes every cargo
    /// ask for the compiler's version before it compares dates, so that the files are checked first.
    pub fn stop_watching(&self) {
        self.shared.make_cargo_ask(true);
    }

    /// Checks the shared files of the target directory that this call is about, unless they were
    /// checked for its session already.
    ///
    /// The first question for the version comes before cargo compares dates, but names no target
    /// directory. The one that cargo's command line implies is checked then; it is a guess. The
    /// target directory of the first compile is certain, so it is checked, too, if it is another one.
    pub(super) fn check_shared(&self, call: &Call, client: &CallClient) {
        if !self.shares_inodes {
            return;
        }
        let session = client.session.as_deref();
        if let Some(session) = session {
            let question = CargoQuestion::of(call);
            let request = session.request().filter(|_| question == Some(CargoQuestion::Version));
            let guessed = request.map(|request| request.target_dir());
            if let Some(target_dir) = guessed.filter(|dir| !session.has_checked(dir))
                && self.check(&target_dir)
            {
                session.note_checked(&target_dir, true);
            }
            if question.is_some() || session.is_target_checked() {
                return;
            }
        }
        let Some(target_dir) = target_dir_of(call) else { return };
        let is_due = match session {
            Some(session) => !session.has_checked(&target_dir),
            None => self.last_checks.begin_if_due(&target_dir),
        };
        if (!is_due || self.check(&target_dir))
            && let Some(session) = session
        {
            session.note_checked(&target_dir, false);
        }
    }

    /// Returns whether all files were checked. After an error it returns `true`, so that the session
    /// does not check them again.
    fn check(&self, target_dir: &Path) -> bool {
        let Ok(store) = self.store() else { return false };
        let begun = Instant::now();
        match self.shared.check(target_dir, store.files(), store.blobs()) {
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

/// The target directory that a call compiles for; `None` if it is no compile.
fn target_dir_of(call: &Call) -> Option<PathBuf> {
    let rustc = match parse(call, &|path| std::fs::read(path)) {
        ParsedCall::Compile(rustc) => *rustc,
        ParsedCall::Probe(_) | ParsedCall::Bypass(_) => return None,
    };
    let roots = inputs::roots(&rustc, call, &RootSettings::default());
    roots.dir(Role::Target).map(Path::to_owned)
}
