//! What a command line of rustc says, in types.
//!
//! Paths are as they were given: they count from the call's directory.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::invocation::Bypass;

/// What a command line is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// A compile that may be cached.
    Compile(Box<Rustc>),
    /// A question, or a build script's trial compile, whose whole input is known.
    Probe(Box<Probe>),
    /// None of kache's business.
    Bypass(Bypass),
}

/// Which program is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriverKind {
    /// rustc.
    Rustc,
    /// clippy-driver, called as `clippy-driver rustc …`.
    Clippy,
}

/// A compile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rustc {
    /// Which program is asked.
    pub driver_kind: DriverKind,
    /// The program that runs: rustc, or clippy-driver.
    pub driver: PathBuf,
    /// The rustc that cargo named; the driver itself unless that is clippy's.
    pub rustc: PathBuf,
    /// `--crate-name`.
    pub crate_name: String,
    /// `--crate-type`, all of them; a bin where none was given.
    pub crate_types: Vec<CrateType>,
    /// `--test`.
    pub is_test: bool,
    /// The root source file.
    pub source: Source,
    /// `--emit`, merged, in the order of [`EmitKind`].
    pub emit: Vec<Emit>,
    /// `--out-dir`.
    pub out_dir: Option<PathBuf>,
    /// `-o`.
    pub output: Option<PathBuf>,
    /// `-C extra-filename`; empty where there is none.
    pub extra_filename: String,
    /// `--extern`, in order.
    pub externs: Vec<Extern>,
    /// `-L`, in order.
    pub searches: Vec<Search>,
    /// `-l`, in order.
    pub native_libraries: Vec<NativeLibrary>,
    /// `-C linker`.
    pub linker: Option<OsString>,
    /// `-C link-arg` and `-C link-args`, one each, in order.
    pub link_args: Vec<OsString>,
    /// Files that options name, which count by content (KEY-16).
    pub files: Vec<FileArgument>,
    /// `--target`.
    pub target: Option<TargetArgument>,
    /// `--sysroot`.
    pub sysroot: Option<PathBuf>,
    /// Whether the options keep paths from being remapped (coverage; KEY-18).
    pub keeps_paths: bool,
    /// Whether something is made for the processor of this machine, whatever that is.
    pub is_native: bool,
    /// How messages are to look.
    pub presentation: Presentation,
    /// `-C incremental`. Only a compile whose result is not stored is handed it.
    pub incremental: Option<PathBuf>,
    /// `-C split-debuginfo`, last one wins.
    pub split_debuginfo: Option<String>,
    /// Every file that it writes, in the order in which it announces them.
    pub made: Vec<Made>,
    /// Every argument after the program, argument files expanded, in order, by what it does
    /// to the key.
    pub words: Vec<Word>,
}

impl Rustc {
    /// Directories in which it looks for crates.
    pub fn crate_dirs(&self) -> impl Iterator<Item = &PathBuf> {
        let has_crates = |search: &&Search| {
            matches!(search.kind, SearchKind::Dependency | SearchKind::Crate | SearchKind::All)
        };
        self.searches.iter().filter(has_crates).map(|search| &search.path)
    }

    /// A compile of which nothing is known but its programs.
    pub(super) fn nothing(driver_kind: DriverKind, driver: PathBuf, rustc: PathBuf) -> Rustc {
        Rustc {
            driver_kind,
            driver,
            rustc,
            crate_name: String::new(),
            crate_types: Vec::new(),
            is_test: false,
            source: Source::Stdin,
            emit: Vec::new(),
            out_dir: None,
            output: None,
            extra_filename: String::new(),
            externs: Vec::new(),
            searches: Vec::new(),
            native_libraries: Vec::new(),
            linker: None,
            link_args: Vec::new(),
            files: Vec::new(),
            target: None,
            sysroot: None,
            keeps_paths: false,
            is_native: false,
            presentation: Presentation::default(),
            incremental: None,
            split_debuginfo: None,
            made: Vec::new(),
            words: Vec::new(),
        }
    }

