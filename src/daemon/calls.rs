//! The compiler calls that are under way: one task each, between a client and the pipeline.
//!
//! The pipeline blocks, so it runs on the runtime's blocking threads; a call that waits for another
//! one's compile holds no thread.
//!
//! Invariant (DMN-03): every piece of work has a time limit, and a call whose work exceeds it goes on
//! without the cache. Other calls do not notice that, whether a result is stored slowly, a target
//! directory is seeded slowly or a checkout's disk hangs. Only if the store itself hangs, which
//! [`StoreBreaker`] finds out, all calls are passed on at once, also those that wait for a leader: so a
//! store that hangs costs a build one wait. Work that is too late still holds a thread; if
//! [`LATE_MAX`] threads are held, new calls are passed on as well.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kache_client::control::{Compile, Noted, Ran, Release, reply};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::spawn_blocking;

use super::activity::{Activity, InFlight};
use super::breaker::{PROBE_MAX, StoreBreaker};
use super::core::ConnectionId;
use super::syncing::HoldStore;
use super::watching;
use super::wire;
use crate::builds::{BegunCall, Builds, SEEDING_MAX, STORING_MAX, Seeding, SeedingPlan, Session};
use crate::invocation::{Bypass, Call, Reason};
use crate::outputs::Staging;
use crate::pipeline::{
    self, LeaderOutcome, NextStep, PUBLISH_MAX, Pipeline, Publishing, RunningCompile, StoreSlot, Verification,
};
use crate::remote::UploadWorker;

/// The time for finding the reply to a call, after which the compiler runs without one. It includes
/// the wait until the store is open. A hit takes a thousandth of it. It is shorter than the three
/// seconds that a client waits.
pub(super) const BEGIN_MAX: Duration = Duration::from_millis(2_800);

/// The time for recording how a compile went, which is one line in a file. The client waits for one
/// second of it; the rest is for a disk that stalls, because a result that is not recorded is lost.
const FINISH_MAX: Duration = Duration::from_secs(5);

/// The store is probed if work has not ended this long before its limit, so that a store that hangs
/// is known to do so when the first call goes on without it.
const PROBE_BEFORE_LIMIT: Duration = PROBE_MAX.saturating_add(Duration::from_millis(100));

/// The time after the daemon's start during which calls wait for the store to be opened.
pub(super) const STORE_OPENING_MAX: Duration = Duration::from_millis(2_500);

/// The time that a client's guard has to lock the target directory.
const GUARDED_MAX: Duration = Duration::from_millis(500);

/// The time that a client's guard has to release the target directory.
const RELEASED_MAX: Duration = Duration::from_millis(500);

/// The interval of checks whether a cargo has exited. A call that needs the cargo's records checks
/// for itself.
const CHECK_CARGO_EVERY: Duration = Duration::from_millis(200);

/// The number of results that are stored at once, besides those that have exceeded [`PUBLISH_MAX`].
const PUBLISHERS_MAX: usize = 2;

/// The number of threads that may be held by work that has exceeded its time limit. Beyond it, calls
/// are passed on and results are not stored. The runtime has 512 threads that may block.
const LATE_MAX: usize = 256;

/// The number of hits that are compiled again at once, because that takes processors from the build.
const VERIFIERS_MAX: usize = 1;

/// The number of hits that are compiled again or wait for it: those of one build, some kilobytes each.
const TO_VERIFY_MAX: usize = 256;

/// The number of messages of one client that may wait for its task. A client sends two at most.
const MESSAGES_MAX: usize = 4;

/// A message that a client sends after its call.
#[derive(Debug)]
pub(super) enum ClientMessage {
    /// The compiler has ended.
    Ran(Ran),
    /// The client's guard has locked the target directory and created this staging directory; `None`
    /// if the directory could not be locked.
    Guarding(Option<PathBuf>),
}

/// A weak sender of replies to a client, which does not keep the connection open.
pub(super) type Replies = mpsc::WeakSender<reply::Kind>;

/// All calls that are under way.
pub(super) struct Calls {
    handler: Arc<CallHandler>,
    /// For each client, the sender to its task and the staging directory of its call.
    clients: HashMap<ConnectionId, (mpsc::Sender<ClientMessage>, Option<PathBuf>)>,
    /// Cloned into every task that uses the store, and dropped by [`Calls::end_all`]. When the last
    /// clone is dropped, `store_released` ends.
    store_use: Option<mpsc::Sender<()>>,
    store_released: Option<mpsc::Receiver<()>>,
}

