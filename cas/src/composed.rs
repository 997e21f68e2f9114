//! The store as a daemon uses it: one implementation and what stands in front of it.
//!
//! Blobs pass `metering`, then `verify`, then `room`; action results pass `metering`, then
//! `completeness`, then `room`; files pass `metering`, then `room`. This file puts them together and decides
//! nothing itself, but for when an implementation's upkeep has its turn.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::clock::{Clock, Stopwatch, SystemClock};
use crate::completeness::{CompleteActionCache, TreeCache};
use crate::disk::{DiskSettings, DiskStore};
use crate::error::StoreError;
use crate::evict::{Catalog, SizeLimits};
use crate::memory::MemoryStore;
use crate::metering::{Counters, Meter, MeteredStore};
use crate::presence::PresenceCache;
use crate::room::{EvictingStore, SharedEvictor};
use crate::store::{ActionCache, BlobStore, LocalFiles, StoreStatus};
use crate::verify::VerifyingStore;

/// How large a store may become unless somebody says otherwise.
pub const LIMIT_BYTES_DEFAULT: u64 = 20 << 30;

/// How much of the volume stays free unless somebody says otherwise: what a system needs
/// to remain usable.
pub const RESERVE_BYTES_DEFAULT: u64 = 1 << 30;

/// The largest blob that is taken unless somebody says otherwise. LinkedFile programs with
/// their debugging information stay below it.
pub const BLOB_BYTES_MAX_DEFAULT: u64 = 8 << 30;

/// How often an implementation's own upkeep has its turn while eviction is under way.
const UPKEEP_EVERY: Duration = Duration::from_secs(1);

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

    /// How many blobs it found damaged and took out of service, also where nobody asked.
    fn damaged(&self) -> u64 {
        0
    }

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

impl Backend for DiskStore {
    fn troubles(&self) -> Vec<String> {
        DiskStore::troubles(self)
    }

    fn damaged(&self) -> u64 {
        let counters = self.counters();
        counters.damaged + counters.torn
    }

    fn close(&self) -> Result<(), StoreError> {
        DiskStore::close(self)
    }
}

/// The store, put together.
pub struct Store {
    backend: Arc<dyn Backend>,
    blobs: Box<dyn BlobStore>,
    actions: Box<dyn ActionCache>,
    files: Box<dyn LocalFiles>,
    room: Box<dyn EvictionSteps>,
    meter: Arc<Meter>,
    limit_bytes: u64,
    upkeep_at: Mutex<Option<Stopwatch>>,
}

/// A `SharedEvictor`, whatever it is of.
trait EvictionSteps: Send + Sync {
    /// One step. Whether more is due at once.
    fn evict(&self) -> Result<bool, StoreError>;
}

impl<S: BlobStore + Catalog> EvictionSteps for Arc<SharedEvictor<S>> {
    fn evict(&self) -> Result<bool, StoreError> {
        self.step().map(|step| step.more_is_due)
    }
}

impl Store {
    /// The store in this directory, which is begun if there is none.
    pub fn open(settings: StoreSettings) -> Result<Store, StoreError> {
        let disk = DiskStore::open(DiskSettings {
            dir: settings.dir.clone(),
            limit_bytes: settings.limit_bytes,
            reserve_bytes: settings.reserve_bytes,
            blob_bytes_max: settings.blob_bytes_max,
            clock: Arc::clone(&settings.clock),
        })?;
        Ok(Store::around(Arc::new(disk), settings))
    }

    /// A store that lasts as long as the process, for tests. The settings' directory is not
    /// looked at.
    pub fn in_memory(settings: StoreSettings) -> Store {
        let memory = MemoryStore::limited(Arc::clone(&settings.clock), settings.limit_bytes);
        Store::around(Arc::new(memory), settings)
    }

