//! Gathers all inputs of a compile that are known before it runs.
//!
//! Invariant (KEY-04): an input that cannot be read or identified makes the call a bypass. A key never
//! leaves out an input.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kache_cas::Digest;

use super::crates::{CrateUses, MadeCrate, linked_name};
use super::disk_world::DiskWorld;
use super::env;
use super::linked::{add_linked, passed_on};
use super::processor::native;
use super::stamp::OpenDir;
use super::types::{Input, InputKind, Inputs, Toolchain};
use super::world::{FileState, World as _, WorldError};
use crate::invocation::rustc::{CrateSource, CrateType, DriverKind, RustcInvocation, TargetArgument};
use crate::invocation::{Bypass, Call, Reason};
use crate::roles::{Role, RolePath, Roots, normalise};

/// The settings that add to a key.
#[derive(Clone, Debug, Default)]
pub struct GatherSettings {
    /// The value of `cache.key_salt`; empty if it is not set (KEY-20).
    pub salt: Vec<u8>,
    /// The names in `cache.key_env_vars`.
    pub key_env_vars: Vec<String>,
    /// The `extra_inputs` of this crate, absolute. A directory stands for all files below it.
    pub extra_inputs: Vec<PathBuf>,
}

/// The largest depth of a declared directory, and the largest number of inputs at which one is read.
const DECLARED_DEPTH_MAX: usize = 32;
const DECLARED_FILES_MAX: usize = 20_000;

/// Gathers the inputs of this call. It reads files and may run the linker's driver or the compiler to
/// ask where they look; the answers are remembered, so a hit starts no process.
pub fn gather(
    rustc: &RustcInvocation,
    call: &Call,
    roots: &Roots,
    toolchain: Toolchain,
    world: &DiskWorld,
    settings: &GatherSettings,
) -> Result<Inputs, Bypass> {
    let mut gathered = GatheredInputs { call, roots, world, files: BTreeMap::new() };
    if let CrateSource::File(path) = &rustc.source {
        gathered.add(path, InputKind::Source)?;
    }
    for path in rustc.externs.iter().filter_map(|one| one.path.as_deref()) {
        gathered.add(path, InputKind::Extern)?;
    }
    for file in &rustc.files {
        gathered.add(&file.path, InputKind::Option)?;
    }
    if let Some(TargetArgument::Spec(path)) = &rustc.target {
        gathered.add(path, InputKind::Option)?;
    }
    if rustc.driver_kind == DriverKind::Clippy {
        gathered.clippy_settings()?;
    }
    for path in &settings.extra_inputs {
        gathered.declared(path, 0)?;
    }
    let is_linked = rustc.is_linked();
    let native = rustc.is_native.then(|| native(rustc, call, &toolchain, world)).transpose()?;
    add_linked(&mut gathered, rustc, &toolchain)?;
    let env = env::keyed(rustc, call, roots, &settings.key_env_vars, is_linked)?;
    let made_crate = made_crate(rustc, call);
    // Other calls may link this crate before it is finished, so they need to know now what it uses.
    if let Some(made) = &made_crate {
        world.begin_crate(made);
    }
    let files = gathered.files.into_values().collect();
    Ok(Inputs { toolchain, files, env, native, salt: settings.salt.clone(), made_crate })
}

/// Returns the crate that the call makes; `None` if other crates cannot use it.
pub(super) fn made_crate(rustc: &RustcInvocation, call: &Call) -> Option<MadeCrate> {
    Some(MadeCrate::new(&crate_stem(rustc, call)?, uses(rustc)))
}

/// The path without extension at which this compile will put its crate; `None` if no other crate can
/// use the crate.
fn crate_stem(rustc: &RustcInvocation, call: &Call) -> Option<PathBuf> {
    let is_used =
        |kind: &CrateType| matches!(kind, CrateType::Rlib | CrateType::Dylib | CrateType::ProcMacro);
    let out_dir = rustc.out_dir.as_ref().filter(|_| rustc.crate_types.iter().any(is_used))?;
    let name = format!("lib{}{}", rustc.crate_name, rustc.extra_filename);
    Some(call.cwd.join(out_dir).join(name))
}

/// The crates and native libraries that the command line names. They are empty for a proc macro: a proc
/// macro is loaded and not linked, so a crate that uses it links nothing of what it was made of.
fn uses(rustc: &RustcInvocation) -> CrateUses {
    if rustc.crate_types.contains(&CrateType::ProcMacro) {
        return CrateUses::default();
    }
    let paths = rustc.externs.iter().filter_map(|one| one.path.as_deref());
    let mut crates: Vec<_> = paths.filter_map(linked_name).collect();
    let mut natives = passed_on(rustc);
    for list in [&mut crates, &mut natives] {
        list.sort_unstable();
        list.dedup();
    }
    CrateUses { crates, natives }
}

/// The inputs that were gathered so far, by path.
pub(super) struct GatheredInputs<'a> {
    pub(super) call: &'a Call,
    roots: &'a Roots,
    pub(super) world: &'a DiskWorld,
    files: BTreeMap<RolePath, Input>,
}

impl GatheredInputs<'_> {
    /// Adds a file. If it does not exist, the call is a bypass.
    pub(super) fn add(&mut self, path: &Path, kind: InputKind) -> Result<Digest, Bypass> {
        self.add_if_present(path, kind)?.ok_or_else(|| unknown(path, "there is no such file"))
    }

    /// Adds a file if it exists. A missing file needs no note: the key differs because the file is not
    /// among the inputs.
    pub(super) fn add_if_present(&mut self, path: &Path, kind: InputKind) -> Result<Option<Digest>, Bypass> {
        let path = self.call.cwd.join(path);
        let state = self.world.state(&path);
        self.add_state(&path, state, kind)
    }

    /// Like [`GatheredInputs::add_if_present`], for an entry of a directory that is already open.
    pub(super) fn add_entry_if_present(
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
    pub(super) fn add_known(&mut self, path: &Path, digest: Digest, is_executable: bool, kind: InputKind) {
        let path = self.roots.role_path(&self.call.cwd, path);
        let input = Input { path: path.clone(), digest, is_executable, kind };
        self.files.entry(path).or_insert(input);
    }

    /// The role of a directory.
    pub(super) fn role_of(&self, dir: &Path) -> Role {
        self.roots.role_path(&self.call.cwd, dir).role()
    }

    /// Adds clippy's configuration. Clippy searches from the directory of the manifest upwards and uses
    /// the first file that it finds (KEY-16).
    fn clippy_settings(&mut self) -> Result<(), Bypass> {
        let set = |name| self.call.env.path(name);
        let start = set("CLIPPY_CONF_DIR").or_else(|| set("CARGO_MANIFEST_DIR"));
        let start = self.call.cwd.join(start.unwrap_or(Path::new(".")));
        for dir in normalise(&start).ancestors() {
            let mut is_found = false;
            for name in [".clippy.toml", "clippy.toml"] {
                is_found |= self.add_if_present(&dir.join(name), InputKind::Option)?.is_some();
            }
            if is_found {
                break;
            }
        }
        Ok(())
    }

    /// Adds a declared file, or all files below a declared directory (KEY-21).
    fn declared(&mut self, path: &Path, depth: usize) -> Result<(), Bypass> {
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
