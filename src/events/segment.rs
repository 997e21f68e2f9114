//! The files of the log: their names, their first line, and which are there.
//!
//! ```text
//! events/00000001.events    a line that says the version, then records
//! events/00000002.events    …
//! ```
//!
//! Knows no record. Invariant: a file of another version is recognised by its first line
//! and never read as if it were of this one (STO-09).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Directory of the log in a cache directory.
const DIRECTORY: &str = "events";

/// How the files end.
const EXTENSION: &str = "events";

/// What every file begins with; then the version and a line's end.
const MAGIC: &str = "kache events ";

/// The version that this kache writes. Raised when an older reader would misread.
pub(super) const VERSION: u32 = 1;

/// No header is longer.
const HEADER_BYTES_MAX: usize = MAGIC.len() + 11;

/// Where the log of a cache directory is.
pub(super) fn directory(cache_dir: &Path) -> PathBuf {
    cache_dir.join(DIRECTORY)
}

/// The first line of a file that this kache writes.
pub(super) fn header() -> Vec<u8> {
    format!("{MAGIC}{VERSION}\n").into_bytes()
}

/// What a file is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Header<'a> {
    /// Of this version; these are its records.
    Ours(&'a [u8]),
    /// Of another one.
    Other(u32),
    /// Its first line is not complete: it is being made, or its maker died.
    Torn,
    /// None of ours.
    Alien,
}

/// Reads the first line.
pub(super) fn read_header(bytes: &[u8]) -> Header<'_> {
    let Some(rest) = bytes.strip_prefix(MAGIC.as_bytes()) else {
        return if MAGIC.as_bytes().starts_with(bytes) { Header::Torn } else { Header::Alien };
    };
    let line = &rest[..rest.len().min(HEADER_BYTES_MAX - MAGIC.len())];
    let Some(end) = line.iter().position(|byte| *byte == b'\n') else {
        return if line.iter().all(u8::is_ascii_digit) && line.len() < 11 {
            Header::Torn
        } else {
            Header::Alien
        };
    };
    match std::str::from_utf8(&line[..end]).ok().and_then(|number| number.parse().ok()) {
        Some(VERSION) => Header::Ours(&rest[end + 1..]),
        Some(other) => Header::Other(other),
        None => Header::Alien,
    }
}

/// One file of the log.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Segment {
    /// Later files have higher numbers.
    pub(super) number: u64,
    /// Where it is.
    pub(super) path: PathBuf,
    /// How large it is now.
    pub(super) size_bytes: u64,
}

/// The path of a file.
pub(super) fn path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:08}.{EXTENSION}"))
}

/// All files of the log, the oldest first. A log that was never written has none.
pub(super) fn list(directory: &Path) -> io::Result<Vec<Segment>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut segments = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let Some(number) = number_of(&path) else { continue };
        match fs::metadata(&path) {
            Ok(metadata) => segments.push(Segment { number, path, size_bytes: metadata.len() }),
            // Its time had come between two looks.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    segments.sort();
    Ok(segments)
}

fn number_of(path: &Path) -> Option<u64> {
    let is_ours = path.extension()? == EXTENSION;
    let stem = path.file_stem()?.to_str()?;
    (is_ours && stem.bytes().all(|byte| byte.is_ascii_digit())).then(|| stem.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sto_09_the_first_line_tells_the_version() {
        for (bytes, expected) in [
            (&b"kache events 1\nrest"[..], Header::Ours(b"rest")),
            (b"kache events 1\n", Header::Ours(b"")),
            (b"kache events 2\nrest", Header::Other(2)),
            (b"kache events 10\n", Header::Other(10)),
            (b"", Header::Torn),
            (b"kache ev", Header::Torn),
            (b"kache events ", Header::Torn),
            (b"kache events 1", Header::Torn),
            (b"kache events x\n", Header::Alien),
            (b"kache events 99999999999\n", Header::Alien),
            (b"kache events 1 \n", Header::Alien),
            (b"something else", Header::Alien),
            (b"\0\0\0\0", Header::Alien),
        ] {
            assert_eq!(read_header(bytes), expected, "{:?}", String::from_utf8_lossy(bytes));
        }
        assert_eq!(read_header(&header()), Header::Ours(b""));
    }

    #[test]
    fn only_files_of_the_log_are_listed() {
        let home = tempfile::tempdir().unwrap();
        let directory = directory(home.path());
        assert_eq!(list(&directory).unwrap(), []);
        fs::create_dir(&directory).unwrap();
        for name in ["00000010.events", "00000009.events", "x.events", "00000001.other", "notes"] {
            fs::File::create(directory.join(name)).unwrap();
        }
        let numbers: Vec<_> = list(&directory).unwrap().iter().map(|one| one.number).collect();
        assert_eq!(numbers, [9, 10]);
    }
}
