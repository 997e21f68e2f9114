//! Reads small blobs by their hash alone, and finds where the results of an action come from, for the
//! commands that explain actions. Users know a hash and no size.
//!
//! Invariant (DMN-06): reading here does not count as use, so it keeps nothing from being evicted.

use std::sync::Arc;

use bytes::Bytes;
use kache_cas::{
    AccessKind, ActionCache, ActionKey, BlobStore, Digest, DigestFunction, FETCHED, Hash, MADE_HERE, Store,
    with_causes,
};
use kache_client::control::{Fetched, reply};
use tokio::sync::{Semaphore, mpsc};

use super::wire::{failed, send};
use crate::explain::ResultOrigins;

/// The largest blob that is read. A larger one is no action and no directory, and would not fit into
/// a frame.
pub const FETCH_BYTES_MAX: u64 = 3 << 20;

/// Returns the bytes of a blob; `None` if the store does not have it, or if it is too large.
pub fn fetch(blobs: &dyn BlobStore, hash: Hash) -> Result<Option<Bytes>, String> {
    // A hash alone does not tell which function made it, so all of them are tried.
    for function in DigestFunction::ALL {
        let size = blobs.size_of(function, hash).map_err(|error| with_causes(&error))?;
        let Some(size_bytes) = size.filter(|size| *size <= FETCH_BYTES_MAX) else { continue };
        let digest = Digest::new(function, hash, size_bytes);
        let content = blobs.open(&digest, AccessKind::Peek).map_err(|error| with_causes(&error))?;
        if let Some(content) = content {
            return content.read_all().map(Some).map_err(|error| error.to_string());
        }
    }
    Ok(None)
}

/// Returns where the results of the action with this hash come from.
pub fn origins(actions: &dyn ActionCache, hash: Hash) -> Result<ResultOrigins, String> {
    let mut origins = ResultOrigins::default();
    for function in DigestFunction::ALL {
        let has = |instance: &str| {
            let key = ActionKey { instance: instance.into(), function, hash };
            let found = actions.get(&key, AccessKind::Peek).map_err(|error| with_causes(&error));
            found.map(|found| found.is_some())
        };
        origins.made_here |= has(MADE_HERE)?;
        origins.from_remote |= has(FETCHED)?;
        origins.uploaded |= has("")?;
    }
    Ok(origins)
}

/// The number of blobs that are read at once. A request above it fails, and its client tries again.
const FETCHES_MAX: usize = 16;

/// Answers the requests of `kache explain` and `kache diff` for stored blobs.
#[derive(Debug)]
pub(super) struct FetchHandler {
    free: Arc<Semaphore>,
}

impl Default for FetchHandler {
    fn default() -> Self {
        FetchHandler { free: Arc::new(Semaphore::new(FETCHES_MAX)) }
    }
}

impl FetchHandler {
    /// Reads a blob on a thread that may block, and sends it.
    pub(super) fn begin(
        &self,
        store: Option<&Arc<Store>>,
        hash: &[u8],
        replies: mpsc::WeakSender<reply::Kind>,
    ) {
        // Requests do not queue: their clients have a deadline, so a request above the limit fails at once.
        let permit = Arc::clone(&self.free).try_acquire_owned();
        let (Some(store), Ok(hash), Ok(permit)) =
            (store.map(Arc::clone), <[u8; Hash::LEN]>::try_from(hash), permit)
        else {
            let why = "it cannot be read now: the store is not open, there are too many requests, or that is no hash";
            return send(&replies, failed(why.to_owned()));
        };
        tokio::task::spawn_blocking(move || {
            let found = fetch(store.blobs(), Hash(hash)).and_then(|content| {
                let ResultOrigins { made_here, from_remote, uploaded } =
                    origins(store.actions(), Hash(hash))?;
                Ok(Fetched { content, made_here, uploaded, from_remote })
            });
            drop((store, permit));
            send(&replies, found.map_or_else(failed, reply::Kind::Fetched));
        });
    }
}

#[cfg(test)]
mod tests {
    use kache_cas::{Store, StoreError, StoreSettings, StoredResult};
    use kache_proto::reapi::ActionResult;

    use super::*;

    #[test]
    fn a_blob_is_found_by_its_hash_alone() {
        let store = Store::in_memory(StoreSettings::new("/nowhere"));
        let put = |bytes: Vec<u8>| {
            let digest: Digest = Digest::of(DigestFunction::Blake3, &bytes);
            store.blobs().insert(&[(digest, bytes.into())]).remove(0).unwrap();
            digest.hash
        };
        let small = put(b"action".to_vec());
        assert_eq!(fetch(store.blobs(), small).unwrap().as_deref(), Some(&b"action"[..]));
        assert_eq!(fetch(store.blobs(), DigestFunction::Blake3.hash(b"other")).unwrap(), None);
        assert_eq!(fetch(store.blobs(), DigestFunction::Sha256.hash(b"action")).unwrap(), None);
        let large = put(vec![7; FETCH_BYTES_MAX as usize + 1]);
        assert_eq!(fetch(store.blobs(), large).unwrap(), None);
    }

    /// Results that cannot be read.
    struct Unreadable;

    impl Unreadable {
        fn error() -> StoreError {
            StoreError::io("read", "/store/db", std::io::Error::from(std::io::ErrorKind::StorageFull))
        }
    }

    impl ActionCache for Unreadable {
        fn get(&self, _: &ActionKey, _: AccessKind) -> Result<Option<StoredResult>, StoreError> {
            Err(Unreadable::error())
        }
        fn put(&self, _: &ActionKey, _: &ActionResult) -> Result<StoredResult, StoreError> {
            Err(Unreadable::error())
        }
        fn remove(&self, _: &ActionKey) -> Result<bool, StoreError> {
            Err(Unreadable::error())
        }
        fn page(
            &self,
            _: Option<&ActionKey>,
            _: usize,
        ) -> Result<Vec<(ActionKey, StoredResult)>, StoreError> {
            Err(Unreadable::error())
        }
    }

    #[test]
    fn an_error_of_the_store_is_told_with_the_systems_error() {
        let told = origins(&Unreadable, DigestFunction::Blake3.hash(b"action")).err().unwrap();
        assert_eq!(told, "failed to read `/store/db`: no storage space");
    }

    #[test]
    fn the_origin_of_results_follows_from_their_keys() {
        let store = Store::in_memory(StoreSettings::new("/nowhere"));
        let own = ActionKey::made_here(DigestFunction::Blake3, DigestFunction::Blake3.hash(b"action"));
        let uploaded = ActionKey { instance: "".into(), function: own.function, hash: own.hash };
        let told = || origins(store.actions(), own.hash).unwrap();
        assert_eq!(told(), ResultOrigins::default());
        store.actions().put(&uploaded, &ActionResult::default()).unwrap();
        assert_eq!(told(), ResultOrigins { uploaded: true, ..ResultOrigins::default() });
        store.actions().put(&own, &ActionResult::default()).unwrap();
        assert_eq!(told(), ResultOrigins { made_here: true, uploaded: true, from_remote: false });
    }
}
