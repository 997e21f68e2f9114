//! The outputs of a compile as they were when its compiler had exited.
//!
//! A result is stored after its client has exited. By then another compile of the same unit, with other
//! arguments or another environment, or a tool that changes outputs in place may have written the files.
//! Such a file must not be stored as an output of this compile (KEY-05). Two checks find it:
//!
//! - A file that was created or written after the compiler's end is not from this compile. This finds a
//!   change before the snapshot was taken.
//! - A file whose device, inode, length or date differs from the snapshot has changed since. This finds a
//!   change after it. Dates that kache or the build tool set are allowed.

use std::fs::{self, Metadata};
use std::path::Path;
use std::time::SystemTime;

use kache_cas::FileStamp;

use crate::action::{OutputKind, Task};
use crate::outputs::dates::CONSTANT_DATE_S;

/// The constant date in the unit of stamps.
const CONSTANT_DATE_NS: i64 = CONSTANT_DATE_S as i64 * 1_000_000_000;

/// A snapshot of a task's outputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputSnapshot {
    /// The end of the compiler, by the client's clock.
    compiler_end: SystemTime,
    /// The outputs in the task's order; `None` for an output that does not exist.
    outputs: Vec<Option<FileStamp>>,
    /// The file of [`Task::earlier_step`]. It is dated together with the outputs.
    earlier_step: Option<FileStamp>,
}

impl OutputSnapshot {
    /// Looks at the outputs. The caller does this while the client still waits, so that the build tool cannot yet
    /// have started the next compile.
    pub fn take(task: &Task, compiler_end: SystemTime) -> OutputSnapshot {
        let outputs = task.outputs.iter().map(|output| file_stamp(&output.path)).collect();
        OutputSnapshot { compiler_end, outputs, earlier_step: earlier_step_stamp(task) }
    }

    /// Whether the file at this path existed when the compiler had exited. Compilers create their outputs
    /// anew, so a file that was created later belongs to another compile.
    pub(super) fn was_created_in_time(&self, task: &Task, kind: OutputKind, path: &Path) -> bool {
        // kache itself has written the dep-info again, to add the declared inputs.
        let is_amended = kind == OutputKind::DepInfo && !task.extra_dep_info.is_empty();
        let created = fs::metadata(path).ok().and_then(|metadata| {
            // Some filesystems do not keep the time of creation.
            metadata.created().or_else(|_| metadata.modified()).ok()
        });
        created.is_some_and(|at| is_amended || at <= self.compiler_end)
    }

    /// Whether the file at this path was last written before the compiler had exited. Always true of
    /// dep-info and metadata: the build tool gives the metadata of a check another date when the compiler has
    /// exited, and kache may amend the dep-info.
    pub(super) fn was_written_in_time(&self, kind: OutputKind, path: &Path) -> bool {
        let modified = fs::metadata(path).and_then(|metadata| metadata.modified());
        matches!(kind, OutputKind::DepInfo | OutputKind::Metadata)
            || modified.is_ok_and(|at| at <= self.compiler_end)
    }

    /// Whether the output at this path is unchanged since the snapshot.
    pub(super) fn is_unchanged(&self, task: &Task, path: &Path) -> bool {
        fs::metadata(path).is_ok_and(|metadata| self.is_of(task, path, &metadata))
    }

    /// Whether this metadata, of an open file, is that of the output at this path in the snapshot. The
    /// date may differ if kache has set it to the constant date. For metadata files it may be any date:
    /// the build tool sets the date of a check's outputs through whatever inode they have.
    pub(super) fn is_of(&self, task: &Task, path: &Path, metadata: &Metadata) -> bool {
        let Some(at) = task.outputs.iter().position(|output| output.path == path) else {
            return false;
        };
        let Some(then) = self.outputs.get(at).copied().flatten() else { return false };
        is_same_file(then, FileStamp::of(metadata), task.outputs[at].kind == OutputKind::Metadata)
    }

    /// Whether the file of [`Task::earlier_step`] is unchanged since the snapshot. A missing file is
    /// unchanged if it was missing then.
    pub(super) fn is_earlier_step_unchanged(&self, task: &Task) -> bool {
        match (self.earlier_step, earlier_step_stamp(task)) {
            (Some(then), Some(now)) => is_same_file(then, now, false),
            (then, now) => then == now,
        }
    }
}

fn file_stamp(path: &Path) -> Option<FileStamp> {
    fs::metadata(path).ok().map(|metadata| FileStamp::of(&metadata))
}

fn earlier_step_stamp(task: &Task) -> Option<FileStamp> {
    file_stamp(&task.cwd.join(task.earlier_step.as_ref()?))
}

/// Whether `now` is a later stamp of the same, unchanged file. Its date may also be the constant date, or any
/// date if `may_be_dated`. The change time is left out, because a new link moves it.
fn is_same_file(then: FileStamp, now: FileStamp, may_be_dated: bool) -> bool {
    let is_valid_date = may_be_dated || [then.modified_ns, CONSTANT_DATE_NS].contains(&now.modified_ns);
    is_valid_date && FileStamp { modified_ns: then.modified_ns, changed_ns: then.changed_ns, ..now } == then
}
