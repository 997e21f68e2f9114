//! Header compression (RFC 7541): encodes the header blocks of requests, and decodes those of responses.
//!
//! A connection of the load generator calls one method only. Its first request puts all fields into the server's
//! table, and each later one has a few bytes, as with other HTTP/2 clients. Responses are decoded completely,
//! because each may change the table.

use std::collections::VecDeque;

use anyhow::{Context, Result, bail};

use super::huffman::Huffman;

/// The default size of the table, counted as the protocol does.
const TABLE_BYTES_MAX: usize = 4096;

/// The size of an entry in addition to its text, as the protocol counts.
const ENTRY_BYTES: usize = 32;

/// The static table. Its first entry has index 1.
#[rustfmt::skip]
const STATIC: [(&str, &str); 61] = [
    (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", "/"), (":path", "/index.html"),
    (":scheme", "http"), (":scheme", "https"), (":status", "200"), (":status", "204"), (":status", "206"),
    (":status", "304"), (":status", "400"), (":status", "404"), (":status", "500"), ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"), ("accept-language", ""), ("accept-ranges", ""), ("accept", ""),
    ("access-control-allow-origin", ""), ("age", ""), ("allow", ""), ("authorization", ""),
    ("cache-control", ""), ("content-disposition", ""), ("content-encoding", ""), ("content-language", ""),
    ("content-length", ""), ("content-location", ""), ("content-range", ""), ("content-type", ""),
    ("cookie", ""), ("date", ""), ("etag", ""), ("expect", ""), ("expires", ""), ("from", ""), ("host", ""),
    ("if-match", ""), ("if-modified-since", ""), ("if-none-match", ""), ("if-range", ""),
    ("if-unmodified-since", ""), ("last-modified", ""), ("link", ""), ("location", ""), ("max-forwards", ""),
    ("proxy-authenticate", ""), ("proxy-authorization", ""), ("range", ""), ("referer", ""), ("refresh", ""),
    ("retry-after", ""), ("server", ""), ("set-cookie", ""), ("strict-transport-security", ""),
    ("transfer-encoding", ""), ("user-agent", ""), ("vary", ""), ("via", ""), ("www-authenticate", ""),
];

/// The header blocks of a connection that calls one method: that of the first request, which fills the server's
/// table, and that of later requests, which refers to the table.
pub(crate) struct RequestBlocks {
    pub(crate) first: Vec<u8>,
    pub(crate) later: Vec<u8>,
}

impl RequestBlocks {
    pub(crate) fn new(authority: &str, path: &str) -> RequestBlocks {
        let fields = [
            (":path", path),
            (":authority", authority),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            ("user-agent", "kache-bench"),
        ];
        // Indexed fields of the static table: `:method: POST` and `:scheme: http`.
        let (mut first, mut later) = (vec![0x83, 0x86], vec![0x83, 0x86]);
        for (position, (name, value)) in fields.iter().enumerate() {
            first.push(0x40);
            for text in [name, value] {
                first.push(u8::try_from(text.len()).expect("our header fields are short"));
                first.extend_from_slice(text.as_bytes());
            }
            let from_newest = fields.len() - 1 - position;
            later.push(0x80 | u8::try_from(STATIC.len() + 1 + from_newest).expect("the table is small"));
        }
        RequestBlocks { first, later }
    }
}

/// The fields of a response's block that the load generator needs.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Fields {
    pub(crate) grpc_status: Option<u32>,
    pub(crate) grpc_message: Option<String>,
}

/// Decodes the blocks of one connection, which must be passed in order.
pub(crate) struct Decoder {
    huffman: Huffman,
    /// The dynamic table, the newest entry first.
    table: VecDeque<(String, String)>,
    table_bytes: usize,
    table_bytes_max: usize,
}

impl Decoder {
    pub(crate) fn new() -> Decoder {
        Decoder {
            huffman: Huffman::new(),
            table: VecDeque::new(),
            table_bytes: 0,
            table_bytes_max: TABLE_BYTES_MAX,
        }
    }

