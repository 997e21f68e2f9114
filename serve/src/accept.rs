//! Accepts connections up to a limit, and runs each to its end.
//!
//! It limits how many connections are open, how long a TLS handshake takes, and how often
//! accepting is tried while the process has no file descriptor left. It knows no protocol:
//! a [`ConnectionHandler`] serves what was accepted.

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

use super::admission::{ListenerRules, Peer};
use super::authority::AuthorityStream;
use super::connection_threads::{ConnectionThreads, ThreadSlot};
use super::listen::{Bound, ConnectionHandler};
use super::metrics::{ConnectionRejection, ServeMetrics};
use super::stream::{DeadlineStream, Duplex, StreamDeadlines};
use super::tls::Tls;
use crate::program::{ActivityCounter, DrainSignal, OpenConnection};

/// The most TCP connections at once, over all addresses. Bazel opens up to a hundred for a
/// build over HTTP, and each costs us a descriptor and some tens of kilobytes.
pub const CONNECTIONS_MAX: usize = 1_000;

/// The most connections on the Unix socket. They are this user's own, but a program in a
/// loop must not take the descriptors that the store needs.
pub const UNIX_CONNECTIONS_MAX: usize = 1_000;

/// How long a TLS handshake may take.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long accepting pauses after the system failed to accept: the first time, and at most.
/// The pause doubles with each failure in a row.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// The shortest time between two log lines of one [`LogThrottle`].
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// The limits that hold for connections; tests use smaller ones.
#[derive(Clone, Copy, Debug)]
pub struct AcceptLimits {
    /// The most TCP connections that are open at once, over all addresses.
    pub connections: usize,
    /// The most connections that are open at once on the Unix socket.
    pub unix_connections: usize,
    /// The longest time that a TLS handshake may take.
    pub handshake: Duration,
    /// The deadlines for the first bytes and for writes.
    pub deadlines: StreamDeadlines,
}

impl Default for AcceptLimits {
    fn default() -> Self {
        AcceptLimits {
            connections: CONNECTIONS_MAX,
            unix_connections: UNIX_CONNECTIONS_MAX,
            handshake: HANDSHAKE_TIMEOUT,
            deadlines: StreamDeadlines::default(),
        }
    }
}

/// Accepts connections and holds what each of them needs.
pub struct Acceptor<D> {
    /// Serves each accepted connection.
    pub handler: D,
    /// Counts connections for `/metrics`.
    pub metrics: Arc<ServeMetrics>,
    /// Counts connections for the daemon, which stays as long as one is open.
    pub activity: Arc<dyn ActivityCounter>,
    /// Tells when to stop accepting.
    pub draining: DrainSignal,
    /// The limits for connections.
    pub limits: AcceptLimits,
    /// The threads on which connections are served.
    pub threads: ConnectionThreads,
}

impl<D: ConnectionHandler> Acceptor<D> {
    /// Accepts on all these listeners until draining begins, and returns when the last
    /// connection is closed.
    pub async fn run(self, tcp: Vec<Bound>, unix: Option<UnixListener>) {
        let this = Arc::new(self);
        // All TCP listeners share these slots. The Unix socket has its own, so that clients on the network cannot
        // lock this user out.
        let slots = Arc::new(Semaphore::new(this.limits.connections));
        let mut loops = JoinSet::new();
        for bound in tcp {
            loops.spawn(accept_all(Arc::clone(&this), bound, Arc::clone(&slots)));
        }
        if let Some(unix) = unix {
            let slots = Arc::new(Semaphore::new(this.limits.unix_connections));
            let rules = Arc::new(ListenerRules::this_user());
            loops.spawn(accept_all(Arc::clone(&this), PrivateUnixSocket { socket: unix, rules }, slots));
        }
        while loops.join_next().await.is_some() {}
    }

    /// Serves a stream, within its deadlines, until it is closed.
    async fn serve(&self, stream: Box<dyn Duplex>, peer: Peer) {
        let stream = DeadlineStream::new(stream, self.limits.deadlines);
        self.handler.serve(stream, peer, self.draining.clone()).await;
    }
}

/// A TCP or Unix listener.
trait Listener: Send + Sync + 'static {
    /// An accepted stream that is not registered with a runtime yet. It is registered on the
    /// thread that serves it, because a runtime only polls the sockets of its own.
    type Raw: Send + 'static;

    /// Waits for the next connection, and returns it with the name of its peer for the log.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Raw, String)>> + Send;

    /// Serves an accepted stream until it is closed. The future runs on the thread that the
    /// connection was assigned to.
    fn serve_accepted<D: ConnectionHandler>(
        &self,
        acceptor: Arc<Acceptor<D>>,
        raw: Self::Raw,
        name: String,
    ) -> impl Future<Output = ()> + Send + 'static;
}

impl Listener for Bound {
    type Raw = StdTcpStream;

    async fn accept(&self) -> io::Result<(StdTcpStream, String)> {
        let (stream, address) = TcpListener::accept(&self.socket).await?;
        // Responses are small and the client waits for each of them: Nagle's algorithm would
        // only delay them by up to 40 ms.
        stream.set_nodelay(true)?;
        Ok((stream.into_std()?, address.to_string()))
    }

