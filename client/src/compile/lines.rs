//! Cuts the messages of a compiler into whole lines, as they arrive (RST-08), and replaces paths in
//! them.
//!
//! Pure. Whole lines are returned at once; an unfinished line waits for its end or the end of the
//! stream. Replacements are made only in what is printed, never in what is reported to the daemon.

use kache_proto::control::Replacement;

/// The unfinished line of one stream of a compiler.
#[derive(Debug, Default)]
pub(crate) struct LineBuffer {
    unfinished: Vec<u8>,
}

impl LineBuffer {
    /// Takes bytes as they were read and returns all lines that are whole now, if there are any.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |index| index + 1);
        let (finished, unfinished) = bytes.split_at(end);
        if finished.is_empty() {
            self.unfinished.extend_from_slice(unfinished);
            return None;
        }
        let mut lines = std::mem::replace(&mut self.unfinished, unfinished.to_vec());
        lines.extend_from_slice(finished);
        Some(lines)
    }

    /// Returns the unfinished line, if there is one: the stream is at its end.
    pub(crate) fn finish(&mut self) -> Option<Vec<u8>> {
        let rest = std::mem::take(&mut self.unfinished);
        (!rest.is_empty()).then_some(rest)
    }
}

/// Returns the bytes with all replacements made, one after the other.
pub(crate) fn replace_all(bytes: &[u8], replacements: &[Replacement]) -> Vec<u8> {
    let usable = replacements.iter().filter(|one| !one.from.is_empty());
    usable.fold(bytes.to_vec(), |bytes, one| replace(&bytes, &one.from, &one.to))
}

fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut replaced = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while !rest.is_empty() {
        match rest.strip_prefix(from) {
            Some(after) => {
                replaced.extend_from_slice(to);
                rest = after;
            }
            None => {
                replaced.push(rest[0]);
                rest = &rest[1..];
            }
        }
    }
    replaced
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rst_08_lines_are_returned_whole_and_at_once() {
        let mut lines = LineBuffer::default();
        assert_eq!(lines.push(b"a"), None);
        assert_eq!(lines.push(b"b\nc\nd").as_deref(), Some(&b"ab\nc\n"[..]));
        assert_eq!(lines.push(b"e"), None);
        assert_eq!(lines.push(b"\n").as_deref(), Some(&b"de\n"[..]));
        assert_eq!(lines.finish(), None);
        lines.push(b"no end");
        assert_eq!(lines.finish().as_deref(), Some(&b"no end"[..]));
        assert_eq!(lines.finish(), None);
    }

    #[test]
    fn replacements_are_made_everywhere_and_in_order() {
        let one = |from: &'static str, to: &'static str| Replacement { from: from.into(), to: to.into() };
        for (text, replacements, expected) in [
            ("a/x/b/x", vec![one("/x", "/yy")], "a/yy/b/yy"),
            ("abc", vec![one("a", "b"), one("b", "c")], "ccc"),
            ("abc", vec![one("", "z")], "abc"),
            ("abc", vec![], "abc"),
        ] {
            assert_eq!(replace_all(text.as_bytes(), &replacements), expected.as_bytes());
        }
    }
}
