//! Small blobs by their hash alone, for the commands that explain actions: people know no
//! sizes. A look mentions nothing, so it keeps nothing from being evicted (DMN-06).

use std::sync::Arc;

use bytes::Bytes;
use kache_cas::{BlobStore, Digest, DigestFunction, Hash, Mention, Store};
use kache_client::control::{Failed, Fetched, reply};
use tokio::sync::{Semaphore, mpsc};

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
            let found = fetch(store.blobs(), Hash(hash));
            drop((store, permit));
            send(&replies, found.map_or_else(failed, |content| reply::Kind::Fetched(Fetched { content })));
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
}
