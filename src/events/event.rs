//! One wrapper call, as it is recorded.

use std::time::{Duration, SystemTime};

use super::change::Change;

/// The reason of a hit that no call asked for: it was laid down before cargo could.
pub const SEEDED: &str = "seeded";

/// The reason of a hit whose result a client of the served protocols has uploaded.
pub const UPLOADED: &str = "uploaded";

/// What one call did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When the call was answered.
    pub at: SystemTime,
    /// The crate, or the program where there is none.
    pub crate_name: String,
    /// The package's version; may be empty.
    pub version: String,
    /// `lib`, `bin`, `proc-macro`, `test`, `build-script`, `check`, `clippy`, `probe`, …
    pub kind: String,
    /// How it went.
    pub outcome: Outcome,
    /// Why it was passed on, missed or failed, by name; empty for most hits, or [`SEEDED`] or
    /// [`UPLOADED`].
    pub reason: String,
    /// In words.
    pub detail: String,
    /// From the request to the answer, the compile included.
    pub elapsed: Duration,
    /// Where that time went, in order.
    pub phases: Vec<(Phase, Duration)>,
    /// What the compile took when it ran: now for a miss, then for a hit.
    pub compile_time: Duration,
    /// Bytes laid down in this checkout.
    pub restored_bytes: u64,
    /// Of these, bytes that take no room of their own.
    pub shared_bytes: u64,
    /// Bytes stored.
    pub stored_bytes: u64,
    /// How often a compiler ran.
    pub compiler_runs: u32,
    /// How often a preprocessor ran.
    pub preprocessor_runs: u32,
    /// How often a compiler was asked a question.
    pub probe_runs: u32,
    /// The query's digest as hexadecimal; empty where there is none.
    pub query: String,
    /// The action's digest as hexadecimal; empty where there is none.
    pub action: String,
    /// The call's directory.
    pub cwd: String,
    /// The workspace or target directory, which tells worktrees apart.
    pub root: String,
    /// Where the checkout lies: the directories of its roots, by their names in an input root.
    pub roots: Vec<(String, String)>,
    /// How the nearest earlier call of the same query differs; only for misses.
    pub changes: Vec<Change>,
    /// The action that these changes count from, as hexadecimal; empty where there is none.
    pub nearest: String,
    /// Why a compile's result was not stored; empty where it was, or where none ran.
    pub not_stored: String,
}

impl Event {
    /// A call of which nothing else is known. New fields come with an empty value here, so
    /// that whoever records needs to name only what it knows.
    pub fn new(at: SystemTime, crate_name: impl Into<String>, outcome: Outcome) -> Event {
        Event {
            at,
            crate_name: crate_name.into(),
            version: String::new(),
            kind: String::new(),
            outcome,
            reason: String::new(),
            detail: String::new(),
            elapsed: Duration::ZERO,
            phases: Vec::new(),
            compile_time: Duration::ZERO,
            restored_bytes: 0,
            shared_bytes: 0,
            stored_bytes: 0,
            compiler_runs: 0,
            preprocessor_runs: 0,
            probe_runs: 0,
            query: String::new(),
            action: String::new(),
            cwd: String::new(),
            root: String::new(),
            roots: Vec::new(),
            changes: Vec::new(),
            nearest: String::new(),
            not_stored: String::new(),
        }
    }
}

/// What became of a call after it was answered: publishing waits for nobody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Amendment {
    /// The action's digest as hexadecimal; empty where none was made.
    pub action: String,
    /// Bytes stored.
    pub stored_bytes: u64,
    /// What storing took.
    pub publish_time: Duration,
    /// Why nothing was stored; empty where something was.
    pub not_stored: String,
}

macro_rules! names {
    ($(#[doc = $type_doc:literal])+ $type:ident { $($(#[doc = $doc:literal])+ $variant:ident $name:literal;)+ }) => {
        $(#[doc = $type_doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $type { $($(#[doc = $doc])+ $variant),+ }

        impl $type {
            /// All of them.
            pub const ALL: &[$type] = &[$($type::$variant),+];

            /// As reports show it. These names are part of the report's schema.
            pub fn name(self) -> &'static str {
                match self { $($type::$variant => $name),+ }
            }

            /// The one with this name.
            pub fn from_name(name: &str) -> Option<$type> {
                $type::ALL.iter().copied().find(|one| one.name() == name)
            }
        }
    };
}

names! {
    /// How a call went.
    Outcome {
        /// Answered from the local store.
        LocalHit "local_hit";
        /// Answered from the local store, where a prefetch had put it.
        PrefetchHit "prefetch_hit";
        /// Answered from a remote.
        RemoteHit "remote_hit";
        /// Answered by a compile that another call was running.
        Dup "dup";
        /// Compiled, and offered to the store.
        Miss "miss";
        /// Passed on.
        Passthrough "passthrough";
        /// Something failed inside kache; the compiler ran.
        Error "error";
        /// The compiler failed, so there was nothing to store.
        Skipped "skipped";
    }
}

names! {
    /// Where a call's time goes.
    Phase {
        /// Reading the command line.
        Parse "parse";
        /// Finding and hashing inputs.
        Inputs "inputs";
        /// Making the key.
        Key "key";
        /// Looking for a result.
        Lookup "lookup";
        /// Waiting for another call's compile.
        Wait "wait";
        /// Laying down files and messages.
        Restore "restore";
        /// Running the compiler.
        Compile "compile";
        /// Storing; after the call has returned.
        Publish "publish";
    }
}
