//! Watching a compiler: which files and variables it, and what it starts, ask for.
//!
//! A library that `build.rs` has compiled (`observer/`) is loaded into the compiler
//! and notes what it is asked; here it is laid down, given a file to note in, and read. What
//! the notes mean is `publish`'s business. Invariant: where anything is in doubt, nothing is
//! loaded and the compiler runs as ever.

mod elf;
mod known;
mod library;
mod record;
mod system;
mod trial;
mod watch;

pub use elf::Elf;
pub use library::Unavailable;
pub use record::{Damage, Kind, Note, Outcome, RECORD_BYTES_MAX, UNKNOWN_PROCESS, parse};
pub use system::is_made_up;
pub use watch::{Observer, Watch, Watching, check, is_own_variable, sees_raw_calls};

#[cfg(test)]
mod tests;
