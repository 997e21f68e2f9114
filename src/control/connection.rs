//! The daemon's end of a control connection: frames over an async stream. One task reads the
//! connection and another one writes it.
//!
//! It interprets no message. Invariant: a client costs no more than a named limit. A frame that is
//! too large is refused by its header, and writing to a client that does not read is given up after
//! [`WRITE_WAIT_MAX`].

use std::time::Duration;

use kache_client::control::{Decoder, FrameError, Reply, encode, reply};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// The size of one read.
pub const READ_BYTES: usize = 16 * 1024;

/// The time that a client has to accept a reply, which fits into a socket's buffer.
pub const WRITE_WAIT_MAX: Duration = Duration::from_secs(5);

/// The result of reading a connection.
#[derive(Debug, PartialEq, Eq)]
pub enum Incoming {
    /// The body of a frame.
    Frame(Vec<u8>),
    /// Bytes that are no frame. Nothing can be read after them.
    Broken(FrameError),
    /// The client has closed the connection, or the connection failed.
    End,
}

/// The reading half of a connection.
#[derive(Debug)]
pub struct FrameReader<R> {
    stream: R,
    decoder: Decoder,
}

/// The writing half of a connection.
#[derive(Debug)]
pub struct ReplyWriter<W> {
    stream: W,
    wait_max: Duration,
}

/// Returns a reader of frames.
pub fn incoming<R: AsyncRead + Unpin>(stream: R) -> FrameReader<R> {
    FrameReader { stream, decoder: Decoder::default() }
}

/// Returns a writer of replies that waits no longer than `wait_max` for the client to read one.
pub fn outgoing<W: AsyncWrite + Unpin>(stream: W, wait_max: Duration) -> ReplyWriter<W> {
    ReplyWriter { stream, wait_max }
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// Waits for the next frame.
    pub async fn next(&mut self) -> Incoming {
        let mut chunk = [0; READ_BYTES];
        loop {
            match self.decoder.next_frame() {
                Ok(Some(body)) => return Incoming::Frame(body),
                Ok(None) => {}
                Err(error) => return Incoming::Broken(error),
            }
            match self.stream.read(&mut chunk).await {
                Ok(0) => return self.decoder.finish().map_or_else(Incoming::Broken, |()| Incoming::End),
                Ok(len) => self.decoder.push(&chunk[..len]),
                Err(_) => return Incoming::End,
            }
        }
    }
}

impl<W: AsyncWrite + Unpin> ReplyWriter<W> {
    /// Sends a reply. Returns `false` if the client has not accepted it in time.
    pub async fn send(&mut self, kind: reply::Kind) -> bool {
        let Ok(frame) = encode(&Reply { kind: Some(kind) }) else { return false };
        let written = tokio::time::timeout(self.wait_max, self.stream.write_all(&frame)).await;
        matches!(written, Ok(Ok(())))
    }

    /// Tells the client that no more replies follow.
    pub async fn finish(&mut self) {
        let _ = self.stream.shutdown().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kache_client::control::{FRAME_BYTES_MAX, Failed, decode};

    fn failed(message: &str) -> reply::Kind {
        reply::Kind::Failed(Failed { message: message.to_owned() })
    }

    #[tokio::test]
    async fn replies_are_received_as_they_were_sent() {
        let (left, right) = tokio::io::duplex(64);
        let (mut writer, mut reader) = (outgoing(left, WRITE_WAIT_MAX), incoming(right));
        let sending = tokio::spawn(async move {
            assert!(writer.send(failed("one")).await && writer.send(failed(&"x".repeat(1000))).await);
            writer.finish().await;
        });
        for expected in ["one".to_owned(), "x".repeat(1000)] {
            let Incoming::Frame(body) = reader.next().await else { panic!("a frame was sent") };
            assert_eq!(decode::<Reply>(&body).unwrap().kind, Some(failed(&expected)));
        }
        assert_eq!(reader.next().await, Incoming::End);
        sending.await.unwrap();
    }

    #[tokio::test]
    async fn bytes_that_are_no_frame_are_reported() {
        let too_large = (FRAME_BYTES_MAX as u32 + 1).to_be_bytes();
        assert!(matches!(
            incoming(&too_large[..]).next().await,
            Incoming::Broken(FrameError::TooLarge { .. })
        ));
        assert_eq!(incoming(&[0, 0][..]).next().await, Incoming::Broken(FrameError::Cut { have: 2 }));
    }

    #[tokio::test]
    async fn writing_to_a_client_that_does_not_read_fails() {
        let (left, _unread) = tokio::io::duplex(8);
        assert!(!outgoing(left, Duration::from_millis(20)).send(failed("more than eight bytes")).await);
    }
}
