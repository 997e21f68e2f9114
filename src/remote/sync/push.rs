//! Copies results of the store to a remote.

use std::sync::Arc;
use std::time::Duration;

use kache_cas::{ActionKey, DigestFunction, FETCHED, Hash, MADE_HERE, Store, StoreError};
use tokio::sync::broadcast::error::RecvError;

use super::progress::{Copied, HeldStore, SyncContext};
use super::report::{SyncReport, Tally};
use crate::remote::blocking::with_store;
use crate::remote::builds::{self, WorkspaceName};
use crate::remote::failure::{FailureCause, TransferFailure};
use crate::remote::handle::RemoteHandle;
use crate::remote::queue::UploadQueue;
use crate::remote::record;
use crate::remote::upload::{UploadOutcome, upload_or_quarantine};

/// The number of results that are read at once when the store is listed.
const PAGE_RESULTS: usize = 256;

/// The interval at which the queue is looked at, in case the end of an upload was missed.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What is uploaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PushScope {
    /// The uploads that wait.
    Queued,
    /// What the last builds of this workspace used.
    Workspace(WorkspaceName),
    /// Every result of the store.
    Everything,
}

/// Uploads the results of a scope. `queue` has the uploads that wait for `queued`; `fresh` is the same remote
/// with a connection of its own, which knows nothing about what the remote had earlier.
pub async fn push(
    context: &SyncContext<'_>,
    (queue, queued): (&UploadQueue, &Arc<RemoteHandle>),
    fresh: &Arc<RemoteHandle>,
    scope: &PushScope,
    report: &mut SyncReport,
) {
    let mut tally = Tally::new(&fresh.name, false);
    if let Err(failure) = require_writable(fresh).await {
        tally.failed(failure, queued.uploads_waiting());
        return tally.add_to(report);
    }
    let pushed = match scope {
        PushScope::Queued => push_queued(context, queue, queued, &mut tally).await,
        PushScope::Workspace(workspace) => {
            let workspace = workspace.hash();
            push_stored(context, fresh, Some(workspace), &mut tally).await
        }
        PushScope::Everything => push_stored(context, fresh, None, &mut tally).await,
    };
    if let Err(failure) = pushed {
        tally.failed(failure, 0);
    }
    tally.add_to(report);
}

/// Asks a remote whether it takes results.
async fn require_writable(handle: &RemoteHandle) -> Result<(), TransferFailure> {
    let capabilities = handle.writer.capabilities().await.map_err(|error| TransferFailure::from(&error))?;
    match capabilities.takes_results {
        true => Ok(()),
        false => Err(TransferFailure::new(FailureCause::Refused, "it says that it takes no results")),
    }
}

/// Waits until the uploads in the queue are made.
async fn push_queued(
    context: &SyncContext<'_>,
    queue: &UploadQueue,
    handle: &Arc<RemoteHandle>,
    tally: &mut Tally,
) -> Result<(), TransferFailure> {
    let mut ends = queue.ends();
    queue.add_remote(handle);
    while queue.count(handle).is_none() {
        context.store()?;
        tokio::time::sleep(LOOK_EVERY).await;
    }
    // More may wait than the queue has: results that are just being stored.
    let waiting = handle.uploads_waiting();
    if context.is_dry_run {
        (0..waiting).for_each(|_| tally.copied());
        return Ok(());
    }
    if waiting > 0 {
        // The breaker of the builds may be open although the remote answers again.
        handle.close_breaker().await;
        queue.resume(handle);
    }
    let mut put_back = None;
    loop {
        let left = handle.uploads_waiting();
        // With an empty queue, the ends that are still to be read are there already.
        let wait = if left == 0 { Duration::ZERO } else { LOOK_EVERY };
        match tokio::time::timeout(wait, ends.recv()).await {
            Ok(Ok(end)) if end.remote == handle.id => match end.failure {
                None => tally.copied(),
                Some(failure) if is_final(&failure) => tally.failed(failure, 1),
                Some(failure) => put_back = Some(failure),
            },
            Ok(Ok(_) | Err(RecvError::Lagged(_))) => {}
            Err(_) if left > 0 => match &put_back {
                // What is left is not tried at present. The last failure stands for all of it.
                Some(failure) if queue.is_stuck(handle) => {
                    tally.failed(failure.clone(), left);
                    return Ok(());
                }
                _ => {}
            },
            Ok(Err(RecvError::Closed)) | Err(_) => return Ok(()),
        }
        context.store()?;
        context.tell(&handle.name, false, tally, waiting);
    }
}

