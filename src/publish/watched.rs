//! Turns the record of an observed compile into observations.
//!
//! `accesses.rs` and `unobserved.rs` judge the notes of the record. This file reads the file or variable of
//! each remaining access again and makes observations from its current state. Invariant: that state is the
//! one at the compiler's start, or the compile is refused (KEY-05). The exception is that a directory was no
//! link: the dates of a directory change with its entries, so they tell nothing about that.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

use super::accesses::{AccessRules, CompileContext, ObservedAccess, remaining_accesses};
use super::observe::{ObserveError, changed_since, content, is_later};
use super::path_namer::{MakeObservation, PathNamer};
use super::refusal::Refusal;
use super::scan::{RootDir, Scanner};
use super::unobserved::unobserved_program;
use crate::action::{CallEnv, Entry, Observation, Task, is_imported, names_digest};
use crate::inputs::{FileState, Input, InputKind, World, WorldError, is_sealed};
use crate::observer::{self, Note, NoteKind, is_made_up};
use crate::roles::{Form, Role, Root, normalise};

/// The largest number of accesses of a stored compile. A lookup has to check all of them.
const OBSERVATIONS_MAX: usize = 20_000;

/// A compile that was observed.
pub struct Watched<'a> {
    /// The bytes of the observer's record.
    pub record: &'a [u8],
    /// The rules of the compiler's adapter for accesses.
    pub rules: &'a AccessRules,
    /// The path of the compiler's program.
    pub compiler: &'a Path,
    /// The directory of the toolchain.
    pub sysroot: &'a Path,
    /// The directories in which the compiler looks for outputs of other compiles.
    pub library_dirs: &'a [PathBuf],
    /// The observer's library and the directory of its records.
    pub observer: &'a [PathBuf],
    /// The directory of temporary files.
    pub temp_dir: &'a Path,
    /// Whether a variable is in the key of every compile.
    pub is_keyed: &'a dyn Fn(&str) -> bool,
    /// The call's environment.
    pub env: &'a dyn CallEnv,
    /// Programs that were recognised as compilers and linkers by their content.
    pub known_linkers: &'a [PathBuf],
    /// Makes the text of the key. It is called only if a directory's name is in an output.
    pub key: &'a dyn Fn() -> Vec<Entry>,
}

/// The observations of an observed compile.
pub(super) struct WatchedReads {
    /// The reads of the compile that neither the key nor the dep-info has.
    pub(super) observations: Vec<Observation>,
    /// The directories whose paths a macro has read. It may have taken a name out of such a path.
    pub(super) disclosed: BTreeSet<RootDir>,
}

/// The files and variables that the dep-info names. They have observations already.
#[derive(Debug, Default)]
pub(super) struct DepInfoNames {
    /// The absolute paths of the files.
    pub(super) files: Vec<PathBuf>,
    /// The names of the variables.
    pub(super) variables: Vec<Vec<u8>>,
}

