//! A server of HTTP/1.1 that answers with any bytes, for tests.
//!
//! It reads whole requests and calls a function for each. No library corrects what a test sends.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A request as it was received.
#[derive(Clone, Debug, Default)]
pub(super) struct RawRequest {
    pub(super) method: String,
    pub(super) path: String,
    /// The names in lower case, with the values.
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl RawRequest {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// What the server does with a request.
pub(super) enum Reply {
    /// It sends these bytes and reads the next request.
    Bytes(Vec<u8>),
    /// It sends these bytes and closes the connection.
    BytesAndClose(Vec<u8>),
    /// It sends these bytes and nothing more.
    BytesAndHang(Vec<u8>),
    /// It sends these bytes at once, and then a byte in each of these intervals, for ever.
    BytesAndTrickle(Vec<u8>, Duration),
}

/// Makes a response with the length of its body.
pub(super) fn reply(status: u16, headers: &str, body: &[u8]) -> Reply {
    let mut bytes = format!("HTTP/1.1 {status} Reason\r\nContent-Length: {}\r\n", body.len());
    headers.lines().for_each(|line| bytes.push_str(&format!("{line}\r\n")));
    bytes.push_str("\r\n");
    Reply::Bytes([bytes.as_bytes(), body].concat())
}

/// A response to HEAD, or with status 204, which has no body.
pub(super) fn bare_reply(status: u16) -> Reply {
    let length = if status == 204 { "" } else { "Content-Length: 0\r\n" };
    Reply::Bytes(format!("HTTP/1.1 {status} Reason\r\n{length}\r\n").into_bytes())
}

type Handler = dyn Fn(&RawRequest) -> Reply + Send + Sync;

/// A server that runs in this process.
pub(super) struct RawServer {
    pub(super) port: u16,
    requests: Arc<Mutex<Vec<RawRequest>>>,
    running: JoinHandle<()>,
}

impl Drop for RawServer {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl RawServer {
    /// Starts a server that answers each request by this function.
    pub(super) async fn start(handler: impl Fn(&RawRequest) -> Reply + Send + Sync + 'static) -> RawServer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let handler: Arc<Handler> = Arc::new(handler);
        let seen = Arc::clone(&requests);
        let running = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(answer(stream, Arc::clone(&handler), Arc::clone(&seen)));
            }
        });
        RawServer { port, requests, running }
    }

    /// Returns the requests since the last call.
    pub(super) fn take_requests(&self) -> Vec<RawRequest> {
        std::mem::take(&mut *self.requests.lock())
    }

    /// Returns the requests since the last call as `METHOD path`.
    pub(super) fn take_lines(&self) -> Vec<String> {
        self.take_requests().iter().map(|request| format!("{} {}", request.method, request.path)).collect()
    }
}

async fn answer(mut stream: TcpStream, handler: Arc<Handler>, seen: Arc<Mutex<Vec<RawRequest>>>) {
    let mut buffer = Vec::new();
    while let Some(request) = read_request(&mut stream, &mut buffer).await {
        let reply = handler(&request);
        seen.lock().push(request);
        match reply {
            Reply::Bytes(bytes) => stream.write_all(&bytes).await.unwrap(),
            Reply::BytesAndClose(bytes) => return stream.write_all(&bytes).await.unwrap(),
            Reply::BytesAndHang(bytes) => {
                stream.write_all(&bytes).await.unwrap();
                tokio::time::sleep(Duration::from_secs(60)).await;
            }
            Reply::BytesAndTrickle(bytes, interval) => {
                stream.write_all(&bytes).await.unwrap();
                while stream.write_all(b"x").await.is_ok() {
                    tokio::time::sleep(interval).await;
                }
            }
        }
    }
}

async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<RawRequest> {
    let head_len = loop {
        if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(buffer.drain(..head_len).collect()).unwrap();
    let mut request = parse_head(&head);
    let len: usize = request.header("content-length").map_or(0, |len| len.parse().unwrap());
    while buffer.len() < len {
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
    request.body = buffer.drain(..len).collect();
    Some(request)
}

fn parse_head(head: &str) -> RawRequest {
    let mut lines = head.trim_end().split("\r\n");
    let mut first = lines.next().unwrap().split(' ');
    let (method, path) = (first.next().unwrap().to_owned(), first.next().unwrap().to_owned());
    let header = |line: &str| {
        let (name, value) = line.split_once(": ").unwrap();
        (name.to_ascii_lowercase(), value.to_owned())
    };
    RawRequest { method, path, headers: lines.map(header).collect(), body: Vec::new() }
}
