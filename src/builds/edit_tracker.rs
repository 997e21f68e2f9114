//! Connects [`EditMemory`] to the clock, the files of a checkout and the compilers that run now.
//!
//! The memory is locked for short moments only, but for one: while the state of an incremental
//! directory is removed, so that no compiler begins in it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

use super::edit_memory::{EditEvidence, EditMemory};
use super::edited_source::edited_source;
use super::incremental_dir::{IncrementalDir, redate_metadata, remove_state};
use crate::action::{Origin, Task};
use crate::outputs::Staging;
use crate::pipeline::{EditDecision, KeyedCall, Prepared};

/// The edit memory of a process, shared by all of its calls.
#[derive(Clone, Debug, Default)]
pub(super) struct EditTracker {
    memory: Arc<Mutex<EditMemory>>,
    /// Whether edited crates are compiled and stored like all others.
    is_disabled: bool,
}

/// A compile that was begun, as the edit tracker sees it.
#[derive(Debug)]
pub(super) struct EditAttempt {
    /// Whether the result may be stored.
    is_shared: bool,
    /// Whether the unit was made from edits before, and will be stored now.
    was_edited: bool,
    /// Held while the compiler may use its incremental directory.
    dir_in_use: Option<DirInUse>,
}

/// Marks an incremental directory as used by one compiler, until it is dropped.
#[derive(Debug)]
struct DirInUse {
    directory: IncrementalDir,
    memory: Arc<Mutex<EditMemory>>,
}

impl EditTracker {
    /// Creates a tracker that decides [`EditDecision::Shared`] for every call, for a process that
    /// makes one call and could not remember its decision for the next.
    pub(super) fn disabled() -> Self {
        EditTracker { is_disabled: true, ..EditTracker::default() }
    }

    /// Decides how to run a compile after a miss. Reads the last dep-info of the unit and looks at the
    /// dates of its sources.
    pub(super) fn decide(&self, call: &KeyedCall) -> EditDecision {
        let KeyedCall { settings, prepared, .. } = call;
        let Prepared { compiler, task, .. } = &**prepared;
        let facts = compiler.facts();
        if facts.kind.is_probe() || self.is_disabled {
            return EditDecision::Shared;
        }
        let may_be_incremental =
            settings.incremental_edits && task.origin == Origin::Path && facts.incremental_dir.is_some();
        let edited = may_be_incremental.then(|| edited_source(task)).flatten();
        let evidence =
            EditEvidence { may_be_incremental, edited: edited.as_deref(), externs: &task.depends_on };
        self.memory.lock().decide(&evidence)
    }

    /// Notes the start of a compile. This has to be called before the compiler runs: other crates use
    /// its metadata as soon as it is written, while the compiler still runs.
    pub(super) fn begin(&self, call: &KeyedCall, decision: &EditDecision) -> EditAttempt {
        let outputs = outputs(&call.prepared.task);
        let EditDecision::Local { is_incremental, .. } = decision else {
            let was_edited = self.memory.lock().forget_outputs(outputs);
            return EditAttempt { is_shared: true, was_edited, dir_in_use: None };
        };
        let directory = directory(call).filter(|_| *is_incremental);
        self.memory.lock().begin(outputs.collect(), directory.as_ref(), Instant::now());
        let dir_in_use = directory.map(|directory| {
            redate_metadata(&directory, &call.client.staging);
            DirInUse { directory, memory: Arc::clone(&self.memory) }
        });
        EditAttempt { is_shared: false, was_edited: false, dir_in_use }
    }

    /// Notes that a stored result was restored, and removes incremental state that this makes useless.
    pub(super) fn restored(&self, call: &KeyedCall) {
        let was_edited = self.memory.lock().forget_outputs(outputs(&call.prepared.task));
        self.clean(call, was_edited, &call.client.staging);
    }

    /// Notes that the compiler has ended. If it did not use incremental state, removes the state that
    /// this makes useless.
    pub(super) fn compiler_ended(&self, call: &KeyedCall, attempt: &mut EditAttempt, staging: &Staging) {
        attempt.dir_in_use = None;
        if attempt.is_shared {
            self.clean(call, attempt.was_edited, staging);
        }
    }

    /// Removes the incremental state of the call's crate (`cache.clean_incremental`), unless another
    /// unit of that crate is being edited. The lock is held throughout, so that no compiler begins in
    /// the directory meanwhile.
    fn clean(&self, call: &KeyedCall, was_edited: bool, staging: &Staging) {
        let Some(directory) = directory(call).filter(|_| call.settings.clean_incremental) else {
            return;
        };
        let mut memory = self.memory.lock();
        if memory.may_remove_state(&directory, was_edited, Instant::now()) {
            memory.forget_directory(&directory);
            remove_state(&directory, staging);
        }
    }
}

impl Drop for DirInUse {
    fn drop(&mut self) {
        let mut memory = self.memory.lock();
        memory.end(&self.directory, Instant::now());
    }
}

fn outputs(task: &Task) -> impl Iterator<Item = PathBuf> {
    task.outputs.iter().map(|output| output.path.clone())
}

/// The incremental directory that cargo named for this call, if it named one.
fn directory(keyed: &KeyedCall) -> Option<IncrementalDir> {
    let facts = keyed.prepared.compiler.facts();
    let dir = keyed.call.cwd.join(facts.incremental_dir?);
    Some(IncrementalDir { dir, crate_name: facts.name.to_owned() })
}
