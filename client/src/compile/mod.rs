//! A compiler call from argv to its exit code: ask the daemon, obey, or do without.
//!
//! Invariant (DMN-03): whatever is wrong with the daemon, its store or the way to it, the
//! compiler runs, at most a named wait later. (RST-07): nothing is said that the compiler did
//! not say. This module knows how a rustc is recognised and that `-C incremental` is taken
//! out; what any other option means is the daemon's business.

mod argument_file;
mod asking;
mod autostart;
mod embedded;
mod exit;
mod grievance;
mod guard;
mod incremental;
mod lines;
mod locate;
mod passing;
mod request;
mod running;
mod stdin;
mod target_dir;
mod wrapper;

pub use embedded::{EMBEDDED, Engine};
pub use wrapper::wrap_with;
pub(crate) use wrapper::{is_for_the_daemon, wrap};
