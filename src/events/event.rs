//! The event of one wrapper call.

use std::time::{Duration, SystemTime};

use kache_cas::Hash;

use super::change::Change;
use super::not_stored::NotStored;
use super::reason::EventReason;
use crate::invocation::names;

/// One call in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The time of the reply.
    pub at: SystemTime,
    /// The name of the crate, or of the program where there is no crate.
    pub name: String,
    /// The package's version; may be empty.
    pub version: String,
    /// The kind of compile, such as `lib`, `bin`, `test` or `probe`, in the words of the build tool.
    pub kind: String,
    /// The outcome of the call.
    pub outcome: Outcome,
    /// The reason why the call was passed on, missed or failed, or how a hit came about. `None` for
    /// most hits.
    pub reason: Option<EventReason>,
    /// What the reason is about, as text.
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
    /// The hash of the query's digest; `None` where there is no query.
    pub query: Option<Hash>,
    /// The hash of the action's digest; `None` where there is no action.
    pub action: Option<Hash>,
    /// The directory in which the call was made.
    pub cwd: String,
    /// The workspace or target directory, which tells worktrees apart.
    pub root: String,
    /// The directories of the roots of this checkout, by the names of their roles.
    pub roots: Vec<(String, String)>,
    /// The differences from the nearest earlier call of the same query; only for misses.
    pub changes: Vec<Change>,
    /// The hash of the action of that earlier call; `None` where there is no such call.
    pub nearest: Option<Hash>,
    /// The reason why the result of a compile was not stored; `None` if it was stored, or if no
    /// compiler ran.
    pub not_stored: Option<NotStored>,
    /// The remotes that the call went on without, and why, in their words; empty if there are none.
    pub remote_trouble: String,
}

impl Event {
    /// Creates an event with all other fields empty, so that a caller sets only what it knows.
    pub fn new(at: SystemTime, name: impl Into<String>, outcome: Outcome) -> Event {
        Event {
            at,
            name: name.into(),
            version: String::new(),
            kind: String::new(),
            outcome,
            reason: None,
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
            query: None,
            action: None,
            cwd: String::new(),
            root: String::new(),
            roots: Vec::new(),
            changes: Vec::new(),
            nearest: None,
            not_stored: None,
            remote_trouble: String::new(),
        }
    }

    /// Returns the name of the reason in reports and in the log; empty where there is no reason.
    pub fn reason_name(&self) -> &str {
        EventReason::name_of(self.reason.as_ref())
    }
}

/// Fields that are added to an event after the reply, because the result is stored only then.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Amendment {
    /// The hash of the action's digest; `None` where there is no action.
    pub action: Option<Hash>,
    /// The number of bytes that were stored.
    pub stored_bytes: u64,
    /// The time that storing took.
    pub publish_time: Duration,
    /// The reason why nothing was stored; `None` if the result was stored.
    pub not_stored: Option<NotStored>,
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
        /// Asking remotes for the result, and downloading it.
        Remote "remote";
        /// Restoring outputs and messages.
        Restore "restore";
        /// Running the compiler.
        Compile "compile";
        /// Storing the result, after the call has returned.
        Publish "publish";
    }
}
