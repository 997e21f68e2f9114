//! Runs the compiler, prints its messages line by line, and records them and how it ended.
//!
//! The compiler is a child of this process, in cargo's process group, with cargo's jobserver and
//! terminal. It does not outlive this process (RST-09): signals that can be caught are forwarded to
//! it, and for the others the kernel kills it.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use kache_proto::control::{Ran, Replacement, Run, Said, said};

use super::argument_file::ArgumentFile;
use super::call_stdin::CallStdin;
use super::lines::{LineBuffer, replace_all};
use super::request::from_bytes;
use crate::os;

/// The largest size of messages that is reported, because a report has to fit into one frame.
/// Compiles with longer messages are not worth storing.
const MESSAGES_BYTES_MAX: usize = 2 * 1024 * 1024;

/// The size of one read: the capacity of a pipe.
const READ_BYTES: usize = 64 * 1024;

/// A compiler that has ended.
pub(crate) struct EndedCompiler {
    /// The exit code or signal with which this process ends, too.
    pub(crate) status: ExitStatus,
    /// The report for the daemon.
    pub(crate) ran: Ran,
}

/// Runs the compiler and waits until it has ended. An error means that it was not started.
pub(crate) fn run(run: &Run, stdin: &CallStdin) -> io::Result<EndedCompiler> {
    for path in &run.unlink {
        // Errors are ignored: a missing file is fine, and the compiler reports every other problem.
        let _ = std::fs::remove_file(Path::new(&from_bytes(path)));
    }
    let (begun, started) = (Instant::now(), SystemTime::now());
    let cpu_before = os::children_cpu_time();
    let (mut child, argument_file) = start(run, stdin)?;
    let forwarding = os::forward_signals_to(child.id());
    let mut tee = Tee::new(&run.replacements);
    let pipes = (child.stdout.take(), child.stderr.take());
    if let (Some(stdout), Some(stderr)) = pipes {
        tee.drain(stdout, stderr);
    }
    // The process id stays valid until `child.wait`, so signals are forwarded until just before it.
    os::wait_without_reaping(child.id())?;
    drop(forwarding);
    let status = child.wait()?;
    drop(argument_file);
    let ran = Ran {
        exit_code: status.code(),
        signal: status.signal().unwrap_or_default(),
        said: tee.messages,
        wall_us: micros(begun.elapsed()),
        cpu_us: micros(os::children_cpu_time().saturating_sub(cpu_before)),
        started_us: micros(started.duration_since(UNIX_EPOCH).unwrap_or_default()),
        said_is_cut: tee.is_cut,
        ..Ran::default()
    };
    Ok(EndedCompiler { status, ran })
}

/// Starts the compiler, with an argument file where the arguments are too long for a command line.
fn start(run: &Run, stdin: &CallStdin) -> io::Result<(Child, Option<ArgumentFile>)> {
    let argv: Vec<OsString> = run.argv.iter().map(from_bytes).collect();
    let (program, args) = argv.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    match start_with(run, program, args, stdin) {
        Err(error) if error.kind() == io::ErrorKind::ArgumentListTooLong => {
            let (file, args) = ArgumentFile::shorten(args, &std::env::temp_dir())?;
            Ok((start_with(run, program, &args, stdin)?, Some(file)))
        }
        started => Ok((started?, None)),
    }
}

fn start_with(run: &Run, program: &OsStr, args: &[OsString], stdin: &CallStdin) -> io::Result<Child> {
    let mut command = Command::new(program);
    command.args(args).stdin(stdin.for_child()?).stdout(Stdio::piped()).stderr(Stdio::piped());
    for pair in &run.env_set {
        let (name, value) = split(pair);
        command.env(name, value);
    }
    for name in &run.env_unset {
        command.env_remove(from_bytes(name));
    }
    // A client that is killed by `kill -9` cannot stop its compiler, so the system does.
    os::kill_with_this_process(&mut command);
    command.spawn()
}

