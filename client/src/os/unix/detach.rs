//! Leaving the caller behind: its session, terminal, directory, open files and signals
//! (DMN-01, DMN-04).
//!
//! The one thing kept is standard error, as the line on which the starter waits to hear
//! that the daemon answers, or why it cannot. It is let go as soon as that is said.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, AsRawFd, FromRawFd as _, OwnedFd, RawFd};
use std::path::Path;

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, signal, sigprocmask};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{ForkResult, chdir, dup2_stderr, dup2_stdin, dup2_stdout, fork, setsid};

/// The highest descriptor that is closed where the system does not list the open ones.
const FD_GUESS_MAX: RawFd = 1024;

/// The starter's ear.
#[derive(Debug)]
pub struct Announcer {
    pipe: Option<File>,
}

impl Announcer {
    /// Nobody is waiting: the daemon runs in the foreground.
    pub fn nobody() -> Self {
        Announcer { pipe: None }
    }

    /// Says one line and lets go. A starter that is gone does not matter.
    pub fn say(&mut self, line: &str) {
        if let Some(mut pipe) = self.pipe.take() {
            let _ = writeln!(pipe, "{line}");
        }
    }
}

/// Becomes a daemon. Call it first, while there is one thread: the process that returns is
/// not the one that called.
pub fn detach() -> io::Result<Announcer> {
    fork_and_stay_as_child()?;
    setsid()?;
    // A session's leader could be given a terminal again; its child cannot.
    fork_and_stay_as_child()?;
    chdir("/")?;
    umask(Mode::from_bits_truncate(0o077));
    reset_signals()?;
    let pipe = replace_stdio()?;
    close_others(pipe.as_raw_fd());
    Ok(Announcer { pipe: Some(pipe) })
}

/// Does this in a process of its own, which has nothing of this one but the connection: no pipe, no
/// terminal, no directory. Where no process can be made, nothing is done.
pub fn leave_behind<C: AsRawFd>(connection: C, work: impl FnOnce(C)) {
    // SAFETY: the process has one thread here, so the child may go on as usual.
    let Ok(ForkResult::Child) = (unsafe { fork() }) else { return };
    let alone = || {
        setsid()?;
        chdir("/")?;
        reset_signals()?;
        let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
        dup2_stdin(&null)?;
        dup2_stdout(&null)?;
        dup2_stderr(&null)?;
        io::Result::Ok(())
    };
    if alone().is_ok() {
        close_others(connection.as_raw_fd());
        work(connection);
    }
    // SAFETY: `_exit` runs no destructor; what matters of the parent lives on in the parent.
    unsafe { libc::_exit(0) }
}

fn fork_and_stay_as_child() -> io::Result<()> {
    // SAFETY: the process has one thread here (see `detach`), so the child may go on as usual.
    match unsafe { fork() }? {
        ForkResult::Child => Ok(()),
        // SAFETY: `_exit` runs no destructor; everything that matters lives on in the child.
        ForkResult::Parent { .. } => unsafe { libc::_exit(0) },
    }
}

/// What a caller ignored or blocked (`nohup`, a test harness) must not be ignored here.
fn reset_signals() -> io::Result<()> {
    for each in Signal::iterator() {
        if !matches!(each, Signal::SIGKILL | Signal::SIGSTOP | Signal::SIGPIPE) {
            // SAFETY: the default action runs no code of ours.
            unsafe { signal(each, SigHandler::SigDfl) }?;
        }
    }
    Ok(sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?)
}

/// Moves standard error out of the way and puts `/dev/null` in the place of all three.
fn replace_stdio() -> io::Result<File> {
    let moved = fcntl(io::stderr().as_fd(), FcntlArg::F_DUPFD_CLOEXEC(3))?;
    // SAFETY: `fcntl` just made this descriptor, and nobody else knows of it.
    let pipe = unsafe { OwnedFd::from_raw_fd(moved) };
    let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(&null)?;
    Ok(File::from(pipe))
}

/// Closes what else the caller left open: a jobserver's pipes, a lock, a log.
fn close_others(kept: RawFd) {
    let open = listed_descriptors(Path::new("/dev/fd")).unwrap_or_else(|| (3..FD_GUESS_MAX).collect());
    for fd in open.into_iter().filter(|fd| *fd > 2 && *fd != kept) {
        // SAFETY: nothing in this process owns a descriptor above 2 yet (see `detach`).
        unsafe { libc::close(fd) };
    }
}

fn listed_descriptors(dir: &Path) -> Option<Vec<RawFd>> {
    let entries = fs::read_dir(dir).ok()?;
    Some(entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect())
}
