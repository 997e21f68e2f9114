//! Asking a program a question that it answers at once.
//!
//! Nothing here happens on a hit: the answers are kept as facts. A program that does not
//! answer in time is killed and counts as unknown; it is a child of ours and nobody else's
//! (DMN-05).

use std::ffi::OsStr;
use std::io::{self, Read as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::invocation::Environment;

/// How long a program has for its answer.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(10);

/// The longest answer; it also fits in a pipe that nobody empties meanwhile.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// How often it is looked whether the program is done.
const ANSWER_POLL: Duration = Duration::from_millis(1);

#[cfg(test)]
thread_local! {
    static ASKED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// How many questions this thread has asked: tests hold that a hit asks none.
#[cfg(test)]
pub(super) fn asked() -> usize {
    ASKED.get()
}

/// What a program says on standard output. Of the environment it gets these variables only,
/// because only they are part of the question.
pub(super) fn ask(
    program: &Path,
    arguments: &[&OsStr],
    env: &Environment,
    variables: &[&str],
    cwd: &Path,
) -> io::Result<String> {
    #[cfg(test)]
    ASKED.set(ASKED.get() + 1);
    let mut command = Command::new(program);
    let passed = variables.iter().filter_map(|name| env.get(name).map(|value| (name, value)));
    command.args(arguments).env_clear().envs(passed).env("LC_ALL", "C").current_dir(cwd);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn()?;
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if begun.elapsed() > ANSWER_WAIT_MAX {
            child.kill()?;
            child.wait()?;
            return Err(io::ErrorKind::TimedOut.into());
        }
        std::thread::sleep(ANSWER_POLL);
    };
    if !status.success() {
        return Err(io::Error::other(format!("it ended with {status}")));
    }
    let mut answer = String::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
    }
    Ok(answer)
}
