//! The driver: sockets, signals, clock and threads around the core.
//!
//! One loop takes what happens, one at a time, hands it to the core and does what the core
//! says. It decides nothing. What may block for long is done elsewhere and comes back as an
//! event: the loop itself waits for nothing but the next event, so control requests are
//! answered while a store opens or a disk is dead.

use std::future::Future;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kache_cas::Store;
use kache_client::control::{Noted, reply};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, watch};

use super::activity::Activity;
use super::calls::{Calls, Word};
use super::control::{self, Mailboxes, Signal};
use super::core::{Core, Effect, Event};
use super::draining::{Drain, Draining};
use super::fetch::Fetches;
use super::status::{self, Facts};
use super::turning_away::TurningAway;
use super::upkeep::{self, Landmark, Open, OpenStore, Opened};
use super::verifying::Verifying;
use super::wire;
use crate::lookup::Uploads;
use crate::pipeline::{Pipeline, StoreSlot};

/// How many events may wait. Whoever brings one more waits: a flood slows itself.
pub const EVENTS_MAX: usize = 1024;

/// How often the core is told the time.
pub const TICK_EVERY: Duration = Duration::from_millis(250);

/// How long the last replies may take. They fit into the sockets' buffers.
const LAST_REPLIES_MAX: Duration = Duration::from_secs(1);

/// Serves an open store to other programs until draining is done.
pub(super) type Serve =
    Box<dyn FnOnce(Arc<Store>, Arc<Activity>, Draining) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// How a daemon ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It is gone for good.
    Gone,
    /// Another one is to take its place at once.
    ToBeginAgain,
}

/// The daemon's parts, before they run.
pub struct Driver {
    pub(super) core: Core,
    pub(super) first: Vec<Effect>,
    pub(super) facts: Facts,
    pub(super) open_store: OpenStore,
    /// Where the store lies.
    pub(super) store_dir: PathBuf,
    /// Whether compiles take what clients have uploaded.
    pub(super) uploads: Uploads,
    pub(super) serve: Option<Serve>,
    /// Gone once the store is served.
    pub(super) turning_away: Option<TurningAway>,
    /// The sockets' files, removed as soon as nobody is to come any more.
    pub(super) sockets: Vec<PathBuf>,
}

/// What changes while it runs.
struct Running {
    driver: Driver,
    begun: Instant,
    store: Option<Open>,
    mailboxes: Mailboxes,
    fetches: Fetches,
    verifying: Verifying,
    calls: Calls,
    /// The store as calls see it.
    slot: watch::Sender<StoreSlot>,
    activity: Arc<Activity>,
    drain: Drain,
    signals: mpsc::Sender<Signal>,
    opened: mpsc::Sender<Opened>,
    is_over: bool,
}

impl Driver {
    /// Runs until the core says that it is over.
    pub async fn run(self, listener: StdUnixListener) -> std::io::Result<Ending> {
        listener.set_nonblocking(true)?;
        let listener = UnixListener::from_std(listener)?;
        let door = self.sockets.first().cloned().map(Landmark::of);
        let (signals, mut inbox) = mpsc::channel(EVENTS_MAX);
        let (opened, mut openings) = mpsc::channel(1);
        let (activity, drain) = (Arc::<Activity>::default(), Drain::default());
        let (writing, mut all_written) = mpsc::channel(1);
        let (noted, draining) = (Arc::clone(&activity), drain.subscribe());
        tokio::spawn(control::accept_all(listener, signals.clone(), noted, writing, draining));
        tokio::spawn(watch_signals(signals.clone())?);
        let mut ticks = tokio::time::interval(TICK_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (slot, seen) = watch::channel(StoreSlot::Opening);
        let pipeline = Pipeline::new(self.store_dir.clone(), seen.clone());
        let pipeline = Arc::new(pipeline.with_uploads(self.uploads));
        let calls = Calls::new(pipeline, seen, Arc::clone(&activity));
        let mut running = Running {
            driver: self,
            begun: Instant::now(),
            store: None,
            mailboxes: Mailboxes::default(),
            fetches: Fetches::default(),
            verifying: Verifying::default(),
            calls,
            slot,
            activity,
            drain,
            signals,
            opened,
            is_over: false,
        };
        let first = std::mem::take(&mut running.driver.first);
        running.perform_all(first);
        while !running.is_over {
            tokio::select! {
                Some(signal) = inbox.recv() => running.hear(signal),
                Some(opened) = openings.recv() => running.store_opened(opened),
                _ = ticks.tick() => running.tick(door.as_ref()),
            }
        }
        // The last replies go out first: whoever told us to leave is to hear that we do.
        running.mailboxes.close_all();
        let _ = tokio::time::timeout(LAST_REPLIES_MAX, all_written.recv()).await;
        Ok(if running.driver.core.begins_again() { Ending::ToBeginAgain } else { Ending::Gone })
    }
}

impl Running {
    fn hear(&mut self, signal: Signal) {
        match signal {
            Signal::Connected(id, mailbox, process) => {
                self.mailboxes.add(id, mailbox, process);
                self.happened(Event::Connected(id));
            }
            Signal::Event(event) => {
                if let Event::Disconnected(id) = &event {
                    self.mailboxes.close(*id);
                }
                self.happened(event);
            }
        }
    }

