//! One compile without a daemon, for a client that may not use one (`KACHE_DAEMON=never`).
//!
//! The only output is the compiler's (RST-07). Whatever goes wrong in here, the compiler runs.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use kache_client::control::{Compile, Ran, reply};
use kache_client::{CompileBackend, compile_with};

use crate::config::{self, ConfigSources, Environment, Settings};
use crate::daemon::EmbeddedBackend;

/// Compiles and returns the compiler's exit code. `words` is the compiler and its arguments.
pub(super) fn run(words: &[OsString]) -> ExitCode {
    let Some((program, args)) = words.split_first() else { return ExitCode::FAILURE };
    // A panic in kache must print nothing into the build's output: the compiler then runs
    // without the cache.
    std::panic::set_hook(Box::new(|_| {}));
    let current_dir = std::env::current_dir().ok();
    match current_dir.as_deref().and_then(settings) {
        Some(settings) => compile_with(&mut EmbeddedBackend::new(&settings), program, args),
        None => compile_with(&mut NoBackend, program, args),
    }
}

/// Loads the settings; `None` if the configuration has a mistake.
fn settings(current_dir: &Path) -> Option<Settings> {
    let sources =
        ConfigSources { environment: Environment::of_process(), current_dir: Some(current_dir.to_owned()) };
    Settings::new(&config::load(&sources).ok()?).ok()
}

/// A backend that has no results, so the compiler always runs.
struct NoBackend;

impl CompileBackend for NoBackend {
    fn begin(&mut self, _compile: Compile) -> Option<reply::Kind> {
        None
    }

    fn finish(&mut self, _ran: Ran) {}
}
