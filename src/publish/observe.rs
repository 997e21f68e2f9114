//! What a compile saw, from what the compiler says of it.
//!
//! The dep-info is the source. For each module it names, the other place where the compiler
//! looked for it is noted as empty (KEY-03). All of it is looked at again after the compile:
//! what changed since the compiler was started makes the whole of it worthless (KEY-05).

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use kache_cas::Digest;

use super::places::Namer;
use super::refusal::Refusal;
use crate::action::{Observation, Task};
use crate::inputs::{FileState, Input, InputKind, World, WorldError};
use crate::outputs::dep_info::DepInfo;
use crate::roles::Form;

/// Why there are no observations.
pub(super) enum Trouble {
    Refused(Refusal),
    World(WorldError),
}

impl From<WorldError> for Trouble {
    fn from(error: WorldError) -> Self {
        Trouble::World(error)
    }
}

impl From<Refusal> for Trouble {
    fn from(refusal: Refusal) -> Self {
        Trouble::Refused(refusal)
    }
}

/// What the dep-info says was read. `is_locator` says whether the value of a variable that holds
/// a path of this checkout serves to find files only (KEY-07).
pub(super) fn observe(
    task: &Task,
    info: &DepInfo,
    inputs: &[Input],
    started: SystemTime,
    is_locator: &dyn Fn(&str) -> bool,
    world: &dyn World,
) -> Result<Vec<Observation>, Trouble> {
    let namer = Namer { task, world };
    let mut observations = Vec::new();
    let is_root = |path| inputs.iter().any(|input| input.kind == InputKind::Source && input.path == path);
    for name in &info.files {
        let place = task.cwd.join(std::ffi::OsStr::from_bytes(name));
        let digest = content(&place, started, world)?;
        observations.extend(namer.of_dep_info(&place, &|path| Observation::File { path, digest })?);
        // The compiler was told where the crate's root is, so it looked nowhere else for it.
        if !is_root(task.roots.role_path(&task.cwd, &place)) {
            observations.extend(observe_other_place(namer, &place)?);
        }
    }
    for (name, value) in &info.env {
        observations.push(observe_variable(task, name, value.as_deref(), is_locator)?);
    }
    observations.sort();
    observations.dedup();
    Ok(observations)
}

/// The content of a file that was read.
pub(super) fn content(place: &Path, started: SystemTime, world: &dyn World) -> Result<Digest, Trouble> {
    let FileState::File { digest, .. } = world.state(place)? else {
        return Err(Refusal::Changed(place.to_owned()).into());
    };
    // Looked at after it was read: a change before that shows here, and one after it has not
    // been read.
    if changed_since(place, started) {
        return Err(Refusal::Changed(place.to_owned()).into());
    }
    Ok(digest)
}

/// Whether a file was written, replaced or touched since then. The compiler needs longer to
/// start than the clocks of filesystems are coarse, so what was written before it looked is
/// what it read.
pub(super) fn changed_since(place: &Path, started: SystemTime) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(metadata) = fs::metadata(place) else { return true };
    let started = started.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let started = (i64::try_from(started.as_secs()).unwrap_or(i64::MAX), i64::from(started.subsec_nanos()));
    (metadata.mtime(), metadata.mtime_nsec()) > started || (metadata.ctime(), metadata.ctime_nsec()) > started
}

/// `foo.rs` and `foo/mod.rs` are the same module, and the compiler looked at both places.
fn observe_other_place(namer: Namer<'_>, place: &Path) -> Result<Vec<Observation>, Trouble> {
    let Some(other) = other_place(place) else { return Ok(Vec::new()) };
    match namer.world.state(&other)? {
        FileState::Absent => namer.of_dep_info(&other, &|path| Observation::Absent { path }),
        // Then it was no module that was looked for.
        FileState::File { .. } | FileState::Directory => Ok(Vec::new()),
    }
}

/// Where the compiler would also have looked for the module that is in this file. It does so for
/// every `mod name;` whatever the name is, `lib` and `main` included: of `a/name.rs` and
/// `a/name/mod.rs` it looks at both, and reports an error if both are there. A file that `#[path]`
/// or `include!` names is looked for at one place only; that cannot be told from its name, and one
/// more absence does no harm.
fn other_place(place: &Path) -> Option<PathBuf> {
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

/// Makes sure that the inputs which entered the key are what they were (KEY-05).
pub(super) fn recheck(task: &Task, inputs: &[Input], world: &dyn World) -> Result<(), Trouble> {
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
    fn key_03_a_module_has_two_places() {
        for (place, other) in [
            ("src/foo.rs", Some("src/foo/mod.rs")),
            ("src/foo/mod.rs", Some("src/foo.rs")),
            ("src/lib.rs", Some("src/lib/mod.rs")),
            ("src/main/build.rs", Some("src/main/build/mod.rs")),
            ("data.txt", None),
            ("mod.rs", None),
        ] {
            assert_eq!(other_place(Path::new(place)).as_deref(), other.map(Path::new), "{place}");
        }
    }
}
