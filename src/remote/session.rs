//! A build session as remotes see it: its id, and the time that it has lost to each remote.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::handle::RemoteHandle;
use super::stall::StallClock;

/// How long calls that no cargo makes count as one session.
const WITHOUT_BUILD_FOR: Duration = Duration::from_secs(300);

/// A build session as remotes see it.
#[derive(Debug)]
pub struct RemoteSession {
    id: String,
    clocks: Mutex<HashMap<String, Arc<StallClock>>>,
}

impl Default for RemoteSession {
    fn default() -> Self {
        RemoteSession { id: kache_remote::random_uuid(), clocks: Mutex::default() }
    }
}

impl RemoteSession {
    /// Returns the id that all lookups and downloads of the session carry.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns the time that the session has lost to a remote.
    pub fn clock(&self, handle: &RemoteHandle) -> Arc<StallClock> {
        let mut clocks = self.clocks.lock();
        let clock = clocks.entry(handle.id.clone());
        Arc::clone(clock.or_insert_with(|| StallClock::new(handle.limits().stall)))
    }
}

/// The session of the calls that belong to no build. A new one begins every five minutes, because nothing tells
/// where one such build ends.
#[derive(Debug, Default)]
pub struct SessionWithoutBuild(Mutex<Option<(Instant, Arc<RemoteSession>)>>);

impl SessionWithoutBuild {
    /// Returns the present session.
    pub fn get(&self) -> Arc<RemoteSession> {
        let mut current = self.0.lock();
        match &*current {
            Some((begun, session)) if begun.elapsed() < WITHOUT_BUILD_FOR => Arc::clone(session),
            _ => {
                let session = Arc::<RemoteSession>::default();
                *current = Some((Instant::now(), Arc::clone(&session)));
                session
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn calls_without_a_build_get_a_new_session_now_and_then() {
        let sessions = SessionWithoutBuild::default();
        let first = sessions.get();
        tokio::time::sleep(WITHOUT_BUILD_FOR / 2).await;
        assert_eq!(sessions.get().id(), first.id());
        tokio::time::sleep(WITHOUT_BUILD_FOR).await;
        assert_ne!(sessions.get().id(), first.id());
    }
}
