//! From what an observed compile asked for to observations: what it found is looked at again,
//! and has to be what it was when the compiler was started (KEY-05).

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

use super::accesses::{CompileContext, ObservedAccess, remaining_accesses};
use super::observe::{Trouble, changed_since, content};
use super::places::{Make, Namer};
use super::refusal::Refusal;
use super::scan::{Found, Scanner};
use super::unobserved::unobserved_program;
use crate::action::{CallEnv, Entry, Observation, Task, is_imported, names_digest};
use crate::inputs::{FileState, Input, InputKind, World, WorldError, is_sealed};
use crate::observer::{self, Note, NoteKind, is_made_up};
use crate::outputs::dates::place_of;
use crate::roles::{Form, Role, Root, normalise};

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
    /// The observer, and where its records lie.
    pub observer: &'a [PathBuf],
    /// Where its temporary files go.
    pub temp_dir: &'a Path,
    /// Whether the key looks at a variable whatever is observed.
    pub is_keyed: &'a dyn Fn(&str) -> bool,
    /// The call's environment.
    pub env: &'a dyn CallEnv,
    /// Programs that are known as compilers and linkers by their content.
    pub known_linkers: &'a [PathBuf],
    /// The text of the key, which is asked for where a directory's name was found in an output.
    pub key: &'a dyn Fn() -> Vec<Entry>,
}

/// What an observed compile has found out.
pub(super) struct WatchedReadings {
    /// What it read beyond its inputs and what the dep-info names.
    pub(super) observations: Vec<Observation>,
    /// The directories whose paths a macro was told: it may have taken them apart.
    pub(super) told: BTreeSet<Found>,
}

/// What the dep-info names, and what is therefore observed already.
#[derive(Debug, Default)]
pub(super) struct Named {
    /// Files, as they are named from the call's directory.
    pub(super) files: Vec<PathBuf>,
    /// Variables.
    pub(super) variables: Vec<Vec<u8>>,
}

/// Reads the record of an observed compile.
pub(super) fn observe_watched(
    task: &Task,
    watched: &Watched<'_>,
    inputs: &[Input],
    named: &Named,
    started: SystemTime,
    world: &dyn World,
) -> Result<WatchedReadings, Trouble> {
    let notes =
        observer::parse(watched.record).map_err(|damage| Refusal::UnknownInputs(damage.to_string()))?;
    // Notes are judged in normal form; a call may name a directory by way of `..`.
    let outputs: Vec<PathBuf> =
        task.outputs.iter().map(|output| normalise(&place_of(task, output))).collect();
    let crate_dirs: Vec<PathBuf> = watched.crate_dirs.iter().map(|dir| normalise(dir)).collect();
    let [sysroot, temp_dir] = [watched.sysroot, watched.temp_dir].map(normalise);
    let observer: Vec<PathBuf> = watched.observer.iter().map(|place| normalise(place)).collect();
    let files = Files::new(task, inputs, &named.files);
    let known_linkers: HashSet<PathBuf> = watched.known_linkers.iter().map(|path| real(path)).collect();
    // What `env!` asks for is known from the dep-info, and there whether it only locates (KEY-07).
    let is_named = |name: &str| named.variables.iter().any(|known| known == name.as_bytes());
    let compile = CompileContext {
        compiler: &real(watched.compiler),
        sysroot: &sysroot,
        crate_dirs: &crate_dirs,
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
        let why = format!("{} files and variables were asked for besides those of the key", accesses.len());
        return Err(Refusal::UnknownInputs(why).into());
    }
    let (is_keyed, is_linker) = (compile.is_keyed, compile.is_linker);
    let texts = texts(&notes, &accesses);
    let (texts, accesses, env) = (&texts, &accesses, watched.env);
    let looker =
        Looker { task, started, world, temp_dir: &temp_dir, env, is_keyed, is_linker, texts, accesses };
    let told = looker.told(&notes);
    Ok(WatchedReadings { observations: looker.look()?, told })
}

