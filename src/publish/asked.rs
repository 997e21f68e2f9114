//! What the notes of an observed compile say beyond what is known of it anyway (KEY-23).
//!
//! Pure: notes in, questions out. A compiler asks for hundreds of files and variables, of which
//! the key and the dep-info know nearly all; what is left is what a proc macro, or a program
//! that it started, wanted to know, and what a linker found where nobody expected it. [`LEFT_OUT`]
//! says what is left out, and why a hit need not look at it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::refusal::Refusal;
use crate::action::is_of_the_call;
use crate::observer::{Kind, Note, Outcome};
use crate::roles::normalise;

/// Something that was asked for and that nothing else tells of.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Asked {
    /// Something was there.
    Place(PathBuf),
    /// Nothing was.
    Absence(PathBuf),
    /// A directory was listed.
    Listing(PathBuf),
    /// Something came to be.
    Made(PathBuf),
    /// A file was opened to be written and kept what was in it: it may have been read.
    Updated(PathBuf),
    /// Something could not be done because of what is here, whatever that is.
    Obstacle(PathBuf),
    /// What a symbolic link says was read, or what it leads to was found by it.
    Link(PathBuf),
    /// A library was loaded.
    Library(PathBuf),
    /// A program of this name was looked for in `PATH`.
    Program(PathBuf),
    /// A variable, with its value if it was set.
    Variable(String, Option<Vec<u8>>),
    /// All variables may have been read.
    Environment,
    /// The name of this directory may have been read.
    Stand(PathBuf),
}

/// What is known of a compile besides its notes.
#[derive(Clone, Copy)]
pub(super) struct Known<'a> {
    /// The compiler's program, under its real name.
    pub(super) compiler: &'a Path,
    /// The toolchain.
    pub(super) sysroot: &'a Path,
    /// Directories in which a compiler looks for crates.
    pub(super) crate_dirs: &'a [PathBuf],
    /// The observer, and where its records lie.
    pub(super) observer: &'a [PathBuf],
    /// Where programs put what they need for a moment.
    pub(super) temp_dir: &'a Path,
    /// Whether a file is such a one: builds happen there, too.
    pub(super) is_temporary: &'a dyn Fn(&Path) -> bool,
    /// What the compile is to make.
    pub(super) outputs: &'a [PathBuf],
    /// A path in normal form. Where it goes up behind a symbolic link, what the link leads to is meant, and
    /// the link is named as well.
    pub(super) plain: &'a dyn Fn(&Path) -> (PathBuf, Vec<PathBuf>),
    /// Whether a path leads to what the kernel makes up, which is no file.
    pub(super) is_kernels: &'a dyn Fn(&Path) -> bool,
    /// Whether a file is an input of the key, or stands in the dep-info.
    pub(super) is_input: &'a dyn Fn(&Path) -> bool,
    /// Whether a program is a compiler or a linker of the link toolchain, and known as one by
    /// its content.
    pub(super) is_linker: &'a dyn Fn(&Path) -> bool,
    /// Whether a file is a linker's script whose path says all that is in it.
    pub(super) is_sealed_script: &'a dyn Fn(&Path) -> bool,
    /// Whether a library may walk through all variables, for which it asks nobody.
    pub(super) may_read_all: &'a dyn Fn(&Path) -> bool,
    /// Whether a variable is in the key already.
    pub(super) is_keyed: &'a dyn Fn(&str) -> bool,
    /// The call's environment.
    pub(super) variable: &'a dyn Fn(&str) -> Option<Vec<u8>>,
}

/// Whose note it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Program {
    /// Something that ran before the compiler, in its place.
    Proxy,
    /// The compiler, with the proc macros in it.
    Compiler,
    /// The toolchain's linker, or the system's.
    Linker,
    /// Anything else: what a proc macro started, or a program that calls the linker.
    Other,
}

/// A note with what is known of it.
struct Seen<'a> {
    program: Program,
    kind: Kind,
    outcome: Outcome,
    /// In lexical normal form; empty for a variable.
    path: PathBuf,
    /// Empty for a path.
    name: &'a str,
    value: Option<&'a [u8]>,
    is_own: bool,
    /// Whether a library asked that was loaded after the program had begun, such as a proc macro.
    is_late: bool,
}

