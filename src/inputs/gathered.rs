//! Collects the inputs of a compile, each once, with its digest.
//!
//! Invariant (KEY-04): an input that cannot be read or identified makes the call a bypass. A key never
//! leaves out an input.

use std::collections::BTreeMap;
use std::path::Path;

use kache_cas::Digest;

use super::disk_world::DiskWorld;
use super::stamp::OpenDir;
use super::types::{Input, InputKind};
use super::world::{FileState, World as _, WorldError};
use crate::invocation::{Bypass, Call, Reason};
use crate::roles::{Role, RolePath, Roots};

/// The largest depth of a declared directory, and the largest number of inputs at which one is read.
const DECLARED_DEPTH_MAX: usize = 32;
const DECLARED_FILES_MAX: usize = 20_000;

/// The inputs that were gathered so far, by path.
pub(crate) struct GatheredInputs<'a> {
    pub(crate) call: &'a Call,
    roots: &'a Roots,
    pub(crate) world: &'a DiskWorld,
    files: BTreeMap<RolePath, Input>,
}

impl<'a> GatheredInputs<'a> {
    /// Starts with no inputs. `roots` are the roots of `call`.
    pub(crate) fn new(call: &'a Call, roots: &'a Roots, world: &'a DiskWorld) -> Self {
        GatheredInputs { call, roots, world, files: BTreeMap::new() }
    }

    /// Returns the inputs, sorted by path.
    pub(crate) fn into_files(self) -> Vec<Input> {
        self.files.into_values().collect()
    }

    /// Adds a file. If it does not exist, the call is a bypass.
    pub(crate) fn add(&mut self, path: &Path, kind: InputKind) -> Result<Digest, Bypass> {
        self.add_if_present(path, kind)?.ok_or_else(|| unknown(path, "there is no such file"))
    }

    /// Adds a file if it exists. A missing file needs no note: the key differs because the file is not
    /// among the inputs.
    pub(crate) fn add_if_present(&mut self, path: &Path, kind: InputKind) -> Result<Option<Digest>, Bypass> {
        let path = self.call.cwd.join(path);
        let state = self.world.state(&path);
        self.add_state(&path, state, kind)
    }

    /// Like [`GatheredInputs::add_if_present`], for an entry of a directory that is already open.
    pub(crate) fn add_entry_if_present(
        &mut self,
        dir: &OpenDir,
        path: &Path,
        kind: InputKind,
    ) -> Result<Option<Digest>, Bypass> {
        let state = self.world.state_in(dir, path);
        self.add_state(path, state, kind)
    }

    fn add_state(
        &mut self,
        path: &Path,
        state: Result<FileState, WorldError>,
        kind: InputKind,
    ) -> Result<Option<Digest>, Bypass> {
        match state.map_err(|error| Bypass::new(Reason::UnknownInput, error.to_string()))? {
            FileState::File { digest, is_executable } => {
                self.add_known(path, digest, is_executable, kind);
                Ok(Some(digest))
            }
            FileState::Directory => Err(unknown(path, "it is a directory")),
            FileState::Absent => Ok(None),
        }
    }

    /// Adds a file whose digest the caller knows.
    pub(crate) fn add_known(&mut self, path: &Path, digest: Digest, is_executable: bool, kind: InputKind) {
        let path = self.roots.role_path(&self.call.cwd, path);
        let input = Input { path: path.clone(), digest, is_executable, kind };
        self.files.entry(path).or_insert(input);
    }

    /// The role of a directory.
    pub(crate) fn role_of(&self, dir: &Path) -> Role {
        self.roots.role_path(&self.call.cwd, dir).role()
    }

    /// Adds a declared file, or all files below a declared directory (KEY-21).
    pub(crate) fn declared(&mut self, path: &Path, depth: usize) -> Result<(), Bypass> {
        let path = self.call.cwd.join(path);
        if !path.is_dir() {
            return self.add_if_present(&path, InputKind::Declared).map(drop);
        }
        if depth > DECLARED_DEPTH_MAX || self.files.len() > DECLARED_FILES_MAX {
            return Err(unknown(&path, "the directory has too many files or levels to be an input"));
        }
        let names = self.world.names(&path);
        let names = names.map_err(|error| Bypass::new(Reason::UnknownInput, error.to_string()))?;
        for name in names.unwrap_or_default() {
            use std::os::unix::ffi::OsStrExt as _;
            self.declared(&path.join(std::ffi::OsStr::from_bytes(&name)), depth + 1)?;
        }
        Ok(())
    }
}

fn unknown(path: &Path, why: &str) -> Bypass {
    Bypass::new(Reason::UnknownInput, format!("`{}`: {why}", path.display()))
}