/// The state that the tasks of all calls share.
struct CallHandler {
    pipeline: Arc<Pipeline>,
    builds: Arc<Builds>,
    store: watch::Receiver<StoreSlot>,
    activity: Arc<Activity>,
    started: Instant,
    /// Tells whether the store hangs.
    breaker: StoreBreaker,
    /// The number of pieces of work that have exceeded their time limit and have not ended yet.
    late: AtomicUsize,
    /// Limits how many results are stored at once.
    publishers: Semaphore,
    /// Limits how many hits are compiled again at once.
    verifiers: Semaphore,
    /// Limits how many hits are compiled again or wait for it.
    to_verify: Semaphore,
    /// The daemon's view of the filesystem, which clients have to share.
    namespace: Bytes,
}

impl Calls {
    pub(super) fn new(
        pipeline: Arc<Pipeline>,
        store: watch::Receiver<StoreSlot>,
        activity: Arc<Activity>,
        cache_dir: PathBuf,
    ) -> Self {
        watching::watch_shared_files(Arc::downgrade(&pipeline));
        let handler = CallHandler {
            pipeline,
            builds: Arc::default(),
            breaker: StoreBreaker::new(cache_dir, store.clone()),
            store,
            activity,
            started: Instant::now(),
            late: AtomicUsize::new(0),
            publishers: Semaphore::new(PUBLISHERS_MAX),
            verifiers: Semaphore::new(VERIFIERS_MAX),
            to_verify: Semaphore::new(TO_VERIFY_MAX),
            namespace: wire::own_namespace(),
        };
        let (store_use, store_released) = mpsc::channel(1);
        Calls {
            handler: Arc::new(handler),
            clients: HashMap::new(),
            store_use: Some(store_use),
            store_released: Some(store_released),
        }
    }

    /// Starts to upload results in the background, until [`Calls::end_all`].
    pub(super) fn upload(&self, worker: UploadWorker) {
        if let Some(store) = self.hold_store() {
            tokio::spawn(worker.run(move || store()));
        }
    }

    /// Returns a function that returns the store with a guard which keeps it open; `None` while it is not open, and
    /// after [`Calls::end_all`].
    pub(super) fn hold_store(&self) -> Option<HoldStore> {
        let store_use = self.store_use.as_ref()?.downgrade();
        let pipeline = self.pipeline();
        Some(Arc::new(move || Some((pipeline.store().ok()?, Box::new(store_use.upgrade()?)))))
    }

    /// Returns a function that keeps the records of all builds that have ended, and waits for their results to be
    /// stored.
    pub(super) fn settle(&self) -> impl FnOnce() + Send + use<> {
        let (pipeline, builds) = (self.pipeline(), Arc::clone(&self.handler.builds));
        move || builds.keep_all_records(&pipeline, PUBLISH_MAX)
    }

    /// Starts the task of a client's call. Does nothing after [`Calls::end_all`].
    pub(super) fn begin(
        &mut self,
        id: ConnectionId,
        compile: &Compile,
        (replies, client): (Replies, Option<i32>),
    ) {
        let Some(store_use) = self.store_use.clone() else { return };
        let (sender, messages) = mpsc::channel(MESSAGES_MAX);
        let staging = wire::optional_path(&compile.staging);
        self.clients.insert(id, (sender, staging.clone()));
        let task = CallTask {
            handler: Arc::clone(&self.handler),
            replies,
            client,
            messages,
            _store_use: store_use,
            _in_flight: self.handler.activity.request(),
        };
        let namespace = compile.mount_namespace.clone();
        tokio::spawn(task.run(Arc::new(wire::call(compile)), namespace, Staging::new(staging)));
    }

    /// Delivers a client's message to the task of its call. Returns `false` if the task has ended or
    /// has too many messages.
    pub(super) fn deliver(&mut self, id: ConnectionId, message: ClientMessage) -> bool {
        let Some((sender, staging)) = self.clients.get_mut(&id) else { return false };
        // The client has removed the staging directory of its request before it ran the compiler.
        if let ClientMessage::Ran(ran) = &message {
            *staging = wire::optional_path(&ran.staging);
        }
        sender.try_send(message).is_ok()
    }

