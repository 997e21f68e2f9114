//! The types of a parsed command line of rustc.
//!
//! Paths are as they were given; a relative path starts at the call's directory.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::invocation::{Bypass, Word};

/// The result of parsing a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParsedCall {
    /// A compile that may be cached.
    Compile(Box<RustcInvocation>),
    /// A question or a trial compile of a build script, all of whose inputs are known.
    Probe(Box<Probe>),
    /// A call that kache passes on without caching.
    Bypass(Bypass),
}

/// The program of a compile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriverKind {
    /// The compiler is rustc itself.
    Rustc,
    /// clippy-driver, which cargo calls as `clippy-driver rustc …`.
    Clippy,
}

/// A parsed command line of rustc.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RustcInvocation {
    /// Whether rustc or clippy's driver runs.
    pub driver_kind: DriverKind,
    /// The program that runs: rustc or clippy-driver.
    pub driver: PathBuf,
    /// The rustc that cargo named. It is the driver itself, except for clippy.
    pub rustc: PathBuf,
    /// The value of `--crate-name`, or rustc's default.
    pub crate_name: String,
    /// All values of `--crate-type`; `bin` if none was given.
    pub crate_types: Vec<CrateType>,
    /// Whether the call has `--test`.
    pub is_test: bool,
    /// The root source file.
    pub source: CrateSource,
    /// All values of `--emit`, sorted by [`EmitKind`]; `link` if none was given.
    pub emit: Vec<Emit>,
    /// The value of `--out-dir`.
    pub out_dir: Option<PathBuf>,
    /// The value of `-o`.
    pub output_path: Option<PathBuf>,
    /// The value of `-C extra-filename`; empty if there is none.
    pub extra_filename: String,
    /// The values of `--extern`, in order.
    pub externs: Vec<Extern>,
    /// The values of `-L`, in order.
    pub searches: Vec<SearchPath>,
    /// The values of `-l`, in order.
    pub native_libraries: Vec<NativeLibrary>,
    /// The value of `-C linker`.
    pub linker: Option<OsString>,
    /// The arguments for the linker from `-C link-arg` and `-C link-args`, in order.
    pub link_args: Vec<OsString>,
    /// The files that options name and that count by content (KEY-16).
    pub files: Vec<FileArgument>,
    /// The value of `--target`; `None` stands for the compiler's host.
    pub target: Option<TargetArgument>,
    /// The value of `--sysroot`.
    pub sysroot: Option<PathBuf>,
    /// Whether the outputs may contain paths that kache cannot remap or find, as with coverage (KEY-18).
    pub keeps_paths: bool,
    /// Whether the call has `target-cpu=native` or `tune-cpu=native`.
    pub is_native: bool,
    /// The options that decide how messages look.
    pub presentation: Presentation,
    /// The value of `-C incremental`. A compile whose result is stored runs without it.
    pub incremental: Option<PathBuf>,
    /// The last value of `-C split-debuginfo`.
    pub split_debuginfo: Option<String>,
    /// Every file that the compile writes, in the order in which rustc announces them.
    pub outputs: Vec<DeclaredOutput>,
    /// Every argument after the program, in order, with argument files expanded.
    pub words: Vec<Word>,
}

impl RustcInvocation {
    /// Returns the directories in which rustc looks for crates.
    pub fn crate_dirs(&self) -> impl Iterator<Item = &PathBuf> {
        let has_crates = |search: &&SearchPath| {
            matches!(search.kind, SearchKind::Dependency | SearchKind::Crate | SearchKind::All)
        };
        self.searches.iter().filter(has_crates).map(|search| &search.path)
    }

    /// Creates an invocation without options.
    pub(super) fn new(driver_kind: DriverKind, driver: PathBuf, rustc: PathBuf) -> RustcInvocation {
        RustcInvocation {
            driver_kind,
            driver,
            rustc,
            crate_name: String::new(),
            crate_types: Vec::new(),
            is_test: false,
            source: CrateSource::Stdin,
            emit: Vec::new(),
            out_dir: None,
            output_path: None,
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
            outputs: Vec::new(),
            words: Vec::new(),
        }
    }

    /// Whether the call makes this kind of output.
    pub fn emits(&self, kind: EmitKind) -> bool {
        self.emit.iter().any(|emit| emit.kind == kind)
    }

    /// Whether rustc starts a linker (KEY-14, KEY-15).
    pub fn is_linked(&self) -> bool {
        self.emits(EmitKind::Link)
            && (self.is_test || self.crate_types.iter().any(|crate_type| crate_type.is_linked()))
    }
}

