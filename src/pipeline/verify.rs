//! Compiles a stored action again and compares the outputs: for some hits in the background
//! (`cache.verify_sample`), and for `kache verify`.
//!
//! If a compile reads an input that kache does not know of, two runs of one action may give
//! different outputs (KEY-23). The action is then quarantined. The second run writes to a directory
//! of its own, so the checkout stays as it is.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use kache_cas::digest::ActionMessage;
use kache_cas::{Digest, Sharing, Store, StoreError, with_causes};
use kache_proto::reapi::{ActionResult, OutputFile};
use thiserror::Error;

use super::call_state::KeyedCall;
use super::command;
use super::context::Pipeline;
use super::hit;
use super::prepare::Prepared;
use crate::action::{Output, OutputKind};
use crate::invocation::{Bypass, Call};
use crate::lookup::{self, LookupError, LookupOutcome};
use crate::publish::{self, OutputDifference};

/// The directory in the cache directory for the outputs of verifications. Each removes its own when
/// it ends, so files here belong to one that runs or that was killed.
pub const VERIFY_DIRECTORY: &str = "verify";

/// The directory in [`VERIFY_DIRECTORY`] for verifications in the background.
const BACKGROUND: &str = "background";

/// A stored result that is to be compared with that of a new run.
#[derive(Debug)]
pub struct Verification {
    pub(super) call: Arc<Call>,
    pub(super) prepared: Arc<Prepared>,
    pub(super) action: Digest<ActionMessage>,
    pub(super) result: Box<ActionResult>,
}

