//! Which files of a compile may be the store's own inodes, and which dates they bear.
//!
//! An inode has one date for all checkouts that share it, so it must be one that is right in
//! all of them and never changes: a constant in the past (RST-02, RST-12). Cargo takes a
//! unit for stale when something it depends on is newer than its newest output. So a file
//! with the constant date only ever stands on others with the constant date, or beside an
//! output that is dated now.
//!
//! - Where blocks can be shared (reflink), every file is a checkout's own, dated now.
//! - Else libraries are shared whose metadata, dated now, speaks for the unit.
//! - Else, for packages that cargo takes for immutable, everything is, if all that it stands
//!   on bears the constant date: its externs, and the `output` file of its build script,
//!   which is dated for the purpose. Cargo only compares that date with its neighbours',
//!   because it looks at no date below `$CARGO_HOME/registry` and `git`.
//! - What no two checkouts may share, the store and one of them do, for as long as no other
//!   name of the inode exists: a program is on the disk once for each checkout, and not once
//!   more for the store.

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

/// The one date, in seconds since the Unix epoch: in September 2001, before any compile.
pub const CONSTANT_DATE_S: u64 = 1_000_000_000;

/// The one date.
pub fn constant_date() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(CONSTANT_DATE_S)
}

/// How the files of one compile are dated and shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dating {
    /// Every file is this checkout's own, dated now. It shares with the store what this says,
    /// and its inode with no other checkout.
    Own(Sharing),
    /// Libraries are shared; what speaks for the unit's age is this checkout's own.
    Libraries,
    /// Everything but the dep-info is shared.
    Everything,
}

/// Decides, and dates the build script's `output` where that is part of it: by way of the client's
/// staging directory, where files are laid down for a client. `most` is what may be shared at most.
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
    // Nobody checks files outside of a target directory.
    if task.roots.dir(Role::Target).is_none_or(|target| !directory.starts_with(target)) {
        return own;
    }
    let directory = staging.map_or(Ok(&*directory), Staging::dir);
    // Trouble with telling is no trouble: what is a checkout's own is right everywhere.
    let shared = directory.ok().map(|directory| files.shares(directory));
    if !matches!(shared, Some(Ok(Link::Hardlink))) {
        return own;
    }
    let has = |kind| task.outputs.iter().any(|output| output.kind == kind);
    if task.origin == Origin::Immutable && !is_rebuild && is_one_date_possible(task, staging) {
        return Dating::Everything;
    }
    if has(OutputKind::Rlib) && has(OutputKind::Metadata) { Dating::Libraries } else { own }
}

/// Whether this unit was made in this target directory before. Then what depends on it may
/// still be as it was, and must see that this is newer.
pub fn is_rebuild(task: &Task) -> bool {
    let dep_info = task.outputs.iter().find(|output| output.kind == OutputKind::DepInfo);
    // `.d` stays when cargo removes the rest. What cannot be looked at counts as there.
    dep_info.is_none_or(|output| match fs::symlink_metadata(place_of(task, output)) {
        Ok(_) => true,
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    })
}

/// Where an output lies.
pub fn place_of(task: &Task, output: &Output) -> PathBuf {
    task.cwd.join(&output.path)
}

fn output_directory(task: &Task) -> Option<PathBuf> {
    let first = task.outputs.iter().find(|output| output.kind != OutputKind::DepInfo)?;
    place_of(task, first).parent().map(Path::to_owned)
}

fn is_one_date_possible(task: &Task, staging: Option<&Staging>) -> bool {
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
    // Metadata alone is `cargo check`'s, which dates it itself, through whatever inode.
    kinds().all(is_known)
        && kinds().any(is_linked)
        && task.depends_on.iter().all(|path| is_dated(&task.cwd.join(path)))
        && task.build_script_output.as_ref().is_none_or(|output| build_script::date(task, output, staging))
}

/// Whether a dependency bears the constant date: the file itself, and the metadata beside a
/// library, because cargo goes by the newest output of a unit.
fn is_dated(path: &Path) -> bool {
    let is_library = path.extension().is_some_and(|extension| extension == "rlib");
    has_constant_date(path) == Some(true)
        && (!is_library || has_constant_date(&path.with_extension("rmeta")) != Some(false))
}

/// `None` where there is no file, or none that can be looked at.
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

/// Gives a file the mode and date that it is to be shared with.
pub fn dress(path: &Path, placing: &PlaceOptions<'_>) -> io::Result<()> {
    let file = File::open(path)?;
    if let Some(modified) = placing.modified {
        file.set_times(FileTimes::new().set_modified(modified))?;
    }
    file.set_permissions(Permissions::from_mode(placing.mode))
}

/// How one output is laid down. The mode is what the compiler would have given under the
/// caller's umask (RST-04), but for shared libraries of crates, which nobody writes to: they
/// are read-only, so that nobody does.
pub fn placing(task: &Task, output: &Output, dating: Dating) -> PlaceOptions<'static> {
    let mode = if output.kind.is_executable() { 0o777 } else { 0o666 } & !task.umask;
    let sharing = match (dating, output.kind) {
        // Compilers write it in place.
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
