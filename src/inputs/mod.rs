//! What a compile reads, found out before it runs. Reads the world; everything it finds
//! arrives at the key as an [`Inputs`].

mod types;
mod world;

pub use types::{Input, InputKind, Inputs, Toolchain};
pub use world::{FileState, World, WorldError};
