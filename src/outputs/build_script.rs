//! The date of a build script's `output` file, with which cargo compares the dates of the units that
//! use the script's output.
//!
//! The file may get the constant date if nothing that cargo compares it with is newer: the
//! executable of the build script has the constant date, too, and no `rerun-if-changed` line names a
//! file whose date cargo looks at. This module knows cargo's `build/<package>-<hash>/` directories.
//! If they look different, it dates nothing.

use std::fs;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use super::dates::{has_constant_date, set_constant_date};
use super::staging::Staging;
use crate::action::Task;
use crate::roles::Role;

/// A longer `output` is not read: it holds more than instructions for cargo.
const OUTPUT_BYTES_MAX: u64 = 1 << 20;

/// Whether `output` may have the constant date. Changes nothing.
pub(super) fn may_have_constant_date(task: &Task, output: &Path) -> bool {
    let output = task.cwd.join(output);
    let (Some(cargo), Some(text)) = (task.roots.dir(Role::Cargo), read(&output)) else { return false };
    text.split(|&byte| byte == b'\n').all(|line| is_harmless(line, cargo))
        && executables_are_dated(task, &output)
}

/// Gives `output` the constant date. Returns whether the file has it now.
pub(super) fn give_constant_date(task: &Task, output: &Path, staging: Option<&Staging>) -> bool {
    let output = task.cwd.join(output);
    has_constant_date(&output) == Some(true) || set_constant_date(&output, staging).is_ok()
}

fn read(path: &Path) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    fs::File::open(path).ok()?.take(OUTPUT_BYTES_MAX + 1).read_to_end(&mut text).ok()?;
    (text.len() as u64 <= OUTPUT_BYTES_MAX).then_some(text)
}

/// Whether a line names no file whose date cargo looks at. Cargo looks at no date in its registry
/// and git directories; relative paths lie there, too, because the package does.
fn is_harmless(line: &[u8], cargo: &Path) -> bool {
    let line = line.trim_ascii();
    let named = [&b"cargo:rerun-if-changed="[..], b"cargo::rerun-if-changed="];
    let Some(path) = named.iter().find_map(|prefix| line.strip_prefix(*prefix)) else { return true };
    let path = Path::new(std::ffi::OsStr::from_bytes(path));
    let leads_up = path.components().any(|component| component == Component::ParentDir);
    let is_below = |name: &str| path.starts_with(cargo.join(name));
    !leads_up && (path.is_relative() || is_below("registry") || is_below("git"))
}

/// Whether all build-script executables of this package have the constant date, and there is one. No
/// file says which of them wrote `output`.
fn executables_are_dated(task: &Task, output: &Path) -> bool {
    let Some((package, build)) = package_and_build_dir(output) else { return false };
    let mut has_executable = false;
    for build in std::iter::once(build.to_owned()).chain(host_build_dir(task, build)) {
        let Ok(entries) = fs::read_dir(&build) else { continue };
        let units = entries
            .flatten()
            .filter(|entry| package_of(&entry.file_name()).as_deref() == Some(package.as_bytes()));
        for executable in units.flat_map(|entry| executables(&entry.path())) {
            if has_constant_date(&executable) != Some(true) {
                return false;
            }
            has_executable = true;
        }
    }
    has_executable
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

/// The directory in which build scripts are compiled when `build` belongs to another platform:
/// `target/debug/build` beside `target/<triple>/debug/build`.
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
    let files = entries.flatten().filter(|entry| entry.file_name().to_str().is_some_and(is_executable));
    files.map(|entry| entry.path()).collect()
}
