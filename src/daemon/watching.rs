//! The thread that watches files which several checkouts share.
//!
//! It is a thread of its own, and not one of the runtime's, because a dead disk can block it for
//! ever and the process must not wait for it.

use std::sync::Weak;
use std::thread;
use std::time::Duration;

use crate::pipeline::Pipeline;

/// The interval at which the thread checks whether the daemon still uses the pipeline.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// The time for which events are collected before they are handled.
const BATCH: Duration = Duration::from_millis(5);

/// The interval at which the thread checks whether the store is open.
const STORE_OPENING: Duration = Duration::from_millis(50);

/// Starts the thread, which ends when the pipeline is dropped.
pub(super) fn watch_shared_files(pipeline: Weak<Pipeline>) {
    let watch = move || {
        if let Some(pipeline) = pipeline.upgrade() {
            pipeline.start_watching();
        }
        let mut has_checked_all = false;
        while let Some(pipeline) = pipeline.upgrade() {
            let done =
                if has_checked_all { pipeline.process_events(WAIT_MAX) } else { pipeline.check_all_shared() };
            match done {
                Ok(true) => {
                    has_checked_all = true;
                    // Compilers cause many events, which are cheaper to handle together.
                    thread::sleep(BATCH);
                }
                Ok(false) => thread::sleep(STORE_OPENING),
                Err(error) => {
                    tracing::warn!("failed to restore shared files that were changed: {error}");
                    has_checked_all = true;
                    thread::sleep(WAIT_MAX);
                }
            }
        }
    };
    if let Err(error) = thread::Builder::new().name("shared-files".to_owned()).spawn(watch) {
        tracing::warn!("failed to start the thread that watches shared files: {error}");
    }
}
