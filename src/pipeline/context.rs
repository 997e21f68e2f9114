//! The context of the stages: what all calls of a process share.
//!
//! A [`Pipeline`] holds no state of a single call; that passes from stage to stage (`call_state`).

use std::path::PathBuf;
use std::sync::Arc;

use kache_cas::{DigestFunction, Store};
use tokio::sync::watch;

use super::call_state::{CallClient, CurrentObservations, QueryHash};
use super::coalescer::Coalescer;
use super::memos::FileMemos;
use super::outputs_in_progress::OutputsInProgress;
use super::recorder::Recorder;
use super::sampler::Sampler;
use super::sharing::SharedOutputs;
use super::slot::StoreSlot;

use crate::compile::Fallbacks;
use crate::config::{CallConfigs, CompileSettings};
use crate::inputs::DiskWorld;
use crate::invocation::{Bypass, Call, Reason};
use crate::lookup::Uploads;
use crate::observer::Observer;
use crate::remote::{OpenRemotes, RemoteHandle, RemoteSession, UploadQueue};

/// The function that keys are made with: the one by which the store itself names blobs.
const KEY_FUNCTION: DigestFunction = DigestFunction::Blake3;

/// Everything that calls share.
#[derive(Debug)]
pub struct Pipeline {
    pub(super) cache_dir: PathBuf,
    pub(super) configs: CallConfigs,
    pub(super) memos: FileMemos,
    pub(super) observer: Observer,
    store: watch::Receiver<StoreSlot>,
    pub(super) uploads: Uploads,
    pub(super) coalescer: Coalescer<QueryHash, CurrentObservations>,
    pub(super) outputs: OutputsInProgress,
    pub(super) shared: SharedOutputs,
    pub(super) sampler: Sampler,
    pub(super) fallbacks: Fallbacks,
    pub(super) recorder: Recorder,
    remotes: OpenRemotes,
    /// Whether calls use remotes.
    uses_remotes: bool,
    upload_queue: Option<UploadQueue>,
}

impl Pipeline {
    /// Creates the pipeline of a daemon, for the store in this cache directory.
    pub fn new(cache_dir: PathBuf, store: watch::Receiver<StoreSlot>) -> Self {
        Pipeline {
            configs: CallConfigs::new(),
            memos: FileMemos::new(&cache_dir, KEY_FUNCTION),
            observer: Observer::new(&cache_dir),
            uploads: Uploads::default(),
            coalescer: Coalescer::default(),
            outputs: OutputsInProgress::default(),
            shared: SharedOutputs::new(&cache_dir, store.clone()),
            sampler: Sampler::default(),
            fallbacks: Fallbacks::new(),
            recorder: Recorder::new(cache_dir.clone()),
            remotes: OpenRemotes::default(),
            uses_remotes: true,
            upload_queue: None,
            store,
            cache_dir,
        }
    }

    /// Creates the pipeline of a process that answers one call and exits. It uses no remotes: such a process cannot
    /// know that another one has just waited for a dead remote in vain (NET-01), and while it waits, all others wait
    /// for the store.
    pub fn of_one_call(cache_dir: PathBuf, store: watch::Receiver<StoreSlot>) -> Self {
        let pipeline = Pipeline::new(cache_dir, store);
        Pipeline { shared: pipeline.shared.without_shared_inodes(), uses_remotes: false, ..pipeline }
    }

    /// Sets whether compiles take results that clients have uploaded.
    pub fn with_uploads(self, uploads: Uploads) -> Self {
        Pipeline { uploads, ..self }
    }

    /// Sets the queue for uploads. Without one, nothing is uploaded.
    pub fn with_upload_queue(self, queue: UploadQueue) -> Self {
        Pipeline { upload_queue: Some(queue), ..self }
    }

    /// Returns the queue for uploads; `None` if nothing is uploaded.
    pub(super) fn upload_queue(&self) -> Option<&UploadQueue> {
        self.upload_queue.as_ref()
    }

    /// Prepares for the remotes of a call. This has to come before the first input of the call is hashed, so that
    /// no input has to be read again for a remote.
    pub(super) fn prepare_for_remotes(&self, settings: &CompileSettings) {
        self.remotes.log_problems(&settings.remote_problems);
        if settings.remotes.is_empty() || !self.uses_remotes {
            return;
        }
        self.world().compute_twins();
        if let Some(queue) = &self.upload_queue {
            self.remotes_of(settings).iter().for_each(|handle| queue.add_remote(handle));
        }
    }

    /// Whether calls use remotes.
    pub(super) fn uses_remotes(&self) -> bool {
        self.uses_remotes
    }

    /// Returns the remotes of a call with these settings, in the order in which they are asked.
    pub(super) fn remotes_of(&self, settings: &CompileSettings) -> Vec<Arc<RemoteHandle>> {
        if self.uses_remotes { self.remotes.with(&settings.remotes) } else { Vec::new() }
    }

    /// Returns the session with remotes of a call.
    pub(super) fn remote_session(&self, client: &CallClient) -> Arc<RemoteSession> {
        client.build.remote_session().unwrap_or_else(|| self.remotes.session_without_build())
    }

    /// Returns the remotes that calls have used.
    pub fn open_remotes(&self) -> Vec<Arc<RemoteHandle>> {
        self.remotes.all()
    }

    /// Returns the function in which outputs are named for the remotes of a call: that of the keys, unless a
    /// remote that takes results has told another one.
    pub(super) fn remote_function(&self, settings: &CompileSettings) -> DigestFunction {
        let remotes = self.remotes_of(settings);
        let functions =
            remotes.iter().filter(|handle| handle.takes_results()).filter_map(|one| one.function());
        functions.max().unwrap_or(KEY_FUNCTION)
    }

    /// The store, if it is open; else why the call has to be passed on.
    pub fn store(&self) -> Result<Arc<Store>, Bypass> {
        self.store.borrow().store()
    }

    /// The settings of a call: those of its directory, with the variables of its environment. The
    /// error names a mistake in a configuration file.
    pub fn settings(&self, call: &Call) -> Result<Arc<CompileSettings>, Bypass> {
        let first_line = |text: &str| text.lines().next().unwrap_or_default().to_owned();
        let settings = self.configs.settings(|| call.env.iter(), &call.cwd);
        settings.map_err(|errors| Bypass::new(Reason::Configuration, first_line(&errors.to_string())))
    }

    /// The files of this machine, with the memos of those that were hashed before.
    pub(super) fn world(&self) -> &DiskWorld {
        self.memos.world()
    }

    /// The function that keys are made with.
    pub fn key_function(&self) -> DigestFunction {
        self.memos.function()
    }

    /// The files that are shared with other checkouts.
    pub fn shared_outputs(&self) -> &SharedOutputs {
        &self.shared
    }

    /// Counts a hit, and returns whether it is to be verified (`cache.verify_sample`).
    pub fn take_sample(&self, settings: &CompileSettings) -> bool {
        settings.verify_sample.is_some_and(|one_in| self.sampler.count(one_in.get()))
    }

    /// Saves the memos of files.
    pub fn save(&self) {
        self.memos.save();
    }

    /// Reads the memos of files that other processes have saved since this one began.
    pub fn reload_memos(&self) {
        self.memos.reload();
    }

    /// Closes the event log and saves the memos of files, so that another process can use both. The
    /// next call opens the log again.
    pub fn release_files(&self) {
        self.recorder.close();
        self.memos.save();
    }
}
