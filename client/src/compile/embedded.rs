//! Where no daemon may be used: the engine takes this process's place for one call, and does
//! for it what a daemon does for all.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use kache_proto::control::{Compile, Ran, reply};

use super::passing;
use super::stdin::Stdin;
use crate::engine::engine_path;

/// What the engine is called with: this, then the compiler and its arguments. It is nobody's
/// command, so no page of help names it.
pub const EMBEDDED: &str = "embedded-compile";

/// What answers calls in this process.
pub trait Engine {
    /// What to do about a call: `Done`, `Run` or `PassOn`. Without an answer the compiler runs
    /// as if kache were not there.
    fn ask(&mut self, compile: Compile) -> Option<reply::Kind>;

    /// How the compiler ended that was to be run. The call waits for this to return.
    fn report(&mut self, ran: Ran);
}

/// Becomes the engine. It returns only where not even the compiler can be executed.
pub(super) fn in_place_of_this(program: &OsStr, args: &[OsString]) -> ExitCode {
    if let Ok(engine) = engine_path() {
        let _source = Command::new(engine).arg(EMBEDDED).arg(program).args(args).exec();
    }
    passing::without_kache(program, args, Stdin::Untouched)
}
