//! What survives: `kill -9` at any moment, a failing disk, a full one, a read-only one.
//!
//! Everything here runs the real daemon and talks to it as a client would.

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
