//! The daemon's life as a function: what happened goes in, what is to be done comes out.
//!
//! It decides who is greeted and who refused, when the store is opened, kept up and closed,
//! when the daemon is idle, and how it leaves. It reads no clock, no socket and no file: time
//! is handed to it, as what has passed since the start. The driver does what it says and
//! reports what came of it.
//!
//! A store that is to be opened anew takes the whole daemon with it: it leaves, as if told
//! to, and begins again. That is the way a start already goes, so nothing of it is special.
//!
//! Leaving goes one way: `Serving`, `Draining`, `Closing`, gone. Nothing goes back, and each
//! step ends by a deadline, so a daemon that was told to leave leaves.

use std::collections::BTreeMap;
use std::time::Duration;

use kache_client::control::{
    self, Compile, Guarding, Hello, Ran, Refused, Request, Stopping, Welcome, reply, request,
};
use kache_client::is_older;

use super::activity::ActivityCount;

/// How long a new connection may take to greet.
pub const GREETING_WAIT_MAX: Duration = Duration::from_secs(5);

/// How long requests that are under way may take once the daemon is to leave.
pub const DRAIN_MAX: Duration = Duration::from_secs(30);

/// How long closing the store may take. What is not written by then is verified at the next
/// start, as after a crash.
pub const CLOSE_MAX: Duration = Duration::from_secs(10);

/// How often the store is tried again while it cannot be opened: a disk may come back.
pub const STORE_RETRY_EVERY: Duration = Duration::from_secs(5);

/// How long upkeep rests when nothing is due, and after it failed.
pub const UPKEEP_REST: Duration = Duration::from_secs(1);

/// How long it rests after it failed: a broken disk need not be asked every second.
pub const UPKEEP_REST_AFTER_FAILURE: Duration = Duration::from_secs(10);

/// The most control connections at once: several builds' worth of clients.
pub const CONTROL_CONNECTIONS_MAX: usize = 1024;

/// A control connection, by the order in which they came.
pub type ConnectionId = u64;

/// Who this daemon is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The protocol it speaks.
    pub protocol: u32,
    /// Its version.
    pub version: String,
    /// Its process.
    pub pid: u32,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A client connected.
    Connected(ConnectionId),
    /// It sent a frame.
    Frame(ConnectionId, Vec<u8>),
    /// What it sent is no frame.
    Broken(ConnectionId, String),
    /// It is gone.
    Disconnected(ConnectionId),
    /// The store is open.
    StoreOpened,
    /// The store cannot be opened, and why.
    StoreFailed(String),
    /// A step of upkeep was done; whether another is due at once.
    UpkeepDone(bool),
    /// A step of upkeep failed, and why.
    UpkeepFailed(String),
    /// The store is to be opened anew, and why.
    StoreStuck(String),
    /// Somebody sent a signal to end.
    Signal,
    /// The sockets are no longer reachable, and why.
    DoorLost(String),
    /// The store's directory is gone from under it, and how.
    StoreLost(String),
    /// Some time passed; this is who uses the daemon now.
    Tick(ActivityCount),
    /// The last connection of the served protocols is closed.
    ServingEnded,
    /// The store is closed; what went wrong, if something did.
    StoreClosed(Option<String>),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Send this.
    Send(ConnectionId, reply::Kind),
    /// Send how the daemon is.
    SendStatus(ConnectionId),
    /// Close it, after what was sent.
    Close(ConnectionId),
    /// Open the store, somewhere else.
    OpenStore,
    /// Serve the store to other programs.
    Serve,
    /// Until then, send away whoever comes for it.
    TurnAway,
    /// Do one step of upkeep, somewhere else.
    Upkeep,
    /// Send this blob, read somewhere else.
    Fetch(ConnectionId, control::Fetch),
    /// Say about this action what to run, or what came of it, found out somewhere else.
    Verify(ConnectionId, Box<control::Verify>),
    /// A client makes a compiler call.
    Compile(ConnectionId, Box<Compile>),
    /// Its compiler has ended.
    Ran(ConnectionId, Box<Ran>),
    /// Its guard holds a target directory, or does not.
    Guarding(ConnectionId, Guarding),
    /// It is gone: nothing more comes of its call.
    Forget(ConnectionId),
    /// Listen no more, and tell all tasks to finish.
    Drain,
    /// Close the store, somewhere else.
    CloseStore,
    /// Leave.
    Exit,
    /// Log this.
    Note(String),
}

