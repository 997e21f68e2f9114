//! Replaces `%` in the `:authority` of HTTP/2 requests on the Unix socket.
//!
//! gRPC's C core sends the percent-encoded path of the socket as `:authority`
//! (`tmp%2Fkache.sock`), and the `h2` crate resets a stream whose authority holds a `%`. So no
//! client in C++, Python or Ruby, such as buildbox-casd, could use the socket. Each `%` of an
//! authority therefore becomes a `-` before `h2` reads it. The length of a field stays the
//! same, so frames need not be built again, and no part of the server uses the authority of a
//! Unix socket.
//!
//! The filter follows the lengths of HTTP/2 frames and HPACK fields and decodes nothing else.
//! Malformed bytes pass unchanged, and `h2` refuses them. Huffman-coded values pass unchanged,
//! too: the C core does not use them.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::stream::Duplex;

/// The first bytes of every HTTP/2 connection.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The name of the pseudo-header, and its index in HPACK's static table.
const NAME: &[u8] = b":authority";
const NAME_INDEX: u32 = 1;

/// The types of frames that carry header fields, and the flags that announce bytes before the
/// fields.
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const PADDED: u8 = 0x08;
const PRIORITY: u8 = 0x20;

/// How many bytes the flag `PRIORITY` announces.
const PRIORITY_BYTES: u32 = 5;

/// A stream on which authorities are rewritten as they are read. Writes are passed on.
pub(super) struct AuthorityStream<S> {
    stream: S,
    filter: AuthorityFilter,
}

impl<S> AuthorityStream<S> {
    /// Wraps a stream from which nothing has been read.
    pub(super) fn new(stream: S) -> Self {
        AuthorityStream { stream, filter: AuthorityFilter::default() }
    }
}

impl<S: Duplex> AsyncRead for AuthorityStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut this.stream).poll_read(context, buffer);
        this.filter.pass(&mut buffer.filled_mut()[before..]);
        outcome
    }
}

impl<S: Duplex> AsyncWrite for AuthorityStream<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

/// Where in the connection the next byte lies.
#[derive(Debug)]
enum FrameState {
    /// In the preface, after this many bytes of it.
    Preface(usize),
    /// In the nine bytes that head a frame, after this many of them.
    Frame([u8; 9], usize),
    /// Before the byte with the length of the padding. `left` bytes of the frame are to come.
    PadLength { left: u32, priority: u32 },
    /// In bytes that are skipped: `left` of them, then `fields` bytes of header fields, then
    /// `padding` bytes.
    Skip { left: u32, fields: u32, padding: u32 },
    /// In header fields: `left` bytes of them are to come, then `padding` bytes.
    Fields { left: u32, padding: u32 },
    /// The connection is not HTTP/2 or is malformed: no more bytes are changed.
    Unreadable,
}

/// Rewrites the bytes of a client. It keeps its state between calls, so the bytes may come in
/// pieces of any size.
#[derive(Debug)]
struct AuthorityFilter {
    state: FrameState,
    field: FieldState,
}

impl Default for AuthorityFilter {
    fn default() -> Self {
        AuthorityFilter { state: FrameState::Preface(0), field: FieldState::Begin }
    }
}

impl AuthorityFilter {
    /// Rewrites the next bytes of the connection in place.
    fn pass(&mut self, mut bytes: &mut [u8]) {
        while !bytes.is_empty() {
            let taken = match &mut self.state {
                FrameState::Unreadable => return,
                // Most bytes are those of blobs, which are skipped in one step.
                FrameState::Skip { left, .. } if *left > 0 => {
                    let len = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= u32::try_from(len).expect("it is not more than `left`");
                    len
                }
                _ => {
                    self.step(&mut bytes[0]);
                    1
                }
            };
            bytes = &mut bytes[taken..];
            self.settle();
        }
    }

    /// Advances over one byte that is not skipped.
    fn step(&mut self, byte: &mut u8) {
        match &mut self.state {
            FrameState::Preface(at) if *byte == PREFACE[*at] => *at += 1,
            FrameState::Preface(_) => self.state = FrameState::Unreadable,
            FrameState::Frame(head, at) => {
                head[*at] = *byte;
                *at += 1;
            }
            FrameState::PadLength { left, priority } => {
                let padding = u32::from(*byte);
                self.state = match left.checked_sub(1 + *priority + padding) {
                    // The priority fields of a HEADERS frame precede the header block.
                    Some(fields) => FrameState::Skip { left: *priority, fields, padding },
                    None => FrameState::Unreadable,
                };
            }
            FrameState::Fields { left, .. } => {
                *left -= 1;
                match self.field.step(byte) {
                    Some(field) => self.field = field,
                    None => self.state = FrameState::Unreadable,
                }
            }
            FrameState::Skip { .. } | FrameState::Unreadable => {}
        }
    }

