//! The `output` file of a package's build script, which cargo dates and everything above it
//! is compared with.
//!
//! It may bear the constant date when nothing that cargo compares it with is younger: the
//! build script's executable bears that date too, and no `rerun-if-changed` names a file
//! whose date counts. Knows cargo's `build/<package>-<hash>/` directories and nothing else
//! of it; where they look different, nothing is dated.

use std::fs;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use super::dates::{has_constant_date, set_constant_date};
use super::staging::Staging;
use crate::action::Task;
use crate::roles::Role;

/// A longer `output` is not read: it is then no list of a few instructions.
const OUTPUT_BYTES_MAX: u64 = 1 << 20;

/// Gives `output` the constant date, if it may have it. Whether it has it now.
pub(super) fn date(task: &Task, output: &Path, staging: Option<&Staging>) -> bool {
    let output = task.cwd.join(output);
    let (Some(cargo), Some(text)) = (task.roots.dir(Role::Cargo), read(&output)) else { return false };
    let is_datable = text.split(|&byte| byte == b'\n').all(|line| is_harmless(line, cargo))
        && executable_is_dated(task, &output);
    is_datable && (has_constant_date(&output) == Some(true) || set_constant_date(&output, staging).is_ok())
}

fn read(path: &Path) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    fs::File::open(path).ok()?.take(OUTPUT_BYTES_MAX + 1).read_to_end(&mut text).ok()?;
    (text.len() as u64 <= OUTPUT_BYTES_MAX).then_some(text)
}

/// Whether a line makes cargo look at no date that counts. Relative paths are the package's,
/// which lies where cargo looks at none.
fn is_harmless(line: &[u8], cargo: &Path) -> bool {
    let line = line.trim_ascii();
    let named = [&b"cargo:rerun-if-changed="[..], b"cargo::rerun-if-changed="];
    let Some(path) = named.iter().find_map(|prefix| line.strip_prefix(*prefix)) else { return true };
    let path = Path::new(std::ffi::OsStr::from_bytes(path));
    let leads_up = path.components().any(|component| component == Component::ParentDir);
    let is_below = |name: &str| path.starts_with(cargo.join(name));
    !leads_up && (path.is_relative() || is_below("registry") || is_below("git"))
}

/// Whether every build-script executable of this package bears the constant date. Which of
/// them made `output` is not written anywhere near it.
fn executable_is_dated(task: &Task, output: &Path) -> bool {
    let Some((package, build)) = package_and_build_dir(output) else { return false };
    let mut found = false;
    for build in std::iter::once(build.to_owned()).chain(host_build_dir(task, build)) {
        let Ok(entries) = fs::read_dir(&build) else { continue };
        let ours = entries
            .flatten()
            .filter(|entry| package_of(&entry.file_name()).as_deref() == Some(package.as_bytes()));
        for executable in ours.flat_map(|entry| executables(&entry.path())) {
            if has_constant_date(&executable) != Some(true) {
                return false;
            }
            found = true;
        }
    }
    found
}

fn package_and_build_dir(output: &Path) -> Option<(&str, &Path)> {
    let unit = output.parent()?;
    let (package, _) = unit.file_name()?.to_str()?.rsplit_once('-')?;
    Some((package, unit.parent()?))
}

fn package_of(directory: &std::ffi::OsStr) -> Option<Vec<u8>> {
    let (package, _) = directory.to_str()?.rsplit_once('-')?;
    Some(package.as_bytes().to_vec())
}

/// Where build scripts are compiled when `build` is another target's: `target/debug/build`
/// beside `target/<triple>/debug/build`.
fn host_build_dir(task: &Task, build: &Path) -> Option<PathBuf> {
    let profile = build.parent()?.file_name()?;
    let host = task.roots.dir(Role::Target)?.join(profile).join("build");
    (host != build).then_some(host)
}

fn executables(unit: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(unit) else { return Vec::new() };
    let is_executable = |name: &str| {
        (name.starts_with("build-script-") || name.starts_with("build_script_")) && !name.contains('.')
    };
    let ours = entries.flatten().filter(|entry| entry.file_name().to_str().is_some_and(is_executable));
    ours.map(|entry| entry.path()).collect()
}
