//! `kache sync` with the remotes of a directory's configuration.

use std::sync::Arc;

use tokio::task::spawn_blocking;

use super::context::Pipeline;
use crate::invocation::Call;
use crate::remote::builds::WorkspaceName;
use crate::remote::sync::{PushScope, SyncContext, SyncFailure, SyncReport, pull, push};
use crate::remote::{FailureCause, RemoteHandle, TransferFailure, UploadQueue, open_anew};

/// What is copied.
#[derive(Clone, Debug)]
pub struct SyncRequest {
    /// A call of the directory and environment whose configuration names the remotes.
    pub call: Arc<Call>,
    /// What the last builds of this workspace need is fetched; `None` fetches nothing.
    pub pull: Option<WorkspaceName>,
    /// What is uploaded; `None` uploads nothing.
    pub push: Option<PushScope>,
}

/// A remote of a sync.
struct SyncRemote {
    /// The handle that builds use, for which uploads wait.
    used: Arc<RemoteHandle>,
    /// The same remote with connections of its own.
    fresh: Arc<RemoteHandle>,
}

/// Copies results between the store and all remotes of a configuration, one remote after the other. The error is a
/// sentence that says why nothing could be copied at all.
pub async fn sync(
    pipeline: &Arc<Pipeline>,
    request: SyncRequest,
    context: &SyncContext<'_>,
) -> Result<SyncReport, String> {
    let (owned, call) = (Arc::clone(pipeline), Arc::clone(&request.call));
    let read = spawn_blocking(move || owned.settings(&call).map_err(|bypass| bypass.to_string()));
    let settings = read.await.map_err(|error| error.to_string())??;
    let mut report = SyncReport::default();
    for problem in &settings.remote_problems {
        report.fail("configuration", problem);
    }
    let remotes: Vec<SyncRemote> = settings
        .remotes
        .iter()
        .zip(pipeline.remotes_of(&settings))
        .filter_map(|(one, used)| match open_anew(one) {
            Ok(fresh) => Some(SyncRemote { used, fresh }),
            Err(error) => {
                report.fail(&used.name, &error.to_string());
                None
            }
        })
        .collect();
    let Some(queue) = pipeline.upload_queue().filter(|_| !remotes.is_empty()) else {
        return match report.failures.first() {
            Some(failure) => Err(format!("no remote can be used: {}", failure.failure.message)),
            None => Err("no remote is configured, or `KACHE_LOCAL_ONLY` is set".to_owned()),
        };
    };
    push_to_all(context, queue, &remotes, request.push.as_ref(), &mut report).await;
    if let Some(workspace) = &request.pull {
        pull_from_all(context, &remotes, workspace, &mut report).await;
    }
    Ok(report)
}

async fn push_to_all(
    context: &SyncContext<'_>,
    queue: &UploadQueue,
    remotes: &[SyncRemote],
    scope: Option<&PushScope>,
    report: &mut SyncReport,
) {
    let Some(scope) = scope else { return };
    let written = remotes.iter().filter(|remote| remote.fresh.writes);
    let mut is_any = false;
    for SyncRemote { used, fresh } in written {
        is_any = true;
        push(context, (queue, used), fresh, scope, report).await;
    }
    if !is_any {
        report.fail("configuration", "no remote is configured to be written to");
    }
}

async fn pull_from_all(
    context: &SyncContext<'_>,
    remotes: &[SyncRemote],
    workspace: &WorkspaceName,
    report: &mut SyncReport,
) {
    let mut is_any = false;
    for remote in remotes.iter().filter(|remote| remote.fresh.reads) {
        is_any = true;
        pull(context, &remote.fresh, workspace, report).await;
    }
    if !is_any {
        report.fail("configuration", "no remote is configured to be read");
    }
}

impl SyncReport {
    fn fail(&mut self, remote: &str, message: &str) {
        let failure = TransferFailure::new(FailureCause::Other, message);
        self.failures.push(SyncFailure { remote: remote.to_owned(), failure, results: 0 });
    }
}