/// Whether only this upload fails, and does not wait any more.
fn is_final(failure: &TransferFailure) -> bool {
    !matches!(failure.cause, FailureCause::Refused | FailureCause::Unreachable | FailureCause::NoRoom)
}

/// Uploads what the last builds of a workspace used, or everything that the store has.
async fn push_stored(
    context: &SyncContext<'_>,
    handle: &Arc<RemoteHandle>,
    workspace: Option<Hash>,
    tally: &mut Tally,
) -> Result<(), TransferFailure> {
    let capabilities = handle.writer.capabilities().await.map_err(|error| TransferFailure::from(&error))?;
    let (store, held) = context.store()?;
    let list = move |store: &Store| {
        let _held = held;
        match workspace {
            Some(workspace) => builds::own_actions(store.actions(), workspace),
            None => own_actions(store),
        }
    };
    let listed = with_store(&store, list).await;
    let actions = listed.map_err(|error| TransferFailure::from(&error))?;
    let (is_dry_run, function) = (context.is_dry_run, capabilities.function);
    let copy = |action: Hash, held: HeldStore| {
        let handle = Arc::clone(handle);
        async move {
            let copied = copy_result(&handle, &held.0, action, function, is_dry_run).await;
            drop(held);
            copied.unwrap_or_else(Copied::Failed)
        }
    };
    context.copy_all((&handle.name, false), tally, actions, copy).await;
    Ok(())
}

async fn copy_result(
    handle: &Arc<RemoteHandle>,
    store: &Arc<Store>,
    action: Hash,
    function: DigestFunction,
    is_dry_run: bool,
) -> Result<Copied, TransferFailure> {
    let load = move |store: &Store| record::load(store.actions(), &record::own_action(action), function);
    let loaded = with_store(store, load).await;
    let Some(loaded) = loaded.map_err(|error| TransferFailure::from(&error))? else {
        let why = "the store has results from before this remote was configured; a build that compiles them uploads them";
        return Err(TransferFailure::new(FailureCause::Missing, why));
    };
    if is_dry_run {
        let context = kache_remote::RequestContext::default();
        let there = handle.writer.get_result(&loaded.action.digest, &context).await;
        let there = there.map_err(|error| TransferFailure::from(&error))?;
        return Ok(if there.is_some() { Copied::WasThere } else { Copied::Now });
    }
    match upload_or_quarantine(handle, store, action, &loaded).await {
        Ok(UploadOutcome::Uploaded) => Ok(Copied::Now),
        Ok(UploadOutcome::WasThere) => Ok(Copied::WasThere),
        Ok(UploadOutcome::Differs(_)) => {
            let why = "it has other results for actions of this store";
            Err(TransferFailure::new(FailureCause::Other, why))
        }
        Err(error) => Err(TransferFailure::from(&error)),
    }
}

/// Returns the actions of all compiles whose results the store has. Failures are left out, since they are never
/// shared.
fn own_actions(store: &Store) -> Result<Vec<Hash>, StoreError> {
    let (mut found, mut after): (Vec<Hash>, Option<ActionKey>) = (Vec::new(), None);
    loop {
        let page = store.actions().page(after.as_ref(), PAGE_RESULTS)?;
        let Some((last, _)) = page.last() else { break };
        after = Some(last.clone());
        for (key, stored) in &page {
            let is_own = &*key.instance == MADE_HERE || &*key.instance == FETCHED;
            // Records name no files, and results of compiles do.
            if is_own
                && stored
                    .decode()
                    .is_ok_and(|result| result.exit_code == 0 && !result.output_files.is_empty())
            {
                found.push(key.hash);
            }
        }
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}
