//! Frame headers and the few fixed frames a client sends (RFC 9113 §4 and §6).
//!
//! It knows the layout of frames. `load::connection` knows what they mean.

/// The first bytes of every HTTP/2 connection.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes of a frame header.
pub(crate) const HEADER_LEN: usize = 9;

/// The largest frame that either side may send by default.
pub(crate) const FRAME_LEN_MAX: usize = 16_384;

/// The initial window of streams and of the connection.
pub(crate) const WINDOW_INITIAL: i64 = 65_535;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

/// On DATA and HEADERS: this is the last frame of the stream.
pub(crate) const END_STREAM: u8 = 1;
/// On SETTINGS and PING: this acknowledges the peer's frame.
pub(crate) const ACK: u8 = 1;
/// On HEADERS: this is the last frame of the header block.
pub(crate) const END_HEADERS: u8 = 4;
/// On DATA and HEADERS: the frame is padded. The servers here send no padding.
pub(crate) const PADDED: u8 = 8;

const SETTING_ENABLE_PUSH: u16 = 2;
pub(crate) const SETTING_INITIAL_WINDOW: u16 = 4;

/// A frame's header of nine bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    pub(crate) len: usize,
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
}

impl Header {
    /// Parses a header. `bytes` has at least nine bytes.
    pub(crate) fn read(bytes: &[u8]) -> Header {
        Header {
            len: usize::from(bytes[0]) << 16 | usize::from(bytes[1]) << 8 | usize::from(bytes[2]),
            kind: bytes[3],
            flags: bytes[4],
            stream: u32_at(bytes, 5) & 0x7fff_ffff,
        }
    }

    /// Returns the nine bytes of the header as they are sent.
    pub(crate) fn bytes(self) -> [u8; HEADER_LEN] {
        let len = u32::try_from(self.len).expect("a frame is at most FRAME_LEN_MAX long").to_be_bytes();
        let stream = self.stream.to_be_bytes();
        [len[1], len[2], len[3], self.kind, self.flags, stream[0], stream[1], stream[2], stream[3]]
    }
}

/// Reads four bytes at `at` as a big-endian number.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn put(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.extend_from_slice(&Header { len: payload.len(), kind, flags, stream }.bytes());
    out.extend_from_slice(payload);
}

/// A client's first frame: it disables server push and sets the window of each stream.
pub(crate) fn put_settings(out: &mut Vec<u8>, stream_window: u32) {
    let mut payload = [0; 12];
    payload[..2].copy_from_slice(&SETTING_ENABLE_PUSH.to_be_bytes());
    payload[6..8].copy_from_slice(&SETTING_INITIAL_WINDOW.to_be_bytes());
    payload[8..].copy_from_slice(&stream_window.to_be_bytes());
    put(out, SETTINGS, 0, 0, &payload);
}

/// Acknowledges the server's settings.
pub(crate) fn put_settings_ack(out: &mut Vec<u8>) {
    put(out, SETTINGS, ACK, 0, &[]);
}

/// Acknowledges a ping. grpc-go sizes its windows by the time until then.
pub(crate) fn put_ping_ack(out: &mut Vec<u8>, payload: &[u8]) {
    put(out, PING, ACK, 0, payload);
}

/// Enlarges the server's window.
pub(crate) fn put_window_update(out: &mut Vec<u8>, stream: u32, more: u32) {
    put(out, WINDOW_UPDATE, 0, stream, &more.to_be_bytes());
}

/// Begins a request.
pub(crate) fn put_headers(out: &mut Vec<u8>, stream: u32, block: &[u8]) {
    put(out, HEADERS, END_HEADERS, stream, block);
}
