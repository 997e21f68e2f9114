//! A decorator that returns an action result only if every blob it names is present (STO-03).
//!
//! An access counts for the action first and then for every blob that it names, including those
//! in trees, so that a blob never looks older than the action that needs it.
//!
//! An often used action costs one lookup: as long as the store's count of deletions has not moved,
//! a result that was found complete is complete, and within [`RENEWAL_SLACK`] its promise needs no
//! new record. The digests in a tree are remembered by the tree's digest, so that memory never
//! goes out of date.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use kache_proto::Message;
use kache_proto::reapi::{ActionResult, Tree};
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::clock::{Clock, duration_ms};
use crate::digest::Digest;
use crate::error::StoreError;
use crate::leases::RENEWAL_SLACK;
use crate::metering::Meter;
use crate::references::{self, TreeReference};
use crate::shared_computation::SharedComputations;
use crate::store::{AccessKind, ActionCache, ActionKey, BlobStore, StoredResult};

/// How many results are remembered as complete: at 40 bytes each, a few megabytes.
const REMEMBERED_RESULTS_MAX: usize = 65_536;

/// How many digests all remembered trees may hold together: about 12 MiB.
const REMEMBERED_TREE_DIGESTS_MAX: u64 = 262_144;

/// How many trees are remembered at most, if all of them are small.
const REMEMBERED_TREES_MAX: usize = 8_192;

/// The largest encoded tree that is read into memory. At about 80 bytes a file it has 800,000
/// files; a result with a larger tree cannot be checked and is a miss.
pub const TREE_BYTES_MAX: u64 = 64 << 20;

type TreeDigests = Arc<[Digest]>;

#[derive(Clone)]
struct DigestCount;

impl Weighter<TreeReference, TreeDigests> for DigestCount {
    fn weight(&self, _tree: &TreeReference, expansion: &TreeDigests) -> u64 {
        expansion.len() as u64 + 1
    }
}

/// The digests in trees, remembered. Threads that need the same tree at the same time share one
/// read of it.
pub struct TreeCache {
    remembered: Cache<TreeReference, TreeDigests, DigestCount>,
    computations: SharedComputations<TreeReference, Option<TreeDigests>>,
}

impl Default for TreeCache {
    fn default() -> Self {
        TreeCache {
            remembered: Cache::with_weighter(REMEMBERED_TREES_MAX, REMEMBERED_TREE_DIGESTS_MAX, DigestCount),
            computations: SharedComputations::default(),
        }
    }
}

impl TreeCache {
    /// Returns the digests that a tree names; `None` if the tree's blob is missing, is not a tree,
    /// or is larger than [`TREE_BYTES_MAX`].
    pub fn expand<B: BlobStore + ?Sized>(
        &self,
        blobs: &B,
        tree: &TreeReference,
    ) -> Result<Option<TreeDigests>, StoreError> {
        if let Some(expansion) = self.remembered.get(tree) {
            return Ok(Some(expansion));
        }
        self.computations.run(tree, || {
            let expansion = read_tree(blobs, tree)?;
            if let Some(expansion) = &expansion {
                self.remembered.insert(*tree, Arc::clone(expansion));
            }
            Ok(expansion)
        })
    }
}

