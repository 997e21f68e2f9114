//! The inputs of a compile: everything that it reads and that is known before it runs.
//!
//! This part reads the disk and asks programs; the key gets everything from it as one [`Inputs`] value.
//! It does not know how a key is made. Two caches keep it fast: `memos` remembers the digest of a file
//! by its stamp, and `cached_answer` remembers answers that took a process or much hashing.
//!
//! Invariant: an input that cannot be read or identified makes the call a bypass, never a key that
//! leaves the input out (KEY-04).

mod bytes;
mod cached_answer;
mod crates;
mod disk_world;
mod gathered;
mod library;
mod link_args;
mod memos;
mod process;
mod programs;
mod snapshot;
mod stamp;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod twins;
mod types;
mod volume;
#[cfg(test)]
mod volume_tests;
mod world;

pub(crate) use bytes::{ByteReader, ByteWriter};
pub use cached_answer::ANSWERS_MAX;
pub use crates::{CRATES_MAX, MadeCrate};
pub(crate) use crates::{CrateUses, linked_name};
pub use disk_world::DiskWorld;
pub(crate) use gathered::GatheredInputs;
pub(crate) use library::{LibraryReference, library_files, references_of_library};
pub(crate) use link_args::{LinkArgs, script_files};
pub use memos::MEMOS_MAX;
pub(crate) use process::ask;
#[cfg(test)]
pub(crate) use process::questions_asked;
pub use process::{ProgramOutput, run_with_timeout};
pub(crate) use programs::on_path;
pub use programs::{is_script, is_sealed};
pub use stamp::{CLOCK_GRAIN, Inode, Stamp};
pub(crate) use stamp::{OpenDir, is_absence};
pub use types::{Input, InputKind, Inputs, Toolchain, ToolchainFiles, Variables};
pub use world::{FileState, World, WorldError};
