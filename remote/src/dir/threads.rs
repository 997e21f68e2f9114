//! The threads on which a folder is read and written.
//!
//! A call on a mount whose server is gone may never return. It then keeps its thread, and one of the few
//! permits for such threads, and nobody waits for it longer than the stall limit. The threads are not those
//! of the runtime, which waits for all of its own when it ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::error::RemoteError;

/// Counts the steps of calls, so that a slow call is not taken for one that hangs.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress {
    own: Arc<AtomicU64>,
    all: Arc<AtomicU64>,
}

impl Progress {
    /// Says that the call has made a step.
    pub(super) fn step(&self) {
        self.own.fetch_add(1, Ordering::Relaxed);
        self.all.fetch_add(1, Ordering::Relaxed);
    }
}

/// Runs calls that may hang, each on a thread of its own.
#[derive(Clone, Debug)]
pub(super) struct Threads {
    permits: Arc<Semaphore>,
    stall: Duration,
    steps: Arc<AtomicU64>,
}

impl Threads {
    /// Makes a place for this many threads.
    pub(super) fn new(concurrency: usize, stall: Duration) -> Threads {
        let permits = Arc::new(Semaphore::new(concurrency.clamp(1, Semaphore::MAX_PERMITS)));
        Threads { permits, stall, steps: Arc::default() }
    }

    /// Runs a call. It fails if the call makes no step within the stall limit.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Progress) -> Result<T, RemoteError> + Send + 'static,
    ) -> Result<T, RemoteError> {
        let permit = self.permit().await?;
        let progress = Progress { own: Arc::default(), all: Arc::clone(&self.steps) };
        let own = Arc::clone(&progress.own);
        let (sender, mut receiver) = oneshot::channel();
        let body = move || {
            let outcome = call(&progress);
            progress.step();
            drop(permit);
            // An error means that nobody waits any more.
            let _ = sender.send(outcome);
        };
        let spawned = thread::Builder::new().name("kache-dir".to_owned()).spawn(body);
        spawned.map_err(|error| RemoteError::unavailable(format!("failed to start a thread: {error}")))?;
        loop {
            let before = own.load(Ordering::Relaxed);
            match tokio::time::timeout(self.stall, &mut receiver).await {
                Ok(outcome) => return outcome.unwrap_or_else(|_| Err(self.hangs())),
                Err(_) if own.load(Ordering::Relaxed) != before => {}
                Err(_) => return Err(self.hangs()),
            }
        }
    }

    /// Waits until another thread may run, as long as the running ones make steps.
    async fn permit(&self) -> Result<OwnedSemaphorePermit, RemoteError> {
        loop {
            let before = self.steps.load(Ordering::Relaxed);
            let acquiring = Arc::clone(&self.permits).acquire_owned();
            match tokio::time::timeout(self.stall, acquiring).await {
                Ok(permit) => return Ok(permit.expect("the semaphore is never closed")),
                Err(_) if self.steps.load(Ordering::Relaxed) != before => {}
                Err(_) => return Err(self.hangs()),
            }
        }
    }

    fn hangs(&self) -> RemoteError {
        RemoteError::unavailable(format!("the folder did not answer for {:?}", self.stall))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn calls_that_hang_keep_their_threads_and_nobody_waits_for_them() {
        let threads = Threads::new(2, Duration::from_millis(50));
        let (release, hang) = std::sync::mpsc::channel::<()>();
        let hang = Arc::new(parking_lot::Mutex::new(hang));
        for _ in 0..2 {
            let hang = Arc::clone(&hang);
            let call = move |_: &Progress| {
                let _ = hang.lock().recv();
                Ok(())
            };
            assert!(threads.run(call).await.unwrap_err().is_transient());
        }
        // Both threads hang, so that a third call does not begin.
        assert!(threads.run(|_| Ok(())).await.unwrap_err().is_transient());
        drop(release);
        assert_eq!(threads.run(|_| Ok(7)).await, Ok(7));
    }

    #[tokio::test]
    async fn a_slow_call_that_makes_steps_is_waited_for() {
        let threads = Threads::new(1, Duration::from_millis(100));
        let slow = |progress: &Progress| {
            for _ in 0..20 {
                thread::sleep(Duration::from_millis(20));
                progress.step();
            }
            Ok(())
        };
        assert_eq!(threads.run(slow).await, Ok(()));
    }
}
