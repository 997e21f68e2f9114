//! Accepts connections, as many as may be, and sees each to its end.
//!
//! Limits first: so many connections at once, a handshake within so long, and no spinning
//! when the process has no file descriptor left. It knows no protocol; what happens on a
//! connection is the [`Door`]'s business.

use std::io;
use std::net::TcpStream as StdTcpStream;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kache_cas::DigestFunction;
use nix::libc;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::admission::{Peer, Rules};
use super::authority::Tamed;
use super::lanes::{Lanes, Place};
use super::listen::{Bound, Door};
use super::metrics::{ServeMetrics, Turned};
use super::stream::{Duplex, Paced, Patience};
use super::tls::Tls;
use crate::daemon::{Activity, Draining};

/// The most TCP connections at once, over all addresses. Bazel opens up to a hundred for a
/// build over HTTP, and each costs us a descriptor and some tens of kilobytes.
pub const CONNECTIONS_MAX: usize = 1_000;

/// The most connections on the Unix socket. They are this user's own, but a program in a
/// loop must not take the descriptors that the store needs.
pub const UNIX_CONNECTIONS_MAX: usize = 1_000;

/// How long a TLS handshake may take.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long accepting rests after the system could not accept: at first, and at most.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// How often the same complaint is logged, at most.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(10);

/// The limits of a run, which tests make small.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// TCP connections at once.
    pub connections: usize,
    /// Connections on the Unix socket at once.
    pub unix_connections: usize,
    /// For a TLS handshake.
    pub handshake: Duration,
    /// For the first bytes, and for writes.
    pub patience: Patience,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections: CONNECTIONS_MAX,
            unix_connections: UNIX_CONNECTIONS_MAX,
            handshake: HANDSHAKE_TIMEOUT,
            patience: Patience::default(),
        }
    }
}

/// What every connection needs.
pub struct Reception<D> {
    /// What serves them.
    pub door: D,
    /// What counts them, for `/metrics`.
    pub metrics: Arc<ServeMetrics>,
    /// What counts them, for the daemon's life.
    pub activity: Arc<Activity>,
    /// When to stop.
    pub draining: Draining,
    /// How many, and for how long.
    pub limits: Limits,
    /// Where.
    pub lanes: Lanes,
}

impl<D: Door> Reception<D> {
    /// Accepts on all of these until draining begins; returns when the last connection is
    /// closed.
    pub async fn run(self, tcp: Vec<Bound>, unix: Option<UnixListener>) {
        let this = Arc::new(self);
        let slots = Arc::new(Semaphore::new(this.limits.connections));
        let mut loops = JoinSet::new();
        for bound in tcp {
            loops.spawn(accept_all(Arc::clone(&this), bound, Arc::clone(&slots)));
        }
        if let Some(unix) = unix {
            let slots = Arc::new(Semaphore::new(this.limits.unix_connections));
            let rules = Arc::new(Rules::this_user());
            loops.spawn(accept_all(Arc::clone(&this), OwnSocket { socket: unix, rules }, slots));
        }
        while loops.join_next().await.is_some() {}
    }

    /// Hands a stream to the door.
    async fn serve(&self, stream: Box<dyn Duplex>, peer: Peer) {
        let stream = Paced::new(stream, self.limits.patience);
        self.door.serve(stream, peer, self.draining.clone()).await;
    }
}

/// A listener of either kind.
trait Entrance: Send + Sync + 'static {
    /// A stream that is no runtime's yet: where it is served is where it is waited for.
    type Raw: Send + 'static;

    /// The next connection, and what its other end is called.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Raw, String)>> + Send;

    /// What to do with it, once there is a place for it.
    fn welcome<D: Door>(
        &self,
        reception: Arc<Reception<D>>,
        raw: Self::Raw,
        name: String,
    ) -> impl Future<Output = ()> + Send + 'static;
}

impl Entrance for Bound {
    type Raw = StdTcpStream;

    async fn accept(&self) -> io::Result<(StdTcpStream, String)> {
        let (stream, address) = TcpListener::accept(&self.socket).await?;
        // Answers are small and awaited; collecting them for 40 ms helps nobody.
        stream.set_nodelay(true)?;
        Ok((stream.into_std()?, address.to_string()))
    }

