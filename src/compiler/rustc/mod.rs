//! The adapter for rustc and clippy-driver.
//!
//! `invocation` parses the command line, `inputs` finds what the compile reads, `command` and `task` describe
//! the compile to the other stages, and `locators` proves which variables do not bind a result to its
//! checkout. [`RustcCall`] puts them together.

mod accesses;
mod call;
mod command;
pub mod inputs;
pub mod invocation;
pub mod locators;
mod message_format;
mod observed_page;
mod task;

#[cfg(test)]
pub(crate) use accesses::ACCESS_RULES;
pub use call::RustcCall;
pub use command::{ARGUMENT_STYLE, recalled_arguments};
pub use observed_page::page as observed_page;
