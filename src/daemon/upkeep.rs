//! The store's slow work, on threads of its own: opening, upkeep, closing.
//!
//! Threads and not the runtime's pool, because a dead disk can hold any of them for ever,
//! and a runtime waits for its pool when it ends; the process does not wait for these.
//! Upkeep is one bounded step at a time, when the core says so (STO-10).

use std::sync::Arc;
use std::thread;

use kache_cas::{Store, StoreError};
use tokio::sync::mpsc;

use super::control::Signal;
use super::core::Event;

/// How the store is opened. Called again after it failed.
pub(super) type OpenStore = Arc<dyn Fn() -> Result<Store, StoreError> + Send + Sync>;

/// What came of opening it.
pub(super) type Opened = Result<Arc<Store>, String>;

/// Opens the store.
pub(super) fn open(how: OpenStore, done: mpsc::Sender<Opened>) {
    spawn("store-open", move || {
        let opened = how().map(Arc::new).map_err(|error| in_full(&error));
        let _ = done.blocking_send(opened);
    });
}

/// Does one step of upkeep.
pub(super) fn step(store: Arc<Store>, signals: mpsc::Sender<Signal>) {
    spawn("store-upkeep", move || {
        let event = match store.maintain() {
            Ok(done) => Event::UpkeepDone(done.more_is_due),
            Err(error) => Event::UpkeepFailed(in_full(&error)),
        };
        let _ = signals.blocking_send(Signal::Event(event));
    });
}

/// Closes the store.
pub(super) fn close(store: Arc<Store>, signals: mpsc::Sender<Signal>) {
    spawn("store-close", move || {
        let trouble = store.close().err().map(|error| in_full(&error));
        drop(store);
        let _ = signals.blocking_send(Signal::Event(Event::StoreClosed(trouble)));
    });
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) {
    let spawned = thread::Builder::new().name(name.to_owned()).spawn(work);
    if let Err(error) = spawned {
        tracing::error!("failed to start the thread `{name}`: {error}");
    }
}

/// The error and what caused it, in one line.
pub(super) fn in_full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_told_with_their_causes() {
        let source = std::io::Error::other("no such device");
        let error = StoreError::io("open", "/dead", source);
        assert_eq!(in_full(&error), "failed to open `/dead`: no such device");
    }
}