    fn serve_accepted<D: ConnectionHandler>(
        &self,
        acceptor: Arc<Acceptor<D>>,
        raw: StdTcpStream,
        name: String,
    ) -> impl Future<Output = ()> + Send + 'static {
        let (rules, tls) = (Arc::clone(&self.rules), self.tls.clone());
        async move {
            let Some(raw) = registered(TcpStream::from_std(raw)) else { return };
            let peer = Peer { name: Arc::from(name), certificate: None, rules };
            match tls {
                None => acceptor.serve(Box::new(raw), peer).await,
                Some(tls) => serve_tls(&acceptor, &tls, raw, peer).await,
            }
        }
    }
}

/// The Unix socket, which the daemon bound for this user only.
struct PrivateUnixSocket {
    socket: UnixListener,
    rules: Arc<ListenerRules>,
}

impl Listener for PrivateUnixSocket {
    type Raw = StdUnixStream;

    async fn accept(&self) -> io::Result<(StdUnixStream, String)> {
        let (stream, _) = self.socket.accept().await?;
        Ok((stream.into_std()?, "unix".to_owned()))
    }

    fn serve_accepted<D: ConnectionHandler>(
        &self,
        acceptor: Arc<Acceptor<D>>,
        raw: StdUnixStream,
        _name: String,
    ) -> impl Future<Output = ()> + Send + 'static {
        let rules = Arc::clone(&self.rules);
        async move {
            let Some(raw) = registered(UnixStream::from_std(raw)) else { return };
            // The directory of the socket is private already. This check also holds where
            // another process changed the mode of the directory.
            let own = nix::unistd::geteuid().as_raw();
            match raw.peer_cred() {
                Ok(peer) if peer.uid() == own => {
                    acceptor.serve(Box::new(AuthorityStream::new(raw)), Peer::this_user(rules)).await;
                }
                Ok(peer) => tracing::warn!(uid = peer.uid(), "another user on the socket was refused"),
                Err(error) => tracing::warn!(%error, "failed to tell who is on the socket"),
            }
        }
    }
}

/// Passes on a stream that was registered with the current runtime; logs a failure to
/// register it and returns `None`.
fn registered<S>(stream: io::Result<S>) -> Option<S> {
    stream
        .inspect_err(|error| tracing::warn!(%error, "failed to register a connection with the runtime"))
        .ok()
}

/// Does the TLS handshake, notes the verified client certificate, and serves the connection.
async fn serve_tls<D: ConnectionHandler>(acceptor: &Acceptor<D>, tls: &Tls, raw: TcpStream, mut peer: Peer) {
    let handshake = TlsAcceptor::from(tls.config()).accept(raw);
    let stream = match tokio::time::timeout(acceptor.limits.handshake, handshake).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            acceptor.metrics.connection_rejected(ConnectionRejection::Handshake);
            tracing::debug!(peer = %peer.name, %error, "a TLS handshake failed");
            return;
        }
        Err(_) => {
            acceptor.metrics.connection_rejected(ConnectionRejection::Handshake);
            tracing::debug!(peer = %peer.name, "a TLS handshake took longer than `HANDSHAKE_TIMEOUT`");
            return;
        }
    };
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    peer.certificate = certificate.map(|certificate| DigestFunction::Sha256.hash(certificate));
    tracing::debug!(peer = %peer.name, certificate = ?peer.certificate, "a TLS connection is open");
    acceptor.serve(Box::new(stream), peer).await;
}

/// Accepts on one listener until draining begins, and returns when the last of its connections
/// is closed.
async fn accept_all<D: ConnectionHandler, E: Listener>(
    acceptor: Arc<Acceptor<D>>,
    listener: E,
    slots: Arc<Semaphore>,
) {
    let mut draining = acceptor.draining.clone();
    let mut connections = JoinSet::new();
    let mut throttle = LogThrottle::default();
    let mut back_off = BACK_OFF.0;
    loop {
        let accepted = tokio::select! {
            () = draining.begun() => break,
            // Ended tasks are removed, or the set would grow with each connection.
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((raw, name)) => {
                back_off = BACK_OFF.0;
                match Arc::clone(&slots).try_acquire_owned() {
                    Ok(slot) => {
                        let serve_accepted = listener.serve_accepted(Arc::clone(&acceptor), raw, name);
                        let thread = acceptor.threads.assign();
                        let handle = thread.handle.clone();
                        let connection = counted(Arc::clone(&acceptor), (slot, thread), serve_accepted);
                        connections.spawn_on(connection, &handle);
                    }
                    Err(_) => reject(&acceptor, &mut throttle, &name),
                }
            }
            Err(error) if is_one_connections_fault(&error) => {}
            Err(error) => {
                throttle.log(|| tracing::warn!(%error, "failed to accept connections, trying again later"));
                tokio::time::sleep(back_off).await;
                back_off = (back_off * 2).min(BACK_OFF.1);
            }
        }
    }
    // The address is free again before the last connection has ended, so that the next daemon can listen.
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Closes a connection for which there is no slot. Closing it at once tells the client to go
/// on without a cache; leaving it in the queue of the listener would make its build wait.
fn reject<D>(acceptor: &Acceptor<D>, throttle: &mut LogThrottle, name: &str) {
    acceptor.metrics.connection_rejected(ConnectionRejection::Limit);
    throttle.log(|| tracing::warn!(peer = name, "a connection was closed: `CONNECTIONS_MAX` are open"));
}

/// Runs a connection and counts it as open meanwhile, in the metrics and for the daemon.
/// `held` is given back at the end.
async fn counted<D: ConnectionHandler>(
    acceptor: Arc<Acceptor<D>>,
    held: (OwnedSemaphorePermit, ThreadSlot),
    connection: impl Future<Output = ()>,
) {
    struct Open<'a>(&'a ServeMetrics);
    impl Drop for Open<'_> {
        fn drop(&mut self) {
            self.0.connection_closed();
        }
    }
    acceptor.metrics.connection_opened();
    let open = (Open(&acceptor.metrics), OpenConnection::count(&acceptor.activity), held);
    connection.await;
    drop(open);
}

