//! The event of one wrapper call.

use std::time::{Duration, SystemTime};

use super::change::Change;

/// The reason of a hit that was restored before cargo made a call for it.
pub const SEEDED: &str = "seeded";

/// The reason of a hit whose result was uploaded by a client of the served protocols.
pub const UPLOADED: &str = "uploaded";

/// One call in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The time of the reply.
    pub at: SystemTime,
    /// The name of the crate, or of the program where there is no crate.
    pub crate_name: String,
    /// The package's version; may be empty.
    pub version: String,
    /// `lib`, `bin`, `proc-macro`, `test`, `build-script`, `check`, `clippy`, `probe`, …
    pub kind: String,
    /// The outcome of the call.
    pub outcome: Outcome,
    /// The name of the reason why the call was passed on, missed or failed. Empty for most hits;
    /// otherwise [`SEEDED`] or [`UPLOADED`].
    pub reason: String,
    /// The reason as a sentence.
    pub detail: String,
    /// The time from the request to the reply, including the compile.
    pub elapsed: Duration,
    /// The parts of `elapsed`, in order.
    pub phases: Vec<(Phase, Duration)>,
    /// The time that the compile took: of a miss, this compile; of a hit, the one that was stored.
    pub compile_time: Duration,
    /// The size of the outputs that were restored.
    pub restored_bytes: u64,
    /// The part of `restored_bytes` that uses the same disk space as the store.
    pub shared_bytes: u64,
    /// The number of bytes that were stored.
    pub stored_bytes: u64,
    /// The number of times that a compiler ran.
    pub compiler_runs: u32,
    /// The number of times that a preprocessor ran.
    pub preprocessor_runs: u32,
    /// The number of times that a compiler ran only to be queried, such as for its version.
    pub probe_runs: u32,
    /// The query's digest as hexadecimal; empty where there is none.
    pub query: String,
    /// The action's digest as hexadecimal; empty where there is none.
    pub action: String,
    /// The directory in which the call was made.
    pub cwd: String,
    /// The workspace or target directory, which tells worktrees apart.
    pub root: String,
    /// The directories of the roots of this checkout, by the names of their roles.
    pub roots: Vec<(String, String)>,
    /// The differences from the nearest earlier call of the same query; only for misses.
    pub changes: Vec<Change>,
    /// The action of that earlier call, as hexadecimal; empty where there is none.
    pub nearest: String,
    /// The reason why the result of a compile was not stored; empty if it was stored, or if no
    /// compiler ran.
    pub not_stored: String,
}

impl Event {
    /// Creates an event with all other fields empty, so that a caller sets only what it knows.
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

/// Fields that are added to an event after the reply, because the result is stored only then.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Amendment {
    /// The action's digest as hexadecimal; empty where there is none.
    pub action: String,
    /// The number of bytes that were stored.
    pub stored_bytes: u64,
    /// The time that storing took.
    pub publish_time: Duration,
    /// The reason why nothing was stored; empty if the result was stored.
    pub not_stored: String,
}

macro_rules! names {
    ($(#[doc = $type_doc:literal])+ $type:ident { $($(#[doc = $doc:literal])+ $variant:ident $name:literal;)+ }) => {
        $(#[doc = $type_doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $type { $($(#[doc = $doc])+ $variant),+ }

        impl $type {
            /// All variants, in the order of their declaration.
            pub const ALL: &[$type] = &[$($type::$variant),+];

            /// Returns the name in reports and in the log, which is part of the report's schema.
            pub fn name(self) -> &'static str {
                match self { $($type::$variant => $name),+ }
            }

            /// Returns the variant with this name; `None` for a name of a later version.
            pub fn from_name(name: &str) -> Option<$type> {
                $type::ALL.iter().copied().find(|one| one.name() == name)
            }
        }
    };
}

names! {
    /// The outcome of a call.
    Outcome {
        /// The result was in the local store.
        LocalHit "local_hit";
        /// The result was in the local store because it was prefetched.
        PrefetchHit "prefetch_hit";
        /// The result came from a remote.
        RemoteHit "remote_hit";
        /// The call was a follower: the result came from a compile of another call.
        Dup "dup";
        /// The compiler ran, and its result may be stored.
        Miss "miss";
        /// The call was passed on.
        Passthrough "passthrough";
        /// Something failed inside kache, and the compiler ran.
        Error "error";
        /// The compiler failed, so there was nothing to store.
        Skipped "skipped";
    }
}

names! {
    /// A timed part of a call.
    Phase {
        /// Parsing the command line.
        Parse "parse";
        /// Finding and hashing inputs.
        Inputs "inputs";
        /// Composing the key.
        Key "key";
        /// Looking up the result.
        Lookup "lookup";
        /// Waiting for the compile of the leader.
        Wait "wait";
        /// Restoring outputs and messages.
        Restore "restore";
        /// Running the compiler.
        Compile "compile";
        /// Storing the result, after the call has returned.
        Publish "publish";
    }
}
