//! The compiler in the place of this process: the way out of everything.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use super::incremental::without_incremental;
use super::stdin::Stdin;
use crate::dispatch::cannot_execute;

/// Runs the call as if kache were not there. It returns only when that is impossible.
pub(crate) fn without_kache(program: &OsStr, args: &[OsString], stdin: Stdin) -> ExitCode {
    let args = without_incremental(args);
    stdin.restore();
    let source = Command::new(program).args(args).exec();
    cannot_execute(program, &source)
}

/// Runs another command line in the call's place, or else the call itself: a program that
/// the configuration names need not be there.
pub(crate) fn instead(argv: &[OsString], program: &OsStr, args: &[OsString], stdin: Stdin) -> ExitCode {
    if let Some((other, other_args)) = argv.split_first() {
        let stdin = stdin.restore_for_now();
        let _source = Command::new(other).args(other_args).exec();
        return without_kache(program, args, stdin);
    }
    without_kache(program, args, stdin)
}
