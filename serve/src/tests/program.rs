//! A program that runs the server: its counters, and its signal to stop.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

use crate::program::{ActivityCounter, DrainSignal};

/// An activity that counts the requests in progress.
#[derive(Debug, Default)]
pub(crate) struct CountedActivity {
    requests_in_flight: AtomicU64,
}

impl CountedActivity {
    /// How many requests are open.
    pub(crate) fn requests_in_flight(&self) -> u64 {
        self.requests_in_flight.load(Ordering::Relaxed)
    }
}

impl ActivityCounter for CountedActivity {
    fn request_begun(&self) {
        self.requests_in_flight.fetch_add(1, Ordering::Relaxed);
    }

    fn request_ended(&self) {
        self.requests_in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    fn connection_opened(&self) {}

    fn connection_closed(&self) {}
}

/// A switch that tells the server to drain.
#[derive(Debug)]
pub(crate) struct DrainSwitch(watch::Sender<bool>);

impl Default for DrainSwitch {
    fn default() -> Self {
        DrainSwitch(watch::Sender::new(false))
    }
}

impl DrainSwitch {
    pub(crate) fn begin(&self) {
        self.0.send_replace(true);
    }

    pub(crate) fn subscribe(&self) -> DrainSignal {
        DrainSignal::from(self.0.subscribe())
    }
}
