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

pub use options::{CODEGEN, CompilerOption, KeyEffect, OPTIONS, SubOption, UNSTABLE};
pub use parse::{Read, parse};
pub use types::{
    CrateType, DriverKind, Emit, EmitKind, Extern, FileArgument, Made, MadeKind, NativeLibrary, Parsed,
    Presentation, Probe, Rustc, Search, SearchKind, Source, TargetArgument, Word,
};
