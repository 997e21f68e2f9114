//! The compilers that kache knows, one adapter each. The stages after the key know none of them.

pub mod rustc;
