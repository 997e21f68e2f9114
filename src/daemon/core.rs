//! The daemon's life cycle as a pure function: it takes events and returns effects.
//!
//! It decides which clients are welcomed, when the store is opened, maintained and closed, when the
//! daemon is idle, and how it leaves. It reads no clock, no socket and no file. The time arrives as
//! an argument, counted from the start of the daemon. The driver carries out the effects and reports
//! their results as events.
//!
//! If the store has to be opened again, the whole daemon leaves, as if it was told to, and starts
//! again in the same process. So there is one way to open a store and not two.
//!
//! Invariant: a daemon that was told to leave leaves. Its phases are `Serving`, `Draining`, `Closing`
//! and `Gone`; it never goes back to an earlier one, and each of them ends by a deadline.

use std::collections::BTreeMap;
use std::time::Duration;

use kache_client::control::{
    self, Compile, Guarding, Hello, Ran, Refused, Request, Stopping, Welcome, reply, request,
};
use kache_client::is_older;

use super::activity::ActivityCount;

/// The time that a new connection has to greet.
pub const GREETING_WAIT_MAX: Duration = Duration::from_secs(5);

/// The time that requests under way have to finish once the daemon is to leave.
pub const DRAIN_MAX: Duration = Duration::from_secs(30);

/// The time for closing the store. Data that is not written by then is verified at the next start,
/// as after a crash.
pub const CLOSE_MAX: Duration = Duration::from_secs(10);

/// The interval of attempts to open a store that could not be opened: a disk may come back.
pub const STORE_RETRY_EVERY: Duration = Duration::from_secs(5);

/// The pause before the next step of upkeep when none is due at once.
pub const UPKEEP_REST: Duration = Duration::from_secs(1);

/// The pause after a step of upkeep that failed: a broken disk need not be tried every second.
pub const UPKEEP_REST_AFTER_FAILURE: Duration = Duration::from_secs(10);

/// The largest number of control connections at once, which is enough for several builds.
pub const CONTROL_CONNECTIONS_MAX: usize = 1024;

/// The number of a control connection, counted from the start of the daemon.
pub type ConnectionId = u64;

/// The facts about this daemon that a greeting contains.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The number of the control protocol.
    pub protocol: u32,
    /// The version that the daemon tells its clients.
    pub version: String,
    /// The id of the daemon's process.
    pub pid: u32,
}

/// An event in the daemon's life, which the driver reports to the core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DaemonEvent {
    /// A client connected, and has not sent a frame yet.
    Connected(ConnectionId),
    /// A client sent a frame; this is its body.
    Frame(ConnectionId, Vec<u8>),
    /// A client sent bytes that are no frame, for this reason.
    Broken(ConnectionId, String),
    /// A client closed its connection.
    Disconnected(ConnectionId),
    /// The store is open.
    StoreOpened,
    /// The store cannot be opened, for this reason.
    StoreFailed(String),
    /// A step of upkeep was done; `true` if another is due at once.
    UpkeepDone(bool),
    /// A step of upkeep failed, for this reason.
    UpkeepFailed(String),
    /// The store works again only if it is opened again, for this reason.
    StoreStuck(String),
    /// The process got a signal that asks it to end.
    Signal,
    /// The control socket was removed or replaced, so that no client can connect any more.
    SocketsLost(String),
    /// The store's directory was removed or replaced, so that what is written to it is lost.
    StoreLost(String),
    /// Some time has passed; the count shows how the daemon is used at present.
    Tick(ActivityCount),
    /// The last connection of the served protocols is closed.
    ServingEnded,
    /// The store is closed; the text is the error, if there was one.
    StoreClosed(Option<String>),
}

