//! What is kept of a call between its steps.

use std::sync::Arc;

use super::edits::Undertaking;
use super::flights::Lead;
use super::outputs::Making;
use super::phases::Phases;
use super::prepare::Prepared;
use super::sessions::Session;
use crate::action::Observation;
use crate::config::CompileSettings;
use crate::events::Event;
use crate::invocation::Call;
use crate::observer::Watching;
use crate::restore::Staging;

/// The name of a flight: the query's digest.
pub(super) type FlightKey = String;

/// What tells flights of one query apart: what the newest run of it saw, as it is for the
/// leader. Nothing, where there was none: then everybody follows.
pub(super) type Outlook = Arc<Vec<Observation>>;

/// Whose call it is, where the system says.
#[derive(Clone, Debug, Default)]
pub struct Client {
    /// The process.
    pub(super) pid: Option<i32>,
    /// The cargo that started it.
    pub(super) session: Option<Arc<Session>>,
    /// The directory by way of which files are laid down for it.
    pub(super) staging: Staging,
}

/// A call that waits for another one's compile. Its inputs are looked at again afterwards:
/// that may take long.
#[derive(Debug)]
pub struct Pending {
    pub(super) call: Arc<Call>,
    pub(super) client: Client,
    pub(super) phases: Phases,
}

/// A call whose compiler is to be run. Dropping it means that nothing will come of it.
#[derive(Debug)]
pub struct Ticket {
    pub(super) call: Arc<Call>,
    pub(super) client: Client,
    pub(super) settings: Arc<CompileSettings>,
    pub(super) phases: Phases,
    pub(super) event: Event,
    pub(super) prepared: Prepared,
    /// Whether the unit had been made here before the compiler ran.
    pub(super) is_rebuild: bool,
    /// Whom the result is for.
    pub(super) undertaking: Undertaking,
    /// Whether the compiler is observed.
    pub(super) watching: Watching,
    /// Held until the result is in the store.
    pub(super) making: Making,
    /// The same for the action; none for whoever compiles what another one has
    /// just compiled in vain.
    pub(super) lead: Option<Lead<FlightKey, Outlook>>,
}
