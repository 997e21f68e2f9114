//! What a compile's outputs looked like when it had ended.
//!
//! A result is stored after its client has gone. By then another compile, or a tool that
//! writes into it, may have put something else in an output's place, which nobody must take
//! for this compile's (KEY-05). The client still waits when the stamps are taken.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::action::{OutputKind, Task};
use crate::outputs::dates::{constant_date, place_of};

/// The stamps of a task's outputs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stamps {
    /// In the task's order; `None` for an output that is not there.
    outputs: Vec<Option<Stamp>>,
    /// That of the `output` file of the package's build script, which is dated with the outputs.
    build_script: Option<Stamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    len: u64,
    modified: (i64, i64),
}

impl Stamps {
    /// Looks at the outputs as they are now.
    pub fn take(task: &Task) -> Stamps {
        let outputs = task.outputs.iter().map(|output| stamp(&place_of(task, output))).collect();
        Stamps { outputs, build_script: of_build_script(task) }
    }

    /// Whether what is there now is what was there then. Dates may have been changed by
    /// kache itself, and those of metadata by cargo, which dates the outputs of a check
    /// through whatever inode they have.
    pub(super) fn still_hold(&self, task: &Task, place: &Path) -> bool {
        fs::metadata(place).is_ok_and(|metadata| self.hold_for(task, place, &metadata))
    }

    /// The same of an output that was opened.
    pub(super) fn hold_for(&self, task: &Task, place: &Path, metadata: &Metadata) -> bool {
        let at = task.outputs.iter().position(|output| place_of(task, output) == place);
        let then = at.and_then(|at| Some((at, (*self.outputs.get(at)?)?)));
        let Some((at, then)) = then else { return false };
        let is_dated_by_cargo = task.outputs[at].kind == OutputKind::Metadata;
        then.is_now(Stamp::of(metadata), is_dated_by_cargo)
    }

    /// Whether the build script's `output` is what it was then.
    pub(super) fn build_script_holds(&self, task: &Task) -> bool {
        match (self.build_script, of_build_script(task)) {
            (Some(then), Some(now)) => then.is_now(now, false),
            (then, now) => then == now,
        }
    }
}

fn stamp(place: &Path) -> Option<Stamp> {
    fs::metadata(place).ok().map(|metadata| Stamp::of(&metadata))
}

fn of_build_script(task: &Task) -> Option<Stamp> {
    stamp(&task.cwd.join(task.build_script_output.as_ref()?))
}

impl Stamp {
    fn of(metadata: &Metadata) -> Stamp {
        Stamp {
            device: metadata.dev(),
            inode: metadata.ino(),
            len: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }

    /// Whether a later stamp is of the same file, unchanged. Kache itself may have given it the constant
    /// date.
    fn is_now(self, now: Stamp, is_dated_by_others: bool) -> bool {
        let is_same_date = now.modified == self.modified || now.modified == constant() || is_dated_by_others;
        is_same_date && Stamp { modified: self.modified, ..now } == self
    }
}

fn constant() -> (i64, i64) {
    let since = constant_date().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    (i64::try_from(since.as_secs()).unwrap_or_default(), 0)
}
