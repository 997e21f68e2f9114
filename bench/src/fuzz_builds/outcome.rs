//! The observable outcome of a build: cargo's exit code, the program's output, and the bytes of the outputs.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result};
use sha2::{Digest as _, Sha256};

use crate::content::hex;

/// How many bytes of cargo's output are shown.
const SHOWN_MAX: usize = 1500;

/// The observable outcome of a build.
#[derive(Clone, Debug)]
pub(crate) struct BuildOutcome {
    pub(crate) code: Option<i32>,
    /// The program's exit code and output.
    program: String,
    /// Digests of the outputs of the project's own crate, by file name.
    pub(crate) bytes: BTreeMap<String, String>,
    /// Cargo's stderr, which is shown but not compared.
    said: String,
}

impl BuildOutcome {
    pub(crate) fn of(built: &Output, project: &Path, package: &str) -> Result<BuildOutcome> {
        let said = String::from_utf8_lossy(&built.stderr).into_owned();
        let code = built.status.code();
        let (mut program, mut bytes) = (String::new(), BTreeMap::new());
        if code == Some(0) {
            let debug = project.join("target/debug");
            program = run(&debug.join(package), project);
            bytes = digests(&debug.join("deps"), package)?;
        }
        Ok(BuildOutcome { code, program, bytes, said })
    }

    pub(crate) fn succeeded(&self) -> bool {
        self.code == Some(0)
    }

    /// How `other`, a build through kache, differs from this one, which plain cargo made. `None` if it does not.
    pub(crate) fn difference(&self, other: &BuildOutcome, are_bytes_compared: bool) -> Option<String> {
        if self.code != other.code {
            let [plain, ours] = [self, other].map(|outcome| {
                let from = outcome.said.ceil_char_boundary(outcome.said.len().saturating_sub(SHOWN_MAX));
                format!("{:?}\n{}", outcome.code, &outcome.said[from..])
            });
            return Some(format!("plain cargo ends with {plain}\nthrough kache it ends with {ours}"));
        }
        if self.program != other.program {
            return Some(format!(
                "the program prints {:?}\nbuilt through kache it prints {:?}",
                self.program, other.program
            ));
        }
        let differing = self.differing(other);
        (are_bytes_compared && !differing.is_empty())
            .then(|| format!("different bytes in {}", differing.join(", ")))
    }

    /// The outputs that differ, by file name.
    pub(crate) fn differing(&self, other: &BuildOutcome) -> Vec<String> {
        let names =
            self.bytes.keys().chain(other.bytes.keys().filter(|name| !self.bytes.contains_key(*name)));
        names.filter(|name| self.bytes.get(*name) != other.bytes.get(*name)).cloned().collect()
    }
}

/// Runs a program, and returns its exit code and output, or why it did not start.
fn run(program: &Path, directory: &Path) -> String {
    let said = Command::new(program).env_clear().current_dir(directory).stdin(Stdio::null()).output();
    match said {
        Ok(said) => format!(
            "{:?} {}{}",
            said.status.code(),
            String::from_utf8_lossy(&said.stdout),
            String::from_utf8_lossy(&said.stderr)
        ),
        Err(error) => format!("cannot be started: {error}"),
    }
}

fn digests(deps: &Path, package: &str) -> Result<BTreeMap<String, String>> {
    let mut digests = BTreeMap::new();
    let failed = || format!("failed to read `{}`", deps.display());
    for entry in fs::read_dir(deps).with_context(failed)? {
        let path = entry.with_context(failed)?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let crate_name = package.replace('-', "_");
        let is_ours = name.trim_start_matches("lib").replace('-', "_").starts_with(&crate_name);
        if is_ours && !name.ends_with(".d") {
            let bytes = fs::read(&path).with_context(|| format!("failed to read `{}`", path.display()))?;
            digests.insert(name, hex(&Sha256::digest(&bytes)));
        }
    }
    Ok(digests)
}
