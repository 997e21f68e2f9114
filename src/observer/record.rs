//! The record of an observed compile: a file of notes.
//!
//! This file creates records of one fixed size and parses them. Every observed program maps the record
//! into memory and appends notes. The layout is that of `observer/preload.rs`:
//!
//! ```text
//! magic: 8, size: 4, end of the notes: 4, whether one did not fit: 4, unused: 4
//! note: its length: 4, process: 4, lengths of two texts: 4 and 4, kind: 1, outcome: 1,
//!       mark: 1, unused: 5, the texts, and what is missing to a multiple of 8
//! ```
//!
//! Invariant: a record is parsed as a whole or not at all (KEY-04). Programs that kache does not control
//! write to it, so that any content may be found there: an invalid one is [`RecordDamage`], never a panic.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use thiserror::Error;

use super::system::reserve;

/// The size of a record in bytes. The notes of a program of 300 crates take 150 KB. The space is reserved
/// on the disk and not written.
pub const RECORD_BYTES_MAX: u32 = 8 << 20;

const MAGIC: &[u8; 8] = b"kacheob1";
const HEADER_BYTES: usize = 24;
const NOTE_BYTES: usize = 24;

/// The kind of access, or of event, that a note is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NoteKind {
    /// A program has begun. The name is its path and the value its working directory.
    Started,
    /// A library was loaded into the program before it began.
    Loaded,
    /// A file or directory was opened for reading.
    Read,
    /// A file or directory was created, or a file lost its former content.
    Written,
    /// A path was looked up without being opened, as `stat` does.
    Looked,
    /// A directory was listed.
    Listed,
    /// A variable was read. The value is that of the variable.
    Variable,
    /// An existing file was opened for writing and kept its content.
    Updated,
    /// The target of a symbolic link was read.
    Link,
    /// A path was asked about in a way that tells a symbolic link from its target.
    Unfollowed,
    /// A path was resolved, so that each component could be a symbolic link.
    Resolved,
    /// A library was loaded after the program had begun.
    Added,
    /// A function was called that reads files or directories where the observer does not see it. The name
    /// is that of the function.
    Hidden,
    /// A process is about to become this program, which has to leave a [`NoteKind::Started`] or was not
    /// observed. A second note with another outcome says that the start failed.
    Executed,
    /// The program made a system call after which it cannot be observed. The value is the number of the
    /// call.
    Unseen,
    /// The path of the current directory was asked for.
    Directory,
    /// All variables were read from the kernel's copy, as in `/proc/self/environ`.
    Environment,
}

/// The outcome of an access, as the program saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NoteOutcome {
    /// The access succeeded: something is there.
    There,
    /// The access failed because nothing is there.
    Absent,
    /// The access failed for another reason.
    Failed,
}

/// One note of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The number of the process that the note is about.
    pub process: u32,
    /// The kind of access or event.
    pub kind: NoteKind,
    /// The outcome of the access.
    pub outcome: NoteOutcome,
    /// An absolute path, the name of a variable, or that of a function.
    pub name: Vec<u8>,
    /// The value of a variable, or as [`NoteKind`] says.
    pub value: Vec<u8>,
    /// Whether the kernel reports the system calls that the program makes without the C library. Only
    /// [`NoteKind::Started`] says so; of other kinds this is false.
    pub has_dispatch: bool,
    /// Whether the access came from a library that was loaded after the program had begun, such as a proc
    /// macro. False of [`NoteKind::Started`].
    pub is_from_late_library: bool,
}

/// The process number in notes of programs that the C library starts by itself: it does not tell the number.
pub const UNKNOWN_PROCESS: u32 = u32::MAX;

/// The reason why a record cannot be used.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum RecordDamage {
    /// A note did not fit into the record.
    #[error("the notes take more than {} MiB", RECORD_BYTES_MAX >> 20)]
    Full,
    /// A program ended while it wrote a note, or wrote something else into the file.
    #[error("a note is not whole")]
    Malformed,
}

/// Creates an empty record and reserves its space, because a program that writes to a mapped file on a full
/// disk is killed.
pub(super) fn create(path: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    reserve(&file, RECORD_BYTES_MAX)?;
    let mut header = Vec::with_capacity(HEADER_BYTES);
    header.extend_from_slice(MAGIC);
    for number in [RECORD_BYTES_MAX, HEADER_BYTES as u32, 0, 0] {
        header.extend_from_slice(&number.to_ne_bytes());
    }
    file.write_all(&header)
}

