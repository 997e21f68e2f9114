//! A checkout in which a project is built, by plain cargo or through kache.
//!
//! The project is a subdirectory of a repository, so that there are files above it. Each build compiles the
//! project's own crate again and keeps its dependencies.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::change::State;
use super::outcome::BuildOutcome;
use crate::rust::{Cargo, WrapperSetup};

/// The project's directory in a checkout.
pub(crate) const PROJECT: &str = "repository/project";

/// The compiler wrapper with which a checkout is built.
#[derive(Clone, Debug)]
pub(crate) enum Builder {
    /// A script that only adds the path remaps that kache adds, so that outputs can be compared byte by byte.
    Plain {
        script: PathBuf,
    },
    Kache(WrapperSetup),
}

/// A checkout of the project.
#[derive(Debug)]
pub(crate) struct Checkout<'a> {
    pub(crate) name: &'static str,
    pub(crate) top: PathBuf,
    package: String,
    cargo: &'a Cargo,
    builder: Builder,
}

impl<'a> Checkout<'a> {
    pub(crate) fn new(
        name: &'static str,
        dir: &Path,
        package: &str,
        cargo: &'a Cargo,
        kache: Option<&WrapperSetup>,
    ) -> Result<Checkout<'a>> {
        let top = dir.join(name);
        fs::create_dir_all(&top)?;
        let builder = match kache {
            Some(kache) => Builder::Kache(kache.clone()),
            None => {
                Builder::Plain { script: remapping(&dir.join(format!("remapping of {name}")), &top, cargo)? }
            }
        };
        Ok(Checkout { name, top, package: package.to_owned(), cargo, builder })
    }

    pub(crate) fn project(&self) -> PathBuf {
        self.top.join(PROJECT)
    }

    /// The command that builds the project with the variables of this state.
    pub(crate) fn build_command(&self, state: &State) -> Command {
        let mut command = match &self.builder {
            Builder::Kache(wrapping) => wrapping.cargo(self.cargo, &self.project()),
            Builder::Plain { script } => {
                let mut command = self.cargo.command(Path::new("cargo"));
                command.env("RUSTC_WRAPPER", script);
                command
            }
        };
        // Incremental outputs differ from build to build.
        command.env("CARGO_INCREMENTAL", "0").envs(&state.variables);
        command.args(["build", "--offline"]).current_dir(self.project());
        command
    }

    /// Removes the outputs of the project's own crate. `cargo clean` cannot do that, because the manifest may be
    /// broken or name another package.
    pub(crate) fn clean(&self) -> Result<()> {
        let debug = self.project().join("target/debug");
        for directory in [debug.clone(), debug.join("deps"), debug.join("build"), debug.join(".fingerprint")]
        {
            for entry in fs::read_dir(&directory).into_iter().flatten() {
                let path = entry.with_context(|| format!("failed to read `{}`", directory.display()))?.path();
                let name = path.file_name().unwrap_or_default().to_string_lossy().replace('_', "-");
                if name.trim_start_matches("lib").starts_with(&self.package) {
                    let removed =
                        if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
                    removed.with_context(|| format!("failed to remove `{}`", path.display()))?;
                }
            }
        }
        Ok(())
    }

    /// Writes the files of a state and builds them.
    pub(crate) fn build(&self, state: &State) -> Result<BuildOutcome> {
        state.files.write(&self.top)?;
        self.clean()?;
        let mut command = self.build_command(state);
        let built = command.stdin(Stdio::null()).output().context("failed to run cargo")?;
        BuildOutcome::of(&built, &self.project(), &self.package)
    }

    /// The source directories of the project's dependencies.
    pub(crate) fn sources(&self) -> Result<Vec<PathBuf>> {
        let mut command = self.cargo.command(Path::new("cargo"));
        command.args(["metadata", "--offline", "--format-version", "1"]).current_dir(self.project());
        let said = command.output().context("failed to run `cargo metadata`")?;
        ensure!(said.status.success(), "`cargo metadata` failed: {}", String::from_utf8_lossy(&said.stderr));
        let metadata: serde_json::Value = serde_json::from_slice(&said.stdout)?;
        let packages = metadata["packages"].as_array().into_iter().flatten();
        let manifests = packages.filter_map(|package| package["manifest_path"].as_str());
        Ok(manifests.map(|manifest| Path::new(manifest).with_file_name("src")).collect())
    }
}

/// Writes a wrapper script that adds the path remaps of this checkout that kache would add.
fn remapping(script: &Path, top: &Path, cargo: &Cargo) -> Result<PathBuf> {
    let command = cargo.command(Path::new("cargo"));
    let home = command.get_envs().find(|(name, _)| *name == "CARGO_HOME").and_then(|(_, value)| value);
    let home = home.context("cargo has a home")?.to_string_lossy();
    let project = top.join(PROJECT);
    let text = format!(
        "#!/bin/sh\nrustc=$1\nshift\nexec \"$rustc\" '--remap-path-prefix={home}=/kache/cargo' \
         '--remap-path-prefix={}=.' \"$@\"\n",
        project.display()
    );
    fs::write(script, text)?;
    fs::set_permissions(script, fs::Permissions::from_mode(0o755))?;
    Ok(script.to_owned())
}
