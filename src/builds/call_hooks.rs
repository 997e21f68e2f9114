//! Tells the build session and the edit tracker what happens to a call.

use std::sync::Arc;

use kache_cas::Hash;

use super::edit_tracker::{EditAttempt, EditTracker};
use super::session::{Session, StoringGuard};
use crate::compile::KnownFile;
use crate::outputs::Staging;
use crate::pipeline::{BuildHooks, CompileHooks, EditDecision, KeyedCall};
use crate::remote::RemoteSession;

/// The hooks of one call.
#[derive(Debug)]
pub(super) struct CallHooks {
    pub(super) edits: EditTracker,
    /// `None` if the call was not made by a cargo.
    pub(super) session: Option<Arc<Session>>,
    /// Whether the call restores a seed. The unit is in the seed set already, so it is not noted again.
    pub(super) is_seeding: bool,
}

/// The hooks of one compile.
#[derive(Debug)]
struct HooksOfCompile {
    edits: EditTracker,
    session: Option<Arc<Session>>,
    attempt: EditAttempt,
    /// Set when the compiler has ended. Keeps the session under way until the result is stored.
    _storing: Option<StoringGuard>,
}

impl BuildHooks for CallHooks {
    fn cargo_pid(&self) -> Option<i32> {
        self.session.as_ref().map(|session| session.pid())
    }

    fn remote_session(&self) -> Option<Arc<RemoteSession>> {
        self.session.as_ref().map(|session| session.remote_session())
    }

    fn decide(&self, call: &KeyedCall) -> EditDecision {
        self.edits.decide(call)
    }

    fn compile_begins(&self, call: &KeyedCall, decision: &EditDecision) -> Box<dyn CompileHooks> {
        let attempt = self.edits.begin(call, decision);
        let (edits, session) = (self.edits.clone(), self.session.clone());
        Box::new(HooksOfCompile { edits, session, attempt, _storing: None })
    }

    fn restored(&self, call: &KeyedCall, action: Hash, placed: &[KnownFile]) {
        self.edits.restored(call);
        if let Some(session) = &self.session {
            session.note_programs(&call.prepared.task, placed);
            session.note_used(call, action);
            if !self.is_seeding {
                session.note_unit(call, action);
            }
        }
    }

    fn stored(&self, call: &KeyedCall, action: Hash, outputs: &[KnownFile]) {
        if let Some(session) = &self.session {
            session.note_unit(call, action);
            session.note_used(call, action);
            session.note_programs(&call.prepared.task, outputs);
        }
    }
}

impl CompileHooks for HooksOfCompile {
    fn compiler_ended(&mut self, call: &KeyedCall, staging: &Staging) {
        self.edits.compiler_ended(call, &mut self.attempt, staging);
        self._storing = self.session.as_ref().map(Session::begin_storing);
    }
}
