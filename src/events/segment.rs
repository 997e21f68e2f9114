//! The files of the log: their names and their first line.
//!
//! ```text
//! events/00000001.events    a line that says the version, then records
//! events/00000002.events    …
//! ```
//!
//! It does not read records. Invariant: a file of another version is recognised by its first line and
//! never read as if it were of this version (STO-09).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The directory of the log in a cache directory.
const DIRECTORY: &str = "events";

/// The extension of the log's files.
const EXTENSION: &str = "events";

/// The beginning of every file. The version and a line break follow.
const MAGIC: &str = "kache events ";

/// The version that this kache writes. It is raised when an older reader would misread a file.
pub(super) const VERSION: u32 = 1;

/// The length of the longest possible first line.
const HEADER_BYTES_MAX: usize = MAGIC.len() + 11;

/// Returns the directory of the log of a cache directory.
pub(super) fn directory(cache_dir: &Path) -> PathBuf {
    cache_dir.join(DIRECTORY)
}

/// Returns the first line of a file that this kache writes.
pub(super) fn header() -> Vec<u8> {
    format!("{MAGIC}{VERSION}\n").into_bytes()
}

/// The meaning of a file's first line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum SegmentHeader<'a> {
    /// The file is of this version, and the rest of it are records.
    Current(&'a [u8]),
    /// The file is of this other version.
    OtherVersion(u32),
    /// The first line is not complete: the file is just being created, or its writer died.
    Torn,
    /// The file is no event log.
    Foreign,
}

/// Reads the first line of a file.
pub(super) fn read_header(bytes: &[u8]) -> SegmentHeader<'_> {
    let Some(rest) = bytes.strip_prefix(MAGIC.as_bytes()) else {
        let is_begun = MAGIC.as_bytes().starts_with(bytes);
        return if is_begun { SegmentHeader::Torn } else { SegmentHeader::Foreign };
    };
    let line = &rest[..rest.len().min(HEADER_BYTES_MAX - MAGIC.len())];
    let Some(end) = line.iter().position(|byte| *byte == b'\n') else {
        return if line.iter().all(u8::is_ascii_digit) && line.len() < 11 {
            SegmentHeader::Torn
        } else {
            SegmentHeader::Foreign
        };
    };
    match std::str::from_utf8(&line[..end]).ok().and_then(|number| number.parse().ok()) {
        Some(VERSION) => SegmentHeader::Current(&rest[end + 1..]),
        Some(other) => SegmentHeader::OtherVersion(other),
        None => SegmentHeader::Foreign,
    }
}

/// One file of the log.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Segment {
    /// The number in the file's name; later files have higher numbers.
    pub(super) number: u64,
    /// The path of the file.
    pub(super) path: PathBuf,
    /// The size of the file when the directory was listed.
    pub(super) size_bytes: u64,
}

/// Returns the path of the file with this number.
pub(super) fn path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:08}.{EXTENSION}"))
}

/// Returns all files of the log, the oldest first; none if the log was never written.
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
            // The daemon has removed this file, the oldest one, since the directory was read.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    segments.sort();
    Ok(segments)
}

fn number_of(path: &Path) -> Option<u64> {
    let is_segment = path.extension()? == EXTENSION;
    let stem = path.file_stem()?.to_str()?;
    (is_segment && stem.bytes().all(|byte| byte.is_ascii_digit())).then(|| stem.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sto_09_the_first_line_tells_the_version() {
        for (bytes, expected) in [
            (&b"kache events 1\nrest"[..], SegmentHeader::Current(b"rest")),
            (b"kache events 1\n", SegmentHeader::Current(b"")),
            (b"kache events 2\nrest", SegmentHeader::OtherVersion(2)),
            (b"kache events 10\n", SegmentHeader::OtherVersion(10)),
            (b"", SegmentHeader::Torn),
            (b"kache ev", SegmentHeader::Torn),
            (b"kache events ", SegmentHeader::Torn),
            (b"kache events 1", SegmentHeader::Torn),
            (b"kache events x\n", SegmentHeader::Foreign),
            (b"kache events 99999999999\n", SegmentHeader::Foreign),
            (b"kache events 1 \n", SegmentHeader::Foreign),
            (b"something else", SegmentHeader::Foreign),
            (b"\0\0\0\0", SegmentHeader::Foreign),
        ] {
            assert_eq!(read_header(bytes), expected, "{:?}", String::from_utf8_lossy(bytes));
        }
        assert_eq!(read_header(&header()), SegmentHeader::Current(b""));
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
