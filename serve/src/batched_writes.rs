//! A byte stream that sends a response in few system calls.
//!
//! `h2` writes and flushes each DATA frame by itself, and peers take frames of 16 KiB. The
//! fixed cost of a system call is as high as that of the bytes, so writes are collected here:
//! the data of a response with its trailers, and the frames of a download. The stream does not
//! parse frames. It takes a vectored write for data after which more follows, because that is
//! how `h2` hands on a DATA frame: its head and its data as two slices.
//!
//! Without it, GetActionResult and BatchReadBlobs of 4 KiB take 1.3 times the processor time of the daemon and
//! reach 0.7 of the rate, and downloads of 4 MiB take 1.2 to 1.5 times the processor time (medians of 9 to 15
//! alternating runs of `./x bench store --alone kached --clients 1,4` on two busy cores). FindMissingBlobs does
//! not differ.
//!
//! Invariant: collected bytes are sent as soon as the writer has nothing to add. A flush that
//! is put off wakes the task that asked for it; when that task comes back to read, or to flush
//! without having written data, everything is sent.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::stream::Duplex;

/// The largest batch, in bytes: four frames, and about one segment of a local connection.
const BATCH_BYTES_MAX: usize = 64 * 1024;

/// The size in bytes of the buffer that a connection keeps while it waits for requests.
const KEPT_BYTES_MAX: usize = 8 * 1024;

/// A stream whose writes of data are collected. Reads are passed on.
pub struct BatchedWrites<S> {
    stream: S,
    batch: Vec<u8>,
    /// How many bytes of `batch` have been sent.
    sent: usize,
    /// Whether data was written since the last flush, so that more will follow.
    is_growing: bool,
}

impl<S: Duplex> BatchedWrites<S> {
    /// Returns `stream` with writes that are sent in batches.
    pub fn new(stream: S) -> Self {
        BatchedWrites { stream, batch: Vec::new(), sent: 0, is_growing: false }
    }

    /// Sends the whole batch.
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.batch.len() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(context, &self.batch[self.sent..]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += written;
        }
        self.batch.clear();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }

    /// Adds a write to the batch. Returns `None` if the write may go to the stream directly: it
    /// is not data, or is larger than a batch, and nothing is waiting before it.
    fn poll_batch(
        &mut self,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Option<Poll<io::Result<usize>>> {
        let len: usize = slices.iter().map(|slice| slice.len()).sum();
        let is_data = slices.len() > 1 && len <= BATCH_BYTES_MAX;
        if self.batch.len() + len > BATCH_BYTES_MAX {
            match self.poll_send(context) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Some(Poll::Ready(Err(error))),
                Poll::Pending => return Some(Poll::Pending),
            }
        }
        if self.batch.is_empty() && !is_data {
            return None;
        }
        slices.iter().for_each(|slice| self.batch.extend_from_slice(slice));
        self.is_growing = is_data;
        Some(Poll::Ready(Ok(len)))
    }
}

impl<S: Duplex> AsyncRead for BatchedWrites<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.batch.is_empty() && this.poll_send(context)?.is_ready() {
            // The response is sent, and the next request may come much later.
            this.batch.shrink_to(KEPT_BYTES_MAX);
        }
        Pin::new(&mut this.stream).poll_read(context, buffer)
    }
}

