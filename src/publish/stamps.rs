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

/// The stamps of a task's outputs, in the task's order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stamps(Vec<Option<Stamp>>);

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
        let stamp = |place| fs::metadata(place).ok().map(|metadata| Stamp::of(&metadata));
        Stamps(task.outputs.iter().map(|output| stamp(place_of(task, output))).collect())
    }

    /// Whether what is there now is what was there then. Dates may have been changed by
    /// kache itself, and those of metadata by cargo, which dates the outputs of a check
    /// through whatever inode they have.
    pub(super) fn still_hold(&self, task: &Task, place: &Path) -> bool {
        let at = task.outputs.iter().position(|output| place_of(task, output) == place);
        let Some((at, Some(then))) = at.and_then(|at| Some((at, (*self.0.get(at)?)))) else { return false };
        let Ok(now) = fs::metadata(place).map(|metadata| Stamp::of(&metadata)) else { return false };
        let is_same_date = now.modified == then.modified
            || now.modified == constant()
            || task.outputs[at].kind == OutputKind::Metadata;
        is_same_date && Stamp { modified: then.modified, ..now } == then
    }
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
}

fn constant() -> (i64, i64) {
    let since = constant_date().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    (i64::try_from(since.as_secs()).unwrap_or_default(), 0)
}
