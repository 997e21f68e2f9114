//! A home, the worktrees in it, and steps that are taken there.

use std::path::PathBuf;

use super::class::{Class, Classes};
use super::pair::Pair;
use super::plan::{Step, WORKTREES};
use super::sources::Sources;
use crate::home::Home;
use crate::toolchain::patched_rustc;

/// The names of the worktrees. Nothing that a compile reads holds them, not even as a part of a
/// word in a library: kache takes such a name in an output for that one (docs/observed.md).
const NAMES: [&str; WORKTREES] = ["worktree-a7", "the zweite", "gamma_ray 3"];

/// The one of them that may lie in memory.
const IN_MEMORY: usize = 2;

/// What becomes of a crate that is edited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Edits {
    /// It is compiled incrementally, and nothing of it is shared.
    Incremental,
    /// It is stored and looked up like any other, so that many more compiles are hits.
    Cached,
}

/// Everything that a step may change.
pub(super) struct World {
    home: Home,
    compilers: [PathBuf; 2],
    pairs: Vec<Pair>,
    /// Holds the worktree that lies in memory.
    _memory: Option<tempfile::TempDir>,
}

impl World {
    pub(super) fn new(classes: &Classes, edits: Edits) -> World {
        let home = Home::without_daemon();
        let home = match edits {
            Edits::Incremental => home,
            Edits::Cached => home.with("KACHE_INCREMENTAL_EDITS", "false"),
        };
        home.start();
        let compilers = [1, 2].map(|value| patched_rustc(&home.tree(&format!("compiler {value}")), value));
        let memory = classes.has(Class::Memory).then(|| tempfile::tempdir_in("/dev/shm").unwrap());
        let pairs = NAMES.into_iter().enumerate().map(|(number, name)| {
            let base = match &memory {
                Some(memory) if number == IN_MEMORY => memory.path(),
                _ => home.base(),
            };
            let sources = Sources { classes: classes.clone(), ..Sources::default() };
            Pair::new(base, name, sources)
        });
        let pairs = pairs.collect();
        World { home, compilers, pairs, _memory: memory }
    }

    /// Changes and builds. How many compiles were hits, and how many were not.
    pub(super) fn take(&mut self, step: &Step) -> [usize; 2] {
        step.change.act(&self.home, &mut self.pairs, step.worktree);
        let pair = &mut self.pairs[step.worktree];
        pair.set(&step.sources);
        let counts = pair.build(&self.home, &step.call, &self.compilers);
        step.change.clear_away(&self.pairs);
        counts
    }
}