/// How the store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreState {
    /// It is being opened.
    Opening,
    /// It can be used.
    Open,
    /// It cannot be used, and why. It is tried again at that time.
    Unusable {
        /// Why.
        trouble: String,
        /// When to try again.
        retry_at: Duration,
    },
    /// It is being closed, or is closed.
    Closed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Serving,
    Draining { until: Duration, served_ended: bool },
    Closing { until: Duration },
    Gone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Upkeep {
    Resting { until: Duration },
    Running,
}

#[derive(Clone, Copy, Debug)]
enum Client {
    /// It has not greeted yet.
    Silent { since: Duration },
    /// It has; whether it only looks, and whether it has made a compiler call. One connection
    /// is one call.
    Greeted { is_looking: bool, has_called: bool },
}

impl Client {
    fn has_called(&self) -> bool {
        matches!(self, Client::Greeted { has_called: true, .. })
    }
}

/// The daemon's state.
#[derive(Debug)]
pub struct Core {
    identity: Identity,
    idle_timeout: Option<Duration>,
    phase: Phase,
    store: StoreState,
    upkeep: Upkeep,
    upkeep_trouble: Option<String>,
    clients: BTreeMap<ConnectionId, Client>,
    requests_begun: u64,
    last_use: Duration,
    begins_again: bool,
}

impl Core {
    /// A daemon that has just begun, and what it does first.
    pub fn new(identity: Identity, idle_timeout: Option<Duration>) -> (Self, Vec<Effect>) {
        let core = Core {
            identity,
            idle_timeout,
            phase: Phase::Serving,
            store: StoreState::Opening,
            upkeep: Upkeep::Resting { until: Duration::ZERO },
            upkeep_trouble: None,
            clients: BTreeMap::new(),
            requests_begun: 0,
            last_use: Duration::ZERO,
            begins_again: false,
        };
        (core, vec![Effect::OpenStore])
    }

    /// How the store is.
    pub fn store(&self) -> &StoreState {
        &self.store
    }

    /// What is wrong that the store itself does not know, in words.
    pub fn troubles(&self) -> Vec<String> {
        let unusable = match &self.store {
            StoreState::Unusable { trouble, .. } => Some(trouble.clone()),
            _ => None,
        };
        unusable.into_iter().chain(self.upkeep_trouble.clone()).collect()
    }

    /// Whether another daemon is to take the place of this one as soon as it is gone.
    pub fn begins_again(&self) -> bool {
        self.begins_again
    }

    /// How many control connections are open.
    pub fn clients(&self) -> usize {
        self.clients.len()
    }

    /// What follows from what happened.
    pub fn handle(&mut self, now: Duration, event: Event) -> Vec<Effect> {
        let mut effects = match event {
            Event::Connected(id) => self.connected(now, id),
            Event::Frame(id, frame) => self.frame(now, id, &frame),
            Event::Broken(id, why) => self.dismiss(id, why),
            Event::Disconnected(id) => self.disconnected(now, id),
            Event::StoreOpened => self.store_opened(),
            Event::StoreFailed(why) => self.store_failed(now, why),
            Event::UpkeepDone(more_is_due) => self.upkeep_done(now, more_is_due),
            Event::UpkeepFailed(why) => self.upkeep_failed(now, why),
            Event::StoreStuck(why) => self.store_stuck(now, why),
            Event::Signal => self.signalled(now),
            Event::DoorLost(why) => self.drain(now, &format!("its sockets are gone: {why}")),
            Event::StoreLost(why) => self.drain(now, &format!("its store is gone: {why}")),
            Event::Tick(count) => self.tick(now, count),
            Event::ServingEnded => self.serving_ended(),
            Event::StoreClosed(trouble) => self.store_closed(trouble),
        };
        effects.extend(self.advance(now));
        effects
    }

