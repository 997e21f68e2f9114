//! From a call (arguments, environment, directory) to an invocation: what the call asks the compiler to do.
//!
//! It starts no process. It reads files only through a function that the caller passes: argument files,
//! target descriptions and the sources of small trial compiles.

mod bypass;
mod call;
mod command_line;
mod names;

pub use bypass::{Bypass, Reason};
pub use call::{Call, Environment, variable};
pub use command_line::{CommandLine, Word};
pub(crate) use names::names;
