//! The download of a blob over HTTP: read in pieces on blocking threads, compressed if the
//! client accepts that.
//!
//! Memory is bounded: one piece is being sent, one waits, one is being read. If the client
//! reads nothing for `stream_idle_max`, the download ends, so that no file is kept open for it.
//! It knows no headers.
//!
//! Invariant: a download that could not be finished ends with an error, never as if it were
//! complete.

use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use kache_cas::Content;
use kache_proto::compressed_blob::Compressor;
use tokio::sync::mpsc;

use super::range::Extent;
use super::zstd_blob::compressor;

/// How many bytes are read at once: enough that handing them between threads costs little, and
/// few enough that a thousand downloads fit in memory.
pub const PIECE_BYTES: usize = 128 * 1024;

/// The receiving end of a download, which the body of the response reads from.
#[derive(Debug)]
pub struct Download {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    /// How many bytes are still to come; `None` if they are compressed.
    left: Option<u64>,
    is_finished: bool,
}

/// Describes a download before it begins.
pub struct DownloadPlan {
    /// The open blob, from which the parts are read.
    pub content: Content,
    /// The part of the blob that is sent.
    pub extent: Extent,
    /// Whether to compress it with zstd.
    pub is_compressed: bool,
    /// The longest time that the client may read nothing.
    pub idle_max: Duration,
    /// Is called with the size of each piece that is sent.
    pub on_sent: Box<dyn Fn(u64) + Send + Sync>,
}

impl DownloadPlan {
    fn start_and_len(&self) -> (u64, u64) {
        match self.extent {
            Extent::Whole => (0, self.content.size_bytes()),
            Extent::Part { start, len } => (start, len),
            Extent::Unsatisfiable => (0, 0),
        }
    }

    /// Reads all of a short download on this thread.
    pub fn read_at_once(self) -> io::Result<Bytes> {
        let (start, len) = self.start_and_len();
        let len = usize::try_from(len).map_err(io::Error::other)?;
        let (bytes, _) = read_piece(&self.content, start, len, None)?;
        (self.on_sent)(bytes.len() as u64);
        Ok(bytes)
    }

    /// Begins to read, in a task of its own.
    pub fn begin(self) -> Download {
        let (sender, pieces) = mpsc::channel(1);
        // The length of compressed bytes is known only at their end.
        let left = (!self.is_compressed).then(|| self.start_and_len().1);
        tokio::spawn(async move {
            let idle_max = self.idle_max;
            if let Err(error) = send_all(self, &sender).await {
                tracing::debug!(%error, "a download ended early");
                // If even this cannot be sent, the channel is closed, and `poll_next` returns an
                // error for that.
                let _ = tokio::time::timeout(idle_max, sender.send(Err(error))).await;
            }
        });
        Download { pieces, left, is_finished: false }
    }
}

impl Download {
    /// How many bytes are still to come; `None` if they are compressed.
    pub fn bytes_left(&self) -> Option<u64> {
        self.left
    }

    /// Whether the last byte, or an error, was returned.
    pub fn is_finished(&self) -> bool {
        self.is_finished || self.left == Some(0)
    }

    /// Polls for the next piece; `None` after the last.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.is_finished() {
            return Poll::Ready(None);
        }
        self.pieces.poll_recv(context).map(|piece| match piece {
            // An empty piece marks the end of a compressed download, whose length is unknown.
            Some(Ok(bytes)) if bytes.is_empty() => {
                self.is_finished = true;
                None
            }
            Some(Ok(bytes)) => {
                self.left = self.left.map(|left| left.saturating_sub(bytes.len() as u64));
                Some(Ok(bytes))
            }
            Some(Err(error)) => {
                self.is_finished = true;
                Some(Err(error))
            }
            None => {
                self.is_finished = true;
                Some(Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the download was cut short")))
            }
        })
    }
}

/// Reads and sends one piece after the other.
async fn send_all(plan: DownloadPlan, sender: &mpsc::Sender<io::Result<Bytes>>) -> io::Result<()> {
    let (mut at, len) = plan.start_and_len();
    let end = at + len;
    let mut encoder = plan.is_compressed.then(compressor).transpose()?;
    while at < end {
        // The slot in the channel is reserved before the piece is read: this bounds memory.
        let slot = slot(&plan, sender).await?;
        let len = usize::try_from(end - at).unwrap_or(usize::MAX).min(PIECE_BYTES);
        let content = plan.content.clone();
        let taken = encoder.take();
        let work = tokio::task::spawn_blocking(move || read_piece(&content, at, len, taken));
        let (bytes, returned) = work.await.map_err(io::Error::other)??;
        encoder = returned;
        at += len as u64;
        if !bytes.is_empty() {
            (plan.on_sent)(bytes.len() as u64);
            slot.send(Ok(bytes));
        }
    }
    if let Some(mut encoder) = encoder {
        let mut bytes = Vec::new();
        encoder.finish(&mut bytes)?;
        (plan.on_sent)(bytes.len() as u64);
        slot(&plan, sender).await?.send(Ok(Bytes::from(bytes)));
        slot(&plan, sender).await?.send(Ok(Bytes::new()));
    }
    Ok(())
}

