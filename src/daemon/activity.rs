//! Counts the requests in flight and the open connections of the daemon, over all listeners.
//!
//! It only counts; the core decides what follows. Invariant: a guard that is dropped is no longer
//! counted, so the counts stay right when a task is cancelled.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kache_serve::ActivityCounter;

/// The counters, shared by all tasks that answer requests.
#[derive(Debug, Default)]
pub struct Activity {
    requests_in_flight: AtomicU64,
    requests_begun: AtomicU64,
    connections_open: AtomicU64,
}

/// The values of the counters at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ActivityCount {
    /// Requests that have begun and not ended.
    pub requests_in_flight: u64,
    /// Requests that have begun since the daemon started. The daemon is idle while this number does
    /// not change and no request is in flight.
    pub requests_begun: u64,
    /// Connections that are open, including idle ones.
    pub connections_open: u64,
}

/// A guard that counts as a request in flight until it is dropped.
#[derive(Debug)]
pub struct InFlight(Arc<Activity>);

/// A guard that counts as an open connection until it is dropped.
#[derive(Debug)]
pub struct OpenConnection(Arc<Activity>);

impl Activity {
    /// Counts a request that begins. The caller holds the guard until the last byte of the response
    /// is sent.
    pub fn request(self: &Arc<Self>) -> InFlight {
        self.request_begun();
        InFlight(Arc::clone(self))
    }

    /// Counts a connection that was accepted. The caller holds the guard until it is closed.
    pub fn connection(self: &Arc<Self>) -> OpenConnection {
        self.connection_opened();
        OpenConnection(Arc::clone(self))
    }

    /// Returns the values of all counters.
    pub fn count(&self) -> ActivityCount {
        ActivityCount {
            requests_in_flight: self.requests_in_flight.load(Ordering::Relaxed),
            requests_begun: self.requests_begun.load(Ordering::Relaxed),
            connections_open: self.connections_open.load(Ordering::Relaxed),
        }
    }
}

impl ActivityCounter for Activity {
    fn request_begun(&self) {
        self.requests_in_flight.fetch_add(1, Ordering::Relaxed);
        self.requests_begun.fetch_add(1, Ordering::Relaxed);
    }

    fn request_ended(&self) {
        self.requests_in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    fn connection_opened(&self) {
        self.connections_open.fetch_add(1, Ordering::Relaxed);
    }

    fn connection_closed(&self) {
        self.connections_open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.request_ended();
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.connection_closed();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_guard_is_no_longer_counted() {
        let activity = Arc::new(Activity::default());
        let connection = activity.connection();
        let request = activity.request();
        drop(activity.request());
        assert_eq!(
            activity.count(),
            ActivityCount { requests_in_flight: 1, requests_begun: 2, connections_open: 1 }
        );
        drop((connection, request));
        assert_eq!(
            activity.count(),
            ActivityCount { requests_in_flight: 0, requests_begun: 2, connections_open: 0 }
        );
    }
}
