//! rustc's command line, by allow-list (KEY-10).

mod argfile;
mod arguments;
mod codegen;
mod made;
mod options;
mod parse;
mod probe;
mod target;
#[cfg(test)]
mod tests;
mod types;
mod unstable;

pub use options::{CODEGEN, CompilerOption, KeyEffect, OPTIONS, SubOption};
pub use parse::{Read, parse};
pub use types::{
    CrateType, DriverKind, Emit, EmitKind, Extern, FileArgument, Made, MadeKind, NativeLibrary, Parsed,
    Presentation, Probe, Rustc, Search, SearchKind, Source, TargetArgument, Word,
};
pub use unstable::UNSTABLE;
