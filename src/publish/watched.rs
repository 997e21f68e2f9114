//! From what an observed compile asked for to observations: what it found is looked at again,
//! and has to be what it was when the compiler was started (KEY-05).

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::asked::{Asked, Known, asked};
use super::observe::{Trouble, changed_since, observe_file};
use super::refusal::Refusal;
use crate::action::{Observation, Task};
use crate::inputs::{FileState, Input, InputKind, World};
use crate::observer;
use crate::restore::dates::place_of;
use crate::roles::{Form, normalise};

/// More than this is not kept of one compile: a hit has to look at all of it.
const OBSERVATIONS_MAX: usize = 20_000;

/// A compile that was observed.
pub struct Watched<'a> {
    /// The record.
    pub record: &'a [u8],
    /// The compiler's program.
    pub compiler: &'a Path,
    /// The toolchain.
    pub sysroot: &'a Path,
    /// Directories in which it looks for crates.
    pub crate_dirs: &'a [PathBuf],
    /// Where the observer and its records lie.
    pub observer: &'a Path,
    /// Where its temporary files go.
    pub temp_dir: &'a Path,
    /// Whether the key looks at a variable whatever is observed.
    pub is_keyed: &'a dyn Fn(&str) -> bool,
    /// The call's environment.
    pub variable: &'a dyn Fn(&str) -> Option<Vec<u8>>,
}

/// What the dep-info names, and what is therefore observed already.
#[derive(Debug, Default)]
pub(super) struct Named {
    /// Files, as they are named from the call's directory.
    pub(super) files: Vec<PathBuf>,
    /// Variables.
    pub(super) variables: Vec<Vec<u8>>,
}

/// What a watched compile saw beyond its inputs and what the dep-info names.
/// Nothing where the compiler itself noted nothing.
pub(super) fn observe_watched(
    task: &Task,
    watched: &Watched<'_>,
    inputs: &[Input],
    named: &Named,
    started: SystemTime,
    world: &dyn World,
) -> Result<Vec<Observation>, Trouble> {
    let notes =
        observer::parse(watched.record).map_err(|damage| Refusal::UnknownInputs(damage.to_string()))?;
    // Notes are judged in normal form; a call may name a directory by way of `..`.
    let outputs: Vec<PathBuf> =
        task.outputs.iter().map(|output| normalise(&place_of(task, output))).collect();
    let crate_dirs: Vec<PathBuf> = watched.crate_dirs.iter().map(|dir| normalise(dir)).collect();
    let [sysroot, observer, temp_dir] = [watched.sysroot, watched.observer, watched.temp_dir].map(normalise);
    let files = Files::new(task, inputs, &named.files);
    // What `env!` asks for is known from the dep-info, and there whether it only locates (KEY-07).
    let is_named = |name: &str| named.variables.iter().any(|known| known == name.as_bytes());
    let known = Known {
        compiler: &real(watched.compiler),
        sysroot: &sysroot,
        crate_dirs: &crate_dirs,
        observer: &observer,
        temp_dir: &temp_dir,
        is_temporary: &|path| is_temporary(task, &temp_dir, path),
        outputs: &outputs,
        is_input: &|path| files.all.contains(path) || files.all.contains(&real(path)),
        is_linker: &|path| files.linkers.contains(path),
        is_keyed: &|name| is_named(name) || (watched.is_keyed)(name),
        variable: watched.variable,
    };
    let Some(asked) = asked(&notes, &known)? else { return Ok(Vec::new()) };
    if asked.len() > OBSERVATIONS_MAX {
        let why = format!("{} files and variables were asked for beside the known ones", asked.len());
        return Err(Refusal::UnknownInputs(why).into());
    }
    let looker = Looker { task, started, world, temp_dir: &temp_dir };
    looker.look(asked)
}

/// Whether a file lies with the temporary ones, and in no root that lies there itself.
fn is_temporary(task: &Task, temp_dir: &Path, path: &Path) -> bool {
    let dirs = task.roots.iter().map(|root| normalise(&root.dir));
    let mut inner = dirs.filter(|dir| dir != temp_dir && dir.starts_with(temp_dir));
    path.starts_with(temp_dir) && !inner.any(|dir| path.starts_with(dir))
}

