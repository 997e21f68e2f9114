//! Tries the observer on a program before any compile depends on it.
//!
//! The library is compiled for one C library, and a toolchain may bring another one: an older C library
//! ends a program that is to load a library it cannot load, and one for another processor prints a
//! warning. So each program that a compile starts is asked for its version with the library and without.
//! If the two answers differ, compiles that start the program are not observed. The answer also shows
//! whether the program is a compiler or a linker (`compiler_or_linker.rs`).

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use parking_lot::Mutex;
use thiserror::Error;

use super::compiler_or_linker::is_compiler_or_linker;
use super::library::Unavailable;
use super::record::{NoteKind, parse};
use super::watch::Watch;
use crate::inputs::run_with_timeout;
use crate::invocation::Environment;

/// The time in which a program has to print its version.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(5);

/// After so many trials without an answer, a program counts as one that cannot be observed. A single
/// timeout may be due to a busy machine, but a program that always hangs must not delay every call.
const UNANSWERED_MAX: u32 = 3;

/// The number of programs whose trials are remembered; a machine has a dozen.
const PROGRAMS_MAX: usize = 1024;

/// The reason why a trial has no result yet.
#[derive(Debug, Error)]
pub(super) enum TrialError {
    /// The library or a record could not be created.
    #[error(transparent)]
    Unavailable(Unavailable),
    /// The program cannot be started, or does not answer in time.
    #[error("`{} --version`: {source}", path.display())]
    Unanswered {
        /// The program.
        path: PathBuf,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
}

/// A file of a program, so that a program which is replaced is tried again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct ProgramIdentity {
    path: PathBuf,
    inode: u64,
    len: u64,
    changed: (i64, i64),
}

/// The result of a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trial {
    /// Whether the program gives the same answer with the library as without.
    pub(super) is_unaffected: bool,
    /// Whether the program was recognised as a compiler or a linker by its content.
    pub(super) is_recognised: bool,
    /// Whether the kernel reports system calls that the program makes without the C library.
    pub(super) is_dispatched: bool,
}

/// The state of the trials of one program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TrialState {
    Done(Trial),
    /// The number of trials without an answer.
    Unanswered(u32),
}

/// The trials of all programs since the daemon began.
#[derive(Debug, Default)]
pub(super) struct Trials(Mutex<HashMap<ProgramIdentity, TrialState>>);

impl Trials {
    /// The result of the trial of this program, which is tried now if it was not tried before. Blocks for up
    /// to twice [`ANSWER_WAIT_MAX`].
    pub(super) fn of(
        &self,
        program: &Path,
        env: &Environment,
        watch: &dyn Fn() -> Result<Watch, Unavailable>,
    ) -> Result<Trial, TrialError> {
        let unanswered_error = |source| TrialError::Unanswered { path: program.to_owned(), source };
        let identity = ProgramIdentity::at(program).map_err(unanswered_error)?;
        // The lock is held during the trial, so that of several calls at once only one tries the program.
        let mut states = self.0.lock();
        let unanswered = match states.get(&identity) {
            Some(TrialState::Done(trial)) => return Ok(*trial),
            Some(TrialState::Unanswered(times)) => times + 1,
            None => 1,
        };
        if states.len() >= PROGRAMS_MAX {
            states.clear();
        }
        let watch = watch().map_err(TrialError::Unavailable)?;
        let trial = match try_out(program, env, &watch) {
            Ok(trial) => trial,
            Err(error) if unanswered < UNANSWERED_MAX => {
                states.insert(identity, TrialState::Unanswered(unanswered));
                return Err(unanswered_error(error));
            }
            Err(_) => Trial { is_unaffected: false, is_recognised: false, is_dispatched: false },
        };
        if !trial.is_unaffected {
            tracing::info!(
                "compiles that start `{}` are not stored: it behaves differently with the observer",
                program.display()
            );
        } else if !trial.is_dispatched {
            tracing::info!(
                "system calls that `{}` makes without the C library are not observed",
                program.display()
            );
        }
        states.insert(identity, TrialState::Done(trial));
        Ok(trial)
    }
}

impl ProgramIdentity {
    fn at(path: &Path) -> io::Result<ProgramIdentity> {
        let metadata = fs::metadata(path)?;
        Ok(ProgramIdentity {
            path: path.to_owned(),
            inode: metadata.ino(),
            len: metadata.len(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

/// Asks a program for its version with the library and without. An error means that it could not be started
/// or did not answer in time. Both answers may be error messages of the program, since some linkers want to
/// be called by another name.
pub(super) fn try_out(program: &Path, env: &Environment, watch: &Watch) -> io::Result<Trial> {
    let ask = |watch: Option<&Watch>| {
        let mut command = Command::new(program);
        command.arg("--version").env_clear().envs(env.iter());
        command.envs(watch.map(Watch::variables).unwrap_or_default());
        run_with_timeout(command.stdout(Stdio::piped()).stderr(Stdio::piped()), ANSWER_WAIT_MAX)
    };
    let (plain, watched) = (ask(None)?, ask(Some(watch))?);
    let is_unaffected = plain == watched;
    let notes = parse(&watch.read()?).unwrap_or_default();
    // A static program leaves no note, and is only started if it is a linker, which need not be observed.
    let mut started = notes.iter().filter(|note| note.kind == NoteKind::Started);
    let is_dispatched = started.next().is_none_or(|note| note.has_dispatch);
    let answer = [watched.stdout, watched.stderr].concat();
    let is_recognised = || {
        let program = fs::canonicalize(program)?;
        io::Result::Ok(is_compiler_or_linker(&program, &fs::read(&program)?, &answer, &notes))
    };
    Ok(Trial { is_unaffected, is_recognised: is_unaffected && is_recognised()?, is_dispatched })
}
