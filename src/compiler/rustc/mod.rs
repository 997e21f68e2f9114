//! The adapter for rustc and clippy-driver.

mod message_format;
mod task;

pub use task::task;
