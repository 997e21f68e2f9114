//! The driver: the sockets, signals, clock and threads around the core.
//!
//! One loop takes events, hands each to the core and carries out the effects that the core returns.
//! The driver decides nothing. Work that may block runs on other threads and its result comes back as
//! an event. The loop itself waits for nothing but the next event, so control requests are answered
//! while a store opens or a disk does not answer.

use std::future::Future;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kache_cas::Store;
use kache_client::control::{Noted, Sync, reply};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, watch};

use super::activity::Activity;
use super::calls::{Calls, ClientMessage};
use super::control::{self, DriverInput, Mailboxes};
use super::core::{ConnectionId, Core, DaemonEvent, Effect};
use super::draining::{Drain, Draining};
use super::fetch::FetchHandler;
use super::reject::RejectingListeners;
use super::status::{self, DaemonInfo, StatusHandler};
use super::syncing::SyncHandler;
use super::upkeep::{self, OpenStore, OpenedStore, PathIdentity};
use super::verifying::VerifyHandler;
use super::wire;
use crate::lookup::Uploads;
use crate::pipeline::{Pipeline, StoreSlot};
use crate::remote::upload_queue;

/// The number of events that may wait for the loop. A task that sends one more waits, so a client
/// that floods the daemon is slowed down itself.
pub const EVENTS_MAX: usize = 1024;

/// The interval at which the core gets the time.
pub const TICK_EVERY: Duration = Duration::from_millis(250);

/// The time for writing the last replies, which fit into the sockets' buffers.
const LAST_REPLIES_MAX: Duration = Duration::from_secs(1);

/// A function that serves an open store to other programs until draining is done.
pub(super) type ServeFn =
    Box<dyn FnOnce(Arc<Store>, Arc<Activity>, Draining) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// The way in which a driver's loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The process is to end.
    Exit,
    /// The daemon is to start again in this process.
    Restart,
}

/// The parts of the daemon, before its loop runs.
pub struct Driver {
    pub(super) core: Core,
    /// The effects that the core returned at its creation.
    pub(super) first: Vec<Effect>,
    pub(super) info: DaemonInfo,
    pub(super) open_store: OpenStore,
    /// The directory of the store.
    pub(super) store_dir: PathBuf,
    /// Whether compiles use results that clients have uploaded.
    pub(super) uploads: Uploads,
    /// Taken when the store is served.
    pub(super) serve: Option<ServeFn>,
    /// Dropped when the store is served.
    pub(super) rejecting: Option<RejectingListeners>,
    /// The files of the sockets, the control socket first. They are removed when draining begins, so
    /// that no more clients connect.
    pub(super) sockets: Vec<PathBuf>,
}

/// The state of the driver while its loop runs.
struct RunningDaemon {
    driver: Driver,
    started: Instant,
    store: Option<OpenedStore>,
    mailboxes: Mailboxes,
    statuses: StatusHandler,
    fetches: FetchHandler,
    verifications: VerifyHandler,
    syncs: SyncHandler,
    calls: Calls,
    /// The store as compiler calls see it.
    slot: watch::Sender<StoreSlot>,
    activity: Arc<Activity>,
    drain: Drain,
    /// The sender for tasks and threads that report events.
    inputs: mpsc::Sender<DriverInput>,
    /// The sender for the thread that opens the store.
    opened: mpsc::Sender<Result<OpenedStore, String>>,
    is_over: bool,
}

