//! Opening, upkeep and closing of the store on disk.
//!
//! The operations for callers are in `reader`, `writer`, `actions`, `ingest`, `place` and
//! `catalog`; all of them work on the `StoreInner` that is declared here.
//!
//! Lock order, outermost first: hash locks, the epoch, a shard of `uses`, the ledger.
//! RocksDB's own locks come last.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

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
use super::uses::RecordedUses;
use crate::clock::{Clock, SystemClock, duration_ms};
use crate::error::{StoreError, with_causes};
use crate::evict::SizeLimits;

/// How long an epoch lasts. After an unclean stop, the blobs that were stored within about that
/// time are hashed before they are served.
const EPOCH: Duration = Duration::from_secs(3 * 60);

/// The key of the totals in `meta`.
pub(super) const TOTALS: &[u8] = b"totals";

/// Where a store is, and its limits.
#[derive(Clone)]
pub struct DiskSettings {
    /// The store's directory, which is made if it does not exist.
    pub dir: PathBuf,
    /// The most that blobs and database may occupy on the volume.
    pub limit_bytes: u64,
    /// How much of the volume the store leaves free.
    pub reserve_bytes: u64,
    /// The size of the largest blob that the store accepts.
    pub blob_bytes_max: u64,
    /// The source of time for ages and leases.
    pub clock: Arc<dyn Clock>,
}

impl DiskSettings {
    /// Returns settings without limits for a store at this path.
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

/// How often each thing happened in the store since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskCounters {
    /// Blobs whose bytes had changed although only the store has the file: the disk damaged them.
    pub damaged: u64,
    /// Blobs whose bytes had changed and whose inode has names outside the store: another process
    /// wrote to it.
    pub overwritten: u64,
    /// Blobs that an unclean stop had left incomplete or lost.
    pub torn: u64,
    /// Suspect blobs that turned out to be whole.
    pub verified: u64,
    /// Files that belonged to no blob and were deleted.
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

/// A store on disk. Dropping it without [`DiskStore::close`] is an unclean stop.
pub struct DiskStore {
    pub(super) inner: Arc<StoreInner>,
}

/// The state that the parts of the store share.
pub(super) struct StoreInner {
    pub(super) database: Database,
    pub(super) layout: Layout,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) blob_bytes_max: u64,
    pub(super) ledger: Arc<Ledger>,
    pub(super) locks: HashLocks,
    pub(super) uses: RecordedUses,
    pub(super) epochs: Epochs,
    pub(super) pairs: LinkSupport,
    pub(super) counted: AtomicDiskCounters,
    /// Incremented before and again after every deletion of a blob. A reader that finds the same
    /// value twice knows that no deletion ended in between.
    pub(super) deletions: AtomicU64,
    reaper: Mutex<Reaper>,
    compactor: Mutex<Compactor>,
    epoch_began_ms: AtomicU64,
    /// How often in a row the database reported a full volume although the volume had room.
    false_full_count: AtomicU64,
    trouble_at_start: Option<String>,
    trouble: Mutex<Option<String>>,
}

/// How many turns of upkeep in a row the database may wrongly report a full volume before it counts
/// as stuck.
const FALSE_FULL_MAX: u64 = 1;

