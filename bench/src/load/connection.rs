//! One HTTP/2 connection: it sends and receives frames, with flow control.
//!
//! Invariant: it never sends more than the server's windows allow, and it enlarges the server's windows as it
//! reads. It does not know what a request means.

use std::io::{self, Read};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use mio::net::TcpStream;

use super::outbox::Outbox;
use super::stream::{Request, Response, Stream};
use crate::http2::frame::{self, Header};
use crate::http2::hpack::{Decoder, RequestBlocks};

/// How much is read at once: a few frames, which fit in the second-level cache.
const INBOX_BYTES: usize = 256 * 1024;

/// How much is framed at once: as much as the buffer of a socket takes.
const OUTBOX_BYTES_MAX: usize = 256 * 1024;

/// How much the server may send before the client has read it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Windows {
    pub(crate) stream_bytes: u32,
    pub(crate) connection_bytes: u32,
}

/// Each stream has the window that gRPC for Java, and therefore Bazel, gives it. The connection has room for several.
impl Default for Windows {
    fn default() -> Windows {
        Windows { stream_bytes: 1 << 20, connection_bytes: 16 << 20 }
    }
}

/// A response that has arrived as a whole.
pub(crate) struct Done {
    pub(crate) client: usize,
    pub(crate) latency: Duration,
    pub(crate) response: Response,
}

pub(crate) struct Connection {
    socket: TcpStream,
    inbox: Vec<u8>,
    /// How many bytes of the inbox are not parsed yet.
    inbox_len: usize,
    outbox: Outbox,
    streams: Vec<Stream>,
    blocks: RequestBlocks,
    decoder: Decoder,
    next_stream: u32,
    send_window: i64,
    stream_send_window: i64,
    windows: Windows,
    received_bytes: u32,
    collect: bool,
}

impl Connection {
    pub(crate) fn open(address: SocketAddr, method: &str, windows: Windows) -> Result<Connection> {
        let socket = std::net::TcpStream::connect(address)
            .with_context(|| format!("failed to connect to {address}"))?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        let mut outbox = Outbox::default();
        outbox.copy(|out| {
            out.extend_from_slice(frame::PREFACE);
            frame::put_settings(out, windows.stream_bytes);
            let more = i64::from(windows.connection_bytes) - frame::WINDOW_INITIAL;
            frame::put_window_update(out, 0, u32::try_from(more).unwrap_or(1));
        });
        Ok(Connection {
            socket: TcpStream::from_std(socket),
            inbox: vec![0; INBOX_BYTES],
            inbox_len: 0,
            outbox,
            streams: Vec::new(),
            blocks: RequestBlocks::new(&address.to_string(), method),
            decoder: Decoder::new(),
            next_stream: 1,
            send_window: frame::WINDOW_INITIAL,
            stream_send_window: frame::WINDOW_INITIAL,
            windows,
            received_bytes: 0,
            collect: false,
        })
    }

    pub(crate) fn socket(&mut self) -> &mut TcpStream {
        &mut self.socket
    }

    /// Sets whether the bodies of responses are kept.
    pub(crate) fn set_collect(&mut self, collect: bool) {
        self.collect = collect;
    }

    /// Begins a request. `send` sends it.
    pub(crate) fn start(&mut self, client: usize, request: Request) {
        let id = self.next_stream;
        self.next_stream += 2;
        let block = if id == 1 { &self.blocks.first } else { &self.blocks.later };
        self.outbox.copy(|out| frame::put_headers(out, id, block));
        self.streams.push(Stream::new(id, client, request, self.stream_send_window));
    }

    /// Sends as much as the windows and the socket allow, without blocking.
    pub(crate) fn send(&mut self) -> Result<()> {
        loop {
            self.fill_outbox();
            if self.outbox.is_empty() || !self.outbox.flush(&mut self.socket)? {
                return Ok(());
            }
        }
    }

    /// Puts frames into the outbox, one stream after another, as far as the windows allow.
    fn fill_outbox(&mut self) {
        let mut progress = true;
        while progress && self.outbox.len() < OUTBOX_BYTES_MAX {
            progress = false;
            for stream in &mut self.streams {
                let room = self.send_window.min(stream.window);
                if stream.unsent() > 0 && room > 0 {
                    let len_max = usize::try_from(room).expect("it is positive");
                    self.send_window -= stream.put_data(&mut self.outbox, len_max) as i64;
                    progress = true;
                }
            }
        }
    }

    /// Reads all bytes that have arrived, and appends complete responses to `done`.
    pub(crate) fn receive(&mut self, done: &mut Vec<Done>) -> Result<()> {
        loop {
            let room = self.inbox.len() - self.inbox_len;
            let read = match self.socket.read(&mut self.inbox[self.inbox_len..]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                other => other.context("failed to read from the server")?,
            };
            ensure!(read > 0, "the server closed the connection");
            self.inbox_len += read;
            self.take_frames(done)?;
            // A short read means that no more bytes have arrived; the poll reports new ones.
            if read < room {
                return Ok(());
            }
        }
    }

