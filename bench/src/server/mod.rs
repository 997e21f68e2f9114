//! The servers that are measured: starting and stopping them, and their processor time and memory.

mod kinds;
mod process;

pub(crate) use kinds::{Programs, ServerKind, Storage};
pub(crate) use process::{Server, processor_time};
