//! Runs a program for a short time and returns its output.
//!
//! A hit starts no program, because the answers are remembered. A program that does not end in time is killed
//! and its answer is an error. kache kills only programs that it started itself (DMN-05).

use std::ffi::OsStr;
use std::io::{self, Read};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::invocation::Environment;

/// The longest time that a program may take for its answer.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(10);

/// The largest part of an answer that is read, in bytes. A pipe holds that much, so a program can write it
/// while kache only waits for its end.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// The time between two checks whether the program has ended.
const ANSWER_POLL: Duration = Duration::from_millis(1);

#[cfg(test)]
thread_local! {
    static QUESTIONS_ASKED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Returns the number of questions that this thread has asked programs. Tests use it to show that a hit asks
/// none.
#[cfg(test)]
pub(crate) fn questions_asked() -> usize {
    QUESTIONS_ASKED.get()
}

/// The end of a program, with the output that was captured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramOutput {
    /// How the program ended.
    pub status: ExitStatus,
    /// The standard output; empty if it was no pipe.
    pub stdout: Vec<u8>,
    /// The standard error; empty if it was no pipe.
    pub stderr: Vec<u8>,
}

/// Runs a program with empty standard input and waits for its end. After `wait_max` it kills the program and
/// returns an error of kind `TimedOut`.
pub fn run_with_timeout(command: &mut Command, wait_max: Duration) -> io::Result<ProgramOutput> {
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
    let (stdout, stderr) = (read_output(child.stdout.take())?, read_output(child.stderr.take())?);
    Ok(ProgramOutput { status, stdout, stderr })
}

fn read_output(stream: Option<impl Read>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        stream.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

/// Runs a program and returns its standard output. The program gets only these variables of the environment,
/// because only they are part of the question under which the answer is remembered.
pub(crate) fn ask(
    program: &Path,
    arguments: &[&OsStr],
    env: &Environment,
    variables: &[&str],
    cwd: &Path,
) -> io::Result<String> {
    #[cfg(test)]
    QUESTIONS_ASKED.set(QUESTIONS_ASKED.get() + 1);
    let mut command = Command::new(program);
    let passed = variables.iter().filter_map(|name| env.get(name).map(|value| (name, value)));
    command.args(arguments).env_clear().envs(passed).env("LC_ALL", "C").current_dir(cwd);
    let ProgramOutput { status, stdout, .. } =
        run_with_timeout(command.stdout(Stdio::piped()).stderr(Stdio::null()), ANSWER_WAIT_MAX)?;
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
    fn the_exit_status_and_all_captured_output_are_returned() {
        let output =
            run_with_timeout(&mut shell("echo out; echo err >&2; cat; exit 3"), ANSWER_WAIT_MAX).unwrap();
        assert_eq!(output.status.code(), Some(3));
        assert_eq!((&*output.stdout, &*output.stderr), (&b"out\n"[..], &b"err\n"[..]));
    }

    #[test]
    fn output_that_is_not_captured_is_empty() {
        let output =
            run_with_timeout(shell("echo out; echo err >&2").stderr(Stdio::null()), ANSWER_WAIT_MAX).unwrap();
        assert_eq!((&*output.stdout, &*output.stderr), (&b"out\n"[..], &b""[..]));
    }

    #[test]
    fn dmn_05_a_program_that_does_not_end_in_time_is_killed() {
        let dir = tempfile::tempdir().unwrap();
        let note = dir.path().join("pid");
        let script = format!("echo $$ >{}; exec sleep 60", note.display());
        let begun = Instant::now();
        let error = run_with_timeout(&mut shell(&script), Duration::from_millis(500)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(begun.elapsed() < Duration::from_secs(30), "it was waited for all the same");
        let pid: i32 = std::fs::read_to_string(note).unwrap().trim().parse().unwrap();
        let gone = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), None);
        assert_eq!(gone, Err(nix::errno::Errno::ESRCH));
    }
}