impl Seen<'_> {
    fn is_file(&self) -> bool {
        self.kind != Kind::Variable
    }

    /// Whether the program wrote it, or may have.
    fn is_written(&self) -> bool {
        matches!(self.kind, Kind::Written | Kind::Updated)
    }

    fn is_below(&self, dir: &Path) -> bool {
        self.is_file() && self.path.starts_with(dir)
    }

    fn is_named(&self, names: &[&str]) -> bool {
        self.kind == Kind::Variable && names.contains(&self.name)
    }
}

/// What is left out of the observations.
#[derive(Debug)]
pub struct Rule {
    /// What.
    pub what: &'static str,
    /// Whether a note is about that.
    holds: fn(&Seen<'_>, &Known<'_>) -> bool,
    /// Why a hit need not look at it.
    pub why: &'static str,
}

/// What rustc asks for itself in every compile, and what therefore says nothing about macros.
const OF_RUSTC: &[&str] = &[
    "CARGO_MAKEFLAGS",
    "CI",
    "LLVM_IGNORED_ENV_VAR",
    "LLVM_OVERRIDE_PRODUCER",
    "MAKEFLAGS",
    "MALLOC_CONF",
    "MFLAGS",
    "PATH",
    "QNX_TARGET",
    "RUSTC_BOOTSTRAP",
    "RUSTC_CTFE_BACKTRACE",
    "RUSTC_FORCE_RUSTC_VERSION",
    "RUSTC_GRAPHVIZ_FONT",
    "RUSTC_ICE",
    "RUST_BACKTRACE",
    "RUST_LIB_BACKTRACE",
    "RUST_MIN_STACK",
    "RUST_TARGET_PATH",
    "VCINSTALLDIR",
];

/// What finds programs, and what tells a macro's own build of the descriptors of cargo's.
const OF_THE_BUILD: &[&str] = &["CARGO_MAKEFLAGS", "MAKEFLAGS", "MFLAGS", "PATH"];

/// Files of the system that every program comes by, whatever it does.
const OF_EVERY_PROGRAM: &[&str] = &[
    "/etc/ld.so.cache",
    "/etc/ld.so.preload",
    "/etc/locale.alias",
    "/etc/malloc.conf",
    "/etc/nsswitch.conf",
    "/usr/lib/locale",
    "/usr/share/locale",
];

/// What is no observation. `docs/observed.md` has this table.
pub const LEFT_OUT: &[Rule] = &[
    Rule {
        what: "whatever a program does that runs before the compiler",
        holds: |seen, _| seen.program == Program::Proxy,
        why: "a proxy decides which toolchain runs, and that counts by content",
    },
    Rule {
        what: "the toolchain's tree",
        holds: |seen, known| {
            seen.is_below(known.sysroot) && !is_shared(known.sysroot, &seen.path)
                || seen.is_file() && seen.path == known.compiler
        },
        why: "it counts by content as a whole",
    },
    Rule {
        what: "inputs of the key, and files in the dep-info",
        holds: |seen, known| seen.is_file() && (known.is_input)(&seen.path),
        why: "they count already",
    },
    Rule {
        what: "directories in which crates are looked for, and the crates in them",
        holds: |seen, known| known.crate_dirs.iter().any(|dir| is_crate_of(seen, dir)),
        why: "an extern's metadata names its own dependencies by hash, and a linker's count one by one",
    },
    Rule {
        what: "outputs, their directory, and what has their names with other endings",
        holds: |seen, known| seen.is_file() && known.outputs.iter().any(|output| is_beside(seen, output)),
        why: "they are removed before the compiler runs, and what it makes besides is its own",
    },
    Rule {
        what: "what the compile made itself",
        holds: |seen, _| seen.is_own && seen.kind != Kind::Written,
        why: "it follows from the rest",
    },
    Rule {
        what: "the directory for temporary files, and what is made in it",
        holds: |seen, known| {
            seen.path == known.temp_dir || seen.kind == Kind::Written && (known.is_temporary)(&seen.path)
        },
        why: "nobody relies on what another program left there",
    },
    Rule {
        what: "profiles of macros that were compiled with `-C instrument-coverage`",
        holds: |seen, _| seen.is_written() && seen.path.extension().is_some_and(|ending| ending == "profraw"),
        why: "they are about this run",
    },
    Rule {
        what: "the standard library's sources under the name that they had when it was built",
        holds: |seen, _| seen.outcome == Outcome::Absent && is_virtual(&seen.path),
        why: "rustc looks for them to show them, and nobody has them there",
    },
    Rule {
        what: "the observer",
        holds: |seen, known| known.observer.iter().any(|place| seen.is_below(place)),
        why: "it changes nothing",
    },
    Rule {
        what: "locales, and what loads and converts",
        holds: |seen, _| {
            OF_EVERY_PROGRAM.iter().any(|place| seen.is_below(Path::new(place)))
                || seen.is_file() && seen.path.components().any(|part| part.as_os_str() == "gconv")
        },
        why: "the C library asks for them in every program; LANG and its like count where they are read",
    },
    Rule {
        what: "libraries that the toolchain's programs are loaded with",
        holds: |seen, _| seen.kind == Kind::Loaded && seen.program == Program::Compiler,
        why: "its own are in its tree, macros are externs, and the system's C library makes no output",
    },
    Rule {
        what: "where a linker looked, other than for what it found unexpectedly",
        holds: |seen, _| {
            seen.program == Program::Linker
                && seen.is_file()
                && (matches!(seen.kind, Kind::Looked | Kind::Listed) || seen.outcome != Outcome::There)
        },
        why: "libraries are resolved as it would, for every call, before anything else",
    },
    Rule {
        what: "what the kernel makes up: processes, devices, terminals and the like, wherever it is mounted",
        holds: |seen, known| seen.is_file() && (known.is_kernels)(&seen.path),
        why: "it is no file that anybody wrote",
    },
    Rule {
        what: "variables that rustc itself asks for",
        holds: |seen, _| !seen.is_late && (seen.is_named(OF_RUSTC) || seen.name.starts_with("RUSTC_LOG")),
        why: "those that decide an output are in the key; one that a proc macro asks for counts",
    },
    Rule {
        what: "variables in the key",
        holds: |seen, known| seen.kind == Kind::Variable && (known.is_keyed)(seen.name),
        why: "they count already, also when they are not set",
    },
    Rule {
        what: "variables of the call, the terminal or the shell, and of kache",
        holds: |seen, _| {
            seen.is_named(OF_THE_BUILD)
                || seen.kind == Kind::Variable
                    && (is_of_the_call(seen.name) || crate::observer::is_own_variable(seen.name))
        },
        why: "they differ from call to call; PATH finds programs, which count by content",
    },
    Rule {
        what: "variables that a program has given its own value",
        holds: |seen, known| {
            seen.kind == Kind::Variable && (known.variable)(seen.name).as_deref() != seen.value
        },
        why: "it follows from the rest",
    },
];

