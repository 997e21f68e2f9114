//! The state of a call that the daemon keeps while the call waits, or while its compiler runs.

use std::sync::Arc;

use super::coalescer::Leader;
use super::edit_tracker::EditAttempt;
use super::outputs_in_progress::OutputsGuard;
use super::phases::Phases;
use super::prepare::Prepared;
use super::sessions::Session;
use crate::action::Observation;
use crate::config::CompileSettings;
use crate::events::Event;
use crate::invocation::Call;
use crate::observer::Watching;
use crate::outputs::Staging;

/// The hash of a query in hexadecimal: the key under which compiles are coalesced.
pub(super) type QueryHash = String;

/// The newest observation set of a query, observed again by the leader. A call that observes the
/// same values follows that leader. It is empty where the query has no observation set; then every
/// call of the query follows.
pub(super) type CurrentObservations = Arc<Vec<Observation>>;

/// The client that made a call, as far as the system tells.
#[derive(Clone, Debug, Default)]
pub struct CallClient {
    /// The process id of the client.
    pub(super) pid: Option<i32>,
    /// The build session that the client belongs to.
    pub(super) session: Option<Arc<Session>>,
    /// The client's staging directory, through which its files are restored.
    pub(super) staging: Staging,
}

/// A follower's call. Only this much is kept: its inputs are read again after the wait, which may be
/// long.
#[derive(Debug)]
pub struct WaitingCall {
    pub(super) call: Arc<Call>,
    pub(super) client: CallClient,
    pub(super) phases: Phases,
}

/// A call whose compiler the client runs. Dropping this value means that nothing will be stored for
/// the call, and lets a follower lead.
#[derive(Debug)]
pub struct RunningCompile {
    pub(super) call: Arc<Call>,
    pub(super) client: CallClient,
    pub(super) settings: Arc<CompileSettings>,
    pub(super) phases: Phases,
    pub(super) event: Event,
    pub(super) prepared: Prepared,
    /// Whether the unit had been made in this target directory before the compiler ran.
    pub(super) is_rebuild: bool,
    /// Whether the result may be stored, and which incremental directory the compiler uses.
    pub(super) edit: EditAttempt,
    /// Whether the observer is loaded into the compiler.
    pub(super) watching: Watching,
    /// Marks the outputs as being made. Held until the result is in the store.
    pub(super) outputs: OutputsGuard,
    /// Held until the result is in the store. `None` if the compile is not coalesced, because the
    /// crate is being edited or because the previous leader stored nothing.
    pub(super) leader: Option<Leader<QueryHash, CurrentObservations>>,
}
