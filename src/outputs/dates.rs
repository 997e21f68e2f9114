//! Decides which outputs of a compile may share an inode with the store, and which dates they get.
//!
//! An inode has one date for all checkouts that share it. So the date of a shared file is a constant
//! in the past, which is right in all of them and never changes (RST-02, RST-12). Cargo takes a unit
//! for stale if a file that it depends on is newer than its newest output. Therefore a unit whose
//! outputs all have the constant date may only depend on files with the constant date; every other
//! unit needs an output with the current date.
//!
//! - If the filesystem has reflinks, every file has an inode of its own and the current date.
//! - Else a unit with metadata and a library shares the library. Its metadata gets the current date,
//!   which makes the unit as new as it is.
//! - A package that cargo takes for immutable shares all outputs, if everything that it depends on has
//!   the constant date: its externs, and the `output` file of its build script, which gets that date
//!   for this purpose. That is right because cargo looks at no date below `$CARGO_HOME/registry` and
//!   `git`; it only compares the dates of the outputs with each other.
//! - All other files share their inode with the store and with no other checkout. A program is then
//!   on the disk once for each checkout, and not once more for the store.

use std::fs::{self, File, FileTimes, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use kache_cas::{Link, LocalFiles, PlaceOptions, Sharing};

use super::build_script;
use super::staging::Staging;
use crate::action::{Origin, Output, OutputKind, Task};
use crate::roles::Role;

/// The date of all shared files, in seconds since 1970: in September 2001, before any compile.
pub const CONSTANT_DATE_S: u64 = 1_000_000_000;

/// The date of all shared files.
pub fn constant_date() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(CONSTANT_DATE_S)
}

/// How the files of one compile are dated and shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dating {
    /// Every file has the current date and shares its inode with no other checkout. The value says
    /// what it shares with the store.
    Own(Sharing),
    /// Libraries are shared with other checkouts. The metadata is not, and has the current date.
    Libraries,
    /// All outputs are shared with other checkouts, but for the dep-info and debug information.
    Everything,
}

/// Decides how the files of a compile are dated and shared. `most` is the closest sharing that is
/// allowed.
///
/// If the decision is [`Dating::Everything`], this has given the build script's `output` file the
/// constant date, because the decision is right only then. In a restore that goes through the client's
/// staging directory; `staging` is `None` when a result is stored.
pub fn decide(
    task: &Task,
    files: &dyn LocalFiles,
    is_rebuild: bool,
    staging: Option<&Staging>,
    most: Sharing,
) -> Dating {
    if most != Sharing::Hardlink {
        return Dating::Own(most);
    }
    let own = Dating::Own(Sharing::Exclusive);
    let Some(directory) = output_directory(task) else { return own };
    // Shared files are checked in target directories only.
    if task.roots.dir(Role::Target).is_none_or(|target| !directory.starts_with(target)) {
        return own;
    }
    let directory = staging.map_or(Ok(&*directory), Staging::dir);
    // After an error nothing is shared, which is always right.
    let shared = directory.ok().map(|directory| files.shares(directory));
    if !matches!(shared, Some(Ok(Link::Hardlink))) {
        return own;
    }
    let has = |kind| task.outputs.iter().any(|output| output.kind == kind);
    if task.origin == Origin::Immutable
        && !is_rebuild
        && may_share_everything(task)
        && date_build_script_output(task, staging)
    {
        return Dating::Everything;
    }
    // Cargo takes the newest output of a unit for its age, so the metadata alone may bear it.
    if has(OutputKind::Rlib) && has(OutputKind::Metadata) { Dating::Libraries } else { own }
}

/// Whether this unit was made in this target directory before. If so, units that were compiled against
/// the old outputs may still exist, and cargo must see that the new outputs are newer.
pub fn is_rebuild(task: &Task) -> bool {
    let dep_info = task.outputs.iter().find(|output| output.kind == OutputKind::DepInfo);
    // Cargo keeps the dep-info when it removes the other outputs. After an error the unit counts as
    // made before.
    dep_info.is_none_or(|output| match fs::symlink_metadata(&output.path) {
        Ok(_) => true,
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    })
}

