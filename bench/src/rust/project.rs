//! The projects that are built: directories with a manifest and a lock file, which are copied for each build.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Entries that builds create, which are not part of a project.
const LEFT_OUT: &str = "target";

/// A project with a name for the table.
#[derive(Clone, Debug)]
pub(crate) struct Project {
    pub(crate) name: &'static str,
    dir: PathBuf,
}

impl Project {
    /// The project that `./x demo` builds.
    pub(crate) fn demo(repository: &Path) -> Project {
        Project { name: "demo", dir: repository.join("demo") }
    }

    /// The projects in this repository, the smaller one first.
    pub(crate) fn all(repository: &Path) -> [Project; 2] {
        [Project::demo(repository), Project { name: "large", dir: repository.join("bench/projects/large") }]
    }

    /// Copies the project to a path that does not exist yet.
    pub(crate) fn check_out(&self, to: &Path) -> Result<()> {
        let failed = || format!("failed to copy `{}` to `{}`", self.dir.display(), to.display());
        copy(&self.dir, to).with_context(failed)
    }
}

/// Copies a directory without the entries that builds create.
pub(crate) fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (old, new) = (entry.path(), to.join(entry.file_name()));
        if !entry.file_type()?.is_dir() {
            fs::copy(old, new)?;
        } else if entry.file_name() != LEFT_OUT {
            copy(&old, &new)?;
        }
    }
    Ok(())
}