    /// Ends the call of a client that is gone, and removes the staging directory, which a client
    /// that was killed leaves behind. A client that lives revokes the directory before it closes the
    /// connection, because it needs the list of outputs in there.
    pub(super) fn end_call(&mut self, id: ConnectionId) {
        if let Some((_, Some(staging))) = self.clients.remove(&id) {
            spawn_blocking(move || remove_if_left(&staging));
        }
    }

    /// Accepts no more calls, and ends those that wait for a leader or a compiler; their clients go on
    /// without the daemon. The records of build sessions are kept before the store is released.
    pub(super) fn end_all(&mut self) {
        if let Some(store_use) = self.store_use.take() {
            let (pipeline, builds) = (self.pipeline(), Arc::clone(&self.handler.builds));
            spawn_blocking(move || {
                builds.keep_all_records(&pipeline, STORING_MAX);
                pipeline.shared_outputs().stop_watching();
                drop(store_use);
            });
        }
        self.clients.clear();
    }

    /// Returns the pipeline that all calls use.
    pub(super) fn pipeline(&self) -> Arc<Pipeline> {
        Arc::clone(&self.handler.pipeline)
    }

    /// Returns the reason why all calls are passed on at present, for the daemon's status.
    pub(super) fn trouble(&self) -> Option<String> {
        let is_tripped = self.handler.breaker.is_tripped();
        is_tripped.then(|| "its disk does not answer: compiles go on without it".to_owned())
    }

    /// Returns a receiver that ends when all calls have ended and no task uses the store any more.
    /// There is only one; the second call returns `None`.
    pub(super) fn store_released(&mut self) -> Option<mpsc::Receiver<()>> {
        self.store_released.take()
    }
}

/// The task of one call.
struct CallTask {
    handler: Arc<CallHandler>,
    replies: Replies,
    /// The id of the client's process, where the system says.
    client: Option<i32>,
    /// Ends when the client is gone or the daemon leaves.
    messages: mpsc::Receiver<ClientMessage>,
    _store_use: mpsc::Sender<()>,
    _in_flight: InFlight,
}

impl CallTask {
    /// Replies to the call and then does the work that remains after the reply. A follower waits here
    /// until its leader has ended, looks up the result again, and may become a follower again.
    async fn run(mut self, call: Arc<Call>, namespace: Bytes, staging: Staging) {
        let BegunCall { mut step, seeding } =
            self.handler.begin(&call, self.client, &namespace, staging).await;
        loop {
            match step {
                NextStep::Answer(reply) => {
                    self.reply(wire::reply(reply, seeding.is_some()));
                    if let Some(seeding) = seeding {
                        self.seed(seeding).await;
                    }
                    return;
                }
                NextStep::AnswerThenVerify(reply, verification) => {
                    self.reply(wire::reply(reply, false));
                    return self.verify(verification).await;
                }
                NextStep::Run(command, compile) => {
                    self.reply(wire::run(command));
                    return self.finish(compile).await;
                }
                NextStep::AskRemotes(lookup) => {
                    let pipeline = Arc::clone(&self.handler.pipeline);
                    let is_fetched = tokio::select! {
                        is_fetched = lookup.ask(&pipeline) => is_fetched,
                        // Either the client is gone, and the reply goes nowhere, or the daemon leaves.
                        None = self.messages.recv() => return self.reply_that_the_daemon_leaves(&call),
                        () = self.handler.breaker.tripped() => {
                            step = pass_on_unrecorded(&call, STORE_HANGS);
                            continue;
                        }
                    };
                    let work = move |pipeline: &Pipeline| lookup.proceed(pipeline, is_fetched);
                    step = self.handler.begun_in_time(&call, BEGIN_MAX, work).await;
                }
                NextStep::Wait(follower, waiting) => {
                    let leader_outcome = tokio::select! {
                        leader_outcome = follower.outcome() => leader_outcome,
                        // Either the client is gone, and the reply goes nowhere, or the daemon leaves.
                        None = self.messages.recv() => return self.reply_that_the_daemon_leaves(&call),
                        // The leader needs the store, too.
                        () = self.handler.breaker.tripped() => {
                            step = pass_on_unrecorded(&call, STORE_HANGS);
                            continue;
                        }
                    };
                    let work = move |pipeline: &Pipeline| pipeline.resume(*waiting, leader_outcome);
                    step = self.handler.begun_in_time(&call, BEGIN_MAX, work).await;
                }
            }
        }
    }

