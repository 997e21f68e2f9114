//! The build sessions that are under way, and those that have ended and whose records are not kept yet.

use std::collections::HashMap;
use std::sync::Arc;

use kache_cas::Digest;
use parking_lot::Mutex;

use super::session::Session;
use crate::cargo::{CargoProcess, parent_of};

/// The build sessions whose records are not kept yet.
///
/// Lock order: `taking_ended`, `by_pid`, then `new_sessions`, or `programs` and the state of a
/// session.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    /// Whether this process exits before a session ends, and so keeps none.
    is_disabled: bool,
    by_pid: Mutex<HashMap<i32, Arc<Session>>>,
    /// Sessions that were not handed to the daemon yet.
    new_sessions: Mutex<Vec<Arc<Session>>>,
    /// Held while the records of ended sessions are kept.
    taking_ended: Mutex<()>,
    /// Programs that were restored for sessions which have ended.
    programs: Mutex<Vec<Digest>>,
}

impl Sessions {
    /// Creates a value that knows no session, for a process that answers one call and exits.
    pub(super) fn disabled() -> Self {
        Sessions { is_disabled: true, ..Sessions::default() }
    }

    /// Returns the session of this client; `None` if the client's parent process is no cargo.
    pub(super) fn of(&self, client: i32) -> Option<Arc<Session>> {
        let pid = parent_of(client).filter(|_| !self.is_disabled)?;
        if let Some(session) = self.by_pid.lock().get(&pid) {
            return Some(Arc::clone(session));
        }
        // Reading the process takes a while, so the lock is not held. If two calls create the session
        // at once, the first to take the lock again wins.
        let process = CargoProcess::cargo(pid)?;
        Some(self.insert(pid, Arc::new(Session::new(process))))
    }

    /// Adds a session, unless this cargo has one already. Returns the cargo's session.
    pub(super) fn insert(&self, pid: i32, session: Arc<Session>) -> Arc<Session> {
        let mut by_pid = self.by_pid.lock();
        let session = by_pid.entry(pid).or_insert_with(|| {
            self.new_sessions.lock().push(Arc::clone(&session));
            session
        });
        Arc::clone(session)
    }

    /// Returns the sessions that began since the last call of this function. The caller waits for
    /// their end.
    pub(super) fn take_new(&self) -> Vec<Arc<Session>> {
        std::mem::take(&mut *self.new_sessions.lock())
    }

    /// Returns the sessions whose cargo has exited while results are still being stored.
    pub(super) fn ending(&self) -> Vec<Arc<Session>> {
        let is_ending = |session: &&Arc<Session>| session.is_ending();
        self.by_pid.lock().values().filter(is_ending).cloned().collect()
    }

    /// Removes the sessions that have ended, and calls `keep` for each. One thread at a time does
    /// this. A second thread waits, so that when this function returns, the records of every session
    /// that had ended before the call are kept, whichever thread kept them.
    pub(super) fn take_ended(&self, mut keep: impl FnMut(&Session)) {
        let _one_at_a_time = self.taking_ended.lock();
        let ended: Vec<_> = self.by_pid.lock().extract_if(|_, session| !session.is_under_way()).collect();
        for (_, session) in ended {
            self.programs.lock().append(&mut session.take_programs());
            keep(&session);
        }
    }

    /// Returns the programs of the sessions that have ended since the last call of this function.
    /// They are kept apart from the records, because hashing programs takes long and no call waits
    /// for it.
    pub(super) fn take_programs(&self) -> Vec<Digest> {
        std::mem::take(&mut *self.programs.lock())
    }
}
