//! The store as a daemon uses it: one implementation and what stands in front of it.
//!
//! Blobs pass `metering`, then `verify`. Action results pass `metering`, then
//! `completeness`. This file puts them together and decides nothing itself.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::clock::{Clock, SystemClock};
use crate::completeness::{Completeness, Trees};
use crate::error::StoreError;
use crate::evict::Catalog;
use crate::memory::MemoryStore;
use crate::metering::{Counters, Meter, Metered};
use crate::store::{ActionCache, BlobStore, LocalFiles, StoreStatus};
use crate::verify::Verified;

/// How large a store may become unless somebody says otherwise.
pub const LIMIT_BYTES_DEFAULT: u64 = 20 << 30;

/// How much of the volume stays free unless somebody says otherwise: what a system needs
/// to remain usable.
pub const RESERVE_BYTES_DEFAULT: u64 = 1 << 30;

/// The largest blob that is taken unless somebody says otherwise. Linked programs with
/// their debugging information stay below it.
pub const BLOB_BYTES_MAX_DEFAULT: u64 = 8 << 30;

/// Where a store is and what it may do.
#[derive(Clone)]
pub struct StoreSettings {
    /// Its directory. No other process may use it.
    pub dir: PathBuf,
    /// What it may occupy on the volume.
    pub limit_bytes: u64,
    /// How much of the volume it leaves free.
    pub reserve_bytes: u64,
    /// The largest blob it takes.
    pub blob_bytes_max: u64,
    /// What tells it the time.
    pub clock: Arc<dyn Clock>,
}

impl StoreSettings {
    /// The usual limits, for a store in this directory.
    pub fn new(dir: impl AsRef<Path>) -> Self {
        StoreSettings {
            dir: dir.as_ref().to_owned(),
            limit_bytes: LIMIT_BYTES_DEFAULT,
            reserve_bytes: RESERVE_BYTES_DEFAULT,
            blob_bytes_max: BLOB_BYTES_MAX_DEFAULT,
            clock: Arc::new(SystemClock),
        }
    }
}

/// What one step of maintenance did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Maintenance {
    /// Whether another step is due at once. Otherwise a second's rest is fine.
    pub more_is_due: bool,
}

/// What `Store` needs of an implementation.
trait Backend: BlobStore + ActionCache + LocalFiles + Catalog {
    /// What is wrong with it, in words.
    fn troubles(&self) -> Vec<String>;

    /// Stops cleanly. Nothing is asked of it afterwards.
    fn close(&self) -> Result<(), StoreError>;
}

impl Backend for MemoryStore {
    fn troubles(&self) -> Vec<String> {
        Vec::new()
    }

    fn close(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

/// The store, put together.
pub struct Store {
    backend: Arc<dyn Backend>,
    blobs: Box<dyn BlobStore>,
    actions: Box<dyn ActionCache>,
    files: Arc<dyn LocalFiles>,
    meter: Arc<Meter>,
    limit_bytes: u64,
}

impl Store {
    /// A store that lasts as long as the process, for tests. The settings' directory is not
    /// looked at.
    pub fn in_memory(settings: StoreSettings) -> Store {
        let memory = Arc::new(MemoryStore::new(Arc::clone(&settings.clock)));
        Store::around(memory, settings)
    }

    fn around<B: Backend + 'static>(backend: Arc<B>, settings: StoreSettings) -> Store {
        let meter = Arc::new(Meter::default());
        let verified = Arc::new(Verified::new(Arc::clone(&backend), settings.blob_bytes_max));
        let complete = Completeness::new(
            Arc::clone(&backend),
            Arc::clone(&verified),
            settings.clock,
            Arc::new(Trees::default()),
            Arc::clone(&meter),
        );
        Store {
            blobs: Box::new(Metered::new(verified, Arc::clone(&meter))),
            actions: Box::new(Metered::new(Arc::new(complete), Arc::clone(&meter))),
            files: Arc::clone(&backend) as Arc<dyn LocalFiles>,
            backend,
            meter,
            limit_bytes: settings.limit_bytes,
        }
    }

    /// The blobs.
    pub fn blobs(&self) -> &dyn BlobStore {
        &*self.blobs
    }

    /// The action results, complete ones only.
    pub fn actions(&self) -> &dyn ActionCache {
        &*self.actions
    }

    /// Files that enter and leave.
    pub fn files(&self) -> &dyn LocalFiles {
        &*self.files
    }

    /// What it holds.
    pub fn status(&self) -> StoreStatus {
        let mut troubles = self.backend.troubles();
        let usage = self.backend.usage().unwrap_or_else(|error| {
            troubles.push(error.to_string());
            Default::default()
        });
        StoreStatus {
            physical_bytes: usage.physical_bytes,
            logical_bytes: usage.logical_bytes,
            limit_bytes: self.limit_bytes,
            blobs: usage.blobs,
            action_results: usage.action_results,
            troubles,
        }
    }

    /// What happened since it was opened.
    pub fn counters(&self) -> Counters {
        self.meter.read()
    }

    /// One bounded step of upkeep. For a thread of its own: no request waits for it.
    pub fn maintain(&self) -> Result<Maintenance, StoreError> {
        Ok(Maintenance { more_is_due: self.backend.upkeep()? })
    }

    /// Stops cleanly.
    pub fn close(&self) -> Result<(), StoreError> {
        self.backend.close()
    }
}
