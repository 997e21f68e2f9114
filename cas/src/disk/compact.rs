//! Frees the space of records that were deleted from the database.
//!
//! RocksDB keeps deleted records until a compaction happens to cover them, which may be late for a
//! store that is full. So when enough is deleted, this compacts all tables, one slice of the keys
//! at a time; keys are hashes, so all slices are about equally large. It deletes no records.

use super::database::DbTable;
use super::store::StoreInner;

/// The number of steps of a round. A database of 1 GB is rewritten in steps of 64 MB, which take a
/// fraction of a second each.
const SLICES: u16 = 16;

/// No round begins if fewer deleted bytes than this occupy the database.
const RECLAIMABLE_BYTES_MIN: u64 = 1 << 20;

/// A round begins if more than one part in this many of the database is deleted, or if less than one part in this
/// many of the store's limit is left.
const PARTS: u64 = 8;

/// A round of compaction that is under way.
#[derive(Clone, Copy)]
struct CompactionRound {
    slice: u16,
    /// How much was deleted when the round began.
    reclaimable_bytes: u64,
}

/// The state of compaction between two steps.
#[derive(Default)]
pub(super) struct Compactor {
    round: Option<CompactionRound>,
}

impl Compactor {
    /// Compacts one slice if that is due. Returns whether more is due at once.
    pub(super) fn step(&mut self, store: &StoreInner) -> bool {
        let Some(round) = self.round.or_else(|| due(store)) else { return false };
        for (table, prefixes) in [
            // Keys of actions begin with the number of the digest function: 1 is SHA-256 and 9 is BLAKE3.
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

/// Returns the first and the last key of a slice, for keys that are this prefix and a hash.
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