/// Whether an error of `accept` concerns the one connection only, so that the next may be
/// accepted at once.
fn is_one_connections_fault(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, InvalidInput, NotConnected};
    // Setting an option of a socket that was reset meanwhile returns EINVAL on some systems.
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted | InvalidInput | NotConnected)
        || error.raw_os_error() == Some(libc::EPROTO)
}

/// Logs at most once in `LOG_INTERVAL`.
#[derive(Default)]
struct LogThrottle {
    last: Option<Instant>,
}

impl LogThrottle {
    fn log(&mut self, say: impl FnOnce()) {
        if self.last.is_none_or(|last| last.elapsed() >= LOG_INTERVAL) {
            self.last = Some(Instant::now());
            say();
        }
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;
    use std::collections::VecDeque;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::listen::Stream;
    use crate::tests::program::{CountedActivity, DrainSwitch};

    /// Counts connections and closes them at once.
    #[derive(Clone, Default)]
    struct CountingHandler(Arc<AtomicUsize>);

    impl ConnectionHandler for CountingHandler {
        async fn serve(&self, _: Stream, _: Peer, _: DrainSignal) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Fails with the given errors, and then accepts one connection.
    struct Failing {
        errors: Mutex<VecDeque<i32>>,
        calls: Arc<AtomicUsize>,
    }

    impl Listener for Failing {
        type Raw = ();

        async fn accept(&self) -> io::Result<((), String)> {
            let call = self.calls.fetch_add(1, Ordering::Relaxed);
            let error = self.errors.lock().pop_front();
            match error {
                Some(error) => Err(io::Error::from_raw_os_error(error)),
                None if call < 100 => {
                    self.calls.store(100, Ordering::Relaxed);
                    Ok(((), "test".to_owned()))
                }
                None => std::future::pending().await,
            }
        }

        fn serve_accepted<D: ConnectionHandler>(
            &self,
            acceptor: Arc<Acceptor<D>>,
            (): (),
            _: String,
        ) -> impl Future<Output = ()> + Send + 'static {
            let peer = Peer::this_user(Arc::new(ListenerRules::this_user()));
            async move { acceptor.serve(Box::new(tokio::io::empty()), peer).await }
        }
    }

    async fn accept_after(errors: &[i32]) -> (usize, Duration) {
        let (handler, drain) = (CountingHandler::default(), DrainSwitch::default());
        let served = Arc::clone(&handler.0);
        let acceptor = Acceptor {
            handler,
            metrics: Arc::default(),
            activity: Arc::new(CountedActivity::default()),
            draining: drain.subscribe(),
            limits: AcceptLimits::default(),
            threads: ConnectionThreads::default(),
        };
        let listener =
            Failing { errors: Mutex::new(errors.iter().copied().collect()), calls: Arc::default() };
        let begun = Instant::now();
        let running = tokio::spawn(accept_all(Arc::new(acceptor), listener, Arc::new(Semaphore::new(1))));
        while served.load(Ordering::Relaxed) == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let took = begun.elapsed();
        drain.begin();
        running.await.expect("the loop ends when draining begins");
        (served.load(Ordering::Relaxed), took)
    }

    #[tokio::test]
    async fn accepting_pauses_without_descriptors_and_goes_on() {
        let (served, took) = accept_after(&[libc::EMFILE; 4]).await;
        assert_eq!(served, 1);
        assert!(took >= BACK_OFF.0 * (1 + 2 + 4 + 8), "it paused for {took:?} only");
    }

    #[tokio::test]
    async fn a_connection_that_was_reset_does_not_delay_the_next() {
        let (served, took) = accept_after(&[libc::ECONNABORTED; 50]).await;
        assert_eq!(served, 1);
        assert!(took < Duration::from_secs(5), "with pauses it would take half a minute: {took:?}");
    }
}
