//! The entry of a daemon's calls: each call passes through its build session on the way to the
//! pipeline.

use std::sync::Arc;

use super::call_hooks::CallHooks;
use super::edit_tracker::EditTracker;
use super::seeding::Seeding;
use super::session::Session;
use super::sessions::Sessions;
use super::shared_checks::LastChecks;
use crate::invocation::Call;
use crate::outputs::Staging;
use crate::pipeline::{CallClient, NextStep, Pipeline};

/// The builds whose calls a process answers.
#[derive(Debug, Default)]
pub struct Builds {
    pub(super) sessions: Sessions,
    edits: EditTracker,
    last_checks: LastChecks,
}

/// A call that was begun.
#[derive(Debug)]
pub struct BegunCall {
    /// What the caller does with the call.
    pub step: NextStep,
    /// The seeding that begins with this call. The step is then [`NextStep::Answer`]. The caller sends
    /// the reply, and restores the seeds meanwhile.
    pub seeding: Option<Box<Seeding>>,
}

impl From<NextStep> for BegunCall {
    fn from(step: NextStep) -> Self {
        BegunCall { step, seeding: None }
    }
}

impl Builds {
    /// Creates the builds of a process that answers one call and exits. It has no session, and treats
    /// edited crates like all others, because it could remember nothing for the next call.
    pub fn of_one_call() -> Self {
        Builds { sessions: Sessions::disabled(), edits: EditTracker::disabled(), ..Builds::default() }
    }

    /// Decides how to answer a call. `client` is the process id of the client, if the system told it.
    /// If the call belongs to a cargo that is being seeded, this waits until seeding is over.
    pub fn begin(
        &self,
        pipeline: &Pipeline,
        call: Arc<Call>,
        client: Option<i32>,
        staging: Staging,
    ) -> BegunCall {
        let session = client.and_then(|pid| self.sessions.of(pid));
        let begins = session.as_ref().filter(|session| session.note_call(&call));
        let seeding = begins.map(|session| Box::new(Seeding::new(Arc::clone(session), Arc::clone(&call))));
        self.last_checks.check(pipeline, &call, session.as_deref());
        let client = CallClient { pid: client, ..self.client_of(session, staging, false) };
        match (pipeline.begin(call, client), seeding) {
            (step @ NextStep::Answer(_), Some(seeding)) => BegunCall { step, seeding: Some(seeding) },
            // Dropping the seeding lets cargo go on.
            (step, _) => step.into(),
        }
    }

    /// The client of a call that kache makes itself, for this session.
    pub(super) fn client_of(
        &self,
        session: Option<Arc<Session>>,
        staging: Staging,
        is_seeding: bool,
    ) -> CallClient {
        let hooks = CallHooks { edits: self.edits.clone(), session, is_seeding };
        CallClient { pid: None, build: Arc::new(hooks), staging }
    }
}
