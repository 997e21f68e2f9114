//! What is known of files by their stamps: digests of contents, digests of listings.
//!
//! A memo belongs to an inode, not to a path: where many checkouts share the bytes of one
//! file, one memo serves them all, and the same link in a second tree costs no hashing.
//! It knows no clock and no disk; whoever adds a memo vouches for it (KEY-05).

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use kache_cas::Digest;

use super::stamp::{Inode, Stamp};

/// How many memos are kept: 10,000 sources of a hundred checkouts that share nothing would
/// need more, and are hashed again now and then. One takes about 120 bytes.
pub const MEMOS_MAX: usize = 200_000;

/// Locks that strangers do not meet at. A power of two.
const SHARDS: usize = 16;

/// A memo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Memo {
    /// The inode's state at that time.
    pub(super) stamp: Stamp,
    /// The content, or the listing of a directory.
    pub(super) digest: Digest,
    /// When it was last added or confirmed, counted in sweeps.
    pub(super) sweep: u32,
}

/// All memos.
#[derive(Debug, Default)]
pub(super) struct Memos {
    shards: [RwLock<Shard>; SHARDS],
}

#[derive(Debug, Default)]
struct Shard {
    memos: HashMap<Inode, Memo>,
    sweep: u32,
}

impl Memos {
    /// What is known of a file in this state.
    pub(super) fn get(&self, stamp: &Stamp) -> Option<Digest> {
        let shard = self.read(stamp.inode);
        let memo = shard.memos.get(&stamp.inode)?;
        (same_content(&memo.stamp, stamp)).then_some(memo.digest)
    }

    /// Remembers it.
    pub(super) fn put(&self, stamp: Stamp, digest: Digest) {
        let mut shard = self.write(stamp.inode);
        if shard.memos.len() >= MEMOS_MAX / SHARDS && !shard.memos.contains_key(&stamp.inode) {
            shard.make_room();
        }
        let sweep = shard.sweep;
        shard.memos.insert(stamp.inode, Memo { stamp, digest, sweep });
    }

    /// A copy of all of them, in no order.
    pub(super) fn all(&self) -> Vec<Memo> {
        let shards = self.shards.iter();
        shards
            .flat_map(|shard| {
                let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
                shard.memos.values().copied().collect::<Vec<_>>()
            })
            .collect()
    }

    fn read(&self, inode: Inode) -> RwLockReadGuard<'_, Shard> {
        self.shards[shard_of(inode)].read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, inode: Inode) -> RwLockWriteGuard<'_, Shard> {
        self.shards[shard_of(inode)].write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shard {
    /// Drops what was not added since the last time, or everything if that is nothing.
    fn make_room(&mut self) {
        let full = self.memos.len();
        let sweep = self.sweep;
        self.memos.retain(|_, memo| memo.sweep == sweep);
        if self.memos.len() == full {
            self.memos.clear();
        }
        self.sweep += 1;
    }
}

/// Neighbouring inodes go to different shards.
fn shard_of(inode: Inode) -> usize {
    usize::try_from(inode.number % SHARDS as u64).unwrap_or_default()
}

/// A change of permissions changes the date, not the content; the date decides.
fn same_content(known: &Stamp, now: &Stamp) -> bool {
    (known.size_bytes, known.mtime_ns, known.ctime_ns) == (now.size_bytes, now.mtime_ns, now.ctime_ns)
}