    fn connected(&mut self, now: Duration, id: ConnectionId) -> Vec<Effect> {
        if self.clients.len() >= CONTROL_CONNECTIONS_MAX {
            let why =
                format!("more connections than CONTROL_CONNECTIONS_MAX ({CONTROL_CONNECTIONS_MAX}) allows");
            return self.dismiss(id, why);
        }
        self.clients.insert(id, Client::Silent { since: now });
        Vec::new()
    }

    fn disconnected(&mut self, now: Duration, id: ConnectionId) -> Vec<Effect> {
        let client = self.clients.remove(&id);
        if let Some(Client::Greeted { is_looking: false, .. }) = client {
            self.last_use = now;
        }
        client.filter(Client::has_called).map(|_| Effect::Forget(id)).into_iter().collect()
    }

    fn frame(&mut self, now: Duration, id: ConnectionId, frame: &[u8]) -> Vec<Effect> {
        match self.clients.get(&id) {
            // It was dismissed, and wrote before it noticed.
            None => Vec::new(),
            Some(Client::Silent { .. }) => match control::decode::<Hello>(frame) {
                Ok(hello) => self.greeted(now, id, &hello),
                Err(error) => self.dismiss(id, error.to_string()),
            },
            Some(Client::Greeted { is_looking, .. }) => {
                if !is_looking {
                    self.last_use = now;
                }
                match control::decode::<Request>(frame) {
                    Ok(request) => self.requested(now, id, request),
                    Err(error) => self.dismiss(id, error.to_string()),
                }
            }
        }
    }

    fn greeted(&mut self, now: Duration, id: ConnectionId, hello: &Hello) -> Vec<Effect> {
        let Identity { protocol, version, pid } = self.identity.clone();
        let is_leaving = self.phase != Phase::Serving;
        if hello.protocol == protocol && !is_leaving {
            self.clients.insert(id, Client::Greeted { is_looking: hello.only_looking, has_called: false });
            if !hello.only_looking {
                self.last_use = now;
            }
            return vec![Effect::Send(
                id,
                reply::Kind::Welcome(Welcome { protocol, daemon_version: version, pid }),
            )];
        }
        // A newer client is to have its own daemon. One that only looks changes nothing.
        let makes_room =
            !hello.only_looking && hello.protocol != protocol && is_older(&version, &hello.client_version);
        self.clients.remove(&id);
        let leaving = is_leaving || makes_room;
        let refused = Refused { protocol, daemon_version: version, leaving };
        let mut effects = vec![Effect::Send(id, reply::Kind::Refused(refused)), Effect::Close(id)];
        if makes_room {
            effects.extend(self.drain(now, &format!("kache {} is newer", hello.client_version)));
        }
        effects
    }

    fn requested(&mut self, now: Duration, id: ConnectionId, request: Request) -> Vec<Effect> {
        match request.kind {
            Some(request::Kind::Status(_)) => vec![Effect::SendStatus(id)],
            Some(request::Kind::Stop(stop)) => self.asked_to_stop(now, id, &stop.if_older_than),
            Some(request::Kind::Compile(compile)) => self.called(id, compile),
            Some(request::Kind::Ran(ran)) => self.has_run(id, ran),
            Some(request::Kind::Guarding(guarding)) => self.guards(id, guarding),
            Some(request::Kind::Fetch(fetch)) => vec![Effect::Fetch(id, fetch)],
            Some(request::Kind::Verify(verify)) => vec![Effect::Verify(id, Box::new(verify))],
            // It is good to know in a core dump, and nothing follows from it.
            Some(request::Kind::Began(_)) => Vec::new(),
            _ => {
                let message = format!("kache {} does not know this request", self.identity.version);
                vec![fail(id, message)]
            }
        }
    }

    fn called(&mut self, id: ConnectionId, compile: Compile) -> Vec<Effect> {
        match self.clients.get_mut(&id) {
            // Closing it tells it to go on without us, or with our successor.
            _ if self.phase != Phase::Serving => self.dismiss(id, "the daemon is leaving".to_owned()),
            Some(Client::Greeted { has_called, .. }) if !*has_called => {
                *has_called = true;
                vec![Effect::Compile(id, Box::new(compile))]
            }
            _ => self.dismiss(id, "one connection is one call".to_owned()),
        }
    }

