//! From the program that was named to the one that runs: `PATH`, and rustup's proxies
//! (KEY-12).
//!
//! A proxy decides by its environment, by `rust-toolchain` files above the directory, and
//! by rustup's settings. All of these are part of the question or of what its answer
//! depends on, so that rustup itself is asked once.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::bytes::{Reader, Writer};
use super::disk_world::DiskWorld;
use super::process::ask;
use super::stamp::Stamp;
use crate::invocation::{Bypass, Call, Reason};

/// Files by which a directory chooses its toolchain.
const TOOLCHAIN_FILES: &[&str] = &["rust-toolchain", "rust-toolchain.toml"];

/// What rustup is told of the call's environment.
const VARIABLES: &[&str] = &["HOME", "PATH", "CARGO_HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN"];

/// The file that a program's name means, and the file that runs in the end: the same one, unless
/// the first is a proxy.
pub(super) fn resolve(program: &Path, call: &Call, world: &DiskWorld) -> Result<(PathBuf, PathBuf), Bypass> {
    let found = on_path(program, call).ok_or_else(|| unknown(program, "there is no such program"))?;
    let real = match is_proxy(&found) {
        false => found.clone(),
        true => behind_proxy(&found, call, world)?,
    };
    Ok((found, real))
}

/// As `execvp` finds it.
pub(super) fn on_path(program: &Path, call: &Call) -> Option<PathBuf> {
    if program.as_os_str().as_bytes().contains(&b'/') {
        return Some(call.cwd.join(program));
    }
    let path = call.env.get("PATH")?;
    let is_program = |path: &PathBuf| {
        Stamp::of(path).ok().flatten().is_some_and(|stamp| stamp.is_file() && stamp.is_executable())
    };
    std::env::split_paths(path).map(|dir| call.cwd.join(dir).join(program)).find(is_program)
}

/// Rustup installs its proxies as links to itself, beside itself.
fn is_proxy(program: &Path) -> bool {
    let stamp = |path: &Path| Stamp::of(path).ok().flatten();
    let beside = program.with_file_name("rustup");
    let is_same = |a: Stamp, b: Stamp| a.inode == b.inode;
    stamp(&beside).zip(stamp(program)).is_some_and(|(a, b)| is_same(a, b))
}

fn behind_proxy(proxy: &Path, call: &Call, world: &DiskWorld) -> Result<PathBuf, Bypass> {
    let tool = proxy.file_name().ok_or_else(|| unknown(proxy, "it has no name"))?;
    let settings = rustup_home(call).map(|home| home.join("settings.toml"));
    let mut question = Writer(b"proxy".to_vec());
    question.path(proxy);
    VARIABLES.iter().filter(|name| **name != "PATH").for_each(|name| {
        question.optional(call.env.get(name).map(OsStr::as_bytes));
    });
    let is_chosen = call.env.get("RUSTUP_TOOLCHAIN").is_some_and(|value| !value.is_empty());
    let chosen_by = if is_chosen { None } else { toolchain_file(&call.cwd) };
    question.optional(chosen_by.as_ref().map(|path| path.as_os_str().as_bytes()));
    // A directory may have been given a toolchain by `rustup override`.
    let by_directory = !is_chosen && settings.as_deref().is_some_and(has_overrides);
    if by_directory {
        question.path(&call.cwd);
    }
    let find = || {
        let arguments: [&OsStr; 2] = [OsStr::new("which"), tool];
        let chooser = chosen_by.as_deref().and_then(Path::parent).filter(|_| !by_directory);
        let cwd = chooser.unwrap_or(&call.cwd);
        let answer = ask_rustup(proxy, &arguments, call, cwd);
        let answer = answer.map_err(|error| unknown(proxy, &format!("rustup does not say: {error}")))?;
        let real = PathBuf::from(answer.trim_end_matches('\n'));
        let mut value = Writer::default();
        value.path(&real);
        let mut depends_on = vec![proxy.to_owned(), real];
        depends_on.extend(settings.clone());
        depends_on.extend(chosen_by.clone());
        Ok((value.0, depends_on))
    };
    let fact = world.fact_of_installed(question, find)?;
    Reader(&fact.value).path().ok_or_else(|| unknown(proxy, "its answer is damaged"))
}

fn ask_rustup(proxy: &Path, arguments: &[&OsStr], call: &Call, cwd: &Path) -> std::io::Result<String> {
    let beside = proxy.with_file_name("rustup");
    ask(&beside, arguments, &call.env, VARIABLES, cwd)
}

fn rustup_home(call: &Call) -> Option<PathBuf> {
    let default = || call.env.path("HOME").map(|home| home.join(".rustup"));
    call.env.path("RUSTUP_HOME").map(PathBuf::from).or_else(default).map(|dir| call.cwd.join(dir))
}

/// The nearest file above this directory that chooses a toolchain.
fn toolchain_file(cwd: &Path) -> Option<PathBuf> {
    let candidates = cwd.ancestors().flat_map(|dir| TOOLCHAIN_FILES.iter().map(|name| dir.join(name)));
    candidates.into_iter().find(|path| path.symlink_metadata().is_ok())
}

/// Whether rustup's settings give toolchains to directories. When in doubt, they do.
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
