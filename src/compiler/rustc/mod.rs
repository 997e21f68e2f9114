//! The adapter for rustc and clippy-driver.

mod message_format;
mod task;

pub use message_format::RUSTC_MESSAGES;
pub use task::task;
