//! What a cargo was asked to build, as far as that can be seen from beside it.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use kache_cas::digest::ActionMessage;
use kache_cas::{Digest, DigestFunction};

use crate::cargo::{self, Build, Config, Process, build};
use crate::invocation::Environment;

/// Variables by which cargo is configured.
const COUNTED: &[&str] = &[
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

/// Of these, some that say where outputs go, or how they are made, and not what.
const NOT_COUNTED: &[&str] =
    &["CARGO_BUILD_JOBS", "CARGO_BUILD_TARGET_DIR", "CARGO_TARGET_DIR", "CARGO_TARGET_TMPDIR"];

/// What a cargo was asked.
#[derive(Clone, Debug)]
pub struct Asked {
    build: Build,
    config: Config,
    environment: Environment,
    directory: PathBuf,
    home: PathBuf,
    workspace: PathBuf,
}

impl Asked {
    /// By this process; `None` where it builds nothing, or where that cannot be told.
    pub fn of(process: &Process) -> Option<Asked> {
        let build = build(&process.arguments()?)?;
        let environment = process.environment()?;
        let directory = process.directory()?;
        // Outputs then lie in two places.
        if environment.get("CARGO_BUILD_BUILD_DIR").is_some_and(|value| !value.is_empty()) {
            return None;
        }
        let home = cargo::config::home(&environment, &directory)?;
        let config = Config::read(&directory, &home)?;
        if build.short_form.as_ref().is_some_and(|name| means_something_else(name, &config, &environment)) {
            return None;
        }
        let workspace = cargo::workspace::root(&directory, build.manifest.as_deref())?;
        Some(Asked { build, config, environment, directory, home, workspace })
    }

    /// The root of the workspace that it builds.
    pub fn workspace(&self) -> &Path {
        &self.workspace
    }

    /// The target directory that cargo builds in.
    pub fn target_dir(&self) -> PathBuf {
        let set = |name| self.environment.path(name);
        let named = self.build.target_dir.as_deref();
        let named = named.or_else(|| set("CARGO_TARGET_DIR")).or_else(|| set("CARGO_BUILD_TARGET_DIR"));
        match (named, &self.config.target_dir) {
            (Some(named), _) => self.directory.join(named),
            (None, Some(configured)) => configured.clone(),
            (None, None) => self.workspace.join("target"),
        }
    }

    /// Cargo's home.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Its environment.
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// The name of its set, for a workspace that is locked as its own is now. `None` where it is
    /// not.
    pub fn key(&self) -> Option<Digest<ActionMessage>> {
        const FUNCTION: DigestFunction = DigestFunction::Blake3;
        let lock = fs::read(self.workspace.join("Cargo.lock")).ok()?;
        let material = self.material(&lock);
        Some(Digest::new(FUNCTION, FUNCTION.hash(&material), material.len() as u64))
    }

    fn material(&self, lock: &[u8]) -> Vec<u8> {
        let counts = |name: &OsStr| {
            let begins = |prefix: &str| name.as_bytes().starts_with(prefix.as_bytes());
            COUNTED.iter().any(|prefix| begins(prefix)) && NOT_COUNTED.iter().all(|other| name != *other)
        };
        let variables = self.environment.iter().filter(|(name, _)| counts(name));
        let variables = variables.flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()]);
        let words = self.build.words.iter().map(|word: &OsString| word.as_bytes());
        let texts = self.config.texts.iter().map(String::as_bytes);
        let mut material = Vec::with_capacity(lock.len() + 1024);
        let mut list = |texts: &mut dyn Iterator<Item = &[u8]>| {
            for text in texts {
                material.extend_from_slice(&(text.len() as u64).to_le_bytes());
                material.extend_from_slice(text);
            }
            material.extend_from_slice(&u64::MAX.to_le_bytes());
        };
        list(&mut { words });
        list(&mut { variables });
        list(&mut { texts });
        material.extend_from_slice(lock);
        material
    }
}

/// Whether a short form of a command, such as `b`, is an alias of somebody's own, which may say
/// anything.
fn means_something_else(name: &str, config: &Config, environment: &Environment) -> bool {
    let variable = format!("CARGO_ALIAS_{}", name.to_uppercase());
    config.aliases.iter().any(|alias| alias == name) || environment.get(variable).is_some()
}