/// Whether a path below a toolchain's directory is everybody's: some are installed in `/usr`.
fn is_shared(sysroot: &Path, path: &Path) -> bool {
    let is_everybodys = ["/", "/usr", "/usr/local"].iter().any(|dir| sysroot == Path::new(dir));
    is_everybodys && !path.starts_with(sysroot.join("lib/rustlib"))
}

/// Whether a path is an output, its directory, or there what differs in its ending only, such as
/// the metadata that rustc looks for before it links a program. What came to be there is judged
/// by its own name.
fn is_beside(seen: &Seen<'_>, output: &Path) -> bool {
    let name = |path: &Path| {
        path.file_stem()
            .map(|stem| stem.as_bytes().strip_prefix(b"lib").unwrap_or(stem.as_bytes()).to_owned())
    };
    let is_alike = || seen.path.parent() == output.parent() && name(&seen.path) == name(output);
    let is_made = seen.kind == Kind::Written && seen.outcome == Outcome::There;
    seen.path == output || !is_made && (Some(&*seen.path) == output.parent() || is_alike())
}

/// Whether a path is one of the standard library's sources as rustc writes it down: `/rustc/<commit>/library/…`.
fn is_virtual(path: &Path) -> bool {
    const COMMIT_LEN: usize = 40;
    let mut parts = path.strip_prefix("/rustc").into_iter().flat_map(Path::components);
    let commit = parts.next().map(|part| part.as_os_str().as_bytes());
    commit.is_some_and(|name| name.len() == COMMIT_LEN && name.iter().all(u8::is_ascii_hexdigit))
}

fn is_crate_of(seen: &Seen<'_>, dir: &Path) -> bool {
    let is_crate = || {
        let ending = seen.path.extension().and_then(OsStr::to_str);
        matches!(ending, Some("rlib" | "rmeta" | "so"))
            && seen.path.file_name().is_some_and(|name| name.as_bytes().starts_with(b"lib"))
    };
    seen.path == dir || seen.path.parent() == Some(dir) && is_crate()
}

