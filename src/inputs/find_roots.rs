//! Where the roles' directories lie for one call.
//!
//! Reads nothing but which marker files exist above the output directory. The answer must
//! not depend on what was built before: cargo makes its lock file before it calls a
//! compiler for the first time, and everything else that marks a target directory may come
//! later, or never.

use std::path::{Path, PathBuf};

use crate::cargo;
use crate::invocation::Call;
use crate::invocation::rustc::{CrateSource, RustcInvocation, TargetArgument};
use crate::roles::{Role, Root, Roots};

/// What the configuration and the toolchain say about roots.
#[derive(Clone, Debug, Default)]
pub struct RootSettings {
    /// `paths.base_dirs`, absolute.
    pub base_dirs: Vec<PathBuf>,
    /// The toolchain's directory, where it is known.
    pub sysroot: Option<PathBuf>,
}

/// In every profile's directory while cargo builds in it.
const PROFILE_MARKERS: &[&str] = &[".cargo-lock", ".cargo-build-lock"];

/// In a target directory that cargo made.
const TARGET_MARKERS: &[&str] = &["CACHEDIR.TAG", ".rustc_info.json"];

/// How far above an output directory cargo's own layout reaches:
/// `<target>/<triple>/<profile>/build/<package>/<hash>/out`, and some room.
const LAYOUT_DEPTH_MAX: usize = 9;

/// The roots of this call.
pub fn roots(rustc: &RustcInvocation, call: &Call, settings: &RootSettings) -> Roots {
    let cargo = cargo::config::home(&call.env, &call.cwd);
    let target = rustc.out_dir.as_deref().map(|dir| target_dir(&call.cwd.join(dir), rustc));
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

/// Cargo calls what belongs to the workspace from the workspace's root, by relative paths,
/// and everything else from the package's own directory, by absolute ones.
fn workspace(
    rustc: &RustcInvocation,
    call: &Call,
    cargo: Option<&Path>,
    target: Option<&Path>,
) -> Option<PathBuf> {
    let is_foreign = cargo.is_some_and(|cargo| {
        [cargo.join("registry"), cargo.join("git")].iter().any(|dir| call.cwd.starts_with(dir))
    });
    let is_relative = match &rustc.source {
        CrateSource::File(path) => path.is_relative(),
        CrateSource::Stdin => true,
    };
    if is_relative && !is_foreign {
        return Some(call.cwd.clone());
    }
    let holder = target?.parent()?;
    exists(&holder.join("Cargo.toml")).then(|| holder.to_owned())
}

/// The target directory, or the output directory itself where it is none of cargo's.
fn target_dir(out_dir: &Path, rustc: &RustcInvocation) -> PathBuf {
    let above = || out_dir.ancestors().take(LAYOUT_DEPTH_MAX);
    let holds = |dir: &Path, markers: &[&str]| markers.iter().any(|marker| exists(&dir.join(marker)));
    let by_profile = above().find(|dir| holds(dir, PROFILE_MARKERS)).and_then(Path::parent);
    let found = by_profile.or_else(|| above().find(|dir| holds(dir, TARGET_MARKERS)));
    let Some(found) = found else { return out_dir.to_owned() };
    // What is built for a named target has a directory of its own below the target directory.
    let triple = match &rustc.target {
        Some(TargetArgument::Triple(triple)) => Some(triple.as_ref()),
        Some(TargetArgument::Spec(path)) => path.file_stem(),
        None => None,
    };
    let above_triple = found.parent().filter(|_| triple.is_some() && found.file_name() == triple);
    above_triple.unwrap_or(found).to_owned()
}

fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}
