//! Restores a result: puts its outputs into a checkout and turns its messages into those that the
//! compiler would have printed there.
//!
//! Invariant: a restore that fails leaves nothing behind, and changes nothing once the client has
//! removed its staging directory (RST-05).

mod error;
mod run;

pub use error::RestoreError;
pub use run::{RestoreSource, Restored, restore};
