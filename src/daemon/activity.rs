//! Who is using the daemon right now: requests in flight and connections open, over all
//! listeners.
//!
//! Counting is all it does. What follows from a count (staying, draining, leaving) is
//! decided by the core. A guard that is dropped, by whatever path, is counted out, so a
//! task that is cancelled leaves nothing behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The counters. Everyone who answers requests holds one `Arc` of it.
#[derive(Debug, Default)]
pub struct Activity {
    requests_in_flight: AtomicU64,
    requests_begun: AtomicU64,
    connections_open: AtomicU64,
}

/// What the counters said at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ActivityCount {
    /// Requests that have begun and not ended.
    pub requests_in_flight: u64,
    /// Requests that have begun since the daemon started. While this stands still and
    /// nothing is in flight, the daemon is idle.
    pub requests_begun: u64,
    /// Connections that are open, idle ones too.
    pub connections_open: u64,
}

/// A request in flight, until it is dropped.
#[derive(Debug)]
pub struct InFlight(Arc<Activity>);

/// An open connection, until it is dropped.
#[derive(Debug)]
pub struct OpenConnection(Arc<Activity>);

impl Activity {
    /// A request begins; hold the guard until its last byte is sent.
    pub fn request(self: &Arc<Self>) -> InFlight {
        self.requests_in_flight.fetch_add(1, Ordering::Relaxed);
        self.requests_begun.fetch_add(1, Ordering::Relaxed);
        InFlight(Arc::clone(self))
    }

    /// A connection was accepted; hold the guard until it is closed.
    pub fn connection(self: &Arc<Self>) -> OpenConnection {
        self.connections_open.fetch_add(1, Ordering::Relaxed);
        OpenConnection(Arc::clone(self))
    }

    /// The counters now.
    pub fn count(&self) -> ActivityCount {
        ActivityCount {
            requests_in_flight: self.requests_in_flight.load(Ordering::Relaxed),
            requests_begun: self.requests_begun.load(Ordering::Relaxed),
            connections_open: self.connections_open.load(Ordering::Relaxed),
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.requests_in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.connections_open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guards_count_themselves_out() {
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
