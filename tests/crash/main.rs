//! Durability: the store after `kill -9` at any moment, and on a disk that fails, is full, or is read-only.
//!
//! All tests run the real daemon and talk to it as clients do.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed, as it should")]

mod compiles;
mod daemon;
mod faults;
mod kill_loop;
mod load;
mod tree;
#[expect(dead_code, reason = "nothing is measured here")]
#[path = "../support/volume.rs"]
mod volume;
mod volumes;
mod worktree;
