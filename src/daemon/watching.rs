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

/// The same while there are events all the time. kache causes most of them itself when it restores
/// outputs: in a build of 74 crates, handling them took 1.9 ms of processor time with the shorter time
/// and takes 0.5 ms with this one. A change waits no longer than this, and not at all when a build begins, because the
/// daemon then handles all events before it replies.
const BATCH_WHILE_BUSY: Duration = Duration::from_millis(100);

/// The interval at which the thread checks whether the store is open.
const STORE_OPENING: Duration = Duration::from_millis(50);

/// Starts the thread, which ends when the pipeline is dropped.
pub(super) fn watch_shared_files(pipeline: Weak<Pipeline>) {
    let watch = move || {
        if let Some(pipeline) = pipeline.upgrade() {
            pipeline.shared_outputs().start_watching();
        }
        let (mut has_checked_all, mut batch) = (false, BATCH);
        // The pipeline is upgraded for each turn only, so that this thread does not keep a leaving daemon's
        // pipeline alive for longer than `WAIT_MAX`.
        while let Some(pipeline) = pipeline.upgrade() {
            let done = match has_checked_all {
                true => pipeline.shared_outputs().process_events(WAIT_MAX),
                // Changes from before the watch began cause no events, so all files are checked once first.
                false => pipeline.shared_outputs().check_all().map(|is_checked| is_checked.then_some(false)),
            };
            match done {
                Ok(Some(had_events)) => {
                    has_checked_all = true;
                    thread::sleep(batch);
                    batch = if had_events { BATCH_WHILE_BUSY } else { BATCH };
                }
                Ok(None) => thread::sleep(STORE_OPENING),
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