fn read_tree<B: BlobStore + ?Sized>(
    blobs: &B,
    tree: &TreeReference,
) -> Result<Option<TreeDigests>, StoreError> {
    if tree.digest.size_bytes > TREE_BYTES_MAX {
        return Ok(None);
    }
    let digest: Digest = tree.digest.coerce();
    let content = match blobs.open(&digest, AccessKind::Peek) {
        Ok(Some(content)) => content,
        Ok(None) | Err(StoreError::Damaged { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let bytes = content.read_all().map_err(|error| StoreError::io("read", "a tree", error))?;
    // The result says that this blob is a tree. If it is none, nothing can be restored from the
    // result, so the result counts as missing.
    let Ok(message) = Tree::decode(bytes) else { return Ok(None) };
    let references = references::tree_references(digest.function, &message, tree.with_directories);
    Ok(references.ok().map(Arc::from))
}

/// Returns the digests of all blobs that a result names, including those in its trees; `None` if a
/// tree cannot be read.
pub fn everything_named<B: BlobStore + ?Sized>(
    function: crate::DigestFunction,
    result: &ActionResult,
    blobs: &B,
    trees: &TreeCache,
) -> Result<Option<Vec<Digest>>, StoreError> {
    let named = references::references(function, result)?;
    let mut all = named.blobs;
    for tree in &named.trees {
        if tree.digest.is_empty_blob() {
            continue;
        }
        let Some(expansion) = trees.expand(blobs, tree)? else { return Ok(None) };
        all.extend(expansion.iter());
    }
    Ok(Some(all))
}

/// The times at which a result was found complete, and the count of deletions then.
#[derive(Clone, Copy)]
struct KnownComplete {
    deletions: u64,
    used_ms: u64,
    promised_ms: u64,
}

impl KnownComplete {
    /// Tells whether the blobs need not be checked again for this access.
    fn still_covers(&self, deletions: u64, access: AccessKind, now_ms: u64) -> bool {
        let recent = |then_ms: u64| now_ms < then_ms.saturating_add(duration_ms(RENEWAL_SLACK) / 2);
        let is_covered = match access {
            AccessKind::Peek => true,
            AccessKind::Use => recent(self.used_ms),
            AccessKind::Promise => recent(self.promised_ms),
        };
        is_covered && self.deletions == deletions
    }
}

/// Decorates an action cache so that it returns complete results only.
pub struct CompleteActionCache<A: ?Sized, B: ?Sized> {
    actions: Arc<A>,
    blobs: Arc<B>,
    clock: Arc<dyn Clock>,
    trees: Arc<TreeCache>,
    meter: Arc<Meter>,
    complete: Cache<u64, KnownComplete>,
    /// Results are remembered by a keyed hash of their bytes: a replaced result has another hash,
    /// and a client that does not know the key cannot provoke a collision.
    fingerprints: RandomState,
}

impl<A: ActionCache + ?Sized, B: BlobStore + ?Sized> CompleteActionCache<A, B> {
    /// Decorates `actions`, whose blobs are in `blobs`.
    pub fn new(
        actions: Arc<A>,
        blobs: Arc<B>,
        clock: Arc<dyn Clock>,
        trees: Arc<TreeCache>,
        meter: Arc<Meter>,
    ) -> Self {
        let complete = Cache::new(REMEMBERED_RESULTS_MAX);
        CompleteActionCache {
            actions,
            blobs,
            clock,
            trees,
            meter,
            complete,
            fingerprints: RandomState::new(),
        }
    }

    fn is_complete(
        &self,
        key: &ActionKey,
        stored: &StoredResult,
        access: AccessKind,
    ) -> Result<bool, StoreError> {
        // The key is left out on purpose: two actions with the same result share one check. The
        // function is included, because it decides which blobs the hashes name.
        let fingerprint = self.fingerprints.hash_one((key.function, &stored.encoded));
        let now_ms = self.clock.now_ms();
        // Read before the blobs are looked up, so that a deletion in between makes this stale.
        let deletions = self.blobs.deletions();
        let before = self.complete.get(&fingerprint);
        if before.is_some_and(|before| before.still_covers(deletions, access, now_ms)) {
            return Ok(true);
        }
        let result = stored.decode()?;
        let named = everything_named(key.function, &result, &*self.blobs, &self.trees)?;
        let Some(named) = named else { return Ok(false) };
        if self.blobs.find_missing(&named, access)?.contains(&true) {
            return Ok(false);
        }
        self.remember(fingerprint, before, deletions, access, now_ms);
        Ok(true)
    }

    fn remember(
        &self,
        fingerprint: u64,
        before: Option<KnownComplete>,
        deletions: u64,
        access: AccessKind,
        now_ms: u64,
    ) {
        let mut complete = before.unwrap_or(KnownComplete { deletions, used_ms: 0, promised_ms: 0 });
        complete.deletions = deletions;
        match access {
            AccessKind::Peek => {}
            AccessKind::Use => complete.used_ms = now_ms,
            AccessKind::Promise => (complete.used_ms, complete.promised_ms) = (now_ms, now_ms),
        }
        self.complete.insert(fingerprint, complete);
    }

    /// Moves file contents that a client sent inside the result to the blob store, where readers
    /// of the result look for them.
    fn move_contents_to_blobs(&self, key: &ActionKey, result: &mut ActionResult) -> Result<(), StoreError> {
        for file in &mut result.output_files {
            let contents = std::mem::take(&mut file.contents);
            let Some(stated) = file.digest.as_ref().filter(|_| !contents.is_empty()) else { continue };
            let digest = Digest::parse(key.function, &stated.hash, stated.size_bytes)?;
            for outcome in self.blobs.insert(&[(digest, contents)]) {
                outcome.map_err(|error| match error.is_callers_fault() {
                    true => {
                        StoreError::InvalidResult { why: format!("contents of `{}`: {error}", file.path) }
                    }
                    false => error,
                })?;
            }
        }
        Ok(())
    }
}

impl<A: ActionCache + ?Sized, B: BlobStore + ?Sized> ActionCache for CompleteActionCache<A, B> {
    fn get(&self, key: &ActionKey, access: AccessKind) -> Result<Option<StoredResult>, StoreError> {
        let Some(stored) = self.actions.get(key, access)? else { return Ok(None) };
        if self.is_complete(key, &stored, access)? {
            return Ok(Some(stored));
        }
        self.meter.actions_incomplete.increment();
        Ok(None)
    }

    /// Stores the result even if blobs are missing: they may be on their way. For the blobs that
    /// are present this counts as a use.
    fn put(&self, key: &ActionKey, result: &ActionResult) -> Result<StoredResult, StoreError> {
        let mut admitted = references::admit(key.function, result.clone())?;
        self.move_contents_to_blobs(key, &mut admitted)?;
        let stored = self.actions.put(key, &admitted)?;
        if let Some(named) = everything_named(key.function, &admitted, &*self.blobs, &self.trees)? {
            self.blobs.find_missing(&named, AccessKind::Use)?;
        }
        Ok(stored)
    }

    fn remove(&self, key: &ActionKey) -> Result<bool, StoreError> {
        self.actions.remove(key)
    }

    fn page(
        &self,
        after: Option<&ActionKey>,
        results_max: usize,
    ) -> Result<Vec<(ActionKey, StoredResult)>, StoreError> {
        self.actions.page(after, results_max)
    }
}

#[cfg(test)]
#[path = "completeness_tests.rs"]
mod tests;
