//! A server on a real socket, and a client that can misbehave, for tests.
//!
//! The client writes and reads bytes as they are; no library corrects what a test sends.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kache_cas::{DigestFunction, Store, StoreSettings};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixListener};
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint};

use super::program::{CountedActivity, DrainSwitch};
use crate::accept::{self, Acceptor};
use crate::connection_threads::ConnectionThreads;
use crate::context::{Backend, ServerState};
use crate::limits::ServeLimits;
use crate::listen;
use crate::metrics::ServeMetrics;
use crate::options::ListenOptions;
use crate::program::ActivityCounter;
use crate::protocol_router::ProtocolRouter;

/// How to start a server.
pub(super) struct ServerSetup {
    pub(super) settings: ListenOptions,
    pub(super) limits: ServeLimits,
    pub(super) accept: accept::AcceptLimits,
    pub(super) store: Arc<dyn Backend>,
    pub(super) unix: Option<UnixListener>,
    pub(super) threads: ConnectionThreads,
}

impl Default for ServerSetup {
    fn default() -> Self {
        ServerSetup {
            settings: ListenOptions { listen: "127.0.0.1:0".parse().ok(), ..ListenOptions::default() },
            limits: ServeLimits::default(),
            accept: accept::AcceptLimits::default(),
            store: Arc::new(Store::in_memory(StoreSettings::new("/nonexistent"))),
            unix: None,
            // On the thread of the test: a request that a client has seen the response of is then
            // counted already.
            threads: ConnectionThreads::at_most(0),
        }
    }
}

/// A running server.
pub(super) struct SocketServer {
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) metrics: Arc<ServeMetrics>,
    pub(super) drain: DrainSwitch,
    pub(super) running: JoinHandle<()>,
}

impl ServerSetup {
    pub(super) async fn start(self) -> SocketServer {
        let bound = listen::bind(&self.settings).await.unwrap();
        let addresses = bound.iter().map(|bound| bound.socket.local_addr().unwrap()).collect();
        let activity: Arc<dyn ActivityCounter> = Arc::new(CountedActivity::default());
        let shared = ServerState::new(self.store, self.limits, Arc::clone(&activity));
        let metrics = Arc::clone(&shared.metrics);
        let drain = DrainSwitch::default();
        let acceptor = Acceptor {
            handler: ProtocolRouter::new(shared),
            metrics: Arc::clone(&metrics),
            activity,
            draining: drain.subscribe(),
            limits: self.accept,
            threads: self.threads,
        };
        let running = tokio::spawn(acceptor.run(bound, self.unix));
        SocketServer { addresses, metrics, drain, running }
    }
}

impl SocketServer {
    pub(super) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.addresses[0]).await.unwrap()
    }

    /// A connection for generated gRPC clients.
    pub(super) async fn channel(&self) -> Channel {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.addresses[0])).unwrap();
        endpoint.connect().await.unwrap()
    }

    /// Sends one request on a connection of its own and returns the response.
    pub(super) async fn ask(&self, head: &str, body: &[u8]) -> RawResponse {
        let mut stream = self.connect().await;
        exchange(&mut stream, &self.head(head, body.len()), body).await
    }

    /// Makes a whole head of `GET /x` and lines of headers. Adds `Host` and, for a PUT,
    /// `Content-Length`.
    pub(super) fn head(&self, lines: &str, body_len: usize) -> String {
        let mut lines = lines.lines();
        let first = lines.next().unwrap();
        let rest: String = lines.map(|line| format!("{}\r\n", line.trim())).collect();
        let host = if rest.to_lowercase().contains("host:") {
            String::new()
        } else {
            format!("Host: {}\r\n", self.addresses[0])
        };
        let length = if rest.to_lowercase().contains("content-length") || !first.starts_with("PUT") {
            String::new()
        } else {
            format!("Content-Length: {body_len}\r\n")
        };
        format!("{first} HTTP/1.1\r\n{host}{length}{rest}Connection: close\r\n\r\n")
    }

    pub(super) async fn put(&self, path: &str, body: &[u8]) -> RawResponse {
        self.ask(&format!("PUT {path}"), body).await
    }

    pub(super) async fn get(&self, path: &str) -> RawResponse {
        self.ask(&format!("GET {path}"), b"").await
    }
}

/// The response as it came.
#[derive(Debug)]
pub(super) struct RawResponse {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

impl RawResponse {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }

    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// Asserts that this is an error with this status and a short text that contains `words`.
    pub(super) fn refuses(&self, status: u16, words: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert!(self.text().contains(words), "{words} is not in {:?}", self.text());
        assert!(
            self.body.len() < 10 * 1024 && self.header("content-type").unwrap().starts_with("text/plain")
        );
    }
}

/// Sends a whole request, and reads until the server closes the connection.
pub(super) async fn exchange<S>(stream: &mut S, head: &str, body: &[u8]) -> RawResponse
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stream.write_all(head.as_bytes()).await.unwrap();
    // A server that refuses a body may close the connection before all of it was sent.
    let _ = stream.write_all(body).await;
    read_response(stream).await.expect("an answer")
}

/// Reads until the server closes the connection; `None` if nothing came.
pub(super) async fn read_response<S: AsyncRead + Unpin>(stream: &mut S) -> Option<RawResponse> {
    let mut bytes = Vec::new();
    let reading = stream.read_to_end(&mut bytes);
    // A reset after the response is fine.
    let _ = tokio::time::timeout(Duration::from_secs(20), reading).await.expect("the connection ends");
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1)?.parse().unwrap();
    let answer = RawResponse { status, head, body: bytes[end..].to_vec() };
    let is_chunked = answer.header("transfer-encoding") == Some("chunked");
    Some(if is_chunked { RawResponse { body: unchunk(&answer.body), ..answer } } else { answer })
}

fn unchunk(mut bytes: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    loop {
        let line = bytes.windows(2).position(|window| window == b"\r\n").expect("a chunk's length");
        let len = usize::from_str_radix(std::str::from_utf8(&bytes[..line]).unwrap(), 16).unwrap();
        if len == 0 {
            return whole;
        }
        whole.extend_from_slice(&bytes[line + 2..line + 2 + len]);
        bytes = &bytes[line + 2 + len + 2..];
    }
}

/// The SHA-256 of these bytes, as a path names it.
pub(super) fn sha256(bytes: &[u8]) -> String {
    DigestFunction::Sha256.hash(bytes).to_hex()
}

/// Bytes that do not compress.
pub(super) fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1du64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..len).map(|_| next()).collect()
}
