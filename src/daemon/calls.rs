//! Compiler calls under way: one task each, between a client and the pipeline.
//!
//! What blocks runs on the runtime's threads for that; a call that waits holds none. A
//! pipeline that does not come back in time costs its call a named wait, and while it has not
//! come back other calls are passed on at once, those that wait for another one's compile too:
//! a disk that hangs costs a build one wait (DMN-03).

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kache_client::control::{Compile, Noted, Ran, Release, reply};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::spawn_blocking;

use super::activity::{Activity, InFlight};
use super::core::ConnectionId;
use super::watching;
use super::wire;
use crate::invocation::{Bypass, Call, Reason};
use crate::pipeline::{
    self, Begun, Pipeline, Publishing, SEEDING_MAX, Seeding, Session, StoreSlot, Ticket, Verification,
};
use crate::restore::Staging;

/// How long finding an answer may take before the call goes on without one, the wait for the store
/// to be opened included. A hit takes a thousandth of it. A client waits no longer than three seconds
/// for anything that it does not know the reason of.
pub(super) const BEGIN_MAX: Duration = Duration::from_millis(2_800);

/// How long it may take to note how a compile went, which is one line in a file. The client waits
/// for a second of it: a result that is given up is lost, and a disk may stall for longer.
const FINISH_MAX: Duration = Duration::from_secs(5);

/// How long storing a result may take, with nobody but other calls of the same action waiting.
const PUBLISH_MAX: Duration = Duration::from_secs(10);

/// How long after the daemon's start calls wait for the store to be open.
pub(super) const STORE_OPENING_MAX: Duration = Duration::from_millis(2_500);

/// How long a client's guard may take to hold the target directory.
const GUARDED_MAX: Duration = Duration::from_millis(500);

/// How long it may take to let go of it.
const LET_GO_MAX: Duration = Duration::from_millis(500);

/// How often it is looked whether a cargo has ended. Whoever wants what it leaves looks, too.
const LOOK_AFTER_CARGO_EVERY: Duration = Duration::from_millis(200);

/// How many results are stored at once.
const PUBLISHERS_MAX: usize = 2;

/// How many hits are compiled once more at a time: it is the build's processors that it takes.
const VERIFIERS_MAX: usize = 1;

/// How many wait for that: a build's worth, each some kilobytes.
const TO_VERIFY_MAX: usize = 256;

/// How many words of one client may wait: it says two.
const WORDS_MAX: usize = 4;

/// What a client says after its call.
#[derive(Debug)]
pub(super) enum Word {
    /// It ended.
    Ran(Ran),
    /// A target directory is guarded, by way of this staging directory, or is not to be touched.
    Guarding(Option<PathBuf>),
}

/// Where a client's replies go; it keeps no connection open.
pub(super) type Replies = mpsc::WeakSender<reply::Kind>;

/// All calls under way.
pub(super) struct Calls {
    desk: Arc<Desk>,
    clients: HashMap<ConnectionId, (mpsc::Sender<Word>, Option<PathBuf>)>,
    /// Cloned into every task that uses the store; when the last is gone, so is all use.
    using: Option<mpsc::Sender<()>>,
    unused: Option<mpsc::Receiver<()>>,
}

/// What all tasks share.
struct Desk {
    pipeline: Arc<Pipeline>,
    store: watch::Receiver<StoreSlot>,
    activity: Arc<Activity>,
    begun: Instant,
    /// How many times the pipeline did not come back in time, and has not yet.
    overdue: watch::Sender<usize>,
    /// Held while a result is stored.
    publishers: Arc<Semaphore>,
    /// Held while a hit is compiled once more.
    verifiers: Semaphore,
    /// Held by those and by whoever waits for it.
    to_verify: Semaphore,
    /// What this process's mount namespace is called.
    namespace: Bytes,
}

impl Calls {
    pub(super) fn new(
        pipeline: Arc<Pipeline>,
        store: watch::Receiver<StoreSlot>,
        activity: Arc<Activity>,
    ) -> Self {
        watching::watch_shared_files(Arc::downgrade(&pipeline));
        let desk = Desk {
            pipeline,
            store,
            activity,
            begun: Instant::now(),
            overdue: watch::Sender::new(0),
            publishers: Arc::new(Semaphore::new(PUBLISHERS_MAX)),
            verifiers: Semaphore::new(VERIFIERS_MAX),
            to_verify: Semaphore::new(TO_VERIFY_MAX),
            namespace: wire::own_namespace(),
        };
        let (using, unused) = mpsc::channel(1);
        Calls { desk: Arc::new(desk), clients: HashMap::new(), using: Some(using), unused: Some(unused) }
    }