/// Makes observations from the record of an observed compile. Refuses if the record is damaged, a program
/// could not be observed, or something has changed since the compiler was started.
pub(super) fn observe_watched(
    task: &Task,
    watched: &Watched<'_>,
    inputs: &[Input],
    named: &DepInfoNames,
    started: SystemTime,
    world: &dyn World,
) -> Result<WatchedReads, ObserveError> {
    let notes =
        observer::parse(watched.record).map_err(|damage| Refusal::UnknownInputs(damage.to_string()))?;
    // The rules compare paths in normal form, and a call may name a directory with `..`.
    let outputs: Vec<PathBuf> = task.outputs.iter().map(|output| normalise(&output.path)).collect();
    let library_dirs: Vec<PathBuf> = watched.library_dirs.iter().map(|dir| normalise(dir)).collect();
    let [sysroot, temp_dir] = [watched.sysroot, watched.temp_dir].map(normalise);
    let observer: Vec<PathBuf> = watched.observer.iter().map(|place| normalise(place)).collect();
    let files = KeyedFiles::new(task, inputs, &named.files);
    let known_linkers: HashSet<PathBuf> = watched.known_linkers.iter().map(|path| real(path)).collect();
    // Variables that `env!` reads are in the dep-info. They have observations already, and the ones that are
    // locators have stand-ins there (KEY-07).
    let is_named = |name: &str| named.variables.iter().any(|known| known == name.as_bytes());
    let compile = CompileContext {
        rules: watched.rules,
        compiler: &real(watched.compiler),
        sysroot: &sysroot,
        library_dirs: &library_dirs,
        observer: &observer,
        temp_dir: &temp_dir,
        is_temporary: &|path| is_temporary(task, &temp_dir, path),
        outputs: &outputs,
        normal_form: &normal_form,
        is_made_by_kernel: &is_made_by_kernel,
        is_input: &|path| files.all.contains(path) || files.by_any_link.contains(&real(path)),
        is_linker: &|path| files.linkers.contains(path) && known_linkers.contains(path),
        may_read_environment: &may_read_environment,
        is_keyed: &|name| is_named(name) || (watched.is_keyed)(name),
        is_sealed_script: &|path| files.linkers.contains(path) && is_sealed(&real(path)),
        env_value: &|name| watched.env.value(name),
    };
    if let Some(why) = unobserved_program(&notes, &|program| is_resolved(program, &compile)) {
        return Err(Refusal::UnknownInputs(why).into());
    }
    let Some(accesses) = remaining_accesses(&notes, &compile)? else {
        return Err(Refusal::UnknownInputs("the compiler could not be observed".to_owned()).into());
    };
    if accesses.len() > OBSERVATIONS_MAX {
        let why = format!("the compile read {} files and variables that are not in the key", accesses.len());
        return Err(Refusal::UnknownInputs(why).into());
    }
    let (is_keyed, is_linker) = (compile.is_keyed, compile.is_linker);
    let texts = access_texts(&notes, &accesses);
    let (texts, accesses, env) = (&texts, &accesses, watched.env);
    let observer = AccessObserver {
        task,
        started,
        world,
        temp_dir: &temp_dir,
        env,
        is_keyed,
        is_linker,
        texts,
        accesses,
    };
    let disclosed = observer.disclosed(&notes);
    Ok(WatchedReads { observations: observer.observe()?, disclosed })
}

/// Whether a library can read the list of all variables, as the standard library does for `env::vars` and to
/// start programs. A plugin is linked only with those parts of the standard library that it uses, so the
/// symbols that it imports decide. A library that cannot be parsed counts as one that can.
fn may_read_environment(library: &Path) -> bool {
    const NAMES: &[&[u8]] = &[b"environ", b"__environ", b"_environ"];
    let content = fs::read(library).unwrap_or_default();
    let imports = observer::Elf::read(&content).and_then(observer::Elf::imports);
    imports.is_none_or(|imports| imports.iter().any(|name| NAMES.contains(name)))
}

/// Whether everything that a program reads is in the key: it is a linker or a part of the toolchain. A
/// program that was started by its bare name is searched for in `PATH`, as the C library does.
fn is_resolved(program: &Path, compile: &CompileContext<'_>) -> bool {
    let is_keyed_program = |path: &Path| {
        (compile.is_linker)(&real(path)) || real(path).starts_with(compile.sysroot.join("lib/rustlib"))
    };
    if program.is_absolute() {
        return is_keyed_program(program);
    }
    let path = (compile.env_value)("PATH").unwrap_or_default();
    let dirs = path.split(|byte| *byte == b':').map(|dir| Path::new(OsStr::from_bytes(dir)));
    dirs.map(|dir| dir.join(program)).find(|path| path.exists()).is_some_and(|path| is_keyed_program(&path))
}

/// Whether a path is in the directory of temporary files, and in no root that is in that directory.
fn is_temporary(task: &Task, temp_dir: &Path, path: &Path) -> bool {
    let dirs = task.roots.iter().map(|root| normalise(&root.dir));
    let mut inner = dirs.filter(|dir| dir != temp_dir && dir.starts_with(temp_dir));
    path.starts_with(temp_dir) && !inner.any(|dir| path.starts_with(dir))
}