/// Whether a library uses the list of all variables, as the standard library does for `env::vars` and where
/// it starts a program. Proc macros are linked with what they use of the standard library, and no more.
fn may_read_environment(library: &Path) -> bool {
    const NAMES: &[&[u8]] = &[b"environ", b"__environ", b"_environ"];
    let content = fs::read(library).unwrap_or_default();
    let imports = observer::Elf::read(&content).and_then(observer::Elf::imports);
    imports.is_none_or(|imports| imports.iter().any(|name| NAMES.contains(name)))
}

/// Whether all that a program reads is in the key: it is a linker, or a part of the toolchain. One that is
/// started by its name alone is looked for as the C library does it.
fn is_resolved(program: &Path, compile: &CompileContext<'_>) -> bool {
    let is_known = |path: &Path| {
        (compile.is_linker)(&real(path)) || real(path).starts_with(compile.sysroot.join("lib/rustlib"))
    };
    if program.is_absolute() {
        return is_known(program);
    }
    let path = (compile.env_value)("PATH").unwrap_or_default();
    let dirs = path.split(|byte| *byte == b':').map(|dir| Path::new(OsStr::from_bytes(dir)));
    dirs.map(|dir| dir.join(program)).find(|place| place.exists()).is_some_and(|place| is_known(&place))
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

/// Files that count already.
struct Files {
    /// As they are named, and as they are really called.
    all: HashSet<PathBuf>,
    /// Libraries and programs under their real names: the compiler or the linker and the key may come
    /// to one by different links. A source is not among them: a macro that asks about a link asks where
    /// it leads, and that the file there counts already says nothing of the link.
    by_any_link: HashSet<PathBuf>,
    /// Of these, the link toolchain.
    linkers: HashSet<PathBuf>,
}

impl Files {
    fn new(task: &Task, inputs: &[Input], sources: &[PathBuf]) -> Files {
        let mut files = Files { all: HashSet::new(), by_any_link: HashSet::new(), linkers: HashSet::new() };
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

/// The texts by which each path was asked for that is an answer to the notes. They tell whether it
/// was come by from a root.
fn texts<'n>(notes: &'n [Note], asked: &BTreeSet<ObservedAccess>) -> HashMap<PathBuf, Vec<&'n Path>> {
    let path_of = |asked: &ObservedAccess| match asked {
        ObservedAccess::Present(path)
        | ObservedAccess::Absent(path)
        | ObservedAccess::Listing(path)
        | ObservedAccess::Updated(path)
        | ObservedAccess::Obstacle(path)
        | ObservedAccess::Link(path)
        | ObservedAccess::Library(path) => Some(path.clone()),
        ObservedAccess::Created(_)
        | ObservedAccess::ProgramSearch(_)
        | ObservedAccess::Variable(..)
        | ObservedAccess::Environment
        | ObservedAccess::WorkingDir(_) => None,
    };
    let mut texts: HashMap<PathBuf, Vec<&Path>> =
        asked.iter().filter_map(path_of).map(|path| (path, Vec::new())).collect();
    for note in notes.iter().filter(|note| note.kind != NoteKind::Variable) {
        let text = Path::new(OsStr::from_bytes(&note.name));
        if let Some(known) = texts.get_mut(&normal_form(text).0)
            && !known.contains(&text)
        {
            known.push(text);
        }
    }
    texts
}

struct Looker<'a> {
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

impl Looker<'_> {
    /// The observations of a place under each name that it may have been come by.
    fn named(&self, path: &Path, make: Make<'_>) -> Result<Vec<Observation>, Trouble> {
        let texts = self.texts.get(path).map(Vec::as_slice).unwrap_or_default();
        let namer = Namer { task: self.task, world: self.world };
        let texts = if texts.is_empty() { std::slice::from_ref(&path) } else { texts };
        let mut observations = namer.of_asked(path, texts, make)?;
        if self.was_searched_for(path) {
            namer.searched(path, self.task.roots.searched(path), make, &mut observations)?;
        }
        Ok(observations)
    }

    /// Whether the whole name was looked for in vain right above a root before: an upward search for
    /// `etc/x.toml` ends in a directory of the system, which otherwise is everybody's.
    fn was_searched_for(&self, path: &Path) -> bool {
        let Ok(name) = path.strip_prefix("/") else { return false };
        self.task.roots.iter().any(|root| {
            let above = self.task.roots.dir_above(root.role, 1);
            above.is_some_and(|dir| self.accesses.contains(&ObservedAccess::Absent(dir.join(name))))
        })
    }

    /// The directories whose paths are in a variable that a macro asked for, or in a link that was
    /// read. The observations of these have stand-ins for roots, so they do not tell one place from
    /// another.
    fn told(&self, notes: &[Note]) -> BTreeSet<Found> {
        let mut scanner = Scanner::new(&self.task.roots, &self.task.cwd);
        let of_macros = |note: &&Note| note.kind == NoteKind::Variable && note.mark;
        notes.iter().filter(of_macros).for_each(|note| scanner.look(&note.value));
        for one in self.accesses {
            match one {
                ObservedAccess::Environment => {
                    let names = self.env.names().into_iter().filter_map(|name| String::from_utf8(name).ok());
                    names.filter_map(|name| self.env.value(&name)).for_each(|value| scanner.look(&value));
                }
                ObservedAccess::Link(path) => {
                    let text = fs::read_link(path).unwrap_or_default();
                    scanner.look(text.as_os_str().as_bytes());
                }
                _ => {}
            }
        }
        scanner.found()
    }

    fn look(&self) -> Result<Vec<Observation>, Trouble> {
        // A file that is left behind is the most telling reason, so it is reported before others.
        for one in self.accesses {
            if let ObservedAccess::Created(path) = one {
                refuse_if_there(path)?;
            }
        }
        let mut seen = Vec::new();
        let mut directories = Vec::new();
        for link in self.links_on_the_way(self.accesses) {
            seen.extend(self.link(link)?);
        }
        for one in self.accesses.iter().cloned() {
            match one {
                ObservedAccess::Present(path) => self.place(path, &mut seen, &mut directories)?,
                ObservedAccess::Absent(path) => seen.extend(self.absence(path)?),
                ObservedAccess::Listing(path) => seen.extend(self.listing(path)?),
                ObservedAccess::Created(_) => {}
                ObservedAccess::Updated(path) => seen.extend(self.updated(path)?),
                ObservedAccess::Obstacle(path) => match self.world.state(&path)? {
                    FileState::Absent => seen.extend(self.absence(path)?),
                    _ => self.place(path, &mut seen, &mut directories)?,
                },
                ObservedAccess::Link(path) => seen.extend(self.link(path)?),
                ObservedAccess::ProgramSearch(name) => self.program(&name, &mut seen, &mut directories)?,
                ObservedAccess::Library(path) => {
                    seen.extend(self.earlier_libraries(&path)?);
                    self.place(path, &mut seen, &mut directories)?;
                }
                ObservedAccess::Variable(name, value) => seen.push(self.variable(name, value)?),
                ObservedAccess::Environment => seen.extend(self.environment()?),
                ObservedAccess::WorkingDir(dir) => seen.extend(self.stand(&dir)),
            }
        }
        for path in directories.into_iter().filter(|path| !self.is_there_anyway(path)) {
            seen.extend(self.named(&path, &|path| Observation::Directory { path })?);
        }
        Ok(seen)
    }

    /// Something that was there. A link that leads nowhere is there, too.
    fn place(
        &self,
        path: PathBuf,
        seen: &mut Vec<Observation>,
        directories: &mut Vec<PathBuf>,
    ) -> Result<(), Trouble> {
        match self.world.state(&path)? {
            FileState::File { .. } => seen.extend(self.file(&path)?),
            FileState::Directory => directories.push(path),
            FileState::Absent if path.is_symlink() => seen.extend(self.absence(path)?),
            FileState::Absent if is_temporary(self.task, self.temp_dir, &path) => {}
            FileState::Absent => return Err(Refusal::Changed(path).into()),
        }
        Ok(())
    }

    /// A file that was read. One that says where this checkout lies may have been asked where something
    /// else is: what was found so counts by its place in the checkout, and the same file in another one
    /// leads here.
    fn file(&self, path: &Path) -> Result<Vec<Observation>, Trouble> {
        let digest = content(path, self.started, self.world)?;
        let mut seen = self.named(path, &|path| Observation::File { path, digest })?;
        let role = self.task.roots.role_path(&self.task.cwd, path).role();
        let is_systems = role == Role::Absolute && seen.len() == 1;
        if !is_systems {
            let mut scanner = Scanner::new(&self.task.roots, &self.task.cwd);
            scanner.scan(path).map_err(|source| WorldError { path: path.to_owned(), source })?;
            let found = scanner.found().into_iter();
            seen.extend(found.filter_map(|found| found.observation(self.task, self.world)));
        }
        Ok(seen)
    }

    /// A file that was opened to be written counts by what it was before, if it is still that.
    fn updated(&self, path: PathBuf) -> Result<Vec<Observation>, Trouble> {
        match self.world.state(&path)? {
            FileState::File { .. } if !changed_since(&path, self.started) => self.file(&path),
            FileState::Directory => Ok(Vec::new()),
            FileState::File { .. } | FileState::Absent => Err(Refusal::Writes(path).into()),
        }
    }

    /// What a link says; nothing where there is none.
    fn link(&self, path: PathBuf) -> Result<Vec<Observation>, Trouble> {
        let Some(text) = self.world.link(&path)? else { return Ok(Vec::new()) };
        if link_changed_since(&path, self.started) {
            return Err(Refusal::Changed(path).into());
        }
        let Some(text) = self.task.roots.generalise(&text, Form::Value) else {
            return Err(Refusal::Unspeakable(format!("the link `{}`", path.display())).into());
        };
        self.named(&path, &|path| Observation::Link { path, text: text.clone() })
    }

    /// Links in a checkout that what was asked for was found by. One that leads elsewhere may find
    /// the same there, and what that names by going up is something else.
    fn links_on_the_way(&self, asked: &BTreeSet<ObservedAccess>) -> BTreeSet<PathBuf> {
        let mut known: HashSet<PathBuf> = HashSet::new();
        let mut links = BTreeSet::new();
        for one in asked {
            let (ObservedAccess::Present(path)
            | ObservedAccess::Absent(path)
            | ObservedAccess::Listing(path)
            | ObservedAccess::Updated(path)) = one
            else {
                continue;
            };
            for place in path.ancestors() {
                let role = self.task.roots.role_path(&self.task.cwd, place);
                if role.role() == Role::Absolute || role.rest().is_empty() || !known.insert(place.to_owned())
                {
                    break;
                }
                if place.is_symlink() {
                    links.insert(place.to_owned());
                }
            }
        }
        links
    }

    /// Where the dynamic linker looks for a library before the place where it found this one.
    fn earlier_libraries(&self, library: &Path) -> Result<Vec<Observation>, Trouble> {
        let (Some(dir), Some(name)) = (library.parent(), library.file_name()) else { return Ok(Vec::new()) };
        let listed = self.env.value("LD_LIBRARY_PATH").unwrap_or_default();
        let dirs = listed.split(|byte| *byte == b':').filter(|dir| !dir.is_empty());
        let dirs = dirs.map(|dir| normalise(&self.task.cwd.join(OsStr::from_bytes(dir))));
        let earlier = dirs.take_while(|place| place != dir && real(place) != dir);
        let found: Result<Vec<_>, _> =
            earlier.map(|place| place.join(name)).map(|place| self.absence(place)).collect();
        Ok(found?.concat())
    }

    /// Where a program is looked for: it lies in none of the directories before the one where it is found.
    /// A linker is looked for before anything else, for every call.
    fn program(
        &self,
        name: &Path,
        seen: &mut Vec<Observation>,
        directories: &mut Vec<PathBuf>,
    ) -> Result<(), Trouble> {
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
                _ => self.place(place, seen, directories)?,
            }
        }
        found.map_or(Ok(()), |place| self.place(place, seen, directories))
    }

    /// Whether no compile like this one can happen without the directory.
    fn is_there_anyway(&self, directory: &Path) -> bool {
        let roots = self.task.roots.iter().map(|root| &*root.dir);
        roots.chain([&*self.task.cwd]).any(|dir| normalise(dir).starts_with(directory))
    }

    /// Nothing, or a link that leads to nothing: what it says counts then.
    fn absence(&self, path: PathBuf) -> Result<Vec<Observation>, Trouble> {
        // More than this the kernel does not follow.
        const LINKS_MAX: usize = 40;
        let mut seen = Vec::new();
        let mut place = path;
        for _ in 0..LINKS_MAX {
            if self.world.state(&place)? != FileState::Absent {
                // It came after it was looked for.
                return Err(Refusal::Changed(place).into());
            }
            let links = self.link(place.clone())?;
            if links.is_empty() {
                seen.extend(self.named(&place, &|path| Observation::Absent { path })?);
                return Ok(seen);
            }
            seen.extend(links);
            let to = fs::read_link(&place).unwrap_or_default();
            place = normal_form(&place.parent().unwrap_or(Path::new("/")).join(to)).0;
        }
        Ok(seen)
    }

    fn listing(&self, path: PathBuf) -> Result<Vec<Observation>, Trouble> {
        let Some(digest) = self.world.listing(&path)? else {
            return match is_temporary(self.task, self.temp_dir, &path) {
                true => Ok(Vec::new()),
                false => Err(Refusal::Changed(path).into()),
            };
        };
        if changed_since(&path, self.started) {
            return Err(Refusal::Changed(path).into());
        }
        self.named(&path, &|path| Observation::Listing { path, digest })
    }

    /// Every variable, and that no other one is set.
    fn environment(&self) -> Result<Vec<Observation>, Refusal> {
        let mut seen = vec![Observation::Environment { digest: names_digest(self.env) }];
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

    /// A program that knows the name of a directory can make anything of it, so the result is good where
    /// the roots are that this name tells of: the one that holds it, or those that lie in it.
    fn stand(&self, dir: &Path) -> Vec<Observation> {
        if is_temporary(self.task, self.temp_dir, dir) {
            return Vec::new();
        }
        let holder = self.task.roots.role_path(&self.task.cwd, dir).role();
        let is_named = |root: &&Root| root.role == holder || normalise(&root.dir).starts_with(dir);
        let bound = |root: &Root| Observation::Root {
            role: root.role,
            up: 0,
            is_real: false,
            path: root.dir.as_os_str().as_bytes().to_vec(),
        };
        // Every path begins with `/`.
        if dir == Path::new("/") {
            return Vec::new();
        }
        self.task.roots.iter().filter(is_named).map(bound).collect()
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
fn refuse_if_there(path: &Path) -> Result<(), Refusal> {
    if path.symlink_metadata().is_ok() { Err(Refusal::Writes(path.to_owned())) } else { Ok(()) }
}

/// Whether a link was made since then, or is gone.
fn link_changed_since(link: &Path, started: SystemTime) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(metadata) = link.symlink_metadata() else { return true };
    let started = started.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let started = (i64::try_from(started.as_secs()).unwrap_or(i64::MAX), i64::from(started.subsec_nanos()));
    (metadata.ctime(), metadata.ctime_nsec()) > started
}

/// A path in normal form. `..` behind a link leads up from what the link leads to, so the path is that one
/// then, and the link is named as well.
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

/// Whether a path leads to what the kernel makes up. The directories are where that is usually mounted;
/// whether it is so is the file system's to say.
fn is_made_by_kernel(path: &Path) -> bool {
    const MOUNTED_AT: &[&str] = &["/dev", "/proc", "/sys"];
    let place = real(path);
    MOUNTED_AT.iter().any(|dir| place.starts_with(dir)) && is_made_up(&place)
}
