//! Prints a line for each crate into the output of a build (`KACHE_PROGRESS`).
//!
//! The line goes to cargo's own standard error, never to that of the wrapper: cargo stores what a
//! wrapper writes, and prints it again in every later build that has nothing to do (RST-07). The
//! daemon writes the line before it replies, so that the client stays small and the line is there
//! when the call returns. Nothing here can block or fail a call.

mod line;
mod stderr;

pub use line::line;
pub use stderr::{is_wanted, print_for_cargo, print_for_client};
