//! The threads that serve connections, each with a runtime of its own.
//!
//! A connection stays on one thread, because a lookup takes less time than waking another
//! thread for it, and threads that steal work from each other wake each other all the time.
//! So there is no common queue: a connection is assigned to the thread with the fewest
//! connections. Calls that may block run on the blocking threads of that runtime. This file
//! knows no protocol.
//!
//! With one common runtime in their place, GetActionResult, FindMissingBlobs and BatchReadBlobs of 4 KiB take 1.3
//! times the processor time of the daemon and reach 0.8 of the rate with one client, and differ by less than a
//! tenth with four (medians of 15 alternating runs of `./x bench store --alone kached --clients 1,4` on two busy
//! cores).
//!
//! Invariant: a thread is started only when every other one has a connection, and there are
//! never more than processors, or than `CONNECTION_THREADS_MAX`.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::thread;

use parking_lot::Mutex;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// The most threads that serve connections.
pub const CONNECTION_THREADS_MAX: usize = 8;

/// The threads that were started so far. They end when this is dropped.
#[derive(Debug)]
pub struct ConnectionThreads {
    threads: Mutex<Vec<ConnectionThread>>,
    threads_max: usize,
}

#[derive(Debug)]
struct ConnectionThread {
    handle: Handle,
    /// Cloned for each connection, so the strong count minus one is the number of connections.
    connections: Arc<()>,
    /// Nothing is ever sent: the thread ends when this is dropped.
    _open: oneshot::Sender<Infallible>,
}

/// The thread that a connection is assigned to. The connection counts as long as this is kept.
#[derive(Debug)]
pub struct ThreadSlot {
    /// The runtime on which the connection must be spawned.
    pub handle: Handle,
    _counted: Option<Arc<()>>,
}

impl Default for ConnectionThreads {
    fn default() -> Self {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        ConnectionThreads::at_most(processors)
    }
}

impl ConnectionThreads {
    /// Starts at most `threads_max` threads. With 0, connections stay on the caller's runtime.
    pub fn at_most(threads_max: usize) -> Self {
        ConnectionThreads { threads: Mutex::default(), threads_max: threads_max.min(CONNECTION_THREADS_MAX) }
    }

    /// Assigns a connection to the thread with the fewest, or to the caller's runtime if no
    /// thread can be started.
    pub fn assign(&self) -> ThreadSlot {
        let mut threads = self.threads.lock();
        if threads.iter().all(|thread| thread.count() > 0) && threads.len() < self.threads_max {
            match ConnectionThread::begin(threads.len()) {
                Ok(thread) => threads.push(thread),
                Err(error) => tracing::warn!(%error, "failed to start a thread for connections"),
            }
        }
        match threads.iter().min_by_key(|thread| thread.count()) {
            Some(thread) => {
                ThreadSlot { handle: thread.handle.clone(), _counted: Some(Arc::clone(&thread.connections)) }
            }
            None => ThreadSlot { handle: Handle::current(), _counted: None },
        }
    }
}

impl ConnectionThread {
    fn begin(number: usize) -> io::Result<ConnectionThread> {
        let runtime = Builder::new_current_thread().enable_all().thread_name("kached").build()?;
        let handle = runtime.handle().clone();
        let (open, mut closed) = oneshot::channel();
        thread::Builder::new().name(format!("serve-{number}")).spawn(move || {
            // This returns an error once `_open` is dropped, which is the end.
            let _ = runtime.block_on(&mut closed);
            // Blocking calls that still run hang on a disk. This thread does not wait for them;
            // the driver of the daemon has a deadline for ending them all.
            runtime.shutdown_background();
        })?;
        Ok(ConnectionThread { handle, connections: Arc::default(), _open: open })
    }

    fn count(&self) -> usize {
        Arc::strong_count(&self.connections) - 1
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn thread_of(slot: &ThreadSlot) -> String {
        let name = || thread::current().name().unwrap_or_default().to_owned();
        slot.handle.spawn(async move { name() }).await.unwrap()
    }

    #[tokio::test]
    async fn connections_spread_over_the_allowed_number_of_threads() {
        let all = ConnectionThreads::at_most(2);
        let first = all.assign();
        let second = all.assign();
        let third = all.assign();
        assert_eq!(thread_of(&first).await, "serve-0");
        assert_eq!(thread_of(&second).await, "serve-1");
        drop(second);
        let fourth = all.assign();
        assert_eq!(thread_of(&fourth).await, "serve-1", "that thread has the fewest");
        drop((first, third, fourth));
        assert_eq!(all.threads.lock().len(), 2);
    }

    #[tokio::test]
    async fn connections_that_follow_each_other_need_one_thread() {
        let all = ConnectionThreads::at_most(4);
        for _ in 0..10 {
            assert_eq!(thread_of(&all.assign()).await, "serve-0");
        }
    }

    #[tokio::test]
    async fn connections_end_with_their_threads() {
        let all = ConnectionThreads::at_most(1);
        let (gone, is_gone) = oneshot::channel::<Infallible>();
        all.assign().handle.spawn(async move {
            let _gone = gone;
            std::future::pending::<()>().await;
        });
        drop(all);
        let ended = tokio::time::timeout(Duration::from_secs(10), is_gone).await;
        assert!(ended.expect("the thread ends").is_err());
    }
}