/// A file that a compile writes, as the command line declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeclaredOutput {
    /// The kind of file.
    pub kind: DeclaredOutputKind,
    /// The path, as rustc prints it.
    pub path: PathBuf,
}

/// The kinds of files that a compile writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DeclaredOutputKind {
    /// A file of a kind of `--emit` other than `link`.
    Emitted(EmitKind),
    /// The file that `--emit link` makes for this crate type; a test harness is a `bin`.
    Linked(CrateType),
    /// Debugging information beside a linked output (`.dwp`). rustc does not announce it, and does not
    /// write it if there is none.
    Debug,
}

/// The source of a crate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CrateSource {
    /// The root source file.
    File(PathBuf),
    /// The source is read from standard input.
    Stdin,
}

/// A question to the compiler or a trial compile of a build script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The command line. A question has no source and no outputs.
    pub rustc: RustcInvocation,
    /// Whether the probe is a question. Otherwise it is a trial compile, whose failure may be stored, too,
    /// because everything that it reads is known (RST-10).
    pub is_question: bool,
    /// The crate name, if it differs in every build, as autocfg's do. The key and the stored result hold a
    /// constant name instead.
    pub random_name: Option<String>,
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
    /// Whether a linker makes crates of this type (KEY-14).
    pub fn is_linked(self) -> bool {
        !matches!(self, CrateType::Rlib | CrateType::Staticlib)
    }

    /// Returns the type with this name in `--crate-type`; `None` if kache does not know it.
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

/// One value of `--emit`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emit {
    /// The kind of output.
    pub kind: EmitKind,
    /// The path of `--emit kind=path`; `None` without one.
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
    /// Every kind, in the order of declaration.
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

    /// Returns the name of this kind in `--emit`.
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

    /// Returns the kind with this name in `--emit`; `None` if kache does not know it.
    pub fn from_name(name: &str) -> Option<EmitKind> {
        EmitKind::ALL.iter().copied().find(|kind| kind.name() == name)
    }
}

/// One value of `--extern`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extern {
    /// The options before the name, such as `priv,noprelude`, as given.
    pub options: String,
    /// The name of the crate in the source.
    pub name: String,
    /// The file of the crate; `None` if rustc searches for it, as for crates of the toolchain.
    pub path: Option<PathBuf>,
}

/// One value of `-L`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchPath {
    /// What rustc looks for in the directory.
    pub kind: SearchKind,
    /// The directory, as it was given.
    pub path: PathBuf,
}

/// What rustc looks for in a search path.
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
    /// `all=`, or no kind.
    All,
}

/// One value of `-l`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NativeLibrary {
    /// `static`, `dylib`, `framework`, …; `None` if it was left out.
    pub kind: Option<String>,
    /// The modifiers, such as `+whole-archive,-bundle`, as given.
    pub modifiers: String,
    /// The name by which the crate's source refers to the library.
    pub name: String,
    /// The second name of `name:rename`, for which the linker looks instead.
    pub rename: Option<String>,
}

impl NativeLibrary {
    /// Returns the name that the linker looks for.
    pub fn file_name(&self) -> &str {
        self.rename.as_deref().unwrap_or(&self.name)
    }
}

/// A file that an option names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileArgument {
    /// The name of the option, such as `-C profile-use`.
    pub option: &'static str,
    /// The path of the file.
    pub path: PathBuf,
}

/// The value of `--target`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetArgument {
    /// The triple of a built-in target.
    Triple(String),
    /// The JSON file that describes a target.
    Spec(PathBuf),
}

/// The options that decide how messages look. They count only for results that have messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Presentation {
    /// The options as they were given, in order.
    pub options: Vec<OsString>,
    /// Whether messages are JSON.
    pub is_json: bool,
    /// Whether the compiler announces each output that it has written (`--json artifacts`).
    pub announces_artifacts: bool,
    /// Whether the compiler reports code that a later version will reject (`--json future-incompat`).
    pub reports_future_incompat: bool,
}

impl Presentation {
    /// Returns the values of `--json` that rustc (1.95) hashes into the crate, so that they change the
    /// outputs even if there are no messages.
    pub fn hashed(&self) -> Vec<&'static str> {
        let artifacts = self.announces_artifacts.then_some("artifacts");
        let future = self.reports_future_incompat.then_some("future-incompat");
        artifacts.into_iter().chain(future).collect()
    }
}
