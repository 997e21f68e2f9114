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
use tokio_stream::StreamExt as _;

use super::asked::AskedRemote;
use super::blocking::with_store;
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

impl DownloadError {
    /// Whether a blob has other bytes on the remote.
    fn is_damage(&self) -> bool {
        matches!(
            self,
            DownloadError::Remote(RemoteError::Malformed { .. })
                | DownloadError::Store(StoreError::Mismatch { .. } | StoreError::Length { .. })
        )
    }
}

/// Downloads those of the blobs that the store does not have, and returns the names of all of them.
pub async fn download_blobs(
    remote: &dyn Remote,
    store: &Arc<Store>,
    blobs: Vec<Digest>,
    context: &RequestContext,
) -> Result<NamesByDigest, DownloadError> {
    let mut names = stored_names(store, blobs.clone()).await?;
    let missing = without(blobs, &names);
    names.extend(Download { remote, asked: None, store, context }.fetch(missing).await?);
    Ok(names)
}

/// Downloads the blobs of a result for a call of a build, and returns their names. It waits no longer than the
/// build's session may, and a blob that another call downloads from the same remote is not downloaded again.
pub async fn download(
    asked: &AskedRemote,
    store: &Arc<Store>,
    result: &CheckedResult,
    context: &RequestContext,
) -> Result<NamesByDigest, DownloadError> {
    let inlined = result.inlined.clone();
    with_store(store, move |store| store.blobs().insert(&inlined).into_iter().collect::<Result<(), _>>())
        .await?;
    let blobs = result.blobs();
    let mut names = stored_names(store, blobs.clone()).await?;
    let download = Download { remote: &*asked.handle().remote, asked: Some(asked), store, context };
    loop {
        let missing = without(blobs.clone(), &names);
        if missing.is_empty() {
            return Ok(names);
        }
        // If a call failed that this one has followed, this one tries it itself in the next round.
        names.extend(download.fetch_or_follow(asked, missing).await?);
    }
}

/// The download of blobs.
struct Download<'a> {
    remote: &'a dyn Remote,
    /// `None` if no build waits for it.
    asked: Option<&'a AskedRemote>,
    store: &'a Arc<Store>,
    context: &'a RequestContext,
}

impl Download<'_> {
    /// Downloads those of the blobs that no other call downloads, and then waits for the other calls. Returns the
    /// names of those that are in the store then.
    async fn fetch_or_follow(
        &self,
        asked: &AskedRemote,
        wanted: Vec<Digest>,
    ) -> Result<NamesByDigest, DownloadError> {
        let (leading, mut following) = asked.handle().flights.join(wanted);
        let mut names = stored_names(self.store, leading.blobs.clone()).await?;
        names.extend(self.fetch(without(leading.blobs.clone(), &names)).await?);
        // Nobody waits for this call any more while it waits for others.
        drop(leading);
        let size_bytes = following.blobs.iter().map(|blob| blob.size_bytes).sum();
        let ended = async {
            following.ended().await;
            Ok(())
        };
        asked.download(size_bytes, ended).await?;
        names.extend(stored_names(self.store, following.blobs).await?);
        Ok(names)
    }

    /// Downloads blobs. If one of them has other bytes on the remote, all are remembered as damaged: mostly the
    /// remote does not say which one it is, and those after it were not read.
    async fn fetch(&self, missing: Vec<Digest>) -> Result<NamesByDigest, DownloadError> {
        let outcome = self.fetch_all(missing.clone()).await;
        if let (Some(asked), Err(error)) = (self.asked, &outcome)
            && error.is_damage()
        {
            asked.handle().damaged.note(&missing);
        }
        outcome
    }

    async fn fetch_all(&self, missing: Vec<Digest>) -> Result<NamesByDigest, DownloadError> {
        let mut names = NamesByDigest::new();
        let (small, large): (Vec<Digest>, Vec<Digest>) =
            missing.into_iter().partition(|blob| blob.size_bytes <= SMALL_BYTES_MAX);
        for group in groups(small) {
            names.extend(self.fetch_group(group).await?);
        }
        for blob in large {
            names.insert(blob, self.fetch_large(blob).await?);
        }
        Ok(names)
    }

    async fn fetch_group(&self, group: Vec<Digest>) -> Result<NamesByDigest, DownloadError> {
        let size_bytes = group.iter().map(|blob| blob.size_bytes).sum();
        let read = self.waited(size_bytes, self.remote.read_small(&group, self.context)).await?;
        let found = |(blob, bytes): (&Digest, Option<Bytes>)| match bytes {
            Some(bytes) => Ok((*blob, bytes)),
            None => Err(DownloadError::Missing(*blob)),
        };
        let blobs: Vec<(Digest, Bytes)> = group.iter().zip(read).map(found).collect::<Result<_, _>>()?;
        with_store(self.store, move |store| {
            store.blobs().insert(&blobs).into_iter().collect::<Result<(), _>>()
        })
        .await?;
        Ok(stored_names(self.store, group).await?)
    }

    async fn fetch_large(&self, blob: Digest) -> Result<BlobNames, DownloadError> {
        let stored = async {
            let Some(stream) = self.remote.read(&blob, self.context).await? else {
                return Ok(Err(DownloadError::Missing(blob)));
            };
            match store_stream(self.store, blob, stream).await {
                Err(DownloadError::Remote(error)) => Err(error),
                stored => Ok(stored),
            }
        };
        self.waited(blob.size_bytes, stored).await?
    }

    async fn waited<T>(
        &self,
        size_bytes: u64,
        request: impl Future<Output = Result<T, RemoteError>>,
    ) -> Result<T, RemoteError> {
        match self.asked {
            Some(asked) => asked.download(size_bytes, request).await,
            None => request.await,
        }
    }
}

/// Returns the blobs that have no names yet.
fn without(mut blobs: Vec<Digest>, names: &NamesByDigest) -> Vec<Digest> {
    blobs.retain(|blob| !names.contains_key(blob));
    blobs
}

/// Returns the names of those blobs that the store has. They count as used now.
async fn stored_names(store: &Arc<Store>, blobs: Vec<Digest>) -> Result<NamesByDigest, StoreError> {
    let look_up = move |store: &Store| {
        let missing = store.blobs().find_missing(&blobs, AccessKind::Use)?;
        let mut names = NamesByDigest::new();
        for (blob, _) in blobs.iter().zip(missing).filter(|(_, is_missing)| !is_missing) {
            if let Some(found) = store.blobs().names_of(blob)? {
                names.insert(*blob, found);
            }
        }
        Ok(names)
    };
    with_store(store, look_up).await
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

/// Writes a stream into the store. The writer goes from the task to a thread that may block, and back, with
/// every piece.
async fn store_stream(
    store: &Arc<Store>,
    blob: Digest,
    mut stream: BlobStream,
) -> Result<BlobNames, DownloadError> {
    let mut writer: Box<dyn BlobWriter> = with_store(store, move |store| store.blobs().create(&blob)).await?;
    while let Some(piece) = stream.next().await {
        let piece = piece?;
        writer = with_store(store, move |_| {
            writer.write(&piece)?;
            Ok::<_, StoreError>(writer)
        })
        .await?;
    }
    Ok(with_store(store, move |_| writer.commit()).await?)
}
