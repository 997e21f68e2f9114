//! The interface through which eviction scans a store and deletes from it.
//!
//! `memory` and `disk` implement it. Pages come in the store's own key order, so that a scan of a
//! million entries holds one page at a time; an empty page is the end. Entries that come or go
//! during a scan may be listed or not, so eviction looks at an entry again before it deletes it.
//!
//! Invariant (STO-04): under the same lock that grants leases, a deletion is refused if the entry
//! was accessed since eviction looked at it, or is leased.

use crate::digest::{BlobNames, Digest, Hash};
use crate::error::StoreError;
use crate::leases::Retention;
use crate::store::{ActionKey, StoredResult};

/// How full a store is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// The space that blobs and database occupy on the volume.
    pub physical_bytes: u64,
    /// The sum of the blobs' sizes.
    pub logical_bytes: u64,
    /// The number of blobs.
    pub blobs: u64,
    /// The number of action results, estimated.
    pub action_results: u64,
    /// The part of `physical_bytes` that is deleted already and is freed by the database's next
    /// compactions.
    pub reclaimable_bytes: u64,
    /// How much this user may still write to the volume; `None` for a store without a volume.
    pub volume_free_bytes: Option<u64>,
}

/// An action result in a page.
#[derive(Clone, Debug)]
pub struct ActionEntry {
    /// The key of the action.
    pub key: ActionKey,
    /// The stored result, from which eviction learns the blobs that it names.
    pub result: StoredResult,
    /// The last use and the lease of the result.
    pub retention: Retention,
}

/// A blob in a page.
#[derive(Clone, Copy, Debug)]
pub struct BlobEntry {
    /// All digests of the blob.
    pub names: BlobNames,
    /// The space that deleting the blob frees.
    pub physical_bytes: u64,
    /// The last use and the lease of the blob.
    pub retention: Retention,
}

/// A store that eviction can scan and delete from.
pub trait Catalog: Send + Sync {
    /// Returns how full the store is. Cheap.
    fn usage(&self) -> Result<Usage, StoreError>;

    /// Lists at most `entries_max` actions, from the first after `after`.
    fn actions_after(
        &self,
        after: Option<&ActionKey>,
        entries_max: usize,
    ) -> Result<Vec<ActionEntry>, StoreError>;

    /// Lists at most `entries_max` blobs, from the first whose BLAKE3 comes after `after`.
    fn blobs_after(&self, after: Option<&Hash>, entries_max: usize) -> Result<Vec<BlobEntry>, StoreError>;

    /// Returns one action result; this does not count as an access.
    fn action_entry(&self, key: &ActionKey) -> Result<Option<ActionEntry>, StoreError>;

    /// Returns one blob by any of its digests; this does not count as an access.
    fn blob_entry(&self, digest: &Digest) -> Result<Option<BlobEntry>, StoreError>;

    /// Deletes an action result, unless its retention is no longer `expected` because it was
    /// accessed since, or it is leased. Returns whether it is gone.
    fn delete_action(&self, key: &ActionKey, expected: Retention) -> Result<bool, StoreError>;

    /// Deletes the blob with this BLAKE3 and all of its names, unless its retention is no longer
    /// `expected` because it was accessed since, or it is promised to a client. An upload's grace
    /// does not prevent the deletion: the caller decides whether it counts. Returns how many
    /// physical bytes were freed, or `None` if nothing was deleted.
    fn delete_blob(&self, blake3: &Hash, expected: Retention) -> Result<Option<u64>, StoreError>;

    /// Makes one bounded step of the implementation's own upkeep (writing out buffered uses,
    /// ending an epoch). Returns whether more is due at once.
    fn upkeep(&self) -> Result<bool, StoreError> {
        Ok(false)
    }
}
