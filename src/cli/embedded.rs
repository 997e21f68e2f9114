//! One compile without a daemon, for a client that may not ask one (`KACHE_DAEMON=never`).
//!
//! Nothing is said here but what the compiler says (RST-07); whatever is wrong, it runs.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use kache_client::control::{Compile, Ran, reply};
use kache_client::{Engine, wrap_with};

use crate::config::{self, Environment, Settings, Sources};
use crate::daemon::Embedded;

/// The compiler's code, or that of a call that makes no sense.
pub(super) fn run(words: &[OsString]) -> ExitCode {
    let Some((program, args)) = words.split_first() else { return ExitCode::FAILURE };
    // A panic costs the call its answer, and says nothing.
    std::panic::set_hook(Box::new(|_| {}));
    let current_dir = std::env::current_dir().ok();
    match current_dir.as_deref().and_then(settings) {
        Some(settings) => wrap_with(&mut Embedded::new(&settings), program, args),
        None => wrap_with(&mut Nobody, program, args),
    }
}

fn settings(current_dir: &Path) -> Option<Settings> {
    let sources =
        Sources { environment: Environment::of_process(), current_dir: Some(current_dir.to_owned()) };
    Settings::new(&config::load(&sources).ok()?).ok()
}

/// Knows no answer.
struct Nobody;

impl Engine for Nobody {
    fn ask(&mut self, _compile: Compile) -> Option<reply::Kind> {
        None
    }

    fn report(&mut self, _ran: Ran) {}
}
