//! Frames over an async stream, for the daemon: one task reads a connection, one writes it.
//!
//! It interprets nothing. A frame that is too large is refused by its header, and a reader
//! who does not read is given up after [`WRITE_WAIT_MAX`], so neither costs more than a
//! named limit.

use std::time::Duration;

use kache_client::control::{Decoder, FrameError, Reply, encode, reply};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// How much is read at once.
pub const READ_BYTES: usize = 16 * 1024;

/// How long a client may take to accept a reply, which fits into a socket's buffer.
pub const WRITE_WAIT_MAX: Duration = Duration::from_secs(5);

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub enum Incoming {
    /// A frame's body.
    Frame(Vec<u8>),
    /// Something that is no frame. Nothing can be read after it.
    Broken(FrameError),
    /// The end.
    End,
}

/// The reading half.
#[derive(Debug)]
pub struct Reader<R> {
    stream: R,
    decoder: Decoder,
}

/// The writing half.
#[derive(Debug)]
pub struct Outgoing<W> {
    stream: W,
    wait_max: Duration,
}

/// Reads frames from a stream.
pub fn incoming<R: AsyncRead + Unpin>(stream: R) -> Reader<R> {
    Reader { stream, decoder: Decoder::default() }
}

/// Writes replies to a stream; waits for its reader no longer than this.
pub fn outgoing<W: AsyncWrite + Unpin>(stream: W, wait_max: Duration) -> Outgoing<W> {
    Outgoing { stream, wait_max }
}

impl<R: AsyncRead + Unpin> Reader<R> {
    /// The next frame. A connection that breaks is at its end.
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

impl<W: AsyncWrite + Unpin> Outgoing<W> {
    /// Sends a reply; whether the client took it.
    pub async fn send(&mut self, kind: reply::Kind) -> bool {
        let Ok(frame) = encode(&Reply { kind: Some(kind) }) else { return false };
        let written = tokio::time::timeout(self.wait_max, self.stream.write_all(&frame)).await;
        matches!(written, Ok(Ok(())))
    }

    /// Says that nothing follows.
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
    async fn what_is_sent_is_received() {
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
    async fn what_is_no_frame_is_broken() {
        let too_large = (FRAME_BYTES_MAX as u32 + 1).to_be_bytes();
        assert!(matches!(
            incoming(&too_large[..]).next().await,
            Incoming::Broken(FrameError::TooLarge { .. })
        ));
        assert_eq!(incoming(&[0, 0][..]).next().await, Incoming::Broken(FrameError::Cut { have: 2 }));
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_is_given_up() {
        let (left, _unread) = tokio::io::duplex(8);
        assert!(!outgoing(left, Duration::from_millis(20)).send(failed("more than eight bytes")).await);
    }
}
