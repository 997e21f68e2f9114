//! RocksDB, with the options that a small store beside a build needs.
//!
//! Owns column families, options and the mapping of RocksDB's errors to ours. Knows no
//! record's meaning but two which it merges: the totals, and when a thing was used.
//!
//! What the options are for: a million action results shall open in well under a second,
//! stay below 300 MB of memory, and be read in microseconds. So indexes and filters live
//! in the block cache, whose size is fixed; memtables and the log are bounded; tables are
//! opened when first needed. There is no compression: the values are mostly hashes.
//!
//! Invariant: a batch is applied whole or not at all, also across column families.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBPinnableSlice, DataBlockIndexType,
    ErrorKind, MergeOperands, Options, ReadOptions, WriteBatch, WriteOptions,
};

use super::record::{Totals, decode_retention, encode_retention};
use crate::error::StoreError;
use crate::leases::Retention;

/// The tables of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DbTable {
    /// Epochs and totals.
    Meta,
    /// Action key to result.
    Actions,
    /// BLAKE3 to what the index knows of the blob.
    Blobs,
    /// BLAKE3 to the bytes of a small blob. Apart from the index, so that asking what
    /// exists never reads contents.
    Inline,
    /// SHA-256 to BLAKE3.
    Aliases,
    /// When things were last used and until when they are leased.
    Uses,
}

impl DbTable {
    const ALL: [DbTable; 6] =
        [DbTable::Meta, DbTable::Actions, DbTable::Blobs, DbTable::Inline, DbTable::Aliases, DbTable::Uses];

    const fn name(self) -> &'static str {
        match self {
            DbTable::Meta => "meta",
            DbTable::Actions => "actions",
            DbTable::Blobs => "blobs",
            DbTable::Inline => "inline",
            DbTable::Aliases => "aliases",
            DbTable::Uses => "uses",
        }
    }
}

/// For blocks, indexes and filters of all tables together.
const BLOCK_CACHE_BYTES: usize = 64 << 20;
/// A point read fetches one block; smaller ones would only make the indexes larger.
const BLOCK_BYTES: usize = 4 << 10;
/// Ten bits a key make one absent key in a hundred cost a read.
const BLOOM_BITS_PER_KEY: f64 = 10.0;
/// All memtables together, before one is flushed; so large is the log as well, and what
/// has to be replayed after a crash: 32 MB take about a third of a second.
const MEMTABLES_BYTES_MAX: u64 = 32 << 20;
/// A small store has smaller ones: what is in memory is in the log too, and while it is
/// flushed it is on the volume twice.
const MEMTABLES_BYTES_MIN: u64 = 1 << 20;
/// Which part of the store's limit they may have.
const MEMTABLES_SHARE: u64 = 64;
/// DbTable files are as large as all memtables together, which keeps their number small and
/// the cost of one compaction too. The first sorted level has this many.
const LEVEL_BASE_FILES: u64 = 4;
/// Of the 1,024 descriptors a process usually has, the database takes at most these.
const OPEN_FILES_MAX: i32 = 256;
/// Flushes and compactions at a time; a build needs the processors more.
const BACKGROUND_JOBS: i32 = 2;
/// RocksDB's own log is for bug reports only.
const INFO_LOG_BYTES_MAX: usize = 1 << 20;
/// As many deletions among so many neighbours make a file worth compacting, so that what
/// eviction frees is freed on the disk as well.
const TOMBSTONES: (usize, usize) = (128, 64);

/// Written to see whether writing works; nobody reads it.
const WRITE_PROBE: &str = "write probe";

/// A key and its value.
pub(super) type KeyValue = (Box<[u8]>, Box<[u8]>);

/// Why a database was not opened.
pub(super) enum OpenError {
    /// It is not a database, or not a whole one: no retry will help.
    Unreadable(String),
    /// It could not be read now.
    Failed(StoreError),
}

/// An open database.
pub(super) struct Database {
    db: DB,
    read: ReadOptions,
    write: WriteOptions,
    write_synced: WriteOptions,
    /// Whether the last write failed.
    is_in_doubt: AtomicBool,
}

