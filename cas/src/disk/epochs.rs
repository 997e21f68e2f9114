//! Epochs: which blobs an unclean stop may have left incomplete.
//!
//! Nothing is synced when a blob is stored. Instead every blob records the number of the epoch in
//! which it was stored. Every few minutes the epoch ends: new blobs belong to the next one, the
//! volume and the log are synced, and the ended epoch is recorded as durable. After an unclean
//! stop, the blobs of epochs that were not durable are suspect: they are hashed before they are
//! first served (STO-02). A stop is clean only if `close` recorded it; a crash of the process
//! counts like a loss of power, since hashing the blobs of a few minutes is cheap.
//!
//! This module knows numbers and the table `meta`; it hashes nothing itself.
//!
//! Invariant: an epoch is recorded as durable only if all of its blobs were written before the
//! sync began.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use rocksdb::WriteBatch;

use super::database::{Database, DbTable};
use crate::error::StoreError;

const EPOCH: &[u8] = b"epoch";
const DURABLE: &[u8] = b"durable_epoch";
const CLEAN: &[u8] = b"clean";
const SUSPECTS: &[u8] = b"suspects";

/// More ranges than this are merged into one, so that the list stays short in a store that is never
/// stopped cleanly.
const RANGES_MAX: usize = 16;

/// Epochs whose blobs are suspect: those after the first number, up to and including the second.
type SuspectRange = (u64, u64);

/// The current epoch, and the suspect epochs.
pub(super) struct Epochs {
    current: RwLock<EpochState>,
    /// Whether a write has begun in the current epoch.
    used: AtomicBool,
    suspects: RwLock<Vec<SuspectRange>>,
    has_suspects: AtomicBool,
    /// How often suspects were added since the start.
    suspect_generation: AtomicU64,
    /// Held while an epoch ends: only one ends at a time.
    ending: Mutex<()>,
}

struct EpochState {
    epoch: u64,
    closed: bool,
}

/// Keeps the current epoch from ending while a blob is stored in it.
pub(super) struct EpochGuard<'a> {
    state: RwLockReadGuard<'a, EpochState>,
}

impl EpochGuard<'_> {
    /// Returns the epoch to record in what is stored.
    pub(super) fn epoch(&self) -> u64 {
        self.state.epoch
    }
}

impl Epochs {
    /// Finds out how the store was stopped, and begins an epoch.
    pub(super) fn begin(database: &Database) -> Result<Epochs, StoreError> {
        let last = number(database, EPOCH)?;
        let durable = number(database, DURABLE)?;
        // Epochs up to `durable` were synced. Later ones are only trusted if the store was closed properly.
        let clean = number(database, CLEAN)? == 1;
        let mut suspects = ranges(database)?;
        if !clean && durable < last {
            suspects = add_range(suspects, (durable, last));
        }
        let epoch = last + 1;
        let meta = database.table(DbTable::Meta);
        let mut batch = WriteBatch::default();
        batch.put_cf(meta, EPOCH, epoch.to_le_bytes());
        // From now on a stop is unclean unless `finish` records the opposite.
        batch.put_cf(meta, CLEAN, 0u64.to_le_bytes());
        batch.put_cf(meta, SUSPECTS, encode(&suspects));
        // For the reason in `begin_next`, it would suffice to write this. The sync is made once for each start, and
        // makes the stop an unclean one whatever the log loses.
        database.write_synced(batch, "begin an epoch")?;
        Ok(Epochs {
            current: RwLock::new(EpochState { epoch, closed: false }),
            used: AtomicBool::new(false),
            has_suspects: AtomicBool::new(!suspects.is_empty()),
            suspects: RwLock::new(suspects),
            suspect_generation: AtomicU64::new(0),
            ending: Mutex::default(),
        })
    }

