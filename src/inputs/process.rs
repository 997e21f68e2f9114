//! Asking a program a question that it answers at once.
//!
//! Nothing here happens on a hit: the answers are kept as facts. A program that does not
//! answer in time is killed and counts as unknown; it is a child of ours and nobody else's
//! (DMN-05).

use std::ffi::OsStr;
use std::io::{self, Read};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
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

/// How a program ended, and what it said where somebody listened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// How it ended.
    pub status: ExitStatus,
    /// What it said on standard output, if that was a pipe.
    pub stdout: Vec<u8>,
    /// What it said on standard error, if that was a pipe.
    pub stderr: Vec<u8>,
}

/// Runs a program that is to end by itself in this time, with nothing on standard input.
pub fn answer(command: &mut Command, wait_max: Duration) -> io::Result<Answer> {
    let mut child = command.stdin(Stdio::null()).spawn()?;
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if begun.elapsed() > wait_max {
            child.kill()?;
            child.wait()?;
            return Err(io::ErrorKind::TimedOut.into());
        }
        std::thread::sleep(ANSWER_POLL);
    };
    let (stdout, stderr) = (said(child.stdout.take())?, said(child.stderr.take())?);
    Ok(Answer { status, stdout, stderr })
}

fn said(stream: Option<impl Read>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        stream.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
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
    let Answer { status, stdout, .. } =
        answer(command.stdout(Stdio::piped()).stderr(Stdio::null()), ANSWER_WAIT_MAX)?;
    if !status.success() {
        return Err(io::Error::other(format!("it ended with {status}")));
    }
    String::from_utf8(stdout).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    #[test]
    fn an_answer_is_how_it_ended_and_all_that_it_said() {
        let said = answer(&mut shell("echo out; echo err >&2; cat; exit 3"), ANSWER_WAIT_MAX).unwrap();
        assert_eq!(said.status.code(), Some(3));
        assert_eq!((&*said.stdout, &*said.stderr), (&b"out\n"[..], &b"err\n"[..]));
    }

    #[test]
    fn what_is_not_listened_to_is_empty() {
        let said = answer(shell("echo out; echo err >&2").stderr(Stdio::null()), ANSWER_WAIT_MAX).unwrap();
        assert_eq!((&*said.stdout, &*said.stderr), (&b"out\n"[..], &b""[..]));
    }

    #[test]
    fn dmn_05_who_does_not_answer_in_time_is_ended() {
        let dir = tempfile::tempdir().unwrap();
        let note = dir.path().join("pid");
        let script = format!("echo $$ >{}; exec sleep 60", note.display());
        let begun = Instant::now();
        let error = answer(&mut shell(&script), Duration::from_millis(500)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(begun.elapsed() < Duration::from_secs(30), "it was waited for all the same");
        let pid: i32 = std::fs::read_to_string(note).unwrap().trim().parse().unwrap();
        let gone = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), None);
        assert_eq!(gone, Err(nix::errno::Errno::ESRCH));
    }
}
