//! The results that `kache sync --pull` has brought into the store, as a remote on this machine.
//!
//! They are in the form of remotes and were made for no particular checkout, so a compile finds them as it finds
//! those of another machine: by evaluating path sets. No request leaves this machine.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use kache_cas::digest::ActionMessage;
use kache_cas::{AccessKind, ActionKey, Content, Digest, DigestFunction, Store, StoreError};
use kache_proto::reapi::ActionResult;
use kache_remote::{BlobStream, Capabilities, Remote, RemoteError, RequestContext};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio_stream::wrappers::ReceiverStream;

use super::blocking::with_store;
use super::handle::{AnswerLimits, RemoteConnections, RemoteHandle, RemoteUses};
use crate::lookup::{read_record, write_record};

/// The purpose of the record that says that the store has such results.
const PURPOSE: &str = "kache pulled 1";

/// The name of these results in logs.
const NAME: &str = "the results that were pulled";

/// The size of the pieces in which a blob is read.
const PIECE_BYTES: usize = 1 << 20;

/// The pulled results of one digest function.
#[derive(Clone)]
pub struct PulledResults {
    store: Arc<Store>,
    function: DigestFunction,
}

impl std::fmt::Debug for PulledResults {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PulledResults").field("function", &self.function).finish_non_exhaustive()
    }
}

impl PulledResults {
    /// Returns the results with digests of this function.
    pub fn new(store: Arc<Store>, function: DigestFunction) -> PulledResults {
        PulledResults { store, function }
    }

    /// Returns the results that a store has, one value for each function; usually none.
    pub fn all_in(store: &Arc<Store>) -> Result<Vec<PulledResults>, StoreError> {
        let mut found = Vec::new();
        for function in DigestFunction::ALL {
            if read_record(store.actions(), PURPOSE, &Digest::empty(function))?.is_some() {
                found.push(PulledResults::new(Arc::clone(store), function));
            }
        }
        Ok(found)
    }

    /// Returns the results as a remote that is only read.
    pub fn into_handle(self) -> Arc<RemoteHandle> {
        let remote: Arc<dyn Remote> = Arc::new(self);
        let connections = RemoteConnections { reader: Arc::clone(&remote), writer: remote };
        let uses = RemoteUses { reads: true, ..RemoteUses::default() };
        RemoteHandle::new(connections, NAME.to_owned(), uses, AnswerLimits::default())
    }

    /// Notes in the store that it has results of this function.
    pub fn note(&self) -> Result<(), StoreError> {
        write_record(self.store.actions(), PURPOSE, &Digest::empty(self.function), &b"\0"[..])
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, RemoteError> {
        with_store(&self.store, work)
            .await
            .map_err(|error| RemoteError::local(kache_cas::with_causes(&error)))
    }
}

#[async_trait]
impl Remote for PulledResults {
    async fn capabilities(&self) -> Result<Capabilities, RemoteError> {
        Ok(Capabilities { function: self.function, takes_results: false })
    }

    async fn get_result(
        &self,
        action: &Digest<ActionMessage>,
        _context: &RequestContext,
    ) -> Result<Option<ActionResult>, RemoteError> {
        let key = ActionKey::pulled(action.function, action.hash);
        self.blocking(move |store| {
            store.actions().get(&key, AccessKind::Use)?.map(|stored| stored.decode()).transpose()
        })
        .await
    }

    async fn put_result(
        &self,
        action: &Digest<ActionMessage>,
        result: &ActionResult,
        _context: &RequestContext,
    ) -> Result<(), RemoteError> {
        let (key, result) = (ActionKey::pulled(action.function, action.hash), result.clone());
        self.blocking(move |store| store.actions().put(&key, &result).map(drop)).await
    }

    async fn find_missing(
        &self,
        blobs: &[Digest],
        _context: &RequestContext,
    ) -> Result<Vec<bool>, RemoteError> {
        let blobs = blobs.to_vec();
        self.blocking(move |store| store.blobs().find_missing(&blobs, AccessKind::Use)).await
    }

    async fn read_small(
        &self,
        blobs: &[Digest],
        _context: &RequestContext,
    ) -> Result<Vec<Option<Bytes>>, RemoteError> {
        let blobs = blobs.to_vec();
        self.blocking(move |store| {
            let read = |blob: &Digest| {
                let content = store.blobs().open(blob, AccessKind::Use)?;
                let read = |content: Content| content.read_all();
                let bytes = content.map(read).transpose();
                bytes.map_err(|error| StoreError::io("read a blob", "", error))
            };
            blobs.iter().map(read).collect()
        })
        .await
    }

    async fn read(
        &self,
        blob: &Digest,
        _context: &RequestContext,
    ) -> Result<Option<BlobStream>, RemoteError> {
        let blob = *blob;
        let content = self.blocking(move |store| store.blobs().open(&blob, AccessKind::Use)).await?;
        let Some(content) = content else { return Ok(None) };
        let (sender, pieces) = mpsc::channel(1);
        let send_all = move || {
            let mut offset = 0;
            while offset < content.size_bytes() {
                let piece = content.read_at(offset, PIECE_BYTES);
                offset += PIECE_BYTES as u64;
                let piece = piece.map_err(|error| RemoteError::local(error.to_string()));
                // The receiver may have enough.
                if sender.blocking_send(piece).is_err() {
                    return;
                }
            }
        };
        spawn_blocking(send_all);
        Ok(Some(Box::pin(ReceiverStream::new(pieces))))
    }

    async fn write(
        &self,
        blobs: &[(Digest, Content)],
        _context: &RequestContext,
    ) -> Vec<Result<(), RemoteError>> {
        let in_memory = |(digest, content): &(Digest, Content)| match content {
            Content::Memory(bytes) => Some((*digest, bytes.clone())),
            Content::File { .. } => None,
        };
        let Some(owned) = blobs.iter().map(in_memory).collect::<Option<Vec<_>>>() else {
            let why = RemoteError::refused("only blobs in memory are taken");
            return blobs.iter().map(|_| Err(why.clone())).collect();
        };
        let count = owned.len();
        let insert = move |store: &Store| -> Result<Vec<_>, StoreError> { Ok(store.blobs().insert(&owned)) };
        match self.blocking(insert).await {
            Ok(outcomes) => {
                let told = |error: StoreError| RemoteError::local(kache_cas::with_causes(&error));
                outcomes.into_iter().map(|outcome| outcome.map_err(told)).collect()
            }
            Err(error) => vec![Err(error); count],
        }
    }
}
