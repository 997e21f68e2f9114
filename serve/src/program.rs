//! The traits by which the server uses the program that runs it: counters, and a signal to stop.
//!
//! It knows nothing else of that program. Messages for its users name its settings by their keys,
//! such as `serve.tokens`.

use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;

/// Counts the requests and connections of the server for the program that runs it, which may want
/// to stay as long as there are any. The methods are called often and must not block.
pub trait ActivityCounter: Send + Sync + 'static {
    /// The server calls this when a request begins.
    fn request_begun(&self);
    /// A request ended: its last byte was sent, or its connection is gone.
    fn request_ended(&self);
    /// A connection was accepted.
    fn connection_opened(&self);
    /// A connection was closed.
    fn connection_closed(&self);
}

/// A request that counts as open until this is dropped.
pub(crate) struct RequestInFlight(Arc<dyn ActivityCounter>);

impl RequestInFlight {
    /// Counts a request that begins.
    pub(crate) fn count(counter: &Arc<dyn ActivityCounter>) -> Self {
        counter.request_begun();
        RequestInFlight(Arc::clone(counter))
    }
}

impl fmt::Debug for RequestInFlight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RequestInFlight")
    }
}

impl Drop for RequestInFlight {
    fn drop(&mut self) {
        self.0.request_ended();
    }
}

/// A connection that counts as open until this is dropped.
pub(crate) struct OpenConnection(Arc<dyn ActivityCounter>);

impl OpenConnection {
    /// Counts a connection that was accepted.
    pub(crate) fn count(counter: &Arc<dyn ActivityCounter>) -> Self {
        counter.connection_opened();
        OpenConnection(Arc::clone(counter))
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.connection_closed();
    }
}

/// Tells the server to drain: to finish open requests and to take no new ones. It is cheap to clone.
#[derive(Clone, Debug)]
pub struct DrainSignal(watch::Receiver<bool>);

impl From<watch::Receiver<bool>> for DrainSignal {
    /// Draining begins when the value becomes `true`, or when the sender is dropped.
    fn from(receiver: watch::Receiver<bool>) -> Self {
        DrainSignal(receiver)
    }
}

impl DrainSignal {
    /// Waits until draining has begun.
    pub async fn begun(&mut self) {
        // An error means that the sender was dropped, which counts as draining.
        let _ = self.0.wait_for(|begun| *begun).await;
    }

    /// Whether draining has begun.
    pub fn has_begun(&self) -> bool {
        *self.0.borrow()
    }
}
