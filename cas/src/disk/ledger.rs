//! How much space the store occupies, and whether there is room for more.
//!
//! A writer reserves room before it writes and settles the reservation afterwards, so that the
//! limit holds in physical bytes with any number of writers (STO-06). The database counts as well:
//! it is measured from time to time, and its growth in between is estimated. The ledger knows
//! numbers and two measurements, but no paths, and it never evicts.
//!
//! Invariant: files + database + reserved + headroom <= limit, and after every reservation the
//! volume has the reserve and the headroom free. The headroom is for RocksDB's compactions.

use std::sync::Arc;

use parking_lot::Mutex;

use super::record::Totals;
use crate::error::StoreError;
use crate::evict::{HIGH_MARK_PARTS, SizeLimits};

/// After this many reserved bytes the ledger measures again: other processes use the volume too,
/// and the database's growth is only estimated.
const MEASURE_AFTER_BYTES: u64 = 16 << 20;

/// RocksDB writes the result of a compaction before it deletes the input, which may be nearly all
/// of a small database. So as much headroom as the database occupies is kept free: at least one
/// part in this many of the limit, and at most the part that eviction keeps free anyway.
const COMPACTION_PARTS: u64 = 32;
/// The most headroom that is kept. A compaction takes a few table files at a time, so it never
/// needs more.
const COMPACTION_BYTES_MAX: u64 = 64 << 20;

/// Measures the space in use. Passed in, so that tests need no volume.
pub(super) trait Measure: Send + Sync {
    /// Returns how much the database and the directories occupy now.
    fn database_bytes(&self) -> Result<u64, StoreError>;
    /// Returns how much is free on the volume now.
    fn volume_free_bytes(&self) -> Result<u64, StoreError>;
}

pub(super) struct Ledger {
    limits: SizeLimits,
    measure: Box<dyn Measure>,
    accounts: Mutex<Accounts>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Accounts {
    totals: Totals,
    reserved_bytes: u64,
    database_bytes: u64,
    /// How much was added to the database since it was measured.
    database_growth_bytes: u64,
    /// How much was deleted from the database and still occupies its files, estimated.
    reclaimable_bytes: u64,
    volume_free_bytes: u64,
    /// How much was reserved since the volume was measured.
    spent_bytes: u64,
}

impl Accounts {
    fn physical_bytes(&self) -> u64 {
        unsigned(self.totals.file_bytes) + self.database_bytes + self.database_growth_bytes
    }
}

/// A snapshot of the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Balance {
    pub(super) physical_bytes: u64,
    pub(super) reserved_bytes: u64,
    pub(super) logical_bytes: u64,
    pub(super) blobs: u64,
    /// How much of the database is deleted and waits for compaction.
    pub(super) reclaimable_bytes: u64,
    /// How much the database occupied when it was last measured.
    pub(super) database_bytes: u64,
    /// How much may still be written before the limit is met.
    pub(super) room_bytes: u64,
    pub(super) limit_bytes: u64,
    /// How much of the volume is free and not reserved.
    pub(super) volume_free_bytes: u64,
}

impl Ledger {
    /// Makes the ledger of a store that holds `totals`, and measures once.
    pub(super) fn new(
        limits: SizeLimits,
        totals: Totals,
        measure: Box<dyn Measure>,
    ) -> Result<Arc<Ledger>, StoreError> {
        let accounts = Mutex::new(Accounts { totals, ..Accounts::default() });
        let ledger = Arc::new(Ledger { limits, measure, accounts });
        ledger.measure_now()?;
        Ok(ledger)
    }

    /// Measures the database and the free space on the volume. Waits for both.
    pub(super) fn measure_now(&self) -> Result<(), StoreError> {
        self.measure(&mut self.accounts.lock())
    }

    fn measure(&self, accounts: &mut Accounts) -> Result<(), StoreError> {
        accounts.database_bytes = self.measure.database_bytes()?;
        accounts.database_growth_bytes = 0;
        accounts.volume_free_bytes = self.measure.volume_free_bytes()?;
        // Part of the reserved bytes may be on the volume already and thus be counted twice. That
        // errs on the safe side.
        accounts.spent_bytes = accounts.reserved_bytes;
        Ok(())
    }