fn split(pair: &Bytes) -> (OsString, OsString) {
    let at = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
    let value = pair.get(at + 1..).unwrap_or_default();
    (OsString::from_vec(pair[..at].to_vec()), OsString::from_vec(value.to_vec()))
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Prints the compiler's messages and keeps them for the report.
struct Tee<'a> {
    /// The replacements that are made in what is printed.
    replacements: &'a [Replacement],
    /// The messages without replacements; empty once they were too long.
    messages: Vec<Said>,
    messages_bytes: usize,
    /// Whether the messages were longer than [`MESSAGES_BYTES_MAX`].
    is_cut: bool,
}

impl<'a> Tee<'a> {
    fn new(replacements: &'a [Replacement]) -> Self {
        Tee { replacements, messages: Vec::new(), messages_bytes: 0, is_cut: false }
    }

    /// Reads both pipes until both are at their end. That may be later than the compiler's own end,
    /// if one of its children keeps a pipe open; cargo waits for that end, too.
    fn drain(&mut self, mut stdout: ChildStdout, mut stderr: ChildStderr) {
        // Only whole lines are printed, because cargo parses each line of JSON, and replacements must not miss a
        // text that was cut.
        let mut lines = [LineBuffer::default(), LineBuffer::default()];
        let mut open = [Some(stdout.as_raw_fd()), Some(stderr.as_raw_fd())];
        let mut chunk = vec![0; READ_BYTES];
        while open.iter().any(Option::is_some) {
            let ready = match readable(open) {
                Ok(ready) => ready,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return,
            };
            for (index, stream) in [said::Stream::Stdout, said::Stream::Stderr].into_iter().enumerate() {
                if !ready[index] {
                    continue;
                }
                let source: &mut dyn Read = if index == 0 { &mut stdout } else { &mut stderr };
                let finished = match source.read(&mut chunk) {
                    Ok(len @ 1..) => lines[index].push(&chunk[..len]),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => None,
                    Ok(0) | Err(_) => {
                        open[index] = None;
                        lines[index].finish()
                    }
                };
                if let Some(finished) = finished {
                    self.print_and_keep(stream, finished);
                }
            }
        }
    }

    fn print_and_keep(&mut self, stream: said::Stream, lines: Vec<u8>) {
        match self.replacements {
            [] => print(stream, &lines),
            replacements => print(stream, &replace_all(&lines, replacements)),
        }
        self.messages_bytes += lines.len();
        if self.messages_bytes > MESSAGES_BYTES_MAX {
            self.is_cut = true;
            self.messages.clear();
            return;
        }
        self.messages.push(Said { stream: stream.into(), bytes: Bytes::from(lines) });
    }
}

/// Prints bytes and flushes them. Errors are ignored, so that the compiler goes on where nothing
/// reads its messages.
pub(crate) fn print(stream: said::Stream, bytes: &[u8]) {
    let _ = match stream {
        said::Stream::Stdout => {
            let mut stdout = io::stdout().lock();
            stdout.write_all(bytes).and_then(|()| stdout.flush())
        }
        said::Stream::Stderr => io::stderr().write_all(bytes),
    };
}

/// Blocks until one of the open descriptors can be read or is at its end, and returns which.
fn readable(open: [Option<RawFd>; 2]) -> io::Result<[bool; 2]> {
    // `poll` ignores a negative descriptor.
    let entry = |fd: Option<RawFd>| libc::pollfd { fd: fd.unwrap_or(-1), events: libc::POLLIN, revents: 0 };
    let mut entries = open.map(entry);
    // SAFETY: `entries` has two entries and outlives the call.
    let count = unsafe { libc::poll(entries.as_mut_ptr(), 2, -1) };
    if count < 0 { Err(io::Error::last_os_error()) } else { Ok(entries.map(|entry| entry.revents != 0)) }
}

/// Returns whether the last component of a path is this name.
pub(crate) fn has_file_name(path: &OsStr, name: &str) -> bool {
    Path::new(path).file_name().is_some_and(|file| file.as_bytes() == name.as_bytes())
}
