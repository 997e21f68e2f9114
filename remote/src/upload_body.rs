//! The body of a request: a blob, which is sent in pieces and read from its file while it is sent.
//!
//! The body counts the pieces that the connection has taken, so that the client can tell a slow upload
//! from one that does not move. It keeps the error of a file that could not be read, because the error of
//! the connection, which follows, does not say what happened.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use kache_cas::Content;
use parking_lot::Mutex;
use tokio::task::JoinHandle;

/// The size of the pieces.
const PIECE_BYTES: usize = 256 * 1024;

/// How far an upload is.
#[derive(Debug, Default)]
pub(crate) struct UploadProgress {
    pieces: AtomicU64,
    failure: Mutex<Option<String>>,
}

impl UploadProgress {
    /// Returns the number of pieces that the connection has taken.
    pub(crate) fn pieces(&self) -> u64 {
        self.pieces.load(Ordering::Relaxed)
    }

    /// Returns why the local file could not be read, if it could not.
    pub(crate) fn failure(&self) -> Option<String> {
        self.failure.lock().clone()
    }
}

/// The body of a request; empty for requests without content.
pub(crate) struct UploadBody {
    content: Option<Content>,
    offset: u64,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
    progress: Arc<UploadProgress>,
}

impl UploadBody {
    /// Creates the body for this content.
    pub(crate) fn new(content: Option<Content>, progress: Arc<UploadProgress>) -> UploadBody {
        UploadBody { content, offset: 0, reading: None, progress }
    }

    fn size_bytes(&self) -> u64 {
        self.content.as_ref().map_or(0, Content::size_bytes)
    }

    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        let offset = self.offset;
        match &self.content {
            None => Poll::Ready(Ok(Bytes::new())),
            Some(memory @ Content::Memory(_)) => Poll::Ready(memory.read_at(offset, PIECE_BYTES)),
            Some(file) => {
                let reading = self.reading.get_or_insert_with(|| {
                    let file = file.clone();
                    tokio::task::spawn_blocking(move || file.read_at(offset, PIECE_BYTES))
                });
                let piece = ready!(Pin::new(reading).poll(context));
                self.reading = None;
                Poll::Ready(piece.unwrap_or_else(|error| Err(io::Error::other(error))))
            }
        }
    }
}

impl Body for UploadBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.is_end_stream() {
            return Poll::Ready(None);
        }
        let piece = ready!(self.poll_piece(context));
        match &piece {
            Ok(piece) => {
                self.offset += piece.len() as u64;
                self.progress.pieces.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => *self.progress.failure.lock() = Some(error.to_string()),
        }
        Poll::Ready(Some(piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.offset >= self.size_bytes()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.size_bytes().saturating_sub(self.offset))
    }
}
