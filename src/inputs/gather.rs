//! All inputs of a compile that are known before it runs.
//!
//! Whatever cannot be read or identified makes the compile uncacheable: no key is ever made
//! of a part (KEY-04).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kache_cas::Digest;

use super::crates::{MadeCrate, Uses, linked_name};
use super::disk_world::DiskWorld;
use super::env;
use super::linked::{passed_on, take_linked};
use super::processor::native;
use super::stamp::OpenDir;
use super::types::{Input, InputKind, Inputs, Toolchain};
use super::world::{FileState, World as _, WorldError};
use crate::invocation::rustc::{CrateSource, CrateType, DriverKind, RustcInvocation, TargetArgument};
use crate::invocation::{Bypass, Call, Reason};
use crate::roles::{Role, RolePath, Roots, normalise};

/// What the configuration adds to a key.
#[derive(Clone, Debug, Default)]
pub struct GatherSettings {
    /// `cache.key_salt`; empty is none (KEY-20).
    pub salt: Vec<u8>,
    /// `cache.key_env_vars`.
    pub key_env_vars: Vec<String>,
    /// `extra_inputs` of this crate, absolute: files, or directories with all that is in them.
    pub extra_inputs: Vec<PathBuf>,
}

/// How deep, and how many files, a declared directory may have.
const DECLARED_DEPTH_MAX: usize = 32;
const DECLARED_FILES_MAX: usize = 20_000;

/// The inputs of this call.
pub fn gather(
    rustc: &RustcInvocation,
    call: &Call,
    roots: &Roots,
    toolchain: Toolchain,
    world: &DiskWorld,
    settings: &GatherSettings,
) -> Result<Inputs, Bypass> {
    let mut gathered = Gathered { call, roots, world, files: BTreeMap::new() };
    if let CrateSource::File(path) = &rustc.source {
        gathered.require(path, InputKind::Source)?;
    }
    for path in rustc.externs.iter().filter_map(|one| one.path.as_deref()) {
        gathered.require(path, InputKind::Extern)?;
    }
    for file in &rustc.files {
        gathered.require(&file.path, InputKind::Option)?;
    }
    if let Some(TargetArgument::Spec(path)) = &rustc.target {
        gathered.require(path, InputKind::Option)?;
    }
    if rustc.driver_kind == DriverKind::Clippy {
        gathered.clippy_settings()?;
    }
    for path in &settings.extra_inputs {
        gathered.declared(path, 0)?;
    }
    let is_linked = rustc.is_linked();
    let native = rustc.is_native.then(|| native(rustc, call, &toolchain, world)).transpose()?;
    take_linked(&mut gathered, rustc, &toolchain)?;
    let env = env::keyed(rustc, call, roots, &settings.key_env_vars, is_linked)?;
    let made_crate = made_crate(rustc, call);
    if let Some(made) = &made_crate {
        world.begin_crate(made);
    }
    let files = gathered.files.into_values().collect();
    Ok(Inputs { toolchain, files, env, native, salt: settings.salt.clone(), made_crate })
}

/// The crate that the call makes, if others can use it.
pub(super) fn made_crate(rustc: &RustcInvocation, call: &Call) -> Option<MadeCrate> {
    Some(MadeCrate::new(&crate_place(rustc, call)?, uses(rustc)))
}

/// Where the crate will lie, without extension, if others can use it.
fn crate_place(rustc: &RustcInvocation, call: &Call) -> Option<PathBuf> {
    let is_used =
        |kind: &CrateType| matches!(kind, CrateType::Rlib | CrateType::Dylib | CrateType::ProcMacro);
    let out_dir = rustc.out_dir.as_ref().filter(|_| rustc.crate_types.iter().any(is_used))?;
    let name = format!("lib{}{}", rustc.crate_name, rustc.extra_filename);
    Some(call.cwd.join(out_dir).join(name))
}