impl Driver {
    /// Runs the loop until the core ends it.
    pub async fn run(self, listener: StdUnixListener) -> std::io::Result<Ending> {
        listener.set_nonblocking(true)?;
        let listener = UnixListener::from_std(listener)?;
        let control_socket = self.sockets.first().cloned().map(PathIdentity::of);
        let (inputs, mut inbox) = mpsc::channel(EVENTS_MAX);
        let (opened, mut openings) = mpsc::channel(1);
        let (activity, drain) = (Arc::<Activity>::default(), Drain::default());
        let (writing, mut all_written) = mpsc::channel(1);
        let (counters, draining) = (Arc::clone(&activity), drain.subscribe());
        // `writing` is moved into the accepting task and cloned for each client, so `all_written` ends only when
        // all of them have ended.
        tokio::spawn(control::accept_all(listener, inputs.clone(), counters, writing, draining));
        tokio::spawn(watch_signals(inputs.clone())?);
        let mut ticks = tokio::time::interval(TICK_EVERY);
        // After a suspension, one tick is enough; by default the missed ones would follow at once.
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (slot, slot_receiver) = watch::channel(StoreSlot::Opening);
        let pipeline = Pipeline::new(self.store_dir.clone(), slot_receiver.clone());
        let (queue, uploader) = upload_queue(&self.store_dir);
        let pipeline = Arc::new(pipeline.with_uploads(self.uploads).with_upload_queue(queue));
        let calls = Calls::new(pipeline, slot_receiver, Arc::clone(&activity), self.store_dir.clone());
        calls.upload(uploader);
        let mut running = RunningDaemon {
            driver: self,
            started: Instant::now(),
            store: None,
            mailboxes: Mailboxes::default(),
            statuses: StatusHandler::default(),
            fetches: FetchHandler::default(),
            verifications: VerifyHandler::default(),
            syncs: SyncHandler::default(),
            calls,
            slot,
            activity,
            drain,
            inputs,
            opened,
            is_over: false,
        };
        let first = std::mem::take(&mut running.driver.first);
        running.perform_all(first);
        while !running.is_over {
            tokio::select! {
                Some(input) = inbox.recv() => running.receive(input),
                Some(opened) = openings.recv() => running.store_opened(opened),
                _ = ticks.tick() => running.tick(control_socket.as_ref()),
            }
        }
        // The last replies are written first, so that the client which stopped the daemon gets its
        // reply. `all_written` ends when the last writing task has dropped its sender.
        running.mailboxes.close_all();
        let _ = tokio::time::timeout(LAST_REPLIES_MAX, all_written.recv()).await;
        Ok(if running.driver.core.restarts() { Ending::Restart } else { Ending::Exit })
    }
}

impl RunningDaemon {
    fn receive(&mut self, input: DriverInput) {
        match input {
            DriverInput::Connected(id, mailbox, pid) => {
                self.mailboxes.add(id, mailbox, pid);
                self.handle(DaemonEvent::Connected(id));
            }
            DriverInput::Event(event) => {
                if let DaemonEvent::Disconnected(id) = &event {
                    self.mailboxes.close(*id);
                }
                self.handle(event);
            }
        }
    }

    fn store_opened(&mut self, opened: Result<OpenedStore, String>) {
        match opened {
            Ok(opened) => {
                self.slot.send_replace(StoreSlot::Open(Arc::clone(&opened.store)));
                self.store = Some(opened);
                self.handle(DaemonEvent::StoreOpened);
            }
            Err(why) => {
                self.slot.send_replace(StoreSlot::Unusable(why.clone()));
                self.handle(DaemonEvent::StoreFailed(why));
            }
        }
    }

    fn tick(&mut self, control_socket: Option<&PathIdentity>) {
        // Once the daemon has removed its sockets itself, they are not lost.
        let has_sockets = !self.driver.sockets.is_empty();
        if let Some(why) = control_socket.filter(|_| has_sockets).and_then(PathIdentity::lost) {
            self.handle(DaemonEvent::SocketsLost(why));
        }
        self.handle(DaemonEvent::Tick(self.activity.count()));
    }

    fn handle(&mut self, event: DaemonEvent) {
        let effects = self.driver.core.handle(self.started.elapsed(), event);
        self.perform_all(effects);
    }

