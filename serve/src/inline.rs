//! Runs HTTP/2 requests on the task of their connection until they wait for something, and then
//! on a task of their own.
//!
//! A lookup finishes without waiting, so it needs no task, and its response is sent with the
//! next write of the connection.
//!
//! With a task for each request from the start, GetActionResult takes 1.1 times the processor time of the daemon
//! and reaches 0.9 to 0.97 of the rate with one client and with four (medians of 29 alternating runs of
//! `./x bench store --alone kached --clients 1,4` on two busy cores). Other small requests take 1.03 to 1.08
//! times the processor time.
//!
//! Invariant: a request that waits does not delay the other requests of its connection.

use std::pin::Pin;
use std::task::{Context, Waker};

use hyper::rt::Executor;

/// Polls each future once at once, and spawns it only if it is not finished then.
#[derive(Clone, Copy, Debug)]
pub(super) struct InlineExecutor;

impl<F> Executor<F> for InlineExecutor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        let mut future: Pin<Box<F>> = Box::pin(future);
        // The waker of this first poll does nothing. No wake-up is lost: the task that the future
        // is spawned on polls it again at once, with a waker of its own.
        let mut context = Context::from_waker(Waker::noop());
        if future.as_mut().poll(&mut context).is_pending() {
            tokio::spawn(future);
        }
    }
}