    fn take_frames(&mut self, done: &mut Vec<Done>) -> Result<()> {
        let inbox = std::mem::take(&mut self.inbox);
        let result = self.take_frames_of(&inbox[..self.inbox_len], done);
        self.inbox = inbox;
        let taken = result?;
        self.inbox.copy_within(taken..self.inbox_len, 0);
        self.inbox_len -= taken;
        Ok(())
    }

    /// Handles each complete frame, and returns the number of bytes in them.
    fn take_frames_of(&mut self, bytes: &[u8], done: &mut Vec<Done>) -> Result<usize> {
        let mut at = 0;
        while bytes.len() - at >= frame::HEADER_LEN {
            let header = Header::read(&bytes[at..]);
            let payload_at = at + frame::HEADER_LEN;
            let Some(payload) = bytes.get(payload_at..payload_at + header.len) else { break };
            self.take_frame(header, payload, done)?;
            at = payload_at + header.len;
        }
        Ok(at)
    }

    fn take_frame(&mut self, header: Header, payload: &[u8], done: &mut Vec<Done>) -> Result<()> {
        match header.kind {
            frame::DATA => self.take_data(header, payload)?,
            frame::HEADERS => self.take_headers(header, payload, done)?,
            frame::SETTINGS if header.flags & frame::ACK == 0 => self.take_settings(payload),
            frame::PING if header.flags & frame::ACK == 0 => {
                self.outbox.copy(|out| frame::put_ping_ack(out, payload));
            }
            frame::WINDOW_UPDATE => self.take_window_update(header.stream, frame::u32_at(payload, 0)),
            // After its response a server may reset the rest of the request without an error.
            frame::RST_STREAM if self.position(header.stream).is_none() => {}
            frame::RST_STREAM => bail!("the server reset a stream, code {}", frame::u32_at(payload, 0)),
            frame::GOAWAY => bail!("the server is going away, code {}", frame::u32_at(payload, 4)),
            frame::CONTINUATION => bail!("the server sent more headers than one frame holds"),
            _ => {}
        }
        Ok(())
    }

    fn position(&self, stream: u32) -> Option<usize> {
        self.streams.iter().position(|known| known.id == stream)
    }

    fn take_data(&mut self, header: Header, payload: &[u8]) -> Result<()> {
        ensure!(header.flags & frame::PADDED == 0, "the server pads its frames");
        let position = self.position(header.stream).context("the server sent data for an unknown stream")?;
        let len = u32::try_from(payload.len()).expect("a frame's length has 24 bits");
        let stream = &mut self.streams[position];
        stream.take_data(payload, self.collect);
        stream.received_bytes += len;
        if stream.received_bytes >= self.windows.stream_bytes / 2 {
            let (id, more) = (stream.id, std::mem::take(&mut stream.received_bytes));
            self.outbox.copy(|out| frame::put_window_update(out, id, more));
        }
        self.received_bytes += len;
        if self.received_bytes >= self.windows.connection_bytes / 2 {
            let more = std::mem::take(&mut self.received_bytes);
            self.outbox.copy(|out| frame::put_window_update(out, 0, more));
        }
        Ok(())
    }

    fn take_headers(&mut self, header: Header, block: &[u8], done: &mut Vec<Done>) -> Result<()> {
        let plain = header.flags & frame::PADDED == 0 && header.flags & frame::END_HEADERS != 0;
        ensure!(plain, "the server's headers are padded or in several frames");
        let fields = self.decoder.decode(block)?;
        if header.flags & frame::END_STREAM == 0 {
            return Ok(());
        }
        let position =
            self.position(header.stream).context("the server sent a response for an unknown stream")?;
        let stream = self.streams.swap_remove(position);
        let message = fields.grpc_message.unwrap_or_default();
        ensure!(fields.grpc_status == Some(0), "gRPC status {:?}: {message}", fields.grpc_status);
        ensure!(stream.is_whole(), "the last message is incomplete");
        ensure!(stream.unsent() == 0, "the server responded before it had the whole request");
        done.push(Done {
            client: stream.client,
            latency: stream.started.elapsed(),
            response: stream.response,
        });
        Ok(())
    }

    fn take_settings(&mut self, payload: &[u8]) {
        for setting in payload.chunks_exact(6) {
            let id = u16::from_be_bytes([setting[0], setting[1]]);
            if id == frame::SETTING_INITIAL_WINDOW {
                let window = i64::from(frame::u32_at(setting, 2));
                let more = window - self.stream_send_window;
                self.stream_send_window = window;
                self.streams.iter_mut().for_each(|stream| stream.window += more);
            }
        }
        self.outbox.copy(frame::put_settings_ack);
    }

    fn take_window_update(&mut self, stream: u32, more: u32) {
        if stream == 0 {
            self.send_window += i64::from(more);
        } else if let Some(position) = self.position(stream) {
            self.streams[position].window += i64::from(more);
        }
    }
}
