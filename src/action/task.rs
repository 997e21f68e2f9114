//! A compile as the stages after the digest see it: no compiler, no options, only what is
//! to be found, laid down or stored.

use std::path::PathBuf;

use kache_cas::Digest;
use kache_cas::digest::ActionMessage;

use crate::roles::{RolePath, Roots};

/// A compile after its key is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// For people.
    pub label: Label,
    /// Where it happens.
    pub roots: Roots,
    /// The call's directory.
    pub cwd: PathBuf,
    /// The umask that its files get.
    pub umask: u32,
    /// The first of the two keys.
    pub query: Digest<ActionMessage>,
    /// What it makes, in the order in which a compiler announces it.
    pub outputs: Vec<Output>,
    /// Options that decide how messages look, framed; it only counts where there are any.
    pub presentation: Vec<u8>,
    /// Whether outputs are announced on standard error as JSON.
    pub announces_artifacts: bool,
    /// Where its sources come from.
    pub origin: Origin,
    /// Files whose dates decide whether this one's outputs may bear the constant date: the
    /// externs.
    pub depends_on: Vec<PathBuf>,
    /// A path that cargo's `output` file of this package's build script may have; none where
    /// the package has no build script.
    pub build_script_output: Option<PathBuf>,
    /// Files that are added to the dep-info, so that cargo itself notices (`extra_inputs`).
    pub extra_dep_info: Vec<PathBuf>,
    /// Whether a proc macro, which may read what it likes, runs inside the compiler.
    pub runs_proc_macros: bool,
}

/// What people call it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Label {
    /// `--crate-name`.
    pub crate_name: String,
    /// The package's version, where cargo says it.
    pub version: String,
    /// `lib`, `bin`, `proc-macro`, `test`, `build-script`, `check`, `clippy`, …
    pub kind: String,
}

/// Where a package comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// `$CARGO_HOME/registry` or `$CARGO_HOME/git`: cargo takes its sources for immutable.
    Immutable,
    /// A path: its sources are edited.
    Path,
}

/// One file that the compile makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// What it is.
    pub kind: OutputKind,
    /// Where it goes.
    pub path: PathBuf,
    /// Where it stands.
    pub name: RolePath,
    /// Whether a compile that did not make it counts as failed.
    pub is_required: bool,
}

/// What an output is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OutputKind {
    /// `.d`
    DepInfo,
    /// `.rmeta`
    Metadata,
    /// `.rlib`
    Rlib,
    /// `.a` of a staticlib.
    StaticLibrary,
    /// `.so` of a dylib, cdylib or proc macro.
    SharedLibrary,
    /// A program.
    Executable,
    /// Debugging information beside a linked output.
    Debug,
    /// `.s`
    Assembly,
    /// `.bc`
    Bitcode,
    /// `.ll`
    LlvmIr,
    /// `.mir`
    Mir,
    /// `.o`
    Object,
}

impl OutputKind {
    /// As rustc calls it in `--emit` and in the notices about what it wrote.
    pub fn emit_name(self) -> &'static str {
        match self {
            OutputKind::DepInfo => "dep-info",
            OutputKind::Metadata => "metadata",
            OutputKind::Assembly => "asm",
            OutputKind::Bitcode => "llvm-bc",
            OutputKind::LlvmIr => "llvm-ir",
            OutputKind::Mir => "mir",
            OutputKind::Object => "obj",
            OutputKind::Rlib
            | OutputKind::StaticLibrary
            | OutputKind::SharedLibrary
            | OutputKind::Executable
            | OutputKind::Debug => "link",
        }
    }

    /// Whether the compiler announces it. Debugging information comes without a word.
    pub fn is_announced(self) -> bool {
        self != OutputKind::Debug
    }

    /// Whether it is executed or loaded, so that it needs execute permission.
    pub fn is_executable(self) -> bool {
        matches!(self, OutputKind::Executable | OutputKind::SharedLibrary)
    }
}
