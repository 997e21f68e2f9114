//! What eviction may see of a store, and the only two things it may do to it.
//!
//! Implemented by `memory` and `disk`. Pages come in the store's own key order, so that a
//! scan of a million entries holds one page at a time; an empty page is the end. Entries
//! that come or go during a scan may be seen or not: eviction assumes neither, and asks
//! again before it deletes.
//!
//! Invariant (STO-04): a deletion is refused, under the same lock that grants leases, when
//! the thing was mentioned since it was looked at, is leased, or is pinned.

use crate::digest::{BlobNames, Digest, Hash};
use crate::error::StoreError;
use crate::leases::Retention;
use crate::store::{ActionKey, StoredResult};

/// How full it is. Cheap to ask: writers do so for every blob.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// What the store occupies on the volume, blobs and database.
    pub physical_bytes: u64,
    /// The sum of the blobs' sizes.
    pub logical_bytes: u64,
    /// How many blobs there are.
    pub blobs: u64,
    /// How many action results, by estimate.
    pub action_results: u64,
    /// How much of `physical_bytes` is deleted already and only waits for the database to
    /// give it back.
    pub reclaimable_bytes: u64,
    /// What is still free on the volume for this user; `None` where there is no volume.
    pub volume_free_bytes: Option<u64>,
}

/// An action result as eviction sees it.
#[derive(Clone, Debug)]
pub struct ActionEntry {
    /// Which action.
    pub key: ActionKey,
    /// What it names.
    pub result: StoredResult,
    /// When it was last used.
    pub retention: Retention,
}

/// A blob as eviction sees it.
#[derive(Clone, Copy, Debug)]
pub struct BlobEntry {
    /// Every name it goes by.
    pub names: BlobNames,
    /// What deleting it would free.
    pub physical_bytes: u64,
    /// When it was last used.
    pub retention: Retention,
}

/// A store that can be looked through and thinned out.
pub trait Catalog: Send + Sync {
    /// How full it is.
    fn usage(&self) -> Result<Usage, StoreError>;

    /// At most `entries_max` actions, from the first after `after`.
    fn actions_after(
        &self,
        after: Option<&ActionKey>,
        entries_max: usize,
    ) -> Result<Vec<ActionEntry>, StoreError>;

    /// At most `entries_max` blobs, from the first whose BLAKE3 comes after `after`.
    fn blobs_after(&self, after: Option<&Hash>, entries_max: usize) -> Result<Vec<BlobEntry>, StoreError>;

    /// One action, without touching it.
    fn action_entry(&self, key: &ActionKey) -> Result<Option<ActionEntry>, StoreError>;

    /// One blob by any of its names, without touching it.
    fn blob_entry(&self, digest: &Digest) -> Result<Option<BlobEntry>, StoreError>;

    /// Deletes an action result unless it was mentioned since `seen` or is leased. Whether
    /// it is gone.
    fn delete_action(&self, key: &ActionKey, expected: Retention) -> Result<bool, StoreError>;

    /// Deletes the blob with this BLAKE3, under all of its names, unless it was mentioned
    /// since `seen`, is promised or is pinned; whether an upload's grace counts is for the
    /// caller to know. How many physical bytes that freed; `None` where it was spared or was
    /// not there.
    fn delete_blob(&self, blake3: &Hash, expected: Retention) -> Result<Option<u64>, StoreError>;

    /// One bounded step of the implementation's own upkeep (writing out buffered uses,
    /// ending an epoch). Whether more is due at once.
    fn upkeep(&self) -> Result<bool, StoreError> {
        Ok(false)
    }
}
