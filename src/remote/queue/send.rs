//! Makes one upload of the queue.

use std::sync::Arc;

use kache_cas::{AccessKind, Digest, DigestFunction, Hash, Store, StoreError};
use kache_remote::RemoteError;

use super::dir::UploadItem;
use crate::remote::blocking::with_store;
use crate::remote::builds;
use crate::remote::failure::{FailureCause, TransferFailure};
use crate::remote::handle::RemoteHandle;
use crate::remote::record;
use crate::remote::toolchain;
use crate::remote::upload::{Upload, UploadError, UploadOutcome, upload_or_quarantine};

/// Why an upload was not made.
#[derive(Debug)]
pub(super) enum SendError {
    /// The remote does not answer. It is tried again when it does.
    Unreachable(TransferFailure),
    /// The remote allows no upload. It is tried again much later.
    Refused(TransferFailure),
    /// This machine failed. It is tried again soon.
    Here(TransferFailure),
    /// It can never be made.
    Never(TransferFailure),
}

impl SendError {
    pub(super) fn into_failure(self) -> TransferFailure {
        match self {
            SendError::Unreachable(why)
            | SendError::Refused(why)
            | SendError::Here(why)
            | SendError::Never(why) => why,
        }
    }

    pub(super) fn failure(&self) -> &TransferFailure {
        match self {
            SendError::Unreachable(why)
            | SendError::Refused(why)
            | SendError::Here(why)
            | SendError::Never(why) => why,
        }
    }

    fn of(failure: TransferFailure) -> SendError {
        match failure.cause {
            FailureCause::Unreachable => SendError::Unreachable(failure),
            FailureCause::Refused => SendError::Refused(failure),
            FailureCause::NoRoom => SendError::Here(failure),
            FailureCause::TooLarge | FailureCause::Missing | FailureCause::Other => SendError::Never(failure),
        }
    }
}

/// Makes an upload.
pub(super) async fn send(
    handle: &Arc<RemoteHandle>,
    store: &Arc<Store>,
    item: UploadItem,
) -> Result<(), SendError> {
    match item {
        UploadItem::Result { own_action, function } => {
            // An upload that was made while the remote did not answer may have a function that it does not use.
            if function_of(handle).await? != function {
                return Ok(());
            }
            let loaded = with_store(store, move |store| record(store, own_action, function)).await;
            let loaded = loaded.map_err(|error| SendError::of(TransferFailure::from(&error)))?;
            let Some(loaded) = loaded else {
                let why = "the result is not in the store any more";
                return Err(SendError::Never(TransferFailure::new(FailureCause::Missing, why)));
            };
            send_result(handle, store, own_action, &loaded).await
        }
        UploadItem::Toolchain { tree, function } => {
            if function_of(handle).await? != function {
                return Ok(());
            }
            let sent = toolchain::upload(handle, store, tree, function).await;
            sent.map_err(|error| noted(handle, error))
        }
        UploadItem::Builds { workspace } => {
            let sent = builds::upload(handle, store, workspace).await;
            sent.map_err(|error| noted(handle, error))
        }
    }
}

async fn function_of(handle: &Arc<RemoteHandle>) -> Result<DigestFunction, SendError> {
    if let Some(function) = handle.function() {
        return Ok(function);
    }
    let told = handle.capabilities().await.map_err(|error| SendError::of((&error).into()))?;
    Ok(told.function)
}

async fn send_result(
    handle: &Arc<RemoteHandle>,
    store: &Arc<Store>,
    own_action: Hash,
    one: &Upload,
) -> Result<(), SendError> {
    match upload_or_quarantine(handle, store, own_action, one).await {
        Ok(UploadOutcome::Uploaded | UploadOutcome::WasThere) => Ok(()),
        Ok(UploadOutcome::Differs(output)) => {
            let message = format!("it has another result of `{}`: `{output}` differs", one.name);
            Err(SendError::Never(TransferFailure::new(FailureCause::Other, message)))
        }
        Err(error) => Err(noted(handle, error)),
    }
}

/// Notes an error of the remote at its breaker.
fn noted(handle: &Arc<RemoteHandle>, error: UploadError) -> SendError {
    let failure = TransferFailure::from(&error);
    if let UploadError::Remote(error) = error
        && error.is_transient()
    {
        // The error is reported as that of the upload.
        let _ = handle.note(Err::<(), RemoteError>(error));
    }
    SendError::of(failure)
}

/// Returns the size of an upload, and whether no other compile waits for it; `None` if it cannot be made any more.
pub(super) fn size(store: &Store, item: UploadItem) -> Option<(u64, bool)> {
    match item {
        UploadItem::Result { own_action, function } => {
            let upload = record(store, own_action, function).ok()??;
            Some((upload.size_bytes(), upload.is_leaf))
        }
        UploadItem::Toolchain { .. } | UploadItem::Builds { .. } => Some((0, false)),
    }
}

/// Leases the blobs of an upload, so that they are not evicted while it waits.
pub(super) fn lease(store: &Store, item: UploadItem) -> Result<(), StoreError> {
    let UploadItem::Result { own_action, function } = item else { return Ok(()) };
    let Some(upload) = record(store, own_action, function)? else { return Ok(()) };
    let blobs: Vec<Digest> = upload.shared.stored.iter().map(|(_, own)| *own).collect();
    store.blobs().find_missing(&blobs, AccessKind::Promise).map(drop)
}

fn record(store: &Store, own_action: Hash, function: DigestFunction) -> Result<Option<Upload>, StoreError> {
    record::load(store.actions(), &record::own_action(own_action), function)
}