    /// Leaves states that have no bytes left, until one has.
    fn settle(&mut self) {
        loop {
            self.state = match self.state {
                FrameState::Preface(at) if at == PREFACE.len() => FrameState::Frame([0; 9], 0),
                FrameState::Frame(head, 9) => self.begin_frame(head),
                FrameState::Skip { left: 0, fields: 0, padding: 0 }
                | FrameState::Fields { left: 0, padding: 0 } => FrameState::Frame([0; 9], 0),
                FrameState::Skip { left: 0, fields: 0, padding }
                | FrameState::Fields { left: 0, padding } => {
                    FrameState::Skip { left: padding, fields: 0, padding: 0 }
                }
                FrameState::Skip { left: 0, fields, padding } => FrameState::Fields { left: fields, padding },
                _ => return,
            };
        }
    }

    /// The state after the head of a frame.
    fn begin_frame(&mut self, head: [u8; 9]) -> FrameState {
        let [a, b, c, kind, flags, ..] = head;
        let left = u32::from_be_bytes([0, a, b, c]);
        match kind {
            HEADERS => {
                self.field = FieldState::Begin;
                let priority = if flags & PRIORITY == 0 { 0 } else { PRIORITY_BYTES };
                if flags & PADDED != 0 && left > 0 {
                    return FrameState::PadLength { left, priority };
                }
                match left.checked_sub(priority) {
                    Some(fields) => FrameState::Skip { left: priority, fields, padding: 0 },
                    None => FrameState::Unreadable,
                }
            }
            CONTINUATION => FrameState::Skip { left: 0, fields: left, padding: 0 },
            _ => FrameState::Skip { left, fields: 0, padding: 0 },
        }
    }
}

/// The meaning of an HPACK integer.
#[derive(Clone, Copy, Debug)]
enum IntegerRole {
    /// The index of a whole field, or the size of the table: nothing follows.
    Whole,
    /// The index of a name in the table, or 0 if the name follows.
    Index,
    /// The length of a name.
    NameLen { huffman: bool },
    /// The length of a value, and whether it is to be rewritten.
    ValueLen { is_authority_value: bool },
}

/// Where in a header field the next byte lies.
#[derive(Clone, Copy, Debug)]
enum FieldState {
    /// At the first byte of a field.
    Begin,
    /// In an integer that did not fit into its first byte.
    Integer { role: IntegerRole, value: u32, shift: u32 },
    /// Before the length of a name.
    NameLen,
    /// In a name of which `left` bytes are to come. `matched` says how many bytes of `NAME` it
    /// equals so far; `None` if it differs.
    Name { left: u32, matched: Option<usize> },
    /// Before the length of a value.
    ValueLen { is_authority: bool },
    /// In a value of which `left` bytes are to come, and whether it is to be rewritten.
    Value { left: u32, is_authority_value: bool },
}

impl FieldState {
    /// Advances over one byte, which it may rewrite. `None` if the field is malformed.
    fn step(self, byte: &mut u8) -> Option<FieldState> {
        let next = match self {
            FieldState::Begin => match *byte {
                0x80.. => integer(*byte, 7, IntegerRole::Whole),
                0x40.. => integer(*byte, 6, IntegerRole::Index),
                0x20.. => integer(*byte, 5, IntegerRole::Whole),
                _ => integer(*byte, 4, IntegerRole::Index),
            },
            FieldState::Integer { role, value, shift } => {
                // No frame is as long as 2^28 bytes.
                let more = u32::from(*byte & 0x7f).checked_shl(shift).filter(|_| shift <= 21)?;
                let value = value.checked_add(more)?;
                if *byte & 0x80 == 0 {
                    role.whole(value)
                } else {
                    FieldState::Integer { role, value, shift: shift + 7 }
                }
            }
            FieldState::NameLen => integer(*byte, 7, IntegerRole::NameLen { huffman: *byte & 0x80 != 0 }),
            FieldState::Name { left, matched } => {
                let matched = matched.filter(|at| NAME.get(*at) == Some(byte)).map(|at| at + 1);
                name(left - 1, matched)
            }
            FieldState::ValueLen { is_authority } => {
                let is_authority_value = is_authority && *byte & 0x80 == 0;
                integer(*byte, 7, IntegerRole::ValueLen { is_authority_value })
            }
            FieldState::Value { left, is_authority_value } => {
                if is_authority_value && *byte == b'%' {
                    *byte = b'-';
                }
                value(left - 1, is_authority_value)
            }
        };
        Some(next)
    }
}

impl IntegerRole {
    /// The state after an integer of this role and value.
    fn whole(self, number: u32) -> FieldState {
        match self {
            IntegerRole::Whole => FieldState::Begin,
            IntegerRole::Index if number == 0 => FieldState::NameLen,
            IntegerRole::Index => FieldState::ValueLen { is_authority: number == NAME_INDEX },
            IntegerRole::NameLen { huffman } => name(number, (!huffman).then_some(0)),
            IntegerRole::ValueLen { is_authority_value } => value(number, is_authority_value),
        }
    }
}

