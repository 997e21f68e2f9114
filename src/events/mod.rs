//! What wrapper calls did: recorded by the daemon, read by whoever reports.

mod event;

pub use event::{Event, Outcome, Phase};
