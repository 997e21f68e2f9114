//! Finds the inputs of a compile by rustc: everything that it reads and that is known before it runs.
//!
//! [`gather`] is the entry. It needs the toolchain ([`toolchain`]) and the roots of the call ([`roots`]).
//! A linked output also counts its linker and all crates and native libraries that it reaches (`linked`).

mod env;
mod find_roots;
mod gather;
mod linked;
#[cfg(test)]
mod linked_tests;
mod linker;
mod natives;
mod processor;
mod proxy;
mod reachable;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod toolchain;

pub use env::is_keyed;
pub use find_roots::roots;
pub use gather::gather;
pub use toolchain::{RustcToolchain, toolchain, toolchain_files};