    /// A client makes a call.
    pub(super) fn begin(
        &mut self,
        id: ConnectionId,
        compile: &Compile,
        (replies, client): (Replies, Option<i32>),
    ) {
        let Some(using) = self.using.clone() else { return };
        let (words, said) = mpsc::channel(WORDS_MAX);
        let staging = wire::place(&compile.staging);
        self.clients.insert(id, (words, staging.clone()));
        let course = Course {
            desk: Arc::clone(&self.desk),
            replies,
            client,
            said,
            _using: using,
            _in_flight: self.desk.activity.request(),
        };
        let namespace = compile.mount_namespace.clone();
        tokio::spawn(course.run(Arc::new(wire::call(compile)), namespace, Staging::new(staging)));
    }

    /// It says how its compile went. Whether anybody heard it: after the end nobody does, and
    /// one that says more than it has to say is not listened to.
    pub(super) fn hear(&mut self, id: ConnectionId, word: Word) -> bool {
        self.clients.get(&id).is_some_and(|(words, _)| words.try_send(word).is_ok())
    }

    /// It is gone. A client that was killed leaves its staging directory behind.
    pub(super) fn forget(&mut self, id: ConnectionId) {
        if let Some((_, Some(staging))) = self.clients.remove(&id) {
            spawn_blocking(move || remove_left(&staging));
        }
    }

    /// No more calls; those that wait or compile go on without us. What builds leave to others
    /// is kept before the store is let go of.
    pub(super) fn end(&mut self) {
        if let Some(using) = self.using.take() {
            let pipeline = self.pipeline();
            spawn_blocking(move || {
                pipeline.keep_all_records();
                pipeline.stop_watching();
                drop(using);
            });
        }
        self.clients.clear();
    }

    /// What runs them.
    pub(super) fn pipeline(&self) -> Arc<Pipeline> {
        Arc::clone(&self.desk.pipeline)
    }

    /// What stands in the way of all calls, for people.
    pub(super) fn trouble(&self) -> Option<String> {
        let overdue = *self.desk.overdue.borrow();
        let said =
            || format!("its disk does not answer: compiles go on without it ({overdue} of its tasks wait)");
        (overdue > 0).then(said)
    }

    /// What is closed once calls have ended and the last use of the store is over. There is
    /// one of it.
    pub(super) fn unused(&mut self) -> Option<mpsc::Receiver<()>> {
        self.unused.take()
    }
}

/// One call.
struct Course {
    desk: Arc<Desk>,
    replies: Replies,
    client: Option<i32>,
    said: mpsc::Receiver<Word>,
    _using: mpsc::Sender<()>,
    _in_flight: InFlight,
}

impl Course {
    async fn run(mut self, call: Arc<Call>, namespace: Bytes, staging: Staging) {
        let mut begun = self.desk.begin(&call, self.client, &namespace, staging).await;
        loop {
            match begun {
                Begun::Answer(reply) => return self.say(wire::reply(reply, false)),
                Begun::Verify(reply, verification) => {
                    self.say(wire::reply(reply, false));
                    return self.verify(verification).await;
                }
                Begun::Seed(reply, seeding) => {
                    self.say(wire::reply(reply, true));
                    return self.seed(seeding).await;
                }
                Begun::Run(run, ticket) => {
                    self.say(wire::run(run));
                    return self.compiled(ticket).await;
                }
                Begun::Wait(follower, pending) => {
                    let landing = tokio::select! {
                        landing = follower.landed() => landing,
                        // Whoever waited is gone, or the daemon leaves: then this is an answer.
                        None = self.said.recv() => {
                            let why = Bypass::new(Reason::StoreUnusable, "the daemon is leaving");
                            return self.say(wire::reply(pipeline::unrecorded(&call, why), false));
                        }
                        // Whoever is waited for may be what does not come back.
                        () = self.desk.stuck() => {
                            begun = refused(&call, DISK_HANGS);
                            continue;
                        }
                    };
                    let work = move |pipeline: &Pipeline| pipeline.resume(*pending, landing);
                    begun = self.desk.answer_in_time(&call, BEGIN_MAX, work).await;
                }
            }
        }
    }