/// The path with every link followed, or the given path if nothing exists there.
fn real(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

/// Files that have an observation already or are inputs of the key.
struct KeyedFiles {
    /// The files under their paths as named, in normal form, and with links followed.
    all: HashSet<PathBuf>,
    /// Libraries and programs, with links followed. The compiler or the linker may reach one by another link
    /// than the key. Sources are not among them: if a macro reads a source through a link, the target of the
    /// link counts, and the content of the file does not show it.
    by_any_link: HashSet<PathBuf>,
    /// The files of the link toolchain.
    linkers: HashSet<PathBuf>,
}

impl KeyedFiles {
    fn new(task: &Task, inputs: &[Input], sources: &[PathBuf]) -> KeyedFiles {
        let mut files =
            KeyedFiles { all: HashSet::new(), by_any_link: HashSet::new(), linkers: HashSet::new() };
        for input in inputs {
            let Some(place) = task.roots.locate(&input.path) else { continue };
            if input.kind == InputKind::LinkToolchain {
                files.linkers.extend([real(&place), normalise(&place), place.clone()]);
            }
            if !matches!(input.kind, InputKind::Source | InputKind::Declared) {
                files.by_any_link.insert(real(&place));
            }
            files.all.extend([real(&place), normalise(&place), place]);
        }
        files.all.extend(sources.iter().map(|source| normalise(&task.cwd.join(source))));
        files
    }
}

/// The texts by which programs accessed each of the paths. A text such as `/home/ada/ws/../x` shows that the
/// path was reached from the root `/home/ada/ws`; its normal form `/home/ada/x` does not show it.
fn access_texts<'n>(
    notes: &'n [Note],
    accesses: &BTreeSet<ObservedAccess>,
) -> HashMap<PathBuf, Vec<&'n Path>> {
    let path_of = |access: &ObservedAccess| match access {
        ObservedAccess::Present(path)
        | ObservedAccess::Absent(path)
        | ObservedAccess::Listing(path)
        | ObservedAccess::Updated(path)
        | ObservedAccess::Obstacle(path)
        | ObservedAccess::Link(path)
        | ObservedAccess::Resolved(path)
        | ObservedAccess::Library(path) => Some(path.clone()),
        ObservedAccess::Created(_)
        | ObservedAccess::ProgramSearch(_)
        | ObservedAccess::Variable(..)
        | ObservedAccess::Environment
        | ObservedAccess::WorkingDir(_) => None,
    };
    let mut texts: HashMap<PathBuf, Vec<&Path>> =
        accesses.iter().filter_map(path_of).map(|path| (path, Vec::new())).collect();
    for note in notes.iter().filter(|note| note.kind != NoteKind::Variable) {
        let text = Path::new(OsStr::from_bytes(&note.name));
        if let Some(of_path) = texts.get_mut(&normal_form(text).0)
            && !of_path.contains(&text)
        {
            of_path.push(text);
        }
    }
    texts
}

/// The kernel follows no more links than this to find one path.
const LINKS_MAX: usize = 40;

/// Makes observations from the accesses of one compile.
struct AccessObserver<'a> {
    task: &'a Task,
    started: SystemTime,
    world: &'a dyn World,
    temp_dir: &'a Path,
    env: &'a dyn CallEnv,
    is_keyed: &'a dyn Fn(&str) -> bool,
    texts: &'a HashMap<PathBuf, Vec<&'a Path>>,
    accesses: &'a BTreeSet<ObservedAccess>,
    is_linker: &'a dyn Fn(&Path) -> bool,
}