fn output_directory(task: &Task) -> Option<PathBuf> {
    let first = task.outputs.iter().find(|output| output.kind != OutputKind::DepInfo)?;
    first.path.parent().map(Path::to_owned)
}

/// Whether all outputs may have the constant date: everything that the unit depends on has it, or, in
/// the case of the build script's `output`, may get it.
fn may_share_everything(task: &Task) -> bool {
    let kinds = || task.outputs.iter().map(|output| output.kind);
    let is_known = |kind| {
        matches!(
            kind,
            OutputKind::DepInfo
                | OutputKind::Metadata
                | OutputKind::Rlib
                | OutputKind::SharedLibrary
                | OutputKind::Executable
                | OutputKind::Debug
        )
    };
    let is_linked =
        |kind| matches!(kind, OutputKind::Rlib | OutputKind::SharedLibrary | OutputKind::Executable);
    // A unit with metadata only comes from `cargo check`. Cargo sets the date of that file itself, and
    // so would change it in all checkouts.
    kinds().all(is_known)
        && kinds().any(is_linked)
        && task.depends_on.iter().all(|path| is_dated(&task.cwd.join(path)))
        && task.earlier_step.as_ref().is_none_or(|output| build_script::may_have_constant_date(task, output))
}

/// Gives the build script's `output` the constant date, if the unit has one. Returns whether the file
/// has that date now.
fn date_build_script_output(task: &Task, staging: Option<&Staging>) -> bool {
    let output = task.earlier_step.as_ref();
    output.is_none_or(|output| build_script::give_constant_date(task, output, staging))
}

/// Whether a dependency has the constant date. Beside a library, the metadata needs that date, too,
/// because cargo goes by the newest output of a unit.
fn is_dated(path: &Path) -> bool {
    let is_library = path.extension().is_some_and(|extension| extension == "rlib");
    has_constant_date(path) == Some(true)
        && (!is_library || has_constant_date(&path.with_extension("rmeta")) != Some(false))
}

/// Whether a file has the constant date; `None` if there is no file or it cannot be looked at.
pub(super) fn has_constant_date(path: &Path) -> Option<bool> {
    let metadata = fs::metadata(path).ok()?;
    Some(metadata.modified().ok()? == constant_date())
}

/// Gives a file the constant date.
pub(super) fn set_constant_date(path: &Path, staging: Option<&Staging>) -> io::Result<()> {
    if let Some(staging) = staging {
        return staging.set_date(path, constant_date());
    }
    File::open(path)?.set_times(FileTimes::new().set_modified(constant_date()))
}

/// Gives a file the mode and the date that a placing asks for.
pub fn set_mode_and_date(file: &File, placing: &PlaceOptions<'_>) -> io::Result<()> {
    if let Some(modified) = placing.modified {
        file.set_times(FileTimes::new().set_modified(modified))?;
    }
    file.set_permissions(Permissions::from_mode(placing.mode))
}

/// How one output is placed in the checkout. The mode is the one that the compiler would have given
/// under the client's umask (RST-04). Only a shared `rlib` is read-only, so that no tool writes to it
/// by mistake.
pub fn placing(task: &Task, output: &Output, dating: Dating) -> PlaceOptions<'static> {
    let mode = if output.kind.is_executable() { 0o777 } else { 0o666 } & !task.umask;
    let sharing = match (dating, output.kind) {
        // Compilers overwrite an existing dep-info in place, so it is never shared.
        (_, OutputKind::DepInfo) => Sharing::Private,
        (Dating::Own(most), _) => most,
        (Dating::Everything, kind) if kind != OutputKind::Debug => Sharing::Hardlink,
        (Dating::Libraries, OutputKind::Rlib) => Sharing::Hardlink,
        _ => Sharing::Exclusive,
    };
    if sharing != Sharing::Hardlink {
        return PlaceOptions { mode, modified: None, sharing, staging: None };
    }
    let mode = if output.kind == OutputKind::Rlib { mode & !0o222 } else { mode };
    PlaceOptions { mode, modified: Some(constant_date()), sharing, staging: None }
}
