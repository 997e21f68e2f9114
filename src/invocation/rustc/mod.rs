//! rustc's command line, by allow-list (KEY-10).

mod types;

pub use types::{
    CrateType, DriverKind, Emit, EmitKind, Extern, FileArgument, NativeLibrary, Parsed, Presentation, Probe,
    Rustc, Search, SearchKind, Source, TargetArgument, Word,
};
