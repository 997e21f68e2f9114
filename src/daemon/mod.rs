//! The daemon: the one process that opens the store, and the doors to it.

mod activity;
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
mod lifecycle;
mod log;
pub mod serve;
mod serving;
mod status;
mod turning_away;
mod upkeep;
mod verifying;
mod watching;
mod wire;

pub use activity::{Activity, ActivityCount, InFlight, OpenConnection};
pub use draining::{Drain, Draining};
pub use driver::{Driver, EVENTS_MAX, TICK_EVERY};
pub use embedded::Embedded;
pub use fetch::{FETCH_BYTES_MAX, fetch, origins};
pub use lifecycle::{Mode, RunError, run};
pub use log::{LOG_BYTES_MAX, rotated};
