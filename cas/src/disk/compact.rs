//! Giving back what was deleted from the database.
//!
//! RocksDB keeps deleted records until a compaction comes by, which in a store that is
//! full may be late. So when enough of it is deleted, the tables are compacted, a slice of
//! the keys in a step: keys are hashes, so slices are alike. Deletes nothing itself.

use super::database::DbTable;
use super::store::StoreInner;

/// A round rewrites so small a part of the tables at a time: 1 GB of database in steps of
/// 64 MB, a fraction of a second each.
const SLICES: u16 = 16;

/// Less is not worth a round.
const RECLAIMABLE_BYTES_MIN: u64 = 1 << 20;

/// One part in so many of the database, or of a store's last part that is free, is.
const PARTS: u64 = 8;

/// A round under way.
#[derive(Clone, Copy)]
struct CompactionRound {
    slice: u16,
    /// What was deleted when it began.
    reclaimable_bytes: u64,
}

/// Where compaction has got to.
#[derive(Default)]
pub(super) struct Compactor {
    round: Option<CompactionRound>,
}

impl Compactor {
    /// One step, if any is due. Whether more is.
    pub(super) fn step(&mut self, store: &StoreInner) -> bool {
        let Some(round) = self.round.or_else(|| due(store)) else { return false };
        for (table, prefixes) in [
            (DbTable::Actions, &[&[1][..], &[9]][..]),
            (DbTable::Inline, &[&[]]),
            (DbTable::Blobs, &[&[]]),
            (DbTable::Aliases, &[&[]]),
            (DbTable::Uses, &[b"a\x01", b"a\x09", b"b"]),
        ] {
            for prefix in prefixes {
                let (from, to) = bounds(prefix, round.slice);
                store.database.compact(table, &from, &to);
            }
        }
        let slice = round.slice + 1;
        self.round = (slice < SLICES).then_some(CompactionRound { slice, ..round });
        if self.round.is_none() {
            store.ledger.count_reclaimed(round.reclaimable_bytes);
        }
        self.round.is_some()
    }
}

fn due(store: &StoreInner) -> Option<CompactionRound> {
    let balance = store.ledger.balance();
    let is_much = balance.reclaimable_bytes > balance.database_bytes / PARTS;
    let is_tight = balance.room_bytes < balance.limit_bytes / PARTS;
    let is_due = balance.reclaimable_bytes >= RECLAIMABLE_BYTES_MIN && (is_much || is_tight);
    is_due.then_some(CompactionRound { slice: 0, reclaimable_bytes: balance.reclaimable_bytes })
}

/// The first and the last key of a slice, of keys with this prefix and a hash.
fn bounds(prefix: &[u8], slice: u16) -> (Vec<u8>, Vec<u8>) {
    let width = 256 / SLICES;
    let first = u8::try_from(slice * width).expect("a slice begins with a byte");
    let last = u8::try_from((slice + 1) * width - 1).expect("a slice ends with a byte");
    ([prefix, &[first]].concat(), [prefix, &[last], &[0xff; 32]].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_cover_every_key_once() {
        let keys = |slice| bounds(b"x", slice);
        assert_eq!(keys(0).0, b"x\0");
        assert_eq!(keys(SLICES - 1).1, [&b"x"[..], &[0xff; 33]].concat());
        for slice in 1..SLICES {
            assert_eq!(keys(slice).0[1], keys(slice - 1).1[1] + 1);
        }
    }
}
