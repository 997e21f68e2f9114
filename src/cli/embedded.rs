//! One compile without a daemon, for a client that may not ask one (`KACHE_DAEMON=never`).
//!
//! Nothing is said here but what the compiler says (RST-07); whatever is wrong, it runs.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use kache_client::control::{Compile, Ran, reply};
use kache_client::{CompileBackend, compile_with};

use crate::config::{self, Environment, Settings, Sources};
use crate::daemon::EmbeddedBackend;

/// The compiler's code, or that of a call that makes no sense.
pub(super) fn run(words: &[OsString]) -> ExitCode {
    let Some((program, args)) = words.split_first() else { return ExitCode::FAILURE };
    // A panic costs the call its answer, and says nothing.
    std::panic::set_hook(Box::new(|_| {}));
    let current_dir = std::env::current_dir().ok();
    match current_dir.as_deref().and_then(settings) {
        Some(settings) => compile_with(&mut EmbeddedBackend::new(&settings), program, args),
        None => compile_with(&mut NoBackend, program, args),
    }
}

fn settings(current_dir: &Path) -> Option<Settings> {
    let sources =
        Sources { environment: Environment::of_process(), current_dir: Some(current_dir.to_owned()) };
    Settings::new(&config::load(&sources).ok()?).ok()
}

/// Makes every call run the compiler, where the settings cannot be read.
struct NoBackend;

impl CompileBackend for NoBackend {
    fn begin(&mut self, _compile: Compile) -> Option<reply::Kind> {
        None
    }

    fn finish(&mut self, _ran: Ran) {}
}