    fn say(&self, kind: reply::Kind) {
        if let Some(mailbox) = self.replies.upgrade() {
            let _ = mailbox.try_send(kind);
        }
    }

    /// Nothing waits for this, not even a daemon that leaves: then its comparison finds no
    /// store. When too many wait for their turn, others are let go.
    async fn verify(self, verification: Box<Verification>) {
        let desk = Arc::clone(&self.desk);
        drop(self);
        desk.verify(*verification).await;
    }

    /// Its cargo waits for this as soon as it asks on.
    async fn seed(mut self, seeding: Box<Seeding>) {
        let ending = seeding.ending();
        let laid = self.lay_down(seeding).await;
        // Only when cargo's locks are free: it would say that it waits for them.
        let _ = spawn_blocking(ending).await;
        let desk = Arc::clone(&self.desk);
        drop(self);
        for verification in laid.unwrap_or_default() {
            desk.verify(verification).await;
        }
    }

    /// Lays units down while the client's guard holds cargo's locks. When time is up the guard takes
    /// back what was laid down: which units are whole, nobody may be there to say.
    async fn lay_down(&mut self, seeding: Box<Seeding>) -> Option<Vec<Verification>> {
        let begun = Instant::now();
        let plan = move |pipeline: &Pipeline| pipeline.plan(seeding);
        let plan = self.desk.in_time(SEEDING_MAX, plan).await.ok()??;
        self.say(wire::guard(plan.target_dir().to_owned(), plan.profiles()));
        let word = tokio::time::timeout(GUARDED_MAX, self.said.recv()).await.ok().flatten();
        let Some(Word::Guarding(Some(staging))) = word else { return None };
        let left = SEEDING_MAX.saturating_sub(begun.elapsed());
        let by = Staging::new(Some(staging.clone()));
        let seed = move |pipeline: &Pipeline| (pipeline.seed(&plan, &by), plan);
        // The plan is dropped last: then the cargo goes on.
        let (laid, _plan) = self.desk.in_time(left, seed).await.ok().unzip();
        self.say(reply::Kind::Release(Release { take_back: laid.is_none() }));
        let gone = async { while self.said.recv().await.is_some() {} };
        let _ = tokio::time::timeout(LET_GO_MAX, gone).await;
        let _ = spawn_blocking(move || remove_left(&staging)).await;
        laid
    }

    /// The ticket is dropped where the client is gone: whoever waits takes over.
    async fn compiled(mut self, ticket: Box<Ticket>) {
        let Some(Word::Ran(ran)) = self.said.recv().await else { return };
        let (captured, is_whole) = wire::captured(ran);
        let finish = move |pipeline: &Pipeline| pipeline.finish(ticket, captured, is_whole);
        let Ok(publishing) = self.desk.in_time(FINISH_MAX, finish).await else {
            return self.say(reply::Kind::Noted(Noted {}));
        };
        // A build script removes what its trial has made as soon as that returns.
        if publishing.is_urgent() {
            self.desk.publish(publishing).await;
            self.say(reply::Kind::Noted(Noted {}));
        } else {
            self.say(reply::Kind::Noted(Noted {}));
            self.desk.publish(publishing).await;
        }
    }
}

impl Desk {
    async fn begin(
        self: &Arc<Self>,
        call: &Arc<Call>,
        client: Option<i32>,
        namespace: &Bytes,
        staging: Staging,
    ) -> Begun {
        let arrived = Instant::now();
        if *self.overdue.borrow() > 0 {
            return refused(call, DISK_HANGS);
        }
        let mut store = self.store.clone();
        let is_settled = |slot: &StoreSlot| !matches!(slot, StoreSlot::Opening);
        let left = STORE_OPENING_MAX.saturating_sub(self.begun.elapsed());
        let _ = tokio::time::timeout(left, store.wait_for(is_settled)).await;
        let left = BEGIN_MAX.saturating_sub(arrived.elapsed());
        let owned = Arc::clone(call);
        // Where either is unknown, the client could not have met us through a socket file of
        // another namespace's.
        if !namespace.is_empty() && !self.namespace.is_empty() && *namespace != self.namespace {
            let why = Bypass::new(Reason::ForeignNamespace, "");
            let stand_aside =
                move |pipeline: &Pipeline| Begun::Answer(pipeline.stand_aside(owned, client, why));
            return self.answer_in_time(call, left, stand_aside).await;
        }
        let begin = move |pipeline: &Pipeline| pipeline.begin(owned, client, staging);
        let begun = self.answer_in_time(call, left, begin).await;
        for cargo in self.pipeline.unattended() {
            tokio::spawn(Arc::clone(self).attend(cargo));
        }
        begun
    }

