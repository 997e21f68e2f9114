//! Brings the blobs of a remote's result into the store.
//!
//! The store hashes every blob before it becomes visible (STO-02), so a remote cannot put other bytes under a
//! digest.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use kache_cas::{AccessKind, BlobNames, BlobWriter, Digest, Store, StoreError};
use kache_remote::{BlobStream, Remote, RemoteError, RequestContext};
use thiserror::Error;
use tokio::task::spawn_blocking;
use tokio_stream::StreamExt as _;

use super::result::CheckedResult;

/// The size up to which blobs are read into memory, many with one request.
const SMALL_BYTES_MAX: u64 = 4 << 20;

/// The sum of the blobs that are read into memory at once.
const GROUP_BYTES_MAX: u64 = 16 << 20;

/// The names of blobs, by their digests in the remote's function.
pub type NamesByDigest = HashMap<Digest, BlobNames>;

/// Why the blobs of a result did not all come into the store.
#[derive(Debug, Error)]
pub enum DownloadError {
    /// The remote failed.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// The remote has the result, but not this blob.
    #[error("the remote does not have `{0}`")]
    Missing(Digest),
    /// The store did not take a blob: it has other bytes, or there is no room for it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Downloads the blobs of a result that the store does not have, and returns the names of all of them.
pub async fn download(
    remote: &dyn Remote,
    store: &Arc<Store>,
    result: &CheckedResult,
    context: &RequestContext,
) -> Result<NamesByDigest, DownloadError> {
    let inlined = result.inlined.clone();
    blocking(store, move |store| store.blobs().insert(&inlined).into_iter().collect::<Result<(), _>>())
        .await?;
    download_blobs(remote, store, result.blobs(), context).await
}

/// Downloads those of the blobs that the store does not have, and returns the names of all of them.
pub async fn download_blobs(
    remote: &dyn Remote,
    store: &Arc<Store>,
    blobs: Vec<Digest>,
    context: &RequestContext,
) -> Result<NamesByDigest, DownloadError> {
    let looked_up = blobs.clone();
    let mut names = blocking(store, move |store| stored_names(store, &looked_up)).await?;
    let is_missing = |blob: &Digest| !names.contains_key(blob);
    let (small, large): (Vec<Digest>, Vec<Digest>) =
        blobs.into_iter().filter(is_missing).partition(|blob| blob.size_bytes <= SMALL_BYTES_MAX);
    for group in groups(small) {
        names.extend(download_group(remote, store, group, context).await?);
    }
    for blob in large {
        let stream = remote.read(&blob, context).await?.ok_or(DownloadError::Missing(blob))?;
        names.insert(blob, store_stream(store, blob, stream).await?);
    }
    Ok(names)
}

/// Returns the names of those blobs that the store has. They count as used now.
fn stored_names(store: &Store, blobs: &[Digest]) -> Result<NamesByDigest, StoreError> {
    let missing = store.blobs().find_missing(blobs, AccessKind::Use)?;
    let mut names = NamesByDigest::new();
    for (blob, _) in blobs.iter().zip(missing).filter(|(_, is_missing)| !is_missing) {
        if let Some(found) = store.blobs().names_of(blob)? {
            names.insert(*blob, found);
        }
    }
    Ok(names)
}

/// Groups blobs, so that the sum of each group fits into memory.
fn groups(blobs: Vec<Digest>) -> Vec<Vec<Digest>> {
    let mut groups: Vec<Vec<Digest>> = Vec::new();
    let mut room = 0;
    for blob in blobs {
        match groups.last_mut() {
            Some(group) if blob.size_bytes <= room => group.push(blob),
            _ => {
                groups.push(vec![blob]);
                room = GROUP_BYTES_MAX;
            }
        }
        room -= blob.size_bytes;
    }
    groups
}

async fn download_group(
    remote: &dyn Remote,
    store: &Arc<Store>,
    group: Vec<Digest>,
    context: &RequestContext,
) -> Result<NamesByDigest, DownloadError> {
    let read = remote.read_small(&group, context).await?;
    let found = |(blob, bytes): (&Digest, Option<Bytes>)| match bytes {
        Some(bytes) => Ok((*blob, bytes)),
        None => Err(DownloadError::Missing(*blob)),
    };
    let blobs: Vec<(Digest, Bytes)> = group.iter().zip(read).map(found).collect::<Result<_, _>>()?;
    let names = blocking(store, move |store| {
        for outcome in store.blobs().insert(&blobs) {
            outcome?;
        }
        stored_names(store, &group)
    });
    Ok(names.await?)
}

/// Writes a stream into the store. The writer goes from the task to a thread that may block, and back, with
/// every piece.
async fn store_stream(
    store: &Arc<Store>,
    blob: Digest,
    mut stream: BlobStream,
) -> Result<BlobNames, DownloadError> {
    let mut writer: Box<dyn BlobWriter> = blocking(store, move |store| store.blobs().create(&blob)).await?;
    while let Some(piece) = stream.next().await {
        let piece = piece?;
        writer = blocking(store, move |_| {
            writer.write(&piece)?;
            Ok(writer)
        })
        .await?;
    }
    Ok(blocking(store, move |_| writer.commit()).await?)
}

/// Runs work that may block on the disk.
async fn blocking<T: Send + 'static>(
    store: &Arc<Store>,
    work: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let store = Arc::clone(store);
    spawn_blocking(move || work(&store)).await.unwrap_or(Err(StoreError::Closing))
}
