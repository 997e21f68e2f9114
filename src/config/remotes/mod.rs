//! The remotes of a call: what files and variables say of them, and what that means.
//!
//! `entry` reads one table of a file, `combine` puts the tables and the variables together, `settings` makes
//! the values that a remote is opened with. What cannot be understood of a remote's settings is a problem that
//! `kache doctor` shows, and that remote is not used; it is never an error of a call (NET-01). Invariant: no
//! text that this module makes for people shows a secret (NET-06).

mod combine;
mod entry;
mod exposed;
mod keys;
mod settings;
mod show;
mod token_file;

#[cfg(test)]
mod tests;

pub(super) use combine::{Remotes, combine};
pub(super) use entry::{REMOTES_MAX, RemoteEntry};
pub use exposed::exposed_files;
pub(super) use keys::{KEYS, nearest};
pub use settings::{RemoteSettings, remotes};
pub(super) use show::{list, values_of};