/// An effect, which the driver carries out. Nothing that may block runs on the driver's own task.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// The driver sends this reply on this connection.
    Send(ConnectionId, reply::Kind),
    /// Send the daemon's status.
    SendStatus(ConnectionId),
    /// Close the connection after the replies that were sent on it.
    Close(ConnectionId),
    /// The driver opens the store.
    OpenStore,
    /// Serve the store to other programs.
    Serve,
    /// Reject connections of the served protocols until the store is open.
    RejectConnections,
    /// Do one step of upkeep.
    Upkeep,
    /// Read a blob and send it.
    Fetch(ConnectionId, control::Fetch),
    /// Send the command that compiles an action again, or compare its outputs.
    Verify(ConnectionId, Box<control::Verify>),
    /// Copy results between the store and remotes.
    Sync(ConnectionId, Box<control::Sync>),
    /// Begin a compiler call.
    Compile(ConnectionId, Box<Compile>),
    /// Tell the connection's call how its compiler ended.
    Ran(ConnectionId, Box<Ran>),
    /// Tell the connection's call whether the client's guard holds the target directory.
    Guarding(ConnectionId, Guarding),
    /// End the connection's call: its client is gone.
    EndCall(ConnectionId),
    /// Stop listening, and tell all tasks to finish.
    Drain,
    /// The driver closes the store.
    CloseStore,
    /// End the driver's loop.
    Exit,
    /// Write this to the daemon's log.
    Log(String),
}

