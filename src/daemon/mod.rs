//! The daemon: the one process that opens the store, and the doors to it.

mod activity;
mod draining;
pub mod serve;

pub use activity::{Activity, ActivityCount, InFlight, OpenConnection};
pub use draining::{Drain, Draining};
