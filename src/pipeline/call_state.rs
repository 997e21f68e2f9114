//! The states of a call, in the order in which it passes through them. Each stage takes one state and
//! gives the next.

use std::sync::Arc;
use std::time::SystemTime;

use kache_cas::Hash;

use super::build_hooks::{BuildHooks, CompileHooks, EditDecision, NoBuild};
use super::coalescer::Leader;
use super::outputs_in_progress::OutputsGuard;
use super::phases::Phases;
use super::prepare::Prepared;
use crate::action::Observation;
use crate::compiler::CompilerCall;
use crate::config::CompileSettings;
use crate::events::{Event, Outcome};
use crate::invocation::Call;
use crate::lookup::{LookupError, LookupOutcome};
use crate::observer::Watching;
use crate::outputs::Staging;
use crate::roles::Role;

/// The hash of a query's digest: the key under which compiles are coalesced.
pub(super) type QueryHash = Hash;

/// The newest observation set of a query, observed again by the leader. A call that observes the
/// same values follows that leader. It is empty where the query has no observation set; then every
/// call of the query follows.
pub(super) type CurrentObservations = Arc<Vec<Observation>>;

/// The client that made a call, as far as the system tells.
#[derive(Clone, Debug)]
pub struct CallClient {
    /// The process id of the client. `None` if the system does not tell it, and for a call that kache
    /// makes itself.
    pub pid: Option<i32>,
    /// The build that the client belongs to.
    pub build: Arc<dyn BuildHooks>,
    /// The client's staging directory, through which its files are restored.
    pub staging: Staging,
}

impl CallClient {
    /// Creates the client of a call that belongs to no build, and for which nothing is restored.
    pub(super) fn without_build(pid: Option<i32>) -> CallClient {
        CallClient { pid, build: Arc::new(NoBuild), staging: Staging::default() }
    }
}

/// A call as it was received. A follower's call is kept in this state while it waits, because its
/// inputs are read again after the wait, which may be long.
#[derive(Debug)]
pub struct ReceivedCall {
    pub(super) call: Arc<Call>,
    pub(super) client: CallClient,
    pub(super) phases: Phases,
}

/// A call whose settings are known.
#[derive(Debug)]
pub(super) struct ConfiguredCall {
    pub(super) received: ReceivedCall,
    /// The settings of the call's directory and environment.
    pub(super) settings: Arc<CompileSettings>,
}

impl ConfiguredCall {
    /// Turns the call into one whose key is known.
    pub(super) fn with_key(self, prepared: Prepared) -> KeyedCall {
        let ConfiguredCall { received: ReceivedCall { call, client, phases }, settings } = self;
        KeyedCall {
            call,
            client,
            settings,
            prepared: Arc::new(prepared),
            phases,
            remote_trouble: String::new(),
        }
    }
}

/// A call whose command line is parsed and may be cached.
#[derive(Debug)]
pub(super) struct ParsedCompile {
    pub(super) configured: ConfiguredCall,
    pub(super) command: Box<dyn CompilerCall>,
}

/// A call whose key is known.
#[derive(Debug)]
pub struct KeyedCall {
    /// The call as the client sent it.
    pub call: Arc<Call>,
    /// The client that sent it.
    pub client: CallClient,
    /// The settings of the call's directory and environment.
    pub settings: Arc<CompileSettings>,
    /// The parsed command line, the inputs and the key.
    pub prepared: Arc<Prepared>,
    pub(super) phases: Phases,
    /// The remotes that the call goes on without, and why; empty if there are none.
    pub(super) remote_trouble: String,
}

impl KeyedCall {
    /// Returns when kache received the call. `None` if the system's clock was set to a time so early
    /// that it cannot be told.
    pub fn received_at(&self) -> Option<SystemTime> {
        SystemTime::now().checked_sub(self.phases.elapsed())
    }

    /// Creates the event of this call. Its times are filled in by [`KeyedCall::write_times`].
    pub fn event(&self, outcome: Outcome) -> Event {
        let task = &self.prepared.task;
        let mut event = Event::new(SystemTime::now(), task.label.name.clone(), outcome);
        event.version.clone_from(&task.label.version);
        event.kind.clone_from(&task.label.kind);
        event.query = Some(task.query.hash);
        event.remote_trouble.clone_from(&self.remote_trouble);
        event.cwd = self.call.cwd.display().to_string();
        let root = task.roots.dir(Role::Workspace).or_else(|| task.roots.dir(Role::Target));
        event.root = root.map(|dir| dir.display().to_string()).unwrap_or_default();
        event.roots =
            task.roots.iter().map(|root| (root.role.dir_name(), root.dir.display().to_string())).collect();
        event
    }

    /// Writes the times into the event. The caller answers the call right afterwards.
    pub(super) fn write_times(&self, event: &mut Event) {
        event.at = SystemTime::now();
        event.elapsed = self.phases.elapsed();
        event.phases = self.phases.clone().into_done();
    }
}

/// A call whose result was looked up.
#[derive(Debug)]
pub struct LookedUpCall {
    /// The call with its key.
    pub keyed: KeyedCall,
    /// The hit, or why there is none.
    pub found: Result<LookupOutcome, LookupError>,
}

/// A call that has no result, or whose result cannot be used.
#[derive(Debug)]
pub(super) struct MissedCall {
    pub(super) keyed: KeyedCall,
    /// The event of the call. It says why there is no result.
    pub(super) event: Event,
}

/// A call that compiles next. Whether it does so incrementally is decided.
#[derive(Debug)]
pub(super) struct PlannedCompile {
    pub(super) missed: MissedCall,
    pub(super) decision: EditDecision,
    /// `None` if no other call waits for this compile.
    pub(super) leader: Option<Leader<QueryHash, CurrentObservations>>,
}

/// A call whose compiler the client runs. Dropping this value means that nothing will be stored for
/// the call, and lets a follower lead.
#[derive(Debug)]
pub struct RunningCompile {
    pub(super) keyed: KeyedCall,
    pub(super) event: Event,
    /// Whether the unit had been made in this target directory before the compiler ran.
    pub(super) is_rebuild: bool,
    /// Whether the result may be stored. The result of an edited crate may not.
    pub(super) is_shared: bool,
    /// Whether the observer is loaded into the compiler.
    pub(super) watching: Watching,
    /// Marks the outputs as being made. Held until the result is in the store.
    pub(super) outputs: OutputsGuard,
    /// Held until the result is in the store. `None` if the compile is not coalesced, because the
    /// crate is being edited or because the previous leader stored nothing.
    pub(super) leader: Option<Leader<QueryHash, CurrentObservations>>,
    /// Held until the result is in the store. It is the last field, so that the build learns of the end
    /// of the compile after the followers do.
    pub(super) hooks: Box<dyn CompileHooks>,
}