    fn store_opened(&mut self, opened: Opened) {
        match opened {
            Ok(open) => {
                self.slot.send_replace(StoreSlot::Open(Arc::clone(&open.store)));
                self.store = Some(open);
                self.happened(Event::StoreOpened);
            }
            Err(why) => {
                self.slot.send_replace(StoreSlot::Unusable(why.clone()));
                self.happened(Event::StoreFailed(why));
            }
        }
    }

    fn tick(&mut self, door: Option<&Landmark>) {
        if let Some(why) = door.filter(|_| !self.driver.sockets.is_empty()).and_then(Landmark::lost) {
            self.happened(Event::DoorLost(why));
        }
        self.happened(Event::Tick(self.activity.count()));
    }

    fn happened(&mut self, event: Event) {
        let effects = self.driver.core.handle(self.begun.elapsed(), event);
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
            Effect::SendStatus(id) => {
                let (facts, core, count) = (&self.driver.facts, &self.driver.core, self.activity.count());
                let store = self.store.as_ref().map(|open| &*open.store);
                let mut status = status::compose(facts, core, store, count, self.begun.elapsed());
                status.store.get_or_insert_default().troubles.extend(self.calls.trouble());
                self.mailboxes.send(id, reply::Kind::Status(status));
            }
            Effect::Close(id) => self.mailboxes.close(id),
            Effect::OpenStore => {
                let driver = &self.driver;
                upkeep::open(Arc::clone(&driver.open_store), driver.store_dir.clone(), self.opened.clone());
            }
            Effect::Serve => self.serve(),
            Effect::TurnAway => {
                if let Some(turning_away) = &mut self.driver.turning_away {
                    turning_away.begin();
                }
            }
            Effect::Upkeep => {
                if let Some(open) = &self.store {
                    upkeep::step(open.clone(), self.signals.clone());
                }
            }
            Effect::Fetch(id, fetch) => {
                if let Some((replies, _)) = self.mailboxes.replies(id) {
                    self.fetches.begin(self.store.as_ref().map(|open| &open.store), &fetch.hash, replies);
                }
            }
            Effect::Verify(id, verify) => {
                if let Some((replies, _)) = self.mailboxes.replies(id) {
                    self.verifying.begin(self.calls.pipeline(), &verify, replies);
                }
            }
            Effect::Compile(id, compile) => {
                if let Some(replies) = self.mailboxes.replies(id) {
                    self.calls.begin(id, &compile, replies);
                }
            }
            Effect::Ran(id, ran) => {
                // Nothing comes of it, and nobody is to wait for that.
                if !self.calls.hear(id, Word::Ran(*ran)) {
                    self.mailboxes.send(id, reply::Kind::Noted(Noted {}));
                }
            }
            Effect::Guarding(id, guarding) => {
                self.calls.hear(id, Word::Guarding(wire::place(&guarding.staging)));
            }
            Effect::Forget(id) => self.calls.forget(id),
            Effect::Drain => {
                remove_sockets(&mut self.driver.sockets);
                self.drain.begin();
                self.calls.end();
            }
            Effect::CloseStore => {
                self.slot.send_replace(StoreSlot::Unusable("it is being closed".to_owned()));
                if let Some(open) = self.store.take() {
                    upkeep::close(open.store, self.signals.clone());
                }
            }
            Effect::Exit => self.is_over = true,
            Effect::Note(text) => tracing::info!("{text}"),
        }
    }

    fn serve(&mut self) {
        let (Some(serve), Some(open)) = (self.driver.serve.take(), &self.store) else { return };
        self.driver.turning_away = None;
        let serving = serve(Arc::clone(&open.store), Arc::clone(&self.activity), self.drain.subscribe());
        let signals = self.signals.clone();
        let (unused, pipeline) = (self.calls.unused(), self.calls.pipeline());
        tokio::spawn(async move {
            serving.await;
            // What was compiled is stored before the store is closed.
            if let Some(mut unused) = unused {
                let _ = unused.recv().await;
            }
            let _ = tokio::task::spawn_blocking(move || pipeline.save()).await;
            let _ = signals.send(Signal::Event(Event::ServingEnded)).await;
        });
    }
}

/// Nobody new finds the daemon after this; the files are removed while its lock is held, so
/// they cannot be a successor's.
fn remove_sockets(sockets: &mut Vec<PathBuf>) {
    for path in sockets.drain(..) {
        if let Err(error) = std::fs::remove_file(&path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!("failed to remove `{}`: {error}", path.display());
        }
    }
}

/// SIGTERM, SIGINT and SIGHUP all mean to leave. A daemon has no terminal to lose, so the
/// last one comes from somebody who means it.
fn watch_signals(signals: mpsc::Sender<Signal>) -> std::io::Result<impl Future<Output = ()>> {
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
            if signals.send(Signal::Event(Event::Signal)).await.is_err() {
                return;
            }
        }
    })
}
