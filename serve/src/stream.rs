//! A byte stream with deadlines for a client that sends or reads nothing.
//!
//! The first bytes must come soon after the connection, and written bytes must be read. Between
//! these a connection may be idle; `protocol_router` limits for how long. It knows no protocol
//! and no TLS.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// How long a client may take to send its first bytes, which tell HTTP/1.1 from HTTP/2.
pub const FIRST_BYTES_TIMEOUT: Duration = Duration::from_secs(10);

/// The number of these bytes: the length of the HTTP/2 preface.
const FIRST_BYTES: usize = 24;

/// How long a client may read nothing while there are bytes to send.
pub const WRITE_STALL_TIMEOUT: Duration = Duration::from_secs(60);

/// A stream in both directions.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Duplex for S {}

/// The deadlines of a stream.
#[derive(Clone, Copy, Debug)]
pub struct StreamDeadlines {
    /// The longest time until the first bytes have come.
    pub first_bytes: Duration,
    /// The longest time that a write may make no progress.
    pub write_stall: Duration,
}

impl Default for StreamDeadlines {
    fn default() -> Self {
        StreamDeadlines { first_bytes: FIRST_BYTES_TIMEOUT, write_stall: WRITE_STALL_TIMEOUT }
    }
}

/// A stream with deadlines.
pub struct DeadlineStream<S> {
    stream: S,
    /// How many of the first bytes are still to come. The deadline holds until it is 0.
    first_bytes_left: usize,
    first_bytes: Pin<Box<Sleep>>,
    write_stall: Duration,
    stalled: Pin<Box<Sleep>>,
    is_stalled: bool,
}

impl<S> DeadlineStream<S> {
    /// Wraps a stream. The deadline for the first bytes begins now.
    pub fn new(stream: S, deadlines: StreamDeadlines) -> Self {
        let deadline = Instant::now() + deadlines.first_bytes;
        DeadlineStream {
            stream,
            first_bytes_left: FIRST_BYTES,
            first_bytes: Box::pin(sleep_until(deadline)),
            write_stall: deadlines.write_stall,
            stalled: Box::pin(sleep_until(deadline)),
            is_stalled: false,
        }
    }

    /// Passes on the outcome of a write, or an error if no write made progress for too long.
    fn watch<T>(&mut self, context: &mut Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.is_stalled = false;
            return outcome;
        }
        // The deadline begins with the first write that could not proceed, and any progress ends it.
        if !self.is_stalled {
            self.is_stalled = true;
            self.stalled.as_mut().reset(Instant::now() + self.write_stall);
        }
        match self.stalled.as_mut().poll(context) {
            Poll::Ready(()) => {
                Poll::Ready(Err(timed_out("the client reads nothing (`WRITE_STALL_TIMEOUT`)")))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

fn timed_out(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, why)
}

impl<S: Duplex> AsyncRead for DeadlineStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut this.stream).poll_read(context, buffer);
        if this.first_bytes_left == 0 {
            return outcome;
        }
        this.first_bytes_left = this.first_bytes_left.saturating_sub(buffer.filled().len() - before);
        if outcome.is_pending() && this.first_bytes.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(timed_out("the client sends nothing (`FIRST_BYTES_TIMEOUT`)")));
        }
        outcome
    }
}

impl<S: Duplex> AsyncWrite for DeadlineStream<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.watch(context, outcome)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.stream).poll_write_vectored(context, slices);
        this.watch(context, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.stream).poll_flush(context);
        this.watch(context, outcome)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.stream).poll_shutdown(context);
        this.watch(context, outcome)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    const SHORT: StreamDeadlines =
        StreamDeadlines { first_bytes: Duration::from_millis(200), write_stall: Duration::from_millis(500) };

    async fn soon<T>(work: impl Future<Output = T>) -> T {
        tokio::time::timeout(Duration::from_secs(5), work).await.expect("it does not wait forever")
    }

    #[tokio::test]
    async fn a_client_that_sends_too_little_is_disconnected() {
        for said in [&b""[..], b"P", b"PRI * HTTP/2.0\r\n\r\nSM\r\n"] {
            let (mut client, server) = duplex(64);
            let mut server = DeadlineStream::new(server, SHORT);
            client.write_all(said).await.unwrap();
            let error = soon(server.read_exact(&mut [0; FIRST_BYTES])).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{said:?}");
        }
    }

    #[tokio::test]
    async fn after_the_first_bytes_a_client_may_be_idle() {
        let (mut client, server) = duplex(64);
        let mut server = DeadlineStream::new(server, SHORT);
        client.write_all(&[b'x'; FIRST_BYTES]).await.unwrap();
        server.read_exact(&mut [0; FIRST_BYTES]).await.unwrap();
        let writing = tokio::spawn(async move {
            tokio::time::sleep(2 * SHORT.first_bytes).await;
            client.write_all(b"y").await.unwrap();
            client
        });
        assert_eq!(server.read_u8().await.unwrap(), b'y');
        writing.await.unwrap();
    }

    #[tokio::test]
    async fn a_client_that_reads_nothing_is_disconnected_and_a_slow_one_is_not() {
        let (_client, server) = duplex(8);
        let mut server = DeadlineStream::new(server, SHORT);
        let error = soon(server.write_all(&[0; 100])).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);

        let (mut client, server) = duplex(8);
        let mut server = DeadlineStream::new(server, SHORT);
        let reading = tokio::spawn(async move {
            for _ in 0..20 {
                tokio::time::sleep(SHORT.write_stall / 20).await;
                client.read_u8().await.unwrap();
            }
            client
        });
        server.write_all(&[0; 28]).await.unwrap();
        reading.await.unwrap();
    }
}
