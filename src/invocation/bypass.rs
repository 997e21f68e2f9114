//! Why a call is passed on unchanged. An answer, not an error.

use std::fmt;

/// The reason for passing a call on, and what it was about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bypass {
    /// The reason. Reports count by it.
    pub reason: Reason,
    /// The flag, file or variable that is to blame; may be empty.
    pub detail: String,
}

impl Bypass {
    /// For this reason, because of that.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Bypass { reason, detail: detail.into() }
    }
}

impl fmt::Display for Bypass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.detail.as_str() {
            "" => f.write_str(self.reason.name()),
            detail => write!(f, "{}: {detail}", self.reason.name()),
        }
    }
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident $name:literal;)+) => {
        /// Why.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason { $($(#[doc = $doc])+ $variant),+ }

        impl Reason {
            /// All of them.
            pub const ALL: &[Reason] = &[$(Reason::$variant),+];

            /// As reports show it. These names are part of the report's schema.
            pub fn name(self) -> &'static str {
                match self { $(Reason::$variant => $name),+ }
            }

            /// One sentence for people.
            pub fn explanation(self) -> &'static str {
                match self { $(Reason::$variant => concat!($($doc),+).trim_ascii()),+ }
            }
        }
    };
}

reasons! {
    /// A question to the compiler (`-vV`, `--print`), not a compile.
    Query "query";
    /// An option that kache does not know.
    UnknownOption "unknown_option";
    /// A kind of `--emit` that kache does not know.
    UnknownEmit "unknown_emit";
    /// A crate type that is not cached.
    CrateType "crate_type";
    /// The source is read from standard input, and it is no probe that kache knows.
    Stdin "stdin";
    /// An argument file could not be read.
    ArgFile "argfile_unreadable";
    /// An option whose effect lies outside of what kache can see.
    UncacheableOption "uncacheable_option";
    /// The compiler could not be identified.
    UnknownCompiler "unknown_compiler";
    /// An input could not be read or identified.
    UnknownInput "unknown_input";
    /// A library or tool that is linked could not be identified.
    UnknownLinkInput "unknown_link_input";
    /// Linked outputs are not to be cached (`cache.cache_executables`).
    Executable "executables_off";
    /// A rule of the configuration excludes this call.
    Excluded "excluded";
    /// The crate is being edited: it is compiled incrementally for now.
    Editing "editing";
    /// The configuration has mistakes; `kache doctor` names them.
    Configuration "configuration";
    /// kache is switched off (`KACHE_DISABLED`).
    Disabled "disabled";
    /// The store cannot be used just now.
    StoreUnusable "store_unusable";
    /// Something failed inside kache.
    Trouble "trouble";
    /// The call sees other files than the daemon does: it runs in another mount namespace.
    ForeignNamespace "foreign_namespace";
}
