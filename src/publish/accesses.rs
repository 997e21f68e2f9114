//! Picks out of an observer's notes the accesses that have to become observations (KEY-23).
//!
//! A compiler opens hundreds of files and reads dozens of variables. Nearly all of them are inputs of the
//! key, or are named by the dep-info. [`EXCLUDED_ACCESSES`] and the adapter's own [`AccessRules`] list those
//! with the reason why a hit need not look at them. Three kinds remain: the accesses of plugins (code inside
//! the compiler that is not its own), those of the programs that plugins start, and libraries that a linker
//! found where `inputs` did not expect them.
//!
//! For example, a plugin that runs `git` leaves notes of the program `/usr/bin/git`, the file `.git/HEAD`
//! and the variable `GIT_DIR`, among two hundred notes of the compiler itself. These three remain.
//!
//! Pure: notes in, accesses out. `watched.rs` looks at the file system and makes observations of them.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::refusal::Refusal;
use crate::action::is_of_the_call;
use crate::observer::{Note, NoteKind, NoteOutcome};
use crate::roles::normalise;

/// An access of a compile that neither the key nor the dep-info has.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum ObservedAccess {
    /// A file or directory was found there.
    Present(PathBuf),
    /// Nothing was found there.
    Absent(PathBuf),
    /// The entries of a directory were read.
    Listing(PathBuf),
    /// A file or directory was created.
    Created(PathBuf),
    /// A file was opened for writing and kept its content, so that it may have been read, too.
    Updated(PathBuf),
    /// An operation failed because of what is at this path, or because nothing is there.
    Obstacle(PathBuf),
    /// The target of a symbolic link was read, something was found by way of the link, or a program
    /// learned that there is no link.
    Link(PathBuf),
    /// A path was resolved, so that each of its components could be a symbolic link.
    Resolved(PathBuf),
    /// A library was loaded after its program had begun.
    Library(PathBuf),
    /// A program of this name was looked for in the directories of `PATH`.
    ProgramSearch(PathBuf),
    /// A variable was read, with its value if it is set.
    Variable(String, Option<Vec<u8>>),
    /// Any of the variables may have been read.
    Environment,
    /// The path of this directory may have been read by a program that ran in it.
    WorkingDir(PathBuf),
}

/// The facts about a compile that tell which of its accesses are excluded.
#[derive(Clone, Copy)]
pub struct CompileContext<'a> {
    /// The rules of the compiler's adapter.
    pub(super) rules: &'a AccessRules,
    /// The compiler's program, with all links resolved.
    pub(super) compiler: &'a Path,
    /// The directory of the toolchain.
    pub(super) sysroot: &'a Path,
    /// The directories in which the compiler looks for outputs of other compiles.
    pub library_dirs: &'a [PathBuf],
    /// The observer's library and the directories of its records.
    pub(super) observer: &'a [PathBuf],
    /// The directory for temporary files.
    pub(super) temp_dir: &'a Path,
    /// Whether a path is that of a temporary file. A checkout may lie in the directory as well.
    pub(super) is_temporary: &'a dyn Fn(&Path) -> bool,
    /// The outputs of the compile.
    pub(super) outputs: &'a [PathBuf],
    /// Brings a path into normal form. Where `..` follows a symbolic link, the parent of the link's target
    /// is meant, and the link is returned as well.
    pub(super) normal_form: &'a dyn Fn(&Path) -> (PathBuf, Vec<PathBuf>),
    /// Whether a path leads to a file that the kernel makes up, such as those in `/proc`.
    pub(super) is_made_by_kernel: &'a dyn Fn(&Path) -> bool,
    /// Whether a file is an input of the key or is named by the dep-info.
    pub(super) is_input: &'a dyn Fn(&Path) -> bool,
    /// Whether a program belongs to the link toolchain and was recognised as a compiler or linker by its
    /// content.
    pub(super) is_linker: &'a dyn Fn(&Path) -> bool,
    /// Whether a file is a script of the link toolchain in a store whose paths stand for contents, such as
    /// `/nix/store`.
    pub(super) is_sealed_script: &'a dyn Fn(&Path) -> bool,
    /// Whether a library uses the list of all variables, which it can read without the observer.
    pub(super) may_read_environment: &'a dyn Fn(&Path) -> bool,
    /// Whether a variable is in the key.
    pub(super) is_keyed: &'a dyn Fn(&str) -> bool,
    /// The value of a variable in the call's environment; `None` if it is not set.
    pub(super) env_value: &'a dyn Fn(&str) -> Option<Vec<u8>>,
}

