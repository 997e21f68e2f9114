//! Does a daemon's work for one call, or for `kache verify`, in the process of the caller.
//!
//! Only one process can have the store open, and cargo starts many. So the store is open while the
//! reply is found and while the result is stored, and never while the compiler runs. A call that
//! cannot open it within [`STORE_WAIT_MAX`] does without.
//!
//! The store is dropped and not closed, as if the process had died. Closing it would write out the
//! whole volume, which takes a quarter of a second during a build (measured). The price is that new
//! blobs are hashed before they are served (STO-02), which takes a thousandth of that.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use kache_cas::{Store, StoreError, StoreSettings, with_causes};
use kache_client::control::{Compile, Ran, Verify, reply};
use kache_client::{CompileBackend, DaemonAddress, DaemonConnection, Intent};
use tokio::sync::watch;

use super::{serving, verifying, wire};
use crate::builds::{BegunCall, Builds};
use crate::config::Settings;
use crate::invocation::{Bypass, Reason};
use crate::outputs::Staging;
use crate::pipeline::{self, NextStep, Pipeline, RunningCompile, StoreSlot};

/// The time that a call waits, each time, for a store that another process has open. Other calls
/// have it open for some hundredths of a second.
const STORE_WAIT_MAX: Duration = Duration::from_secs(3);

/// The time for which no call waits after one has waited in vain: the process that has the store
/// open for so long is not another call.
const NO_WAIT_FOR: Duration = Duration::from_secs(30);

/// The interval of attempts to open the store.
const TRY_EVERY: Duration = Duration::from_millis(3);

/// The name of a file whose date is the time at which a call last waited in vain.
const BUSY_FILE: &str = "embedded.busy";

/// Answers the compiler call of this process.
pub struct EmbeddedBackend {
    address: DaemonAddress,
    settings: StoreSettings,
    pipeline: Pipeline,
    builds: Builds,
    /// The store as the pipeline sees it.
    slot: watch::Sender<StoreSlot>,
    /// Set while the compiler runs.
    compile: Option<Box<RunningCompile>>,
}

impl EmbeddedBackend {
    /// Creates a backend for the store of these settings, which is not opened yet.
    pub fn new(settings: &Settings) -> Self {
        let cache_dir = settings.address.cache_dir();
        let (slot, slot_receiver) = watch::channel(StoreSlot::Opening);
        let pipeline = Pipeline::of_one_call(cache_dir.to_owned(), slot_receiver)
            .with_uploads(serving::uploads(settings));
        let settings_of_store = StoreSettings {
            limit_bytes: settings.max_size_bytes,
            reserve_bytes: settings.reserve_bytes,
            ..StoreSettings::new(cache_dir)
        };
        EmbeddedBackend {
            address: settings.address.clone(),
            settings: settings_of_store,
            pipeline,
            builds: Builds::of_one_call(),
            slot,
            compile: None,
        }
    }

    /// Answers a verify request as the daemon would.
    pub fn verify(&self, verify: &Verify) -> reply::Kind {
        self.with_store(|pipeline| verifying::answer_here(pipeline, verify))
    }

    /// Runs work while the store is open, or while the pipeline knows why it is not.
    fn with_store<T>(&self, work: impl FnOnce(&Pipeline) -> T) -> T {
        let store = self.open().map(Arc::new);
        self.slot.send_replace(match &store {
            Ok(store) => StoreSlot::Open(Arc::clone(store)),
            Err(why) => StoreSlot::Unusable(why.clone()),
        });
        // Another call may have written memos since this process read them.
        self.pipeline.reload_memos();
        let result = work(&self.pipeline);
        // The event log and the memos are released before the store is, because the process that has
        // the store open is the only one that may write them.
        self.pipeline.release_files();
        self.slot.send_replace(StoreSlot::Unusable("it is closed".to_owned()));
        drop(store);
        result
    }

    /// Opens the store, and waits while another process has it open.
    fn open(&self) -> Result<Store, String> {
        if self.has_daemon() {
            return Err("a daemon has the store open".to_owned());
        }
        let busy_file = self.busy_file();
        let wait = if is_recent(&busy_file) { Duration::ZERO } else { STORE_WAIT_MAX };
        let give_up = Instant::now() + wait;
        loop {
            match Store::open(self.settings.clone()) {
                Err(error @ StoreError::InUse { .. }) => {
                    if Instant::now() >= give_up {
                        touch(&busy_file);
                        return Err(error.to_string());
                    }
                    std::thread::sleep(TRY_EVERY);
                }
                opened => return opened.map_err(|error| with_causes(&error)),
            }
        }
    }

    /// Returns whether a daemon runs, which has the store open for as long as it lives.
    fn has_daemon(&self) -> bool {
        self.address.control_socket().exists()
            && DaemonConnection::open(&self.address, Intent::Look, Instant::now() + STORE_WAIT_MAX).is_ok()
    }

    fn busy_file(&self) -> PathBuf {
        self.address.cache_dir().join(BUSY_FILE)
    }
}

impl CompileBackend for EmbeddedBackend {
    fn begin(&mut self, compile: Compile) -> Option<reply::Kind> {
        let call = Arc::new(wire::call(&compile));
        let client = i32::try_from(std::process::id()).ok();
        let staging = Staging::new(wire::optional_path(&compile.staging));
        let begin = || {
            // Hashing a toolchain for the first time takes a second. It is done before the store is
            // opened, so that no other process waits for it.
            self.pipeline.warm_up(&call);
            let begin =
                |pipeline: &_| self.builds.begin(pipeline, Arc::clone(&call), client, staging.clone());
            self.with_store(begin)
        };
        // Nothing is verified or seeded, because this process ends with the call.
        let BegunCall { step, .. } = catch_unwind(AssertUnwindSafe(begin)).ok()?;
        Some(match step {
            NextStep::Answer(reply) | NextStep::AnswerThenVerify(reply, _) => wire::reply(reply, false),
            NextStep::Run(run, compile) => {
                self.compile = Some(compile);
                wire::run(run)
            }
            // The pipeline of one call has no remotes, and no leader that this call could wait for.
            NextStep::AskRemotes(..) | NextStep::Wait(..) => {
                let why = Bypass::new(Reason::InternalError, "a call waits for a leader, and there is none");
                wire::reply(pipeline::pass_on_unrecorded(&call, why), false)
            }
        })
    }

    fn finish(&mut self, ran: Ran) {
        let Some(compile) = self.compile.take() else { return };
        let staging = Staging::new(wire::optional_path(&ran.staging));
        let (captured, is_whole) = wire::captured(ran);
        let store = || {
            self.with_store(|pipeline| {
                let publishing = pipeline.finish(compile, captured, is_whole, &staging);
                pipeline.publish(publishing);
            });
        };
        let _ = catch_unwind(AssertUnwindSafe(store));
    }
}

/// Returns whether a call has waited in vain within [`NO_WAIT_FOR`].
fn is_recent(busy_file: &Path) -> bool {
    let touched = std::fs::metadata(busy_file).and_then(|metadata| metadata.modified());
    touched.is_ok_and(|touched| SystemTime::now().duration_since(touched).is_ok_and(|age| age < NO_WAIT_FOR))
}

/// Records that this call has waited in vain. If that fails, other calls wait, too.
fn touch(busy_file: &Path) {
    let _ = std::fs::File::create(busy_file).and_then(|file| file.set_modified(SystemTime::now()));
}