    fn perform_all(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            self.perform(effect);
        }
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Send(id, kind) => self.mailboxes.send(id, kind),
            Effect::SendStatus(id) => self.send_status(id),
            Effect::Close(id) => self.mailboxes.close(id),
            Effect::OpenStore => {
                let driver = &self.driver;
                upkeep::open(Arc::clone(&driver.open_store), driver.store_dir.clone(), self.opened.clone());
            }
            Effect::Serve => self.serve(),
            Effect::RejectConnections => {
                if let Some(rejecting) = &mut self.driver.rejecting {
                    rejecting.begin();
                }
            }
            Effect::Upkeep => {
                if let Some(opened) = &self.store {
                    upkeep::step(opened.clone(), self.inputs.clone());
                }
            }
            Effect::Fetch(id, fetch) => {
                if let Some((replies, _)) = self.mailboxes.replies(id) {
                    let store = self.store.as_ref().map(|opened| &opened.store);
                    self.fetches.begin(store, &fetch.hash, replies);
                }
            }
            Effect::Verify(id, verify) => {
                if let Some((replies, _)) = self.mailboxes.replies(id) {
                    self.verifications.begin(self.calls.pipeline(), &verify, replies);
                }
            }
            Effect::Sync(id, sync) => self.sync(id, &sync),
            Effect::Compile(id, compile) => {
                if let Some(replies) = self.mailboxes.replies(id) {
                    self.calls.begin(id, &compile, replies);
                }
            }
            Effect::Ran(id, ran) => {
                // If no task takes the report, the client need not wait for one.
                if !self.calls.deliver(id, ClientMessage::Ran(*ran)) {
                    self.mailboxes.send(id, reply::Kind::Noted(Noted {}));
                }
            }
            Effect::Guarding(id, guarding) => {
                self.calls.deliver(id, ClientMessage::Guarding(wire::optional_path(&guarding.staging)));
            }
            Effect::EndCall(id) => self.calls.end_call(id),
            Effect::Drain => {
                remove_sockets(&mut self.driver.sockets);
                self.drain.begin();
                self.calls.end_all();
            }
            Effect::CloseStore => {
                self.slot.send_replace(StoreSlot::Unusable("it is being closed".to_owned()));
                if let Some(opened) = self.store.take() {
                    upkeep::close(opened.store, self.inputs.clone());
                }
            }
            Effect::Exit => self.is_over = true,
            Effect::Log(text) => tracing::info!("{text}"),
        }
    }

    fn sync(&mut self, id: ConnectionId, request: &Sync) {
        if let (Some((replies, _)), Some(store)) = (self.mailboxes.replies(id), self.calls.hold_store()) {
            let (pipeline, settle) = (self.calls.pipeline(), self.calls.settle());
            self.syncs.begin((pipeline, &self.activity), (store, settle), request, replies);
        }
    }

    fn send_status(&mut self, id: ConnectionId) {
        let (info, core, count) = (&self.driver.info, &self.driver.core, self.activity.count());
        let mut status = status::compose(info, core, count, self.started.elapsed());
        status.store.get_or_insert_default().troubles.extend(self.calls.trouble());
        status.remotes =
            self.calls.pipeline().open_remotes().iter().map(|handle| status::remote(handle)).collect();
        match &self.store {
            None => self.mailboxes.send(id, reply::Kind::Status(Box::new(status))),
            Some(opened) => {
                if let Some((replies, _)) = self.mailboxes.replies(id) {
                    self.statuses.begin(Arc::clone(&opened.store), status, replies);
                }
            }
        }
    }

    fn serve(&mut self) {
        let (Some(serve), Some(opened)) = (self.driver.serve.take(), &self.store) else { return };
        self.driver.rejecting = None;
        let serving = serve(Arc::clone(&opened.store), Arc::clone(&self.activity), self.drain.subscribe());
        let inputs = self.inputs.clone();
        let (store_released, pipeline) = (self.calls.store_released(), self.calls.pipeline());
        tokio::spawn(async move {
            serving.await;
            // `ServingEnded` lets the core close the store, so it is sent only after the results of
            // all compiles are stored and the memos of files are saved.
            if let Some(mut store_released) = store_released {
                let _ = store_released.recv().await;
            }
            let _ = tokio::task::spawn_blocking(move || pipeline.save()).await;
            let _ = inputs.send(DriverInput::Event(DaemonEvent::ServingEnded)).await;
        });
    }
}

/// Removes the sockets' files, so that no more clients connect. The daemon still holds its lock, so
/// the files cannot belong to another daemon.
fn remove_sockets(sockets: &mut Vec<PathBuf>) {
    for path in sockets.drain(..) {
        if let Err(error) = std::fs::remove_file(&path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!("failed to remove `{}`: {error}", path.display());
        }
    }
}

/// Reports SIGTERM, SIGINT and SIGHUP to the core. A daemon has no terminal to lose, so also SIGHUP
/// is sent by a user who wants it to leave.
fn watch_signals(inputs: mpsc::Sender<DriverInput>) -> std::io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    Ok(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                _ = hang_up.recv() => {}
            }
            if inputs.send(DriverInput::Event(DaemonEvent::Signal)).await.is_err() {
                return;
            }
        }
    })
}
