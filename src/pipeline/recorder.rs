//! Events into the log, which is opened when the first one comes.
//!
//! Opening it may block on a dead disk, so it is done where blocking is allowed. A log that
//! cannot be written is no reason not to compile: it is said once in the daemon's log, and
//! tried again with the next call.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::events::{Amendment, CallId, Event, Log};

/// Where events go.
#[derive(Debug)]
pub(super) struct Recorder {
    cache_dir: PathBuf,
    log: Mutex<Option<std::sync::Arc<Log>>>,
    has_complained: AtomicBool,
}

impl Recorder {
    /// For the log of this cache directory.
    pub(super) fn new(cache_dir: PathBuf) -> Self {
        Recorder { cache_dir, log: Mutex::new(None), has_complained: AtomicBool::new(false) }
    }

    /// Puts a call on record.
    pub(super) fn record(&self, event: &Event) -> Option<CallId> {
        let recorded = self.log().and_then(|log| log.record(event));
        self.judge(recorded)
    }

    /// Adds what became of it.
    pub(super) fn amend(&self, call: CallId, amendment: &Amendment) {
        let amended = self.log().and_then(|log| log.amend(call, amendment));
        self.judge(amended);
    }

    /// Lets go of the log's file, so that another process can go on with it.
    pub(super) fn rest(&self) {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn log(&self) -> std::io::Result<std::sync::Arc<Log>> {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(log) = &*log {
            return Ok(log.clone());
        }
        let opened = std::sync::Arc::new(Log::open(&self.cache_dir)?);
        *log = Some(opened.clone());
        Ok(opened)
    }

    fn judge<T>(&self, outcome: std::io::Result<T>) -> Option<T> {
        match outcome {
            Ok(done) => {
                self.has_complained.store(false, Ordering::Relaxed);
                Some(done)
            }
            Err(error) => {
                if !self.has_complained.swap(true, Ordering::Relaxed) {
                    tracing::warn!("failed to record a call: {error}");
                }
                None
            }
        }
    }
}
