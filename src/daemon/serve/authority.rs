//! Makes acceptable what gRPC's C core calls a Unix socket.
//!
//! It sends the socket's path, percent-encoded, as `:authority` (`tmp%2Fkache.sock`), and
//! the HTTP/2 implementation here resets a stream whose authority holds a `%`. So no client
//! in C++, Python or Ruby could use the socket; buildbox-casd is one. Each `%` of an authority
//! therefore becomes a `-` on its way in. Nothing changes its length, so no frame has to be
//! put together anew, and nobody reads what a Unix socket is called.
//!
//! It reads the outlines of HTTP/2 frames and of HPACK fields and decodes neither; what is
//! malformed passes as it is, for the implementation behind to refuse. A value in Huffman's
//! code also does: the C core uses none.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::stream::{Duplex, writes_pass};

/// What HTTP/2 begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The pseudo-header, and its index in HPACK's static table.
const NAME: &[u8] = b":authority";
const NAME_INDEX: u32 = 1;

/// Frames that carry fields, and the flags that say what stands before them.
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const PADDED: u8 = 0x08;
const PRIORITY: u8 = 0x20;

/// How many bytes `PRIORITY` announces.
const PRIORITY_BYTES: u32 = 5;

/// A stream whose authorities are acceptable.
pub(super) struct Tamed<S> {
    stream: S,
    filter: Filter,
}

impl<S> Tamed<S> {
    /// Before anything was read.
    pub(super) fn new(stream: S) -> Self {
        Tamed { stream, filter: Filter::default() }
    }
}

