//! Whether a program bears the library, found out by trying, before any compile depends on it.
//!
//! The library is made for one C library. A toolchain may bring another: an older one ends a
//! program that is to load what it does not know, and one for another processor says so on
//! standard error. Each program that a compile starts is asked for its version, with the
//! library and without; where that makes a difference, it is not observed. The answer also says
//! whether it is a compiler or a linker (see `known`).

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use thiserror::Error;

use super::known::is_compiler_or_linker;
use super::library::Unavailable;
use super::record::{Kind, parse};
use super::watch::Watch;
use crate::inputs::answer;
use crate::invocation::Environment;

/// How long a program has for its version.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(5);

/// How often a program may fail to answer before that is its answer. A busy machine is no reason
/// to observe nothing from then on, and one that always hangs must not make every call wait.
const SILENCES_MAX: u32 = 3;

/// How many programs are remembered; a machine has a dozen.
const PROGRAMS_MAX: usize = 1024;

/// Why it is not known yet whether a program bears it.
#[derive(Debug, Error)]
pub(super) enum Trouble {
    /// There is nothing to try it with.
    #[error(transparent)]
    Unavailable(Unavailable),
    /// It cannot be asked, or does not answer in time.
    #[error("`{} --version`: {source}", path.display())]
    Silent {
        /// The program.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// A program as it is now.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Program {
    path: PathBuf,
    inode: u64,
    len: u64,
    changed: (i64, i64),
}

/// What a trial has shown of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trial {
    /// Whether it says the same with the library as without.
    pub(super) bears: bool,
    /// Whether it is a compiler or a linker, by its content.
    pub(super) is_known: bool,
    /// Whether the kernel reports system calls that it makes past the C library.
    pub(super) is_dispatched: bool,
}

/// What was found out about one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Known(Trial),
    /// Nothing yet, so many times.
    Silent(u32),
}

/// What was found out.
#[derive(Debug, Default)]
pub(super) struct Trials(Mutex<HashMap<Program, Verdict>>);

impl Trials {
    /// The result of the trial of this program. The program is tried if it was not tried before.
    pub(super) fn of(
        &self,
        program: &Path,
        env: &Environment,
        watch: &dyn Fn() -> Result<Watch, Unavailable>,
    ) -> Result<Trial, Trouble> {
        let silent = |source| Trouble::Silent { path: program.to_owned(), source };
        let known = Program::at(program).map_err(silent)?;
        // Held over the trial: of several calls that come at once, one tries.
        let mut verdicts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let silences = match verdicts.get(&known) {
            Some(Verdict::Known(trial)) => return Ok(*trial),
            Some(Verdict::Silent(times)) => times + 1,
            None => 1,
        };
        if verdicts.len() >= PROGRAMS_MAX {
            verdicts.clear();
        }
        let watch = watch().map_err(Trouble::Unavailable)?;
        let trial = match try_out(program, env, &watch) {
            Ok(trial) => trial,
            Err(error) if silences < SILENCES_MAX => {
                verdicts.insert(known, Verdict::Silent(silences));
                return Err(silent(error));
            }
            Err(_) => Trial { bears: false, is_known: false, is_dispatched: false },
        };
        if !trial.bears {
            tracing::info!(
                "compilers that start `{}` are not observed: it does not bear it",
                program.display()
            );
        } else if !trial.is_dispatched {
            tracing::info!(
                "system calls that `{}` makes past the C library are not observed",
                program.display()
            );
        }
        verdicts.insert(known, Verdict::Known(trial));
        Ok(trial)
    }
}

impl Program {
    fn at(path: &Path) -> io::Result<Program> {
        let metadata = fs::metadata(path)?;
        Ok(Program {
            path: path.to_owned(),
            inode: metadata.ino(),
            len: metadata.len(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

/// Asks a program for its version, with the library and without. Neither answer need be a good one: some
/// linkers want to be called by another name. An error means that the program did not answer in time, or
/// could not be started.
pub(super) fn try_out(program: &Path, env: &Environment, watch: &Watch) -> io::Result<Trial> {
    let ask = |watch: Option<&Watch>| {
        let mut command = Command::new(program);
        command.arg("--version").env_clear().envs(env.iter());
        command.envs(watch.map(Watch::variables).unwrap_or_default());
        answer(command.stdout(Stdio::piped()).stderr(Stdio::piped()), ANSWER_WAIT_MAX)
    };
    let (plain, watched) = (ask(None)?, ask(Some(watch))?);
    let bears = plain == watched;
    let notes = parse(&watch.read()?).unwrap_or_default();
    // A static linker says nothing, and need not be observed.
    let mut started = notes.iter().filter(|note| note.kind == Kind::Started);
    let is_dispatched = started.next().is_none_or(|note| note.mark);
    let said = [watched.stdout, watched.stderr].concat();
    let is_known = || {
        let program = fs::canonicalize(program)?;
        io::Result::Ok(is_compiler_or_linker(&program, &fs::read(&program)?, &said, &notes))
    };
    Ok(Trial { bears, is_known: bears && is_known()?, is_dispatched })
}