/// The state of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreState {
    /// The store is being opened for the first time.
    Opening,
    /// The store can be used.
    Open,
    /// The store cannot be opened.
    Unusable {
        /// The error of the last attempt.
        trouble: String,
        /// The time of the next attempt, or `Duration::MAX` while an attempt is under way.
        retry_at: Duration,
    },
    /// The store is being closed, or is closed.
    Closed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LifePhase {
    Serving,
    /// Requests that are under way may finish, `until` this time at most.
    Draining {
        until: Duration,
        served_ended: bool,
    },
    Closing {
        until: Duration,
    },
    Gone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum UpkeepState {
    Resting { until: Duration },
    Running,
}

#[derive(Clone, Copy, Debug)]
enum ClientState {
    /// The client connected at this time and has not greeted yet.
    Connected { since: Duration },
    /// The client has greeted. A client that only looks does not keep an idle daemon alive. A
    /// connection carries one compiler call at most, and `has_called` is set by it.
    Greeted { only_looks: bool, has_called: bool },
}

impl ClientState {
    fn has_called(&self) -> bool {
        matches!(self, ClientState::Greeted { has_called: true, .. })
    }
}

/// The state from which the daemon's decisions follow. All times are counted from its start.
#[derive(Debug)]
pub struct Core {
    identity: Identity,
    /// The time without requests after which the daemon leaves; `None` means never.
    idle_timeout: Option<Duration>,
    phase: LifePhase,
    store: StoreState,
    upkeep: UpkeepState,
    /// The error of the last step of upkeep, if it failed.
    upkeep_trouble: Option<String>,
    clients: BTreeMap<ConnectionId, ClientState>,
    /// The number of requests that had begun at the last tick.
    requests_begun: u64,
    /// The time at which a request or client last used the daemon.
    last_use: Duration,
    /// Whether the daemon starts again after it has left.
    restarts: bool,
}

impl Core {
    /// Returns the state of a daemon that has just started, and its first effects.
    pub fn new(identity: Identity, idle_timeout: Option<Duration>) -> (Self, Vec<Effect>) {
        let core = Core {
            identity,
            idle_timeout,
            phase: LifePhase::Serving,
            store: StoreState::Opening,
            upkeep: UpkeepState::Resting { until: Duration::ZERO },
            upkeep_trouble: None,
            clients: BTreeMap::new(),
            requests_begun: 0,
            last_use: Duration::ZERO,
            restarts: false,
        };
        (core, vec![Effect::OpenStore])
    }

    /// Returns the state of the store.
    pub fn store(&self) -> &StoreState {
        &self.store
    }

    /// Returns the problems that the store itself does not report, as text for the status: it cannot
    /// be opened, or its upkeep fails.
    pub fn troubles(&self) -> Vec<String> {
        let unusable = match &self.store {
            StoreState::Unusable { trouble, .. } => Some(trouble.clone()),
            _ => None,
        };
        unusable.into_iter().chain(self.upkeep_trouble.clone()).collect()
    }

    /// Returns whether the daemon is to start again after it has left.
    pub fn restarts(&self) -> bool {
        self.restarts
    }

    /// Returns the number of open control connections.
    pub fn clients(&self) -> usize {
        self.clients.len()
    }

    /// Takes an event and returns the effects that follow from it, in the order in which they are
    /// to be carried out.
    pub fn handle(&mut self, now: Duration, event: DaemonEvent) -> Vec<Effect> {
        let mut effects = match event {
            DaemonEvent::Connected(id) => self.connected(now, id),
            DaemonEvent::Frame(id, frame) => self.frame(now, id, &frame),
            DaemonEvent::Broken(id, why) => self.dismiss(id, why),
            DaemonEvent::Disconnected(id) => self.disconnected(now, id),
            DaemonEvent::StoreOpened => self.store_opened(),
            DaemonEvent::StoreFailed(why) => self.store_failed(now, why),
            DaemonEvent::UpkeepDone(more_is_due) => self.upkeep_done(now, more_is_due),
            DaemonEvent::UpkeepFailed(why) => self.upkeep_failed(now, why),
            DaemonEvent::StoreStuck(why) => self.store_stuck(now, why),
            DaemonEvent::Signal => self.signalled(now),
            DaemonEvent::SocketsLost(why) => self.drain(now, &format!("its sockets are gone: {why}")),
            DaemonEvent::StoreLost(why) => self.drain(now, &format!("its store is gone: {why}")),
            DaemonEvent::Tick(count) => self.tick(now, count),
            DaemonEvent::ServingEnded => self.serving_ended(),
            DaemonEvent::StoreClosed(trouble) => self.store_closed(trouble),
        };
        // Every event may be the one that draining was waiting for.
        effects.extend(self.leave_if_ready(now));
        effects
    }

    fn connected(&mut self, now: Duration, id: ConnectionId) -> Vec<Effect> {
        if self.clients.len() >= CONTROL_CONNECTIONS_MAX {
            let why =
                format!("more connections than CONTROL_CONNECTIONS_MAX ({CONTROL_CONNECTIONS_MAX}) allows");
            return self.dismiss(id, why);
        }
        self.clients.insert(id, ClientState::Connected { since: now });
        Vec::new()
    }

    fn disconnected(&mut self, now: Duration, id: ConnectionId) -> Vec<Effect> {
        let client = self.clients.remove(&id);
        if let Some(ClientState::Greeted { only_looks: false, .. }) = client {
            self.last_use = now;
        }
        client.filter(ClientState::has_called).map(|_| Effect::EndCall(id)).into_iter().collect()
    }

    fn frame(&mut self, now: Duration, id: ConnectionId, frame: &[u8]) -> Vec<Effect> {
        match self.clients.get(&id) {
            // The client was dismissed and sent this before it noticed.
            None => Vec::new(),
            Some(ClientState::Connected { .. }) => match control::decode::<Hello>(frame) {
                Ok(hello) => self.greeted(now, id, &hello),
                Err(error) => self.dismiss(id, error.to_string()),
            },
            Some(ClientState::Greeted { only_looks, .. }) => {
                if !only_looks {
                    self.last_use = now;
                }
                match control::decode::<Request>(frame) {
                    Ok(request) => self.requested(now, id, request),
                    Err(error) => self.dismiss(id, error.to_string()),
                }
            }
        }
    }

    /// Welcomes a client of the same protocol and refuses every other. A newer client also makes the
    /// daemon leave, so that it can start its own.
    fn greeted(&mut self, now: Duration, id: ConnectionId, hello: &Hello) -> Vec<Effect> {
        let Identity { protocol, version, pid } = self.identity.clone();
        // A leaving daemon refuses even clients of its own protocol: their requests would not be answered. They
        // start the next daemon.
        let is_leaving = self.phase != LifePhase::Serving;
        if hello.protocol == protocol && !is_leaving {
            let only_looks = hello.only_looking;
            self.clients.insert(id, ClientState::Greeted { only_looks, has_called: false });
            if !only_looks {
                self.last_use = now;
            }
            return vec![Effect::Send(
                id,
                reply::Kind::Welcome(Welcome { protocol, daemon_version: version, pid }),
            )];
        }
        let is_replaced =
            !hello.only_looking && hello.protocol != protocol && is_older(&version, &hello.client_version);
        self.clients.remove(&id);
        let leaving = is_leaving || is_replaced;
        let refused = Refused { protocol, daemon_version: version, leaving };
        let mut effects = vec![Effect::Send(id, reply::Kind::Refused(refused)), Effect::Close(id)];
        if is_replaced {
            effects.extend(self.drain(now, &format!("kache {} is newer", hello.client_version)));
        }
        effects
    }

    fn requested(&mut self, now: Duration, id: ConnectionId, request: Request) -> Vec<Effect> {
        match request.kind {
            Some(request::Kind::Status(_)) => vec![Effect::SendStatus(id)],
            Some(request::Kind::Stop(stop)) => self.stop_requested(now, id, &stop.if_older_than),
            Some(request::Kind::Compile(compile)) => self.compile_requested(id, compile),
            Some(request::Kind::Ran(ran)) => self.ran_received(id, ran),
            Some(request::Kind::Guarding(guarding)) => self.guarding_received(id, guarding),
            Some(request::Kind::Fetch(fetch)) => vec![Effect::Fetch(id, fetch)],
            Some(request::Kind::Verify(verify)) => vec![Effect::Verify(id, Box::new(verify))],
            Some(request::Kind::Sync(sync)) => vec![Effect::Sync(id, Box::new(sync))],
            // Nothing follows from it. It is sent so that a core dump of the daemon shows it.
            Some(request::Kind::Began(_)) => Vec::new(),
            _ => {
                let message = format!("kache {} does not know this request", self.identity.version);
                vec![fail(id, message)]
            }
        }
    }

    fn compile_requested(&mut self, id: ConnectionId, compile: Compile) -> Vec<Effect> {
        match self.clients.get_mut(&id) {
            // A client whose connection is closed starts another daemon or does without.
            _ if self.phase != LifePhase::Serving => self.dismiss(id, "the daemon is leaving".to_owned()),
            // One call for each connection, because the end of the connection is the end of the call.
            Some(ClientState::Greeted { has_called, .. }) if !*has_called => {
                *has_called = true;
                vec![Effect::Compile(id, Box::new(compile))]
            }
            _ => self.dismiss(id, "a second compiler call on one connection".to_owned()),
        }
    }

    fn ran_received(&mut self, id: ConnectionId, ran: Ran) -> Vec<Effect> {
        match self.clients.get(&id) {
            Some(client) if client.has_called() => vec![Effect::Ran(id, Box::new(ran))],
            _ => self.dismiss(id, "a compile was reported without a compiler call".to_owned()),
        }
    }

    fn guarding_received(&mut self, id: ConnectionId, guarding: Guarding) -> Vec<Effect> {
        match self.clients.get(&id) {
            Some(client) if client.has_called() => vec![Effect::Guarding(id, guarding)],
            _ => self.dismiss(id, "a guard was reported without a compiler call".to_owned()),
        }
    }

    fn stop_requested(&mut self, now: Duration, id: ConnectionId, if_older_than: &str) -> Vec<Effect> {
        let version = &self.identity.version;
        if !if_older_than.is_empty() && !is_older(version, if_older_than) {
            return vec![fail(
                id,
                format!("this daemon is kache {version}, which is not older than {if_older_than}"),
            )];
        }
        self.restarts = false;
        let stopping = reply::Kind::Stopping(Stopping { pid: self.identity.pid });
        let mut effects = vec![Effect::Send(id, stopping)];
        effects.extend(self.drain(now, "a client asked for it"));
        effects
    }

    /// Sends the reason to the client, closes the connection and ends its call.
    fn dismiss(&mut self, id: ConnectionId, why: String) -> Vec<Effect> {
        let client = self.clients.remove(&id);
        let end_call = client.filter(ClientState::has_called).map(|_| Effect::EndCall(id));
        let log = Effect::Log(format!("closing a control connection: {why}"));
        [log, fail(id, why), Effect::Close(id)].into_iter().chain(end_call).collect()
    }

    fn store_opened(&mut self) -> Vec<Effect> {
        self.store = StoreState::Open;
        match self.phase {
            LifePhase::Serving => vec![Effect::Serve, Effect::Log("the store is open".to_owned())],
            // The daemon is leaving, so the store is not served; `leave_if_ready` closes it.
            _ => Vec::new(),
        }
    }

    fn store_failed(&mut self, now: Duration, trouble: String) -> Vec<Effect> {
        let is_news =
            !matches!(&self.store, StoreState::Unusable { trouble: before, .. } if *before == trouble);
        let log = is_news.then(|| Effect::Log(format!("the store cannot be used: {trouble}")));
        self.store = StoreState::Unusable { trouble, retry_at: now + STORE_RETRY_EVERY };
        log.into_iter().chain(is_news.then_some(Effect::RejectConnections)).collect()
    }

    fn upkeep_done(&mut self, now: Duration, more_is_due: bool) -> Vec<Effect> {
        self.upkeep_trouble = None;
        let rest = if more_is_due { Duration::ZERO } else { UPKEEP_REST };
        self.upkeep = UpkeepState::Resting { until: now + rest };
        self.upkeep_if_due(now)
    }

    fn upkeep_failed(&mut self, now: Duration, why: String) -> Vec<Effect> {
        self.upkeep = UpkeepState::Resting { until: now + UPKEEP_REST_AFTER_FAILURE };
        let log = Effect::Log(format!("upkeep failed: {why}"));
        self.upkeep_trouble = Some(why);
        vec![log]
    }

    fn store_stuck(&mut self, now: Duration, why: String) -> Vec<Effect> {
        let effects = self.upkeep_failed(now, why);
        // A daemon that is leaving for another reason does not start again.
        self.restarts |= self.phase == LifePhase::Serving;
        effects.into_iter().chain(self.drain(now, "to start again and open the store again")).collect()
    }

    fn upkeep_if_due(&mut self, now: Duration) -> Vec<Effect> {
        match self.upkeep {
            UpkeepState::Resting { until }
                if until <= now && self.store == StoreState::Open && self.phase == LifePhase::Serving =>
            {
                self.upkeep = UpkeepState::Running;
                vec![Effect::Upkeep]
            }
            _ => Vec::new(),
        }
    }

    fn signalled(&mut self, now: Duration) -> Vec<Effect> {
        self.restarts = false;
        match self.phase {
            LifePhase::Serving => self.drain(now, "it was told to by a signal"),
            // After a second signal, requests that are under way are not waited for.
            LifePhase::Draining { served_ended, .. } => {
                self.phase = LifePhase::Draining { until: now, served_ended };
                Vec::new()
            }
            LifePhase::Closing { .. } | LifePhase::Gone => Vec::new(),
        }
    }

    fn drain(&mut self, now: Duration, why: &str) -> Vec<Effect> {
        if self.phase != LifePhase::Serving {
            return Vec::new();
        }
        // Without a store nothing was served, so there are no served connections to wait for.
        let served_ended = self.store != StoreState::Open;
        self.phase = LifePhase::Draining { until: now + DRAIN_MAX, served_ended };
        vec![Effect::Log(format!("leaving: {why}")), Effect::Drain]
    }

    fn serving_ended(&mut self) -> Vec<Effect> {
        if let LifePhase::Draining { until, .. } = self.phase {
            self.phase = LifePhase::Draining { until, served_ended: true };
        }
        Vec::new()
    }

    fn store_closed(&mut self, trouble: Option<String>) -> Vec<Effect> {
        self.phase = LifePhase::Gone;
        let log = trouble.map(|why| Effect::Log(format!("the store did not close cleanly: {why}")));
        log.into_iter().chain([Effect::Exit]).collect()
    }

    fn tick(&mut self, now: Duration, count: ActivityCount) -> Vec<Effect> {
        // A request may begin and end between two ticks, so those that have begun are compared, too.
        if count.requests_in_flight > 0 || count.requests_begun != self.requests_begun {
            self.requests_begun = count.requests_begun;
            self.last_use = now;
        }
        let mut effects = self.dismiss_silent(now);
        if self.phase != LifePhase::Serving {
            return effects;
        }
        effects.extend(self.retry_store(now));
        effects.extend(self.upkeep_if_due(now));
        if let Some(timeout) = self.idle_timeout.filter(|timeout| self.is_idle_since(now, *timeout)) {
            effects.extend(self.drain(now, &format!("no request for {} s", timeout.as_secs())));
        }
        effects
    }

    /// Returns whether the daemon was not used for the time `timeout`. An open connection counts as
    /// use, unless its client only looks (DMN-06).
    fn is_idle_since(&self, now: Duration, timeout: Duration) -> bool {
        let is_use = |client: &ClientState| matches!(client, ClientState::Greeted { only_looks: false, .. });
        !self.clients.values().any(is_use) && now.saturating_sub(self.last_use) >= timeout
    }

    fn dismiss_silent(&mut self, now: Duration) -> Vec<Effect> {
        let is_late = |client: &ClientState| match client {
            ClientState::Connected { since } => now.saturating_sub(*since) >= GREETING_WAIT_MAX,
            ClientState::Greeted { .. } => false,
        };
        let late: Vec<_> =
            self.clients.iter().filter(|(_, client)| is_late(client)).map(|(id, _)| *id).collect();
        late.into_iter()
            .flat_map(|id| self.dismiss(id, "no greeting within GREETING_WAIT_MAX".to_owned()))
            .collect()
    }

    fn retry_store(&mut self, now: Duration) -> Vec<Effect> {
        match &self.store {
            // The state stays `Unusable` during the attempt, so that the status still shows the reason.
            // `Duration::MAX` marks that an attempt is under way.
            StoreState::Unusable { trouble, retry_at } if *retry_at <= now => {
                let trouble = trouble.clone();
                self.store = StoreState::Unusable { trouble, retry_at: Duration::MAX };
                vec![Effect::OpenStore]
            }
            _ => Vec::new(),
        }
    }

    /// Goes from draining to closing, or from closing to gone, if nothing is under way any more or
    /// the deadline has passed.
    ///
    /// The store is closed only when no thread uses it: the served connections have ended, no step of
    /// upkeep runs, and no attempt to open it is under way.
    fn leave_if_ready(&mut self, now: Duration) -> Vec<Effect> {
        match self.phase {
            LifePhase::Draining { until, served_ended } => {
                let is_settled = served_ended
                    && self.store != StoreState::Opening
                    && !matches!(self.store, StoreState::Unusable { retry_at: Duration::MAX, .. })
                    && self.upkeep != UpkeepState::Running;
                if is_settled || until <= now { self.close(now) } else { Vec::new() }
            }
            LifePhase::Closing { until } if until <= now => {
                self.phase = LifePhase::Gone;
                vec![Effect::Log("the store did not close in time".to_owned()), Effect::Exit]
            }
            _ => Vec::new(),
        }
    }

    fn close(&mut self, now: Duration) -> Vec<Effect> {
        let was_open = self.store == StoreState::Open;
        self.store = StoreState::Closed;
        if was_open {
            self.phase = LifePhase::Closing { until: now + CLOSE_MAX };
            vec![Effect::CloseStore]
        } else {
            self.phase = LifePhase::Gone;
            vec![Effect::Exit]
        }
    }
}

fn fail(id: ConnectionId, message: String) -> Effect {
    Effect::Send(id, reply::Kind::Failed(control::Failed { message }))
}
