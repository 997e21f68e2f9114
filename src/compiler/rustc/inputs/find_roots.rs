//! Finds the roots of a call: the directories of its roles.
//!
//! It only checks which marker files exist above the output directory. The answer must not depend on what
//! was built before, so cargo's lock file is the main marker: cargo creates it before it calls a compiler for
//! the first time. The other files that mark a target directory may appear later, or never.

use std::path::{Path, PathBuf};

use crate::cargo;
use crate::compiler::RootSettings;
use crate::compiler::rustc::invocation::{CrateSource, RustcInvocation, TargetArgument};
use crate::invocation::Call;
use crate::roles::{Role, Root, Roots};

/// Files in the directory of a profile while cargo builds in it.
const PROFILE_MARKERS: &[&str] = &[".cargo-lock", ".cargo-build-lock"];

/// Files in a target directory that cargo created.
const TARGET_MARKERS: &[&str] = &["CACHEDIR.TAG", ".rustc_info.json"];

/// The number of directories above an output directory that are searched. Cargo's longest layout is
/// `<target>/<triple>/<profile>/build/<package>/<hash>/out`; this leaves some room.
const LAYOUT_DEPTH_MAX: usize = 9;

/// Returns the roots of this call. A role without a directory is left out.
pub fn roots(rustc: &RustcInvocation, call: &Call, settings: &RootSettings) -> Roots {
    let cargo = cargo::config::home(&call.env, &call.cwd);
    let target = target(rustc, call);
    let workspace = workspace(rustc, call, cargo.as_deref(), target.as_deref());
    let root = |role| move |dir: PathBuf| Root { role, dir };
    let bases = settings.base_dirs.iter().cloned().zip(0..).map(|(dir, index)| root(Role::Base(index))(dir));
    let mut found = Vec::new();
    found.extend(workspace.map(root(Role::Workspace)));
    found.extend(target.map(root(Role::Target)));
    found.extend(cargo.map(root(Role::Cargo)));
    found.extend(settings.sysroot.clone().map(root(Role::Sysroot)));
    found.extend(bases);
    Roots::new(found.into_iter().filter(|root| root.dir.components().count() > 1))
}

/// Returns the directory of the workspace. For packages of the workspace, cargo calls rustc in the
/// workspace's root with a relative path of the source; for other packages, in the package's own directory
/// with an absolute path. Then the workspace is the directory that contains the target directory, if it has a
/// `Cargo.toml`.
fn workspace(
    rustc: &RustcInvocation,
    call: &Call,
    cargo: Option<&Path>,
    target: Option<&Path>,
) -> Option<PathBuf> {
    let is_in_cargo_home = cargo.is_some_and(|cargo| {
        [cargo.join("registry"), cargo.join("git")].iter().any(|dir| call.cwd.starts_with(dir))
    });
    let is_relative = match &rustc.source {
        CrateSource::File(path) => path.is_relative(),
        CrateSource::Stdin => true,
    };
    if is_relative && !is_in_cargo_home {
        return Some(call.cwd.clone());
    }
    let holder = target?.parent()?;
    exists(&holder.join("Cargo.toml")).then(|| holder.to_owned())
}

/// Returns the target directory of a call; `None` if the call names no place for its outputs. An output directory
/// that is not in one of cargo's target directories is itself the target directory.
fn target(rustc: &RustcInvocation, call: &Call) -> Option<PathBuf> {
    if let Some(dir) = &rustc.out_dir {
        let dir = call.cwd.join(dir);
        return Some(target_dir(&dir, rustc).unwrap_or(dir));
    }
    // Build scripts name the output of a trial compile by itself, below `OUT_DIR`.
    let output = call.cwd.join(rustc.output_path.as_ref()?);
    target_dir(output.parent()?, rustc)
}

/// Returns the target directory of cargo that this directory is in; `None` if it is in none.
fn target_dir(out_dir: &Path, rustc: &RustcInvocation) -> Option<PathBuf> {
    let above = || out_dir.ancestors().take(LAYOUT_DEPTH_MAX);
    let holds = |dir: &Path, markers: &[&str]| markers.iter().any(|marker| exists(&dir.join(marker)));
    let by_profile = above().find(|dir| holds(dir, PROFILE_MARKERS)).and_then(Path::parent);
    let found = by_profile.or_else(|| above().find(|dir| holds(dir, TARGET_MARKERS)));
    let found = found?;
    // With `--target`, cargo builds in a subdirectory of the target directory that is named for the target.
    let triple = match &rustc.target {
        Some(TargetArgument::Triple(triple)) => Some(triple.as_ref()),
        Some(TargetArgument::Spec(path)) => path.file_stem(),
        None => None,
    };
    let above_triple = found.parent().filter(|_| triple.is_some() && found.file_name() == triple);
    Some(above_triple.unwrap_or(found).to_owned())
}

fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}
