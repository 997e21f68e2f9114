//! Finds the program that runs when a call names a program: it searches `PATH` and looks behind rustup's
//! proxies (KEY-12).
//!
//! A proxy chooses the toolchain by its environment, by `rust-toolchain` files in and above the directory,
//! and by rustup's settings. Each of these is part of the remembered question or a dependency of its answer,
//! so rustup runs only once for each choice.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::inputs::{ByteReader, ByteWriter, DiskWorld, Stamp, ask, on_path};
use crate::invocation::{Bypass, Call, Reason};

/// Files that choose the toolchain for the directories below them.
const TOOLCHAIN_FILES: &[&str] = &["rust-toolchain", "rust-toolchain.toml"];

/// The variables of the call's environment that rustup gets.
const VARIABLES: &[&str] = &["HOME", "PATH", "CARGO_HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN"];

/// Returns the file that a program's name stands for, and the file that really runs. They differ only for a
/// proxy of rustup. It may run rustup.
pub(super) fn resolve(program: &Path, call: &Call, world: &DiskWorld) -> Result<(PathBuf, PathBuf), Bypass> {
    let found = on_path(program, call).ok_or_else(|| unknown(program, "there is no such program"))?;
    let real = match is_proxy(&found) {
        false => found.clone(),
        true => behind_proxy(&found, call, world)?,
    };
    Ok((found, real))
}

/// Whether a program is a proxy of rustup: rustup installs them beside itself, as links to itself.
fn is_proxy(program: &Path) -> bool {
    let stamp = |path: &Path| Stamp::of(path).ok().flatten();
    let beside = program.with_file_name("rustup");
    let is_same = |a: Stamp, b: Stamp| a.inode == b.inode;
    stamp(&beside).zip(stamp(program)).is_some_and(|(a, b)| is_same(a, b))
}

fn behind_proxy(proxy: &Path, call: &Call, world: &DiskWorld) -> Result<PathBuf, Bypass> {
    let tool = proxy.file_name().ok_or_else(|| unknown(proxy, "it has no name"))?;
    let settings = rustup_home(call).map(|home| home.join("settings.toml"));
    let mut question = ByteWriter(b"proxy".to_vec());
    question.path(proxy);
    VARIABLES.iter().filter(|name| **name != "PATH").for_each(|name| {
        question.optional(call.env.get(name).map(OsStr::as_bytes));
    });
    let is_by_variable = call.env.get("RUSTUP_TOOLCHAIN").is_some_and(|value| !value.is_empty());
    let toolchain_file = if is_by_variable { None } else { find_toolchain_file(&call.cwd) };
    question.optional(toolchain_file.as_ref().map(|path| path.as_os_str().as_bytes()));
    // `rustup override` may have chosen a toolchain for any directory above, so the answer is for this one
    // only.
    let is_by_directory = !is_by_variable && settings.as_deref().is_some_and(has_overrides);
    if is_by_directory {
        question.path(&call.cwd);
    }
    let find = || {
        let arguments: [&OsStr; 2] = [OsStr::new("which"), tool];
        // The answer is for each directory below the file, so rustup is asked in the file's directory.
        let file_dir = toolchain_file.as_deref().and_then(Path::parent).filter(|_| !is_by_directory);
        let cwd = file_dir.unwrap_or(&call.cwd);
        let answer = ask_rustup(proxy, &arguments, call, cwd);
        let answer = answer
            .map_err(|error| unknown(proxy, &format!("rustup does not tell its toolchain: {error}")))?;
        let real = PathBuf::from(answer.trim_end_matches('\n'));
        let mut value = ByteWriter::default();
        value.path(&real);
        let mut depends_on = vec![proxy.to_owned(), real];
        depends_on.extend(settings.clone());
        depends_on.extend(toolchain_file.clone());
        Ok((value.0, depends_on))
    };
    let answer = world.cached_answer_about_installed(question, find)?;
    ByteReader(&answer.value).path().ok_or_else(|| unknown(proxy, "the remembered answer is damaged"))
}

fn ask_rustup(proxy: &Path, arguments: &[&OsStr], call: &Call, cwd: &Path) -> std::io::Result<String> {
    let beside = proxy.with_file_name("rustup");
    ask(&beside, arguments, &call.env, VARIABLES, cwd)
}

fn rustup_home(call: &Call) -> Option<PathBuf> {
    let default = || call.env.path("HOME").map(|home| home.join(".rustup"));
    call.env.path("RUSTUP_HOME").map(PathBuf::from).or_else(default).map(|dir| call.cwd.join(dir))
}

/// Returns the nearest file in or above this directory that chooses a toolchain.
fn find_toolchain_file(cwd: &Path) -> Option<PathBuf> {
    let candidates = cwd.ancestors().flat_map(|dir| TOOLCHAIN_FILES.iter().map(|name| dir.join(name)));
    candidates.into_iter().find(|path| path.symlink_metadata().is_ok())
}

/// Whether rustup's settings choose toolchains for directories. Returns true when in doubt.
fn has_overrides(settings: &Path) -> bool {
    let Ok(text) = std::fs::read_to_string(settings) else { return true };
    let after = text.split_once("[overrides]").map(|(_, after)| after);
    after.is_some_and(|after| {
        after.lines().map(str::trim).take_while(|line| !line.starts_with('[')).any(|line| !line.is_empty())
    })
}

fn unknown(program: &Path, why: &str) -> Bypass {
    Bypass::new(Reason::UnknownCompiler, format!("`{}`: {why}", program.display()))
}
