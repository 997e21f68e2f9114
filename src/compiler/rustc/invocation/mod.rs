//! The command line of rustc and of clippy's driver.
//!
//! Invariant (KEY-10): only options of the tables in `options` and `unstable` are accepted. Any other option
//! makes the call a bypass that names it.

mod argfile;
mod arguments;
mod codegen;
mod declared_outputs;
mod options;
mod parse;
mod probe;
mod reference;
mod target;
#[cfg(test)]
mod tests;
mod types;
mod unstable;

pub use options::{CODEGEN, CompilerOption, KeyEffect, OPTIONS, SubOption};
pub use parse::{ReadFile, parse};
pub use reference::option_tables;
pub use types::{
    CrateSource, CrateType, DeclaredOutput, DeclaredOutputKind, DriverKind, Emit, EmitKind, Extern,
    FileArgument, NativeLibrary, ParsedCall, Presentation, Probe, RustcInvocation, SearchKind, SearchPath,
    TargetArgument,
};
pub use unstable::UNSTABLE;
