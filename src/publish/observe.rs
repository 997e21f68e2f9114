//! Makes observations from the dep-info of a compile.
//!
//! For each module that the dep-info names, the other path at which the compiler looked for it is observed
//! as absent (KEY-03). Every file is read again after the compile; a change since the compiler was started
//! is a refusal (KEY-05).

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use kache_cas::Digest;

use super::path_namer::PathNamer;
use super::refusal::Refusal;
use crate::action::{Observation, Task};
use crate::inputs::{FileState, Input, InputKind, World, WorldError};
use crate::outputs::dep_info::DepInfo;
use crate::roles::Form;

/// The reason why there are no observations.
pub(super) enum ObserveError {
    /// The compile must not be stored.
    Refused(Refusal),
    /// The state of a file could not be read.
    World(WorldError),
}

impl From<WorldError> for ObserveError {
    fn from(error: WorldError) -> Self {
        ObserveError::World(error)
    }
}

impl From<Refusal> for ObserveError {
    fn from(refusal: Refusal) -> Self {
        ObserveError::Refused(refusal)
    }
}

/// Makes observations of the files and variables that the dep-info names. `is_locator` says whether a
/// variable that holds a path of this checkout is a locator (KEY-07); if so, its value has stand-ins.
pub(super) fn observe(
    task: &Task,
    info: &DepInfo,
    inputs: &[Input],
    started: SystemTime,
    is_locator: &dyn Fn(&str) -> bool,
    world: &dyn World,
) -> Result<Vec<Observation>, ObserveError> {
    let namer = PathNamer { task, world };
    let mut observations = Vec::new();
    let is_root = |path| inputs.iter().any(|input| input.kind == InputKind::Source && input.path == path);
    for name in &info.files {
        let place = task.cwd.join(std::ffi::OsStr::from_bytes(name));
        let digest = content(&place, started, world)?;
        observations.extend(namer.of_dep_info(&place, &|path| Observation::File { path, digest })?);
        // The command line names the crate's root module, so the compiler looked for it at one path only.
        if !is_root(task.roots.role_path(&task.cwd, &place)) {
            observations.extend(observe_other_module_path(namer, &place)?);
        }
    }
    for (name, value) in &info.env {
        observations.push(observe_variable(task, name, value.as_deref(), is_locator)?);
    }
    observations.sort();
    observations.dedup();
    Ok(observations)
}

/// The digest of a file that the compiler read. Refuses if the file has changed since the compiler was
/// started.
pub(super) fn content(place: &Path, started: SystemTime, world: &dyn World) -> Result<Digest, ObserveError> {
    let FileState::File { digest, .. } = world.state(place)? else {
        return Err(Refusal::Changed(place.to_owned()).into());
    };
    // The dates are checked after the content was hashed. A change before the hash shows in the dates, and a
    // later one is not in the digest.
    if changed_since(place, started) {
        return Err(Refusal::Changed(place.to_owned()).into());
    }
    Ok(digest)
}

/// Whether a file was written, replaced or touched since `started`, or is gone. The compiler takes longer to
/// start than a clock tick of the filesystem. So a write in the same tick as `started` came before the
/// compiler read the file.
pub(super) fn changed_since(place: &Path, started: SystemTime) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(metadata) = fs::metadata(place) else { return true };
    is_later((metadata.mtime(), metadata.mtime_nsec()), started)
        || is_later((metadata.ctime(), metadata.ctime_nsec()), started)
}

/// Whether the date of a file, in seconds and nanoseconds, is later than a moment.
pub(super) fn is_later(date: (i64, i64), moment: SystemTime) -> bool {
    let since = moment.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    date > (i64::try_from(since.as_secs()).unwrap_or(i64::MAX), i64::from(since.subsec_nanos()))
}

/// Observes the absence of the module's other path. The compiler looked for both `foo.rs` and `foo/mod.rs`.
fn observe_other_module_path(namer: PathNamer<'_>, place: &Path) -> Result<Vec<Observation>, ObserveError> {
    let Some(other) = other_module_path(place) else { return Ok(Vec::new()) };
    match namer.world.state(&other)? {
        FileState::Absent => namer.of_dep_info(&other, &|path| Observation::Absent { path }),
        // Then the compiler did not look for a module here, or it would have reported an error.
        FileState::File { .. } | FileState::Directory => Ok(Vec::new()),
    }
}

/// The other path at which the compiler looked for the module in this file; `None` if the file is no module.
/// For every `mod name;`, also for `lib` and `main`, the compiler looks for `name.rs` and `name/mod.rs`, and
/// reports an error if both exist. A file that `#[path]` or `include!` names has one path only. The name of
/// the file does not show that, and one more absence does no harm.
fn other_module_path(place: &Path) -> Option<PathBuf> {
    let stem = place.file_name()?.to_str()?.strip_suffix(".rs")?;
    let directory = place.parent()?;
    match stem {
        "mod" => Some(directory.with_file_name(format!("{}.rs", directory.file_name()?.to_str()?))),
        stem => Some(directory.join(stem).join("mod.rs")),
    }
}

fn observe_variable(
    task: &Task,
    name: &[u8],
    value: Option<&[u8]>,
    is_locator: &dyn Fn(&str) -> bool,
) -> Result<Observation, Refusal> {
    let Ok(name) = String::from_utf8(name.to_vec()) else {
        return Err(Refusal::UnknownInputs("a variable's name is not UTF-8".to_owned()));
    };
    let Some(value) = value else { return Ok(Observation::Env { name, value: None }) };
    let Some(general) = task.roots.generalise(value, Form::Value) else {
        return Err(Refusal::Unspeakable(format!("the value of `{name}`")));
    };
    let is_locator = general != value && is_locator(&name);
    Ok(Observation::Env { name, value: Some(if is_locator { general } else { value.to_vec() }) })
}

/// Refuses if an input of the key has changed since the key was made (KEY-05).
pub(super) fn recheck(task: &Task, inputs: &[Input], world: &dyn World) -> Result<(), ObserveError> {
    for input in inputs {
        let Some(place) = task.roots.locate(&input.path) else { continue };
        let is_same = matches!(
            world.state(&place)?,
            FileState::File { digest, is_executable }
                if digest == input.digest && is_executable == input.is_executable
        );
        if !is_same {
            return Err(Refusal::Changed(place).into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_03_a_module_has_two_paths() {
        for (place, other) in [
            ("src/foo.rs", Some("src/foo/mod.rs")),
            ("src/foo/mod.rs", Some("src/foo.rs")),
            ("src/lib.rs", Some("src/lib/mod.rs")),
            ("src/main/build.rs", Some("src/main/build/mod.rs")),
            ("data.txt", None),
            ("mod.rs", None),
        ] {
            assert_eq!(other_module_path(Path::new(place)).as_deref(), other.map(Path::new), "{place}");
        }
    }
}
