//! The store as a daemon uses it: one implementation behind its decorators.
//!
//! A request for blobs passes `metering`, `presence`, `verify` and `room`; one for action results
//! passes `metering`, `completeness` and `room`; one for files passes `metering` and `room`. This
//! file puts them together. The only decision it makes is when the implementation's upkeep runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::{Clock, Stopwatch, SystemClock};
use crate::completeness::{CompleteActionCache, TreeCache};
use crate::disk::{DiskSettings, DiskStore};
use crate::error::StoreError;
use crate::evict::{Catalog, SizeLimits};
use crate::memory::MemoryStore;
use crate::metering::{Counters, Meter, MeteredStore};
use crate::presence::PresenceCache;
use crate::room::{EvictingStore, SharedEvictor};
use crate::store::{AccessKind, ActionCache, BlobStore, LocalFiles, StoreStatus};
use crate::verify::VerifyingStore;

/// The store's size limit where the configuration names none.
pub const LIMIT_BYTES_DEFAULT: u64 = 20 << 30;

/// How much of the volume stays free where the configuration says nothing: enough for the system
/// to remain usable.
pub const RESERVE_BYTES_DEFAULT: u64 = 1 << 30;

/// The largest blob that is accepted where the configuration says nothing. Linked programs with
/// their debugging information stay below it.
pub const BLOB_BYTES_MAX_DEFAULT: u64 = 8 << 30;

/// How often the implementation's upkeep runs while eviction is under way.
const UPKEEP_EVERY: Duration = Duration::from_secs(1);

/// Where a store is, and its limits.
#[derive(Clone)]
pub struct StoreSettings {
    /// The store's directory, which only one process can have open.
    pub dir: PathBuf,
    /// The most that the store may occupy on the volume.
    pub limit_bytes: u64,
    /// How much of the volume the store leaves free.
    pub reserve_bytes: u64,
    /// The size of the largest blob that the store accepts.
    pub blob_bytes_max: u64,
    /// The source of time for ages and leases.
    pub clock: Arc<dyn Clock>,
}

impl StoreSettings {
    /// Returns the default settings for a store in this directory.
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

/// The outcome of one step of maintenance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Maintenance {
    /// Whether the caller should make another step at once. Otherwise it may rest for a second.
    pub more_is_due: bool,
}

/// All that `Store` needs of an implementation.
trait StoreBackend: BlobStore + ActionCache + LocalFiles + Catalog {
    /// Returns one sentence for each problem of the implementation.
    fn troubles(&self) -> Vec<String>;

    /// Returns how many blobs the implementation has found damaged and taken out of service,
    /// including those that upkeep found and no request asked for.
    fn damaged(&self) -> u64 {
        0
    }

    /// Makes one small write and one small read, which take long only if the disk hangs.
    fn probe(&self) -> Result<(), StoreError>;

    /// Stops cleanly. No call follows.
    fn close(&self) -> Result<(), StoreError>;
}

impl StoreBackend for MemoryStore {
    fn troubles(&self) -> Vec<String> {
        Vec::new()
    }

    fn probe(&self) -> Result<(), StoreError> {
        self.find_missing(&[], AccessKind::Peek).map(drop)
    }