impl Database {
    /// Opens the database; `fresh` says whether one is to be made.
    pub(super) fn open(path: &Path, fresh: bool, limit_bytes: u64) -> Result<Database, OpenError> {
        let cache = Cache::new_hyper_clock_cache(BLOCK_CACHE_BYTES, 0);
        let memtables_bytes = (limit_bytes / MEMTABLES_SHARE).clamp(MEMTABLES_BYTES_MIN, MEMTABLES_BYTES_MAX);
        let options = |table| table_options(table, &cache, memtables_bytes);
        // RocksDB insists on a family that we do not use. After a full volume it writes again
        // once the largest memtable's size is free, so this one's must not be the largest.
        let mut unused = Options::default();
        unused.set_write_buffer_size(size(MEMTABLES_BYTES_MIN / 4));
        let unused = ColumnFamilyDescriptor::new(rocksdb::DEFAULT_COLUMN_FAMILY_NAME, unused);
        let families = DbTable::ALL
            .map(|table| ColumnFamilyDescriptor::new(table.name(), options(table)))
            .into_iter()
            .chain([unused]);
        let db = DB::open_cf_descriptors(&database_options(fresh, memtables_bytes), path, families)
            .map_err(|error| open_error(path, error))?;
        let mut write_synced = WriteOptions::default();
        write_synced.set_sync(true);
        Ok(Database {
            db,
            read: ReadOptions::default(),
            write: WriteOptions::default(),
            write_synced,
            is_in_doubt: AtomicBool::new(false),
        })
    }

    pub(super) fn table(&self, table: DbTable) -> &ColumnFamily {
        self.db.cf_handle(table.name()).expect("every table was opened")
    }

    /// One value, without copying it out of the block cache.
    pub(super) fn get(
        &self,
        table: DbTable,
        key: impl AsRef<[u8]>,
        doing: &'static str,
    ) -> Result<Option<DBPinnableSlice<'_>>, StoreError> {
        self.db.get_pinned_cf_opt(self.table(table), key, &self.read).map_err(|error| failed(doing, error))
    }

    /// Many values, in the order of the keys.
    pub(super) fn get_many<'a, K>(
        &self,
        table: DbTable,
        keys: impl IntoIterator<Item = &'a K>,
        doing: &'static str,
    ) -> Result<Vec<Option<DBPinnableSlice<'_>>>, StoreError>
    where
        K: AsRef<[u8]> + ?Sized + 'a,
    {
        self.db
            .batched_multi_get_cf_opt(self.table(table), keys, false, &self.read)
            .into_iter()
            .map(|result| result.map_err(|error| failed(doing, error)))
            .collect()
    }

    /// Up to `count` entries with keys after `after`, in order.
    pub(super) fn page(
        &self,
        table: DbTable,
        after: Option<&[u8]>,
        count: usize,
        doing: &'static str,
    ) -> Result<Vec<KeyValue>, StoreError> {
        let mut options = ReadOptions::default();
        // A walk over everything must not push what is hot out of the cache.
        options.fill_cache(false);
        let mut iterator = self.db.raw_iterator_cf_opt(self.table(table), options);
        match after {
            Some(after) => iterator.seek([after, &[0]].concat()),
            None => iterator.seek_to_first(),
        }
        let mut entries = Vec::new();
        while entries.len() < count {
            let Some((key, value)) = iterator.item() else { break };
            entries.push((key.into(), value.into()));
            iterator.next();
        }
        iterator.status().map_err(|error| failed(doing, error))?;
        Ok(entries)
    }

    /// Applies a batch. It survives the process, not yet a loss of power.
    pub(super) fn write(&self, batch: WriteBatch, doing: &'static str) -> Result<(), StoreError> {
        self.write_with(batch, &self.write, doing)
    }

    /// Applies a batch that survives a loss of power.
    pub(super) fn write_synced(&self, batch: WriteBatch, doing: &'static str) -> Result<(), StoreError> {
        self.write_with(batch, &self.write_synced, doing)
    }

    fn write_with(
        &self,
        batch: WriteBatch,
        options: &WriteOptions,
        doing: &'static str,
    ) -> Result<(), StoreError> {
        let written = self.db.write_opt(batch, options);
        // Only set here: a write that succeeds meanwhile may have begun before.
        if written.is_err() {
            self.is_in_doubt.store(true, Ordering::Relaxed);
        }
        written.map_err(|error| failed(doing, error))
    }

    /// Fails if the database has given up writing. RocksDB does so for good after an error
    /// that it takes for lasting, such as one while writing its log; a disk that is well
    /// again does not help it, opening the database anew does. A full disk is none of these.
    pub(super) fn check_that_it_writes(&self) -> Result<(), StoreError> {
        if !self.is_in_doubt.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        let mut batch = WriteBatch::default();
        batch.put_cf(self.table(DbTable::Meta), WRITE_PROBE, []);
        match self.write_with(batch, &self.write, "see whether the database still writes") {
            Err(StoreError::Database { message, .. }) => Err(StoreError::Stuck { message }),
            outcome => outcome,
        }
    }

    /// Makes everything written so far survive a loss of power.
    pub(super) fn sync_log(&self) -> Result<(), StoreError> {
        self.db.flush_wal(true).map_err(|error| failed("sync the database's log", error))
    }

    /// Moves everything from the log into tables, so that the next start replays nothing.
    pub(super) fn flush(&self) -> Result<(), StoreError> {
        for table in DbTable::ALL {
            self.db.flush_cf(self.table(table)).map_err(|error| failed("flush the database", error))?;
        }
        Ok(())
    }

    /// Rewrites what lies between two keys, so that what was deleted there is given back.
    pub(super) fn compact(&self, table: DbTable, from: &[u8], to: &[u8]) {
        self.db.compact_range_cf(self.table(table), Some(from), Some(to));
    }

    /// About how many keys a table has.
    pub(super) fn keys_estimated(&self, table: DbTable) -> u64 {
        let property = rocksdb::properties::ESTIMATE_NUM_KEYS;
        self.db.property_int_value_cf(self.table(table), property).ok().flatten().unwrap_or(0)
    }
}

