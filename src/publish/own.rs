//! Whether a file is still the one that this compile wrote.
//!
//! A result is stored some time after its compile, and meanwhile the same unit may have been
//! compiled again, with other arguments or another environment, under the same names. What
//! was written then must not be stored as this compile's (KEY-05).

use std::fs::{self, Metadata};
use std::path::Path;
use std::time::SystemTime;

use crate::action::{OutputKind, Task};

/// Whether it is. Compilers make their files anew, so one that came into being after the
/// compiler's end is another one's.
pub(super) fn is_own(task: &Task, kind: OutputKind, path: &Path, ended: SystemTime) -> bool {
    let Ok(metadata) = fs::metadata(path) else { return false };
    // We have written it again ourselves, to add what is declared.
    let is_amended = kind == OutputKind::DepInfo && !task.extra_dep_info.is_empty();
    is_amended || came_into_being(&metadata).is_some_and(|at| at <= ended)
}

/// Whether nobody has written to it since. Cargo gives metadata that it only checks another
/// date as soon as the compiler has ended.
pub(super) fn is_untouched(kind: OutputKind, path: &Path, ended: SystemTime) -> bool {
    let modified = fs::metadata(path).and_then(|metadata| metadata.modified());
    matches!(kind, OutputKind::DepInfo | OutputKind::Metadata) || modified.is_ok_and(|at| at <= ended)
}

/// Where the filesystem does not keep it, the last change has to do.
fn came_into_being(metadata: &Metadata) -> Option<SystemTime> {
    metadata.created().or_else(|_| metadata.modified()).ok()
}
