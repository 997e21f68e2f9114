//! The store on disk, put together: opening, upkeep and closing.
//!
//! What it does for its callers is in `reader`, `writer`, `actions`, `ingest`, `place` and
//! `catalog`; all of them work on the `StoreInner` declared here.
//!
//! Lock order, outermost first: hash locks, the epoch, a shard of `uses`, the ledger.
//! RocksDB's own locks come last.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::compact::Compactor;
use super::database::{Database, DbTable, OpenError};
use super::epochs::Epochs;
use super::format::{self, PreparedStore};
use super::layout::{FAN_OUT, Layout};
use super::ledger::{Ledger, Measure};
use super::link::LinkSupport;
use super::locks::HashLocks;
use super::reap::Reaper;
use super::record::Totals;
use super::uses::Uses;
use crate::clock::{Clock, SystemClock, duration_ms};
use crate::error::StoreError;
use crate::evict::SizeLimits;

/// How long an epoch lasts: after an unclean stop, what was stored within that time is
/// hashed before it is served.
const EPOCH: Duration = Duration::from_secs(3 * 60);

/// The key of the totals in `meta`.
pub(super) const TOTALS: &[u8] = b"totals";

/// Where a store is and how much it may take.
#[derive(Clone)]
pub struct DiskSettings {
    /// Its directory, made if need be.
    pub dir: PathBuf,
    /// What it may occupy on the volume, blobs and database.
    pub limit_bytes: u64,
    /// What it leaves free on the volume.
    pub reserve_bytes: u64,
    /// The largest blob it takes.
    pub blob_bytes_max: u64,
    /// What tells it the time.
    pub clock: Arc<dyn Clock>,
}

impl DiskSettings {
    /// A store without limits at this path.
    pub fn new(dir: impl Into<PathBuf>) -> DiskSettings {
        DiskSettings {
            dir: dir.into(),
            limit_bytes: u64::MAX,
            reserve_bytes: 0,
            blob_bytes_max: u64::MAX,
            clock: Arc::new(SystemClock),
        }
    }
}

/// What happened in the store since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskCounters {
    /// Blobs taken out of service because their bytes had changed, which nobody may change.
    pub damaged: u64,
    /// The same of blobs whose inode others have, and have written to.
    pub overwritten: u64,
    /// Blobs that an unclean stop had torn or lost.
    pub torn: u64,
    /// Suspects that turned out to be whole.
    pub verified: u64,
    /// Files of no blob that were deleted.
    pub reaped: u64,
}

#[derive(Default)]
pub(super) struct AtomicDiskCounters {
    pub(super) damaged: AtomicU64,
    pub(super) overwritten: AtomicU64,
    pub(super) torn: AtomicU64,
    pub(super) verified: AtomicU64,
    pub(super) reaped: AtomicU64,
}

/// A store on disk. Dropping it without `close` is an unclean stop.
pub struct DiskStore {
    pub(super) inner: Arc<StoreInner>,
}

/// What the parts of the store share.
pub(super) struct StoreInner {
    pub(super) database: Database,
    pub(super) layout: Layout,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) blob_bytes_max: u64,
    pub(super) ledger: Arc<Ledger>,
    pub(super) locks: HashLocks,
    pub(super) uses: Uses,
    pub(super) epochs: Epochs,
    pub(super) pairs: LinkSupport,
    pub(super) counted: AtomicDiskCounters,
    /// Moves before and after every deletion.
    pub(super) deletions: AtomicU64,
    reaper: Mutex<Reaper>,
    compactor: Mutex<Compactor>,
    epoch_began_ms: AtomicU64,
    /// How often in a row the database found no room where there was some.
    full_in_vain: AtomicU64,
    trouble_at_start: Option<String>,
    trouble: Mutex<Option<String>>,
}

/// So many turns of upkeep the database may find no room where there is some.
const FULL_IN_VAIN_MAX: u64 = 1;

impl DiskStore {
    /// Opens the store, or begins one. NameCounts nothing and reads no blob, so it takes the
    /// same time for a store of any size.
    pub fn open(settings: DiskSettings) -> Result<DiskStore, StoreError> {
        let layout = Layout::lock(&settings.dir)?;
        let (found, mut trouble) = format::prepare(&layout)?;
        let database = match Database::open(&layout.db(), found == PreparedStore::Fresh, settings.limit_bytes)
        {
            Ok(database) => database,
            Err(OpenError::Failed(error)) => return Err(error),
            Err(OpenError::Unreadable(why)) => {
                trouble = Some(format::set_aside(&layout, &why)?);
                reopen(&layout, settings.limit_bytes)?
            }
        };
        let epochs = Epochs::begin(&database)?;
        let limits = SizeLimits { limit_bytes: settings.limit_bytes, reserve_bytes: settings.reserve_bytes };
        let volume = StoreVolume {
            root: layout.root().to_owned(),
            db: layout.db(),
            fans: (0..FAN_OUT).map(|first| layout.fan(first)).collect(),
        };
        let ledger = Ledger::new(limits, totals(&database)?, Box::new(volume))?;
        let inner = StoreInner {
            epoch_began_ms: AtomicU64::new(settings.clock.now_ms()),
            database,
            layout,
            clock: settings.clock,
            blob_bytes_max: settings.blob_bytes_max,
            ledger,
            locks: HashLocks::new(),
            uses: Uses::new(),
            epochs,
            pairs: LinkSupport::default(),
            counted: AtomicDiskCounters::default(),
            deletions: AtomicU64::new(0),
            reaper: Mutex::new(Reaper::new()),
            compactor: Mutex::default(),
            full_in_vain: AtomicU64::new(0),
            trouble_at_start: trouble,
            trouble: Mutex::new(None),
        };
        Ok(DiskStore { inner: Arc::new(inner) })
    }