impl DiskStore {
    /// Opens the store, or makes one. Opening counts nothing and reads no blob, so it takes the same
    /// time for a store of any size. A store that cannot be read is set aside; `troubles` then
    /// says so.
    pub fn open(settings: DiskSettings) -> Result<DiskStore, StoreError> {
        // The lock comes first: only the process that holds it may look at the files or set them aside.
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
        // An epoch begins before anything can be stored, because every blob records its epoch.
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
            uses: RecordedUses::new(),
            epochs,
            pairs: LinkSupport::default(),
            counted: AtomicDiskCounters::default(),
            deletions: AtomicU64::new(0),
            reaper: Mutex::new(Reaper::new()),
            compactor: Mutex::default(),
            false_full_count: AtomicU64::new(0),
            trouble_at_start: trouble,
            trouble: Mutex::new(None),
        };
        Ok(DiskStore { inner: Arc::new(inner) })
    }

    /// Returns how often each thing happened since the store was opened.
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

    /// Returns one sentence for each problem.
    pub fn troubles(&self) -> Vec<String> {
        let lasting = self.inner.trouble.lock().clone();
        let damaged = self.counters().damaged;
        let damage = (damaged > 0)
            .then(|| format!("{damaged} blobs were damaged on disk and are out of service: check the disk"));
        self.inner.trouble_at_start.clone().into_iter().chain(lasting).chain(damage).collect()
    }

    /// Writes a record, and reads the start of a file from the disk and not from the operating
    /// system's cache. Blocks as long as the disk hangs.
    pub fn probe(&self) -> Result<(), StoreError> {
        self.inner.database.write_probe()?;
        let version = self.inner.layout.version();
        read_from_disk(&version).map_err(|error| StoreError::io("read", &version, error))
    }

    /// Ends the epoch now, so that everything stored so far survives a loss of power. Blocks until
    /// the volume is synced. Upkeep does the same from time to time.
    pub fn sync(&self) -> Result<(), StoreError> {
        self.inner.uses.flush(&self.inner.database)?;
        self.inner.epochs.end(&self.inner.database, self.inner.layout.root()).map(drop)
    }

    /// Stops cleanly. Blobs and results that are stored afterwards are refused.
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

    /// Makes one bounded step of the work that no request should wait for. Returns whether more is
    /// due at once.
    pub(super) fn upkeep_step(&self) -> Result<bool, StoreError> {
        let result = self.upkeep_parts();
        let mut trouble = self.trouble.lock();
        *trouble = result.as_ref().err().map(|error| with_causes(error));
        result
    }

    /// Fails with `Stuck` if the database has given up writing.
    ///
    /// After a full volume, RocksDB usually goes on by itself once there is room again; after some
    /// errors that it met meanwhile it does not. So a database that still reports a full volume,
    /// although the ledger finds room, gets [`FALSE_FULL_MAX`] more turns of upkeep.
    fn check_that_it_writes(&self) -> Result<(), StoreError> {
        let checked = self.database.check_that_it_writes();
        let (Err(StoreError::NoSpace { why, .. }), Ok(_)) = (&checked, self.ledger.reserve(1)) else {
            self.false_full_count.store(0, Ordering::Relaxed);
            return checked;
        };
        if self.false_full_count.fetch_add(1, Ordering::Relaxed) < FALSE_FULL_MAX {
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
        let compacting = self.compactor.lock().step(self);
        let reaping = self.reaper.lock().step(self)?;
        Ok(compacting || reaping)
    }
}

/// Reads the start of a file past the operating system's cache. Does nothing on a filesystem that
/// cannot do that, such as one in memory.
#[cfg(target_os = "linux")]
fn read_from_disk(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};

    /// A multiple of the sizes in which disks read.
    const BLOCK_BYTES: usize = 4096;
    let file = match std::fs::OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(path) {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => return Ok(()),
        opened => opened?,
    };
    // The kernel requires that the address of the buffer is such a multiple, too.
    let mut buffer = vec![0; 2 * BLOCK_BYTES];
    let start = buffer.as_ptr().align_offset(BLOCK_BYTES);
    file.read_at(&mut buffer[start..start + BLOCK_BYTES], 0).map(drop)
}

#[cfg(not(target_os = "linux"))]
fn read_from_disk(path: &Path) -> io::Result<()> {
    std::fs::read(path).map(drop)
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

/// Measures the store's directory and its volume.
struct StoreVolume {
    root: PathBuf,
    db: PathBuf,
    fans: Vec<PathBuf>,
}

impl Measure for StoreVolume {
    fn database_bytes(&self) -> Result<u64, StoreError> {
        let sum = || {
            // Directories occupy space as well, in a large store some 100 MB.
            let blocks = |path: &PathBuf| Ok(path.metadata()?.blocks());
            let fans: io::Result<u64> = self.fans.iter().map(blocks).sum();
            let mut bytes = fans? * 512;
            for entry in self.db.read_dir()? {
                // RocksDB may delete a file between the listing and this call.
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

/// Returns how many bytes this user may still write to the volume.
fn volume_free_bytes(path: &Path) -> Result<u64, StoreError> {
    let stat = nix::sys::statvfs::statvfs(path)
        .map_err(|errno| StoreError::io("measure the volume of", path, errno.into()))?;
    Ok(stat.blocks_available().saturating_mul(stat.fragment_size()))
}
