//! Tracks the use of one connection: its open requests, and responses that its client does not
//! read.
//!
//! With HTTP/2 a client can read one stream and leave the bytes of another one unread, which a
//! deadline of the socket does not notice. So each large response notes when a part of it was
//! handed to the connection and the next part has not been requested. `protocol_router` closes
//! the connection when [`Traffic::state`] says so.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use super::limits::ServeLimits;
use crate::program::RequestInFlight;

/// The counters of one connection.
#[derive(Debug)]
pub(super) struct Traffic {
    begun: Instant,
    requests: AtomicU64,
    open: AtomicU64,
    /// Whether any request was admitted. Until then the connection may be idle only for
    /// `header_wait_max`.
    has_admitted: AtomicBool,
    /// When the last request ended, in milliseconds after `begun`.
    ended_ms: AtomicU64,
    /// When a part was handed out that is still unread, by the id of the request.
    unread_since: Mutex<HashMap<u64, Instant>>,
}

/// Whether a connection is to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnectionState {
    /// The connection stays open.
    InUse,
    /// The connection has had no open request for too long.
    Idle,
    /// The client has not read a response for `stream_idle_max`.
    Stalled,
}

/// A request that is open until this is dropped.
#[derive(Debug)]
pub(super) struct OpenRequest {
    traffic: Arc<Traffic>,
    id: u64,
    is_watched: bool,
    _in_flight: RequestInFlight,
}

impl Traffic {
    /// The counters of a connection that begins now.
    pub(super) fn new(now: Instant) -> Arc<Self> {
        Arc::new(Traffic {
            begun: now,
            requests: AtomicU64::new(0),
            open: AtomicU64::new(0),
            has_admitted: AtomicBool::new(false),
            ended_ms: AtomicU64::new(0),
            unread_since: Mutex::default(),
        })
    }

    /// Counts a request as open.
    pub(super) fn request(self: &Arc<Self>, in_flight: RequestInFlight) -> OpenRequest {
        self.open.fetch_add(1, Ordering::Relaxed);
        let id = self.requests.fetch_add(1, Ordering::Relaxed);
        OpenRequest { traffic: Arc::clone(self), id, is_watched: false, _in_flight: in_flight }
    }

    /// Notes that a request was admitted.
    pub(super) fn admitted(&self) {
        self.has_admitted.store(true, Ordering::Relaxed);
    }

    /// The state of the connection at `now`.
    pub(super) fn state(&self, limits: &ServeLimits, now: Instant) -> ConnectionState {
        let is_stalled = |since: &Instant| now.saturating_duration_since(*since) > limits.stream_idle_max;
        // A stalled stream is reported before anything else, because it is also an open request.
        if self.unread_since.lock().values().any(is_stalled) {
            return ConnectionState::Stalled;
        }
        if self.open.load(Ordering::Relaxed) > 0 {
            return ConnectionState::InUse;
        }
        let has_admitted = self.has_admitted.load(Ordering::Relaxed);
        let wait_max = if has_admitted { limits.connection_idle_max } else { limits.header_wait_max };
        let ended = self.begun + std::time::Duration::from_millis(self.ended_ms.load(Ordering::Relaxed));
        if now.saturating_duration_since(ended) > wait_max {
            ConnectionState::Idle
        } else {
            ConnectionState::InUse
        }
    }
}

impl OpenRequest {
    /// Sets whether unread parts are noted, which is only done for large responses.
    pub(super) fn watched(self, is_watched: bool) -> Self {
        let mut request = self;
        request.is_watched = is_watched;
        request
    }

    /// Notes that the connection asks for the next part, so the client read the last one.
    pub(super) fn next_part_wanted(&self) {
        if self.is_watched {
            self.traffic.unread_since.lock().remove(&self.id);
        }
    }

    /// Notes that a part was handed to the connection.
    pub(super) fn part_sent(&self) {
        if self.is_watched {
            self.traffic.unread_since.lock().insert(self.id, Instant::now());
        }
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.next_part_wanted();
        // The time comes before the count: once no request is open, `state` reads it.
        let ended_ms = u64::try_from(self.traffic.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.traffic.ended_ms.store(ended_ms, Ordering::Relaxed);
        self.traffic.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::program::ActivityCounter;
    use crate::tests::program::CountedActivity;

    #[test]
    fn a_connection_is_idle_sooner_if_no_request_was_admitted() {
        let limits = ServeLimits::default();
        let now = Instant::now();
        let traffic = Traffic::new(now);
        let activity = Arc::new(CountedActivity::default());
        let counter: Arc<dyn ActivityCounter> = Arc::<CountedActivity>::clone(&activity);
        let soon = now + limits.header_wait_max + Duration::from_secs(1);
        assert_eq!(traffic.state(&limits, soon), ConnectionState::Idle);
        let request = traffic.request(RequestInFlight::count(&counter));
        let late = now + limits.connection_idle_max + Duration::from_secs(60);
        assert_eq!(traffic.state(&limits, late), ConnectionState::InUse, "a request is open");
        drop(request);
        assert_eq!(traffic.state(&limits, soon), ConnectionState::Idle, "the request was refused");
        traffic.admitted();
        assert_eq!(traffic.state(&limits, soon), ConnectionState::InUse);
        assert_eq!(traffic.state(&limits, late), ConnectionState::Idle);
        assert_eq!(activity.requests_in_flight(), 0);
    }

    #[test]
    fn a_client_that_reads_nothing_is_stalled() {
        let limits = ServeLimits::default();
        let traffic = Traffic::new(Instant::now());
        let activity = Arc::new(CountedActivity::default());
        let counter: Arc<dyn ActivityCounter> = Arc::<CountedActivity>::clone(&activity);
        let small = traffic.request(RequestInFlight::count(&counter));
        let large = traffic.request(RequestInFlight::count(&counter)).watched(true);
        small.part_sent();
        large.part_sent();
        assert_eq!(traffic.state(&limits, Instant::now()), ConnectionState::InUse);
        let late = Instant::now() + limits.stream_idle_max + Duration::from_secs(1);
        assert_eq!(traffic.state(&limits, late), ConnectionState::Stalled);
        large.next_part_wanted();
        assert_eq!(traffic.state(&limits, late), ConnectionState::InUse, "small responses are not watched");
        large.part_sent();
        drop(large);
        assert_eq!(traffic.state(&limits, late), ConnectionState::InUse);
    }
}
