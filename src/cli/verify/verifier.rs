//! Verifies one action at a time: asks the daemon for the compiler call, runs the compiler into a
//! directory of its own, and asks the daemon to compare the outputs with the stored ones.
//!
//! The compilers are children of this process and end with it. Nothing is written to a checkout.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kache_client::control::verdict::{self, Rerun};
use kache_client::control::{Root, StreamError, Verify, reply, request};
use kache_client::os::{Lock, LockError, kill_with_this_process};
use kache_client::{DaemonConnection, assignment};

use super::choose::{CheckoutRoots, RecordedAction};
use crate::cli::daemon::wait_for_store;
use crate::cli::failure::Failure;
use crate::cli::starter;
use crate::config::{Environment, Settings, env_vars};
use crate::daemon::EmbeddedBackend;
use crate::pipeline::{Skipped, VERIFY_DIRECTORY};

/// How long the daemon may take to check the inputs of a compile and to compare its outputs.
const ANSWER_MAX: Duration = Duration::from_secs(120);

/// The variables that the compiler gets from the user's environment. No key counts them, so the
/// stored action does not have them.
const PASSED_VARIABLES: &[&str] = &[
    "HOME",
    "LANG",
    "LC_ALL",
    "LD_LIBRARY_PATH",
    "LOGNAME",
    "PATH",
    "RUSTUP_HOME",
    "TMPDIR",
    "USER",
    "XDG_CONFIG_HOME",
];

/// The result of verifying one action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum VerifyResult {
    /// The new outputs equal the stored ones.
    Agreed,
    /// These outputs differ, in the order of their names.
    Disagreed(Vec<DifferingOutput>),
    /// The outputs could not be compared: the reason, and its detail if there is one.
    Skipped(Skipped, String),
}

/// An output that differs between the stored and the new result.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct DifferingOutput {
    /// The output's path by role, such as `out/debug/deps/libx.rlib`.
    pub(super) output: String,
    /// The offset of the first byte that differs; `None` if only one result has the output.
    pub(super) offset: Option<u64>,
    /// The number of bytes that differ.
    pub(super) differing_bytes: Option<u64>,
    /// The size of the stored output; `None` if it is not stored.
    pub(super) stored_bytes: Option<u64>,
    /// The size of the new output; `None` if it was not made.
    pub(super) made_bytes: Option<u64>,
}

/// The owner of the store, which answers `Verify` requests.
enum VerifyEngine {
    Daemon(DaemonConnection),
    /// This process itself, where `KACHE_DAEMON=never` is set.
    Embedded(Box<EmbeddedBackend>),
}

/// Asks the engine, and runs compilers.
pub(super) struct Verifier {
    engine: VerifyEngine,
    env: Vec<Bytes>,
    /// The directory that compilers write to. It is emptied before each run, and removed when
    /// this value is dropped.
    directory: PathBuf,
    /// Held as long as this process uses the directory.
    _lock: Lock,
}

impl Verifier {
    /// Connects to the daemon and starts it if none is running. Where `KACHE_DAEMON=never` is
    /// set, opens the store in this process.
    pub(super) fn new(settings: &Settings) -> Result<Self, Failure> {
        let engine = match Environment::of_process().may_have_daemon() {
            true => {
                let (mut connection, _) = starter::starter(settings)?.ensure(starter::deadline())?;
                wait_for_store(&mut connection)?;
                VerifyEngine::Daemon(connection)
            }
            false => VerifyEngine::Embedded(Box::new(EmbeddedBackend::new(settings))),
        };
        let parent = settings.address.cache_dir().join(VERIFY_DIRECTORY);
        fs::create_dir_all(&parent)?;
        let lock = Lock::take(&parent.join("command.lock")).map_err(|error| match error {
            LockError::Held { .. } => Failure::new("another `kache verify` is running"),
            other => Failure::new(other),
        })?;
        let env = env_vars::of_process().filter(|(name, _)| is_passed(name)).map(assignment).collect();
        Ok(Verifier { engine, env, directory: parent.join("command"), _lock: lock })
    }

    /// Verifies an action in the latest checkout in which it can be compiled as it was.
    pub(super) fn verify(&mut self, action: &RecordedAction) -> Result<VerifyResult, Failure> {
        /// Reasons that concern one checkout, so that another one may do.
        const TRY_ANOTHER: &[Skipped] =
            &[Skipped::CheckoutGone, Skipped::InputsChanged, Skipped::NotCached, Skipped::Untold];
        let mut last = VerifyResult::Skipped(Skipped::CheckoutGone, String::new());
        for checkout in &action.checkouts {
            last = self.verify_in(action, checkout)?;
            if !matches!(&last, VerifyResult::Skipped(why, _) if TRY_ANOTHER.contains(why)) {
                break;
            }
        }
        Ok(last)
    }

