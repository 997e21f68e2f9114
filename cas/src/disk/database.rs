//! RocksDB, with the options that a small store beside a build needs.
//!
//! This module owns column families, options and the mapping of RocksDB's errors to those of the
//! store. It knows the meaning of two records only, which it merges: the totals, and the uses.
//!
//! Purpose of the options: a store with a million action results opens in well under a second,
//! needs less than 300 MB of memory, and answers in microseconds. So indexes and filters are in
//! the block cache, whose size is fixed; memtables and the log are bounded; table files are opened
//! when they are first needed. There is no compression, because most values are hashes.
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
    /// The records of epochs, and the totals of sizes.
    Meta,
    /// Action key to result.
    Actions,
    /// BLAKE3 to the blob's record.
    Blobs,
    /// BLAKE3 to the bytes of a small blob. Apart from the records, so that a check of presence
    /// never reads contents.
    Inline,
    /// SHA-256 to BLAKE3.
    Aliases,
    /// Action or blob to its last use and the end of its lease.
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

/// The size of the cache for blocks, indexes and filters of all tables together.
const BLOCK_CACHE_BYTES: usize = 64 << 20;
/// The size of a block. A point read fetches one block; smaller blocks would make the indexes larger.
const BLOCK_BYTES: usize = 4 << 10;
/// Bits a key in the Bloom filters. With ten, one absent key in a hundred costs a read.
const BLOOM_BITS_PER_KEY: f64 = 10.0;
/// The size of all memtables together, above which one is flushed. The log grows as large, and has
/// to be replayed after a crash: 32 MB take about a third of a second.
const MEMTABLES_BYTES_MAX: u64 = 32 << 20;
/// A small store has smaller memtables: their content is in the log too, and while it is flushed
/// it is on the volume twice.
const MEMTABLES_BYTES_MIN: u64 = 1 << 20;
/// One part in this many of the store's limit may be memtables.
const MEMTABLES_SHARE: u64 = 64;
/// How many table files the first sorted level has. A table file is as large as all memtables
/// together, which keeps small both the number of files and the cost of one compaction.
const LEVEL_BASE_FILES: u64 = 4;
/// How many of the 1,024 descriptors that a process usually has the database may use.
const OPEN_FILES_MAX: i32 = 256;
/// How many flushes and compactions run at a time: few, because a build needs the processors more.
const BACKGROUND_JOBS: i32 = 2;
/// The size of RocksDB's own log, which is for bug reports only.
const INFO_LOG_BYTES_MAX: usize = 1 << 20;
/// A file is compacted if among the first number of neighbouring keys the second number are
/// deletions, so that the space which eviction frees is also freed on the disk.
const TOMBSTONES: (usize, usize) = (128, 64);

/// A key that is written to see whether writing works, and never read.
const WRITE_PROBE: &str = "write probe";

/// A key and its value.
pub(super) type KeyValue = (Box<[u8]>, Box<[u8]>);

/// Why a database was not opened.
pub(super) enum OpenError {
    /// The files are no database, or not a complete one. A retry cannot help.
    Unreadable(String),
    /// Another error, after which a later attempt may succeed.
    Failed(StoreError),
}

/// An open database.
pub(super) struct Database {
    db: DB,
    read: ReadOptions,
    write: WriteOptions,
    write_synced: WriteOptions,
    /// Whether a write has failed since `check_that_it_writes` last looked.
    has_write_failed: AtomicBool,
}

