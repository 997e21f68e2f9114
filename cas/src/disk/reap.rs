//! Clearing away what an unclean stop left behind, a little at a time.
//!
//! Once after every start: files in `tmp/` of processes that died, files in `blobs/` that
//! the index does not know, and blobs whose epoch is suspect, which are hashed so that no
//! reader has to. Deletes no blob that the index knows.
//!
//! Invariant: an orphan is deleted under the lock of its hash, after asking the index
//! again, so that a writer between its rename and its record loses nothing.

use std::fs::{self, ReadDir};
use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;

use super::database::DbTable;
use super::layout::FAN_OUT;
use super::record::{BlobRecord, decode_hash};
use super::store::StoreInner;
use crate::digest::Hash;
use crate::error::StoreError;

/// So many names are looked at in one step, which takes some milliseconds.
const NAMES_PER_STEP: usize = 512;

/// So many bytes are hashed in one step before it ends.
const HASHED_BYTES_PER_STEP: u64 = 64 << 20;

/// Where the round after a start has got to.
pub(super) struct Reaper {
    stage: ReapStage,
}

enum ReapStage {
    Temporary,
    Orphans { fan: usize, names: Option<ReadDir> },
    Suspects(SuspectScan),
    Done,
}

/// One look at every blob.
#[derive(Default)]
struct SuspectScan {
    after: Option<Hash>,
    /// Which suspect_generation there were when it began.
    suspect_generation: Option<u64>,
    /// Whether a blob could not be read, and so stays a suspect.
    failed: bool,
}

impl Reaper {
    pub(super) fn new() -> Reaper {
        Reaper { stage: ReapStage::Temporary }
    }

    /// One step. Whether there is more to do.
    pub(super) fn step(&mut self, store: &StoreInner) -> Result<bool, StoreError> {
        let next = match &mut self.stage {
            ReapStage::Temporary => {
                clear_temporary(store)?.then_some(ReapStage::Orphans { fan: 0, names: None })
            }
            ReapStage::Orphans { fan, names } => {
                clear_orphans(store, fan, names)?.then(|| ReapStage::Suspects(SuspectScan::default()))
            }
            ReapStage::Suspects(round) => examine_suspects(store, round)?.then_some(ReapStage::Done),
            ReapStage::Done => return Ok(false),
        };
        if let Some(next) = next {
            self.stage = next;
        }
        Ok(!matches!(self.stage, ReapStage::Done))
    }
}

/// Deletes some of what others left in `tmp/`. Whether that was all.
fn clear_temporary(store: &StoreInner) -> Result<bool, StoreError> {
    let tmp = store.layout.tmp();
    let mut left = NAMES_PER_STEP;
    for path in list(&tmp)? {
        let path = path.map_err(|error| StoreError::io("list", &tmp, error))?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        // A store that was set aside before has our own name, and is a directory.
        if name.is_some_and(|name| store.layout.is_own_tmp(name)) && !path.is_dir() {
            continue;
        }
        remove_some(&path, &mut left).map_err(|error| StoreError::io("delete", &path, error))?;
        if left == 0 {
            return Ok(false);
        }
        store.counted.reaped.fetch_add(1, Ordering::Relaxed);
    }
    Ok(true)
}

/// Deletes a file, or as much of a directory as is left to delete in this step.
fn remove_some(path: &Path, left: &mut usize) -> io::Result<()> {
    if *left == 0 {
        return Ok(());
    }
    *left -= 1;
    if !fs::symlink_metadata(path)?.is_dir() {
        return fs::remove_file(path);
    }
    for entry in fs::read_dir(path)? {
        remove_some(&entry?.path(), left)?;
        if *left == 0 {
            return Ok(());
        }
    }
    fs::remove_dir(path)
}

/// Deletes files of no blob. Whether all were looked at.
fn clear_orphans(
    store: &StoreInner,
    fan: &mut usize,
    names: &mut Option<ReadDir>,
) -> Result<bool, StoreError> {
    let mut hashes = Vec::new();
    while hashes.len() < NAMES_PER_STEP && *fan < FAN_OUT {
        let directory = store.layout.fan(*fan);
        let entries = match names {
            Some(entries) => entries,
            None => names.insert(list(&directory)?),
        };
        match entries.next() {
            Some(entry) => {
                let name = entry.map_err(|error| StoreError::io("list", &directory, error))?.file_name();
                // Other names are nobody's we know, so they are left alone.
                hashes.extend(name.to_str().and_then(|name| name.parse::<Hash>().ok()));
            }
            None => {
                *names = None;
                *fan += 1;
            }
        }
    }
    let known =
        store.database.get_many(DbTable::Blobs, hashes.iter().map(|hash| &hash.0), "look up blobs")?;
    for (hash, known) in hashes.iter().zip(known) {
        if known.is_none() {
            clear_orphan(store, hash)?;
        }
    }
    Ok(*fan == FAN_OUT)
}

fn clear_orphan(store: &StoreInner, hash: &Hash) -> Result<(), StoreError> {
    let Some(_lock) = store.locks.try_enter(*hash) else { return Ok(()) };
    if store.record(hash)?.is_some() {
        return Ok(());
    }
    let path = store.layout.blob(hash);
    match fs::remove_file(&path) {
        Ok(()) => store.counted.reaped.fetch_add(1, Ordering::Relaxed),
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(StoreError::io("delete", path, error)),
    };
    Ok(())
}

/// Hashes some of the suspects. Whether all were looked at.
fn examine_suspects(store: &StoreInner, round: &mut SuspectScan) -> Result<bool, StoreError> {
    if !store.epochs.has_suspects() {
        return Ok(true);
    }
    let suspect_generation =
        *round.suspect_generation.get_or_insert_with(|| store.epochs.suspect_generation());
    let after = round.after.as_ref().map(|hash| &hash.0[..]);
    let page = store.database.page(DbTable::Blobs, after, NAMES_PER_STEP, "list blobs")?;
    let mut hashed_bytes = 0;
    for (key, value) in &page {
        let (hash, record) = (decode_hash(key)?, BlobRecord::decode(value)?);
        round.after = Some(hash);
        if store.is_suspect(&record) {
            hashed_bytes += record.size_bytes;
            let verdict = store.examine(hash);
            round.failed |= verdict.is_err();
            verdict?;
        }
        if hashed_bytes >= HASHED_BYTES_PER_STEP {
            return Ok(false);
        }
    }
    if page.is_empty() && !round.failed {
        store.epochs.clear_suspects(&store.database, suspect_generation)?;
    }
    Ok(page.is_empty())
}

fn list(path: &Path) -> Result<ReadDir, StoreError> {
    fs::read_dir(path).map_err(|error| StoreError::io("list", path, error))
}
