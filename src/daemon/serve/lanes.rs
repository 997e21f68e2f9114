//! The threads that serve connections. A connection stays on the thread where it began, with
//! everything that it does without waiting for a disk.
//!
//! A lookup takes less time than waking another thread for it, and threads that take work
//! from each other wake each other all the time. So there is no common queue: a connection
//! goes where the fewest are. What may block is done elsewhere, as before. This knows no
//! protocol.
//!
//! Invariant: a thread is begun for a connection that finds all others taken, and never one
//! more than there are processors, or `LANES_MAX`.

use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// The most threads that serve connections.
pub const LANES_MAX: usize = 8;

/// The threads so far. They end when this is dropped.
#[derive(Debug)]
pub struct Lanes {
    lanes: Mutex<Vec<Lane>>,
    lanes_max: usize,
}

#[derive(Debug)]
struct Lane {
    handle: Handle,
    /// Held once more by each connection there.
    connections: Arc<()>,
    /// Nothing is ever sent: the thread waits for this to be dropped.
    _open: oneshot::Sender<Infallible>,
}

/// A place for one connection, which counts as long as this is kept.
#[derive(Debug)]
pub struct Place {
    /// Where its task is to run.
    pub handle: Handle,
    _counted: Option<Arc<()>>,
}

impl Default for Lanes {
    fn default() -> Self {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        Lanes::at_most(processors)
    }
}

impl Lanes {
    /// At most so many threads; with none, connections stay on the caller's runtime.
    pub fn at_most(lanes_max: usize) -> Self {
        Lanes { lanes: Mutex::default(), lanes_max: lanes_max.min(LANES_MAX) }
    }

    /// A place on the thread with the fewest connections. Where no thread can be begun, it is
    /// on the caller's runtime.
    pub fn place(&self) -> Place {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        if lanes.iter().all(|lane| lane.count() > 0) && lanes.len() < self.lanes_max {
            match Lane::begin(lanes.len()) {
                Ok(lane) => lanes.push(lane),
                Err(error) => tracing::warn!(%error, "failed to begin a thread for connections"),
            }
        }
        match lanes.iter().min_by_key(|lane| lane.count()) {
            Some(lane) => {
                Place { handle: lane.handle.clone(), _counted: Some(Arc::clone(&lane.connections)) }
            }
            None => Place { handle: Handle::current(), _counted: None },
        }
    }
}

impl Lane {
    fn begin(number: usize) -> io::Result<Lane> {
        let runtime = Builder::new_current_thread().enable_all().thread_name("kached").build()?;
        let handle = runtime.handle().clone();
        let (open, mut closed) = oneshot::channel();
        thread::Builder::new().name(format!("serve-{number}")).spawn(move || {
            // An error is what it waits for: the other end was dropped.
            let _ = runtime.block_on(&mut closed);
            // What still runs hangs on a disk, and whoever waits for that has a limit of their own.
            runtime.shutdown_background();
        })?;
        Ok(Lane { handle, connections: Arc::default(), _open: open })
    }

    fn count(&self) -> usize {
        Arc::strong_count(&self.connections) - 1
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn thread_of(place: &Place) -> String {
        let name = || thread::current().name().unwrap_or_default().to_owned();
        place.handle.spawn(async move { name() }).await.unwrap()
    }

    #[tokio::test]
    async fn connections_spread_over_as_many_threads_as_may_be() {
        let lanes = Lanes::at_most(2);
        let first = lanes.place();
        let second = lanes.place();
        let third = lanes.place();
        assert_eq!(thread_of(&first).await, "serve-0");
        assert_eq!(thread_of(&second).await, "serve-1");
        drop(second);
        let fourth = lanes.place();
        assert_eq!(thread_of(&fourth).await, "serve-1", "the fewest are there");
        drop((first, third, fourth));
        assert_eq!(lanes.lanes.lock().unwrap().len(), 2);
    }

    #[tokio::test]
    async fn one_connection_after_the_other_needs_one_thread() {
        let lanes = Lanes::at_most(4);
        for _ in 0..10 {
            assert_eq!(thread_of(&lanes.place()).await, "serve-0");
        }
    }

    #[tokio::test]
    async fn what_a_connection_was_doing_ends_with_the_lanes() {
        let lanes = Lanes::at_most(1);
        let (gone, is_gone) = oneshot::channel::<Infallible>();
        lanes.place().handle.spawn(async move {
            let _gone = gone;
            std::future::pending::<()>().await;
        });
        drop(lanes);
        let ended = tokio::time::timeout(Duration::from_secs(10), is_gone).await;
        assert!(ended.expect("the thread ends").is_err());
    }
}
