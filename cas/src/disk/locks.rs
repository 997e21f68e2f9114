//! One lock for each hash, so that a blob's file and its index record change together.
//!
//! A thread that renames a file into place and writes its record, or deletes both, holds the lock
//! of that hash meanwhile. Thus a deletion never removes a file that a writer has just put there.
//! This module knows hashes and threads, but no files.
//!
//! Lock order: several hashes are locked in ascending order, and before any other lock of the
//! store. Eviction never waits for a lock: it skips entries that are locked.

use std::collections::HashSet;

use parking_lot::{Condvar, Mutex};

use crate::digest::Hash;

/// Enough shards that threads rarely contend for one, on any number of processors.
const SHARDS: usize = 64;

/// The set of hashes that are locked.
#[derive(Default)]
pub(super) struct HashLocks {
    shards: Vec<LockShard>,
}

#[derive(Default)]
struct LockShard {
    held: Mutex<HashSet<Hash>>,
    released: Condvar,
}

/// Holds the lock of one hash until it is dropped.
pub(super) struct HashGuard<'a> {
    shard: &'a LockShard,
    hash: Hash,
}

impl HashLocks {
    pub(super) fn new() -> HashLocks {
        HashLocks { shards: (0..SHARDS).map(|_| LockShard::default()).collect() }
    }

    fn shard(&self, hash: &Hash) -> &LockShard {
        &self.shards[usize::from(hash.0[0]) % SHARDS]
    }

    /// Locks this hash; waits while another thread has it locked.
    pub(super) fn enter(&self, hash: Hash) -> HashGuard<'_> {
        let shard = self.shard(&hash);
        let mut held = shard.held.lock();
        while !held.insert(hash) {
            shard.released.wait(&mut held);
        }
        HashGuard { shard, hash }
    }

    /// Locks this hash, or returns `None` at once if it is locked.
    pub(super) fn try_enter(&self, hash: Hash) -> Option<HashGuard<'_>> {
        let shard = self.shard(&hash);
        let is_free = shard.held.lock().insert(hash);
        is_free.then(|| HashGuard { shard, hash })
    }

    /// Locks all these hashes, each once, in ascending order, which prevents deadlocks.
    pub(super) fn enter_all(&self, mut hashes: Vec<Hash>) -> Vec<HashGuard<'_>> {
        hashes.sort_unstable();
        hashes.dedup();
        hashes.into_iter().map(|hash| self.enter(hash)).collect()
    }
}

impl Drop for HashGuard<'_> {
    fn drop(&mut self) {
        self.shard.held.lock().remove(&self.hash);
        self.shard.released.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn a_locked_hash_does_not_block_other_hashes() {
        let locks = HashLocks::new();
        let guard = locks.enter(Hash([1; 32]));
        assert!(locks.try_enter(Hash([1; 32])).is_none());
        let mut neighbour = [1; 32];
        neighbour[31] = 2;
        assert!(locks.try_enter(Hash(neighbour)).is_some());
        drop(guard);
        assert!(locks.try_enter(Hash([1; 32])).is_some());
    }

    #[test]
    fn many_hashes_are_locked_in_any_order_without_deadlock() {
        let locks = HashLocks::new();
        let inside = AtomicU32::new(0);
        let hashes = |order: bool| {
            let mut hashes: Vec<Hash> = (0..8).map(|n| Hash([n; 32])).collect();
            if order {
                hashes.reverse();
            }
            hashes.push(hashes[3]);
            hashes
        };
        std::thread::scope(|scope| {
            for order in [true, false, true, false] {
                let (locks, inside) = (&locks, &inside);
                scope.spawn(move || {
                    for _ in 0..200 {
                        let guards = locks.enter_all(hashes(order));
                        assert_eq!(guards.len(), 8);
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        inside.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
    }
}
