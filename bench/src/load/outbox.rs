//! Bytes that are to be sent: small pieces are copied together, and large ones are kept by reference.

use std::io::{self, IoSlice, Write};

use bytes::Bytes;

/// Pieces up to this size are cheaper to copy than to pass to the kernel separately.
const COPIED_BYTES_MAX: usize = 4096;

/// The largest number of pieces in one system call. The kernel's limit is 1,024.
const PIECES_MAX: usize = 256;

enum Piece {
    /// A range of `copied`.
    Copied(usize, usize),
    Shared(Bytes),
}

/// Frames that the kernel has not taken yet.
#[derive(Default)]
pub(crate) struct Outbox {
    copied: Vec<u8>,
    pieces: Vec<Piece>,
    /// The number of pieces that were sent, and of bytes of the next piece.
    done: (usize, usize),
    len: usize,
}

impl Outbox {
    /// The number of bytes that were added since the outbox was last empty.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Calls `write`, which appends to the copied bytes.
    pub(crate) fn copy(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.copied.len();
        write(&mut self.copied);
        let end = self.copied.len();
        self.len += end - start;
        match self.pieces.last_mut() {
            Some(Piece::Copied(_, last)) if *last == start => *last = end,
            _ => self.pieces.push(Piece::Copied(start, end)),
        }
    }

    /// Adds bytes: a few are copied, more are kept by reference.
    pub(crate) fn share(&mut self, bytes: Bytes) {
        if bytes.len() <= COPIED_BYTES_MAX {
            self.copy(|copied| copied.extend_from_slice(&bytes));
        } else {
            self.len += bytes.len();
            self.pieces.push(Piece::Shared(bytes));
        }
    }

    /// Writes as much as the kernel takes. Returns whether everything was sent.
    pub(crate) fn flush(&mut self, socket: &mut impl Write) -> io::Result<bool> {
        while self.done.0 < self.pieces.len() {
            let written = match self.write_some(socket) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                other => other?,
            };
            self.advance(written);
        }
        self.copied.clear();
        self.pieces.clear();
        (self.done, self.len) = ((0, 0), 0);
        Ok(true)
    }

    fn bytes_of<'a>(&'a self, piece: &'a Piece) -> &'a [u8] {
        match piece {
            Piece::Copied(start, end) => &self.copied[*start..*end],
            Piece::Shared(bytes) => bytes,
        }
    }

    fn write_some(&self, socket: &mut impl Write) -> io::Result<usize> {
        let (first, skipped) = self.done;
        let pieces = &self.pieces[first..self.pieces.len().min(first + PIECES_MAX)];
        if let [only] = pieces {
            return socket.write(&self.bytes_of(only)[skipped..]);
        }
        let mut slices: Vec<IoSlice<'_>> =
            pieces.iter().map(|piece| IoSlice::new(self.bytes_of(piece))).collect();
        slices[0].advance(skipped);
        socket.write_vectored(&slices)
    }

    fn advance(&mut self, mut written: usize) {
        while written > 0 {
            let left = self.bytes_of(&self.pieces[self.done.0]).len() - self.done.1;
            if written < left {
                self.done.1 += written;
                return;
            }
            written -= left;
            self.done = (self.done.0 + 1, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A writer that takes a few bytes at a time, and sometimes none.
    struct Reluctant {
        taken: Vec<u8>,
        turn: usize,
    }

    impl Write for Reluctant {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.turn += 1;
            if self.turn.is_multiple_of(3) {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let len = bytes.len().min(1 + self.turn * 37 % 2000);
            self.taken.extend_from_slice(&bytes[..len]);
            Ok(len)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn all_bytes_are_sent_in_order() {
        let mut outbox = Outbox::default();
        let mut expected = Vec::new();
        for (position, len) in [3, 5000, 9, 0, 4096, 20_000, 1].into_iter().enumerate() {
            let bytes = vec![position as u8; len];
            expected.extend_from_slice(&bytes);
            outbox.share(Bytes::from(bytes));
        }
        let mut socket = Reluctant { taken: Vec::new(), turn: 0 };
        while !outbox.flush(&mut socket).expect("it only ever blocks") {}
        assert!(socket.taken == expected && outbox.is_empty());
    }
}
