//! Cargo, seen from beside: the process behind a call, what it was told, and what it keeps of
//! a build in a target directory.
//!
//! Nothing here is promised by cargo. Whatever does not look as expected is nothing, and
//! whoever asked goes on without; cargo itself checks all that is laid down for it.

mod build;
pub mod config;
mod fingerprint;
mod process;
pub mod workspace;

pub use build::{BuildCommand, parse_build_command};
pub use config::CargoConfig;
pub use fingerprint::{CargoUnit, Fingerprint, FingerprintError};
pub use process::{CargoProcess, cargo_above, parent_of};
