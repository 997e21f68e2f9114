//! The servers that are measured: how each is started, and what it costs while it runs.

mod kinds;
mod process;

pub(crate) use kinds::{Kind, Programs, Storage};
pub(crate) use process::{Server, processor_time};