    /// Whether this kind of output was asked for.
    pub fn emits(&self, kind: EmitKind) -> bool {
        self.emit.iter().any(|emit| emit.kind == kind)
    }

    /// Whether a linker runs (KEY-14, KEY-15).
    pub fn is_linked(&self) -> bool {
        self.emits(EmitKind::Link)
            && (self.is_test || self.crate_types.iter().any(|crate_type| crate_type.is_linked()))
    }

    /// The arguments that the compiler gets: those of the call, argument files expanded,
    /// without what is stripped.
    pub fn arguments(&self) -> impl Iterator<Item = OsString> {
        self.words.iter().filter(|word| !matches!(word, Word::Stripped(_))).map(Word::argument)
    }

    /// The same with what is otherwise stripped, `-C incremental`.
    pub fn all_arguments(&self) -> impl Iterator<Item = OsString> {
        self.words.iter().map(Word::argument)
    }
}

/// A file that a compile writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// What it is.
    pub kind: MadeKind,
    /// Where it goes, as rustc names it.
    pub path: PathBuf,
}

/// What a written file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MadeKind {
    /// What `--emit` names, other than `link`.
    Emitted(EmitKind),
    /// What `--emit link` makes of this type of crate; a test harness is a bin.
    Linked(CrateType),
    /// Debugging information beside a linked output (`.dwp`). It is not announced, and not
    /// written where there is none.
    Debug,
}

/// Where the source is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// In this file.
    File(PathBuf),
    /// On standard input.
    Stdin,
}

/// A question or a trial compile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Its command line. A question has no source and makes nothing.
    pub rustc: Rustc,
    /// Whether it asks. If not, it tries, and its failure is an answer too, as all that it
    /// reads is known (RST-10).
    pub is_question: bool,
    /// A name that is different every time (autocfg's), to be replaced by a constant one in
    /// the key and in what is kept.
    pub random_name: Option<String>,
}

/// An argument by what it does to the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// It counts as it is.
    Plain(OsString),
    /// It holds a path, which counts by role.
    Path {
        /// What stands before the path, such as `--extern=x=`.
        before: OsString,
        /// The path.
        path: PathBuf,
    },
    /// It counts, with stand-ins for the roots that it names: `-C link-arg=-T/…/memory.x`.
    /// What of it reaches an output is found there, and binds the result to its place.
    Text(OsString),
    /// It decides how messages look (KEY-13, RST-07); also in [`Presentation`].
    Presentation(OsString),
    /// It does not count, and the compiler gets it.
    Ignored(OsString),
    /// It does not count, and the compiler does not get it either, unless nobody else gets
    /// what comes out.
    Stripped(OsString),
}

impl Word {
    /// As it stood on the command line.
    fn argument(&self) -> OsString {
        match self {
            Word::Plain(text)
            | Word::Text(text)
            | Word::Presentation(text)
            | Word::Ignored(text)
            | Word::Stripped(text) => text.clone(),
            Word::Path { before, path } => {
                let mut whole = before.clone();
                whole.push(path);
                whole
            }
        }
    }
}

/// A crate type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CrateType {
    /// `bin`
    Bin,
    /// `lib` and `rlib`
    Rlib,
    /// `dylib`
    Dylib,
    /// `cdylib`
    Cdylib,
    /// `staticlib`
    Staticlib,
    /// `proc-macro`
    ProcMacro,
}

impl CrateType {
    /// Whether a linker makes it (KEY-14).
    pub fn is_linked(self) -> bool {
        !matches!(self, CrateType::Rlib | CrateType::Staticlib)
    }
}

impl CrateType {
    /// The type that `--crate-type` calls so.
    pub fn from_name(name: &str) -> Option<CrateType> {
        match name {
            "bin" => Some(CrateType::Bin),
            "lib" | "rlib" => Some(CrateType::Rlib),
            "dylib" => Some(CrateType::Dylib),
            "cdylib" => Some(CrateType::Cdylib),
            "staticlib" => Some(CrateType::Staticlib),
            "proc-macro" => Some(CrateType::ProcMacro),
            _ => None,
        }
    }
}

