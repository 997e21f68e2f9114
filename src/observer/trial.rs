//! Whether a program bears the library, found out by trying, before any compile depends on it.
//!
//! The library is made for one C library. A toolchain may bring another: an older one ends a
//! program that is to load what it does not know, and one for another processor says so on
//! standard error. Each program that a compile starts is asked for its version, with the
//! library and without; where that makes a difference, it is not observed.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::watch::Watch;
use crate::inputs::answer;
use crate::invocation::Environment;

/// How long a program has for its version.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(5);

/// How many programs are remembered; a machine has a dozen.
const PROGRAMS_MAX: usize = 1024;

/// A program as it is now.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Program {
    path: PathBuf,
    inode: u64,
    len: u64,
    changed: (i64, i64),
}

/// What was found out.
#[derive(Debug, Default)]
pub(super) struct Trials(Mutex<HashMap<Program, bool>>);

impl Trials {
    /// Whether this program says the same with the library as without.
    pub(super) fn bears(&self, program: &Path, env: &Environment, watch: &dyn Fn() -> Option<Watch>) -> bool {
        let Ok(metadata) = fs::metadata(program) else { return false };
        let known = Program {
            path: program.to_owned(),
            inode: metadata.ino(),
            len: metadata.len(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        };
        // Held over the trial: of several calls that come at once, one tries.
        let mut trials = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bears) = trials.get(&known) {
            return *bears;
        }
        let Some(watch) = watch() else { return false };
        let bears = is_the_same(program, env, &watch);
        if !bears {
            tracing::info!(
                "compilers that start `{}` are not observed: it does not bear it",
                program.display()
            );
        }
        if trials.len() >= PROGRAMS_MAX {
            trials.clear();
        }
        trials.insert(known, bears);
        bears
    }
}

/// Neither answer need be a good one: some linkers want to be called by another name.
fn is_the_same(program: &Path, env: &Environment, watch: &Watch) -> bool {
    let ask = |watch: Option<&Watch>| {
        let mut command = Command::new(program);
        command.arg("--version").env_clear().envs(env.iter());
        command.envs(watch.map(Watch::variables).unwrap_or_default());
        answer(command.stdout(Stdio::piped()).stderr(Stdio::piped()), ANSWER_WAIT_MAX)
    };
    matches!((ask(None), ask(Some(watch))), (Ok(without), Ok(with)) if without == with)
}