/// The path as it is when every link is followed, or as it is given.
fn real(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

/// Files that count already, as they are named and as they are really called: a linker and the
/// key may come to one by different links.
struct Files {
    all: HashSet<PathBuf>,
    linkers: HashSet<PathBuf>,
}

impl Files {
    fn new(task: &Task, inputs: &[Input], sources: &[PathBuf]) -> Files {
        let mut files = Files { all: HashSet::new(), linkers: HashSet::new() };
        for input in inputs {
            let Some(place) = task.roots.locate(&input.path) else { continue };
            if input.kind == InputKind::LinkToolchain {
                files.linkers.extend([real(&place), place.clone()]);
            }
            files.all.extend([real(&place), place]);
        }
        let normal = |source: &PathBuf| task.roots.locate(&task.roots.role_path(&task.cwd, source));
        files.all.extend(sources.iter().filter_map(normal));
        files
    }
}

struct Looker<'a> {
    task: &'a Task,
    started: SystemTime,
    world: &'a dyn World,
    temp_dir: &'a Path,
}

impl Looker<'_> {
    fn look(&self, asked: BTreeSet<Asked>) -> Result<Vec<Observation>, Trouble> {
        let mut seen = Vec::new();
        let mut directories = Vec::new();
        for one in asked {
            match one {
                Asked::Place(path) => match self.world.state(&path)? {
                    FileState::File { .. } => {
                        seen.push(observe_file(self.task, &path, self.started, self.world)?);
                    }
                    FileState::Directory => directories.push(path),
                    FileState::Absent if is_temporary(self.task, self.temp_dir, &path) => {}
                    FileState::Absent => return Err(Refusal::Changed(path).into()),
                },
                Asked::Absence(path) => seen.push(self.absence(path)?),
                Asked::Listing(path) => seen.extend(self.listing(path)?),
                Asked::Made(path) => refuse_if_there(path)?,
                Asked::Variable(name, value) => seen.push(self.variable(name, value)?),
            }
        }
        let there = directories.into_iter().filter(|path| !self.is_there_anyway(path));
        let there = there.map(|path| self.task.roots.role_path(&self.task.cwd, &path));
        seen.extend(there.map(|path| Observation::Directory { path }));
        Ok(seen)
    }

    /// Whether no compile like this one can happen without the directory.
    fn is_there_anyway(&self, directory: &Path) -> bool {
        let roots = self.task.roots.iter().map(|root| &*root.dir);
        roots.chain([&*self.task.cwd]).any(|dir| normalise(dir).starts_with(directory))
    }

    fn absence(&self, path: PathBuf) -> Result<Observation, Trouble> {
        match self.world.state(&path)? {
            FileState::Absent => {
                let path = self.task.roots.role_path(&self.task.cwd, &path);
                Ok(Observation::Absent { path })
            }
            // It came after it was looked for.
            FileState::File { .. } | FileState::Directory => Err(Refusal::Changed(path).into()),
        }
    }

    fn listing(&self, path: PathBuf) -> Result<Option<Observation>, Trouble> {
        let Some(digest) = self.world.listing(&path)? else {
            return match is_temporary(self.task, self.temp_dir, &path) {
                true => Ok(None),
                false => Err(Refusal::Changed(path).into()),
            };
        };
        if changed_since(&path, self.started) {
            return Err(Refusal::Changed(path).into());
        }
        let path = self.task.roots.role_path(&self.task.cwd, &path);
        Ok(Some(Observation::Listing { path, digest }))
    }

    /// Paths of roots have stand-ins, as in the variables of the key: what is found by them is
    /// observed itself, and an output that holds one is found by its bytes (KEY-07, KEY-17).
    fn variable(&self, name: String, value: Option<Vec<u8>>) -> Result<Observation, Refusal> {
        let Some(value) = value else { return Ok(Observation::Env { name, value: None }) };
        match self.task.roots.generalise(&value, Form::Value) {
            Some(general) => Ok(Observation::Env { name, value: Some(general) }),
            None => Err(Refusal::Unspeakable(format!("the value of `{name}`"))),
        }
    }
}

/// A hit would not make it. What is gone again was needed for a moment only.
fn refuse_if_there(path: PathBuf) -> Result<(), Refusal> {
    if path.symlink_metadata().is_ok() { Err(Refusal::Writes(path)) } else { Ok(()) }
}
