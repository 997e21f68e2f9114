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
mod env;
mod find_roots;
mod gather;
mod library;
mod link_args;
mod linked;
#[cfg(test)]
mod linked_tests;
mod linker;
mod memos;
mod natives;
mod process;
mod processor;
mod proxy;
mod reachable;
mod snapshot;
mod stamp;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod toolchain;
mod types;
mod volume;
#[cfg(test)]
mod volume_tests;
mod world;

pub use cached_answer::ANSWERS_MAX;
pub use crates::{CRATES_MAX, MadeCrate};
pub use disk_world::DiskWorld;
pub use env::is_keyed;
pub use find_roots::{RootSettings, roots};
pub use gather::{GatherSettings, gather};
pub use linker::{is_script, is_sealed};
pub use memos::MEMOS_MAX;
pub use process::{ProgramOutput, run_with_timeout};
pub(crate) use stamp::is_absence;
pub use stamp::{CLOCK_GRAIN, Inode, Stamp};
pub use toolchain::toolchain;
pub use types::{Input, InputKind, Inputs, Toolchain, Variables};
pub use world::{FileState, World, WorldError};
