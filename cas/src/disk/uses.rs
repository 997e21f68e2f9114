//! The last use and the lease of every entry, in memory and in the database.
//!
//! A hit must not cost a write, so accesses are gathered in memory and written to the database in
//! batches. A crash loses the last batch: the last uses and leases are forgotten then. This module
//! knows keys and times and decides nothing about eviction.
//!
//! Invariant (STO-04): an access and a deletion of the same entry exclude each other. A deletion
//! first marks the key, under the lock that accesses take. An access of a marked key fails, and a
//! key with a running lease cannot be marked.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use rocksdb::WriteBatch;

use super::database::{Database, DbTable};
use super::record::{decode_retention, encode_retention};
use crate::clock::duration_ms;
use crate::digest::Hash;
use crate::error::StoreError;
use crate::leases::{RENEWAL_SLACK, Retention};

const SHARDS: usize = 32;

/// How many entries of a shard stay in memory after a batch was written; all shards together need
/// at most some 10 MB.
const SHARD_ENTRIES_MAX: usize = 2_048;

/// With this many unwritten entries a shard is written without waiting for upkeep. The thread that
/// does it serves no other request meanwhile: with a thousand entries that took more than a
/// millisecond, and one response in a hundred was late.
const SHARD_UNWRITTEN_MAX: usize = 32;

/// A use this soon after the last one is not recorded.
const USE_GRAIN: Duration = Duration::from_secs(60);

/// Returns the key of a blob in this table.
pub(super) fn blob_key(hash: &Hash) -> [u8; 33] {
    let mut key = [b'b'; 33];
    key[1..].copy_from_slice(&hash.0);
    key
}

/// Returns the key of an action in this table; `key` is its key in the table of actions.
pub(super) fn action_key(key: &[u8]) -> Vec<u8> {
    [b"a", key].concat()
}

/// The latest accesses, and which entries are being deleted.
pub(super) struct RecordedUses {
    shards: Vec<Mutex<UseShard>>,
    hasher: RandomState,
    /// Held during a flush: two flushes of one shard at a time could drop an entry that neither has
    /// written.
    flushing: Mutex<()>,
}

#[derive(Default)]
struct UseShard {
    entries: HashMap<Arc<[u8]>, UseEntry>,
    in_deletion: HashSet<Box<[u8]>>,
    /// The keys of entries that are not in the database yet. Some may have been forgotten since.
    unwritten: Vec<Arc<[u8]>>,
}

/// The outcome of noting an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoteOutcome {
    /// The access was noted, in memory for now.
    Noted,
    /// The access was noted, and the shard has enough unwritten entries to be written.
    WriteDue,
    /// The entry is being deleted and must not be used any more.
    BeingDeleted,
}

#[derive(Clone, Copy)]
struct UseEntry {
    retention: Retention,
    /// Whether the retention is not in the database yet.
    unwritten: bool,
}

impl RecordedUses {
    pub(super) fn new() -> RecordedUses {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        RecordedUses { shards, hasher: RandomState::new(), flushing: Mutex::default() }
    }

