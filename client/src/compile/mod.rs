//! A compiler call from argv to its exit code: sends the call to the daemon and follows the reply,
//! or runs the compiler without the daemon.
//!
//! Invariants: whatever fails in the daemon, its store or the connection, the compiler runs, at most
//! a wait with a named limit later (DMN-03); and nothing is printed but the compiler's messages
//! (RST-07). This module recognises rustc and removes `-C incremental`. Every other option is the
//! daemon's to interpret.

mod argument_file;
mod autostart;
mod call_stdin;
mod embedded;
mod exchange;
mod exit;
mod fallback_reason;
mod guard;
mod incremental;
mod lines;
mod locate;
mod pass_on;
mod request;
mod running;
mod target_dir;
mod wrapper;

pub use embedded::{CompileBackend, EMBEDDED_COMMAND};
pub use incremental::without_incremental;
pub use request::assignment;
pub use wrapper::compile_with;
pub(crate) use wrapper::{is_supported, wrap};