    /// Decodes one complete block.
    pub(crate) fn decode(&mut self, block: &[u8]) -> Result<Fields> {
        let mut fields = Fields::default();
        let mut rest = block;
        while let Some(&byte) = rest.first() {
            match byte {
                0x80.. => {
                    let index = integer(&mut rest, 7)?;
                    let (name, value) = self.entry(index)?;
                    note(&mut fields, name, value);
                }
                0x40.. => {
                    let (name, value) = self.literal(&mut rest, 6)?;
                    note(&mut fields, &name, &value);
                    self.insert(name, value);
                }
                0x20.. => {
                    self.table_bytes_max = integer(&mut rest, 5)?;
                    self.shrink();
                }
                _ => {
                    let (name, value) = self.literal(&mut rest, 4)?;
                    note(&mut fields, &name, &value);
                }
            }
        }
        Ok(fields)
    }

    fn entry(&self, index: usize) -> Result<(&str, &str)> {
        if let Some(entry) = index.checked_sub(1).and_then(|index| STATIC.get(index)) {
            return Ok(*entry);
        }
        let entry = index.checked_sub(STATIC.len() + 1).and_then(|index| self.table.get(index));
        let (name, value) = entry.with_context(|| format!("header index {index} names nothing"))?;
        Ok((name, value))
    }

    fn literal(&self, rest: &mut &[u8], prefix_bits: u32) -> Result<(String, String)> {
        let name = match integer(rest, prefix_bits)? {
            0 => self.text(rest)?,
            index => self.entry(index)?.0.to_owned(),
        };
        Ok((name, self.text(rest)?))
    }

    fn text(&self, rest: &mut &[u8]) -> Result<String> {
        let is_huffman = rest.first().is_some_and(|byte| byte & 0x80 != 0);
        let len = integer(rest, 7)?;
        let (text, after) = rest.split_at_checked(len).context("a header block is cut short")?;
        *rest = after;
        Ok(if is_huffman { self.huffman.decode(text) } else { String::from_utf8_lossy(text).into_owned() })
    }

    fn insert(&mut self, name: String, value: String) {
        self.table_bytes += name.len() + value.len() + ENTRY_BYTES;
        self.table.push_front((name, value));
        self.shrink();
    }

    fn shrink(&mut self) {
        while self.table_bytes > self.table_bytes_max {
            let Some((name, value)) = self.table.pop_back() else { break };
            self.table_bytes -= name.len() + value.len() + ENTRY_BYTES;
        }
    }
}

fn note(fields: &mut Fields, name: &str, value: &str) {
    match name {
        "grpc-status" => fields.grpc_status = value.parse().ok(),
        "grpc-message" => fields.grpc_message = Some(value.to_owned()),
        _ => {}
    }
}

/// Decodes an integer that begins in the low `prefix_bits` bits of the first byte.
fn integer(rest: &mut &[u8], prefix_bits: u32) -> Result<usize> {
    let full = (1usize << prefix_bits) - 1;
    let (&first, mut after) = rest.split_first().context("a header block is cut short")?;
    let mut value = usize::from(first) & full;
    if value == full {
        for shift in (0..).step_by(7) {
            let Some((&byte, more)) = after.split_first() else { bail!("a header block is cut short") };
            after = more;
            if shift > 28 {
                bail!("a header block has an integer beyond reason");
            }
            value += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
    }
    *rest = after;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_a_response_are_found_in_the_dynamic_table() {
        let mut decoder = Decoder::new();
        let mut block = vec![0x88, 0x40, 11];
        block.extend_from_slice(b"grpc-status");
        block.extend_from_slice(&[1, b'0']);
        let fields = decoder.decode(&block).expect("well-formed");
        assert_eq!(fields.grpc_status, Some(0));
        assert_eq!(decoder.decode(&[0xbe]).expect("well-formed").grpc_status, Some(0));
        assert!(decoder.decode(&[0xbf]).is_err());
        assert_eq!(decoder.decode(&[0x20]).expect("a size update"), Fields::default());
        assert!(decoder.decode(&[0xbe]).is_err(), "a table of size 0 is empty");
    }

    #[test]
    fn later_blocks_decode_to_the_fields_of_the_first() {
        let blocks = RequestBlocks::new("localhost:1", "/a.B/C");
        let mut decoder = Decoder::new();
        decoder.decode(&blocks.first).expect("well-formed");
        assert_eq!(decoder.table.len(), 5);
        let index_of_path = usize::from(blocks.later[2] & 0x7f);
        assert_eq!(decoder.entry(index_of_path).expect("there"), (":path", "/a.B/C"));
        decoder.decode(&blocks.later).expect("well-formed");
    }
}
