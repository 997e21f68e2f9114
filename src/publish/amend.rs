//! Files that a compiler's own dep-info is to name besides those it read: what a package
//! declares (`extra_inputs`), so that cargo notices when it changes. A restored dep-info has
//! them already.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;

use crate::action::{OutputKind, Task};
use crate::outputs::Staging;
use crate::outputs::dates::place_of;
use crate::outputs::dep_info::DepInfo;

/// Adds the declared files to the dep-info that the compiler has written, before cargo reads it. The
/// client's staging directory decides whether it still may: cargo goes on when the client does. A
/// dep-info that is not understood is left alone, as the compile is not stored either.
pub fn amend_dep_info(task: &Task, staging: &Staging) -> io::Result<()> {
    if task.extra_dep_info.is_empty() {
        return Ok(());
    }
    let Some(output) = task.outputs.iter().find(|output| output.kind == OutputKind::DepInfo) else {
        return Ok(());
    };
    let path = place_of(task, output);
    let Ok(mut info) = DepInfo::parse(&fs::read(&path)?) else { return Ok(()) };
    add_declared(task, &mut info);
    staging.write(&path, &info.render(), 0o666 & !task.umask).map_err(io::Error::other)
}

/// Names the declared files in a dep-info, each once.
pub(super) fn add_declared(task: &Task, info: &mut DepInfo) {
    for file in &task.extra_dep_info {
        info.add_file(file.as_os_str().as_bytes());
    }
}