    fn verify_in(
        &mut self,
        action: &RecordedAction,
        checkout: &CheckoutRoots,
    ) -> Result<VerifyResult, Failure> {
        let request = self.request(action, checkout)?;
        let rerun = match self.ask(&request)? {
            verdict::Kind::Rerun(rerun) => rerun,
            other => return verify_result(other),
        };
        self.empty_directory()?;
        if !run(&rerun) {
            return Ok(VerifyResult::Skipped(Skipped::CompilerFailed, String::new()));
        }
        verify_result(self.ask(&Verify { is_made: true, ..request })?)
    }

    fn request(&self, action: &RecordedAction, checkout: &CheckoutRoots) -> Result<Verify, Failure> {
        let root = |(role, dir): &(String, String)| Root { role: role.clone(), dir: dir.clone().into() };
        Ok(Verify {
            action: Bytes::copy_from_slice(&action.action.0),
            roots: checkout.iter().map(root).collect(),
            env: self.env.clone(),
            into: Bytes::copy_from_slice(self.directory.as_os_str().as_bytes()),
            is_made: false,
        })
    }

    /// Sends a request and waits for the response, `ANSWER_MAX` at most.
    fn ask(&mut self, request: &Verify) -> Result<verdict::Kind, Failure> {
        let deadline = Instant::now() + ANSWER_MAX;
        let response = match &mut self.engine {
            VerifyEngine::Daemon(connection) => {
                connection.request(request::Kind::Verify(request.clone()), deadline)
            }
            VerifyEngine::Embedded(embedded) => Ok(embedded.verify(request)),
        };
        match response {
            Ok(reply::Kind::Verdict(verdict)) => verdict.kind.ok_or_else(unexpected),
            Ok(reply::Kind::Failed(failed)) => Err(match &self.engine {
                VerifyEngine::Daemon(_) => Failure::new(failed.message),
                VerifyEngine::Embedded(_) => Failure::new(failed.message).hint(
                    "with `KACHE_DAEMON=never` this command opens the store itself, so no daemon may have it open",
                ),
            }),
            Ok(_) => Err(unexpected()),
            Err(StreamError::Late) => Err(Failure::new("the daemon does not answer")),
            Err(error) => Err(Failure::new(error)),
        }
    }

    fn empty_directory(&self) -> io::Result<()> {
        remove(&self.directory)?;
        fs::create_dir(&self.directory)
    }
}

impl Drop for Verifier {
    fn drop(&mut self) {
        // The next `kache verify` removes what is left if this fails.
        let _ = remove(&self.directory);
    }
}

fn remove(directory: &std::path::Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn is_passed(name: &OsStr) -> bool {
    PASSED_VARIABLES.iter().any(|passed| name == *passed) || name.as_bytes().starts_with(b"KACHE_")
}

/// Runs the compiler to its end and returns whether it succeeded. The compiler is killed when
/// this process dies.
fn run(rerun: &Rerun) -> bool {
    let text = |bytes: &Bytes| OsString::from_vec(bytes.to_vec());
    // The environment is the stored one and nothing else: a variable that the user has set since
    // then would make another compile. The daemon has already added the passed variables to it.
    let Some((program, args)) = rerun.argv.split_first() else { return false };
    let mut command = Command::new(text(program));
    command.args(args.iter().map(text)).env_clear().current_dir(text(&rerun.cwd));
    for pair in &rerun.env {
        let at = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
        let value = pair.slice((at + 1).min(pair.len())..);
        command.env(text(&pair.slice(..at)), text(&value));
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    kill_with_this_process(&mut command);
    command.status().is_ok_and(|status| status.success())
}

fn verify_result(verdict: verdict::Kind) -> Result<VerifyResult, Failure> {
    match verdict {
        verdict::Kind::Agreed(_) => Ok(VerifyResult::Agreed),
        verdict::Kind::Disagreed(disagreed) => Ok(VerifyResult::Disagreed(differing_outputs(disagreed))),
        verdict::Kind::Skipped(skipped) => {
            let why = Skipped::from_name(&skipped.reason).ok_or_else(unexpected)?;
            Ok(VerifyResult::Skipped(why, skipped.detail))
        }
        verdict::Kind::Rerun(_) => Err(unexpected()),
    }
}

/// Reads the outputs from a response. An older daemon names only the first one, without sizes.
fn differing_outputs(disagreed: verdict::Disagreed) -> Vec<DifferingOutput> {
    if disagreed.outputs.is_empty() {
        let verdict::Disagreed { output, offset, differing_bytes, .. } = disagreed;
        return vec![DifferingOutput { output, offset, differing_bytes, ..DifferingOutput::default() }];
    }
    let one = |one: verdict::Differing| DifferingOutput {
        output: one.output,
        offset: one.offset,
        differing_bytes: one.differing_bytes,
        stored_bytes: one.stored_bytes,
        made_bytes: one.made_bytes,
    };
    disagreed.outputs.into_iter().map(one).collect()
}

fn unexpected() -> Failure {
    Failure::new("the daemon sent an unexpected response")
        .hint("`kache daemon restart` starts a daemon of this version")
}
