//! A call of a compiler (arguments, environment, directory), its command line as one value, and the reasons why
//! a call is passed on. Pure. The adapters in `compiler` parse command lines.

mod bypass;
mod call;
mod command_line;
mod names;

pub use bypass::{Bypass, Reason};
pub use call::{Call, Environment, variable};
pub use command_line::{CommandLine, KeyedArgument, Word};
pub(crate) use names::names;
