//! Ends this process as the compiler ended: with the same exit code, or by the same signal (RST-09).

use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitCode, ExitStatus};

use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, raise, signal, sigprocmask};

/// The exit code of a shell for a program that was ended by a signal, less the signal's number.
const EXIT_SIGNALLED: i32 = 128;

/// Ends this process by the signal that ended the compiler. Where the compiler was not ended by a
/// signal, returns its exit code.
pub(crate) fn exit_like(status: ExitStatus) -> ExitCode {
    match (status.code(), status.signal()) {
        (Some(code), _) => exit_code(code),
        (None, Some(number)) => {
            raise_signal(number);
            exit_code(EXIT_SIGNALLED + number)
        }
        (None, None) => ExitCode::FAILURE,
    }
}

/// Converts an exit code, of which the system keeps the lowest eight bits.
pub(crate) fn exit_code(code: i32) -> ExitCode {
    ExitCode::from(code.to_le_bytes()[0])
}

/// Ends this process by a signal, whatever action it had before. Returns if the signal does not end
/// a process.
///
/// The compiler has written its core file if one was wanted. A core file of this process would
/// overwrite it, so none is written.
fn raise_signal(number: i32) {
    let Ok(name) = Signal::try_from(number) else { return };
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the call is given a valid `rlimit` that outlives it.
    unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const none) };
    let mut only = SigSet::empty();
    only.add(name);
    // SAFETY: the default action runs no code of this process.
    let _ = unsafe { signal(name, SigHandler::SigDfl) };
    let _ = sigprocmask(SigmaskHow::SIG_UNBLOCK, Some(&only), None);
    let _ = raise(name);
}
