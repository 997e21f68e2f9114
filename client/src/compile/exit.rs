//! Ending as the compiler ended: by the same code, or by the same signal (RST-09).

use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitCode, ExitStatus};

use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, raise, signal, sigprocmask};

/// What a shell returns for a program that a signal ended, counted from here.
const EXIT_SIGNALLED: i32 = 128;

/// Ends this process like that one. It returns only a code.
pub(crate) fn like(status: ExitStatus) -> ExitCode {
    match (status.code(), status.signal()) {
        (Some(code), _) => by_code(code),
        (None, Some(number)) => {
            die_by(number);
            by_code(EXIT_SIGNALLED + number)
        }
        (None, None) => ExitCode::FAILURE,
    }
}

/// A code as the system keeps it: eight bits.
pub(crate) fn by_code(code: i32) -> ExitCode {
    ExitCode::from(code.to_le_bytes()[0])
}

/// The compiler has left a core if it was to leave one; ours would only replace it.
fn die_by(number: i32) {
    let Ok(name) = Signal::try_from(number) else { return };
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the call is given a valid `rlimit` that outlives it.
    unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const none) };
    let mut only = SigSet::empty();
    only.add(name);
    // SAFETY: the default action runs no code of ours.
    let _ = unsafe { signal(name, SigHandler::SigDfl) };
    let _ = sigprocmask(SigmaskHow::SIG_UNBLOCK, Some(&only), None);
    let _ = raise(name);
}