    fn welcome<D: Door>(
        &self,
        reception: Arc<Reception<D>>,
        raw: StdTcpStream,
        name: String,
    ) -> impl Future<Output = ()> + Send + 'static {
        let (rules, tls) = (Arc::clone(&self.rules), self.tls.clone());
        async move {
            let Some(raw) = at_home(TcpStream::from_std(raw)) else { return };
            let peer = Peer { name: Arc::from(name), certificate: None, rules };
            match tls {
                None => reception.serve(Box::new(raw), peer).await,
                Some(tls) => serve_tls(&reception, &tls, raw, peer).await,
            }
        }
    }
}

/// The Unix socket, which the driver bound for this user.
struct OwnSocket {
    socket: UnixListener,
    rules: Arc<Rules>,
}

impl Entrance for OwnSocket {
    type Raw = StdUnixStream;

    async fn accept(&self) -> io::Result<(StdUnixStream, String)> {
        let (stream, _) = self.socket.accept().await?;
        Ok((stream.into_std()?, "unix".to_owned()))
    }

    fn welcome<D: Door>(
        &self,
        reception: Arc<Reception<D>>,
        raw: StdUnixStream,
        _name: String,
    ) -> impl Future<Output = ()> + Send + 'static {
        let rules = Arc::clone(&self.rules);
        async move {
            let Some(raw) = at_home(UnixStream::from_std(raw)) else { return };
            // The directory is private already; this holds where it was opened by mistake.
            let own = nix::unistd::geteuid().as_raw();
            match raw.peer_cred() {
                Ok(peer) if peer.uid() == own => {
                    reception.serve(Box::new(Tamed::new(raw)), Peer::this_user(rules)).await;
                }
                Ok(peer) => tracing::warn!(uid = peer.uid(), "another user on the socket was refused"),
                Err(error) => tracing::warn!(%error, "failed to tell who is on the socket"),
            }
        }
    }
}

/// The stream, now that the runtime that serves it knows it.
fn at_home<S>(stream: io::Result<S>) -> Option<S> {
    stream.inspect_err(|error| tracing::warn!(%error, "failed to wait for what a connection says")).ok()
}

/// Shakes hands and notes whose certificate was verified.
async fn serve_tls<D: Door>(reception: &Reception<D>, tls: &Tls, raw: TcpStream, mut peer: Peer) {
    let handshake = TlsAcceptor::from(tls.config()).accept(raw);
    let stream = match tokio::time::timeout(reception.limits.handshake, handshake).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            reception.metrics.connection_turned(Turned::Handshake);
            tracing::debug!(peer = %peer.name, %error, "a TLS handshake failed");
            return;
        }
        Err(_) => {
            reception.metrics.connection_turned(Turned::Handshake);
            tracing::debug!(peer = %peer.name, "a TLS handshake took longer than `HANDSHAKE_TIMEOUT`");
            return;
        }
    };
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    peer.certificate = certificate.map(|certificate| DigestFunction::Sha256.hash(certificate));
    tracing::debug!(peer = %peer.name, certificate = ?peer.certificate, "a TLS connection is open");
    reception.serve(Box::new(stream), peer).await;
}

/// One listener's loop.
async fn accept_all<D: Door, E: Entrance>(reception: Arc<Reception<D>>, entrance: E, slots: Arc<Semaphore>) {
    let mut draining = reception.draining.clone();
    let mut connections = JoinSet::new();
    let mut complaints = Complaints::default();
    let mut back_off = BACK_OFF.0;
    loop {
        let accepted = tokio::select! {
            () = draining.begun() => break,
            // Ended tasks are collected, lest the set grow with every connection ever had.
            Some(_) = connections.join_next() => continue,
            accepted = entrance.accept() => accepted,
        };
        match accepted {
            Ok((raw, name)) => {
                back_off = BACK_OFF.0;
                match Arc::clone(&slots).try_acquire_owned() {
                    Ok(slot) => {
                        let welcome = entrance.welcome(Arc::clone(&reception), raw, name);
                        let place = reception.lanes.place();
                        let handle = place.handle.clone();
                        let connection = counted(Arc::clone(&reception), (slot, place), welcome);
                        connections.spawn_on(connection, &handle);
                    }
                    Err(_) => turn_away(&reception, &mut complaints, &name),
                }
            }
            Err(error) if is_one_connections_fault(&error) => {}
            Err(error) => {
                complaints.log(|| tracing::warn!(%error, "failed to accept connections, resting"));
                tokio::time::sleep(back_off).await;
                back_off = (back_off * 2).min(BACK_OFF.1);
            }
        }
    }
    drop(entrance);
    while connections.join_next().await.is_some() {}
}