    fn around<B: Backend + 'static>(backend: Arc<B>, settings: StoreSettings) -> Store {
        let StoreSettings { limit_bytes, reserve_bytes, blob_bytes_max, clock, .. } = settings;
        let meter = Arc::new(Meter::default());
        let limits = SizeLimits { limit_bytes, reserve_bytes };
        let room = Arc::new(SharedEvictor::new(
            Arc::clone(&backend),
            Arc::clone(&clock),
            limits,
            Arc::clone(&meter),
        ));
        let roomy = Arc::new(EvictingStore::new(Arc::clone(&backend), Arc::clone(&room)));
        let verified = Arc::new(VerifyingStore::new(Arc::clone(&roomy), blob_bytes_max));
        let present = Arc::new(PresenceCache::new(verified, Arc::clone(&clock)));
        let complete = CompleteActionCache::new(
            Arc::clone(&roomy),
            Arc::clone(&present),
            clock,
            Arc::new(TreeCache::default()),
            Arc::clone(&meter),
        );
        Store {
            blobs: Box::new(MeteredStore::new(present, Arc::clone(&meter))),
            actions: Box::new(MeteredStore::new(Arc::new(complete), Arc::clone(&meter))),
            files: Box::new(MeteredStore::new(roomy, Arc::clone(&meter))),
            room: Box::new(room),
            backend,
            meter,
            limit_bytes,
            upkeep_at: Mutex::new(None),
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
        let counters = self.meter.read();
        Counters { damaged: counters.damaged.max(self.backend.damaged()), ..counters }
    }

    /// One bounded step of upkeep: eviction where it is due, and the implementation's own.
    /// For a thread of its own: no request waits for it. An error of one does not keep the
    /// other from its turn. After [`StoreError::Stuck`] the store is to be closed and opened
    /// anew; until then it can be read.
    pub fn maintain(&self) -> Result<Maintenance, StoreError> {
        let evicting = self.room.evict();
        let mut upkeep_at = self.upkeep_at.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = upkeep_at.is_none_or(|then| then.elapsed() >= UPKEEP_EVERY);
        let mut more_is_due = matches!(evicting, Ok(true));
        if is_due || !more_is_due {
            more_is_due |= self.backend.upkeep()?;
            *upkeep_at = Some(Stopwatch::start());
        }
        evicting.map(|_| Maintenance { more_is_due })
    }

    /// Stops cleanly.
    pub fn close(&self) -> Result<(), StoreError> {
        self.backend.close()
    }
}

#[cfg(test)]
mod tests {
    use kache_proto::reapi::{ActionResult, OutputFile};

    use super::*;
    use crate::clock::ManualClock;
    use crate::digest::{Digest, DigestFunction};
    use crate::encoding::wire_digest;
    use crate::store::{AccessKind, ActionKey};

    const SHA256: DigestFunction = DigestFunction::Sha256;

    fn store(limit_bytes: u64) -> (Store, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::default());
        let settings = StoreSettings { limit_bytes, clock: clock.clone(), ..StoreSettings::new("/nowhere") };
        (Store::in_memory(settings), clock)
    }

    fn insert(store: &Store, bytes: &[u8]) -> Digest {
        let digest = Digest::of(SHA256, bytes);
        store.blobs().insert(&[(digest, bytes.to_vec().into())]).remove(0).unwrap();
        digest
    }

    #[test]
    fn sto_03_what_is_put_together_returns_complete_results_only() {
        let (store, _) = store(1 << 20);
        let blob: Digest = Digest::of(SHA256, b"blob");
        let file =
            OutputFile { path: "out".to_owned(), digest: Some(wire_digest(&blob)), ..Default::default() };
        let result = ActionResult { output_files: vec![file], ..Default::default() };
        let key = ActionKey { instance: "".into(), function: SHA256, hash: blob.hash };
        store.actions().put(&key, &result).unwrap();
        assert_eq!(store.actions().get(&key, AccessKind::Promise).unwrap(), None);
        insert(&store, b"blob");
        assert!(store.actions().get(&key, AccessKind::Promise).unwrap().is_some());
        let counters = store.counters();
        assert_eq!((counters.action_hits, counters.action_misses, counters.actions_incomplete), (1, 1, 1));
        let status = store.status();
        assert_eq!((status.blobs, status.action_results, status.logical_bytes), (1, 1, 4));
        assert_eq!((status.limit_bytes, status.troubles.len()), (1 << 20, 0));
        store.close().unwrap();
    }

    #[test]
    fn sto_06_maintenance_makes_room_ahead_of_need() {
        let (store, clock) = store(100_000);
        for name in 0..90u8 {
            insert(&store, &[name; 1_000]);
        }
        clock.advance(Duration::from_secs(24 * 60 * 60));
        while store.maintain().unwrap().more_is_due {}
        assert!(store.status().physical_bytes <= 88_000);
        assert!(store.counters().blobs_evicted > 0);
        assert_eq!(store.counters().no_space, 0);
    }
}
