//! One word that goes from the driver to every task: finish what is under way, take nothing
//! new.
//!
//! It carries no deadline. The driver waits as long as the core allows and then drops the
//! runtime; a task that ends early ends the waiting early.

use tokio::sync::watch;

/// The driver's end.
#[derive(Debug)]
pub struct Drain(watch::Sender<bool>);

/// A task's end. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Draining(watch::Receiver<bool>);

impl Default for Drain {
    fn default() -> Self {
        Drain(watch::Sender::new(false))
    }
}

impl Drain {
    /// Tells every task, those that begin later too. Saying it twice is harmless.
    pub fn begin(&self) {
        self.0.send_replace(true);
    }

    /// An end for a task.
    pub fn subscribe(&self) -> Draining {
        Draining(self.0.subscribe())
    }
}

impl Draining {
    /// Returns once draining has begun, at once if it has already.
    pub async fn begun(&mut self) {
        // The sender is only dropped when the driver is gone, which means the same.
        let _ = self.0.wait_for(|begun| *begun).await;
    }

    /// Whether draining has begun.
    pub fn has_begun(&self) -> bool {
        *self.0.borrow()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn late_and_early_subscribers_hear_it() {
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
