//! Clears up what an unclean stop left behind, in small steps, once after every start.
//!
//! It deletes files in `tmp/` of processes that died, and files in `blobs/` that have no record
//! (orphans). It hashes blobs whose epoch is suspect, so that no reader has to. It deletes no
//! blob that has a record.
//!
//! Invariant: an orphan is deleted under the lock of its hash, after the index was read again, so
//! that a writer between its rename and its record does not lose the file.

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

/// How many names one step looks at, which takes some milliseconds.
const NAMES_PER_STEP: usize = 512;

/// A step ends after it has hashed this many bytes.
const HASHED_BYTES_PER_STEP: u64 = 64 << 20;

/// The state of the clean-up between two steps.
pub(super) struct Reaper {
    stage: ReapStage,
}

enum ReapStage {
    Temporary,
    Orphans { fan: usize, names: Option<ReadDir> },
    Suspects(SuspectScan),
    Done,
}

/// One scan of all blobs, in which suspects are hashed.
#[derive(Default)]
struct SuspectScan {
    after: Option<Hash>,
    /// The generation of suspects when the scan began.
    suspect_generation: Option<u64>,
    /// Whether a blob could not be read and therefore remains suspect.
    failed: bool,
}

impl Reaper {
    pub(super) fn new() -> Reaper {
        Reaper { stage: ReapStage::Temporary }
    }

    /// Makes one step. Returns whether there is more to do.
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

/// Deletes some files that other processes left in `tmp/`. Returns whether none is left.
fn clear_temporary(store: &StoreInner) -> Result<bool, StoreError> {
    let tmp = store.layout.tmp();
    let mut left = NAMES_PER_STEP;
    for path in list(&tmp)? {
        let path = path.map_err(|error| StoreError::io("list", &tmp, error))?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        // A former set-aside store is a directory with a name of this process; it is deleted, too.
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

/// Deletes a file or a directory, but no more than `left` entries, and subtracts those from `left`.
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

/// Looks at some files in `blobs/` and deletes those without a record. Returns whether all were
/// looked at.
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
                // A file whose name is no hash was not made by the store, and stays.
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
    // If another thread holds the lock, it is probably a writer between its rename and its record, and the file is
    // no orphan.
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

/// Looks at some blobs and hashes the suspects among them. Returns whether all were looked at.
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
            let examined = store.examine(hash);
            // After an error the next step continues behind this blob, but the scan does not clear the list of
            // suspects.
            round.failed |= examined.is_err();
            examined?;
        }
        if hashed_bytes >= HASHED_BYTES_PER_STEP {
            return Ok(false);
        }
    }
    // Only a complete scan without errors has examined every suspect.
    if page.is_empty() && !round.failed {
        store.epochs.clear_suspects(&store.database, suspect_generation)?;
    }
    Ok(page.is_empty())
}

fn list(path: &Path) -> Result<ReadDir, StoreError> {
    fs::read_dir(path).map_err(|error| StoreError::io("list", path, error))
}
