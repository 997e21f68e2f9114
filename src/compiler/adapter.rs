//! The trait of compilers: what the pipeline asks an adapter about one call, in the order of the stages.
//!
//! An adapter turns everything that is special about its compiler into values that the stages after the key
//! understand: a [`KeySubject`], [`Inputs`], a [`Task`], and a [`LocatorProver`].

use std::ffi::OsString;
use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};

use kache_cas::DigestFunction;

use super::rustc::{self, RustcCall};
use crate::action::{Entry, KeySubject, Query, StoredCommand, Task};
use crate::inputs::{DiskWorld, Inputs, ToolchainFiles};
use crate::invocation::{Bypass, Call};
use crate::publish::{AccessRules, LocatorProver};
use crate::roles::{Remap, Roots};

/// Parses the command line of a call. An error says why the call cannot be cached. Reads argument files and
/// the like through `read`, and starts no process.
pub fn parse(
    call: &Call,
    read: &dyn Fn(&Path) -> io::Result<Vec<u8>>,
) -> Result<Box<dyn CompilerCall>, Bypass> {
    Ok(Box::new(RustcCall::parse(call, read)?))
}

/// Makes a call from a stored action, for the checkout with these roots. `None` if no adapter can, or if the
/// action names a root that is not in `roots`.
///
/// The result is not to be trusted: the caller must compute the key of the recalled call and run it only if
/// that is the key of the stored action. The parts of a call that its key leaves out are lost: how messages
/// look if there were none, incremental compilation, and variables that do not count. None of them changes
/// an output.
pub fn recall(entries: &[Entry], roots: &Roots) -> Option<RecalledCall> {
    let command = StoredCommand::read(entries, roots)?;
    let argv = rustc::recalled_arguments(&command)?;
    Some(RecalledCall { argv, cwd: command.cwd, env: command.env })
}

/// Returns how the arguments of stored actions are read when two of them are compared. Every action is a
/// call of rustc so far.
pub fn argument_style() -> &'static ArgumentStyle {
    rustc::ARGUMENT_STYLE
}

/// What a comparison of command lines has to know of a compiler's options.
#[derive(Debug)]
pub struct ArgumentStyle {
    /// Options whose value begins with a key: with `-C`, `-C lto` and `-C opt-level=3` are two options.
    pub keyed: &'static [&'static str],
    /// Options for directories and names of outputs. The build tool computes them from everything else, so
    /// they differ because something else does.
    pub consequences: &'static [&'static str],
}

/// The parts of a call that its action tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecalledCall {
    /// The arguments, the program first.
    pub argv: Vec<OsString>,
    /// The working directory, absolute.
    pub cwd: PathBuf,
    /// The variables that are in the key. No other variable of the call is known.
    pub env: Vec<(OsString, OsString)>,
}

/// A call whose command line is parsed and may be cached.
pub trait CompilerCall: Debug + Send + Sync {
    /// Returns what the command line says.
    fn facts(&self) -> CallFacts<'_>;

    /// Returns the roots of the call: the directories of its roles. Looks for marker files on disk.
    fn roots(&self, call: &Call, settings: &RootSettings) -> Roots;

    /// Gathers everything that is known before the compiler runs. Reads and hashes files, and may ask
    /// programs; the answers are remembered, so a hit starts no process.
    ///
    /// Invariant (KEY-04): an input that cannot be read or identified is an error, and never left out.
    fn gather(&self, call: &Call, world: &DiskWorld, settings: &GatherSettings) -> Result<Gathered, Bypass>;

    /// Returns the files of the toolchain with digests of this function, and makes `world` remember the digest of
    /// their tree, which [`DiskWorld::known_twin`] then returns. It may hash the whole toolchain.
    fn toolchain_files(
        &self,
        call: &Call,
        world: &DiskWorld,
        function: DigestFunction,
    ) -> Result<ToolchainFiles, Bypass>;

    /// Makes the task for the stages after the key. `extra_dep_info` are declared inputs that go into the
    /// dep-info, so that the build tool notices when they change.
    fn task(&self, call: &Call, roots: &Roots, query: &Query, extra_dep_info: Vec<PathBuf>) -> Task;

    /// Whether the query already has the value of this variable, or that it is not set. If so, a program that
    /// reads the variable needs no observation of it.
    fn is_keyed(&self, name: &str, inputs: &Inputs, task: &Task) -> bool;

    /// Returns the rules by which accesses of the compiler itself are told from those that count.
    fn access_rules(&self) -> &'static AccessRules;

    /// Proves which variables are locators, after the compiler has run.
    fn locators(&self) -> &dyn LocatorProver;
}

/// What a command line says, in the terms of all compilers.
#[derive(Clone, Copy, Debug)]
pub struct CallFacts<'a> {
    /// The name of the crate or file that is compiled.
    pub name: &'a str,
    /// The kind of the call.
    pub kind: CallKind,
    /// The kind of action, as servers of the Remote Execution API log it.
    pub mnemonic: &'static str,
    /// The main source file, as given; `None` for standard input.
    pub source: Option<&'a Path>,
    /// Whether a linker makes an output.
    pub is_linked: bool,
    /// The directory of the outputs, as given; `None` if the call names none.
    pub out_dir: Option<&'a Path>,
    /// The part of the outputs' names that tells units of one name apart; it may be empty.
    pub name_suffix: &'a str,
    /// The directory for incremental state, as given; `None` if the compile is not incremental.
    pub incremental_dir: Option<&'a Path>,
    /// The directories in which the compiler looks for outputs of other compiles, as given.
    pub library_dirs: &'a [PathBuf],
}

/// The kinds of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallKind {
    /// The call compiles sources to outputs.
    Compile,
    /// A trial compile of a build tool. Everything that it reads is known, so its failure is stored, too
    /// (RST-10).
    Trial,
    /// A question to the compiler, such as for its version. It compiles nothing.
    Question,
}

impl CallKind {
    /// Whether the call is a probe: kache knows beforehand everything that it reads, and stores its failure
    /// as well as its success (RST-10).
    pub fn is_probe(self) -> bool {
        self != CallKind::Compile
    }
}

/// The roots that do not follow from the call.
#[derive(Clone, Debug, Default)]
pub struct RootSettings {
    /// The directories in `paths.base_dirs`, absolute.
    pub base_dirs: Vec<PathBuf>,
    /// The directory of the toolchain; `None` if the caller does not know it.
    pub sysroot: Option<PathBuf>,
}

/// The settings that add to a key.
#[derive(Clone, Debug, Default)]
pub struct GatherSettings {
    /// The directories in `paths.base_dirs`, absolute.
    pub base_dirs: Vec<PathBuf>,
    /// Whether the paths of roots are kept out of outputs (`paths.normalize`).
    pub remaps_paths: bool,
    /// The value of `cache.key_salt`; empty if it is not set (KEY-20).
    pub salt: Vec<u8>,
    /// The names in `cache.key_env_vars`.
    pub key_env_vars: Vec<String>,
    /// The `extra_inputs` of this crate, absolute. A directory stands for all files below it.
    pub extra_inputs: Vec<PathBuf>,
}

/// Everything that is known before the compiler runs.
#[derive(Debug)]
pub struct Gathered {
    /// The roots of the call.
    pub roots: Roots,
    /// The input files, the variables and the toolchain.
    pub inputs: Inputs,
    /// The command line and what else enters the key.
    pub subject: KeySubject,
    /// The directories whose paths kache keeps out of outputs and messages.
    pub remaps: Vec<Remap>,
}