/// What the command line says of other crates and libraries. A procedural macro is loaded,
/// not linked: whoever uses it gets none of what it is made of.
fn uses(rustc: &RustcInvocation) -> Uses {
    if rustc.crate_types.contains(&CrateType::ProcMacro) {
        return Uses::default();
    }
    let paths = rustc.externs.iter().filter_map(|one| one.path.as_deref());
    let mut crates: Vec<_> = paths.filter_map(linked_name).collect();
    let mut natives = passed_on(rustc);
    for list in [&mut crates, &mut natives] {
        list.sort_unstable();
        list.dedup();
    }
    Uses { crates, natives }
}

/// Inputs by their place, each once.
pub(super) struct Gathered<'a> {
    pub(super) call: &'a Call,
    roots: &'a Roots,
    pub(super) world: &'a DiskWorld,
    files: BTreeMap<RolePath, Input>,
}

impl Gathered<'_> {
    /// Takes a file that must be there.
    pub(super) fn require(&mut self, path: &Path, kind: InputKind) -> Result<Digest, Bypass> {
        self.take(path, kind)?.ok_or_else(|| unknown(path, "there is no such file"))
    }

    /// Takes a file if it is there. That it is not there is told by its absence from the
    /// inputs.
    pub(super) fn take(&mut self, path: &Path, kind: InputKind) -> Result<Option<Digest>, Bypass> {
        let path = self.call.cwd.join(path);
        let state = self.world.state(&path);
        self.take_state(&path, state, kind)
    }

    /// As [`Gathered::take`], of an entry of a directory that is open.
    pub(super) fn take_from(
        &mut self,
        dir: &OpenDir,
        path: &Path,
        kind: InputKind,
    ) -> Result<Option<Digest>, Bypass> {
        let state = self.world.state_in(dir, path);
        self.take_state(path, state, kind)
    }

    fn take_state(
        &mut self,
        path: &Path,
        state: Result<FileState, WorldError>,
        kind: InputKind,
    ) -> Result<Option<Digest>, Bypass> {
        match state.map_err(|error| Bypass::new(Reason::UnknownInput, error.to_string()))? {
            FileState::File { digest, is_executable } => {
                self.known(path, digest, is_executable, kind);
                Ok(Some(digest))
            }
            FileState::Directory => Err(unknown(path, "it is a directory")),
            FileState::Absent => Ok(None),
        }
    }

    /// Takes a file whose content is known.
    pub(super) fn known(&mut self, path: &Path, digest: Digest, is_executable: bool, kind: InputKind) {
        let path = self.roots.role_path(&self.call.cwd, path);
        let input = Input { path: path.clone(), digest, is_executable, kind };
        self.files.entry(path).or_insert(input);
    }

    /// What a directory is.
    pub(super) fn role_of(&self, dir: &Path) -> Role {
        self.roots.role_path(&self.call.cwd, dir).role()
    }

    /// Clippy takes the first of its files that it finds, from the directory of the manifest
    /// upwards (KEY-16).
    fn clippy_settings(&mut self) -> Result<(), Bypass> {
        let set = |name| self.call.env.path(name);
        let start = set("CLIPPY_CONF_DIR").or_else(|| set("CARGO_MANIFEST_DIR"));
        let start = self.call.cwd.join(start.unwrap_or(Path::new(".")));
        for dir in normalise(&start).ancestors() {
            let mut is_found = false;
            for name in [".clippy.toml", "clippy.toml"] {
                is_found |= self.take(&dir.join(name), InputKind::Option)?.is_some();
            }
            if is_found {
                break;
            }
        }
        Ok(())
    }

    /// Takes a declared file, or everything in a declared directory (KEY-21).
    fn declared(&mut self, path: &Path, depth: usize) -> Result<(), Bypass> {
        let path = self.call.cwd.join(path);
        if !path.is_dir() {
            return self.take(&path, InputKind::Declared).map(drop);
        }
        if depth > DECLARED_DEPTH_MAX || self.files.len() > DECLARED_FILES_MAX {
            return Err(unknown(&path, "there is too much in it to be an input"));
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
