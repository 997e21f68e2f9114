//! What is known of a compile after it ran.

use std::time::{Duration, SystemTime};

use bytes::Bytes;

/// A compile that ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    /// How it ended.
    pub exit: Exit,
    /// What it said, in the order in which it was read.
    pub output: Vec<Piece>,
    /// When it was started.
    pub started: SystemTime,
    /// How long it took.
    pub wall: Duration,
    /// Processor time, of it and its children.
    pub cpu: Duration,
}

/// How a process ended (RST-09).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself.
    Code(i32),
    /// By a signal.
    Signal(i32),
}

/// Part of what was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where.
    pub stream: Stream,
    /// What: whole lines, but for the last.
    pub bytes: Bytes,
}

/// Where something was said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Captured {
    /// All that was said on one stream.
    pub fn said(&self, stream: Stream) -> Vec<u8> {
        self.output.iter().filter(|piece| piece.stream == stream).fold(Vec::new(), |mut all, piece| {
            all.extend_from_slice(&piece.bytes);
            all
        })
    }
}