impl CompileContext<'_> {
    fn linker_dir(&self) -> PathBuf {
        self.sysroot.join(self.rules.linker_dir)
    }
}

/// The part that a program plays in a compile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgramRole {
    /// A program such as `rustup` that ran before the compiler and became it.
    Proxy,
    /// The compiler, with the plugins that it has loaded.
    Compiler,
    /// The linker of the toolchain or of the system.
    Linker,
    /// Any other program: one that a plugin started, or a script that calls the linker.
    Other,
}

/// A note with its role, in the form in which [`EXCLUDED_ACCESSES`] judges it.
pub struct NotedAccess<'a> {
    /// The role of the program that made the access.
    pub program: ProgramRole,
    /// The kind of the access.
    pub kind: NoteKind,
    /// How the access ended.
    pub outcome: NoteOutcome,
    /// The path in normal form; empty for a variable.
    pub path: PathBuf,
    /// The name of the variable; empty for a path.
    pub name: &'a str,
    value: Option<&'a [u8]>,
    /// Whether the compile has created this path, or a directory above it.
    is_created_here: bool,
    /// Whether a library that was loaded later made the access, as in [`Note::is_from_late_library`].
    pub is_from_late_library: bool,
}

impl NotedAccess<'_> {
    fn is_file(&self) -> bool {
        self.kind != NoteKind::Variable
    }

    /// Whether the program wrote the file, or may have written it.
    pub fn is_written(&self) -> bool {
        matches!(self.kind, NoteKind::Written | NoteKind::Updated)
    }

    fn is_below(&self, dir: &Path) -> bool {
        self.is_file() && self.path.starts_with(dir)
    }

    /// Whether the program looked at a path without reading what is there.
    fn is_look(&self) -> bool {
        const LOOKS: [NoteKind; 4] =
            [NoteKind::Looked, NoteKind::Listed, NoteKind::Unfollowed, NoteKind::Resolved];
        LOOKS.contains(&self.kind)
    }

    /// Whether the program learned from it which paths are symbolic links. That a file counts by its
    /// content says nothing of that.
    fn distinguishes_links(&self) -> bool {
        matches!(self.kind, NoteKind::Link | NoteKind::Unfollowed | NoteKind::Resolved)
    }

    /// Whether the access is to one of these variables.
    pub fn is_variable_of(&self, names: &[&str]) -> bool {
        self.kind == NoteKind::Variable && names.contains(&self.name)
    }
}

/// A kind of access that becomes no observation.
#[derive(Debug)]
pub struct ExclusionRule {
    /// The accesses, as `docs/observed.md` names them.
    pub what: &'static str,
    /// Whether the rule applies to an access.
    pub applies: fn(&NotedAccess<'_>, &CompileContext<'_>) -> bool,
    /// Why a hit need not look at them, as `docs/observed.md` says.
    pub why: &'static str,
}

/// Variables that find programs (`PATH`), or hand over the job server of a build.
const BUILD_VARIABLES: &[&str] = &["MAKEFLAGS", "MFLAGS", "PATH"];

/// Files that the C library opens in every program, whatever the program does.
const C_LIBRARY_FILES: &[&str] = &[
    "/etc/ld.so.cache",
    "/etc/ld.so.preload",
    "/etc/locale.alias",
    "/etc/malloc.conf",
    "/etc/nsswitch.conf",
    "/usr/lib/locale",
    "/usr/share/locale",
];

/// The rules that an adapter adds for its compiler.
#[derive(Debug)]
pub struct AccessRules {
    /// Further accesses that become no observations.
    pub excluded: &'static [ExclusionRule],
    /// The directory of the toolchain, below its root, whose programs are linkers.
    pub linker_dir: &'static str,
}