    /// Enters the current epoch, or fails with `Closing`. What the caller writes before it drops
    /// the guard belongs to that epoch.
    pub(super) fn enter(&self) -> Result<EpochGuard<'_>, StoreError> {
        let state = self.current.read();
        if state.closed {
            return Err(StoreError::Closing);
        }
        // The guard's read lock orders this store before `begin_next`, which clears the flag under the write lock.
        self.used.store(true, Ordering::Relaxed);
        Ok(EpochGuard { state })
    }

    /// Tells whether blobs of this epoch have to be hashed before they are served.
    pub(super) fn is_suspect(&self, epoch: u64) -> bool {
        self.has_suspects()
            && self.suspects.read().iter().any(|&(after, last)| after < epoch && epoch <= last)
    }

    /// Tells whether any blob may be suspect.
    pub(super) fn has_suspects(&self) -> bool {
        self.has_suspects.load(Ordering::Relaxed)
    }

    /// Returns a number that changes whenever suspects are added.
    pub(super) fn suspect_generation(&self) -> u64 {
        self.suspect_generation.load(Ordering::SeqCst)
    }

    /// Records that every blob was examined, so that none is suspect any more. Does nothing if
    /// suspects were added since the caller read this `suspect_generation`.
    pub(super) fn clear_suspects(
        &self,
        database: &Database,
        suspect_generation: u64,
    ) -> Result<(), StoreError> {
        let mut suspects = self.suspects.write();
        // A sync failed while the caller examined blobs, so blobs that it has passed may be suspect again.
        if self.suspect_generation() != suspect_generation {
            return Ok(());
        }
        let mut batch = WriteBatch::default();
        batch.put_cf(database.table(DbTable::Meta), SUSPECTS, encode(&[]));
        // Syncing this write also syncs what the log has before it: the new records of the
        // examined blobs.
        database.write_synced(batch, "record that no blob is suspect")?;
        suspects.clear();
        self.has_suspects.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Ends the epoch if anything was stored in it, and makes it durable. Blocks until the volume
    /// is synced; writers do not wait for that. Returns whether an epoch ended.
    pub(super) fn end(&self, database: &Database, root: &Path) -> Result<bool, StoreError> {
        let _ending = self.ending.lock();
        if !self.used.load(Ordering::Relaxed) {
            return Ok(false);
        }
        // Writers use the next epoch from here on, so they do not wait for the sync below, and the sync covers
        // every write of the ended epoch.
        let ended = self.begin_next(database)?;
        if let Err(error) = sync_volume(root).and_then(|()| database.sync_log()) {
            self.distrust(database, ended)?;
            return Err(error);
        }
        // This record itself is not synced. If a loss of power loses it, the epoch is suspect and its blobs are
        // hashed once more.
        record(database, DURABLE, ended)?;
        Ok(true)
    }

    /// Makes all epochs suspect that were not durable when a sync failed. The system reports a
    /// failed write once and then drops the data, so no later sync can make them durable.
    fn distrust(&self, database: &Database, ended: u64) -> Result<(), StoreError> {
        let durable = number(database, DURABLE)?;
        let mut suspects = self.suspects.write();
        *suspects = add_range(std::mem::take(&mut suspects), (durable.min(ended), ended));
        self.has_suspects.store(true, Ordering::Relaxed);
        self.suspect_generation.fetch_add(1, Ordering::SeqCst);
        let mut batch = WriteBatch::default();
        batch.put_cf(database.table(DbTable::Meta), SUSPECTS, encode(&suspects));
        database.write(batch, "record which epochs are suspect")
    }

    /// Waits until all writes of the current epoch have ended, begins the next epoch, and returns
    /// the number of the ended one.
    fn begin_next(&self, database: &Database) -> Result<u64, StoreError> {
        let mut state = self.current.write();
        // This record is not synced, because all writers would wait for that. What survives a loss of power is
        // the log up to some place, and RocksDB syncs the log before it keeps a part of it as a table file. All
        // records with the new number come after this one. So if it is lost, they are lost too, and the number
        // can be used again.
        record(database, EPOCH, state.epoch + 1)?;
        state.epoch += 1;
        self.used.store(false, Ordering::Relaxed);
        Ok(state.epoch - 1)
    }

    /// Makes every later `enter` fail, and waits for the writes that are under way.
    pub(super) fn close(&self) {
        self.current.write().closed = true;
    }

    /// Makes all epochs durable and records that the stop is clean. Comes after `close`.
    pub(super) fn finish(&self, database: &Database, root: &Path) -> Result<(), StoreError> {
        sync_volume(root)?;
        let state = self.current.read();
        let mut batch = WriteBatch::default();
        let meta = database.table(DbTable::Meta);
        batch.put_cf(meta, DURABLE, state.epoch.to_le_bytes());
        batch.put_cf(meta, CLEAN, 1u64.to_le_bytes());
        database.write_synced(batch, "record a clean stop")
    }
}

fn number(database: &Database, key: &[u8]) -> Result<u64, StoreError> {
    let doing = "read an epoch";
    let Some(value) = database.get(DbTable::Meta, key, doing)? else { return Ok(0) };
    let bytes = value[..].try_into().map_err(|_| malformed(doing))?;
    Ok(u64::from_le_bytes(bytes))
}

fn record(database: &Database, key: &[u8], number: u64) -> Result<(), StoreError> {
    let mut batch = WriteBatch::default();
    batch.put_cf(database.table(DbTable::Meta), key, number.to_le_bytes());
    database.write(batch, "record an epoch")
}