    fn has_run(&mut self, id: ConnectionId, ran: Ran) -> Vec<Effect> {
        match self.clients.get(&id) {
            Some(client) if client.has_called() => vec![Effect::Ran(id, Box::new(ran))],
            _ => self.dismiss(id, "nothing was to be run".to_owned()),
        }
    }

    fn guards(&mut self, id: ConnectionId, guarding: Guarding) -> Vec<Effect> {
        match self.clients.get(&id) {
            Some(client) if client.has_called() => vec![Effect::Guarding(id, guarding)],
            _ => self.dismiss(id, "nothing was to be guarded".to_owned()),
        }
    }

    fn asked_to_stop(&mut self, now: Duration, id: ConnectionId, if_older_than: &str) -> Vec<Effect> {
        let version = &self.identity.version;
        if !if_older_than.is_empty() && !is_older(version, if_older_than) {
            return vec![fail(
                id,
                format!("this daemon is kache {version}, which is not older than {if_older_than}"),
            )];
        }
        self.begins_again = false;
        let stopping = reply::Kind::Stopping(Stopping { pid: self.identity.pid });
        let mut effects = vec![Effect::Send(id, stopping)];
        effects.extend(self.drain(now, "a client asked for it"));
        effects
    }

    /// Says why and closes.
    fn dismiss(&mut self, id: ConnectionId, why: String) -> Vec<Effect> {
        let client = self.clients.remove(&id);
        let forget = client.filter(Client::has_called).map(|_| Effect::Forget(id));
        let note = Effect::Note(format!("dismissing a client: {why}"));
        [note, fail(id, why), Effect::Close(id)].into_iter().chain(forget).collect()
    }

    fn store_opened(&mut self) -> Vec<Effect> {
        self.store = StoreState::Open;
        match self.phase {
            Phase::Serving => vec![Effect::Serve, Effect::Note("the store is open".to_owned())],
            // It came too late to be served; `advance` closes it.
            _ => Vec::new(),
        }
    }

    fn store_failed(&mut self, now: Duration, trouble: String) -> Vec<Effect> {
        let is_news =
            !matches!(&self.store, StoreState::Unusable { trouble: before, .. } if *before == trouble);
        let note = is_news.then(|| Effect::Note(format!("the store cannot be used: {trouble}")));
        self.store = StoreState::Unusable { trouble, retry_at: now + STORE_RETRY_EVERY };
        note.into_iter().chain(is_news.then_some(Effect::TurnAway)).collect()
    }

    fn upkeep_done(&mut self, now: Duration, more_is_due: bool) -> Vec<Effect> {
        self.upkeep_trouble = None;
        let rest = if more_is_due { Duration::ZERO } else { UPKEEP_REST };
        self.upkeep = Upkeep::Resting { until: now + rest };
        self.upkeep_if_due(now)
    }

    fn upkeep_failed(&mut self, now: Duration, why: String) -> Vec<Effect> {
        self.upkeep = Upkeep::Resting { until: now + UPKEEP_REST_AFTER_FAILURE };
        let note = Effect::Note(format!("upkeep failed: {why}"));
        self.upkeep_trouble = Some(why);
        vec![note]
    }

    fn store_stuck(&mut self, now: Duration, why: String) -> Vec<Effect> {
        let effects = self.upkeep_failed(now, why);
        self.begins_again |= self.phase == Phase::Serving;
        effects.into_iter().chain(self.drain(now, "to begin again with the store opened anew")).collect()
    }

    fn upkeep_if_due(&mut self, now: Duration) -> Vec<Effect> {
        match self.upkeep {
            Upkeep::Resting { until }
                if until <= now && self.store == StoreState::Open && self.phase == Phase::Serving =>
            {
                self.upkeep = Upkeep::Running;
                vec![Effect::Upkeep]
            }
            _ => Vec::new(),
        }
    }

    fn signalled(&mut self, now: Duration) -> Vec<Effect> {
        self.begins_again = false;
        match self.phase {
            Phase::Serving => self.drain(now, "it was told to by a signal"),
            // Told twice: what is under way is not waited for.
            Phase::Draining { served_ended, .. } => {
                self.phase = Phase::Draining { until: now, served_ended };
                Vec::new()
            }
            Phase::Closing { .. } | Phase::Gone => Vec::new(),
        }
    }

