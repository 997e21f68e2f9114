//! Copies what the last builds of a workspace need from a remote into the store.

use std::sync::Arc;

use kache_cas::digest::ActionMessage;
use kache_cas::{Digest, DigestFunction, Store, StoreError};
use kache_proto::reapi::ActionResult;
use kache_remote::{Remote, RequestContext};

use super::progress::{Copied, HeldStore, SyncContext};
use super::report::{SyncReport, Tally};
use crate::remote::blocking::with_store;
use crate::remote::builds::{self, ResultKeys, WorkspaceName};
use crate::remote::download::download_blobs;
use crate::remote::failure::{FailureCause, TransferFailure};
use crate::remote::handle::RemoteHandle;
use crate::remote::path_sets::{add_path_set, read_path_sets};
use crate::remote::pulled::PulledResults;
use crate::remote::result::{inlined_blobs, named_blobs, without_contents};

/// Fetches what the last builds of a workspace need. The handle is one that no build uses, so that a slow remote is
/// waited for.
pub async fn pull(
    context: &SyncContext<'_>,
    handle: &Arc<RemoteHandle>,
    workspace: &WorkspaceName,
    report: &mut SyncReport,
) {
    let mut tally = Tally::new(&handle.name, true);
    if let Err(failure) = pull_all(context, handle, workspace, &mut tally).await {
        tally.failed(failure, 0);
    }
    tally.add_to(report);
}

async fn pull_all(
    context: &SyncContext<'_>,
    handle: &Arc<RemoteHandle>,
    workspace: &WorkspaceName,
    tally: &mut Tally,
) -> Result<(), TransferFailure> {
    let told = |error| TransferFailure::from(&error);
    let function = handle.writer.capabilities().await.map_err(told)?.function;
    let results = builds::read_results(&*handle.writer, workspace, function).await.map_err(told)?;
    if results.is_empty() {
        let why = "it knows no build of this workspace";
        return Err(TransferFailure::new(FailureCause::Missing, why));
    }
    if !context.is_dry_run {
        let (store, _held) = context.store()?;
        let noted = PulledResults::new(store, function).note();
        noted.map_err(|error| TransferFailure::from(&error))?;
    }
    let is_dry_run = context.is_dry_run;
    let copy = |keys: ResultKeys, held: HeldStore| {
        let remote = Arc::clone(&handle.writer);
        async move {
            let copied = copy_result(&*remote, &held.0, keys, function, is_dry_run).await;
            drop(held);
            copied.unwrap_or_else(Copied::Failed)
        }
    };
    context.copy_all((&handle.name, true), tally, results, copy).await;
    Ok(())
}

/// Copies one result with its blobs, and then the path sets that lead to it.
async fn copy_result(
    remote: &dyn Remote,
    store: &Arc<Store>,
    ResultKeys { query, action }: ResultKeys,
    function: DigestFunction,
    is_dry_run: bool,
) -> Result<Copied, TransferFailure> {
    let told = |error| TransferFailure::from(&error);
    let pulled = PulledResults::new(Arc::clone(store), function);
    let context = RequestContext { action_id: action.hash.to_hex(), ..RequestContext::default() };
    let is_there = pulled.get_result(&action, &context).await.map_err(told)?.is_some();
    if is_dry_run {
        return Ok(if is_there { Copied::WasThere } else { Copied::Now });
    }
    if !is_there {
        let result = remote.get_result(&action, &context).await.map_err(told)?;
        let result = result.ok_or_else(|| lost("the result of an action", &action))?;
        copy_blobs(remote, store, &result, &context, function).await?;
        pulled.put_result(&action, &without_contents(result), &context).await.map_err(told)?;
    }
    let sets = read_path_sets(remote, &query, &context).await.map_err(told)?;
    if sets.sets.is_empty() {
        return Err(lost("the path sets of a query", &query));
    }
    // The newest set is the first one, so it is added last.
    for set in sets.sets.into_iter().rev() {
        add_path_set(&pulled, &query, set, &context).await.map_err(told)?;
    }
    Ok(if is_there { Copied::WasThere } else { Copied::Now })
}

async fn copy_blobs(
    remote: &dyn Remote,
    store: &Arc<Store>,
    result: &ActionResult,
    context: &RequestContext,
    function: DigestFunction,
) -> Result<(), TransferFailure> {
    let malformed = || TransferFailure::new(FailureCause::Other, "it has a result that is malformed");
    // A compile takes no result with directories or links, so there is no use in copying one.
    let is_foreign = !result.output_directories.is_empty() || !result.output_symlinks.is_empty();
    let blobs = named_blobs(result, function).filter(|_| !is_foreign).ok_or_else(malformed)?;
    let inlined = inlined_blobs(result, function).ok_or_else(malformed)?;
    let insert =
        move |store: &Store| store.blobs().insert(&inlined).into_iter().collect::<Result<(), StoreError>>();
    with_store(store, insert).await.map_err(|error| TransferFailure::from(&error))?;
    let downloaded = download_blobs(remote, store, blobs, context).await;
    downloaded.map(drop).map_err(|error| TransferFailure::from(&error))
}

fn lost(subject: &str, key: &Digest<ActionMessage>) -> TransferFailure {
    tracing::debug!("the remote does not have {subject}: {key}");
    TransferFailure::new(FailureCause::Missing, format!("it does not have {subject} that a build used"))
}
