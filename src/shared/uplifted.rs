//! Where cargo gives outputs a second name.
//!
//! Cargo links outputs of members from `deps` into the directory above, without the hash in the name. A tool that
//! changes such a file changes what lies in `deps`, but the system reports the change for the name that was used.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// The name of the directory of most outputs.
const DEPS: &str = "deps";

/// The directories in which these files lie, and those in which cargo may have linked them.
pub(super) fn directories<'a>(files: impl Iterator<Item = &'a PathBuf>) -> HashSet<PathBuf> {
    let mut unique: HashSet<&Path> = files.filter_map(|path| path.parent()).collect();
    let deps = unique.iter().filter(|directory| directory.ends_with(DEPS));
    let above: Vec<_> = deps.filter_map(|directory| directory.parent()).collect();
    unique.extend(above);
    unique.into_iter().map(Path::to_owned).collect()
}

/// Whether this file lies where cargo makes no second names.
pub(super) fn is_first_name(below: &Path) -> bool {
    below.parent().is_some_and(|directory| directory.ends_with(DEPS))
}
