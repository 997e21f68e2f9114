//! A compile as the stages after the key see it: lookup, restore and publish know its key, its outputs
//! and the few properties below, but neither the compiler nor its options.

use std::path::PathBuf;

use kache_cas::Digest;
use kache_cas::digest::ActionMessage;

use super::message_format::MessageFormat;
use crate::roles::{RolePath, Roots};

/// A compile whose first key is known.
#[derive(Clone, Debug)]
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
    /// How the compiler's messages look.
    pub message_format: &'static dyn MessageFormat,
    /// Whether the call wants a notice for each output ([`MessageFormat`]).
    pub wants_notices: bool,
    /// Whether the sources of the package can change.
    pub origin: Origin,
    /// The outputs of other compiles that this one reads. Their dates decide whether the outputs of this
    /// compile may have the constant date.
    pub depends_on: Vec<PathBuf>,
    /// The file that the build tool writes when an earlier step of this package has run, and with whose
    /// date it compares the outputs. `None` if there is no such step.
    pub earlier_step: Option<PathBuf>,
    /// Files that are added to the dep-info (`extra_inputs`), so that the build tool itself notices when
    /// they change.
    pub extra_dep_info: Vec<PathBuf>,
    /// Whether code that is not the compiler's own may run inside it. Such code can read any file.
    pub runs_foreign_code: bool,
}

impl Task {
    /// Returns the paths of the outputs that may differ from run to run, as results name them.
    pub fn unstable_paths(&self) -> Vec<String> {
        let unstable = self.outputs.iter().filter(|output| output.kind == OutputKind::DepInfo);
        unstable.filter_map(|output| String::from_utf8(output.name.in_input_root()).ok()).collect()
    }
}

/// The name of a compile in logs and reports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Label {
    /// The name of the crate or file that is compiled.
    pub name: String,
    /// The version of the package; empty if the build tool does not tell it.
    pub version: String,
    /// The kind of compile, such as `lib`, `bin` or `test`, in the words of the build tool.
    pub kind: String,
}

/// Whether the sources of a package can change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The package was downloaded, and the build tool never expects its sources to change.
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
    /// A library that is loaded when a program runs, `.so`.
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
    /// Whether such a file needs execute permission, because it is executed or loaded.
    pub fn is_executable(self) -> bool {
        matches!(self, OutputKind::Executable | OutputKind::SharedLibrary)
    }

    /// Whether no other compile reads such a file.
    pub fn is_leaf(self) -> bool {
        matches!(self, OutputKind::Executable | OutputKind::Debug)
    }
}