fn ranges(database: &Database) -> Result<Vec<SuspectRange>, StoreError> {
    let doing = "read which epochs are suspect";
    let Some(value) = database.get(DbTable::Meta, SUSPECTS, doing)? else { return Ok(Vec::new()) };
    let (pairs, rest) = value.as_chunks::<16>();
    if !rest.is_empty() {
        return Err(malformed(doing));
    }
    let decode = |pair: &[u8; 16]| {
        let (after, last) = pair.split_at(8);
        let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("half of sixteen bytes"));
        (number(after), number(last))
    };
    Ok(pairs.iter().map(decode).collect())
}

fn encode(ranges: &[SuspectRange]) -> Vec<u8> {
    ranges.iter().flat_map(|&(after, last)| [after.to_le_bytes(), last.to_le_bytes()]).flatten().collect()
}

/// Adds a range, which lies after all others or overlaps the last one.
fn add_range(mut ranges: Vec<SuspectRange>, new: SuspectRange) -> Vec<SuspectRange> {
    match ranges.last_mut() {
        Some(last) if new.0 <= last.1 => *last = (last.0.min(new.0), last.1.max(new.1)),
        _ => ranges.push(new),
    }
    match (ranges.first().copied(), ranges.last().copied()) {
        (Some(first), Some(last)) if ranges.len() > RANGES_MAX => vec![(first.0, last.1)],
        _ => ranges,
    }
}

fn malformed(doing: &'static str) -> StoreError {
    StoreError::Database { doing, message: "it is malformed".to_owned() }
}

/// Writes all data of the volume to the disk.
fn sync_volume(root: &Path) -> Result<(), StoreError> {
    let sync = || {
        let directory = File::open(root)?;
        // SAFETY: the descriptor is open as long as `directory` lives.
        match unsafe { libc::syncfs(directory.as_raw_fd()) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    sync().map_err(|error| StoreError::io("sync the volume of", root, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(dir: &Path, fresh: bool) -> Database {
        Database::open(dir, fresh, u64::MAX).unwrap_or_else(|_| panic!("the database opens"))
    }

    fn store_one(epochs: &Epochs) -> u64 {
        epochs.enter().unwrap().epoch()
    }

    #[test]
    fn sto_02_epochs_that_were_not_durable_are_suspect_after_an_unclean_stop() {
        let dir = tempfile::tempdir().unwrap();
        let (durable, torn) = {
            let database = open(dir.path(), true);
            let epochs = Epochs::begin(&database).unwrap();
            let durable = store_one(&epochs);
            assert!(epochs.end(&database, dir.path()).unwrap());
            assert!(!epochs.end(&database, dir.path()).unwrap(), "nothing new to sync");
            (durable, store_one(&epochs))
        };
        let torn_again = {
            let database = open(dir.path(), false);
            let epochs = Epochs::begin(&database).unwrap();
            assert!(!epochs.is_suspect(durable) && epochs.is_suspect(torn));
            let now = store_one(&epochs);
            assert!(!epochs.is_suspect(now));
            now
        };
        let database = open(dir.path(), false);
        let epochs = Epochs::begin(&database).unwrap();
        assert!(!epochs.is_suspect(durable) && epochs.is_suspect(torn) && epochs.is_suspect(torn_again));
        epochs.clear_suspects(&database, epochs.suspect_generation()).unwrap();
        assert!(!epochs.is_suspect(torn) && !epochs.has_suspects());
    }

    #[test]
    fn sto_02_a_clean_stop_leaves_no_new_suspects_and_keeps_old_ones() {
        let dir = tempfile::tempdir().unwrap();
        let torn = store_one(&Epochs::begin(&open(dir.path(), true)).unwrap());
        let kept = {
            let database = open(dir.path(), false);
            let epochs = Epochs::begin(&database).unwrap();
            let kept = store_one(&epochs);
            epochs.close();
            assert!(matches!(epochs.enter().err(), Some(StoreError::Closing)));
            epochs.finish(&database, dir.path()).unwrap();
            kept
        };
        let epochs = Epochs::begin(&open(dir.path(), false)).unwrap();
        assert!(epochs.is_suspect(torn) && !epochs.is_suspect(kept));
    }

    #[test]
    fn many_ranges_are_merged_into_one_that_covers_them() {
        let ranges = (0..100).fold(Vec::new(), |ranges, n| add_range(ranges, (10 * n, 10 * n + 5)));
        assert!(ranges.len() <= RANGES_MAX);
        assert_eq!((ranges[0].0, ranges.last().unwrap().1), (0, 995));
        assert_eq!(add_range(vec![(3, 5)], (4, 9)), [(3, 9)]);
    }
}
