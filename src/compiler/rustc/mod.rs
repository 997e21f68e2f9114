//! The adapter for rustc and clippy-driver.
//!
//! `invocation` parses the command line, `inputs` finds what the compile reads, `command` and `task` describe
//! the compile to the other stages, and `locators` proves which variables do not bind a result to its
//! checkout. [`RustcCall`] puts them together.

mod call;
mod command;
pub mod inputs;
pub mod invocation;
pub mod locators;
mod message_format;
mod task;

pub use call::RustcCall;
pub use command::recalled_arguments;