    /// What happened since it was opened.
    pub fn counters(&self) -> DiskCounters {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        DiskCounters {
            damaged: read(&self.inner.counted.damaged),
            overwritten: read(&self.inner.counted.overwritten),
            torn: read(&self.inner.counted.torn),
            verified: read(&self.inner.counted.verified),
            reaped: read(&self.inner.counted.reaped),
        }
    }

    /// What is wrong, in words; nothing when nothing is.
    pub fn troubles(&self) -> Vec<String> {
        let lasting = self.inner.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let damaged = self.counters().damaged;
        let damage = (damaged > 0)
            .then(|| format!("{damaged} blobs were damaged on disk and are out of service: check the disk"));
        self.inner.trouble_at_start.clone().into_iter().chain(lasting).chain(damage).collect()
    }

    /// Ends the epoch now: everything stored so far survives a loss of power. For tests and
    /// for those about to lose power; upkeep does it from time to time.
    pub fn sync(&self) -> Result<(), StoreError> {
        self.inner.uses.flush(&self.inner.database)?;
        self.inner.epochs.end(&self.inner.database, self.inner.layout.root()).map(drop)
    }

    /// Stops cleanly. What is stored afterwards is refused.
    pub fn close(&self) -> Result<(), StoreError> {
        self.inner.epochs.close();
        self.inner.uses.flush(&self.inner.database)?;
        self.inner.database.flush()?;
        self.inner.epochs.finish(&self.inner.database, self.inner.layout.root())
    }
}

impl StoreInner {
    pub(super) fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    /// One bounded step of what nobody should wait for. Whether more is due at once.
    pub(super) fn upkeep_step(&self) -> Result<bool, StoreError> {
        let result = self.upkeep_parts();
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        *trouble = result.as_ref().err().map(describe);
        result
    }

    /// RocksDB goes on by itself once a full volume has room again, but not after everything
    /// that it may have met meanwhile. It is given some turns.
    fn check_that_it_writes(&self) -> Result<(), StoreError> {
        let checked = self.database.check_that_it_writes();
        let (Err(StoreError::NoSpace { why, .. }), Ok(_)) = (&checked, self.ledger.reserve(1)) else {
            self.full_in_vain.store(0, Ordering::Relaxed);
            return checked;
        };
        if self.full_in_vain.fetch_add(1, Ordering::Relaxed) < FULL_IN_VAIN_MAX {
            return checked;
        }
        Err(StoreError::Stuck { message: why.clone() })
    }

    fn upkeep_parts(&self) -> Result<bool, StoreError> {
        self.ledger.measure_now()?;
        self.check_that_it_writes()?;
        self.uses.flush(&self.database)?;
        let now_ms = self.now_ms();
        let began_ms = self.epoch_began_ms.load(Ordering::Relaxed);
        // A clock that went back must not keep an epoch from ending.
        if now_ms.abs_diff(began_ms) >= duration_ms(EPOCH) {
            self.epoch_began_ms.store(now_ms, Ordering::Relaxed);
            self.epochs.end(&self.database, self.layout.root())?;
        }
        let compacting = self.compactor.lock().unwrap_or_else(PoisonError::into_inner).step(self);
        let reaping = self.reaper.lock().unwrap_or_else(PoisonError::into_inner).step(self)?;
        Ok(compacting || reaping)
    }
}

/// An error with what caused it, in one line.
fn describe(error: &StoreError) -> String {
    let source = std::error::Error::source(error);
    source.map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

fn reopen(layout: &Layout, limit_bytes: u64) -> Result<Database, StoreError> {
    Database::open(&layout.db(), true, limit_bytes).map_err(|error| match error {
        OpenError::Failed(error) => error,
        OpenError::Unreadable(why) => {
            StoreError::Unusable { path: layout.db(), why: format!("could not be begun anew: {why}") }
        }
    })
}

fn totals(database: &Database) -> Result<Totals, StoreError> {
    let value = database.get(DbTable::Meta, TOTALS, "read the totals")?;
    value.map_or_else(|| Ok(Totals::default()), |value| Totals::decode(&value))
}

/// Measures the real thing.
struct StoreVolume {
    root: PathBuf,
    db: PathBuf,
    fans: Vec<PathBuf>,
}

impl Measure for StoreVolume {
    fn database_bytes(&self) -> Result<u64, StoreError> {
        let sum = || {
            // Directories occupy something as well, in a large store some 100 MB.
            let blocks = |path: &PathBuf| Ok(path.metadata()?.blocks());
            let fans: io::Result<u64> = self.fans.iter().map(blocks).sum();
            let mut bytes = fans? * 512;
            for entry in self.db.read_dir()? {
                // RocksDB deletes files while this looks at them.
                match entry?.metadata() {
                    Ok(metadata) => bytes += metadata.blocks() * 512,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(bytes)
        };
        sum().map_err(|error| StoreError::io("measure", &self.db, error))
    }

    fn volume_free_bytes(&self) -> Result<u64, StoreError> {
        volume_free_bytes(&self.root)
    }
}

/// What this user may still write to the volume.
fn volume_free_bytes(path: &Path) -> Result<u64, StoreError> {
    let stat = nix::sys::statvfs::statvfs(path)
        .map_err(|errno| StoreError::io("measure the volume of", path, errno.into()))?;
    Ok(stat.blocks_available().saturating_mul(stat.fragment_size()))
}