/// The accesses that become no observations, whatever the compiler is. `docs/observed.md` has this table.
pub const EXCLUDED_ACCESSES: &[ExclusionRule] = &[
    ExclusionRule {
        what: "accesses of a program that runs before the compiler and becomes it, such as `rustup`",
        applies: |access, _| access.program == ProgramRole::Proxy,
        why: "such a program decides which toolchain runs, and the toolchain counts by content",
    },
    ExclusionRule {
        what: "files of the toolchain",
        applies: |access, compile| {
            access.is_below(compile.sysroot) && !is_of_other_packages(compile, &access.path)
                || access.is_file() && access.path == compile.compiler
        },
        why: "the toolchain counts by content as a whole",
    },
    ExclusionRule {
        what: "inputs of the key, and files that the dep-info names",
        applies: |access, compile| {
            access.is_file() && !access.distinguishes_links() && (compile.is_input)(&access.path)
        },
        why: "they count already",
    },
    ExclusionRule {
        what: "outputs, their directory, and files there with the same name and another extension",
        applies: |access, compile| {
            access.is_file() && compile.outputs.iter().any(|output| is_beside(access, output))
        },
        why: "outputs are removed before the compiler runs, so that it finds only files that it made itself",
    },
    ExclusionRule {
        what: "files that the compile created itself",
        applies: |access, _| access.is_created_here && access.kind != NoteKind::Written,
        why: "their content follows from the inputs and the other accesses",
    },
    ExclusionRule {
        what: "the directory for temporary files, and files that the compile creates in it",
        applies: |access, compile| {
            access.path == compile.temp_dir
                || access.kind == NoteKind::Written && (compile.is_temporary)(&access.path)
        },
        why: "a build does not rely on files that another program left there",
    },
    ExclusionRule {
        what: "symbolic links in paths that the compiler itself resolves",
        applies: |access, _| {
            access.kind == NoteKind::Resolved
                && access.program == ProgramRole::Compiler
                && !access.is_from_late_library
        },
        why: "the compiler compares resolved paths of libraries and directories; what a macro resolves counts",
    },
    ExclusionRule {
        what: "files of the observer",
        applies: |access, compile| compile.observer.iter().any(|place| access.is_below(place)),
        why: "the observer does not change what a compile does",
    },
    ExclusionRule {
        what: "locales, character sets, and files that the dynamic linker and the C library read in every program",
        applies: |access, _| {
            C_LIBRARY_FILES.iter().any(|place| access.is_below(Path::new(place)))
                || access.is_file() && access.path.components().any(|part| part.as_os_str() == "gconv")
        },
        why: "they make no difference to an output; `LANG` and similar variables count where they are read",
    },
    ExclusionRule {
        what: "libraries that the compiler is loaded with",
        applies: |access, _| access.kind == NoteKind::Loaded && access.program == ProgramRole::Compiler,
        why: "they belong to the toolchain or are macros, which count by content, or are the system's C library, on which no output depends",
    },
    ExclusionRule {
        what: "paths at which a linker looks for libraries, unless it then reads a library that kache did not expect",
        applies: |access, _| {
            access.program == ProgramRole::Linker
                && access.is_file()
                && (access.outcome != NoteOutcome::There || access.is_look())
        },
        why: "kache resolves libraries in the same way for every call, before the lookup",
    },
    ExclusionRule {
        what: "files that the kernel makes up: processes, devices, terminals and the like, wherever they are mounted",
        applies: |access, compile| access.is_file() && (compile.is_made_by_kernel)(&access.path),
        why: "no user and no program wrote their content",
    },
    ExclusionRule {
        what: "variables in the key",
        applies: |access, compile| access.kind == NoteKind::Variable && (compile.is_keyed)(access.name),
        why: "they count already, also if they are not set",
    },
    ExclusionRule {
        what: "variables of the call, the terminal or the shell, and of kache",
        applies: |access, _| {
            access.is_variable_of(BUILD_VARIABLES)
                || access.kind == NoteKind::Variable
                    && (is_of_the_call(access.name) || crate::observer::is_own_variable(access.name))
        },
        why: "they differ from call to call; `PATH` finds programs, which count by content",
    },
    ExclusionRule {
        what: "variables to which a program has given a value of its own",
        applies: |access, compile| {
            access.kind == NoteKind::Variable && (compile.env_value)(access.name).as_deref() != access.value
        },
        why: "the value follows from the inputs and the other accesses",
    },
];

