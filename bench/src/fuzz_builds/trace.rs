//! Runs a command under `strace`, to find out what it reads.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::reads::Reads;

/// Fails if `strace` is missing, before anything is built.
pub(crate) fn ensure_strace() -> Result<()> {
    let version =
        Command::new("strace").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    ensure!(
        version.is_ok_and(|status| status.success()),
        "`strace` is missing, which shows what a build reads; install the package `strace`"
    );
    Ok(())
}

/// Runs a command, and returns what it reads below `top`.
pub(crate) fn reads(command: &Command, log: &Path, top: &Path) -> Result<Reads> {
    let mut traced = Command::new("strace");
    // File descriptors are shown with their paths, and no path is cut short.
    traced.args(["-f", "-qq", "-y", "-s", "4096", "-e", "trace=file,getdents64", "-e", "signal=none", "-o"]);
    traced.arg(log).arg(command.get_program()).args(command.get_args()).env_clear();
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            traced.env(name, value);
        }
    }
    let from = command.get_current_dir().context("a build has a directory")?;
    traced.current_dir(from).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let status = traced.status().context("failed to run `strace`")?;
    ensure!(
        status.success(),
        "the build ended with {status} under `strace`, whose log is `{}`",
        log.display()
    );
    let text = String::from_utf8_lossy(&fs::read(log)?).into_owned();
    Ok(Reads::parse(&text, top, from))
}
