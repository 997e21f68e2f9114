//! Observes which files and variables a compiler, and the programs that it starts, access.
//!
//! `build.rs` compiles the library (`observer/`) that is loaded into the compiler and writes notes. This
//! module puts the library where programs can load it, gives it a record to write to, and reads the
//! record afterwards. `publish` decides what the notes mean. Invariant: in case of doubt nothing is loaded
//! and the compiler runs as it does without kache.

mod compiler_or_linker;
mod elf;
mod library;
mod record;
mod system;
mod trial;
mod watch;

pub use elf::Elf;
pub use library::Unavailable;
pub use record::{Note, NoteKind, NoteOutcome, RECORD_BYTES_MAX, RecordDamage, UNKNOWN_PROCESS, parse};
pub use system::is_made_up;
pub use watch::{Observer, Watch, Watching, check, is_own_variable, sees_raw_calls};

#[cfg(test)]
mod tests;
