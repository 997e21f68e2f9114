//! One line a crate for whoever reads the log of a build (`KACHE_PROGRESS`).
//!
//! It goes to cargo's own standard error, never to that of the wrapper: what a wrapper writes
//! there cargo stores, and repeats on every later build that has nothing to do (RST-07). The
//! daemon writes it, before it answers, so that the client stays small and the line is there
//! when the call has returned. Nothing here can hold up or fail a call.

mod line;
mod stderr;

pub use line::line;
pub use stderr::{tell, tell_cargo, wanted};