/// What was asked for beyond what is known. `None` where the compiler itself was not observed.
pub(super) fn asked(notes: &[Note], known: &Known<'_>) -> Result<Option<BTreeSet<Asked>>, Refusal> {
    let mut own = Own::of(notes, known);
    let mut programs = Programs::default();
    let mut imports = Imports::default();
    let mut asked = BTreeSet::new();
    // Where a linker looked in vain, in case it finds the same library elsewhere.
    let mut in_vain: Vec<PathBuf> = Vec::new();
    let mut found: HashSet<Vec<u8>> = HashSet::new();
    for note in notes {
        let program = programs.of(note, known);
        if is_about_programs(note) {
            asked.extend(started(note, program));
            continue;
        }
        imports.watch(note, program, known);
        if is_about_surroundings(note) {
            continue;
        }
        let (seen, links) = seen(note, program, &mut own, known)?;
        if LEFT_OUT.iter().any(|rule| (rule.holds)(&seen, known)) {
            if program == Program::Linker && seen.is_file() && seen.outcome == Outcome::Absent && !seen.is_own
            {
                in_vain.push(seen.path);
            }
            continue;
        }
        asked.extend(links.into_iter().map(Asked::Link));
        if program == Program::Linker && seen.kind == Kind::Read {
            found.extend(library_name(&seen.path));
        }
        asked.extend(question(seen));
    }
    let is_found = |path: &PathBuf| library_name(path).is_some_and(|name| found.contains(&name));
    asked.extend(in_vain.into_iter().filter(is_found).map(Asked::Absence));
    asked.extend(imports.end());
    Ok(programs.has_compiler.then_some(asked))
}

/// Whether a note says how a program was observed, and nothing of what it asked for.
fn is_about_programs(note: &Note) -> bool {
    matches!(note.kind, Kind::Executed | Kind::Unseen)
}

/// What the start of a program tells of the places where it is looked for: one that is found says so when it
/// begins, and linkers are found before anything else.
fn started(note: &Note, program: Program) -> Option<Asked> {
    if note.kind != Kind::Executed || matches!(program, Program::Proxy | Program::Linker) {
        return None;
    }
    let name = Path::new(OsStr::from_bytes(&note.name));
    match note.outcome {
        _ if !note.name.contains(&b'/') => Some(Asked::Program(name.to_owned())),
        Outcome::There => None,
        Outcome::Absent | Outcome::Failed => Some(Asked::Obstacle(normalise(name))),
    }
}

/// Whether a note is about what a program learns of all its variables, or of where it is.
fn is_about_surroundings(note: &Note) -> bool {
    matches!(note.kind, Kind::Directory | Kind::Environment)
}

/// `libx` of `libx.so.1` and `libx.a`.
fn library_name(path: &Path) -> Option<Vec<u8>> {
    let name = path.file_name()?.as_bytes();
    Some(name.split(|byte| *byte == b'.').next()?.to_vec())
}

/// What programs learn when they begin, whatever they ask for afterwards: nobody can tell which
/// of the variables that a shell has imported its script looks at, and it knows where it stands.
#[derive(Default)]
struct Imports {
    /// Where each process stands whose program is not known as a compiler or a linker.
    stands: HashMap<u32, PathBuf>,
    asked: BTreeSet<Asked>,
}

impl Imports {
    fn watch(&mut self, note: &Note, program: Program, known: &Known<'_>) {
        let path = |bytes: &[u8]| normalise(Path::new(OsStr::from_bytes(bytes)));
        match note.kind {
            Kind::Started => {
                // The process may have run another program before.
                self.asked.extend(self.stands.remove(&note.process).map(Asked::Stand));
                if program == Program::Other {
                    self.asked.insert(Asked::Environment);
                    self.stands.insert(note.process, path(&note.value));
                }
            }
            // Every compiler asks for its directory; one that a proc macro asks for is another matter.
            Kind::Directory if program == Program::Compiler && note.mark => {
                self.asked.insert(Asked::Stand(path(&note.name)));
            }
            Kind::Environment if program != Program::Proxy => {
                self.asked.insert(Asked::Environment);
            }
            Kind::Added if program == Program::Compiler => {
                let library = path(&note.name);
                if !library.starts_with(known.sysroot) && (known.may_read_all)(&library) {
                    self.asked.insert(Asked::Environment);
                }
            }
            Kind::Read if (known.is_sealed_script)(&path(&note.name)) => {
                self.stands.remove(&note.process);
            }
            _ => {}
        }
    }