    fn close(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

impl StoreBackend for DiskStore {
    fn troubles(&self) -> Vec<String> {
        DiskStore::troubles(self)
    }

    fn damaged(&self) -> u64 {
        let counters = self.counters();
        counters.damaged + counters.torn
    }

    fn probe(&self) -> Result<(), StoreError> {
        DiskStore::probe(self)
    }

    fn close(&self) -> Result<(), StoreError> {
        DiskStore::close(self)
    }
}

/// A store with its decorators and its maintenance.
pub struct Store {
    backend: Arc<dyn StoreBackend>,
    blobs: Box<dyn BlobStore>,
    actions: Box<dyn ActionCache>,
    files: Box<dyn LocalFiles>,
    room: Box<dyn EvictionSteps>,
    meter: Arc<Meter>,
    limit_bytes: u64,
    upkeep_at: Mutex<Option<Stopwatch>>,
}

/// Hides the type parameter of [`SharedEvictor`].
trait EvictionSteps: Send + Sync {
    /// Makes one step of eviction. Returns whether more is due at once.
    fn evict(&self) -> Result<bool, StoreError>;
}

impl<S: BlobStore + Catalog> EvictionSteps for Arc<SharedEvictor<S>> {
    fn evict(&self) -> Result<bool, StoreError> {
        self.step().map(|step| step.more_is_due)
    }
}

impl Store {
    /// Opens the store in the settings' directory, or makes one if there is none.
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

    /// Makes a store that lasts as long as the process, for tests. The settings' directory is
    /// ignored.
    pub fn in_memory(settings: StoreSettings) -> Store {
        let memory = MemoryStore::limited(Arc::clone(&settings.clock), settings.limit_bytes);
        Store::around(Arc::new(memory), settings)
    }

    fn around<B: StoreBackend + 'static>(backend: Arc<B>, settings: StoreSettings) -> Store {
        let StoreSettings { limit_bytes, reserve_bytes, blob_bytes_max, clock, .. } = settings;
        let meter = Arc::new(Meter::default());
        let limits = SizeLimits { limit_bytes, reserve_bytes };
        let room = Arc::new(SharedEvictor::new(
            Arc::clone(&backend),
            Arc::clone(&clock),
            limits,
            Arc::clone(&meter),
        ));
        // From the inside out. `roomy` is next to the backend, so that every write evicts when it finds no room.
        // `verified` checks uploaded bytes against their digests. `present` caches which blobs exist. `complete`
        // returns only results whose blobs exist, and asks `present` for them. Metering is outermost and counts what
        // callers see.
        let roomy = Arc::new(EvictingStore::new(Arc::clone(&backend), Arc::clone(&room)));
        let verified = Arc::new(VerifyingStore::new(Arc::clone(&roomy), blob_bytes_max));
        let present = Arc::new(PresenceCache::new(verified, Arc::clone(&clock)));
        let complete = CompleteActionCache::new(
            Arc::clone(&roomy),
            Arc::clone(&present),
            Arc::clone(&clock),
            Arc::new(TreeCache::default()),
            Arc::clone(&meter),
        );
        Store {
            blobs: Box::new(MeteredStore::new(present, Arc::clone(&meter))),
            actions: Box::new(MeteredStore::new(Arc::new(complete), Arc::clone(&meter))),
            // Local files skip `verified`, because the backend computes their digests itself.
            files: Box::new(MeteredStore::new(roomy, Arc::clone(&meter))),
            room: Box::new(room),
            backend,
            meter,
            limit_bytes,
            upkeep_at: Mutex::new(None),
        }
    }

    /// Returns the interface for blobs.
    pub fn blobs(&self) -> &dyn BlobStore {
        &*self.blobs
    }

    /// Returns the interface for action results, which returns only complete ones (STO-03).
    pub fn actions(&self) -> &dyn ActionCache {
        &*self.actions
    }

    /// Returns the interface for files of this machine.
    pub fn files(&self) -> &dyn LocalFiles {
        &*self.files
    }

    /// Returns the most bytes that the store may occupy.
    pub fn limit_bytes(&self) -> u64 {
        self.limit_bytes
    }

    /// Returns the store's size and problems.
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

    /// Returns how often things have happened since the store was opened.
    pub fn counters(&self) -> Counters {
        let counters = self.meter.read();
        Counters { damaged: counters.damaged.max(self.backend.damaged()), ..counters }
    }

    /// Makes one bounded step of maintenance: eviction if it is due, and the implementation's own
    /// upkeep. It may block and is meant for a thread of its own; no request waits for it. After
    /// [`StoreError::Stuck`] the caller has to close the store and open it again; until then
    /// it can be read.
    pub fn maintain(&self) -> Result<Maintenance, StoreError> {
        // Eviction may have a thousand steps to make in a row. Upkeep gets its turn every second
        // nevertheless, also where eviction fails: it frees the database's deleted records and
        // writes out uses, which eviction relies on.
        let evicting = self.room.evict();
        let mut upkeep_at = self.upkeep_at.lock();
        let is_due = upkeep_at.is_none_or(|then| then.elapsed() >= UPKEEP_EVERY);
        let mut more_is_due = matches!(evicting, Ok(true));
        if is_due || !more_is_due {
            more_is_due |= self.backend.upkeep()?;
            *upkeep_at = Some(Stopwatch::start());
        }
        evicting.map(|_| Maintenance { more_is_due })
    }

    /// Makes one small write and one small read, by which the caller learns whether the store
    /// answers: both are quick unless the disk hangs, and then this blocks as long as that lasts. An
    /// error is an answer, too. Nothing that a caller stored is read or changed.
    pub fn probe(&self) -> Result<(), StoreError> {
        self.backend.probe()
    }

    /// Stops cleanly, so that the next start need not hash recently stored blobs. What is stored
    /// afterwards is refused.
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
    use crate::store::ActionKey;

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
    fn sto_03_the_composed_store_returns_only_complete_results() {
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
    fn a_probe_leaves_nothing_in_the_store() {
        let dir = tempfile::tempdir().unwrap();
        let on_disk = Store::open(StoreSettings::new(dir.path())).unwrap();
        for store in [store(1 << 20).0, on_disk] {
            store.probe().unwrap();
            let status = store.status();
            assert_eq!((status.blobs, status.action_results, store.counters()), (0, 0, Counters::default()));
        }
    }

    #[test]
    fn pages_list_every_result_once_also_those_of_other_instances() {
        let dir = tempfile::tempdir().unwrap();
        let on_disk = Store::open(StoreSettings::new(dir.path())).unwrap();
        for store in [store(1 << 20).0, on_disk] {
            let key = |instance: &str, text: &[u8]| ActionKey {
                instance: instance.into(),
                function: SHA256,
                hash: SHA256.hash(text),
            };
            let stored = [key("", b"1"), key("", b"2"), key("other", b"1")];
            let result = |key: &ActionKey| ActionResult {
                stdout_raw: key.hash.0.to_vec().into(),
                ..ActionResult::default()
            };
            for key in &stored {
                store.actions().put(key, &result(key)).unwrap();
            }
            let (mut found, mut after) = (Vec::new(), None);
            while let [(key, stored)] = &store.actions().page(after.as_ref(), 1).unwrap()[..] {
                assert_eq!(stored.decode().unwrap().stdout_raw, result(key).stdout_raw);
                found.push(key.clone());
                after = Some(key.clone());
            }
            found.sort();
            assert_eq!(found, std::collections::BTreeSet::from(stored).into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn sto_06_maintenance_evicts_before_a_writer_needs_the_room() {
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