impl<S: Duplex> AsyncWrite for BatchedWrites<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        match this.poll_batch(context, &[IoSlice::new(bytes)]) {
            Some(outcome) => outcome,
            None => Pin::new(&mut this.stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        match this.poll_batch(context, slices) {
            Some(outcome) => outcome,
            None => Pin::new(&mut this.stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if std::mem::take(&mut this.is_growing) {
            context.waker().wake_by_ref();
            return Poll::Ready(Ok(()));
        }
        ready!(this.poll_send(context))?;
        Pin::new(&mut this.stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_send(context))?;
        Pin::new(&mut this.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Wake, Waker};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many bytes have arrived at the other end.
    fn arrived(client: &mut DuplexStream) -> usize {
        let mut buffer = vec![0; 1 << 20];
        let mut buffer = ReadBuf::new(&mut buffer);
        let _ = Pin::new(client).poll_read(&mut Context::from_waker(Waker::noop()), &mut buffer);
        buffer.filled().len()
    }

    /// Writes the head of a frame and data, as `h2` does, and flushes.
    fn put_data(server: &mut BatchedWrites<DuplexStream>, context: &mut Context<'_>, len: usize) {
        let data = vec![7; len];
        let slices = [IoSlice::new(&[1; 9]), IoSlice::new(&data)];
        let written = Pin::new(&mut *server).poll_write_vectored(context, &slices);
        assert!(matches!(written, Poll::Ready(Ok(written)) if written == 9 + len));
        assert!(Pin::new(server).poll_flush(context).is_ready());
    }

    fn put_plain(server: &mut BatchedWrites<DuplexStream>, context: &mut Context<'_>, len: usize) {
        assert!(Pin::new(&mut *server).poll_write(context, &vec![8; len]).is_ready());
        assert!(Pin::new(server).poll_flush(context).is_ready());
    }

    #[test]
    fn data_waits_until_the_response_ends_or_the_writer_comes_back() {
        let (mut client, server) = duplex(1 << 20);
        let mut server = BatchedWrites::new(server);
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut context = Context::from_waker(&waker);
        for frame in 1..=3 {
            put_data(&mut server, &mut context, 16_000);
            assert_eq!(woken.0.load(Ordering::Relaxed), frame, "a task whose flush is put off is woken");
        }
        assert_eq!(arrived(&mut client), 0);
        put_plain(&mut server, &mut context, 20);
        assert_eq!(arrived(&mut client), 3 * 16_009 + 20);

        // The writer comes back to flush and has nothing to add.
        put_data(&mut server, &mut context, 400);
        assert_eq!(arrived(&mut client), 0);
        assert!(Pin::new(&mut server).poll_flush(&mut context).is_ready());
        assert_eq!(arrived(&mut client), 409);

        // The writer comes back to read.
        put_data(&mut server, &mut context, 16_000);
        let mut byte = [0];
        let read = Pin::new(&mut server).poll_read(&mut context, &mut ReadBuf::new(&mut byte));
        assert!(read.is_pending());
        assert_eq!(arrived(&mut client), 16_009);
        assert!(server.batch.capacity() <= KEPT_BYTES_MAX);
    }

    #[test]
    fn a_full_batch_is_sent_and_writes_without_data_are_not_delayed() {
        let (mut client, server) = duplex(1 << 20);
        let mut server = BatchedWrites::new(server);
        let mut context = Context::from_waker(Waker::noop());
        put_plain(&mut server, &mut context, 100);
        assert_eq!(arrived(&mut client), 100);
        for _ in 0..5 {
            put_data(&mut server, &mut context, 16_000);
        }
        assert_eq!(arrived(&mut client), 4 * 16_009);
        put_data(&mut server, &mut context, 100_000);
        assert_eq!(
            arrived(&mut client),
            16_009 + 100_009,
            "a write that is larger than the buffer is sent at once"
        );
    }

    #[tokio::test]
    async fn everything_arrives_in_order_through_a_narrow_pipe() {
        let (mut client, server) = duplex(1000);
        let mut server = BatchedWrites::new(server);
        let all: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
        let sent = all.clone();
        let writing = tokio::spawn(async move {
            let mut rest = &sent[..];
            for len in [1, 16_000, 30, 70_000, 13_000, 64_000, 5_000, 100_000].into_iter().cycle() {
                let (part, after) = rest.split_at(len.min(rest.len()));
                let (head, data) = part.split_at(part.len() / 3);
                let mut both = &mut [IoSlice::new(head), IoSlice::new(data)][..];
                while both.iter().any(|slice| !slice.is_empty()) {
                    let written = server.write_vectored(both).await.unwrap();
                    IoSlice::advance_slices(&mut both, written);
                }
                server.flush().await.unwrap();
                rest = after;
                if rest.is_empty() {
                    break;
                }
            }
            server.shutdown().await.unwrap();
        });
        let mut received = Vec::new();
        client.read_to_end(&mut received).await.unwrap();
        writing.await.unwrap();
        assert!(received == all);
    }
}