    fn reply_that_the_daemon_leaves(&self, call: &Call) {
        let why = Bypass::new(Reason::StoreUnusable, "the daemon is leaving");
        self.reply(wire::reply(pipeline::pass_on_unrecorded(call, why), false));
    }

    /// Sends a reply without waiting. It is dropped if the client is gone or reads nothing.
    fn reply(&self, kind: reply::Kind) {
        if let Some(mailbox) = self.replies.upgrade() {
            let _ = mailbox.try_send(kind);
        }
    }

    /// Compiles a hit again and compares the outputs. The task is dropped first, so that a daemon
    /// that leaves does not wait for this; the comparison then finds the store closed.
    async fn verify(self, verification: Box<Verification>) {
        let handler = Arc::clone(&self.handler);
        drop(self);
        handler.verify(*verification).await;
    }

    /// Seeds the target directory of the client's cargo. The next call of that cargo waits for it.
    async fn seed(mut self, seeding: Box<Seeding>) {
        let ending = seeding.ending();
        let seeded = self.seed_guarded(seeding).await;
        // The cargo goes on only now that its locks are free. Otherwise it would print that it waits
        // for them.
        let _ = spawn_blocking(ending).await;
        let handler = Arc::clone(&self.handler);
        drop(self);
        for verification in seeded.unwrap_or_default() {
            handler.verify(verification).await;
        }
    }

    /// Restores the seeds while the client's guard holds cargo's locks. Returns the hits to verify, or
    /// `None` if nothing was seeded.
    ///
    /// If the time is over, the guard removes everything that was restored, because the thread that
    /// restores may hang and cannot say which units are complete.
    async fn seed_guarded(&mut self, seeding: Box<Seeding>) -> Option<Vec<Verification>> {
        let begun = Instant::now();
        let builds = Arc::clone(&self.handler.builds);
        let plan = move |pipeline: &Pipeline| builds.plan(pipeline, seeding);
        let plan = Arc::new(self.handler.in_time(SEEDING_MAX, plan).await.ok()??);
        self.reply(wire::guard(plan.target_dir().to_owned(), plan.profiles()));
        let message = tokio::time::timeout(GUARDED_MAX, self.messages.recv()).await.ok().flatten();
        let staging = match message {
            Some(ClientMessage::Guarding(staging)) => staging,
            _ => None,
        };
        let seeded = match &staging {
            Some(staging) => self.seed_in_time(&plan, staging, begun).await,
            None => None,
        };
        // A guard whose message came too late holds the locks, too, so each guard is told to release them.
        self.reply(reply::Kind::Release(Release { take_back: seeded.is_none() }));
        // The guard closes the connection when it has released the locks.
        let closed = async { while self.messages.recv().await.is_some() {} };
        let _ = tokio::time::timeout(RELEASED_MAX, closed).await;
        if let Some(staging) = staging {
            let _ = spawn_blocking(move || remove_if_left(&staging)).await;
        }
        seeded
    }

    /// Restores the seeds; `None` if the time is over. The caller keeps the plan, with which the cargo goes on
    /// when it is dropped: a thread that restores for too long must not be what drops it, because the guard
    /// still holds cargo's locks then.
    async fn seed_in_time(
        &self,
        plan: &Arc<SeedingPlan>,
        staging: &Path,
        begun: Instant,
    ) -> Option<Vec<Verification>> {
        let left = SEEDING_MAX.saturating_sub(begun.elapsed());
        let (builds, plan) = (Arc::clone(&self.handler.builds), Arc::clone(plan));
        let seed_staging = Staging::new(Some(staging.to_owned()));
        let seed = move |pipeline: &Pipeline| builds.seed(pipeline, &plan, &seed_staging, left);
        self.handler.in_time(left, seed).await.ok()
    }

