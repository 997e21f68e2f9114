//! Adds the declared inputs of a package (`extra_inputs`) to the dep-info that the compiler wrote, so that
//! the build tool compiles the unit again when one of them changes. A restored dep-info names them already.

use std::fs;
use std::io;

use crate::action::{OutputKind, Task};
use crate::outputs::Staging;
use crate::outputs::dep_info::DepInfo;

/// Adds the declared inputs to the compiler's dep-info, before the build tool reads it. The new file passes through
/// the client's staging directory: if the client has continued without the daemon, the directory is gone
/// and nothing is changed. A dep-info that cannot be parsed stays as it is; that compile is not stored.
pub fn amend_dep_info(task: &Task, staging: &Staging) -> io::Result<()> {
    if task.extra_dep_info.is_empty() {
        return Ok(());
    }
    let Some(output) = task.outputs.iter().find(|output| output.kind == OutputKind::DepInfo) else {
        return Ok(());
    };
    let path = &output.path;
    let Ok(mut info) = DepInfo::parse(&fs::read(path)?) else { return Ok(()) };
    info.add_files(&task.extra_dep_info);
    // The client's umask decides, as for the compiler's own file: the daemon has an umask of its own.
    staging.write(path, &info.render(), 0o666 & !task.umask).map_err(io::Error::other)
}
