//! The result of a compiler that ran, as the client reports it.

use std::time::{Duration, SystemTime};

use bytes::Bytes;

/// A compiler that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    /// The exit code or signal.
    pub exit: Exit,
    /// The messages of both streams, in the order in which the client read them.
    pub messages: Vec<MessagePiece>,
    /// The time at which the compiler was started, by the client's clock.
    pub started: SystemTime,
    /// The time that the compiler took.
    pub wall: Duration,
    /// The processor time of the compiler and its children.
    pub cpu: Duration,
}

/// The way in which a process ended (RST-09).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The process returned this exit code.
    Code(i32),
    /// The process was ended by this signal.
    Signal(i32),
}

/// A part of the messages on one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessagePiece {
    /// The stream to which the compiler wrote the bytes.
    pub stream: MessageStream,
    /// Whole lines; only the last piece of a stream may end inside a line.
    pub bytes: Bytes,
}

/// A stream to which a compiler writes messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Captured {
    /// Returns all messages on one stream.
    pub fn messages_on(&self, stream: MessageStream) -> Vec<u8> {
        self.messages.iter().filter(|piece| piece.stream == stream).fold(Vec::new(), |mut all, piece| {
            all.extend_from_slice(&piece.bytes);
            all
        })
    }
}
