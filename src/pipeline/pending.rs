//! What is kept of a call between its steps.

use std::sync::Arc;

use crate::events::{Event, Outcome};
use crate::invocation::Call;

use super::flights::Lead;
use super::phases::Phases;

/// A call that waits for another one's compile.
#[derive(Debug)]
pub struct Pending {
    pub(super) call: Arc<Call>,
    pub(super) phases: Phases,
}

/// A call whose compiler is to be run. Dropping it means that nothing will come of it.
#[derive(Debug)]
pub struct Ticket {
    pub(super) call: Arc<Call>,
    pub(super) phases: Phases,
    pub(super) event: Event,
    /// Held until the result is in the store.
    pub(super) lead: Option<Lead<String>>,
}

impl Ticket {
    /// How the call went, as far as it is known before the compiler has run.
    pub(super) fn outcome(&self) -> Outcome {
        self.event.outcome
    }
}
