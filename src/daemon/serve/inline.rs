//! Where requests of HTTP/2 run: on their connection's task, as far as they come without
//! waiting; from there on each on a task of its own.
//!
//! A lookup ends where it began, so it needs no task, and its answer goes out with the next
//! write of the connection. It knows no request.
//!
//! Invariant: a request that waits for anything holds up no other one.

use std::pin::Pin;
use std::task::{Context, Waker};

use hyper::rt::Executor;

/// Runs futures in place until they wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct InPlace;

impl<F> Executor<F> for InPlace
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        let mut future: Pin<Box<F>> = Box::pin(future);
        // A task polls what it is given at least once, so nothing is lost by a waker that wakes nobody.
        let mut nobody = Context::from_waker(Waker::noop());
        if future.as_mut().poll(&mut nobody).is_pending() {
            tokio::spawn(future);
        }
    }
}
