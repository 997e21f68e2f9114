//! Running the compiler: what it says goes through line by line and is kept, and so is how it
//! ends.
//!
//! The compiler is this process's child, in cargo's process group, with its jobserver and
//! terminal. Whatever ends this process ends the compiler (RST-09): a signal that can be
//! caught is handed on, and the kernel sees to the others.

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
use super::lines::{Lines, replaced};
use super::request::from_bytes;
use super::stdin::Stdin;
use crate::os;

/// How much of what a compiler says is kept; more than any that is worth storing. A report
/// has to fit into one frame.
const SAID_BYTES_MAX: usize = 2 * 1024 * 1024;

/// How much is read at once: what a pipe holds.
const READ_BYTES: usize = 64 * 1024;

/// A compiler that has ended.
pub(crate) struct Ended {
    /// How.
    pub(crate) status: ExitStatus,
    /// What is reported.
    pub(crate) ran: Ran,
}

/// Runs it. An error means that it was not started.
pub(crate) fn run(run: &Run, stdin: &Stdin) -> io::Result<Ended> {
    for path in &run.unlink {
        // One that is not there is what is wanted, and any other trouble is the compiler's.
        let _ = std::fs::remove_file(Path::new(&from_bytes(path)));
    }
    let (begun, started) = (Instant::now(), SystemTime::now());
    let others_cpu = os::children_cpu_time();
    let (mut child, arguments) = start(run, stdin)?;
    let handing_on = os::hand_signals_on_to(child.id());
    let mut tee = Tee::new(&run.replacements);
    let pipes = (child.stdout.take(), child.stderr.take());
    if let (Some(stdout), Some(stderr)) = pipes {
        tee.drain(stdout, stderr);
    }
    os::wait_unreaped(child.id())?;
    drop(handing_on);
    let status = child.wait()?;
    drop(arguments);
    let ran = Ran {
        exit_code: status.code(),
        signal: status.signal().unwrap_or_default(),
        said: tee.said,
        wall_us: micros(begun.elapsed()),
        cpu_us: micros(os::children_cpu_time().saturating_sub(others_cpu)),
        started_us: micros(started.duration_since(UNIX_EPOCH).unwrap_or_default()),
        said_is_cut: tee.is_cut,
    };
    Ok(Ended { status, ran })
}

/// Starts it; by way of a file where its arguments are too many for a process.
fn start(run: &Run, stdin: &Stdin) -> io::Result<(Child, Option<ArgumentFile>)> {
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

fn start_with(run: &Run, program: &OsStr, args: &[OsString], stdin: &Stdin) -> io::Result<Child> {
    let mut command = Command::new(program);
    command.args(args).stdin(stdin.for_child()?).stdout(Stdio::piped()).stderr(Stdio::piped());
    for pair in &run.env_set {
        let (name, value) = split(pair);
        command.env(name, value);
    }
    for name in &run.env_unset {
        command.env_remove(from_bytes(name));
    }
    os::bind_to_this_process(&mut command);
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

/// What lets through and keeps.
struct Tee<'a> {
    replacements: &'a [Replacement],
    said: Vec<Said>,
    said_bytes: usize,
    is_cut: bool,
}

impl<'a> Tee<'a> {
    fn new(replacements: &'a [Replacement]) -> Self {
        Tee { replacements, said: Vec::new(), said_bytes: 0, is_cut: false }
    }

    /// Until both are at their ends, as whoever reads a compiler's pipes waits for.
    fn drain(&mut self, mut stdout: ChildStdout, mut stderr: ChildStderr) {
        let mut lines = [Lines::default(), Lines::default()];
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
                let whole = match source.read(&mut chunk) {
                    Ok(len @ 1..) => lines[index].push(&chunk[..len]),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => None,
                    Ok(0) | Err(_) => {
                        open[index] = None;
                        lines[index].finish()
                    }
                };
                if let Some(whole) = whole {
                    self.let_through(stream, whole);
                }
            }
        }
    }

    fn let_through(&mut self, stream: said::Stream, whole: Vec<u8>) {
        match self.replacements {
            [] => say(stream, &whole),
            replacements => say(stream, &replaced(&whole, replacements)),
        }
        self.said_bytes += whole.len();
        if self.said_bytes > SAID_BYTES_MAX {
            self.is_cut = true;
            self.said.clear();
            return;
        }
        self.said.push(Said { stream: stream.into(), bytes: Bytes::from(whole) });
    }
}

/// Writes at once. Nobody may be there to read it, which is no reason for the compiler not to
/// finish.
pub(crate) fn say(stream: said::Stream, bytes: &[u8]) {
    let _ = match stream {
        said::Stream::Stdout => {
            let mut stdout = io::stdout().lock();
            stdout.write_all(bytes).and_then(|()| stdout.flush())
        }
        said::Stream::Stderr => io::stderr().write_all(bytes),
    };
}

/// Which of these can be read, or are at their end.
fn readable(open: [Option<RawFd>; 2]) -> io::Result<[bool; 2]> {
    // A negative descriptor is passed over.
    let entry = |fd: Option<RawFd>| libc::pollfd { fd: fd.unwrap_or(-1), events: libc::POLLIN, revents: 0 };
    let mut entries = open.map(entry);
    // SAFETY: `entries` are two and live through the call.
    let count = unsafe { libc::poll(entries.as_mut_ptr(), 2, -1) };
    if count < 0 { Err(io::Error::last_os_error()) } else { Ok(entries.map(|entry| entry.revents != 0)) }
}

/// Whether a path names a file whose name is this.
pub(crate) fn is_named(path: &OsStr, name: &str) -> bool {
    Path::new(path).file_name().is_some_and(|file| file.as_bytes() == name.as_bytes())
}