/// Whether a path below the toolchain's directory may belong to other packages. A toolchain that a
/// distribution installs in `/usr` shares that directory with all of them.
fn is_of_other_packages(compile: &CompileContext<'_>, path: &Path) -> bool {
    let is_system_dir = ["/", "/usr", "/usr/local"].iter().any(|dir| compile.sysroot == Path::new(dir));
    is_system_dir && !path.starts_with(compile.linker_dir())
}

/// Whether a path is an output, the directory of one, or differs from one only in its extension, such as
/// the metadata that a compiler looks for before it links a program. A file that the compile creates has to be
/// an output exactly: any other file that it leaves there is not made by a hit.
fn is_beside(access: &NotedAccess<'_>, output: &Path) -> bool {
    let name = |path: &Path| {
        path.file_stem()
            .map(|stem| stem.as_bytes().strip_prefix(b"lib").unwrap_or(stem.as_bytes()).to_owned())
    };
    let is_alike = || access.path.parent() == output.parent() && name(&access.path) == name(output);
    let is_made = access.kind == NoteKind::Written && access.outcome == NoteOutcome::There;
    access.path == output || !is_made && (Some(&*access.path) == output.parent() || is_alike())
}

/// The accesses of these notes that are not excluded; `None` if the compiler itself was not observed.
/// Fails if a note says that something could not be observed.
///
/// The notes are read in their order, because the meaning of one depends on those before it: which
/// program its process runs, and which files the compile has created so far.
pub(super) fn remaining_accesses(
    notes: &[Note],
    compile: &CompileContext<'_>,
) -> Result<Option<BTreeSet<ObservedAccess>>, Refusal> {
    let mut created = CreatedPaths::of(notes, compile);
    let mut programs = RunningPrograms::default();
    let mut implicit = ImplicitReads::default();
    let mut accesses = BTreeSet::new();
    // Paths at which a linker found no library. They count if it later reads an unexpected library of that
    // name from another directory.
    let mut in_vain: Vec<PathBuf> = Vec::new();
    let mut found: HashSet<Vec<u8>> = HashSet::new();
    for note in notes {
        let program = programs.of(note, compile);
        if is_about_programs(note) {
            accesses.extend(program_start_access(note, program));
            continue;
        }
        implicit.add(note, program, compile);
        if is_about_surroundings(note) {
            continue;
        }
        let (access, links) = noted_access(note, program, &mut created, compile)?;
        let mut rules = EXCLUDED_ACCESSES.iter().chain(compile.rules.excluded);
        if rules.any(|rule| (rule.applies)(&access, compile)) {
            if program == ProgramRole::Linker
                && access.is_file()
                && access.outcome == NoteOutcome::Absent
                && !access.is_created_here
            {
                in_vain.push(access.path);
            }
            continue;
        }
        accesses.extend(links.into_iter().map(ObservedAccess::Link));
        if program == ProgramRole::Linker && access.kind == NoteKind::Read {
            found.extend(library_name(&access.path));
        }
        if access.kind == NoteKind::Unfollowed && access.outcome != NoteOutcome::Absent {
            accesses.insert(ObservedAccess::Link(access.path.clone()));
            if (compile.is_input)(&access.path) {
                continue;
            }
        }
        accesses.extend(remaining_access(access));
    }
    let is_found = |path: &PathBuf| library_name(path).is_some_and(|name| found.contains(&name));
    accesses.extend(in_vain.into_iter().filter(is_found).map(ObservedAccess::Absent));
    accesses.extend(implicit.end());
    Ok(programs.has_compiler.then_some(accesses))
}

/// Whether a note is about the start of a program, and about no file or variable.
fn is_about_programs(note: &Note) -> bool {
    matches!(note.kind, NoteKind::Executed | NoteKind::Unseen)
}