fn database_options(fresh: bool, memtables_bytes: u64) -> Options {
    // Preallocated files occupy what nobody has written: in a store of 200 MB, a sixth of
    // it. A RocksDB that does not know the option is none the worse.
    let mut options = Options::default().get_options_from_string("allow_fallocate=false").unwrap_or_default();
    options.create_if_missing(fresh);
    // A process that died while it began the store may not have made all of them.
    options.create_missing_column_families(true);
    options.set_db_write_buffer_size(size(memtables_bytes));
    options.set_max_total_wal_size(memtables_bytes);
    options.set_max_open_files(OPEN_FILES_MAX);
    options.set_max_background_jobs(BACKGROUND_JOBS);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options.set_max_log_file_size(INFO_LOG_BYTES_MAX);
    options.set_keep_log_file_num(2);
    options.set_log_level(rocksdb::LogLevel::Warn);
    options.set_manifest_preallocation_size(64 << 10);
    options.set_bytes_per_sync(1 << 20);
    options
}

fn size(bytes: u64) -> usize {
    usize::try_from(bytes).expect("a few megabytes")
}

fn table_options(table: DbTable, cache: &Cache, memtables_bytes: u64) -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(cache);
    blocks.set_block_size(BLOCK_BYTES);
    blocks.set_bloom_filter(BLOOM_BITS_PER_KEY, false);
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_cache_index_and_filter_blocks_with_high_priority(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    blocks.set_data_block_index_type(DataBlockIndexType::BinaryAndHash);
    blocks.set_format_version(6);
    let mut options = Options::default();
    options.set_block_based_table_factory(&blocks);
    // Several tables fill at the same time.
    options.set_write_buffer_size(size(memtables_bytes / 4));
    options.set_target_file_size_base(memtables_bytes);
    options.set_max_bytes_for_level_base(LEVEL_BASE_FILES * memtables_bytes);
    options.set_level_compaction_dynamic_level_bytes(true);
    options.add_compact_on_deletion_collector_factory(TOMBSTONES.0, TOMBSTONES.1, 0.5);
    match table {
        DbTable::Meta => options.set_merge_operator_associative("kache totals", merge_totals),
        DbTable::Uses => options.set_merge_operator_associative("kache uses", merge_uses),
        _ => {}
    }
    options
}

