//! The signal from the driver to all tasks that the daemon drains: requests under way may finish, and
//! no new ones are accepted.
//!
//! It carries no deadline. The driver waits as long as the core allows and then drops the runtime.

use tokio::sync::watch;

/// The driver's end of the signal.
#[derive(Debug)]
pub struct Drain(watch::Sender<bool>);

/// A task's end of the signal. It is cheap to clone.
#[derive(Clone, Debug)]
pub struct Draining(watch::Receiver<bool>);

impl Default for Drain {
    fn default() -> Self {
        Drain(watch::Sender::new(false))
    }
}

impl Drain {
    /// Signals all tasks, including tasks that subscribe later. A second call has no effect.
    pub fn begin(&self) {
        self.0.send_replace(true);
    }

    /// Returns the end of the signal for one more task, which may be created after draining has begun.
    pub fn subscribe(&self) -> Draining {
        Draining(self.0.subscribe())
    }
}

impl From<Draining> for kache_serve::DrainSignal {
    fn from(draining: Draining) -> Self {
        Self::from(draining.0)
    }
}

impl Draining {
    /// Waits until draining has begun.
    pub async fn begun(&mut self) {
        // An error means that the sender is dropped: the driver has ended, which counts as draining.
        let _ = self.0.wait_for(|begun| *begun).await;
    }

    /// Returns whether draining has begun.
    pub fn has_begun(&self) -> bool {
        *self.0.borrow()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn early_and_late_subscribers_get_the_signal() {
        let drain = Drain::default();
        let mut early = drain.subscribe();
        assert!(!early.has_begun());
        drain.begin();
        early.begun().await;
        let mut late = drain.subscribe();
        late.begun().await;
        assert!(late.has_begun());
    }

    #[tokio::test]
    async fn a_driver_that_is_gone_counts_as_draining() {
        let drain = Drain::default();
        let mut task = drain.subscribe();
        drop(drain);
        task.begun().await;
    }
}