    fn shard(&self, key: &[u8]) -> MutexGuard<'_, UseShard> {
        self.shards[self.index(key)].lock()
    }

    fn index(&self, key: &[u8]) -> usize {
        usize::try_from(self.hasher.hash_one(key) % SHARDS as u64).expect("a small number")
    }

    /// Notes an access, unless the entry is being deleted.
    pub(super) fn note(&self, key: &[u8], retention: Retention) -> NoteOutcome {
        let mut shard = self.shard(key);
        if !shard.in_deletion.is_empty() && shard.in_deletion.contains(key) {
            return NoteOutcome::BeingDeleted;
        }
        match shard.entries.get_mut(key) {
            Some(entry) if !is_worth_writing(entry.retention, retention) => return NoteOutcome::Noted,
            Some(entry) => {
                entry.retention = entry.retention.followed_by(retention);
                if std::mem::replace(&mut entry.unwritten, true) {
                    return NoteOutcome::Noted;
                }
                shard.unwritten.push(key.into());
            }
            None => {
                let key: Arc<[u8]> = key.into();
                shard.unwritten.push(Arc::clone(&key));
                shard.entries.insert(key, UseEntry { retention, unwritten: true });
            }
        }
        // A multiple, so that after a failed write not every further access tries again.
        if shard.unwritten.len().is_multiple_of(SHARD_UNWRITTEN_MAX) {
            NoteOutcome::WriteDue
        } else {
            NoteOutcome::Noted
        }
    }

    /// Marks an entry as being deleted if its retention `permits` that, and returns whether it is
    /// marked. From then on every access fails. The caller deletes the entry or gives up, and
    /// then calls `end_deletion`.
    pub(super) fn begin_deletion(
        &self,
        database: &Database,
        key: &[u8],
        permits: impl Fn(Retention) -> bool,
    ) -> Result<bool, StoreError> {
        let remembered = {
            let mut shard = self.shard(key);
            shard.in_deletion.insert(key.into());
            shard.entries.get(key).map_or_else(Retention::default, |entry| entry.retention)
        };
        // The database is read after memory: an entry that had left memory before is in the
        // database by now, so one of the two reads finds it.
        let answer = stored(database, key).map(|stored| permits(stored.followed_by(remembered)));
        if !matches!(answer, Ok(true)) {
            self.end_deletion(key);
        }
        answer
    }

    /// Removes the mark that `begin_deletion` made.
    pub(super) fn end_deletion(&self, key: &[u8]) {
        self.shard(key).in_deletion.remove(key);
    }

    /// Forgets an entry that was deleted.
    pub(super) fn forget(&self, key: &[u8]) {
        self.shard(key).entries.remove(key);
    }

    /// Returns the retention of each entry, from memory and database together.
    pub(super) fn look<K: AsRef<[u8]>>(
        &self,
        database: &Database,
        keys: &[K],
    ) -> Result<Vec<Retention>, StoreError> {
        // Memory first: an entry that leaves memory meanwhile is in the database when that is read.
        let remember = |key: &K| {
            let key = key.as_ref();
            self.shard(key).entries.get(key).map_or_else(Retention::default, |entry| entry.retention)
        };
        let remembered: Vec<Retention> = keys.iter().map(remember).collect();
        let stored = database.get_many(DbTable::Uses, keys, "read what was used")?;
        let both = remembered.into_iter().zip(stored);
        both.map(|(retention, value)| Ok(decode(value.as_deref())?.followed_by(retention))).collect()
    }

    /// Writes the unwritten entries of this key's shard, unless another thread is writing.
    pub(super) fn flush_shard_of(&self, database: &Database, key: &[u8]) -> Result<(), StoreError> {
        match self.flushing.try_lock() {
            Some(_flushing) => flush_shard(&self.shards[self.index(key)], database),
            None => Ok(()),
        }
    }

    /// Writes all unwritten entries to the database.
    pub(super) fn flush(&self, database: &Database) -> Result<(), StoreError> {
        let _flushing = self.flushing.lock();
        self.shards.iter().try_for_each(|shard| flush_shard(shard, database))
    }
}

fn flush_shard(shard: &Mutex<UseShard>, database: &Database) -> Result<(), StoreError> {
    let mut batch = WriteBatch::default();
    let written = {
        let mut shard = shard.lock();
        let unwritten = std::mem::take(&mut shard.unwritten);
        for key in &unwritten {
            if let Some(entry) = shard.entries.get_mut(key)
                && std::mem::take(&mut entry.unwritten)
            {
                batch.merge_cf(database.table(DbTable::Uses), key, encode_retention(entry.retention));
            }
        }
        unwritten
    };
    if batch.is_empty() {
        return Ok(());
    }
    // The shard is not locked during the write, so accesses go on. An entry that is accessed
    // meanwhile is unwritten again, and is written by the next flush.
    let result = database.write(batch, "write what was used");
    let mut shard = shard.lock();
    if result.is_err() {
        for key in written {
            if let Some(entry) = shard.entries.get_mut(&key)
                && !std::mem::replace(&mut entry.unwritten, true)
            {
                shard.unwritten.push(key);
            }
        }
    }
    if shard.entries.len() > SHARD_ENTRIES_MAX {
        shard.entries.retain(|_, entry| entry.unwritten);
    }
    result
}

fn is_worth_writing(known: Retention, retention: Retention) -> bool {
    let later_use = known.used_ms.saturating_add(duration_ms(USE_GRAIN));
    // A promise is recorded for longer than it was given, by `RENEWAL_SLACK`. So half of that may
    // pass before it has to be recorded again. An upload's grace has no slack.
    let slack_ms = if retention.is_longer_than_grace() { duration_ms(RENEWAL_SLACK) / 2 } else { 0 };
    let later_lease = known.leased_until_ms.saturating_add(slack_ms);
    let retention = known.followed_by(retention);
    retention.used_ms > later_use || retention.leased_until_ms > later_lease || lease_begins(known, retention)
}

/// Tells whether an entry without a lease gets one. Such a lease is always recorded, however short.
fn lease_begins(known: Retention, retention: Retention) -> bool {
    known.leased_until_ms < retention.used_ms && retention.leased_until_ms > known.leased_until_ms
}

fn stored(database: &Database, key: &[u8]) -> Result<Retention, StoreError> {
    decode(database.get(DbTable::Uses, key, "read what was used")?.as_deref())
}

