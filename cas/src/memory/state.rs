//! The content of the store in memory: a map of blobs, a map of results, and the aliases.
//!
//! This is plain data behind one lock; it reads no clock and checks no hash. Invariant: every
//! alias leads to a blob that exists, and that blob records the alias as its SHA-256.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;

use crate::digest::{BlobNames, Digest, DigestFunction, Hash};
use crate::error::StoreError;
use crate::evict::BlobEntry;
use crate::leases::Retention;
use crate::store::{AccessKind, ActionKey, StoredResult};

/// How much an entry counts beside its bytes, so that a million empty ones are not free.
const ENTRY_OVERHEAD_BYTES: u64 = 64;

/// The key of an action, in the order in which pages list actions.
pub(super) type ActionOrder = (Arc<str>, DigestFunction, Hash);

pub(super) fn order(key: &ActionKey) -> ActionOrder {
    (Arc::clone(&key.instance), key.function, key.hash)
}

/// Returns the key with this order.
pub(super) fn key((instance, function, hash): &ActionOrder) -> ActionKey {
    ActionKey { instance: Arc::clone(instance), function: *function, hash: *hash }
}

pub(super) struct MemoryBlob {
    pub(super) bytes: Bytes,
    pub(super) sha256: Option<Hash>,
    pub(super) retention: Retention,
}

impl MemoryBlob {
    pub(super) fn physical_bytes(&self) -> u64 {
        self.bytes.len() as u64 + ENTRY_OVERHEAD_BYTES
    }
}

pub(super) struct MemoryAction {
    pub(super) result: StoredResult,
    pub(super) retention: Retention,
}

impl MemoryAction {
    pub(super) fn physical_bytes(&self) -> u64 {
        self.result.encoded.len() as u64 + ENTRY_OVERHEAD_BYTES
    }
}

#[derive(Default)]
pub(super) struct MemoryState {
    pub(super) blobs: BTreeMap<Hash, MemoryBlob>,
    pub(super) aliases: HashMap<Hash, Hash>,
    pub(super) actions: BTreeMap<ActionOrder, MemoryAction>,
    pub(super) physical_bytes: u64,
    /// How much the writers that are under way may still add.
    pub(super) reserved_bytes: u64,
    pub(super) logical_bytes: u64,
    pub(super) deletions: u64,
}

impl MemoryState {
    /// Reserves room for a blob or a result of this size, or fails with `NoSpace`. The caller
    /// gives the room back with `release`, before or after the bytes are counted.
    pub(super) fn reserve(&mut self, size_bytes: u64, limit_bytes: u64) -> Result<(), StoreError> {
        let wanted_bytes = size_bytes.saturating_add(ENTRY_OVERHEAD_BYTES);
        let used_bytes = self.physical_bytes + self.reserved_bytes;
        if used_bytes.saturating_add(wanted_bytes) > limit_bytes {
            let why = format!("the store holds {used_bytes} of the {limit_bytes} bytes that it may");
            return Err(StoreError::NoSpace { wanted_bytes, why });
        }
        self.reserved_bytes += wanted_bytes;
        Ok(())
    }

    pub(super) fn release(&mut self, size_bytes: u64) {
        self.reserved_bytes -= size_bytes + ENTRY_OVERHEAD_BYTES;
    }

    pub(super) fn blake3_of(&self, function: DigestFunction, hash: Hash) -> Option<Hash> {
        match function {
            DigestFunction::Blake3 => Some(hash),
            DigestFunction::Sha256 => self.aliases.get(&hash).copied(),
        }
    }

    /// Returns the blob with this digest and counts the access; `None` also if its size is another.
    pub(super) fn access_blob(
        &mut self,
        digest: &Digest,
        access: AccessKind,
        now_ms: u64,
    ) -> Option<&MemoryBlob> {
        let blake3 = self.blake3_of(digest.function, digest.hash)?;
        let record = self.blobs.get_mut(&blake3)?;
        if record.bytes.len() as u64 != digest.size_bytes {
            return None;
        }
        record.retention = record.retention.accessed(access, now_ms);
        Some(record)
    }

    /// Makes checked bytes visible under their names. A blob that is there already gains the new
    /// name and a new upload grace.
    pub(super) fn add_blob(&mut self, names: &BlobNames, bytes: Bytes, now_ms: u64) {
        let retention = Retention::uploaded(now_ms);
        if let Some(sha256) = names.sha256 {
            self.aliases.insert(sha256, names.blake3);
        }
        if let Some(there) = self.blobs.get_mut(&names.blake3) {
            there.sha256 = there.sha256.or(names.sha256);
            there.retention = there.retention.merged(retention);
            return;
        }
        let record = MemoryBlob { bytes, sha256: names.sha256, retention };
        self.physical_bytes += record.physical_bytes();
        self.logical_bytes += record.bytes.len() as u64;
        self.blobs.insert(names.blake3, record);
    }

    /// Deletes a blob with all of its names. Returns how many physical bytes that freed.
    pub(super) fn remove_blob(&mut self, blake3: &Hash) -> Option<u64> {
        let record = self.blobs.remove(blake3)?;
        if let Some(sha256) = record.sha256 {
            self.aliases.remove(&sha256);
        }
        self.physical_bytes -= record.physical_bytes();
        self.logical_bytes -= record.bytes.len() as u64;
        self.deletions += 1;
        Some(record.physical_bytes())
    }

    /// Stores a result in place of any earlier one, whose lease it inherits.
    pub(super) fn add_action(&mut self, key: &ActionKey, result: StoredResult, now_ms: u64) {
        let order = order(key);
        let retention = Retention::used(now_ms);
        let retention = self.remove_action(&order).map_or(retention, |old| old.retention.merged(retention));
        let record = MemoryAction { result, retention };
        self.physical_bytes += record.physical_bytes();
        self.actions.insert(order, record);
    }

    pub(super) fn remove_action(&mut self, order: &ActionOrder) -> Option<MemoryAction> {
        let record = self.actions.remove(order)?;
        self.physical_bytes -= record.physical_bytes();
        Some(record)
    }

    pub(super) fn blob_entry(&self, blake3: Hash) -> Option<BlobEntry> {
        let record = self.blobs.get(&blake3)?;
        let names = BlobNames { blake3, sha256: record.sha256, size_bytes: record.bytes.len() as u64 };
        Some(BlobEntry { names, physical_bytes: record.physical_bytes(), retention: record.retention })
    }
}
