//! Bytes as the text that REAPI messages hold.
//!
//! Paths and values are bytes, but REAPI strings are UTF-8. Bytes that are not UTF-8 are written in
//! hexadecimal after a mark. Text that begins with the mark is written in the same way, so two
//! different values never become one text (KEY-02).

/// Begins a text in hexadecimal.
pub(super) const MARK: &str = "hex:";

/// Bytes as text, in hexadecimal if they are not UTF-8.
pub(super) fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.starts_with(MARK) => text.to_owned(),
        _ => hexadecimal(bytes),
    }
}

/// The reverse of [`text`]; `None` for a text that [`text`] never makes.
pub(super) fn bytes_of(text: &str) -> Option<Vec<u8>> {
    let Some(digits) = text.strip_prefix(MARK) else { return Some(text.as_bytes().to_vec()) };
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = digits.as_bytes().chunks(2);
    pairs.map(|pair| Some(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?)).collect()
}

/// Like [`text`], but the result has no line break.
pub(super) fn line(bytes: &[u8]) -> String {
    match bytes.iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
        true => hexadecimal(bytes),
        false => text(bytes),
    }
}

/// A path as text. Each name is converted by itself, so the slashes stay.
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

    #[test]
    fn text_is_converted_back_to_the_same_bytes() {
        for bytes in [&b"a b"[..], b"\xff\x00", b"hex:ff", b""] {
            assert_eq!(bytes_of(&text(bytes)).as_deref(), Some(bytes));
        }
        assert_eq!((bytes_of("hex:f"), bytes_of("hex:0x")), (None, None));
    }
}
