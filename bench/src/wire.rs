//! Encodes protobuf messages and gRPC headers, for requests whose parts are encoded before the clock starts.
//!
//! It does not know what a field number means; `requests` does.

use bytes::Bytes;

/// A protobuf message that is being encoded. Fields are encoded in the order in which they are added.
#[derive(Clone, Debug, Default)]
pub(crate) struct Message(Vec<u8>);

impl Message {
    /// Adds a length-delimited field.
    pub(crate) fn bytes(mut self, field: u32, value: &[u8]) -> Message {
        self.open(field, value.len());
        self.0.extend_from_slice(value);
        self
    }

    /// Adds a varint field.
    pub(crate) fn number(mut self, field: u32, value: u64) -> Message {
        put_varint(&mut self.0, u64::from(field << 3));
        put_varint(&mut self.0, value);
        self
    }

    /// Adds a message field.
    pub(crate) fn message(self, field: u32, value: &Message) -> Message {
        self.bytes(field, &value.0)
    }

    /// Begins a length-delimited field whose `len` bytes the caller sends separately.
    pub(crate) fn open(&mut self, field: u32, len: usize) {
        put_varint(&mut self.0, u64::from(field << 3 | 2));
        put_varint(&mut self.0, len as u64);
    }

    /// The number of bytes.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The bytes with the header of a gRPC message.
    pub(crate) fn framed(&self) -> Bytes {
        self.framed_before(0)
    }

    /// The bytes with the header of a gRPC message that has `following` more bytes, which the caller sends
    /// separately.
    pub(crate) fn framed_before(&self, following: usize) -> Bytes {
        let len = u32::try_from(self.0.len() + following).expect("a gRPC message is shorter than 4 GiB");
        let mut framed = Vec::with_capacity(5 + self.0.len());
        framed.push(0);
        framed.extend_from_slice(&len.to_be_bytes());
        framed.extend_from_slice(&self.0);
        Bytes::from(framed)
    }

    /// The bytes without a header.
    pub(crate) fn into_bytes(self) -> Bytes {
        Bytes::from(self.0)
    }
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// The length of a number as a varint.
pub(crate) fn varint_len(value: u64) -> usize {
    (value | 1).ilog2() as usize / 7 + 1
}

/// Splits the body of a response into its messages.
pub(crate) fn messages(mut body: &[u8]) -> Vec<&[u8]> {
    let mut messages = Vec::new();
    while let Some((header, rest)) = body.split_at_checked(5) {
        let len = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
        let (message, after) = rest.split_at(len.min(rest.len()));
        messages.push(message);
        body = after;
    }
    messages
}

#[cfg(test)]
mod tests {
    use kache_proto::Message as _;
    use kache_proto::reapi::Digest;

    use super::*;

    #[test]
    fn the_encoding_is_that_of_prost() {
        for size in [1, 127, 128, 300, 70_000, u64::MAX >> 1] {
            let ours = Message::default().bytes(1, b"ab").number(2, size);
            let theirs = Digest { hash: "ab".to_owned(), size_bytes: size as i64 }.encode_to_vec();
            assert_eq!(ours.into_bytes(), theirs);
            assert_eq!(varint_len(size), theirs.len() - 5);
        }
    }
}