/// One kind of output that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emit {
    /// Which.
    pub kind: EmitKind,
    /// `--emit kind=path`.
    pub path: Option<PathBuf>,
}

/// A kind of output, in the order in which rustc announces them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EmitKind {
    /// `dep-info`
    DepInfo,
    /// `mir`
    Mir,
    /// `metadata`
    Metadata,
    /// `obj`
    Obj,
    /// `llvm-bc`
    LlvmBc,
    /// `llvm-ir`
    LlvmIr,
    /// `asm`
    Asm,
    /// `link`
    Link,
}

impl EmitKind {
    /// All of them.
    pub const ALL: &[EmitKind] = &[
        EmitKind::DepInfo,
        EmitKind::Mir,
        EmitKind::Metadata,
        EmitKind::Obj,
        EmitKind::LlvmBc,
        EmitKind::LlvmIr,
        EmitKind::Asm,
        EmitKind::Link,
    ];

    /// As `--emit` calls it.
    pub fn name(self) -> &'static str {
        match self {
            EmitKind::DepInfo => "dep-info",
            EmitKind::Mir => "mir",
            EmitKind::Metadata => "metadata",
            EmitKind::Obj => "obj",
            EmitKind::LlvmBc => "llvm-bc",
            EmitKind::LlvmIr => "llvm-ir",
            EmitKind::Asm => "asm",
            EmitKind::Link => "link",
        }
    }

    /// The kind that `--emit` calls so.
    pub fn from_name(name: &str) -> Option<EmitKind> {
        EmitKind::ALL.iter().copied().find(|kind| kind.name() == name)
    }
}

/// `--extern`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extern {
    /// `priv`, `noprelude` and their like, as given.
    pub options: String,
    /// The name.
    pub name: String,
    /// The file; none for crates of the toolchain.
    pub path: Option<PathBuf>,
}

/// `-L`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Search {
    /// What is looked for there.
    pub kind: SearchKind,
    /// Where.
    pub path: PathBuf,
}

/// What a search path is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SearchKind {
    /// `dependency=`
    Dependency,
    /// `crate=`
    Crate,
    /// `native=`
    Native,
    /// `framework=`
    Framework,
    /// `all=`, or nothing.
    All,
}

/// `-l`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NativeLibrary {
    /// `static`, `dylib`, `framework`, …; none where it was left out.
    pub kind: Option<String>,
    /// `+whole-archive`, `-bundle`, `+verbatim` and their like, as given.
    pub modifiers: String,
    /// The name by which the crate's source knows it.
    pub name: String,
    /// `name:rename`: what is looked for in its place.
    pub rename: Option<String>,
}

impl NativeLibrary {
    /// The name by which it is looked for.
    pub fn file_name(&self) -> &str {
        self.rename.as_deref().unwrap_or(&self.name)
    }
}

/// A file that an option names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileArgument {
    /// The option, such as `-C profile-use`.
    pub option: &'static str,
    /// The file.
    pub path: PathBuf,
}

/// `--target`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetArgument {
    /// A target that rustc knows.
    Triple(String),
    /// A description of one.
    Spec(PathBuf),
}

/// How messages are to look. It only counts for results that have any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Presentation {
    /// The options as they were given, in order.
    pub options: Vec<OsString>,
    /// Whether messages are JSON.
    pub is_json: bool,
    /// Whether the compiler is to announce each output it has written.
    pub announces_artifacts: bool,
    /// Whether it is to report what a later compiler will refuse.
    pub reports_future_incompat: bool,
}

impl Presentation {
    /// What of `--json` rustc (1.95) makes part of a crate's hash, so that it is in the outputs
    /// whether anything was said or not.
    pub fn hashed(&self) -> Vec<&'static str> {
        let artifacts = self.announces_artifacts.then_some("artifacts");
        let future = self.reports_future_incompat.then_some("future-incompat");
        artifacts.into_iter().chain(future).collect()
    }
}
