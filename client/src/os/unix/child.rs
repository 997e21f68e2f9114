//! A child process that does not outlive this process, and the forwarding of signals to it.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// The signals that end a build and are forwarded to the child.
const FORWARDED: [Signal; 4] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT];

/// The process id of the child that gets the signals; zero if no child gets them.
static CHILD: AtomicI32 = AtomicI32::new(0);

/// Forwards signals to the child until it is dropped. Afterwards the signals are ignored.
#[derive(Debug)]
pub struct SignalForwarding(());

impl Drop for SignalForwarding {
    fn drop(&mut self) {
        CHILD.store(0, Ordering::SeqCst);
    }
}

/// Forwards signals that would end this process to the child, from now on. This process goes on
/// waiting for the child, which decides what a signal means. Signals that this process ignores
/// stay ignored.
pub fn forward_signals_to(child: u32) -> SignalForwarding {
    CHILD.store(i32::try_from(child).unwrap_or_default(), Ordering::SeqCst);
    for each in FORWARDED {
        let action = SigAction::new(SigHandler::Handler(forward), SaFlags::empty(), SigSet::empty());
        // SAFETY: the handler reads an atomic and makes one system call.
        let before = unsafe { sigaction(each, &action) };
        if before.is_ok_and(|before| matches!(before.handler(), SigHandler::SigIgn)) {
            let ignored = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
            // SAFETY: ignoring a signal runs no code of this process.
            let _ = unsafe { sigaction(each, &ignored) };
        }
    }
    SignalForwarding(())
}

extern "C" fn forward(number: libc::c_int) {
    let child = CHILD.load(Ordering::SeqCst);
    if child > 0 {
        // SAFETY: `kill` may be called in a handler; the child is not reaped while its id is stored.
        unsafe { libc::kill(child, number) };
    }
}

/// Blocks until the child has ended, and does not reap it. Until it is reaped, its process id cannot
/// be given to another process, which would get the forwarded signals.
pub fn wait_without_reaping(child: u32) -> io::Result<()> {
    loop {
        // SAFETY: all-zero is a valid `siginfo_t`, and the call is given one that outlives it.
        let outcome = unsafe {
            let mut found: libc::siginfo_t = std::mem::zeroed();
            libc::waitid(libc::P_PID, child, &raw mut found, libc::WEXITED | libc::WNOWAIT)
        };
        match io::Error::last_os_error() {
            _ if outcome == 0 => return Ok(()),
            error if error.kind() == io::ErrorKind::Interrupted => {}
            error => return Err(error),
        }
    }
}

/// Asks the kernel to kill this process when `parent` ends. It is called in the child between fork
/// and exec.
#[cfg(target_os = "linux")]
fn die_with_parent(parent: u32) -> io::Result<()> {
    // SAFETY: both calls take numbers and touch no memory.
    unsafe {
        if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
            return Err(io::Error::last_os_error());
        }
        // The parent may have ended before the call above.
        if u32::try_from(libc::getppid()) != Ok(parent) {
            libc::_exit(1);
        }
    }
    Ok(())
}

/// Makes the kernel kill the command's process when this process ends, on Linux. Elsewhere the
/// process goes on.
pub fn kill_with_this_process(command: &mut Command) {
    let parent = std::process::id();
    // SAFETY: the hook makes two system calls and allocates nothing.
    unsafe { command.pre_exec(move || die_with_parent(parent)) };
}

#[cfg(not(target_os = "linux"))]
fn die_with_parent(_parent: u32) -> io::Result<()> {
    Ok(())
}

/// Returns the processor time of all children that were reaped so far.
pub fn children_cpu_time() -> Duration {
    // SAFETY: all-zero is a valid `rusage`, and the call is given one that outlives it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage);
        usage
    };
    of_timeval(usage.ru_utime) + of_timeval(usage.ru_stime)
}

fn of_timeval(time: libc::timeval) -> Duration {
    let seconds = Duration::from_secs(u64::try_from(time.tv_sec).unwrap_or_default());
    seconds + Duration::from_micros(u64::try_from(time.tv_usec).unwrap_or_default())
}
