//! Memos: digests of files and of directory listings, remembered by stamp.
//!
//! A memo belongs to an inode and not to a path. If several checkouts share a file by hard links, one
//! memo serves all of them. This file knows no clock and no disk: the caller that adds a memo has to
//! make sure that a change of the file would change its stamp (KEY-05).

use std::collections::HashMap;

use kache_cas::Digest;
use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::stamp::{Inode, Stamp};

/// The largest number of memos; each takes about 120 bytes. A hundred checkouts of 10,000 sources that
/// share no file would need more; then some files are hashed again now and then.
pub const MEMOS_MAX: usize = 200_000;

/// The number of separate locks, so that calls for different files seldom wait for each other.
const SHARDS: usize = 16;

/// The digest of a file or of a listing, with the stamp that it had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Memo {
    /// The stamp that the file or directory had when the digest was computed.
    pub(super) stamp: Stamp,
    /// The digest of the file's content or of the directory's listing.
    pub(super) digest: Digest,
    /// The sweep in which the memo was added, see `Shard::make_room`.
    pub(super) sweep: u32,
}

/// All memos, in shards with a lock each.
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
    /// Returns the digest for this stamp; `None` if there is no memo or the file has changed since.
    pub(super) fn get(&self, stamp: &Stamp) -> Option<Digest> {
        let shard = self.read(stamp.inode);
        let memo = shard.memos.get(&stamp.inode)?;
        (same_content(&memo.stamp, stamp)).then_some(memo.digest)
    }

    /// Remembers the digest of the file with this stamp.
    pub(super) fn put(&self, stamp: Stamp, digest: Digest) {
        let mut shard = self.write(stamp.inode);
        if shard.memos.len() >= MEMOS_MAX / SHARDS && !shard.memos.contains_key(&stamp.inode) {
            shard.make_room();
        }
        let sweep = shard.sweep;
        shard.memos.insert(stamp.inode, Memo { stamp, digest, sweep });
    }

    /// Copies all memos, in no particular order.
    pub(super) fn all(&self) -> Vec<Memo> {
        let shards = self.shards.iter();
        shards
            .flat_map(|shard| {
                let shard = shard.read();
                shard.memos.values().copied().collect::<Vec<_>>()
            })
            .collect()
    }

    fn read(&self, inode: Inode) -> RwLockReadGuard<'_, Shard> {
        self.shards[shard_of(inode)].read()
    }

    fn write(&self, inode: Inode) -> RwLockWriteGuard<'_, Shard> {
        self.shards[shard_of(inode)].write()
    }
}

impl Shard {
    /// Drops all memos that were added before the last sweep. If none is that old, drops all of them:
    /// the limit holds in any case, and a lost memo only costs hashing.
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

/// Files with neighbouring inode numbers are used together, so they go to different shards.
fn shard_of(inode: Inode) -> usize {
    usize::try_from(inode.number % SHARDS as u64).unwrap_or_default()
}

/// Whether two stamps of one inode stand for the same content. The mode is not compared: a change of
/// permissions also changes `ctime_ns`.
fn same_content(known: &Stamp, now: &Stamp) -> bool {
    (known.size_bytes, known.mtime_ns, known.ctime_ns) == (now.size_bytes, now.mtime_ns, now.ctime_ns)
}
