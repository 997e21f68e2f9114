//! Writes events to the event log.
//!
//! The log is opened with the first event and not earlier: opening may block on a disk that hangs,
//! and events are recorded on threads that may block. Calls go on if the log cannot be written. The
//! daemon's own log says so once, and the next call tries again.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::call_state::CallClient;
use crate::config::CompileSettings;
use crate::events::{Amendment, CallId, Event, Log};
use crate::invocation::Call;
use crate::progress;

/// The event log of a cache directory.
#[derive(Debug)]
pub(super) struct Recorder {
    cache_dir: PathBuf,
    log: Mutex<Option<std::sync::Arc<Log>>>,
    /// Whether the last attempt failed, which was then reported.
    has_warned: AtomicBool,
}

impl Recorder {
    /// Creates the recorder of this cache directory. The log is not opened yet.
    pub(super) fn new(cache_dir: PathBuf) -> Self {
        Recorder { cache_dir, log: Mutex::new(None), has_warned: AtomicBool::new(false) }
    }

    /// Records a call. Returns `None` if the log cannot be written.
    fn record(&self, event: &Event) -> Option<CallId> {
        let recorded = self.log().and_then(|log| log.record(event));
        self.warn_once(recorded)
    }

    /// Records a call, and prints a line about it for the user, if the settings ask for one.
    pub(super) fn record_call(
        &self,
        call: &Call,
        client: &CallClient,
        settings: Option<&CompileSettings>,
        event: &Event,
    ) -> Option<CallId> {
        let id = self.record(event);
        let progress = settings.map(|settings| settings.progress);
        if let Some(wanted) = progress.filter(|wanted| progress::is_wanted(*wanted, call.env.get("CI"))) {
            match (client.pid, client.build.cargo_pid()) {
                (Some(pid), _) => progress::print_for_client(wanted, pid, event),
                (None, Some(pid)) => progress::print_for_cargo(wanted, pid, event),
                (None, None) => {}
            }
        }
        id
    }

    /// Adds to a recorded call what happened after it was answered.
    pub(super) fn amend(&self, call: CallId, amendment: &Amendment) {
        let amended = self.log().and_then(|log| log.amend(call, amendment));
        self.warn_once(amended);
    }

    /// Closes the log's file, so that another process can write to it.
    pub(super) fn close(&self) {
        self.log.lock().take();
    }

    fn log(&self) -> std::io::Result<std::sync::Arc<Log>> {
        let mut log = self.log.lock();
        if let Some(log) = &*log {
            return Ok(log.clone());
        }
        let opened = std::sync::Arc::new(Log::open(&self.cache_dir)?);
        *log = Some(opened.clone());
        Ok(opened)
    }

    fn warn_once<T>(&self, outcome: std::io::Result<T>) -> Option<T> {
        match outcome {
            Ok(done) => {
                self.has_warned.store(false, Ordering::Relaxed);
                Some(done)
            }
            Err(error) => {
                if !self.has_warned.swap(true, Ordering::Relaxed) {
                    tracing::warn!("failed to record a call: {error}");
                }
                None
            }
        }
    }
}
