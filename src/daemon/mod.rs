//! The daemon: the one process that opens the store, answers compiler calls and serves the store to
//! other programs.
//!
//! `core` decides and `driver` does. `lifecycle` starts and ends the process, `control` reads and
//! writes the control socket, `calls` runs a task for each compiler call, and `serve` is the Bazel
//! remote cache protocol.

mod activity;
mod breaker;
mod calls;
mod control;
pub mod core;
#[cfg(test)]
mod core_tests;
mod draining;
mod driver;
#[cfg(test)]
mod driver_tests;
mod embedded;
mod fetch;
#[cfg(test)]
mod gate;
mod lifecycle;
mod log;
mod reject;
mod serving;
mod status;
mod syncing;
mod upkeep;
mod verifying;
mod watching;
mod wire;

pub use activity::{Activity, ActivityCount, InFlight, OpenConnection};
pub use draining::{Drain, Draining};
pub use driver::{Driver, EVENTS_MAX, TICK_EVERY};
pub use embedded::EmbeddedBackend;
pub use fetch::{FETCH_BYTES_MAX, fetch, origins};
pub use lifecycle::{Mode, RunError, run};
pub use log::{LOG_BYTES_MAX, rotated};
