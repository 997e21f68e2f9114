//! Notices a connection that is dead while all requests on it are given up early.
//!
//! After a machine has slept, its connections are often gone without anybody having closed them. Callers whose
//! patience is shorter than the stall limit drop their requests before that limit ends, so it alone would
//! never tell. One request that is given up says nothing, because the server may be slow.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// The state of a connection, as far as this client knows it.
#[derive(Debug)]
pub(super) struct Liveness {
    /// When the first request began since which nothing has arrived; `None` if there is none.
    waiting_since: Mutex<Option<Instant>>,
    /// How long nothing may arrive before a request that is given up counts as a sign.
    patience: Duration,
    is_broken: AtomicBool,
}

impl Liveness {
    /// Makes the state of a connection that works.
    pub(super) fn new(patience: Duration) -> Liveness {
        Liveness { waiting_since: Mutex::new(None), patience, is_broken: AtomicBool::new(false) }
    }

    /// Whether a new connection is advisable.
    pub(super) fn is_broken(&self) -> bool {
        self.is_broken.load(Ordering::Relaxed)
    }

    /// Says that a new connection is advisable.
    pub(super) fn set_broken(&self) {
        self.is_broken.store(true, Ordering::Relaxed);
    }

    /// Says that something has arrived.
    pub(super) fn arrived(&self) {
        *self.waiting_since.lock() = None;
    }

    /// Says that a request begins, until the returned value is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> OpenRequest {
        self.begun(Instant::now());
        OpenRequest { liveness: Arc::clone(self), is_answered: false }
    }

    fn begun(&self, now: Instant) {
        self.waiting_since.lock().get_or_insert(now);
    }

    fn given_up(&self, now: Instant) {
        if self.waiting_since.lock().is_some_and(|since| now - since >= self.patience) {
            self.set_broken();
        }
    }
}

/// A request that waits for its response.
pub(super) struct OpenRequest {
    liveness: Arc<Liveness>,
    is_answered: bool,
}

impl OpenRequest {
    /// Says that the request was answered or has failed.
    pub(super) fn end(mut self) {
        self.is_answered = true;
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        if !self.is_answered {
            self.liveness.given_up(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOKUP: Duration = Duration::from_millis(250);

    #[test]
    fn requests_that_are_given_up_for_long_make_a_connection_broken() {
        let liveness = Liveness::new(8 * LOOKUP);
        let mut now = Instant::now();
        for lookup in 1..=8 {
            liveness.begun(now);
            now += LOOKUP;
            liveness.given_up(now);
            assert_eq!(liveness.is_broken(), lookup == 8, "{lookup}");
        }
    }

    #[test]
    fn a_connection_on_which_something_arrives_is_not_broken() {
        let liveness = Liveness::new(8 * LOOKUP);
        let mut now = Instant::now();
        for _ in 0..20 {
            liveness.begun(now);
            now += 5 * LOOKUP;
            liveness.given_up(now);
            liveness.arrived();
        }
        assert!(!liveness.is_broken());
    }

    #[test]
    fn only_requests_without_an_end_are_given_up() {
        let liveness = Arc::new(Liveness::new(Duration::ZERO));
        liveness.begin().end();
        assert!(!liveness.is_broken());
        drop(liveness.begin());
        assert!(liveness.is_broken());
    }
}
