//! The types of inputs: files, variables and the toolchain, all known before the compile runs.

use std::path::PathBuf;

use bytes::Bytes;
use kache_cas::Digest;
use kache_cas::digest::DirectoryMessage;

use super::crates::MadeCrate;
use crate::roles::RolePath;

/// Everything that enters the key except the command line and the observations of earlier runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inputs {
    /// The compiler with its libraries.
    pub toolchain: Toolchain,
    /// The input files, sorted by path, without duplicates.
    pub files: Vec<Input>,
    /// Variables that count even if the compiler does not report that it read them.
    pub env: Variables,
    /// The name and the features of this machine's processor, if the call has `target-cpu=native`
    /// (KEY-09).
    pub native: Option<String>,
    /// The value of `cache.key_salt`; empty if it is not set (KEY-20).
    pub salt: Vec<u8>,
    /// The crate that the compile makes; `None` if other crates cannot use it. It enters no key.
    pub made_crate: Option<MadeCrate>,
}

/// Variables, sorted by name. The value is `None` if the variable is not set; the paths of roots in it
/// are replaced by stand-ins.
pub type Variables = Vec<(String, Option<Vec<u8>>)>;

/// A compiler, identified by the content of its files (KEY-12).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toolchain {
    /// The digest of the tree of its files: the driver, its libraries, the target's standard library.
    pub tree: Digest<DirectoryMessage>,
    /// The directory of the toolchain.
    pub sysroot: PathBuf,
    /// The program that runs. It may lie outside the sysroot.
    pub driver: PathBuf,
    /// The program that a key names, whatever name or link the call used: `driver`, or rustup's proxy
    /// if the call used that. The two differ, because the proxy sets variables for the compiler.
    pub called: PathBuf,
    /// The name and version of the compiler, for people; they are in no key.
    pub banner: String,
    /// The target triple of the machine that the compiler runs on.
    pub host: String,
}

/// The files of a toolchain, with all digests in one function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolchainFiles {
    /// The digest of the tree.
    pub tree: Digest<DirectoryMessage>,
    /// The directories of the tree, encoded, with their digests.
    pub directories: Vec<(Digest, Bytes)>,
    /// The files of the tree, by their paths on this machine.
    pub files: Vec<(Digest, PathBuf)>,
}

/// A file whose content is part of the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// The path of the file by role.
    pub path: RolePath,
    /// The digest of the content.
    pub digest: Digest,
    /// Whether the owner may execute the file.
    pub is_executable: bool,
    /// The reason why the file is an input.
    pub kind: InputKind,
}

/// The reason why a file is an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum InputKind {
    /// The crate's root source file.
    Source,
    /// A crate that `--extern` names.
    Extern,
    /// A crate that is linked because an extern uses it, directly or through other crates.
    Reachable,
    /// A native library that is linked or bundled.
    Native,
    /// The linker, or a file that the linker always links.
    LinkToolchain,
    /// A file that an option names.
    Option,
    /// A file that the configuration declares (`extra_inputs`).
    Declared,
}

impl InputKind {
    /// The name that `kache explain` prints.
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
