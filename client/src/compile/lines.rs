//! What a compiler says, cut into lines as it comes (RST-08).
//!
//! Pure. Whole lines are let through at once; what follows the last line's end waits for
//! more, or for the end. What is let through may name other paths than what was said; what is
//! reported never does.

use kache_proto::control::Replacement;

/// One stream of a compiler.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    begun: Vec<u8>,
}

impl Lines {
    /// Takes what came; the whole lines that there are now.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |index| index + 1);
        let (now, later) = bytes.split_at(end);
        if now.is_empty() {
            self.begun.extend_from_slice(later);
            return None;
        }
        let mut whole = std::mem::replace(&mut self.begun, later.to_vec());
        whole.extend_from_slice(now);
        Some(whole)
    }

    /// The stream is at its end: a last line need not be whole.
    pub(crate) fn finish(&mut self) -> Option<Vec<u8>> {
        let rest = std::mem::take(&mut self.begun);
        (!rest.is_empty()).then_some(rest)
    }
}

/// The same bytes with every replacement made, in order.
pub(crate) fn replaced(bytes: &[u8], replacements: &[Replacement]) -> Vec<u8> {
    let usable = replacements.iter().filter(|one| !one.from.is_empty());
    usable.fold(bytes.to_vec(), |bytes, one| replace(&bytes, &one.from, &one.to))
}

fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut made = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while !rest.is_empty() {
        match rest.strip_prefix(from) {
            Some(after) => {
                made.extend_from_slice(to);
                rest = after;
            }
            None => {
                made.push(rest[0]);
                rest = &rest[1..];
            }
        }
    }
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rst_08_lines_come_whole_and_at_once() {
        let mut lines = Lines::default();
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
            assert_eq!(replaced(text.as_bytes(), &replacements), expected.as_bytes());
        }
    }
}
