//! Compiles where no daemon may be used: the engine replaces this process and does for one call
//! what a daemon does for all.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use kache_proto::control::{Compile, Ran, reply};

use super::call_stdin::CallStdin;
use super::pass_on;
use crate::engine::engine_path;

/// The first argument with which the client starts the engine; the compiler and its arguments
/// follow. Users never type it, so the help does not list it.
pub const EMBEDDED_COMMAND: &str = "embedded-compile";

/// Answers one compiler call in this process, in place of the daemon.
pub trait CompileBackend {
    /// Decides what to do about a call: `Done`, `Run` or `PassOn`. `None` means that the compiler
    /// runs as if kache were not there.
    fn begin(&mut self, compile: Compile) -> Option<reply::Kind>;

    /// Takes the report of the compiler that `Run` asked for. The call ends only when this returns.
    fn finish(&mut self, ran: Ran);
}

/// Replaces this process with the engine. It returns only if neither the engine nor the compiler
/// can be executed.
pub(super) fn exec_engine(program: &OsStr, args: &[OsString]) -> ExitCode {
    if let Ok(engine) = engine_path() {
        let _source = Command::new(engine).arg(EMBEDDED_COMMAND).arg(program).args(args).exec();
    }
    pass_on::without_kache(program, args, CallStdin::Untouched)
}
