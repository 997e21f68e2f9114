//! A bypass: the reason why a call is passed on to the compiler without caching. It is a result, not an
//! error.

use std::fmt;

use super::names::names;

/// The reason why a call is not cached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bypass {
    /// The kind of reason; reports count calls by it.
    pub reason: Reason,
    /// The option, file or variable that caused it; may be empty.
    pub detail: String,
}

impl Bypass {
    /// Creates a bypass; `detail` names the option, file or variable.
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
        names! {
            /// The kinds of reasons for a bypass.
            Reason { $($(#[doc = $doc])+ $variant $name;)+ }
        }

        impl Reason {
            /// One sentence that explains the reason to a user.
            pub fn explanation(self) -> &'static str {
                match self { $(Reason::$variant => concat!($($doc),+).trim_ascii()),+ }
            }
        }
    };
}

reasons! {
    /// A question to the compiler (`-vV`, `--print`), not a compile.
    Question "query";
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
    /// An option whose effect kache cannot see.
    UncacheableOption "uncacheable_option";
    /// The compiler could not be identified.
    UnknownCompiler "unknown_compiler";
    /// An input could not be read or identified.
    UnknownInput "unknown_input";
    /// A library or tool that is linked could not be identified.
    UnknownLinkInput "unknown_link_input";
    /// Linked outputs are not cached (`cache.cache_executables` is off).
    Executable "executables_off";
    /// The configuration excludes this crate.
    Excluded "excluded";
    /// The crate is being edited, so it is compiled incrementally and not stored.
    Editing "editing";
    /// The configuration has errors; `kache doctor` names them.
    Configuration "configuration";
    /// kache is switched off (`KACHE_DISABLED`).
    Disabled "disabled";
    /// The store cannot be used at the moment.
    StoreUnusable "store_unusable";
    /// Something failed inside kache.
    InternalError "trouble";
    /// The call runs in another mount namespace than the daemon, where a path may lead to another file.
    ForeignNamespace "foreign_namespace";
}
