//! Detaches a process from its caller: from the session, terminal, directory, open files and signal
//! dispositions (DMN-01, DMN-04).
//!
//! Only standard error is kept for a while, as the pipe on which the starter waits for a line that
//! says that the daemon listens or why it cannot. It is closed after that line.

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

/// The pipe to the process that started the daemon and waits for one line from it.
#[derive(Debug)]
pub struct StarterPipe {
    pipe: Option<File>,
}

impl StarterPipe {
    /// Returns a pipe for a daemon in the foreground, for which no starter waits: lines are dropped.
    pub fn none() -> Self {
        StarterPipe { pipe: None }
    }

    /// Writes one line and closes the pipe. Further lines are dropped, and so are errors: the
    /// starter may have ended.
    pub fn write_line(&mut self, line: &str) {
        if let Some(mut pipe) = self.pipe.take() {
            let _ = writeln!(pipe, "{line}");
        }
    }
}

/// Makes this process a daemon. It forks, so what returns is a grandchild of the process that
/// called. It must be called while the process has one thread.
pub fn detach() -> io::Result<StarterPipe> {
    fork_and_exit_parent()?;
    setsid()?;
    // The leader of a session can get a terminal when it opens one; its child cannot.
    fork_and_exit_parent()?;
    chdir("/")?;
    umask(Mode::from_bits_truncate(0o077));
    reset_signals()?;
    let pipe = replace_stdio()?;
    close_others(pipe.as_raw_fd());
    Ok(StarterPipe { pipe: Some(pipe) })
}

/// Runs `work` in a forked process that shares nothing with this one but the connection: no pipe, no
/// terminal, no directory. Does nothing where the fork fails. It must be called while the process
/// has one thread.
pub fn spawn_detached<C: AsRawFd>(connection: C, work: impl FnOnce(C)) {
    // SAFETY: the process has one thread here, so the child may go on as usual.
    let Ok(ForkResult::Child) = (unsafe { fork() }) else { return };
    let detach = || {
        setsid()?;
        chdir("/")?;
        reset_signals()?;
        let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
        dup2_stdin(&null)?;
        dup2_stdout(&null)?;
        dup2_stderr(&null)?;
        io::Result::Ok(())
    };
    if detach().is_ok() {
        close_others(connection.as_raw_fd());
        work(connection);
    }
    // SAFETY: `_exit` runs no destructor; the parent still owns everything that needs one.
    unsafe { libc::_exit(0) }
}

fn fork_and_exit_parent() -> io::Result<()> {
    // SAFETY: the process has one thread here (see `detach`), so the child may go on as usual.
    match unsafe { fork() }? {
        ForkResult::Child => Ok(()),
        // SAFETY: `_exit` runs no destructor; the child still owns everything that needs one.
        ForkResult::Parent { .. } => unsafe { libc::_exit(0) },
    }
}

/// Resets the signals that the caller ignored or blocked, as `nohup` and test harnesses do.
fn reset_signals() -> io::Result<()> {
    for each in Signal::iterator() {
        if !matches!(each, Signal::SIGKILL | Signal::SIGSTOP | Signal::SIGPIPE) {
            // SAFETY: the default action runs no code of this process.
            unsafe { signal(each, SigHandler::SigDfl) }?;
        }
    }
    Ok(sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?)
}

/// Replaces all three standard streams by `/dev/null`, and returns the former standard error.
fn replace_stdio() -> io::Result<File> {
    let moved = fcntl(io::stderr().as_fd(), FcntlArg::F_DUPFD_CLOEXEC(3))?;
    // SAFETY: `fcntl` just created this descriptor, and nothing else owns it.
    let pipe = unsafe { OwnedFd::from_raw_fd(moved) };
    let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(&null)?;
    Ok(File::from(pipe))
}

/// Closes all other descriptors that the caller left open: a jobserver's pipes, a lock, a log.
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
