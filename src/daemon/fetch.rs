//! Small blobs by their hash alone, and where an action's results are from, for the commands that
//! explain actions: people know no sizes. A look mentions nothing, so it keeps nothing from being evicted (DMN-06).

use std::sync::Arc;

use bytes::Bytes;
use kache_cas::{ActionCache, ActionKey, BlobStore, Digest, DigestFunction, Hash, MADE_HERE, Mention, Store};
use kache_client::control::{Failed, Fetched, reply};
use tokio::sync::{Semaphore, mpsc};

use crate::explain::Origins;

/// Larger blobs are no actions and no directories, and would not fit into a frame.
pub const FETCH_BYTES_MAX: u64 = 3 << 20;

/// The bytes of a blob; `None` where it is not, or where it is too large to be an action.
pub fn fetch(blobs: &dyn BlobStore, hash: Hash) -> Result<Option<Bytes>, String> {
    for function in DigestFunction::ALL {
        let size = blobs.size_of(function, hash).map_err(|error| error.to_string())?;
        let Some(size_bytes) = size.filter(|size| *size <= FETCH_BYTES_MAX) else { continue };
        let digest = Digest::new(function, hash, size_bytes);
        let content = blobs.open(&digest, Mention::Peek).map_err(|error| error.to_string())?;
        if let Some(content) = content {
            return content.read_all().map(Some).map_err(|error| error.to_string());
        }
    }
    Ok(None)
}

/// Where the results of an action are from that this is the hash of.
pub fn origins(actions: &dyn ActionCache, hash: Hash) -> Result<Origins, String> {
    let mut origins = Origins::default();
    for function in DigestFunction::ALL {
        let has = |instance: &str| {
            let key = ActionKey { instance: instance.into(), function, hash };
            let found = actions.get(&key, Mention::Peek).map_err(|error| error.to_string());
            found.map(|found| found.is_some())
        };
        origins.made_here |= has(MADE_HERE)?;
        origins.uploaded |= has("")?;
    }
    Ok(origins)
}

/// So many blobs are read at once for those who look. Who wants one more asks again.
const FETCHES_MAX: usize = 16;

/// Blobs that are being read.
#[derive(Debug)]
pub(super) struct Fetches {
    free: Arc<Semaphore>,
}

impl Default for Fetches {
    fn default() -> Self {
        Fetches { free: Arc::new(Semaphore::new(FETCHES_MAX)) }
    }
}

impl Fetches {
    /// Reads a blob where blocking is allowed, and sends it.
    pub(super) fn begin(
        &self,
        store: Option<&Arc<Store>>,
        hash: &[u8],
        replies: mpsc::WeakSender<reply::Kind>,
    ) {
        let permit = Arc::clone(&self.free).try_acquire_owned();
        let (Some(store), Ok(hash), Ok(permit)) =
            (store.map(Arc::clone), <[u8; Hash::LEN]>::try_from(hash), permit)
        else {
            let why =
                "it cannot be read now: the store is not open, too much is asked for, or that is no hash";
            return send(&replies, failed(why.to_owned()));
        };
        tokio::task::spawn_blocking(move || {
            let found = fetch(store.blobs(), Hash(hash)).and_then(|content| {
                let Origins { made_here, uploaded } = origins(store.actions(), Hash(hash))?;
                Ok(Fetched { content, made_here, uploaded })
            });
            drop((store, permit));
            send(&replies, found.map_or_else(failed, reply::Kind::Fetched));
        });
    }
}

fn failed(message: String) -> reply::Kind {
    reply::Kind::Failed(Failed { message })
}

/// A client that has gone, or reads nothing, gets nothing.
fn send(replies: &mpsc::WeakSender<reply::Kind>, kind: reply::Kind) {
    if let Some(replies) = replies.upgrade() {
        let _ = replies.try_send(kind);
    }
}

#[cfg(test)]
mod tests {
    use kache_cas::{Store, StoreSettings};
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

    #[test]
    fn where_results_are_from_is_told_by_their_keys() {
        let store = Store::in_memory(StoreSettings::new("/nowhere"));
        let own = ActionKey::made_here(DigestFunction::Blake3, DigestFunction::Blake3.hash(b"action"));
        let uploaded = ActionKey { instance: "".into(), function: own.function, hash: own.hash };
        let told = || origins(store.actions(), own.hash).unwrap();
        assert_eq!(told(), Origins::default());
        store.actions().put(&uploaded, &ActionResult::default()).unwrap();
        assert_eq!(told(), Origins { made_here: false, uploaded: true });
        store.actions().put(&own, &ActionResult::default()).unwrap();
        assert_eq!(told(), Origins { made_here: true, uploaded: true });
    }
}