/// A stranger learns at once that there is no place, instead of waiting in the dark.
fn turn_away<D>(reception: &Reception<D>, complaints: &mut Complaints, name: &str) {
    reception.metrics.connection_turned(Turned::Limit);
    complaints.log(|| tracing::warn!(peer = name, "a connection was closed: `CONNECTIONS_MAX` are open"));
}

async fn counted<D: Door>(
    reception: Arc<Reception<D>>,
    held: (OwnedSemaphorePermit, Place),
    connection: impl Future<Output = ()>,
) {
    struct Open<'a>(&'a ServeMetrics);
    impl Drop for Open<'_> {
        fn drop(&mut self) {
            self.0.connection_closed();
        }
    }
    reception.metrics.connection_opened();
    let open = (Open(&reception.metrics), reception.activity.connection(), held);
    connection.await;
    drop(open);
}

/// Whether only the connection that was to be accepted is lost, and the next may be fine.
fn is_one_connections_fault(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, InvalidInput, NotConnected};
    // Setting an option on a socket that was reset meanwhile is EINVAL on some systems.
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted | InvalidInput | NotConnected)
        || error.raw_os_error() == Some(libc::EPROTO)
}

/// Says the same thing only now and then.
#[derive(Default)]
struct Complaints {
    last: Option<Instant>,
}

impl Complaints {
    fn log(&mut self, say: impl FnOnce()) {
        if self.last.is_none_or(|last| last.elapsed() >= COMPLAINT_INTERVAL) {
            self.last = Some(Instant::now());
            say();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::super::listen::Stream;
    use super::*;
    use crate::daemon::Drain;

    /// Counts whom it served, and serves them at once.
    #[derive(Clone, Default)]
    struct CountingDoor(Arc<AtomicUsize>);

    impl Door for CountingDoor {
        async fn serve(&self, _: Stream, _: Peer, _: Draining) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Fails as it was told, and then accepts one connection.
    struct Failing {
        errors: Mutex<VecDeque<i32>>,
        asked: Arc<AtomicUsize>,
    }

    impl Entrance for Failing {
        type Raw = ();

        async fn accept(&self) -> io::Result<((), String)> {
            let asked = self.asked.fetch_add(1, Ordering::Relaxed);
            let error = self.errors.lock().expect("no test panics here").pop_front();
            match error {
                Some(error) => Err(io::Error::from_raw_os_error(error)),
                None if asked < 100 => {
                    self.asked.store(100, Ordering::Relaxed);
                    Ok(((), "somebody".to_owned()))
                }
                None => std::future::pending().await,
            }
        }

        fn welcome<D: Door>(
            &self,
            reception: Arc<Reception<D>>,
            (): (),
            _: String,
        ) -> impl Future<Output = ()> + Send + 'static {
            let peer = Peer::this_user(Arc::new(Rules::this_user()));
            async move { reception.serve(Box::new(tokio::io::empty()), peer).await }
        }
    }

    async fn accept_after(errors: &[i32]) -> (usize, Duration) {
        let (door, drain) = (CountingDoor::default(), Drain::default());
        let served = Arc::clone(&door.0);
        let reception = Reception {
            door,
            metrics: Arc::default(),
            activity: Arc::default(),
            draining: drain.subscribe(),
            limits: Limits::default(),
            lanes: Lanes::default(),
        };
        let entrance =
            Failing { errors: Mutex::new(errors.iter().copied().collect()), asked: Arc::default() };
        let begun = Instant::now();
        let running = tokio::spawn(accept_all(Arc::new(reception), entrance, Arc::new(Semaphore::new(1))));
        while served.load(Ordering::Relaxed) == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let took = begun.elapsed();
        drain.begin();
        running.await.expect("the loop ends when draining begins");
        (served.load(Ordering::Relaxed), took)
    }

    #[tokio::test]
    async fn without_descriptors_accepting_rests_and_goes_on() {
        let (served, took) = accept_after(&[libc::EMFILE; 4]).await;
        assert_eq!(served, 1);
        assert!(took >= BACK_OFF.0 * (1 + 2 + 4 + 8), "it rested for {took:?} only");
    }

    #[tokio::test]
    async fn a_connection_that_was_reset_delays_nobody() {
        let (served, took) = accept_after(&[libc::ECONNABORTED; 50]).await;
        assert_eq!(served, 1);
        assert!(took < Duration::from_secs(5), "with rests it would be half a minute: {took:?}");
    }
}
