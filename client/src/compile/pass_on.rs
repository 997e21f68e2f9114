//! Replaces this process with the compiler, where kache has nothing more to do for a call.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use super::call_stdin::CallStdin;
use super::incremental::without_incremental;
use crate::dispatch::cannot_execute;

/// Executes the compiler as if kache were not there. It returns only if that fails.
pub(crate) fn without_kache(program: &OsStr, args: &[OsString], stdin: CallStdin) -> ExitCode {
    let args = without_incremental(args);
    stdin.restore();
    let source = Command::new(program).args(args).exec();
    cannot_execute(program, &source)
}

/// Executes the command line `argv`, and where that fails the call's own: `argv` may begin with a
/// program from the configuration, which may not exist.
pub(crate) fn exec_first(
    argv: &[OsString],
    program: &OsStr,
    args: &[OsString],
    stdin: CallStdin,
) -> ExitCode {
    if let Some((other, other_args)) = argv.split_first() {
        let stdin = stdin.restore_for_now();
        let _source = Command::new(other).args(other_args).exec();
        return without_kache(program, args, stdin);
    }
    without_kache(program, args, stdin)
}
