//! What one connection is doing: requests open, and answers that its client does not take.
//!
//! HTTP/2 lets a client leave one stream's bytes lying while it reads another's, so a
//! deadline on the socket does not see it. Here each large answer notes since when the
//! client has been given a part and has not come for the next. Closing the connection is the
//! door's work; this only says that it is time.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::limits::Limits;
use crate::daemon::InFlight;

/// The counters of one connection.
#[derive(Debug)]
pub(super) struct Traffic {
    begun: Instant,
    requests: AtomicU64,
    open: AtomicU64,
    /// Whether any request was admitted. Those of strangers earn no patience.
    is_known: AtomicBool,
    /// When the last request ended, in milliseconds after `begun`.
    ended_ms: AtomicU64,
    untaken: Mutex<HashMap<u64, Instant>>,
}

/// What follows from how a connection is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing.
    Fine,
    /// Nobody is using it.
    Idle,
    /// A client does not take what it asked for.
    Stalled,
}

/// A request that is being answered, until it is dropped.
#[derive(Debug)]
pub(super) struct OpenRequest {
    traffic: Arc<Traffic>,
    id: u64,
    is_watched: bool,
    _in_flight: InFlight,
}

impl Traffic {
    /// A connection that begins now.
    pub(super) fn new(now: Instant) -> Arc<Self> {
        Arc::new(Traffic {
            begun: now,
            requests: AtomicU64::new(0),
            open: AtomicU64::new(0),
            is_known: AtomicBool::new(false),
            ended_ms: AtomicU64::new(0),
            untaken: Mutex::default(),
        })
    }

    /// A request begins.
    pub(super) fn request(self: &Arc<Self>, in_flight: InFlight) -> OpenRequest {
        self.open.fetch_add(1, Ordering::Relaxed);
        let id = self.requests.fetch_add(1, Ordering::Relaxed);
        OpenRequest { traffic: Arc::clone(self), id, is_watched: false, _in_flight: in_flight }
    }

    /// A request was admitted.
    pub(super) fn admitted(&self) {
        self.is_known.store(true, Ordering::Relaxed);
    }

    /// Whether the connection is to be closed, and why.
    pub(super) fn verdict(&self, limits: &Limits, now: Instant) -> Verdict {
        let is_stalled = |since: &Instant| now.saturating_duration_since(*since) > limits.stream_idle_max;
        if self.untaken().values().any(is_stalled) {
            return Verdict::Stalled;
        }
        if self.open.load(Ordering::Relaxed) > 0 {
            return Verdict::Fine;
        }
        let is_known = self.is_known.load(Ordering::Relaxed);
        let wait_max = if is_known { limits.connection_idle_max } else { limits.header_wait_max };
        let ended = self.begun + std::time::Duration::from_millis(self.ended_ms.load(Ordering::Relaxed));
        if now.saturating_duration_since(ended) > wait_max { Verdict::Idle } else { Verdict::Fine }
    }

    fn untaken(&self) -> MutexGuard<'_, HashMap<u64, Instant>> {
        self.untaken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OpenRequest {
    /// The same, noting from now on what the client takes, or not. Small answers are not
    /// worth it.
    pub(super) fn watched(self, is_watched: bool) -> Self {
        let mut request = self;
        request.is_watched = is_watched;
        request
    }

    /// The client comes for the next part.
    pub(super) fn is_taking(&self) {
        if self.is_watched {
            self.traffic.untaken().remove(&self.id);
        }
    }

    /// The client was given a part.
    pub(super) fn is_given(&self) {
        if self.is_watched {
            self.traffic.untaken().insert(self.id, Instant::now());
        }
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.is_taking();
        let ended_ms = u64::try_from(self.traffic.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.traffic.ended_ms.store(ended_ms, Ordering::Relaxed);
        self.traffic.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::daemon::Activity;

    #[test]
    fn a_connection_without_requests_is_idle_soon_and_another_later() {
        let limits = Limits::default();
        let now = Instant::now();
        let traffic = Traffic::new(now);
        let activity = Arc::new(Activity::default());
        let soon = now + limits.header_wait_max + Duration::from_secs(1);
        assert_eq!(traffic.verdict(&limits, soon), Verdict::Idle);
        let request = traffic.request(activity.request());
        let late = now + limits.connection_idle_max + Duration::from_secs(60);
        assert_eq!(traffic.verdict(&limits, late), Verdict::Fine, "a request is open");
        drop(request);
        assert_eq!(traffic.verdict(&limits, soon), Verdict::Idle, "the request was refused");
        traffic.admitted();
        assert_eq!(traffic.verdict(&limits, soon), Verdict::Fine);
        assert_eq!(traffic.verdict(&limits, late), Verdict::Idle);
        assert_eq!(activity.count().requests_in_flight, 0);
    }

    #[test]
    fn a_client_that_takes_nothing_is_stalled() {
        let limits = Limits::default();
        let traffic = Traffic::new(Instant::now());
        let activity = Arc::new(Activity::default());
        let small = traffic.request(activity.request());
        let large = traffic.request(activity.request()).watched(true);
        small.is_given();
        large.is_given();
        assert_eq!(traffic.verdict(&limits, Instant::now()), Verdict::Fine);
        let late = Instant::now() + limits.stream_idle_max + Duration::from_secs(1);
        assert_eq!(traffic.verdict(&limits, late), Verdict::Stalled);
        large.is_taking();
        assert_eq!(traffic.verdict(&limits, late), Verdict::Fine, "small answers are not watched");
        large.is_given();
        drop(large);
        assert_eq!(traffic.verdict(&limits, late), Verdict::Fine);
    }
}