impl<S: Duplex> AsyncRead for Tamed<S> {
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

writes_pass!(Tamed);

/// Where in the connection the next byte is.
#[derive(Debug)]
enum Place {
    /// So far into the preface.
    Preface(usize),
    /// So far into a frame's nine bytes.
    Frame([u8; 9], usize),
    /// In a padded frame of fields, before the padding's length.
    PadLength { left: u32, priority: u32 },
    /// Before the fields: so many bytes to skip, then so many of fields, then padding.
    Skip { left: u32, fields: u32, padding: u32 },
    /// Among fields, with so many bytes of them to come, then padding.
    Fields { left: u32, padding: u32 },
    /// Not HTTP/2, or malformed: nothing is touched any more.
    Foreign,
}

/// Rewrites what a client sends, however it is cut up.
#[derive(Debug)]
struct Filter {
    place: Place,
    field: Field,
}

impl Default for Filter {
    fn default() -> Self {
        Filter { place: Place::Preface(0), field: Field::Begin }
    }
}

impl Filter {
    fn pass(&mut self, mut bytes: &mut [u8]) {
        while !bytes.is_empty() {
            let taken = match &mut self.place {
                Place::Foreign => return,
                // Most of what comes is blobs: over those it takes one step.
                Place::Skip { left, .. } if *left > 0 => {
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

    /// One byte that is not skipped.
    fn step(&mut self, byte: &mut u8) {
        match &mut self.place {
            Place::Preface(at) if *byte == PREFACE[*at] => *at += 1,
            Place::Preface(_) => self.place = Place::Foreign,
            Place::Frame(head, at) => {
                head[*at] = *byte;
                *at += 1;
            }
            Place::PadLength { left, priority } => {
                let padding = u32::from(*byte);
                self.place = match left.checked_sub(1 + *priority + padding) {
                    Some(fields) => Place::Skip { left: *priority, fields, padding },
                    None => Place::Foreign,
                };
            }
            Place::Fields { left, .. } => {
                *left -= 1;
                match self.field.step(byte) {
                    Some(field) => self.field = field,
                    None => self.place = Place::Foreign,
                }
            }
            Place::Skip { .. } | Place::Foreign => {}
        }
    }

    /// Goes on from places that are at their end.
    fn settle(&mut self) {
        loop {
            self.place = match self.place {
                Place::Preface(at) if at == PREFACE.len() => Place::Frame([0; 9], 0),
                Place::Frame(head, 9) => self.begin_frame(head),
                Place::Skip { left: 0, fields: 0, padding: 0 } | Place::Fields { left: 0, padding: 0 } => {
                    Place::Frame([0; 9], 0)
                }
                Place::Skip { left: 0, fields: 0, padding } | Place::Fields { left: 0, padding } => {
                    Place::Skip { left: padding, fields: 0, padding: 0 }
                }
                Place::Skip { left: 0, fields, padding } => Place::Fields { left: fields, padding },
                _ => return,
            };
        }
    }

    fn begin_frame(&mut self, head: [u8; 9]) -> Place {
        let [a, b, c, kind, flags, ..] = head;
        let left = u32::from_be_bytes([0, a, b, c]);
        match kind {
            HEADERS => {
                self.field = Field::Begin;
                let priority = if flags & PRIORITY == 0 { 0 } else { PRIORITY_BYTES };
                if flags & PADDED != 0 && left > 0 {
                    return Place::PadLength { left, priority };
                }
                match left.checked_sub(priority) {
                    Some(fields) => Place::Skip { left: priority, fields, padding: 0 },
                    None => Place::Foreign,
                }
            }
            CONTINUATION => Place::Skip { left: 0, fields: left, padding: 0 },
            _ => Place::Skip { left, fields: 0, padding: 0 },
        }
    }
}

/// What an integer is, once it is whole.
#[derive(Clone, Copy, Debug)]
enum Meaning {
    /// A field or a table's size that needs nothing more.
    Whole,
    /// The index of a name that is in a table, or 0.
    Index,
    /// The length of a name.
    NameLen { huffman: bool },
    /// The length of a value.
    ValueLen { ours: bool },
}

/// Where in a field the next byte is.
#[derive(Clone, Copy, Debug)]
enum Field {
    /// At its beginning.
    Begin,
    /// In an integer that did not fit into its first byte.
    Integer { meaning: Meaning, value: u32, shift: u32 },
    /// Before the length of a name.
    NameLen,
    /// In a name: so much to come, and how much of ours was matched.
    Name { left: u32, matched: Option<usize> },
    /// Before the length of a value.
    ValueLen { is_authority: bool },
    /// In a value, and whether it is one to rewrite.
    Value { left: u32, ours: bool },
}

impl Field {
    /// What the next byte leads to; `None` if it is malformed.
    fn step(self, byte: &mut u8) -> Option<Field> {
        let next = match self {
            Field::Begin => match *byte {
                0x80.. => integer(*byte, 7, Meaning::Whole),
                0x40.. => integer(*byte, 6, Meaning::Index),
                0x20.. => integer(*byte, 5, Meaning::Whole),
                _ => integer(*byte, 4, Meaning::Index),
            },
            Field::Integer { meaning, value, shift } => {
                // Lengths beyond 2^28 are in no frame.
                let more = u32::from(*byte & 0x7f).checked_shl(shift).filter(|_| shift <= 21)?;
                let value = value.checked_add(more)?;
                if *byte & 0x80 == 0 {
                    meaning.whole(value)
                } else {
                    Field::Integer { meaning, value, shift: shift + 7 }
                }
            }
            Field::NameLen => integer(*byte, 7, Meaning::NameLen { huffman: *byte & 0x80 != 0 }),
            Field::Name { left, matched } => {
                let matched = matched.filter(|at| NAME.get(*at) == Some(byte)).map(|at| at + 1);
                name(left - 1, matched)
            }
            Field::ValueLen { is_authority } => {
                let ours = is_authority && *byte & 0x80 == 0;
                integer(*byte, 7, Meaning::ValueLen { ours })
            }
            Field::Value { left, ours } => {
                if ours && *byte == b'%' {
                    *byte = b'-';
                }
                value(left - 1, ours)
            }
        };
        Some(next)
    }
}

impl Meaning {
    fn whole(self, number: u32) -> Field {
        match self {
            Meaning::Whole => Field::Begin,
            Meaning::Index if number == 0 => Field::NameLen,
            Meaning::Index => Field::ValueLen { is_authority: number == NAME_INDEX },
            Meaning::NameLen { huffman } => name(number, (!huffman).then_some(0)),
            Meaning::ValueLen { ours } => value(number, ours),
        }
    }
}

/// An integer whose first byte has so many bits of it (RFC 7541, 5.1).
fn integer(byte: u8, bits: u32, meaning: Meaning) -> Field {
    let most = (1 << bits) - 1;
    let value = u32::from(byte) & most;
    if value < most { meaning.whole(value) } else { Field::Integer { meaning, value, shift: 0 } }
}

fn name(left: u32, matched: Option<usize>) -> Field {
    if left > 0 {
        return Field::Name { left, matched };
    }
    Field::ValueLen { is_authority: matched == Some(NAME.len()) }
}

fn value(left: u32, ours: bool) -> Field {
    if left == 0 { Field::Begin } else { Field::Value { left, ours } }
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

    /// A field as the C core writes it: a literal with incremental indexing, no table, no code.
    fn literal(name: &str, value: &str) -> Vec<u8> {
        let sizes = [name.len(), value.len()].map(|len| u8::try_from(len).unwrap());
        [&[0x40, sizes[0]], name.as_bytes(), &[sizes[1]], value.as_bytes()].concat()
    }

    /// Passes it whole and cut everywhere; the outcome must be the same.
    fn check(sent: &[u8], expected: &[u8]) {
        for cut in 0..=sent.len() {
            let mut bytes = sent.to_vec();
            let mut filter = Filter::default();
            let (first, second) = bytes.split_at_mut(cut);
            filter.pass(first);
            filter.pass(second);
            assert_eq!(bytes.escape_ascii().to_string(), expected.escape_ascii().to_string(), "cut at {cut}");
        }
        let mut bytes = sent.to_vec();
        let mut filter = Filter::default();
        bytes.iter_mut().for_each(|byte| filter.pass(std::slice::from_mut(byte)));
        assert_eq!(bytes, expected);
    }

    /// The fields of a call, with this authority.
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
    fn fields_are_found_behind_padding_priority_and_in_continuations() {
        let of = |authority: &str| {
            let fields = call(authority);
            let padded = [&[3], &[0; 5][..], &fields, b"%%%"].concat();
            let (first, second) = fields.split_at(20);
            connection(&[frame(1, 0x2c, &padded), frame(1, 0, first), frame(9, 0, b""), frame(9, 4, second)])
        };
        check(&of("a%2Fb"), &of("a-2Fb"));
    }

    #[test]
    fn names_from_the_table_and_long_values_are_understood() {
        let of = |sign: &str| {
            let long = sign.repeat(300);
            // 300 is 127 + 173, and 173 is 0b1_0101101.
            let fields = [&[0x01, 0x7f, 0xad, 0x01], long.as_bytes(), &literal("x", "%")].concat();
            connection(&[frame(1, 4, &fields)])
        };
        check(&of("%"), &of("-"));
    }

    #[test]
    fn what_is_not_understood_passes() {
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