    /// Reserves room for `bytes`, or fails with `NoSpace`. Before it refuses, it measures again.
    pub(super) fn reserve(self: &Arc<Self>, bytes: u64) -> Result<Reservation, StoreError> {
        let mut accounts = self.accounts.lock();
        // `spent_bytes` includes all reserved bytes even right after a measurement, so these do not make the next
        // one due.
        let stale =
            accounts.spent_bytes.saturating_add(bytes) > MEASURE_AFTER_BYTES + accounts.reserved_bytes;
        if stale || self.why_no_room(&accounts, bytes).is_some() {
            self.measure(&mut accounts)?;
        }
        if let Some(why) = self.why_no_room(&accounts, bytes) {
            return Err(StoreError::NoSpace { wanted_bytes: bytes, why });
        }
        accounts.reserved_bytes += bytes;
        accounts.spent_bytes += bytes;
        Ok(Reservation { ledger: Arc::clone(self), bytes })
    }

    /// Returns why there is no room for `bytes`, or `None` if there is.
    fn why_no_room(&self, accounts: &Accounts, bytes: u64) -> Option<String> {
        let SizeLimits { limit_bytes, reserve_bytes } = self.limits;
        let headroom_bytes = accounts
            .database_bytes
            .clamp(limit_bytes / COMPACTION_PARTS, limit_bytes / HIGH_MARK_PARTS)
            .min(COMPACTION_BYTES_MAX);
        let used_bytes = accounts.physical_bytes().saturating_add(accounts.reserved_bytes);
        if used_bytes.saturating_add(bytes) > limit_bytes - headroom_bytes {
            return Some(format!(
                "the store occupies {used_bytes} of the {limit_bytes} bytes that its limit allows, \
                 of which {headroom_bytes} are for the database's own work"
            ));
        }
        let free_bytes = accounts.volume_free_bytes.saturating_sub(accounts.spent_bytes);
        let kept_bytes = reserve_bytes.saturating_add(headroom_bytes);
        if free_bytes < kept_bytes.saturating_add(bytes) {
            return Some(format!(
                "the volume has {free_bytes} bytes free, of which {kept_bytes} are to stay free"
            ));
        }
        None
    }

    /// Counts a change of the totals that was written to the database.
    pub(super) fn count(&self, difference: Totals) {
        let mut accounts = self.accounts.lock();
        accounts.totals = accounts.totals.plus(difference);
    }

    /// Counts bytes that were deleted from the database, which frees their space later.
    pub(super) fn count_deleted(&self, database_bytes: u64) {
        self.accounts.lock().reclaimable_bytes += database_bytes;
    }

    /// Counts deleted bytes whose space the database has freed.
    pub(super) fn count_reclaimed(&self, database_bytes: u64) {
        let mut accounts = self.accounts.lock();
        accounts.reclaimable_bytes = accounts.reclaimable_bytes.saturating_sub(database_bytes);
    }

