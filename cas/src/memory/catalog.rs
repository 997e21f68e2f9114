//! `Catalog` in memory: pages in key order, and deletions that check the lease under the lock.

use std::ops::Bound;

use super::state::{ActionOrder, MemoryAction, order};
use super::store::MemoryStore;
use crate::digest::{Digest, Hash};
use crate::error::StoreError;
use crate::evict::{ActionEntry, BlobEntry, Catalog, Usage};
use crate::leases::Retention;
use crate::store::ActionKey;

impl Catalog for MemoryStore {
    fn usage(&self) -> Result<Usage, StoreError> {
        let state = self.state();
        Ok(Usage {
            physical_bytes: state.physical_bytes,
            logical_bytes: state.logical_bytes,
            blobs: state.blobs.len() as u64,
            action_results: state.actions.len() as u64,
            ..Usage::default()
        })
    }

    fn actions_after(
        &self,
        after: Option<&ActionKey>,
        entries_max: usize,
    ) -> Result<Vec<ActionEntry>, StoreError> {
        let start = after.map_or(Bound::Unbounded, |key| Bound::Excluded(order(key)));
        let state = self.state();
        let page = state.actions.range((start, Bound::Unbounded)).take(entries_max);
        Ok(page.map(|(order, record)| action_entry(order, record)).collect())
    }

    fn blobs_after(&self, after: Option<&Hash>, entries_max: usize) -> Result<Vec<BlobEntry>, StoreError> {
        let start = after.map_or(Bound::Unbounded, |hash| Bound::Excluded(*hash));
        let state = self.state();
        let page = state.blobs.range((start, Bound::Unbounded)).take(entries_max);
        Ok(page.filter_map(|(hash, _)| state.blob_entry(*hash)).collect())
    }

    fn action_entry(&self, key: &ActionKey) -> Result<Option<ActionEntry>, StoreError> {
        let order = order(key);
        Ok(self.state().actions.get(&order).map(|record| action_entry(&order, record)))
    }

    fn blob_entry(&self, digest: &Digest) -> Result<Option<BlobEntry>, StoreError> {
        let state = self.state();
        let blake3 = state.blake3_of(digest.function, digest.hash);
        let entry = blake3.and_then(|blake3| state.blob_entry(blake3));
        Ok(entry.filter(|entry| entry.names.size_bytes == digest.size_bytes))
    }

    fn delete_action(&self, key: &ActionKey, expected: Retention) -> Result<bool, StoreError> {
        let now_ms = self.now_ms();
        let order = order(key);
        let mut state = self.state();
        let may_go = state
            .actions
            .get(&order)
            .is_some_and(|record| record.retention == expected && !expected.is_leased(now_ms));
        Ok(may_go && state.remove_action(&order).is_some())
    }

    fn delete_blob(&self, blake3: &Hash, expected: Retention) -> Result<Option<u64>, StoreError> {
        let now_ms = self.now_ms();
        let mut state = self.state();
        let may_go = state
            .blobs
            .get(blake3)
            .is_some_and(|record| record.retention == expected && !expected.is_promised(now_ms));
        Ok(if may_go { state.remove_blob(blake3) } else { None })
    }
}

fn action_entry((instance, function, hash): &ActionOrder, record: &MemoryAction) -> ActionEntry {
    let key = ActionKey { instance: instance.clone(), function: *function, hash: *hash };
    ActionEntry { key, result: record.result.clone(), retention: record.retention }
}