/// Why an action could not be verified. This says nothing about its stored result.
#[derive(Debug, Error)]
pub enum VerifyError {
    /// The daemon has no store now.
    #[error("{0}")]
    NoStore(Bypass),
    /// The store could not read or write.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The lookup of the action failed.
    #[error(transparent)]
    Lookup(#[from] LookupError),
    /// The compiler did not start, or a directory for its outputs could not be created.
    #[error("failed to {doing} `{}`: {source}", path.display())]
    Io {
        /// The operation, as a verb.
        doing: &'static str,
        /// The program or directory.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
}

/// Compiles an action again and compares the outputs. This takes as long as the compile does. All
/// verifications use one directory, so the caller runs one at a time.
pub fn verify(pipeline: &Pipeline, verification: &Verification) {
    let directory = pipeline.cache_dir.join(VERIFY_DIRECTORY).join(BACKGROUND);
    match verify_in(pipeline, verification, &directory) {
        Ok(differing) => verification.log_differences(&differing),
        Err(error) => tracing::warn!("failed to verify a hit: {}", with_causes(&error)),
    }
    let _ = fs::remove_dir_all(&directory);
}

fn verify_in(
    pipeline: &Pipeline,
    verification: &Verification,
    directory: &Path,
) -> Result<Vec<OutputDifference>, VerifyError> {
    let Some(argv) = verification.argv_into(directory) else { return Ok(Vec::new()) };
    // Files of a verification that was killed would be taken for outputs.
    let _ = fs::remove_dir_all(directory);
    fs::create_dir_all(directory).map_err(|source| VerifyError::Io {
        doing: "create",
        path: directory.to_owned(),
        source,
    })?;
    // A compile that fails now may have read something else than the first one. But it may also
    // have run out of memory, so a failure proves nothing.
    let succeeded = compile(&argv, &verification.call).map_err(|source| {
        let path = argv.first().map(PathBuf::from).unwrap_or_default();
        VerifyError::Io { doing: "run", path, source }
    })?;
    if !succeeded {
        return Ok(Vec::new());
    }
    let store = pipeline.store().map_err(VerifyError::NoStore)?;
    compare(pipeline, verification, directory, &store)
}

/// Compares the outputs in this directory with the stored ones, and returns those that differ. If
/// there are any, the action is quarantined.
pub(super) fn compare(
    pipeline: &Pipeline,
    verification: &Verification,
    directory: &Path,
    store: &Store,
) -> Result<Vec<OutputDifference>, VerifyError> {
    let Verification { call, prepared, action, result } = verification;
    let (now, not_compared) = outputs(prepared, directory, store)?;
    let before = ActionResult { output_files: result.output_files.clone(), ..ActionResult::default() };
    let function = prepared.task.query.function;
    let differing = publish::differing(function, &before, &now, &not_compared, store.blobs())?;
    let Some(first) = differing.first() else { return Ok(differing) };
    // If an input was edited meanwhile, the lookup leads to another action, and the difference
    // proves nothing.
    match hit::find(pipeline, store, call, prepared)? {
        LookupOutcome::Hit { action: still, .. } if still == *action => {
            lookup::quarantine(store.actions(), action, &first.at)?;
            Ok(differing)
        }
        _ => Ok(Vec::new()),
    }
}

impl Verification {
    /// Creates the verification of a hit.
    pub fn of(keyed: KeyedCall, action: Digest<ActionMessage>, result: Box<ActionResult>) -> Verification {
        let KeyedCall { call, prepared, .. } = keyed;
        Verification { call, prepared, action, result }
    }

    /// The compiler's command line with its outputs in this directory. `None` if the call names an
    /// output by a path of its own, because the compiler would write to that path.
    pub(super) fn argv_into(&self, directory: &Path) -> Option<Vec<OsString>> {
        let Verification { call, prepared, .. } = self;
        let out_dir = call.cwd.join(prepared.compiler.facts().out_dir?);
        let is_in_out_dir = |output: &Output| output.path.parent() == Some(&*out_dir);
        let argv = || argv_into(&command::compiler_command(call, prepared, false).argv, directory);
        prepared.task.outputs.iter().all(is_in_out_dir).then(argv).flatten()
    }

    /// Logs which outputs differ, if any do.
    pub(super) fn log_differences(&self, differing: &[OutputDifference]) {
        if differing.is_empty() {
            return;
        }
        let outputs: Vec<String> = differing.iter().map(|one| format!("`{}`", one.at.output)).collect();
        tracing::error!(
            "two runs of action {} of `{}` gave different bytes for {}: the action is quarantined",
            self.action.hash.to_hex(),
            self.prepared.task.label.name,
            outputs.join(", "),
        );
    }
}

/// Replaces `--out-dir` in a command line; `None` if it has no `--out-dir`.
fn argv_into(argv: &[OsString], directory: &Path) -> Option<Vec<OsString>> {
    let joined = |word: &OsStr| word.as_bytes().starts_with(b"--out-dir=");
    let mut found = false;
    let mut replaced = Vec::with_capacity(argv.len());
    let mut words = argv.iter();
    while let Some(word) = words.next() {
        if word == "--out-dir" {
            words.next()?;
            found = true;
            replaced.extend([word.clone(), directory.as_os_str().to_owned()]);
        } else if joined(word) {
            found = true;
            let path = directory.as_os_str().as_bytes();
            replaced.push(OsString::from_vec([b"--out-dir=", path].concat()));
        } else {
            replaced.push(word.clone());
        }
    }
    found.then_some(replaced)
}

/// Runs a compiler in the environment of a call, and returns whether it succeeded. The variables of
/// cargo's jobserver are left out: they name file descriptors that only cargo's children have.
fn compile(argv: &[OsString], call: &Call) -> io::Result<bool> {
    let (program, args) = argv.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let is_jobserver = |name: &OsStr| name == "CARGO_MAKEFLAGS" || name == "MAKEFLAGS" || name == "MFLAGS";
    let status = Command::new(program)
        .args(args)
        .env_clear()
        .envs(call.env.iter().filter(|(name, _)| !is_jobserver(name)))
        .current_dir(&call.cwd)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    Ok(status.success())
}

/// Returns the outputs in this directory as an action result, and the names of the outputs that are
/// not compared: the dep-info, which contains paths, and outputs that the compiler did not make here.
fn outputs(
    prepared: &Prepared,
    directory: &Path,
    store: &Store,
) -> Result<(ActionResult, Vec<String>), StoreError> {
    let (mut now, mut not_compared) = (ActionResult::default(), Vec::new());
    for output in &prepared.task.outputs {
        let name = String::from_utf8_lossy(&output.name.in_input_root()).into_owned();
        let made: Option<PathBuf> = output.path.file_name().map(|file| directory.join(file));
        match made {
            Some(made) if output.kind != OutputKind::DepInfo && made.exists() => {
                let function = prepared.task.query.function;
                let (names, _) = store.files().ingest(&made, function, Sharing::Private)?;
                let digest = names.digest(function).expect("it was asked for in this function");
                let digest = Some(kache_cas::encoding::wire_digest(&digest));
                now.output_files.push(OutputFile { path: name, digest, ..OutputFile::default() });
            }
            _ => not_compared.push(name),
        }
    }
    Ok((now, not_compared))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_directory_of_the_outputs_changes() {
        let words = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
        let into = |argv: &[&str]| argv_into(&words(argv), Path::new("/v"));
        assert_eq!(
            into(&["rustc", "--out-dir", "/a", "x.rs"]),
            Some(words(&["rustc", "--out-dir", "/v", "x.rs"]))
        );
        assert_eq!(into(&["rustc", "--out-dir=/a"]), Some(words(&["rustc", "--out-dir=/v"])));
        assert_eq!(into(&["rustc", "-o", "/a/x"]), None);
    }
}