    pub(super) fn balance(&self) -> Balance {
        let accounts = *self.accounts.lock();
        let free_bytes = accounts.volume_free_bytes.saturating_sub(accounts.spent_bytes);
        Balance {
            physical_bytes: accounts.physical_bytes(),
            reserved_bytes: accounts.reserved_bytes,
            logical_bytes: unsigned(accounts.totals.logical_bytes),
            blobs: unsigned(accounts.totals.blobs),
            database_bytes: accounts.database_bytes,
            room_bytes: self.limits.limit_bytes.saturating_sub(accounts.physical_bytes()),
            limit_bytes: self.limits.limit_bytes,
            reclaimable_bytes: accounts.reclaimable_bytes.min(accounts.database_bytes),
            volume_free_bytes: free_bytes,
        }
    }
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// Reserved room. Dropping it without `settle` gives the room back.
pub(super) struct Reservation {
    ledger: Arc<Ledger>,
    bytes: u64,
}

impl Reservation {
    /// Replaces the reservation by what was written: files, which changed the totals by
    /// `difference`, and `database_bytes` of records.
    pub(super) fn settle(self, difference: Totals, database_bytes: u64) {
        let mut accounts = self.ledger.accounts.lock();
        accounts.totals = accounts.totals.plus(difference);
        accounts.database_growth_bytes += database_bytes;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut accounts = self.ledger.accounts.lock();
        accounts.reserved_bytes -= self.bytes;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[derive(Default)]
    struct Fake {
        database: AtomicU64,
        free: AtomicU64,
    }

    impl Measure for Arc<Fake> {
        fn database_bytes(&self) -> Result<u64, StoreError> {
            Ok(self.database.load(Ordering::Relaxed))
        }
        fn volume_free_bytes(&self) -> Result<u64, StoreError> {
            Ok(self.free.load(Ordering::Relaxed))
        }
    }

    fn ledger(limit_bytes: u64, reserve_bytes: u64, database: u64, free: u64) -> (Arc<Ledger>, Arc<Fake>) {
        let fake = Arc::new(Fake { database: database.into(), free: free.into() });
        let limits = SizeLimits { limit_bytes, reserve_bytes };
        (Ledger::new(limits, Totals::default(), Box::new(Arc::clone(&fake))).unwrap(), fake)
    }

    fn files(bytes: i64) -> Totals {
        Totals { file_bytes: bytes, logical_bytes: bytes, blobs: 1 }
    }

    #[test]
    fn sto_06_reservations_of_many_writers_never_exceed_the_limit() {
        let (ledger, _) = ledger(6_400, 0, 100, 1 << 40);
        let granted = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        if let Ok(room) = ledger.reserve(10) {
                            granted.fetch_add(10, Ordering::Relaxed);
                            room.settle(files(10), 0);
                        }
                    }
                });
            }
        });
        assert_eq!(granted.into_inner(), 6_100, "6400, less a thirty-second, less the database");
        assert_eq!(ledger.balance().physical_bytes, 6_200);
        assert_eq!(ledger.balance().reserved_bytes, 0);
    }

    #[test]
    fn sto_06_headroom_is_left_for_compactions_of_the_database() {
        for (database, room) in [(0, 6_200), (100, 6_100), (300, 5_800), (1_000, 5_000)] {
            let (ledger, _) = ledger(6_400, 0, database, 1 << 40);
            assert!(ledger.reserve(room + 1).is_err() && ledger.reserve(room).is_ok(), "{database}");
        }
    }

    #[test]
    fn sto_06_a_dropped_reservation_gives_its_room_back() {
        let (ledger, _) = ledger(6_400, 0, 0, 1 << 40);
        let room = ledger.reserve(6_200).unwrap();
        assert!(ledger.reserve(1).map(drop).unwrap_err().is_no_space());
        drop(room);
        ledger.reserve(6_200).unwrap().settle(files(1_000), 200);
        assert_eq!(ledger.balance().physical_bytes, 1_200);
        ledger.count(Totals::default().minus(files(1_000)));
        let balance = ledger.balance();
        assert_eq!((balance.physical_bytes, balance.reserved_bytes), (200, 0));
        assert_eq!((balance.logical_bytes, balance.blobs), (0, 0));
    }

    #[test]
    fn sto_06_the_database_is_measured_before_a_writer_is_refused() {
        let (ledger, fake) = ledger(6_400, 0, 6_300, 1 << 40);
        assert!(ledger.reserve(1).is_err());
        fake.database.store(100, Ordering::Relaxed);
        assert!(ledger.reserve(1).is_ok());
    }

    #[test]
    fn sto_07_no_writer_gets_the_reserve_of_the_volume() {
        let headroom = COMPACTION_BYTES_MAX;
        let (ledger, fake) = ledger(u64::MAX, 1_000, 0, headroom + 1_500);
        let room = ledger.reserve(400).unwrap();
        let error = ledger.reserve(200).map(drop).unwrap_err();
        let kept = format!("{} are to stay free", headroom + 1_000);
        assert!(error.is_no_space() && error.to_string().contains(&kept), "{error}");
        drop(room);
        fake.free.store(900, Ordering::Relaxed);
        ledger.measure_now().unwrap();
        assert_eq!(ledger.balance().volume_free_bytes, 900);
    }
}
