//! The client's end of a control connection: frames over a blocking socket, until a deadline.
//!
//! Invariant: no call outlasts the deadline that it was given, whatever the peer does (DMN-03).

use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use kache_proto::Message;
use thiserror::Error;

use super::frame::{self, Decoder, FrameError};

/// The size of one read. Replies are small.
const READ_BYTES: usize = 16 * 1024;

/// The reason why nothing more can be sent or received.
#[derive(Debug, Error)]
pub enum StreamError {
    /// The deadline passed before the exchange was complete.
    #[error("no answer in time")]
    Late,
    /// The peer closed the connection.
    #[error("the connection was closed")]
    Closed,
    /// The peer sent bytes that are no frame, or the message to send is too large.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// Reading from the socket or writing to it failed.
    #[error("the connection failed: {0}")]
    Io(#[source] io::Error),
}

/// Sends and receives frames over a socket.
#[derive(Debug)]
pub struct FrameStream {
    stream: UnixStream,
    decoder: Decoder,
}

impl AsRawFd for FrameStream {
    fn as_raw_fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }
}

impl FrameStream {
    /// Takes a connected, blocking socket.
    pub fn new(stream: UnixStream) -> Self {
        FrameStream { stream, decoder: Decoder::default() }
    }

    /// Sends one message; blocks until the deadline at most.
    pub fn send<M: Message>(&mut self, message: &M, deadline: Instant) -> Result<(), StreamError> {
        self.send_encoded(&frame::encode(message)?, deadline)
    }

    /// Sends one or more frames that are encoded already; blocks until the deadline at most.
    pub fn send_encoded(&mut self, frames: &[u8], deadline: Instant) -> Result<(), StreamError> {
        let mut rest = frames;
        while !rest.is_empty() {
            // A socket's timeout counts from each write, and the deadline does not, so it is set anew.
            self.stream.set_write_timeout(Some(left(deadline)?)).map_err(StreamError::Io)?;
            match self.stream.write(rest) {
                Ok(0) => return Err(StreamError::Closed),
                Ok(written) => rest = &rest[written..],
                Err(error) => ignore_if_temporary(error)?,
            }
        }
        Ok(())
    }

    /// Waits for one message, until the deadline at most.
    pub fn receive<M: Message + Default>(&mut self, deadline: Instant) -> Result<M, StreamError> {
        let mut chunk = [0; READ_BYTES];
        loop {
            if let Some(body) = self.decoder.next_frame()? {
                return Ok(frame::decode(&body)?);
            }
            // A socket's timeout counts from each read, and the deadline does not, so it is set anew.
            self.stream.set_read_timeout(Some(left(deadline)?)).map_err(StreamError::Io)?;
            match self.stream.read(&mut chunk) {
                Ok(0) => {
                    self.decoder.finish()?;
                    return Err(StreamError::Closed);
                }
                Ok(len) => self.decoder.push(&chunk[..len]),
                Err(error) => ignore_if_temporary(error)?,
            }
        }
    }
}

/// Returns the time until the deadline, which is never zero: as a socket's timeout, zero means for
/// ever.
fn left(deadline: Instant) -> Result<Duration, StreamError> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(StreamError::Late) } else { Ok(left) }
}

/// Returns `Ok` for errors after which the read or write is tried again; the loop around it checks
/// the deadline.
fn ignore_if_temporary(error: io::Error) -> Result<(), StreamError> {
    match error.kind() {
        io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Ok(()),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Err(StreamError::Closed),
        _ => Err(StreamError::Io(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kache_proto::control::Hello;

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(50)
    }

    #[test]
    fn messages_are_received_as_they_were_sent() {
        let (left, right) = UnixStream::pair().unwrap();
        let (mut left, mut right) = (FrameStream::new(left), FrameStream::new(right));
        let hello = Hello { protocol: 3, client_version: "v".into(), ..Hello::default() };
        left.send(&hello, soon()).unwrap();
        left.send(&hello, soon()).unwrap();
        assert_eq!(right.receive::<Hello>(soon()).unwrap(), hello);
        assert_eq!(right.receive::<Hello>(soon()).unwrap(), hello);
        drop(left);
        assert!(matches!(right.receive::<Hello>(soon()), Err(StreamError::Closed)));
    }

    #[test]
    fn dmn_03_a_silent_peer_costs_no_more_than_the_deadline() {
        let (left, _silent) = UnixStream::pair().unwrap();
        let mut left = FrameStream::new(left);
        let begun = Instant::now();
        assert!(matches!(left.receive::<Hello>(soon()), Err(StreamError::Late)));
        // A peer that reads nothing: the socket's buffer fills, then the deadline passes.
        let large = Hello { client_version: "x".repeat(3_000_000), ..Hello::default() };
        assert!(matches!(left.send(&large, soon()), Err(StreamError::Late)));
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
}
