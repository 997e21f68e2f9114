//! A compile as the stages after the key see it: lookup, restore and publish know its key, its outputs
//! and the few properties below, but neither the compiler nor its options.

use std::path::PathBuf;

use kache_cas::Digest;
use kache_cas::digest::ActionMessage;

use crate::roles::{RolePath, Roots};

/// A compile whose first key is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// The name that logs and reports show.
    pub label: Label,
    /// The roots of the call.
    pub roots: Roots,
    /// The working directory of the call, absolute.
    pub cwd: PathBuf,
    /// The umask of the call, which restored files get.
    pub umask: u32,
    /// The digest of the query, the first of the two keys.
    pub query: Digest<ActionMessage>,
    /// The files that the compile makes, in the order in which the compiler announces them.
    pub outputs: Vec<Output>,
    /// The options that decide how messages look, each with its length in front. They count only if
    /// the compiler prints messages.
    pub presentation: Vec<u8>,
    /// Whether the call wants a JSON notice on standard error for each output.
    pub announces_artifacts: bool,
    /// Whether the sources of the package can change.
    pub origin: Origin,
    /// The externs. Their dates decide whether the outputs of this compile may have the constant date.
    pub depends_on: Vec<PathBuf>,
    /// The path at which cargo stores the output of the package's build script. `None` if the package
    /// has no build script.
    pub build_script_output: Option<PathBuf>,
    /// Files that are added to the dep-info (`extra_inputs`), so that cargo itself notices when they
    /// change.
    pub extra_dep_info: Vec<PathBuf>,
    /// Whether a proc macro may run inside the compiler. It can read any file.
    pub runs_proc_macros: bool,
}

/// The name of a compile in logs and reports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Label {
    /// The value of `--crate-name`.
    pub crate_name: String,
    /// The version of the package; empty if cargo did not set it.
    pub version: String,
    /// `lib`, `bin`, `proc-macro`, `test`, `build-script`, `check`, `clippy`, …
    pub kind: String,
}

/// Whether the sources of a package can change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The package lies in `$CARGO_HOME/registry` or `$CARGO_HOME/git`, whose sources cargo never expects
    /// to change.
    Immutable,
    /// The package lies elsewhere, and its sources are edited.
    Path,
}

/// One file that a compile makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// The kind of the file.
    pub kind: OutputKind,
    /// The absolute path of the file in this checkout.
    pub path: PathBuf,
    /// The path by role, under which a stored result keeps the file.
    pub name: RolePath,
    /// Whether a result without this file must not be stored.
    pub is_required: bool,
}

/// The kind of an output.
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
    /// The name that rustc uses in `--emit` and in its notices about outputs.
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

    /// Whether the compiler announces such an output. It does not announce separate debugging information.
    pub fn is_announced(self) -> bool {
        self != OutputKind::Debug
    }

    /// Whether such a file needs execute permission, because it is executed or loaded.
    pub fn is_executable(self) -> bool {
        matches!(self, OutputKind::Executable | OutputKind::SharedLibrary)
    }
}
