//! Keeps the memos of files from one daemon to the next.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use kache_cas::DigestFunction;

use crate::inputs::DiskWorld;

/// The file in the cache directory that keeps the memos of files from one daemon to the next.
const MEMOS: &str = "memos";

/// How often the memos are saved while results are stored. If a daemon is killed, the next one
/// hashes again the files whose memos were not saved.
const SAVE_EVERY: Duration = Duration::from_secs(60);

/// The memos of files, which are read from disk when they are first used.
#[derive(Debug)]
pub(super) struct FileMemos {
    path: PathBuf,
    function: DigestFunction,
    world: OnceLock<DiskWorld>,
    saved_at: Mutex<Instant>,
}

impl FileMemos {
    /// The memos of this cache directory, made with this function. They are not read yet.
    pub(super) fn new(cache_dir: &Path, function: DigestFunction) -> Self {
        let saved_at = Mutex::new(Instant::now());
        FileMemos { path: cache_dir.join(MEMOS), function, world: OnceLock::new(), saved_at }
    }

    /// The function of all digests in a key.
    pub(super) fn function(&self) -> DigestFunction {
        self.function
    }

    /// The files of this machine, with their memos.
    pub(super) fn world(&self) -> &DiskWorld {
        self.world.get_or_init(|| DiskWorld::open(self.function, self.path.clone()))
    }

    /// Saves the memos, if they were not saved for a while.
    pub(super) fn save_if_due(&self) {
        let mut saved_at = self.saved_at.lock();
        if saved_at.elapsed() >= SAVE_EVERY {
            *saved_at = Instant::now();
            drop(saved_at);
            self.save();
        }
    }

    /// Saves the memos now. A failure is logged.
    pub(super) fn save(&self) {
        if let Some(world) = self.world.get()
            && let Err(error) = world.save()
        {
            tracing::warn!("failed to save the digests of known files: {error}");
        }
    }

    /// Reads the memos that other processes have saved since this one began.
    pub(super) fn reload(&self) {
        if let Some(world) = self.world.get() {
            world.load_snapshot();
        }
    }
}
