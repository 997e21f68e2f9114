//! The pipeline's side of editing: it knows the clock, and who is at it right now.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::edit::edited_source;
use super::editing::{Course, Directory, Editing, Facts};
use super::prepare::Prepared;
use super::tidying::{freshen, tidy};
use crate::action::{Origin, Task};
use crate::config::CompileSettings;
use crate::invocation::Call;
use crate::restore::dates::place_of;

/// What all calls share.
#[derive(Debug, Default)]
pub(super) struct Edits {
    editing: Arc<Mutex<Editing>>,
    /// Whether edits are compiled like anything else.
    are_shared: bool,
}

/// A compile that was begun, as far as edits go.
#[derive(Debug)]
pub(super) struct Undertaking {
    /// Whether its result is offered to everybody.
    pub(super) is_shared: bool,
    /// Whether its outputs, now everybody's, were made from edits before.
    was_edited: bool,
    /// Held while the compiler may be in its incremental directory.
    in_directory: Option<InDirectory>,
}

impl Undertaking {
    /// The compiler has ended.
    pub(super) fn leave_directory(&mut self) {
        self.in_directory = None;
    }
}

/// A compiler that may be in an incremental directory, until this is dropped.
#[derive(Debug)]
struct InDirectory {
    directory: Directory,
    editing: Arc<Mutex<Editing>>,
}

impl Edits {
    /// For a process that makes one call, and remembers nothing for the next.
    pub(super) fn shared() -> Self {
        Edits { are_shared: true, ..Edits::default() }
    }

    /// How a compile goes that was not answered.
    pub(super) fn course(&self, prepared: &Prepared, settings: &CompileSettings) -> Course {
        if prepared.is_probe || self.are_shared {
            return Course::Shared;
        }
        let Prepared { rustc, task, .. } = prepared;
        let may_be_incremental =
            settings.incremental_edits && task.origin == Origin::Path && rustc.incremental.is_some();
        let edited = may_be_incremental.then(|| edited_source(task)).flatten();
        let facts = Facts { may_be_incremental, edited: edited.as_deref(), externs: &task.depends_on };
        self.lock().course(&facts)
    }

    /// The compiler is about to be run on this course. This is said before it is: what it makes
    /// is used as soon as its metadata is there.
    pub(super) fn begin(&self, call: &Call, prepared: &Prepared, course: &Course) -> Undertaking {
        let outputs = outputs(&prepared.task);
        let Course::Own { is_incremental, .. } = course else {
            let was_edited = self.lock().settle(outputs);
            return Undertaking { is_shared: true, was_edited, in_directory: None };
        };
        let directory = directory(call, prepared).filter(|_| *is_incremental);
        self.lock().begin(outputs.collect(), directory.as_ref(), Instant::now());
        let in_directory = directory.map(|directory| {
            freshen(&directory);
            InDirectory { directory, editing: Arc::clone(&self.editing) }
        });
        Undertaking { is_shared: false, was_edited: false, in_directory }
    }

    /// A result was found: its unit is everybody's.
    pub(super) fn found(&self, call: &Call, prepared: &Prepared, settings: &CompileSettings) {
        let was_edited = self.lock().settle(outputs(&prepared.task));
        self.tidy(call, prepared, settings, was_edited);
    }

    /// The same of one that was compiled.
    pub(super) fn stored(
        &self,
        call: &Call,
        prepared: &Prepared,
        settings: &CompileSettings,
        undertaking: &Undertaking,
    ) {
        self.tidy(call, prepared, settings, undertaking.was_edited);
    }

    /// The crate's incremental state is useless, unless another unit of that crate is being
    /// edited. No compiler begins meanwhile.
    fn tidy(&self, call: &Call, prepared: &Prepared, settings: &CompileSettings, was_edited: bool) {
        let Some(directory) = directory(call, prepared).filter(|_| settings.clean_incremental) else {
            return;
        };
        let mut editing = self.lock();
        if editing.is_useless(&directory, was_edited, Instant::now()) {
            tidy(&directory);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Editing> {
        self.editing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for InDirectory {
    fn drop(&mut self) {
        let mut editing = self.editing.lock().unwrap_or_else(PoisonError::into_inner);
        editing.end(&self.directory, Instant::now());
    }
}

fn outputs(task: &Task) -> impl Iterator<Item = PathBuf> {
    task.outputs.iter().map(|output| place_of(task, output))
}

fn directory(call: &Call, prepared: &Prepared) -> Option<Directory> {
    let dir = call.cwd.join(prepared.rustc.incremental.as_ref()?);
    Some(Directory { dir, crate_name: prepared.rustc.crate_name.clone() })
}
