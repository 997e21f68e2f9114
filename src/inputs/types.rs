//! The inputs of a compile that are known before it runs.

use std::path::PathBuf;

use kache_cas::Digest;
use kache_cas::digest::DirectoryMessage;

use super::crates::MadeCrate;
use crate::roles::RolePath;

/// Everything that enters the key besides the command line and what earlier runs observed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inputs {
    /// The compiler.
    pub toolchain: Toolchain,
    /// Files, in order of their paths, each once.
    pub files: Vec<Input>,
    /// Variables that count whatever the compiler reports.
    pub env: Variables,
    /// The meaning of `native` on this machine, where the call asks for it (KEY-09).
    pub native: Option<String>,
    /// `cache.key_salt`; empty is none (KEY-20).
    pub salt: Vec<u8>,
    /// The crate that the compile makes, if others can use it. It enters no key.
    pub made_crate: Option<MadeCrate>,
}

/// Variables in order of their names, with their values if they are set. Values hold
/// stand-ins for roots.
pub type Variables = Vec<(String, Option<Vec<u8>>)>;

/// A compiler, by content (KEY-12).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toolchain {
    /// Its files: driver, libraries, the target's standard library.
    pub tree: Digest<DirectoryMessage>,
    /// Where it lies.
    pub sysroot: PathBuf,
    /// The program that runs, below the sysroot or elsewhere.
    pub driver: PathBuf,
    /// What stands for it in a key, whatever name or link it was called by: itself, or rustup's
    /// proxy, since that sets variables which a compiler without it does not see.
    pub called: PathBuf,
    /// `rustc 1.95.0 (…)`, for people.
    pub banner: String,
    /// The commit it was built from; empty if it does not say.
    pub commit_hash: String,
    /// The triple that it runs on.
    pub host: String,
}

/// A file that counts by content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// Where it stands.
    pub path: RolePath,
    /// What is in it.
    pub digest: Digest,
    /// Whether it may be executed.
    pub is_executable: bool,
    /// Why it is an input.
    pub kind: InputKind,
}

/// Why a file is an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum InputKind {
    /// The crate's root source file.
    Source,
    /// `--extern`.
    Extern,
    /// A crate that is linked because an extern uses it.
    Reachable,
    /// A native library.
    Native,
    /// The linker, and what it always links.
    LinkToolchain,
    /// A file that an option names.
    Option,
    /// `extra_inputs`.
    Declared,
}

impl InputKind {
    /// As `explain` shows it.
    pub fn name(self) -> &'static str {
        match self {
            InputKind::Source => "source",
            InputKind::Extern => "extern",
            InputKind::Reachable => "reachable crate",
            InputKind::Native => "native library",
            InputKind::LinkToolchain => "link toolchain",
            InputKind::Option => "option",
            InputKind::Declared => "declared",
        }
    }
}