impl AccessObserver<'_> {
    /// The observations of a path, one for each path by role under which another checkout may access it.
    fn by_role(&self, path: &Path, make: MakeObservation<'_>) -> Result<Vec<Observation>, ObserveError> {
        let texts = self.texts.get(path).map(Vec::as_slice).unwrap_or_default();
        let namer = PathNamer { task: self.task, world: self.world };
        let texts = if texts.is_empty() { std::slice::from_ref(&path) } else { texts };
        let mut observations = namer.of_access(path, texts, make)?;
        if self.was_searched_for(path) {
            namer.searched(path, self.task.roots.names_by_search(path), make, &mut observations)?;
        }
        Ok(observations)
    }

    /// Whether this is the last path of an upward search. An upward search for `etc/x.toml` ends at
    /// `/etc/x.toml`, which looks like a file of the system. It is recognised by the vain access to the same
    /// name in the directory above a root.
    fn was_searched_for(&self, path: &Path) -> bool {
        let Ok(name) = path.strip_prefix("/") else { return false };
        self.task.roots.iter().any(|root| {
            let above = self.task.roots.dir_above(root.role, 1);
            above.is_some_and(|dir| self.accesses.contains(&ObservedAccess::Absent(dir.join(name))))
        })
    }

    /// The directories whose paths are in a variable that a macro read, in the text of a link that was read, or
    /// in a path that was resolved. The observations of variables and links have stand-ins for roots, so they hold in every
    /// checkout; a name that a macro takes out of such a path has to be found in the outputs.
    fn disclosed(&self, notes: &[Note]) -> BTreeSet<RootDir> {
        let mut scanner = Scanner::new(&self.task.roots, &self.task.cwd);
        let of_macros = |note: &&Note| note.kind == NoteKind::Variable && note.is_from_late_library;
        notes.iter().filter(of_macros).for_each(|note| scanner.look(&note.value));
        for access in self.accesses {
            match access {
                ObservedAccess::Environment => {
                    let names = self.env.names().into_iter().filter_map(|name| String::from_utf8(name).ok());
                    names.filter_map(|name| self.env.value(&name)).for_each(|value| scanner.look(&value));
                }
                ObservedAccess::Link(path) => {
                    let text = fs::read_link(path).unwrap_or_default();
                    scanner.look(text.as_os_str().as_bytes());
                }
                ObservedAccess::Resolved(path) => {
                    let real = fs::canonicalize(path).unwrap_or_default();
                    scanner.look(real.as_os_str().as_bytes());
                }
                _ => {}
            }
        }
        scanner.found()
    }

    /// The observations of all accesses. Directories come last, because one that lies above a root or above
    /// the call's directory exists in every call and needs no observation.
    fn observe(&self) -> Result<Vec<Observation>, ObserveError> {
        // A file that the compile left behind explains a refusal best, so these come first.
        for access in self.accesses {
            if let ObservedAccess::Created(path) = access {
                refuse_if_present(path)?;
            }
        }
        let mut seen = Vec::new();
        let mut directories = Vec::new();
        for link in self.links_in_paths() {
            seen.extend(self.link(link)?);
        }
        for access in self.accesses.iter().cloned() {
            match access {
                ObservedAccess::Present(path) => self.presence(path, &mut seen, &mut directories)?,
                ObservedAccess::Absent(path) => seen.extend(self.absence(path)?),
                ObservedAccess::Listing(path) => seen.extend(self.listing(path)?),
                ObservedAccess::Created(_) => {}
                ObservedAccess::Updated(path) => seen.extend(self.updated(path)?),
                ObservedAccess::Obstacle(path) => match self.world.state(&path)? {
                    FileState::Absent => seen.extend(self.absence(path)?),
                    _ => self.presence(path, &mut seen, &mut directories)?,
                },
                ObservedAccess::Link(path) => seen.extend(self.link_or_none(&path)?),
                ObservedAccess::Resolved(path) => seen.extend(self.resolved(&path)?),
                ObservedAccess::ProgramSearch(name) => {
                    self.program_search(&name, &mut seen, &mut directories)?;
                }
                ObservedAccess::Library(path) => {
                    seen.extend(self.earlier_libraries(&path)?);
                    self.presence(path, &mut seen, &mut directories)?;
                }
                ObservedAccess::Variable(name, value) => seen.push(self.variable(name, value)?),
                ObservedAccess::Environment => seen.extend(self.environment()?),
                ObservedAccess::WorkingDir(dir) => seen.extend(self.working_dir(&dir)),
            }
        }
        for path in directories.into_iter().filter(|path| !self.is_in_every_call(path)) {
            seen.extend(self.by_role(&path, &|path| Observation::Directory { path })?);
        }
        Ok(seen)
    }

    /// Observes something that existed; a directory is only added to `directories`. A link without a target
    /// exists, too, and the absence of its target counts.
    fn presence(
        &self,
        path: PathBuf,
        seen: &mut Vec<Observation>,
        directories: &mut Vec<PathBuf>,
    ) -> Result<(), ObserveError> {
        match self.world.state(&path)? {
            FileState::File { .. } => seen.extend(self.file(&path)?),
            FileState::Directory => directories.push(path),
            FileState::Absent if path.is_symlink() => seen.extend(self.absence(path)?),
            FileState::Absent if is_temporary(self.task, self.temp_dir, &path) => {}
            FileState::Absent => return Err(Refusal::Changed(path).into()),
        }
        Ok(())
    }

    /// Observes a file that was read. If its content holds the path of a root, the result is bound to that
    /// path: a macro may have found other files by it, and the same file in another checkout would lead to
    /// this one. A file of the system is not searched.
    fn file(&self, path: &Path) -> Result<Vec<Observation>, ObserveError> {
        let digest = content(path, self.started, self.world)?;
        let mut seen = self.by_role(path, &|path| Observation::File { path, digest })?;
        let role = self.task.roots.role_path(&self.task.cwd, path).role();
        let is_of_system = role == Role::Absolute && seen.len() == 1;
        if !is_of_system {
            let mut scanner = Scanner::new(&self.task.roots, &self.task.cwd);
            scanner.scan(path).map_err(|source| WorldError { path: path.to_owned(), source })?;
            let dirs = scanner.found().into_iter();
            seen.extend(dirs.filter_map(|dir| dir.binding(self.task, self.world)));
        }
        Ok(seen)
    }

    /// Observes a file that was opened for writing. Its content counts if it is unchanged; else the compile
    /// is refused, because a hit would not change the file.
    fn updated(&self, path: PathBuf) -> Result<Vec<Observation>, ObserveError> {
        match self.world.state(&path)? {
            FileState::File { .. } if !changed_since(&path, self.started) => self.file(&path),
            FileState::Directory => Ok(Vec::new()),
            FileState::File { .. } | FileState::Absent => Err(Refusal::Writes(path).into()),
        }
    }

    /// Observes the text of a link; no observation if there is no link at this path.
    fn link(&self, path: PathBuf) -> Result<Vec<Observation>, ObserveError> {
        let Some(text) = self.world.link(&path)? else { return Ok(Vec::new()) };
        if link_changed_since(&path, self.started) {
            return Err(Refusal::Changed(path).into());
        }
        let Some(text) = self.task.roots.generalise(&text, Form::Value) else {
            return Err(Refusal::Unspeakable(format!("the link `{}`", path.display())).into());
        };
        self.by_role(&path, &|path| Observation::Link { path, text: text.clone() })
    }

    /// Observes the text of a link, or that a path in the checkout is no link. Outside of the checkout only
    /// links are observed: every checkout finds the same directories there.
    fn link_or_none(&self, path: &Path) -> Result<Vec<Observation>, ObserveError> {
        let links = self.link(path.to_owned())?;
        let is_none = links.is_empty() && self.is_in_checkout(path);
        if !is_none || self.world.state(path)? == FileState::Absent {
            return Ok(links);
        }
        if path.is_file() && link_changed_since(path, self.started) {
            return Err(Refusal::Changed(path.to_owned()).into());
        }
        self.by_role(path, &|path| Observation::Link { path, text: Vec::new() })
    }

    /// Observes, for each path in the checkout that is passed when this path is resolved, the text of the link
    /// there, or that it is no link.
    fn resolved(&self, path: &Path) -> Result<Vec<Observation>, ObserveError> {
        let parts = |path: &Path| path.components().rev().map(|part| part.as_os_str().to_owned()).collect();
        let mut left: Vec<OsString> = parts(path);
        let mut seen = Vec::new();
        let mut place = PathBuf::new();
        let mut links = 0;
        while let Some(part) = left.pop() {
            if part == ".." {
                place.pop();
                continue;
            }
            let next = place.join(&part);
            if self.is_in_checkout(&next) {
                seen.extend(self.link_or_none(&next)?);
            }
            match fs::read_link(&next) {
                Ok(to) if links < LINKS_MAX => {
                    links += 1;
                    left.extend::<Vec<OsString>>(parts(&to));
                }
                _ => place = next,
            }
        }
        Ok(seen)
    }

    /// Whether the name of a path is relative to a root.
    fn is_in_checkout(&self, path: &Path) -> bool {
        let role = self.task.roots.role_path(&self.task.cwd, path);
        role.role() != Role::Absolute && !role.rest().is_empty()
    }

    /// The links of the checkout that are part of an accessed path. Their texts count. In another checkout such
    /// a link may lead to an equal file in another directory, and a `..` behind it leads to different files.
    fn links_in_paths(&self) -> BTreeSet<PathBuf> {
        let mut checked: HashSet<PathBuf> = HashSet::new();
        let mut links = BTreeSet::new();
        for access in self.accesses {
            let (ObservedAccess::Present(path)
            | ObservedAccess::Absent(path)
            | ObservedAccess::Listing(path)
            | ObservedAccess::Updated(path)) = access
            else {
                continue;
            };
            for part in path.ancestors() {
                if !self.is_in_checkout(part) || !checked.insert(part.to_owned()) {
                    break;
                }
                if part.is_symlink() {
                    links.insert(part.to_owned());
                }
            }
        }
        links
    }

    /// Observes that a library is absent from the directories in which the dynamic linker looked first.
    fn earlier_libraries(&self, library: &Path) -> Result<Vec<Observation>, ObserveError> {
        let (Some(dir), Some(name)) = (library.parent(), library.file_name()) else { return Ok(Vec::new()) };
        let listed = self.env.value("LD_LIBRARY_PATH").unwrap_or_default();
        let dirs = listed.split(|byte| *byte == b':').filter(|dir| !dir.is_empty());
        let dirs = dirs.map(|dir| normalise(&self.task.cwd.join(OsStr::from_bytes(dir))));
        let earlier = dirs.take_while(|earlier| earlier != dir && real(earlier) != dir);
        let absences: Result<Vec<_>, _> = earlier.map(|dir| self.absence(dir.join(name))).collect();
        Ok(absences?.concat())
    }

    /// Observes a search in `PATH`: the program that it found, and that no earlier directory has it. A linker
    /// needs no observation, because kache searches for it before the lookup of every call.
    fn program_search(
        &self,
        name: &Path,
        seen: &mut Vec<Observation>,
        directories: &mut Vec<PathBuf>,
    ) -> Result<(), ObserveError> {
        let path = self.env.value("PATH").unwrap_or_default();
        let dirs = path.split(|byte| *byte == b':').map(|dir| self.task.cwd.join(OsStr::from_bytes(dir)));
        let mut earlier = Vec::new();
        let mut found = None;
        for place in dirs.map(|dir| normalise(&dir.join(name))) {
            if matches!(self.world.state(&place)?, FileState::File { is_executable: true, .. }) {
                found = Some(place);
                break;
            }
            earlier.push(place);
        }
        if found.as_ref().is_some_and(|place| (self.is_linker)(&real(place))) {
            return Ok(());
        }
        seen.push(self.variable("PATH".to_owned(), Some(path))?);
        for place in earlier {
            match self.world.state(&place)? {
                FileState::Absent => seen.extend(self.absence(place)?),
                _ => self.presence(place, seen, directories)?,
            }
        }
        found.map_or(Ok(()), |place| self.presence(place, seen, directories))
    }

    /// Whether a directory exists in every call with this query: it is a root or the call's directory, or
    /// above one of them.
    fn is_in_every_call(&self, directory: &Path) -> bool {
        let roots = self.task.roots.iter().map(|root| &*root.dir);
        roots.chain([&*self.task.cwd]).any(|dir| normalise(dir).starts_with(directory))
    }

    /// Observes that nothing exists at a path. If there is a link without a target, the text of the link and
    /// the absence of its target are observed.
    fn absence(&self, path: PathBuf) -> Result<Vec<Observation>, ObserveError> {
        let mut seen = Vec::new();
        let mut place = path;
        for _ in 0..LINKS_MAX {
            if self.world.state(&place)? != FileState::Absent {
                // The file was created after the compiler had looked for it.
                return Err(Refusal::Changed(place).into());
            }
            let links = self.link(place.clone())?;
            if links.is_empty() {
                seen.extend(self.by_role(&place, &|path| Observation::Absent { path })?);
                return Ok(seen);
            }
            seen.extend(links);
            let to = fs::read_link(&place).unwrap_or_default();
            place = normal_form(&place.parent().unwrap_or(Path::new("/")).join(to)).0;
        }
        Ok(seen)
    }

    /// Observes the entries of a directory. A temporary directory that is gone needs no observation.
    fn listing(&self, path: PathBuf) -> Result<Vec<Observation>, ObserveError> {
        let Some(digest) = self.world.listing(&path)? else {
            return match is_temporary(self.task, self.temp_dir, &path) {
                true => Ok(Vec::new()),
                false => Err(Refusal::Changed(path).into()),
            };
        };
        if changed_since(&path, self.started) {
            return Err(Refusal::Changed(path).into());
        }
        self.by_role(&path, &|path| Observation::Listing { path, digest })
    }

    /// Observes the value of every variable of the call, and that no other variable is set.
    fn environment(&self) -> Result<Vec<Observation>, Refusal> {
        let mut seen =
            vec![Observation::Environment { digest: names_digest(self.env, self.task.query.function) }];
        for name in self.env.names().into_iter().filter(|name| is_imported(name)) {
            let Ok(name) = String::from_utf8(name) else {
                return Err(Refusal::UnknownInputs("a variable's name is not UTF-8".to_owned()));
            };
            if !(self.is_keyed)(&name) {
                let value = self.env.value(&name);
                seen.push(self.variable(name, value)?);
            }
        }
        Ok(seen)
    }

    /// Binds the result to the directory whose path a program has read. The program may use any part of the
    /// path. So the roots that the path discloses have to keep their paths: the one that the directory lies in,
    /// and those that lie in the directory.
    fn working_dir(&self, dir: &Path) -> Vec<Observation> {
        if is_temporary(self.task, self.temp_dir, dir) {
            return Vec::new();
        }
        let holder = self.task.roots.role_path(&self.task.cwd, dir).role();
        let is_disclosed = |root: &&Root| root.role == holder || normalise(&root.dir).starts_with(dir);
        let binding = |root: &Root| Observation::Root {
            role: root.role,
            up: 0,
            is_real: false,
            path: root.dir.as_os_str().as_bytes().to_vec(),
        };
        // Every path begins with `/`, so this one discloses nothing.
        if dir == Path::new("/") {
            return Vec::new();
        }
        self.task.roots.iter().filter(is_disclosed).map(binding).collect()
    }

    /// Observes a variable. Paths of roots in its value are replaced by stand-ins, as in the variables of the
    /// key. That is safe: files that are found by such a path have observations of their own, and an output
    /// that holds the path is found by the scanner (KEY-07, KEY-17).
    fn variable(&self, name: String, value: Option<Vec<u8>>) -> Result<Observation, Refusal> {
        let Some(value) = value else { return Ok(Observation::Env { name, value: None }) };
        match self.task.roots.generalise(&value, Form::Value) {
            Some(general) => Ok(Observation::Env { name, value: Some(general) }),
            None => Err(Refusal::Unspeakable(format!("the value of `{name}`"))),
        }
    }
}

