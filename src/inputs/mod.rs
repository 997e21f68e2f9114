//! What a compile reads, found out before it runs. Reads the world; everything it finds
//! arrives at the key as an [`Inputs`].

mod bytes;
mod crates;
mod disk_world;
mod env;
mod facts;
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

pub use crates::{CRATES_MAX, MadeCrate};
pub use disk_world::DiskWorld;
pub use env::is_keyed;
pub use facts::FACTS_MAX;
pub use find_roots::{RootSettings, roots};
pub use gather::{GatherSettings, gather};
pub use linker::{is_script, is_sealed};
pub use memos::MEMOS_MAX;
pub use process::{Answer, answer};
pub(crate) use stamp::is_absence;
pub use stamp::{CLOCK_GRAIN, Inode, Stamp};
pub use toolchain::toolchain;
pub use types::{Input, InputKind, Inputs, Toolchain, Variables};
pub use world::{FileState, World, WorldError};
