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
    /// How messages are to look.
    pub presentation: Presentation,
    /// `-C incremental`. It is never handed to the compiler.
    pub incremental: Option<PathBuf>,
    /// `-C split-debuginfo`, last one wins.
    pub split_debuginfo: Option<String>,
    /// Every argument after the program, argument files expanded, in order, by what it does
    /// to the key.
    pub words: Vec<Word>,
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
    /// The program that runs.
    pub driver: PathBuf,
    /// A trial compile, or `None` for a question.
    pub compile: Option<Box<Rustc>>,
    /// As in [`Rustc::words`].
    pub words: Vec<Word>,
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
    /// It decides how messages look (KEY-13, RST-07); also in [`Presentation`].
    Presentation(OsString),
    /// It does not count, and the compiler gets it.
    Ignored(OsString),
    /// It does not count, and the compiler does not get it either.
    Stripped(OsString),
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

/// One kind of output that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emit {
    /// Which.
    pub kind: EmitKind,
    /// `--emit kind=path`.
    pub path: Option<PathBuf>,
}

/// A kind of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EmitKind {
    /// `dep-info`
    DepInfo,
    /// `metadata`
    Metadata,
    /// `link`
    Link,
    /// `asm`
    Asm,
    /// `llvm-bc`
    LlvmBc,
    /// `llvm-ir`
    LlvmIr,
    /// `mir`
    Mir,
    /// `obj`
    Obj,
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
    /// The name without a rename.
    pub name: String,
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
}
