//! Gathers all inputs of a compile that are known before it runs.
//!
//! Invariant (KEY-04): an input that cannot be read or identified makes the call a bypass. A key never
//! leaves out an input.

use std::path::{Path, PathBuf};

use super::env;
use super::linked::{add_linked, passed_on};
use super::processor::native;
use crate::compiler::GatherSettings;
use crate::compiler::rustc::invocation::{
    CrateSource, CrateType, DriverKind, RustcInvocation, TargetArgument,
};
use crate::inputs::{
    CrateUses, DiskWorld, GatheredInputs, InputKind, Inputs, MadeCrate, Toolchain, linked_name,
};
use crate::invocation::{Bypass, Call};
use crate::roles::{Roots, normalise};

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
    let mut gathered = GatheredInputs::new(call, roots, world);
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
        clippy_settings(&mut gathered)?;
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
    let files = gathered.into_files();
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

/// Adds clippy's configuration. Clippy searches from the directory of the manifest upwards and uses
/// the first file that it finds (KEY-16).
fn clippy_settings(gathered: &mut GatheredInputs<'_>) -> Result<(), Bypass> {
    let set = |name| gathered.call.env.path(name);
    let start = set("CLIPPY_CONF_DIR").or_else(|| set("CARGO_MANIFEST_DIR"));
    let start = gathered.call.cwd.join(start.unwrap_or(Path::new(".")));
    for dir in normalise(&start).ancestors() {
        let mut is_found = false;
        for name in [".clippy.toml", "clippy.toml"] {
            is_found |= gathered.add_if_present(&dir.join(name), InputKind::Option)?.is_some();
        }
        if is_found {
            break;
        }
    }
    Ok(())
}