/// Reads a record up to the end of its notes.
pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let mut bytes = vec![0; HEADER_BYTES];
    file.read_exact(&mut bytes)?;
    let end = number(&bytes, 12).unwrap_or_default().min(RECORD_BYTES_MAX);
    file.take(u64::from(end).saturating_sub(HEADER_BYTES as u64)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Parses a record. The notes are in the order in which they were begun.
pub fn parse(bytes: &[u8]) -> Result<Vec<Note>, RecordDamage> {
    let is_record = bytes.starts_with(MAGIC) && number(bytes, 8) == Some(RECORD_BYTES_MAX);
    let (Some(end), Some(is_full)) = (number(bytes, 12), number(bytes, 16)) else {
        return Err(RecordDamage::Malformed);
    };
    if is_full != 0 {
        return Err(RecordDamage::Full);
    }
    if !is_record || end as usize != bytes.len() {
        return Err(RecordDamage::Malformed);
    }
    let mut notes = Vec::new();
    let mut rest = bytes.get(HEADER_BYTES..).ok_or(RecordDamage::Malformed)?;
    while !rest.is_empty() {
        let (note, len) = parse_note(rest).ok_or(RecordDamage::Malformed)?;
        notes.push(note);
        rest = &rest[len..];
    }
    Ok(notes)
}

/// The first note of these bytes and its length; `None` if it is invalid.
fn parse_note(bytes: &[u8]) -> Option<(Note, usize)> {
    let len = number(bytes, 0)? as usize;
    let note = bytes.get(..len)?;
    let name_end = NOTE_BYTES.checked_add(number(note, 8)? as usize)?;
    let value_end = name_end.checked_add(number(note, 12)? as usize)?;
    let kind = match note.get(16)? {
        1 => NoteKind::Started,
        2 => NoteKind::Loaded,
        3 => NoteKind::Read,
        4 => NoteKind::Written,
        5 => NoteKind::Looked,
        6 => NoteKind::Listed,
        7 => NoteKind::Variable,
        20 => NoteKind::Updated,
        21 => NoteKind::Link,
        22 => NoteKind::Added,
        23 => NoteKind::Hidden,
        24 => NoteKind::Unfollowed,
        25 => NoteKind::Resolved,
        8 => NoteKind::Executed,
        9 => NoteKind::Unseen,
        10 => NoteKind::Directory,
        11 => NoteKind::Environment,
        // Zero where the program ended before it had written all of it.
        _ => return None,
    };
    let outcome = match note.get(17)? {
        0 => NoteOutcome::There,
        1 => NoteOutcome::Absent,
        2 => NoteOutcome::Failed,
        _ => return None,
    };
    // The format has one byte for both, because no kind of note needs both.
    let (is_marked, is_start) = (*note.get(18)? != 0, kind == NoteKind::Started);
    let (has_dispatch, is_from_late_library) = (is_start && is_marked, !is_start && is_marked);
    let name = note.get(NOTE_BYTES..name_end)?.to_vec();
    let value = note.get(name_end..value_end)?.to_vec();
    let process = number(note, 4)?;
    Some((Note { process, kind, outcome, name, value, has_dispatch, is_from_late_library }, len))
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(notes: &[&[u8]], is_full: u32) -> Vec<u8> {
        let len: usize = HEADER_BYTES + notes.iter().map(|note| note.len()).sum::<usize>();
        let mut bytes = MAGIC.to_vec();
        for number in [RECORD_BYTES_MAX, len as u32, is_full, 0] {
            bytes.extend_from_slice(&number.to_ne_bytes());
        }
        notes.iter().for_each(|note| bytes.extend_from_slice(note));
        bytes
    }

    fn note(kind: u8, outcome: u8, name: &str, value: &str) -> Vec<u8> {
        let len = (NOTE_BYTES + name.len() + value.len()).next_multiple_of(8);
        let mut bytes = Vec::new();
        for number in [len as u32, 7, name.len() as u32, value.len() as u32] {
            bytes.extend_from_slice(&number.to_ne_bytes());
        }
        bytes.extend_from_slice(&[kind, outcome, 0, 0, 0, 0, 0, 0]);
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend_from_slice(value.as_bytes());
        bytes.resize(len, 0);
        bytes
    }

    #[test]
    fn notes_are_read_in_their_order() {
        let notes =
            parse(&record(&[&note(3, 0, "/a", ""), &note(7, 1, "A", ""), &note(7, 0, "B", "1=2")], 0));
        let notes = notes.unwrap();
        let seen: Vec<_> =
            notes.iter().map(|note| (note.kind, note.outcome, &*note.name, &*note.value)).collect();
        assert_eq!(
            seen,
            [
                (NoteKind::Read, NoteOutcome::There, &b"/a"[..], &b""[..]),
                (NoteKind::Variable, NoteOutcome::Absent, b"A", b""),
                (NoteKind::Variable, NoteOutcome::There, b"B", b"1=2"),
            ]
        );
        assert!(notes.iter().all(|note| note.process == 7));
        assert_eq!(parse(&record(&[], 0)), Ok(Vec::new()));
    }

    #[test]
    fn key_04_an_incomplete_record_is_rejected() {
        assert_eq!(parse(&record(&[&note(3, 0, "/a", "")], 1)), Err(RecordDamage::Full));
        let whole = record(&[&note(3, 0, "/a", ""), &note(3, 0, "/b", "")], 0);
        for len in 0..whole.len() {
            assert_eq!(parse(&whole[..len]), Err(RecordDamage::Malformed), "{len}");
        }
        // The program ended before it had written which kind it is.
        assert_eq!(parse(&record(&[&note(0, 0, "/a", "")], 0)), Err(RecordDamage::Malformed));
        assert_eq!(parse(&record(&[&[0; 32]], 0)), Err(RecordDamage::Malformed));
    }

    proptest! {
        #[test]
        fn no_record_makes_the_parser_panic(notes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&record(&[&notes], 0));
            let _ = parse(&notes);
        }
    }
}