/// Reads the first byte of an integer that occupies its lowest `bits` bits (RFC 7541, 5.1).
fn integer(byte: u8, bits: u32, role: IntegerRole) -> FieldState {
    let most = (1 << bits) - 1;
    let value = u32::from(byte) & most;
    if value < most { role.whole(value) } else { FieldState::Integer { role, value, shift: 0 } }
}

fn name(left: u32, matched: Option<usize>) -> FieldState {
    if left > 0 {
        return FieldState::Name { left, matched };
    }
    FieldState::ValueLen { is_authority: matched == Some(NAME.len()) }
}

fn value(left: u32, is_authority_value: bool) -> FieldState {
    if left == 0 { FieldState::Begin } else { FieldState::Value { left, is_authority_value } }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&len[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
    }

    fn connection(frames: &[Vec<u8>]) -> Vec<u8> {
        [PREFACE, &frames.concat()].concat()
    }

    /// A field as the C core writes it: a literal with incremental indexing, its name not from
    /// the table, without Huffman coding.
    fn literal(name: &str, value: &str) -> Vec<u8> {
        let sizes = [name.len(), value.len()].map(|len| u8::try_from(len).unwrap());
        [&[0x40, sizes[0]], name.as_bytes(), &[sizes[1]], value.as_bytes()].concat()
    }

    /// Filters the bytes in one piece, in two pieces cut at every place, and byte by byte. The
    /// outcome must always be the same.
    fn check(sent: &[u8], expected: &[u8]) {
        for cut in 0..=sent.len() {
            let mut bytes = sent.to_vec();
            let mut filter = AuthorityFilter::default();
            let (first, second) = bytes.split_at_mut(cut);
            filter.pass(first);
            filter.pass(second);
            assert_eq!(bytes.escape_ascii().to_string(), expected.escape_ascii().to_string(), "cut at {cut}");
        }
        let mut bytes = sent.to_vec();
        let mut filter = AuthorityFilter::default();
        bytes.iter_mut().for_each(|byte| filter.pass(std::slice::from_mut(byte)));
        assert_eq!(bytes, expected);
    }

    /// The header fields of a gRPC request with this authority.
    fn call(authority: &str) -> Vec<u8> {
        let mut fields = literal(":path", "/a%2F");
        fields.extend(literal(":authority", authority));
        fields.extend([0x83, 0x86]);
        fields.extend(literal("user-agent", "50%"));
        fields
    }

    #[test]
    fn an_authority_loses_its_percent_signs_and_nothing_else_changes() {
        let of = |authority: &str| {
            let settings = frame(4, 0, &[0, 2, 0, 0, 0, 0]);
            let data = frame(0, 1, b"\x40\x0a:authority\x03%%%");
            connection(&[
                settings,
                frame(1, 4, &call(authority)),
                data.clone(),
                frame(1, 4, &call(authority)),
                data,
            ])
        };
        check(&of("tmp%2Fa%20b.sock"), &of("tmp-2Fa-20b.sock"));
        check(&of("localhost"), &of("localhost"));
    }

    #[test]
    fn authorities_behind_padding_and_priority_and_in_continuations_are_rewritten() {
        let of = |authority: &str| {
            let fields = call(authority);
            let padded = [&[3], &[0; 5][..], &fields, b"%%%"].concat();
            let (first, second) = fields.split_at(20);
            connection(&[frame(1, 0x2c, &padded), frame(1, 0, first), frame(9, 0, b""), frame(9, 4, second)])
        };
        check(&of("a%2Fb"), &of("a-2Fb"));
    }

    #[test]
    fn authorities_named_by_index_and_long_values_are_rewritten() {
        let of = |sign: &str| {
            let long = sign.repeat(300);
            // 300 is 127 + 173, and 173 is 0b1_0101101.
            let fields = [&[0x01, 0x7f, 0xad, 0x01], long.as_bytes(), &literal("x", "%")].concat();
            connection(&[frame(1, 4, &fields)])
        };
        check(&of("%"), &of("-"));
    }

    #[test]
    fn malformed_and_coded_bytes_pass_unchanged() {
        let http = b"GET /:authority HTTP/1.1\r\n:authority: a%2Fb\r\n\r\n";
        check(http, http);
        let coded = connection(&[frame(1, 4, &[0x41, 0x83, b'%', b'%', b'%'])]);
        check(&coded, &coded);
        let endless = [&[0x41, 0x7f][..], &[0xff; 8], b"%%%"].concat();
        let endless = connection(&[frame(1, 4, &endless), frame(1, 4, &call("a%b"))]);
        check(&endless, &endless);
        let padding = connection(&[frame(1, 8, &[200, 0]), frame(1, 4, &call("a%b"))]);
        check(&padding, &padding);
        let short = connection(&[frame(1, 0x20, &[0]), frame(1, 4, &call("a%b"))]);
        check(&short, &short);
    }
}
