//! What a compiler was called for. Pure: argv, environment and directory in, an invocation
//! out.

mod bypass;
mod call;
pub mod rustc;

pub use bypass::{Bypass, Reason};
pub use call::{Call, Environment, variable};
