//! When the shared files of a target directory are checked.
//!
//! Cargo compares dates when a build begins. Before that it asks for the compiler's version, unless
//! it remembers the answer; in that case its first compile is the first call that kache gets. At
//! both moments the shared files of the target directory are checked before the call is answered.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::cargo_question::CargoQuestion;
use super::session::Session;
use crate::compiler::{self, RootSettings};
use crate::invocation::Call;
use crate::pipeline::Pipeline;
use crate::roles::Role;

/// How often the files of a target directory are checked for calls that do not come from a cargo.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// How many such target directories are remembered.
const TARGETS_MAX: usize = 256;

/// When target directories were last checked for calls that do not come from a cargo.
#[derive(Debug, Default)]
pub(super) struct LastChecks(Mutex<HashMap<PathBuf, Instant>>);

impl LastChecks {
    /// Checks the shared files of the target directory that this call is about, unless they were
    /// checked for its session already.
    ///
    /// The first question for the version comes before cargo compares dates, but names no target
    /// directory. The one that cargo's command line implies is checked then; it is a guess. The
    /// target directory of the first compile is certain, so it is checked, too, if it is another one.
    pub(super) fn check(&self, pipeline: &Pipeline, call: &Call, session: Option<&Session>) {
        if pipeline.shared_outputs().files().is_none() {
            return;
        }
        if let Some(session) = session {
            let question = CargoQuestion::of(call);
            let request = session.request().filter(|_| question == Some(CargoQuestion::Version));
            let guessed = request.map(|request| request.target_dir());
            if let Some(target_dir) = guessed.filter(|dir| !session.has_checked(dir))
                && pipeline.shared_outputs().check(&target_dir)
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
            None => self.begin_if_due(&target_dir),
        };
        if (!is_due || pipeline.shared_outputs().check(&target_dir))
            && let Some(session) = session
        {
            session.note_checked(&target_dir, false);
        }
    }

    /// Returns whether it is time to check this target directory again, and if so, notes that it is
    /// checked now. Of two threads that ask at once, one checks.
    fn begin_if_due(&self, target_dir: &Path) -> bool {
        let mut last_checks = self.0.lock();
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

/// The target directory that a call compiles for; `None` if it is no compile.
fn target_dir_of(call: &Call) -> Option<PathBuf> {
    let parsed = compiler::parse(call, &|path| std::fs::read(path)).ok()?;
    if parsed.facts().kind.is_probe() {
        return None;
    }
    let roots = parsed.roots(call, &RootSettings::default());
    roots.dir(Role::Target).map(Path::to_owned)
}