    /// Waits for the compiler's end, records it and stores the result. If the client is gone, the
    /// running compile is dropped, which lets one of the followers compile.
    async fn finish(mut self, compile: Box<RunningCompile>) {
        let Some(ClientMessage::Ran(ran)) = self.messages.recv().await else { return };
        let staging = Staging::new(wire::optional_path(&ran.staging));
        let (captured, is_whole) = wire::captured(ran);
        let finish = move |pipeline: &Pipeline| pipeline.finish(compile, captured, is_whole, &staging);
        let Ok(publishing) = self.handler.in_time(FINISH_MAX, finish).await else {
            return self.reply(reply::Kind::Noted(Noted {}));
        };
        // The client waits for `Noted`, so it normally comes before the result is stored. A build
        // script removes the outputs of its trial compile when the call returns, so these are stored
        // first.
        if publishing.is_urgent() {
            self.handler.publish(publishing).await;
            self.reply(reply::Kind::Noted(Noted {}));
        } else {
            self.reply(reply::Kind::Noted(Noted {}));
            self.handler.publish(publishing).await;
        }
    }
}

impl CallHandler {
    /// Begins a call in the pipeline, once the store is open or the wait for it is over.
    async fn begin(
        self: &Arc<Self>,
        call: &Arc<Call>,
        client: Option<i32>,
        namespace: &Bytes,
        staging: Staging,
    ) -> BegunCall {
        let arrived = Instant::now();
        if self.breaker.is_tripped() {
            return pass_on_unrecorded(call, STORE_HANGS).into();
        }
        if self.has_too_many_late() {
            return pass_on_unrecorded(call, TOO_MANY_LATE).into();
        }
        let mut store = self.store.clone();
        let is_settled = |slot: &StoreSlot| !matches!(slot, StoreSlot::Opening);
        let left = STORE_OPENING_MAX.saturating_sub(self.started.elapsed());
        let _ = tokio::time::timeout(left, store.wait_for(is_settled)).await;
        let left = BEGIN_MAX.saturating_sub(arrived.elapsed());
        let owned = Arc::clone(call);
        // The paths of a client with another view of the filesystem mean other files here. A view that
        // is unknown counts as equal.
        if !namespace.is_empty() && !self.namespace.is_empty() && *namespace != self.namespace {
            let why = Bypass::new(Reason::ForeignNamespace, "");
            let pass_on = move |pipeline: &Pipeline| NextStep::Answer(pipeline.pass_on(owned, client, why));
            return self.begun_in_time(call, left, pass_on).await.into();
        }
        let builds = Arc::clone(&self.builds);
        let begin = move |pipeline: &Pipeline| builds.begin(pipeline, owned, client, staging);
        let begun = self.begun_in_time(call, left, begin).await;
        for cargo in self.builds.take_new_sessions() {
            tokio::spawn(Arc::clone(self).collect_after_exit(cargo));
        }
        begun
    }

    /// Waits until a cargo has exited, and then keeps its records for the next one.
    async fn collect_after_exit(self: Arc<Self>, cargo: Arc<Session>) {
        while cargo.is_under_way() {
            tokio::time::sleep(CHECK_CARGO_EVERY).await;
        }
        let (pipeline, builds) = (Arc::clone(&self.pipeline), Arc::clone(&self.builds));
        let _ = spawn_blocking(move || builds.collect_records(&pipeline)).await;
    }

    /// Compiles a hit again, one at a time. Does nothing if [`TO_VERIFY_MAX`] hits wait already.
    async fn verify(&self, verification: Verification) {
        let Ok(_waiting) = self.to_verify.try_acquire() else { return };
        let _permit = self.verifiers.acquire().await;
        let pipeline = Arc::clone(&self.pipeline);
        let _ = spawn_blocking(move || pipeline::verify(&pipeline, &verification)).await;
    }

    /// Stores a result, after the results that it depends on. It is not stored if one of these is late,
    /// because what it needs to know about their files is not known then.
    async fn publish(self: &Arc<Self>, mut publishing: Publishing) {
        let mut is_late = self.has_too_many_late();
        for follower in self.pipeline.awaited(&mut publishing) {
            if is_late {
                break;
            }
            is_late = follower.outcome().await == LeaderOutcome::Late;
        }
        if is_late {
            let _ = self.in_time(FINISH_MAX, move |pipeline| pipeline.give_up(&publishing)).await;
        } else {
            self.publish_within(PUBLISH_MAX, move |pipeline| pipeline.publish(publishing)).await;
        }
    }

