//! Restores a result: puts its outputs into a checkout and turns its messages into those that the
//! compiler would have printed there.
//!
//! Invariant: a restore that fails leaves nothing behind, and changes nothing once the client has
//! removed its staging directory (RST-05).

mod build_script;
pub mod dates;
pub mod dep_info;
mod error;
pub mod messages;
pub mod paths;
mod run;
mod staging;
mod write_file;

pub use dates::is_rebuild;
pub use error::RestoreError;
pub use run::{RestoreSource, Restored, restore};
pub use staging::Staging;
pub use write_file::write_file;
