//! The build that a cargo was started for, as far as its process shows: its command line, environment,
//! directory and configuration files.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use kache_cas::digest::ActionMessage;
use kache_cas::{Digest, DigestFunction, Hash};

use crate::cargo::{self, BuildCommand, CargoConfig, CargoProcess, parse_build_command};
use crate::invocation::Environment;

/// Prefixes of the variables that configure cargo. They are part of a set's name.
const NAMED: &[&str] = &[
    "CARGO_BUILD_",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_INCREMENTAL",
    "CARGO_PROFILE_",
    "CARGO_TARGET_",
    "CARGO_UNSTABLE_",
    "RUSTC",
    "RUSTFLAGS",
    "__CARGO",
];

/// Variables with these prefixes that do not change what is compiled.
const NOT_NAMED: &[&str] =
    &["CARGO_BUILD_JOBS", "CARGO_BUILD_TARGET_DIR", "CARGO_TARGET_DIR", "CARGO_TARGET_TMPDIR"];

/// A build that a cargo was started for.
#[derive(Clone, Debug)]
pub struct BuildRequest {
    build: BuildCommand,
    config: CargoConfig,
    environment: Environment,
    directory: PathBuf,
    home: PathBuf,
    workspace: PathBuf,
}

impl BuildRequest {
    /// Reads the request of this process; `None` if it builds nothing, or if kache cannot tell what it
    /// builds.
    pub fn of(process: &CargoProcess) -> Option<BuildRequest> {
        let build = parse_build_command(&process.arguments()?)?;
        let environment = process.environment()?;
        let directory = process.directory()?;
        // With a build directory, outputs lie in two directories, which kache does not support.
        if environment.get("CARGO_BUILD_BUILD_DIR").is_some_and(|value| !value.is_empty()) {
            return None;
        }
        let home = cargo::config::home(&environment, &directory)?;
        let config = CargoConfig::read(&directory, &home)?;
        if build.short_form.as_ref().is_some_and(|name| is_alias(name, &config, &environment)) {
            return None;
        }
        let workspace = cargo::workspace::root(&directory, build.manifest.as_deref())?;
        Some(BuildRequest { build, config, environment, directory, home, workspace })
    }

    /// The root of the workspace that cargo builds.
    pub fn workspace(&self) -> &Path {
        &self.workspace
    }

    /// The target directory that cargo builds in.
    pub fn target_dir(&self) -> PathBuf {
        let variable = |name| self.environment.path(name);
        let named = self.build.target_dir.as_deref();
        let named = named.or_else(|| variable("CARGO_TARGET_DIR"));
        let named = named.or_else(|| variable("CARGO_BUILD_TARGET_DIR"));
        match (named, &self.config.target_dir) {
            (Some(named), _) => self.directory.join(named),
            (None, Some(configured)) => configured.clone(),
            (None, None) => self.workspace.join("target"),
        }
    }

    /// Cargo's home, as the environment of this cargo names it.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Returns the environment in which cargo was started.
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// The name of the seed set for this build, which depends on the lock file as it is now. `None` if
    /// the workspace has no lock file.
    pub fn key(&self, function: DigestFunction) -> Option<Digest<ActionMessage>> {
        // The lock file is part of the name, because it pins every dependency.
        let lock = fs::read(self.workspace.join("Cargo.lock")).ok()?;
        let material = self.material(&lock);
        Some(Digest::new(function, function.hash(&material), material.len() as u64))
    }

    /// Returns the hash of what cargo was asked to do, whatever the lock file says. A later build with the same
    /// hash needs mostly the same results.
    pub fn kind(&self, function: DigestFunction) -> Hash {
        let mut material = self.material(b"");
        // Rustup chooses the toolchain by this variable, which it sets for cargo.
        let toolchain = self.environment.get("RUSTUP_TOOLCHAIN").unwrap_or_default();
        material.extend_from_slice(toolchain.as_bytes());
        function.hash(&material)
    }

    /// The bytes whose digest names the set: three lists of texts, each text with its length in front
    /// and each list with an end mark behind it; then the lock file.
    fn material(&self, lock: &[u8]) -> Vec<u8> {
        let is_part = |name: &OsStr| {
            let begins = |prefix: &str| name.as_bytes().starts_with(prefix.as_bytes());
            NAMED.iter().any(|prefix| begins(prefix)) && NOT_NAMED.iter().all(|other| name != *other)
        };
        let variables = self.environment.iter().filter(|(name, _)| is_part(name));
        let variables = variables.flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()]);
        let words = self.build.words.iter().map(|word: &OsString| word.as_bytes());
        let texts = self.config.texts.iter().map(String::as_bytes);
        let mut material = Vec::with_capacity(lock.len() + 1024);
        let mut list = |texts: &mut dyn Iterator<Item = &[u8]>| {
            for text in texts {
                material.extend_from_slice(&(text.len() as u64).to_le_bytes());
                material.extend_from_slice(text);
            }
            // No text has this length, so a list cannot be confused with the next one.
            material.extend_from_slice(&u64::MAX.to_le_bytes());
        };
        list(&mut { words });
        list(&mut { variables });
        list(&mut { texts });
        material.extend_from_slice(lock);
        material
    }
}

/// Whether the user has defined an alias with the name of a short form such as `b`. The alias may
/// stand for any command.
fn is_alias(name: &str, config: &CargoConfig, environment: &Environment) -> bool {
    let variable = format!("CARGO_ALIAS_{}", name.to_uppercase());
    config.aliases.iter().any(|alias| alias == name) || environment.get(variable).is_some()
}
