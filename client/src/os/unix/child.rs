//! A child that is not to outlive this process, and signals that are its own.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// Signals by which a build is ended, and which the child is to hear.
const HANDED_ON: [Signal; 4] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT];

/// Whose signals they are; zero is nobody's.
static CHILD: AtomicI32 = AtomicI32::new(0);

/// While it lives, signals go to the child.
#[derive(Debug)]
pub struct HandingOn(());

impl Drop for HandingOn {
    fn drop(&mut self) {
        CHILD.store(0, Ordering::SeqCst);
    }
}

/// From now on, signals that would end this process go to the child, and this process waits
/// for what the child makes of them. One that is ignored stays ignored.
pub fn hand_signals_on_to(child: u32) -> HandingOn {
    CHILD.store(i32::try_from(child).unwrap_or_default(), Ordering::SeqCst);
    for each in HANDED_ON {
        let action = SigAction::new(SigHandler::Handler(hand_on), SaFlags::empty(), SigSet::empty());
        // SAFETY: the handler reads an atomic and makes one system call.
        let before = unsafe { sigaction(each, &action) };
        if before.is_ok_and(|before| matches!(before.handler(), SigHandler::SigIgn)) {
            let ignored = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
            // SAFETY: ignoring runs no code of ours.
            let _ = unsafe { sigaction(each, &ignored) };
        }
    }
    HandingOn(())
}

extern "C" fn hand_on(number: libc::c_int) {
    let child = CHILD.load(Ordering::SeqCst);
    if child > 0 {
        // SAFETY: `kill` may be called in a handler; the child is not reaped while it is named.
        unsafe { libc::kill(child, number) };
    }
}

/// Waits until the child has ended and leaves it to be reaped, so that its number cannot be
/// another process's while signals are handed on to it.
pub fn wait_unreaped(child: u32) -> io::Result<()> {
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

/// For the child, before it becomes another program: the kernel ends it when `parent` ends.
#[cfg(target_os = "linux")]
fn die_with_parent(parent: u32) -> io::Result<()> {
    // SAFETY: both calls take numbers and touch no memory.
    unsafe {
        if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
            return Err(io::Error::last_os_error());
        }
        // It may have ended in between.
        if u32::try_from(libc::getppid()) != Ok(parent) {
            libc::_exit(1);
        }
    }
    Ok(())
}

/// Whatever ends this process ends the command's, once it is started.
pub fn bind_to_this_process(command: &mut Command) {
    let parent = std::process::id();
    // SAFETY: the hook makes two system calls and allocates nothing.
    unsafe { command.pre_exec(move || die_with_parent(parent)) };
}

/// There is no such thing here.
#[cfg(not(target_os = "linux"))]
fn die_with_parent(_parent: u32) -> io::Result<()> {
    Ok(())
}

/// Processor time of all children that were waited for.
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
