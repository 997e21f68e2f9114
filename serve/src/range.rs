//! Reads a `Range` header (RFC 9110 §14) for a body of a given length.
//!
//! Pure. One byte range is honoured. Several ranges, other units and malformed values are
//! ignored, as the RFC requires, so the whole body is sent. Bazel sends `bytes=N-` to continue an
//! interrupted download.
//!
//! Invariant: an `Extent::Part` is not empty and lies within that length.

/// The part of a body that is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// All of it, with status 200.
    Whole,
    /// A part of it, with status 206.
    Part {
        /// The offset of the first byte.
        start: u64,
        /// The number of bytes, at least one.
        len: u64,
    },
    /// Nothing, because the range begins past the end. The status is 416.
    Unsatisfiable,
}

/// The longest header that is read, in bytes. Longer ones hold many ranges and are ignored.
const HEADER_BYTES_MAX: usize = 128;

/// The part of a body of `len` bytes that the header requests.
pub fn extent(header: Option<&[u8]>, len: u64) -> Extent {
    header.and_then(single_range).map_or(Extent::Whole, |range| range.resolve(len))
}

/// A range as it is written in the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Range {
    /// `first-` or `first-last`, with both offsets inclusive.
    From { first: u64, last: u64 },
    /// `-len`: the last bytes.
    Suffix { len: u64 },
}

fn single_range(header: &[u8]) -> Option<Range> {
    if header.len() > HEADER_BYTES_MAX {
        return None;
    }
    let (unit, range) = std::str::from_utf8(header).ok()?.trim().split_once('=')?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (first, last) = range.trim().split_once('-')?;
    if first.is_empty() {
        return Some(Range::Suffix { len: number(last)? });
    }
    let first = number(first)?;
    let last = if last.is_empty() { u64::MAX } else { number(last)? };
    (first <= last).then_some(Range::From { first, last })
}

/// Parses digits; `str::parse` alone would accept a sign. A number that is too large becomes
/// `u64::MAX`, which lies past every end as well.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

impl Range {
    fn resolve(self, len: u64) -> Extent {
        match self {
            Range::From { first, .. } if first >= len => Extent::Unsatisfiable,
            Range::From { first, last } => {
                let end = last.min(len - 1);
                Extent::Part { start: first, len: end - first + 1 }
            }
            Range::Suffix { len: 0 } => Extent::Unsatisfiable,
            // `Content-Range` cannot name a part of an empty body.
            Range::Suffix { .. } if len == 0 => Extent::Whole,
            Range::Suffix { len: wanted } => {
                let wanted = wanted.min(len);
                Extent::Part { start: len - wanted, len: wanted }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn part(start: u64, len: u64) -> Extent {
        Extent::Part { start, len }
    }

    #[test]
    fn ranges_are_read_as_the_rfc_requires() {
        use Extent::{Unsatisfiable, Whole};
        for (header, len, expected) in [
            ("bytes=0-", 10, part(0, 10)),
            ("bytes=0-0", 10, part(0, 1)),
            ("bytes=3-5", 10, part(3, 3)),
            ("bytes=3-99", 10, part(3, 7)),
            ("bytes=9-", 10, part(9, 1)),
            ("bytes=9-99999999999999999999999", 10, part(9, 1)),
            ("bytes=10-", 10, Unsatisfiable),
            ("bytes=99999999999999999999999-", 10, Unsatisfiable),
            ("bytes=0-", 0, Unsatisfiable),
            ("bytes=-3", 10, part(7, 3)),
            ("bytes=-99", 10, part(0, 10)),
            ("bytes=-0", 10, Unsatisfiable),
            ("bytes=-1", 0, Whole),
            ("Bytes= 1-2 ", 10, part(1, 2)),
            ("bytes=0-18446744073709551615", u64::MAX, part(0, u64::MAX)),
            // A header that is not one well-formed range of bytes is ignored.
            ("", 10, Whole),
            ("bytes", 10, Whole),
            ("bytes=", 10, Whole),
            ("bytes=-", 10, Whole),
            ("bytes=5-3", 10, Whole),
            ("bytes=+1-2", 10, Whole),
            ("bytes=0-1,3-4", 10, Whole),
            ("lines=0-1", 10, Whole),
        ] {
            assert_eq!(extent(Some(header.as_bytes()), len), expected, "{header} of {len}");
        }
        assert_eq!(extent(None, 10), Whole);
        assert_eq!(extent(Some(b"bytes=\xff-"), 10), Whole);
        assert_eq!(extent(Some(&[b'1'; 1000]), 10), Whole);
    }
}