fn decode(value: Option<&[u8]>) -> Result<Retention, StoreError> {
    value.map_or_else(|| Ok(Retention::default()), decode_retention)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database(dir: &tempfile::TempDir) -> Database {
        Database::open(dir.path(), true, u64::MAX).unwrap_or_else(|_| panic!("a fresh database opens"))
    }

    const KEY: &[u8] = b"bkey";

    fn retention(used_ms: u64, leased_until_ms: u64) -> Retention {
        Retention { used_ms, leased_until_ms }
    }

    #[test]
    fn sto_04_a_leased_entry_is_not_deleted_and_an_entry_in_deletion_gets_no_lease() {
        let dir = tempfile::tempdir().unwrap();
        let (uses, database) = (RecordedUses::new(), database(&dir));
        assert_eq!(uses.note(KEY, retention(10, 20)), NoteOutcome::Noted);
        assert!(!uses.begin_deletion(&database, KEY, |retention| !retention.is_leased(19)).unwrap());
        assert!(uses.begin_deletion(&database, KEY, |retention| !retention.is_leased(20)).unwrap());
        assert_eq!(uses.note(KEY, retention(21, 31)), NoteOutcome::BeingDeleted);
        uses.end_deletion(KEY);
        assert_eq!(uses.note(KEY, retention(21, 31)), NoteOutcome::Noted);
    }

    #[test]
    fn sto_04_a_lease_that_was_written_holds_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let (uses, database) = (RecordedUses::new(), database(&dir));
        uses.note(KEY, retention(10, 2_000));
        uses.flush(&database).unwrap();
        let later = RecordedUses::new();
        later.note(KEY, retention(500, 0));
        assert!(!later.begin_deletion(&database, KEY, |retention| !retention.is_leased(1_999)).unwrap());
        later.flush(&database).unwrap();
        assert_eq!(later.look(&database, &[KEY]).unwrap(), [retention(500, 2_000)]);
    }

    #[test]
    fn repeated_accesses_are_not_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let (uses, database) = (RecordedUses::new(), database(&dir));
        uses.note(KEY, retention(1_000_000, 9_000_000));
        uses.flush(&database).unwrap();
        let unwritten = |uses: &RecordedUses| uses.shard(KEY).entries[KEY].unwritten;
        uses.note(KEY, retention(1_010_000, 9_010_000));
        assert!(!unwritten(&uses));
        uses.note(KEY, retention(1_010_000, 9_500_000));
        assert!(unwritten(&uses));
    }

    #[test]
    fn a_forgotten_entry_is_not_written() {
        let dir = tempfile::tempdir().unwrap();
        let (uses, database) = (RecordedUses::new(), database(&dir));
        uses.note(KEY, retention(10, 0));
        uses.forget(KEY);
        uses.flush(&database).unwrap();
        assert_eq!(uses.look(&database, &[KEY]).unwrap(), [Retention::default()]);
        // An entry that is noted again before the list was written is in the list twice.
        uses.note(KEY, retention(20, 0));
        uses.forget(KEY);
        uses.note(KEY, retention(30, 0));
        uses.flush(&database).unwrap();
        assert_eq!(RecordedUses::new().look(&database, &[KEY]).unwrap(), [retention(30, 0)]);
    }

    #[test]
    fn a_write_is_due_once_for_every_so_many_accesses_of_a_shard() {
        let uses = RecordedUses::new();
        let keys: Vec<_> = (0..100_000u32).map(u32::to_le_bytes).collect();
        let crowded: Vec<_> =
            keys.iter().filter(|key| uses.note(*key, retention(7, 8)) == NoteOutcome::WriteDue).collect();
        let of_first = |key: &&&[u8; 4]| uses.index(**key) == uses.index(crowded[0]);
        let unwritten = uses.shard(crowded[0]).unwritten.len();
        assert_eq!(crowded.iter().filter(of_first).count(), unwritten / SHARD_UNWRITTEN_MAX);
        let up_to_it = keys.iter().take_while(|key| *key != crowded[0]).filter(|key| of_first(&key)).count();
        assert_eq!(up_to_it + 1, SHARD_UNWRITTEN_MAX);
    }

    #[test]
    fn sto_04_an_upload_renews_its_whole_grace() {
        let uses = RecordedUses::new();
        uses.note(KEY, Retention::uploaded(1_000_000));
        uses.note(KEY, Retention::uploaded(1_001_000));
        assert_eq!(uses.shard(KEY).entries[KEY].retention, Retention::uploaded(1_001_000));
    }

    #[test]
    fn sto_04_a_first_lease_is_always_noted() {
        let uses = RecordedUses::new();
        uses.note(KEY, retention(1_000, 0));
        uses.note(KEY, retention(1_001, 1_002));
        assert_eq!(uses.shard(KEY).entries[KEY].retention.leased_until_ms, 1_002);
    }

    #[test]
    fn memory_stays_within_the_limit_of_entries() {
        let dir = tempfile::tempdir().unwrap();
        let (uses, database) = (RecordedUses::new(), database(&dir));
        let keys: Vec<_> = (0..100_000u32).map(u32::to_le_bytes).collect();
        for key in &keys {
            if uses.note(key, retention(7, 8)) == NoteOutcome::WriteDue {
                uses.flush_shard_of(&database, key).unwrap();
            }
        }
        uses.flush(&database).unwrap();
        let kept: usize = uses.shards.iter().map(|shard| shard.lock().entries.len()).sum();
        assert!(kept <= SHARDS * SHARD_ENTRIES_MAX, "{kept}");
        assert!(uses.look(&database, &keys).unwrap().iter().all(|known| *known == retention(7, 8)));
    }
}