/// Refuses if a file that the compile created still exists, because a hit would not create it.
fn refuse_if_present(path: &Path) -> Result<(), Refusal> {
    if path.symlink_metadata().is_ok() { Err(Refusal::Writes(path.to_owned())) } else { Ok(()) }
}

/// Whether a link, or the file in its place, was created since `started`, or is gone.
fn link_changed_since(link: &Path, started: SystemTime) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(metadata) = link.symlink_metadata() else { return true };
    is_later((metadata.ctime(), metadata.ctime_nsec()), started)
}

/// The normal form of a path, and the links in it that a `..` follows. `..` behind a link leads to the directory
/// above the link's target, so such a link is replaced by its target.
fn normal_form(path: &Path) -> (PathBuf, Vec<PathBuf>) {
    let mut normal = PathBuf::new();
    let mut links = Vec::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                if normal.is_symlink() {
                    links.push(normal.clone());
                    normal = real(&normal);
                }
                normal.pop();
            }
            Component::CurDir => {}
            other => normal.push(other),
        }
    }
    (normal, links)
}

/// Whether the kernel makes up the file at this path. Only paths in the usual mount points are checked, and the
/// type of the file system decides.
fn is_made_by_kernel(path: &Path) -> bool {
    const MOUNTED_AT: &[&str] = &["/dev", "/proc", "/sys"];
    let place = real(path);
    MOUNTED_AT.iter().any(|dir| place.starts_with(dir)) && is_made_up(&place)
}
