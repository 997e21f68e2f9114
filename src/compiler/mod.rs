//! The compilers that kache knows, one adapter each. The stages after the key know none of them.

mod adapter;
pub mod rustc;

pub use adapter::{
    ArgumentStyle, CallFacts, CallKind, CompilerCall, GatherSettings, Gathered, RecalledCall, RootSettings,
    argument_style, parse, recall,
};