impl Database {
    /// Opens the database, which is made if it does not exist and `fresh` is set.
    pub(super) fn open(path: &Path, fresh: bool, limit_bytes: u64) -> Result<Database, OpenError> {
        let cache = Cache::new_hyper_clock_cache(BLOCK_CACHE_BYTES, 0);
        let memtables_bytes = (limit_bytes / MEMTABLES_SHARE).clamp(MEMTABLES_BYTES_MIN, MEMTABLES_BYTES_MAX);
        let options = |table| table_options(table, &cache, memtables_bytes);
        // RocksDB insists on a column family that this store does not use. After a full volume,
        // RocksDB writes again once the size of the largest memtable is free, so the memtable of
        // the unused family must not be the largest.
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
            has_write_failed: AtomicBool::new(false),
        })
    }

    pub(super) fn table(&self, table: DbTable) -> &ColumnFamily {
        self.db.cf_handle(table.name()).expect("every table was opened")
    }

    /// Returns one value without copying it out of the block cache.
    pub(super) fn get(
        &self,
        table: DbTable,
        key: impl AsRef<[u8]>,
        doing: &'static str,
    ) -> Result<Option<DBPinnableSlice<'_>>, StoreError> {
        self.db.get_pinned_cf_opt(self.table(table), key, &self.read).map_err(|error| failed(doing, error))
    }

    /// Returns many values, in the order of the keys.
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

    /// Returns up to `count` entries in order, from the first key after `after`.
    pub(super) fn page(
        &self,
        table: DbTable,
        after: Option<&[u8]>,
        count: usize,
        doing: &'static str,
    ) -> Result<Vec<KeyValue>, StoreError> {
        let mut options = ReadOptions::default();
        // A scan of the whole table must not push frequently used blocks out of the cache.
        options.fill_cache(false);
        let mut iterator = self.db.raw_iterator_cf_opt(self.table(table), options);
        match after {
            // The smallest key after `after` is `after` followed by a zero byte.
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

    /// Applies a batch. It survives a crash of the process, but not yet a loss of power.
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
        // A successful write does not clear the flag: it may have begun before the failed one.
        if written.is_err() {
            self.has_write_failed.store(true, Ordering::Relaxed);
        }
        written.map_err(|error| failed(doing, error))
    }

    /// Fails with `Stuck` if the database has given up writing. RocksDB gives up for good after
    /// some errors, such as one while it writes its log: even when the disk works again, only
    /// opening the database again helps. A full disk is not such an error.
    pub(super) fn check_that_it_writes(&self) -> Result<(), StoreError> {
        if !self.has_write_failed.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        match self.write_probe() {
            Err(StoreError::Database { message, .. }) => Err(StoreError::Stuck { message }),
            outcome => outcome,
        }
    }

    /// Writes a record that has no meaning, in the same way as any other record.
    pub(super) fn write_probe(&self) -> Result<(), StoreError> {
        let mut batch = WriteBatch::default();
        batch.put_cf(self.table(DbTable::Meta), WRITE_PROBE, []);
        self.write_with(batch, &self.write, "see whether the database still writes")
    }

    /// Makes everything written so far survive a loss of power. Blocks until the log is synced.
    pub(super) fn sync_log(&self) -> Result<(), StoreError> {
        self.db.flush_wal(true).map_err(|error| failed("sync the database's log", error))
    }

    /// Writes all memtables to table files, so that the next start has no log to replay.
    pub(super) fn flush(&self) -> Result<(), StoreError> {
        for table in DbTable::ALL {
            self.db.flush_cf(self.table(table)).map_err(|error| failed("flush the database", error))?;
        }
        Ok(())
    }

    /// Rewrites the table between two keys, which frees the space of deleted records.
    pub(super) fn compact(&self, table: DbTable, from: &[u8], to: &[u8]) {
        self.db.compact_range_cf(self.table(table), Some(from), Some(to));
    }

    /// Estimates how many keys a table has.
    pub(super) fn keys_estimated(&self, table: DbTable) -> u64 {
        let property = rocksdb::properties::ESTIMATE_NUM_KEYS;
        self.db.property_int_value_cf(self.table(table), property).ok().flatten().unwrap_or(0)
    }
}

fn database_options(fresh: bool, memtables_bytes: u64) -> Options {
    // Without this option files are preallocated and occupy more than was written to them: in a
    // store of 200 MB, a sixth of it. A RocksDB that does not know the option works all the same.
    let mut options = Options::default().get_options_from_string("allow_fallocate=false").unwrap_or_default();
    options.create_if_missing(fresh);
    // A process that died while it made the store may have made only some of the families.
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
    // A quarter of the total, because several tables fill at the same time.
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

/// Adds differences to the totals. A malformed operand fails the merge, and RocksDB then reports
/// corruption.
fn merge_totals(_key: &[u8], existing: Option<&[u8]>, operands: &MergeOperands) -> Option<Vec<u8>> {
    let start = existing.map_or(Some(Totals::default()), |bytes| Totals::decode(bytes).ok())?;
    let sum = operands
        .iter()
        .try_fold(start, |sum, bytes| Totals::decode(bytes).ok().map(|difference| sum.plus(difference)))?;
    Some(sum.encode().to_vec())
}

/// Combines noted uses in the order in which they were written.
fn merge_uses(_key: &[u8], existing: Option<&[u8]>, operands: &MergeOperands) -> Option<Vec<u8>> {
    let start = existing.map_or(Some(Retention::default()), |bytes| decode_retention(bytes).ok())?;
    let latest = operands.iter().try_fold(start, |latest, bytes| {
        decode_retention(bytes).ok().map(|retention| latest.followed_by(retention))
    })?;
    Some(encode_retention(latest).to_vec())
}

/// Part of RocksDB's message when a file that it needs does not exist.
const FILE_MISSING: &str = "No such file or directory";
/// Part of RocksDB's message when the volume is full.
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
    fn a_page_is_sorted_and_has_no_more_than_count_entries() {
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