    fn end(self) -> BTreeSet<Asked> {
        let Imports { stands, mut asked } = self;
        asked.extend(stands.into_values().filter(|stand| stand.is_absolute()).map(Asked::Stand));
        asked
    }
}

/// Which program each process runs.
#[derive(Default)]
struct Programs {
    programs: HashMap<u32, Program>,
    has_compiler: bool,
}

impl Programs {
    fn of(&mut self, note: &Note, known: &Known<'_>) -> Program {
        if note.kind == Kind::Started {
            let path = normalise(Path::new(OsStr::from_bytes(&note.name)));
            let program = if path == known.compiler {
                self.has_compiler = true;
                Program::Compiler
            } else if !self.has_compiler {
                Program::Proxy
            } else if self.programs.get(&note.process) == Some(&Program::Compiler)
                && path.starts_with(known.sysroot)
                && !is_shared(known.sysroot, &path)
            {
                // A program that stands in for the toolchain's compiler and becomes it.
                Program::Compiler
            } else if (known.is_linker)(&path) || path.starts_with(known.sysroot.join("lib/rustlib")) {
                Program::Linker
            } else {
                Program::Other
            };
            self.programs.insert(note.process, program);
        }
        // A process that is about to become another program, or a part of this one. What is
        // asked for before a program has begun is its allocator's.
        let before = if self.has_compiler { Program::Compiler } else { Program::Proxy };
        self.programs.get(&note.process).copied().unwrap_or(before)
    }
}

/// What the compile makes itself.
struct Own {
    all: HashSet<PathBuf>,
    /// What it has made so far: where it looked for something before that, in vain, counts.
    so_far: HashSet<PathBuf>,
}

impl Own {
    fn of(notes: &[Note], known: &Known<'_>) -> Own {
        let made = notes.iter().filter(|note| note.kind == Kind::Written && note.outcome == Outcome::There);
        let all = made.map(|note| (known.plain)(Path::new(OsStr::from_bytes(&note.name))).0).collect();
        Own { all, so_far: HashSet::new() }
    }

    /// Whether a note is about that. Notes come in the order in which things happened.
    fn has(&mut self, seen: &Seen<'_>) -> bool {
        if seen.kind == Kind::Written && seen.outcome == Outcome::There {
            self.so_far.insert(seen.path.clone());
        }
        let own = if seen.outcome == Outcome::There { &self.all } else { &self.so_far };
        seen.path.ancestors().any(|above| own.contains(above))
    }
}

/// A note with what is known of it, and the links that its path goes up behind.
fn seen<'a>(
    note: &'a Note,
    program: Program,
    own: &mut Own,
    known: &Known<'_>,
) -> Result<(Seen<'a>, Vec<PathBuf>), Refusal> {
    let mut links = Vec::new();
    let Note { kind, outcome, mark: is_late, .. } = *note;
    let (path, name) = (PathBuf::new(), "");
    let mut seen = Seen { program, kind, outcome, path, name, value: None, is_own: false, is_late };
    if kind == Kind::Variable {
        seen.name = std::str::from_utf8(&note.name)
            .map_err(|_| Refusal::UnknownInputs("a variable's name is not UTF-8".to_owned()))?;
        seen.value = (outcome == Outcome::There).then_some(&*note.value);
    } else {
        let name = Path::new(OsStr::from_bytes(&note.name));
        if kind == Kind::Hidden {
            return Err(Refusal::UnknownInputs(format!(
                "what `{}` finds cannot be observed",
                name.display()
            )));
        }
        (seen.path, links) = (known.plain)(name);
        seen.is_own = own.has(&seen);
    }
    Ok((seen, links))
}

fn question(seen: Seen<'_>) -> Option<Asked> {
    Some(match (seen.kind, seen.outcome) {
        (Kind::Variable, _) => Asked::Variable(seen.name.to_owned(), seen.value.map(<[u8]>::to_vec)),
        (Kind::Written, Outcome::There) => Asked::Made(seen.path),
        (Kind::Written, Outcome::Failed) => Asked::Obstacle(seen.path),
        (Kind::Updated, Outcome::There) => Asked::Updated(seen.path),
        (Kind::Link, Outcome::There) => Asked::Link(seen.path),
        (Kind::Added, _) => Asked::Library(seen.path),
        (_, Outcome::Absent) => Asked::Absence(seen.path),
        (Kind::Listed, Outcome::There) => Asked::Listing(seen.path),
        // What fails otherwise is there: a link that is none, a file that may not be read.
        _ => Asked::Place(seen.path),
    })
}