/// Adds differences to the totals. A malformed operand fails the merge, which RocksDB
/// reports as corruption, rather than being counted as something.
fn merge_totals(_key: &[u8], existing: Option<&[u8]>, operands: &MergeOperands) -> Option<Vec<u8>> {
    let start = existing.map_or(Some(Totals::default()), |bytes| Totals::decode(bytes).ok())?;
    let sum = operands
        .iter()
        .try_fold(start, |sum, bytes| Totals::decode(bytes).ok().map(|difference| sum.plus(difference)))?;
    Some(sum.encode().to_vec())
}

/// Keeps the latest use and the latest lease.
fn merge_uses(_key: &[u8], existing: Option<&[u8]>, operands: &MergeOperands) -> Option<Vec<u8>> {
    let start = existing.map_or(Some(Retention::default()), |bytes| decode_retention(bytes).ok())?;
    let latest = operands.iter().try_fold(start, |latest, bytes| {
        decode_retention(bytes).ok().map(|retention| latest.followed_by(retention))
    })?;
    Some(encode_retention(latest).to_vec())
}

/// What RocksDB says when a file it needs is not there.
const FILE_MISSING: &str = "No such file or directory";
/// What it says when the volume is full.
const VOLUME_FULL: &str = "No space left on device";

fn open_error(path: &Path, error: rocksdb::Error) -> OpenError {
    let unreadable = match error.kind() {
        ErrorKind::Corruption
        | ErrorKind::InvalidArgument
        | ErrorKind::NotFound
        | ErrorKind::NotSupported => true,
        ErrorKind::IOError => error.as_ref().contains(FILE_MISSING),
        _ => false,
    };
    if unreadable {
        return OpenError::Unreadable(error.into_string());
    }
    let why = format!("could not be opened: {error}");
    OpenError::Failed(StoreError::Unusable { path: path.to_owned(), why })
}

fn failed(doing: &'static str, error: rocksdb::Error) -> StoreError {
    let message = error.into_string();
    if message.contains(VOLUME_FULL) {
        return StoreError::NoSpace { wanted_bytes: 0, why: format!("failed to {doing}: {message}") };
    }
    StoreError::Database { doing, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &Path, fresh: bool) -> Database {
        match Database::open(path, fresh, u64::MAX) {
            Ok(database) => database,
            Err(OpenError::Unreadable(why)) => panic!("{why}"),
            Err(OpenError::Failed(error)) => panic!("{error}"),
        }
    }

    #[test]
    fn totals_are_summed_across_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let one = Totals { file_bytes: 3, logical_bytes: 2, blobs: 1 };
        for round in 1..=3 {
            let database = open(dir.path(), round == 1);
            for _ in 0..2 {
                let mut batch = WriteBatch::default();
                batch.merge_cf(database.table(DbTable::Meta), "totals", one.encode());
                database.write(batch, "count").unwrap();
            }
            let sum = database.get(DbTable::Meta, "totals", "read").unwrap().unwrap();
            assert_eq!(Totals::decode(&sum).unwrap().blobs, 2 * round);
        }
    }

    #[test]
    fn pages_are_in_order_and_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let database = open(dir.path(), true);
        let mut batch = WriteBatch::default();
        for key in 0..10u8 {
            batch.put_cf(database.table(DbTable::Uses), [key], [key]);
        }
        database.write(batch, "fill").unwrap();
        let page = database.page(DbTable::Uses, Some(&[3]), 4, "read").unwrap();
        assert_eq!(page.iter().map(|(key, _)| key[0]).collect::<Vec<_>>(), [4, 5, 6, 7]);
        assert_eq!(database.page(DbTable::Uses, None, 100, "read").unwrap().len(), 10);
        assert!(database.page(DbTable::Uses, Some(&[9]), 4, "read").unwrap().is_empty());
    }

    #[test]
    fn sto_07_a_database_without_its_files_is_unreadable() {
        let dir = tempfile::tempdir().unwrap();
        drop(open(dir.path(), true));
        std::fs::remove_file(dir.path().join("CURRENT")).unwrap();
        assert!(matches!(Database::open(dir.path(), false, u64::MAX), Err(OpenError::Unreadable(_))));
    }
}
