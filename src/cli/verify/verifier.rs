//! One action after the other: asking what to run, running it, asking what came of it.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kache_cas::Hash;
use kache_client::DaemonConnection;
use kache_client::control::verdict::{self, Rerun};
use kache_client::control::{Root, StreamError, Verify, reply, request};
use kache_client::os::{Lock, LockError, kill_with_this_process};

use super::choose::{Candidate, Place};
use crate::cli::daemon::wait_for_store;
use crate::cli::failure::Failure;
use crate::cli::starter;
use crate::config::{Environment, Settings, env_vars};
use crate::daemon::EmbeddedBackend;
use crate::pipeline::{Skipped, VERIFY_DIRECTORY};

/// How long the daemon may take to look at everything that a compile read, and to compare.
const ANSWER_MAX: Duration = Duration::from_secs(120);

/// What a compiler needs of its caller's environment and no key counts.
const OF_CALLER: &[&str] = &[
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

/// What came of one action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// It came out the same.
    Agreed,
    /// It did not: these differ, in order.
    Disagreed(Vec<Differing>),
    /// It could not be compared, and what is known of why.
    Skipped(Skipped, String),
}

/// An output of which two results differ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Differing {
    /// The output.
    pub(super) output: String,
    /// The first byte that differs; none where they cannot be compared.
    pub(super) offset: Option<u64>,
    /// How many do.
    pub(super) differing_bytes: Option<u64>,
    /// How large the stored one is; none if there is none.
    pub(super) stored_bytes: Option<u64>,
    /// How large the one is that was made now.
    pub(super) made_bytes: Option<u64>,
}

/// Who knows what is stored.
enum Knower {
    /// A daemon.
    Daemon(DaemonConnection),
    /// This process, where no daemon may be.
    Here(Box<EmbeddedBackend>),
}

/// Asks, and runs compilers.
pub(super) struct Verifier {
    knower: Knower,
    env: Vec<Bytes>,
    /// Where compilers write to; emptied before each, and gone in the end.
    directory: PathBuf,
    _alone: Lock,
}

impl Verifier {
    /// With the daemon of these settings, which is started if none runs and one may be.
    pub(super) fn new(settings: &Settings) -> Result<Self, Failure> {
        let knower = match Environment::of_process().may_have_daemon() {
            true => {
                let (mut connection, _) = starter::starter(settings)?.ensure(starter::deadline())?;
                wait_for_store(&mut connection)?;
                Knower::Daemon(connection)
            }
            false => Knower::Here(Box::new(EmbeddedBackend::new(settings))),
        };
        let parent = settings.address.cache_dir().join(VERIFY_DIRECTORY);
        fs::create_dir_all(&parent)?;
        let alone = Lock::take(&parent.join("command.lock")).map_err(|error| match error {
            LockError::Held { .. } => Failure::new("another `kache verify` is under way"),
            other => Failure::new(other),
        })?;
        let env = env_vars::of_process().filter(|(name, _)| is_of_caller(name)).map(joined).collect();
        Ok(Verifier { knower, env, directory: parent.join("command"), _alone: alone })
    }

    /// In the latest checkout that is still as it was.
    pub(super) fn verify(&mut self, candidate: &Candidate) -> Result<Finding, Failure> {
        const ELSEWHERE: &[Skipped] =
            &[Skipped::CheckoutGone, Skipped::InputsChanged, Skipped::NotCached, Skipped::Untold];
        let mut last = Finding::Skipped(Skipped::CheckoutGone, String::new());
        for place in &candidate.places {
            last = self.verify_at(candidate, place)?;
            if !matches!(&last, Finding::Skipped(why, _) if ELSEWHERE.contains(why)) {
                break;
            }
        }
        Ok(last)
    }

    fn verify_at(&mut self, candidate: &Candidate, place: &Place) -> Result<Finding, Failure> {
        let question = self.question(candidate, place)?;
        let rerun = match self.ask(&question)? {
            verdict::Kind::Rerun(rerun) => rerun,
            other => return finding(other),
        };
        self.empty_directory()?;
        if !run(&rerun) {
            return Ok(Finding::Skipped(Skipped::CompilerFailed, String::new()));
        }
        finding(self.ask(&Verify { is_made: true, ..question })?)
    }

    fn question(&self, candidate: &Candidate, place: &Place) -> Result<Verify, Failure> {
        let action: Hash = candidate.action.parse().map_err(Failure::new)?;
        let root = |(role, dir): &(String, String)| Root { role: role.clone(), dir: dir.clone().into() };
        Ok(Verify {
            action: Bytes::copy_from_slice(&action.0),
            roots: place.iter().map(root).collect(),
            env: self.env.clone(),
            into: Bytes::copy_from_slice(self.directory.as_os_str().as_bytes()),
            is_made: false,
        })
    }

    fn ask(&mut self, question: &Verify) -> Result<verdict::Kind, Failure> {
        let deadline = Instant::now() + ANSWER_MAX;
        let answer = match &mut self.knower {
            Knower::Daemon(connection) => {
                connection.request(request::Kind::Verify(question.clone()), deadline)
            }
            Knower::Here(embedded) => Ok(embedded.verify(question)),
        };
        match answer {
            Ok(reply::Kind::Verdict(verdict)) => verdict.kind.ok_or_else(garbled),
            Ok(reply::Kind::Failed(failed)) => Err(match &self.knower {
                Knower::Daemon(_) => Failure::new(failed.message),
                Knower::Here(_) => Failure::new(failed.message).hint(
                    "`KACHE_DAEMON=never` is set, so the store is opened here, and no other process may have it",
                ),
            }),
            Ok(_) => Err(garbled()),
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
        // Whoever verifies next removes what is left.
        let _ = remove(&self.directory);
    }
}

fn remove(directory: &std::path::Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn is_of_caller(name: &OsStr) -> bool {
    OF_CALLER.iter().any(|known| name == *known) || name.as_bytes().starts_with(b"KACHE_")
}

fn joined((mut name, value): (OsString, OsString)) -> Bytes {
    name.push("=");
    name.push(value);
    Bytes::from(name.into_vec())
}

/// Runs it to its end. Whether it succeeded; one that cannot be started has not.
fn run(rerun: &Rerun) -> bool {
    let text = |bytes: &Bytes| OsString::from_vec(bytes.to_vec());
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

fn finding(verdict: verdict::Kind) -> Result<Finding, Failure> {
    match verdict {
        verdict::Kind::Agreed(_) => Ok(Finding::Agreed),
        verdict::Kind::Disagreed(found) => Ok(Finding::Disagreed(differing(found))),
        verdict::Kind::Skipped(skipped) => {
            let why = Skipped::from_name(&skipped.reason).ok_or_else(garbled)?;
            Ok(Finding::Skipped(why, skipped.detail))
        }
        verdict::Kind::Rerun(_) => Err(garbled()),
    }
}

/// An older daemon names the first output only, and no sizes.
fn differing(found: verdict::Disagreed) -> Vec<Differing> {
    if found.outputs.is_empty() {
        let verdict::Disagreed { output, offset, differing_bytes, .. } = found;
        return vec![Differing { output, offset, differing_bytes, ..Differing::default() }];
    }
    let one = |one: verdict::Differing| Differing {
        output: one.output,
        offset: one.offset,
        differing_bytes: one.differing_bytes,
        stored_bytes: one.stored_bytes,
        made_bytes: one.made_bytes,
    };
    found.outputs.into_iter().map(one).collect()
}

fn garbled() -> Failure {
    Failure::new("the daemon answered something else")
        .hint("`kache daemon restart` starts one of this version")
}