/// The access that the start of a program is: a search in `PATH` for a bare name, or a failure. A program
/// that was found by its path leaves a note of its own when it begins, and linkers are inputs of the key.
fn program_start_access(note: &Note, program: ProgramRole) -> Option<ObservedAccess> {
    if note.kind != NoteKind::Executed || matches!(program, ProgramRole::Proxy | ProgramRole::Linker) {
        return None;
    }
    let name = Path::new(OsStr::from_bytes(&note.name));
    match note.outcome {
        _ if !note.name.contains(&b'/') => Some(ObservedAccess::ProgramSearch(name.to_owned())),
        NoteOutcome::There => None,
        NoteOutcome::Absent | NoteOutcome::Failed => Some(ObservedAccess::Obstacle(normalise(name))),
    }
}

/// Whether a note is about the current directory or the whole environment of a program.
fn is_about_surroundings(note: &Note) -> bool {
    matches!(note.kind, NoteKind::Directory | NoteKind::Environment)
}

/// `libx` of `libx.so.1` and `libx.a`.
fn library_name(path: &Path) -> Option<Vec<u8>> {
    let name = path.file_name()?.as_bytes();
    Some(name.split(|byte| *byte == b'.').next()?.to_vec())
}

/// Accesses that leave no note of their own. A shell copies all variables into its own memory when it
/// begins, and it knows its working directory; the observer does not see which of them a script uses. So
/// a program that is neither a compiler nor a linker counts as having read all of them.
#[derive(Default)]
struct ImplicitReads {
    /// The working directories of processes that run a program with [`ProgramRole::Other`].
    working_dirs: HashMap<u32, PathBuf>,
    accesses: BTreeSet<ObservedAccess>,
}

impl ImplicitReads {
    fn add(&mut self, note: &Note, program: ProgramRole, compile: &CompileContext<'_>) {
        let path = |bytes: &[u8]| normalise(Path::new(OsStr::from_bytes(bytes)));
        match note.kind {
            NoteKind::Started => {
                // The process may have run another program before, which also knew its directory.
                self.accesses.extend(self.working_dirs.remove(&note.process).map(ObservedAccess::WorkingDir));
                if program == ProgramRole::Other {
                    self.accesses.insert(ObservedAccess::Environment);
                    self.working_dirs.insert(note.process, path(&note.value));
                }
            }
            // The compiler itself reads its directory in every compile. Only a plugin's access counts.
            NoteKind::Directory if program == ProgramRole::Compiler && note.is_from_late_library => {
                self.accesses.insert(ObservedAccess::WorkingDir(path(&note.name)));
            }
            NoteKind::Environment if program != ProgramRole::Proxy => {
                self.accesses.insert(ObservedAccess::Environment);
            }
            NoteKind::Added if program == ProgramRole::Compiler => {
                let library = path(&note.name);
                if !library.starts_with(compile.sysroot) && (compile.may_read_environment)(&library) {
                    self.accesses.insert(ObservedAccess::Environment);
                }
            }
            // A wrapper script of the linker in such a store does not use the name of its directory.
            NoteKind::Read if (compile.is_sealed_script)(&path(&note.name)) => {
                self.working_dirs.remove(&note.process);
            }
            _ => {}
        }
    }

    fn end(self) -> BTreeSet<ObservedAccess> {
        let ImplicitReads { working_dirs, mut accesses } = self;
        accesses.extend(
            working_dirs.into_values().filter(|dir| dir.is_absolute()).map(ObservedAccess::WorkingDir),
        );
        accesses
    }
}

/// The role of the program that each process runs at this point of the notes.
#[derive(Default)]
struct RunningPrograms {
    programs: HashMap<u32, ProgramRole>,
    has_compiler: bool,
}

impl RunningPrograms {
    fn of(&mut self, note: &Note, compile: &CompileContext<'_>) -> ProgramRole {
        if note.kind == NoteKind::Started {
            let path = normalise(Path::new(OsStr::from_bytes(&note.name)));
            let program = if path == compile.compiler {
                self.has_compiler = true;
                ProgramRole::Compiler
            } else if !self.has_compiler {
                ProgramRole::Proxy
            } else if self.programs.get(&note.process) == Some(&ProgramRole::Compiler)
                && path.starts_with(compile.sysroot)
                && !is_of_other_packages(compile, &path)
            {
                // A compiler driver that was started as the compiler and becomes that of the toolchain.
                ProgramRole::Compiler
            } else if (compile.is_linker)(&path) || path.starts_with(compile.linker_dir()) {
                ProgramRole::Linker
            } else {
                ProgramRole::Other
            };
            self.programs.insert(note.process, program);
        }
        // A process without a program of its own is a copy of the compiler that is about to become
        // another program. Its allocator may read variables before that begins.
        let before = if self.has_compiler { ProgramRole::Compiler } else { ProgramRole::Proxy };
        self.programs.get(&note.process).copied().unwrap_or(before)
    }
}

