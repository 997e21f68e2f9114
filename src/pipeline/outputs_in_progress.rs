//! The files that compilers are making now, from the start of the compiler until the result is in
//! the store.
//!
//! A result is stored after the results that its dependencies come from: by then the dates and
//! digests of those files are settled, and what kache learnt about a crate is there for the crates
//! that use it.

use std::path::PathBuf;
use std::time::Duration;

use super::coalescer::{Coalescer, Follower, Join, Leader};
use crate::action::Task;

/// The files that are being made, by path.
#[derive(Debug, Default)]
pub(super) struct OutputsInProgress {
    coalescer: Coalescer<PathBuf>,
}

/// Marks the outputs of one compile as being made, until it is dropped.
#[derive(Debug, Default)]
pub(super) struct OutputsGuard {
    /// One for each output.
    leaders: Vec<Leader<PathBuf>>,
    /// Earlier compiles that still make the same files.
    earlier: Vec<Follower>,
}

impl OutputsGuard {
    /// Notes that the compiler has ended. Other compiles wait this long until the result is stored.
    pub(super) fn begin_storing(&self, others_wait: Duration) {
        for leader in &self.leaders {
            leader.begin_storing(others_wait);
        }
    }
}

impl OutputsInProgress {
    /// Marks the outputs of this task as being made.
    pub(super) fn begin(&self, task: &Task) -> OutputsGuard {
        let mut guard = OutputsGuard::default();
        for output in &task.outputs {
            match self.coalescer.join(&output.path) {
                Join::Leader(leader) => {
                    leader.begin_compiling();
                    guard.leaders.push(leader);
                }
                Join::Follower(follower) => guard.earlier.push(follower),
            }
        }
        guard
    }

    /// Returns the compiles whose results have to be stored first: those that make what this task
    /// depends on, and earlier ones that made its outputs.
    pub(super) fn awaited(&self, task: &Task, guard: &mut OutputsGuard) -> Vec<Follower> {
        let dependencies = task.depends_on.iter().filter_map(|path| self.coalescer.follow(path));
        guard.earlier.drain(..).chain(dependencies).collect()
    }
}