    /// Stores a result. Only [`PUBLISHERS_MAX`] results are stored at once, because compilers need the
    /// processors. One that takes longer than `limit` is still stored and no longer counts, so that the
    /// next one does not wait for it.
    async fn publish_within(
        self: &Arc<Self>,
        limit: Duration,
        publish: impl FnOnce(&Pipeline) + Send + 'static,
    ) {
        let Ok(_permit) = self.publishers.acquire().await else { return };
        let _ = self.in_time(limit, publish).await;
    }

    /// Runs work that decides about a call. If it fails or takes too long, the call is passed on. The
    /// client then removes its staging directory, so that work which ends later restores nothing, and
    /// runs the compiler.
    async fn begun_in_time<T: From<NextStep> + Send + 'static>(
        self: &Arc<Self>,
        call: &Call,
        limit: Duration,
        work: impl FnOnce(&Pipeline) -> T + Send + 'static,
    ) -> T {
        match self.in_time(limit, work).await {
            Ok(begun) => begun,
            Err(WorkError::Panicked) => {
                pass_on_unrecorded(call, "a bug in kache, which its log shows").into()
            }
            Err(WorkError::TimedOut) if self.breaker.is_tripped() => {
                pass_on_unrecorded(call, STORE_HANGS).into()
            }
            Err(WorkError::TimedOut) => pass_on_unrecorded(call, CALL_IS_LATE).into(),
        }
    }

    /// Runs work on a thread that may block, and returns an error if it takes longer than `limit`. The
    /// thread cannot be stopped, so the work counts as late until it ends. Shortly before the limit, the
    /// store is probed, because it may be what the work waits for.
    async fn in_time<T: Send + 'static>(
        self: &Arc<Self>,
        limit: Duration,
        work: impl FnOnce(&Pipeline) -> T + Send + 'static,
    ) -> Result<T, WorkError> {
        let pipeline = Arc::clone(&self.pipeline);
        let mut working = spawn_blocking(move || work(&pipeline));
        let before_probe = limit.saturating_sub(PROBE_BEFORE_LIMIT);
        let mut ended = tokio::time::timeout(before_probe, &mut working).await;
        if ended.is_err() {
            self.breaker.probe();
            ended = tokio::time::timeout(limit.saturating_sub(before_probe), &mut working).await;
        }
        if let Ok(ended) = ended {
            // The panic hook has logged the panic.
            return ended.map_err(|_panic| WorkError::Panicked);
        }
        self.late.fetch_add(1, Ordering::Relaxed);
        let handler = Arc::clone(self);
        tokio::spawn(async move {
            // The result comes too late. Dropping it also drops a leader's compile, so that a follower
            // may compile.
            drop(working.await);
            handler.late.fetch_sub(1, Ordering::Relaxed);
        });
        Err(WorkError::TimedOut)
    }

    fn has_too_many_late(&self) -> bool {
        self.late.load(Ordering::Relaxed) >= LATE_MAX
    }
}

/// Removes the staging directory of a client that is gone. Usually the client has removed it itself.
fn remove_if_left(staging: &Path) {
    if std::fs::symlink_metadata(staging).is_ok() {
        let _ = std::fs::remove_dir_all(staging);
    }
}

/// The reason why work on the pipeline has no result.
enum WorkError {
    Panicked,
    TimedOut,
}

/// The reason with which calls are passed on while the store hangs.
const STORE_HANGS: &str = "the store does not answer in time";

/// The reason with which a single call is passed on that exceeds its time limit.
const CALL_IS_LATE: &str = "the call could not be answered in time";

/// The reason with which calls are passed on while too many threads are held.
const TOO_MANY_LATE: &str = "too many earlier calls are still under way";

/// Passes a call on without an event, because the event log may be what does not answer.
fn pass_on_unrecorded(call: &Call, why: &str) -> NextStep {
    tracing::warn!("a call is passed on: {why}");
    NextStep::Answer(pipeline::pass_on_unrecorded(call, Bypass::new(Reason::StoreUnusable, why)))
}

#[cfg(test)]
#[path = "calls_tests.rs"]
mod tests;