/// The paths that the compile creates.
struct CreatedPaths {
    all: HashSet<PathBuf>,
    /// The paths that it has created up to this note. If it looked for a path in vain before it created
    /// that path, the absence counts.
    so_far: HashSet<PathBuf>,
}

impl CreatedPaths {
    fn of(notes: &[Note], compile: &CompileContext<'_>) -> CreatedPaths {
        let created =
            notes.iter().filter(|note| note.kind == NoteKind::Written && note.outcome == NoteOutcome::There);
        let all =
            created.map(|note| (compile.normal_form)(Path::new(OsStr::from_bytes(&note.name))).0).collect();
        CreatedPaths { all, so_far: HashSet::new() }
    }

    /// Records the path if this access creates it. Returns whether the access is to a path that the compile
    /// creates, or to one below it. Has to be called for each access, in the order of the notes.
    fn record(&mut self, access: &NotedAccess<'_>) -> bool {
        if access.kind == NoteKind::Written && access.outcome == NoteOutcome::There {
            self.so_far.insert(access.path.clone());
        }
        // Something that exists at such a path was created by this compile, even if the note of its creation
        // comes later, because another process left it. An absence counts until the path is created.
        let created = if access.outcome == NoteOutcome::There { &self.all } else { &self.so_far };
        access.path.ancestors().any(|above| created.contains(above))
    }
}

/// The access that a note is about, and the symbolic links in its path that `..` follows.
fn noted_access<'a>(
    note: &'a Note,
    program: ProgramRole,
    created: &mut CreatedPaths,
    compile: &CompileContext<'_>,
) -> Result<(NotedAccess<'a>, Vec<PathBuf>), Refusal> {
    let mut links = Vec::new();
    let Note { kind, outcome, is_from_late_library, .. } = *note;
    let (path, name) = (PathBuf::new(), "");
    let (value, is_created_here) = (None, false);
    let mut access =
        NotedAccess { program, kind, outcome, path, name, value, is_created_here, is_from_late_library };
    if kind == NoteKind::Variable {
        access.name = std::str::from_utf8(&note.name)
            .map_err(|_| Refusal::UnknownInputs("a variable's name is not UTF-8".to_owned()))?;
        access.value = (outcome == NoteOutcome::There).then_some(&*note.value);
    } else {
        let name = Path::new(OsStr::from_bytes(&note.name));
        if kind == NoteKind::Hidden {
            return Err(Refusal::UnknownInputs(format!(
                "what `{}` finds cannot be observed",
                name.display()
            )));
        }
        (access.path, links) = (compile.normal_form)(name);
        access.is_created_here = created.record(&access);
    }
    Ok((access, links))
}

fn remaining_access(access: NotedAccess<'_>) -> Option<ObservedAccess> {
    Some(match (access.kind, access.outcome) {
        (NoteKind::Variable, _) => {
            ObservedAccess::Variable(access.name.to_owned(), access.value.map(<[u8]>::to_vec))
        }
        (NoteKind::Written, NoteOutcome::There) => ObservedAccess::Created(access.path),
        (NoteKind::Written, NoteOutcome::Failed) => ObservedAccess::Obstacle(access.path),
        (NoteKind::Updated, NoteOutcome::There) => ObservedAccess::Updated(access.path),
        (NoteKind::Link, NoteOutcome::There) => ObservedAccess::Link(access.path),
        (NoteKind::Resolved, NoteOutcome::There) => ObservedAccess::Resolved(access.path),
        (NoteKind::Added, _) => ObservedAccess::Library(access.path),
        (_, NoteOutcome::Absent) => ObservedAccess::Absent(access.path),
        (NoteKind::Listed, NoteOutcome::There) => ObservedAccess::Listing(access.path),
        // Other failures show that something is there: a file that may not be read, or one that is no link.
        _ => ObservedAccess::Present(access.path),
    })
}
