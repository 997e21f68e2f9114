//! Bytes as the text that REAPI messages hold.
//!
//! Paths and values are bytes here and UTF-8 there. What is not UTF-8 is written in
//! hexadecimal behind a mark, and so is what begins with that mark, so that two different
//! values are never one text (KEY-02).

const MARK: &str = "hex:";

/// Bytes as text.
pub(super) fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.starts_with(MARK) => text.to_owned(),
        _ => hexadecimal(bytes),
    }
}

/// Bytes as text without an end of line.
pub(super) fn line(bytes: &[u8]) -> String {
    match bytes.iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
        true => hexadecimal(bytes),
        false => text(bytes),
    }
}

/// A path as text: each name by itself, so that the slashes stay.
pub(super) fn path_text(path: &[u8]) -> String {
    match std::str::from_utf8(path) {
        Ok(whole) if !whole.contains(MARK) => whole.to_owned(),
        _ => path.split(|byte| *byte == b'/').map(text).collect::<Vec<_>>().join("/"),
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(MARK.len() + 2 * bytes.len());
    text.push_str(MARK);
    for byte in bytes {
        let digit = |value: u8| char::from_digit(u32::from(value), 16).expect("half a byte is one digit");
        text.push(digit(byte >> 4));
        text.push(digit(byte & 15));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_02_different_bytes_are_different_text() {
        assert_eq!(text(b"a b"), "a b");
        assert_eq!(text(b"\xff"), "hex:ff");
        assert_eq!(text(b"hex:ff"), "hex:6865783a6666");
        assert_eq!(line(b"a\nb"), "hex:610a62");
        assert_eq!(path_text(b"ws/\xff/a"), "ws/hex:ff/a");
        assert_eq!(path_text(b"ws/hex:a/b"), "ws/hex:6865783a61/b");
    }
}