/// Reserves a slot in the channel, and fails if the client takes none for `idle_max`.
async fn slot<'a>(
    plan: &DownloadPlan,
    sender: &'a mpsc::Sender<io::Result<Bytes>>,
) -> io::Result<mpsc::Permit<'a, io::Result<Bytes>>> {
    match tokio::time::timeout(plan.idle_max, sender.reserve()).await {
        Ok(Ok(slot)) => Ok(slot),
        Ok(Err(_)) => Err(io::Error::new(io::ErrorKind::BrokenPipe, "the client went away")),
        Err(_) => {
            Err(io::Error::new(io::ErrorKind::TimedOut, "the client reads nothing (`stream_idle_max`)"))
        }
    }
}

fn read_piece(
    content: &Content,
    at: u64,
    len: usize,
    encoder: Option<Compressor>,
) -> io::Result<(Bytes, Option<Compressor>)> {
    let bytes = content.read_at(at, len)?;
    if bytes.len() != len {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the blob is shorter than it was"));
    }
    match encoder {
        None => Ok((bytes, None)),
        Some(mut encoder) => {
            let mut packed = Vec::new();
            encoder.feed(&bytes, &mut packed)?;
            Ok((Bytes::from(packed), Some(encoder)))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    fn bytes(len: usize) -> Bytes {
        (0..len).map(|i| (i % 251) as u8).collect()
    }

    fn plan(content: Content, extent: Extent, is_compressed: bool) -> (DownloadPlan, Arc<AtomicU64>) {
        let sent = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&sent);
        let on_sent = Box::new(move |bytes| {
            counter.fetch_add(bytes, Ordering::Relaxed);
        });
        (DownloadPlan { content, extent, is_compressed, idle_max: Duration::from_millis(200), on_sent }, sent)
    }

    async fn collect(mut download: Download) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        while let Some(piece) = poll_fn(|context| download.poll_next(context)).await {
            let piece = piece?;
            assert!(piece.len() <= PIECE_BYTES + 1024, "a piece of {}", piece.len());
            all.extend_from_slice(&piece);
        }
        assert!(download.is_finished());
        Ok(all)
    }

    #[tokio::test]
    async fn whole_blobs_and_parts_arrive() {
        for len in [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 5 * PIECE_BYTES + 7] {
            let whole = bytes(len);
            let parts = [(0, len), (len / 2, len - len / 2), (len / 3, len / 3)];
            for (start, part_len) in parts {
                let extent = Extent::Part { start: start as u64, len: part_len as u64 };
                let (plan, sent) = plan(Content::Memory(whole.clone()), extent, false);
                let download = plan.begin();
                assert_eq!(download.bytes_left(), Some(part_len as u64));
                assert_eq!(collect(download).await.unwrap(), whole[start..start + part_len], "{len} {start}");
                assert_eq!(sent.load(Ordering::Relaxed), part_len as u64);
            }
        }
    }

    #[tokio::test]
    async fn a_compressed_download_is_one_frame_of_the_whole_blob() {
        for len in [0, 1, PIECE_BYTES, 5 * PIECE_BYTES + 7] {
            let whole = bytes(len);
            let (plan, sent) = plan(Content::Memory(whole.clone()), Extent::Whole, true);
            let download = plan.begin();
            assert_eq!(download.bytes_left(), None);
            let packed = collect(download).await.unwrap();
            assert_eq!(sent.load(Ordering::Relaxed), packed.len() as u64);
            assert_eq!(zstd::decode_all(&packed[..]).unwrap(), whole);
        }
    }

    #[tokio::test]
    async fn a_blob_that_cannot_be_read_to_its_end_is_an_error() {
        let file = Arc::new(tempfile::tempfile().unwrap());
        file.set_len(PIECE_BYTES as u64 + 10).unwrap();
        let content = Content::File { file, size_bytes: 2 * PIECE_BYTES as u64 };
        for is_compressed in [false, true] {
            let (plan, _) = plan(content.clone(), Extent::Whole, is_compressed);
            assert!(collect(plan.begin()).await.is_err(), "{is_compressed}");
        }
    }

    #[tokio::test]
    async fn reading_ends_when_the_client_reads_nothing() {
        let (plan, _) = plan(Content::Memory(bytes(10 * PIECE_BYTES)), Extent::Whole, false);
        let mut download = plan.begin();
        let first = poll_fn(|context| download.poll_next(context)).await;
        assert!(first.is_some_and(|piece| piece.is_ok()));
        tokio::time::sleep(Duration::from_millis(600)).await;
        assert!(download.pieces.is_closed(), "no one reads for a client that is gone");
        assert!(collect(download).await.is_err());
    }
}