    /// Waits for a cargo's end: then what it leaves to others is kept.
    async fn attend(self: Arc<Self>, cargo: Arc<Session>) {
        while cargo.is_under_way() {
            tokio::time::sleep(LOOK_AFTER_CARGO_EVERY).await;
        }
        let pipeline = Arc::clone(&self.pipeline);
        let _ = spawn_blocking(move || pipeline.harvest()).await;
    }

    /// When it is its turn, if not too many wait for theirs.
    async fn verify(&self, verification: Verification) {
        let Ok(_place) = self.to_verify.try_acquire() else { return };
        let _permit = self.verifiers.acquire().await;
        let pipeline = Arc::clone(&self.pipeline);
        let _ = spawn_blocking(move || pipeline.verify(&verification)).await;
    }

    /// In its turn: after what it depends on, and not with too many at once, since those who
    /// compile need the processors.
    async fn publish(self: &Arc<Self>, mut publishing: Publishing) {
        for follower in self.pipeline.awaited(&mut publishing) {
            follower.landed().await;
        }
        let Ok(permit) = Arc::clone(&self.publishers).acquire_owned().await else { return };
        let publish = move |pipeline: &Pipeline| {
            // Held for as long as it takes, not only for as long as it is waited for.
            let _permit = permit;
            pipeline.publish(publishing);
        };
        let _ = self.in_time(PUBLISH_MAX, publish).await;
    }

    /// An answer, or that there is none. Then the client takes its staging directory away, so
    /// nothing is laid down any more, and compiles.
    async fn answer_in_time(
        self: &Arc<Self>,
        call: &Call,
        limit: Duration,
        work: impl FnOnce(&Pipeline) -> Begun + Send + 'static,
    ) -> Begun {
        match self.in_time(limit, work).await {
            Ok(begun) => begun,
            Err(Absent::Panicked) => refused(call, "a bug in kache, which its log shows"),
            Err(Absent::Late) => refused(call, DISK_HANGS),
        }
    }

    /// Does this where blocking is allowed, and goes on without it if it takes too long.
    async fn in_time<T: Send + 'static>(
        self: &Arc<Self>,
        limit: Duration,
        work: impl FnOnce(&Pipeline) -> T + Send + 'static,
    ) -> Result<T, Absent> {
        let pipeline = Arc::clone(&self.pipeline);
        let mut working = spawn_blocking(move || work(&pipeline));
        if let Ok(ended) = tokio::time::timeout(limit, &mut working).await {
            // The hook has logged it.
            return ended.map_err(|_panic| Absent::Panicked);
        }
        self.overdue.send_modify(|overdue| *overdue += 1);
        let desk = Arc::clone(self);
        tokio::spawn(async move {
            // Whatever it brings comes too late, and a right to compile is given back.
            drop(working.await);
            desk.overdue.send_modify(|overdue| *overdue -= 1);
        });
        Err(Absent::Late)
    }

    /// Returns when something does not come back in time.
    async fn stuck(&self) {
        // It fails when the sender is gone, which is here.
        let _ = self.overdue.subscribe().wait_for(|overdue| *overdue > 0).await;
    }
}

/// Removes a staging directory whose client is gone. Mostly the client has removed it.
fn remove_left(staging: &Path) {
    if std::fs::symlink_metadata(staging).is_ok() {
        let _ = std::fs::remove_dir_all(staging);
    }
}

/// Why the pipeline brings nothing.
enum Absent {
    Panicked,
    Late,
}

/// What a call is passed on for while the pipeline does not come back.
const DISK_HANGS: &str = "the store does not answer in time";

/// Passed on without a word in the log of calls: it lies on the disk that does not answer.
fn refused(call: &Call, why: &str) -> Begun {
    tracing::warn!("a call is passed on: {why}");
    Begun::Answer(pipeline::unrecorded(call, Bypass::new(Reason::StoreUnusable, why)))
}
