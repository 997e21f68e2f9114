//! Answers the requests of `kache sync`: runs one sync at a time and tells the client how far it has come.
//!
//! The sync ends when its client is gone. What was copied by then stays, and the next sync goes on from there.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kache_client::control::{
    Sync as WireSync, SyncEnd, SyncFailure as WireFailure, SyncProgress, SyncTotal as WireTotal, reply, sync,
    sync_failure,
};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::spawn_blocking;

use super::activity::Activity;
use super::wire::{failed, os_string, send};
use crate::invocation::{Call, variable};
use crate::pipeline::{self, Pipeline, SyncRequest};
use crate::remote::FailureCause;
use crate::remote::builds::WorkspaceName;
use crate::remote::sync::{HeldStore, Progress, PushScope, SyncContext, SyncFailure, SyncReport, SyncTotal};

/// The shortest time between two messages about progress.
const TELL_EVERY: Duration = Duration::from_millis(100);

/// The interval at which a sync checks whether its client is still there.
const CHECK_CLIENT_EVERY: Duration = Duration::from_millis(200);

/// Returns the store, held open, or `None` when it is being closed.
pub(super) type HoldStore = Arc<dyn Fn() -> Option<HeldStore> + Send + Sync>;

/// Answers the requests of `kache sync`.
#[derive(Debug)]
pub(super) struct SyncHandler {
    free: Arc<Semaphore>,
}

impl Default for SyncHandler {
    fn default() -> Self {
        SyncHandler { free: Arc::new(Semaphore::new(1)) }
    }
}

impl SyncHandler {
    /// Begins a sync. `settle` makes sure that the results of builds which have ended wait for their uploads. It counts as a request in flight, so the daemon does not exit for being idle.
    pub(super) fn begin(
        &self,
        (pipeline, activity): (Arc<Pipeline>, &Arc<Activity>),
        (store, settle): (HoldStore, impl FnOnce() + Send + 'static),
        request: &WireSync,
        replies: mpsc::WeakSender<reply::Kind>,
    ) {
        let Ok(permit) = Arc::clone(&self.free).try_acquire_owned() else {
            return send(&replies, failed("another `kache sync` is running".to_owned()));
        };
        let in_flight = activity.request();
        let (request, is_dry_run) = (parse(request), request.dry_run);
        tokio::spawn(async move {
            // A panic in there is logged and leaves uploads for later.
            let _ = spawn_blocking(settle).await;
            let report = run(&pipeline, request, &store, is_dry_run, &replies).await;
            drop((pipeline, permit, in_flight));
            let Some(report) = report else { return };
            let end = report.map_or_else(failed, |report| reply::Kind::SyncEnd(end_message(report)));
            if let Some(replies) = replies.upgrade() {
                // The client may have gone.
                let _ = replies.send(end).await;
            }
        });
    }
}

/// Runs a sync; `None` if its client is gone.
async fn run(
    pipeline: &Arc<Pipeline>,
    request: SyncRequest,
    store: &HoldStore,
    is_dry_run: bool,
    replies: &mpsc::WeakSender<reply::Kind>,
) -> Option<Result<SyncReport, String>> {
    let told = Mutex::new(None::<Instant>);
    let report = |progress: Progress| {
        let mut told = told.lock();
        if told.is_none_or(|then| then.elapsed() >= TELL_EVERY) {
            *told = Some(Instant::now());
            send(replies, reply::Kind::SyncProgress(progress_message(progress)));
        }
    };
    let context = SyncContext { store: &**store, report: &report, is_dry_run };
    let client_is_gone = async {
        while replies.upgrade().is_some() {
            tokio::time::sleep(CHECK_CLIENT_EVERY).await;
        }
    };
    tokio::select! {
        report = pipeline::sync(pipeline, request, &context) => Some(report),
        () = client_is_gone => None,
    }
}

fn parse(request: &WireSync) -> SyncRequest {
    let call = Call {
        cwd: PathBuf::from(os_string(&request.cwd)),
        env: request.env.iter().map(|pair| variable(pair)).collect(),
        ..Call::default()
    };
    let workspace = WorkspaceName::new(request.workspace.clone());
    let push = match request.push() {
        sync::Push::Nothing => None,
        sync::Push::Queued => Some(PushScope::Queued),
        sync::Push::Workspace => workspace.clone().map(PushScope::Workspace),
        sync::Push::Everything => Some(PushScope::Everything),
    };
    SyncRequest { call: Arc::new(call), pull: workspace.filter(|_| request.pull), push }
}

fn progress_message(Progress { remote, is_pull, done, total }: Progress) -> SyncProgress {
    SyncProgress { remote, is_pull, done, total }
}

fn end_message(SyncReport { totals, failures }: SyncReport) -> SyncEnd {
    let total =
        |SyncTotal { remote, is_pull, copied, present }| WireTotal { remote, is_pull, copied, present };
    let failure = |SyncFailure { remote, failure, results }| WireFailure {
        remote,
        cause: cause(failure.cause).into(),
        message: failure.message,
        results,
    };
    SyncEnd {
        totals: totals.into_iter().map(total).collect(),
        failures: failures.into_iter().map(failure).collect(),
    }
}

fn cause(cause: FailureCause) -> sync_failure::Cause {
    match cause {
        FailureCause::Refused => sync_failure::Cause::Refused,
        FailureCause::Unreachable => sync_failure::Cause::Unreachable,
        FailureCause::TooLarge => sync_failure::Cause::TooLarge,
        FailureCause::NoRoom => sync_failure::Cause::NoRoom,
        FailureCause::Missing => sync_failure::Cause::Missing,
        FailureCause::Other => sync_failure::Cause::Other,
    }
}
