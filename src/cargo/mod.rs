//! Cargo, as other processes see it: its process, its command line and configuration, and its records
//! in a target directory.
//!
//! Cargo promises none of this. If something does not look as expected, these functions return `None`
//! or an error and the caller goes on without. Cargo itself checks all files that kache restores.

mod build;
pub mod config;
mod fingerprint;
mod process;
pub mod workspace;

pub use build::{BuildCommand, parse_build_command};
pub use config::CargoConfig;
pub use fingerprint::{CargoUnit, Fingerprint, FingerprintError};
pub use process::{CargoProcess, cargo_above, parent_of};