    fn drain(&mut self, now: Duration, why: &str) -> Vec<Effect> {
        if self.phase != Phase::Serving {
            return Vec::new();
        }
        self.phase = Phase::Draining { until: now + DRAIN_MAX, served_ended: self.store != StoreState::Open };
        vec![Effect::Note(format!("leaving: {why}")), Effect::Drain]
    }

    fn serving_ended(&mut self) -> Vec<Effect> {
        if let Phase::Draining { until, .. } = self.phase {
            self.phase = Phase::Draining { until, served_ended: true };
        }
        Vec::new()
    }

    fn store_closed(&mut self, trouble: Option<String>) -> Vec<Effect> {
        self.phase = Phase::Gone;
        let note = trouble.map(|why| Effect::Note(format!("the store did not close cleanly: {why}")));
        note.into_iter().chain([Effect::Exit]).collect()
    }

    fn tick(&mut self, now: Duration, count: ActivityCount) -> Vec<Effect> {
        if count.requests_in_flight > 0 || count.requests_begun != self.requests_begun {
            self.requests_begun = count.requests_begun;
            self.last_use = now;
        }
        let mut effects = self.dismiss_silent(now);
        if self.phase != Phase::Serving {
            return effects;
        }
        effects.extend(self.retry_store(now));
        effects.extend(self.upkeep_if_due(now));
        if let Some(timeout) = self.idle_timeout.filter(|timeout| self.is_idle_since(now, *timeout)) {
            effects.extend(self.drain(now, &format!("no request for {} s", timeout.as_secs())));
        }
        effects
    }

    /// Somebody who is connected to have something done keeps the daemon; somebody who looks
    /// does not (DMN-06).
    fn is_idle_since(&self, now: Duration, timeout: Duration) -> bool {
        let is_used =
            self.clients.values().any(|client| matches!(client, Client::Greeted { is_looking: false, .. }));
        !is_used && now.saturating_sub(self.last_use) >= timeout
    }

    fn dismiss_silent(&mut self, now: Duration) -> Vec<Effect> {
        let is_late = |client: &Client| matches!(client, Client::Silent { since } if now.saturating_sub(*since) >= GREETING_WAIT_MAX);
        let late: Vec<_> =
            self.clients.iter().filter(|(_, client)| is_late(client)).map(|(id, _)| *id).collect();
        late.into_iter()
            .flat_map(|id| self.dismiss(id, "no greeting within GREETING_WAIT_MAX".to_owned()))
            .collect()
    }

    fn retry_store(&mut self, now: Duration) -> Vec<Effect> {
        match &self.store {
            // It stays `Unusable` meanwhile, so that whoever asks hears why.
            StoreState::Unusable { trouble, retry_at } if *retry_at <= now => {
                let trouble = trouble.clone();
                self.store = StoreState::Unusable { trouble, retry_at: Duration::MAX };
                vec![Effect::OpenStore]
            }
            _ => Vec::new(),
        }
    }

    /// Takes the next step of leaving as soon as nothing stands against it.
    fn advance(&mut self, now: Duration) -> Vec<Effect> {
        match self.phase {
            Phase::Draining { until, served_ended } => {
                let is_settled = served_ended
                    && self.store != StoreState::Opening
                    && !matches!(self.store, StoreState::Unusable { retry_at: Duration::MAX, .. })
                    && self.upkeep != Upkeep::Running;
                if is_settled || until <= now { self.close(now) } else { Vec::new() }
            }
            Phase::Closing { until } if until <= now => {
                self.phase = Phase::Gone;
                vec![Effect::Note("the store did not close in time".to_owned()), Effect::Exit]
            }
            _ => Vec::new(),
        }
    }

    fn close(&mut self, now: Duration) -> Vec<Effect> {
        let was_open = self.store == StoreState::Open;
        self.store = StoreState::Closed;
        if was_open {
            self.phase = Phase::Closing { until: now + CLOSE_MAX };
            vec![Effect::CloseStore]
        } else {
            self.phase = Phase::Gone;
            vec![Effect::Exit]
        }
    }
}

fn fail(id: ConnectionId, message: String) -> Effect {
    Effect::Send(id, reply::Kind::Failed(control::Failed { message }))
}
