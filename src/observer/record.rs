//! What an observed compiler has left: a file of notes, and what each of them says.
//!
//! The file is made here, of one size, and mapped by every program that is observed; its
//! layout is that of `observer/preload.rs`:
//!
//! ```text
//! magic: 8, size: 4, end of the notes: 4, whether one did not fit: 4, unused: 4
//! note: its length: 4, process: 4, lengths of two texts: 4 and 4, kind: 1, outcome: 1,
//!       mark: 1, unused: 5, the texts, and what is missing to a multiple of 8
//! ```
//!
//! Invariant: a file is read whole or not at all (KEY-04). It is written by programs that
//! nobody here has started: whatever does not fit is [`Damage`], never a panic.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use thiserror::Error;

use super::system::reserve;

/// How large a record may become; one of a program of 300 crates takes 150 KB. The room is
/// reserved on the disk, not written.
pub const RECORD_BYTES_MAX: u32 = 8 << 20;

const MAGIC: &[u8; 8] = b"kacheob1";
const HEADER_BYTES: usize = 24;
const NOTE_BYTES: usize = 24;

/// What a note is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A program has begun. The value is its working directory.
    Started,
    /// A library that is loaded into it.
    Loaded,
    /// A file that was opened to be read, or a directory.
    Read,
    /// Something that came to be, or lost what was in it before.
    Written,
    /// A place that was asked about.
    Looked,
    /// A directory that was listed.
    Listed,
    /// A variable.
    Variable,
    /// A file that was there when it was opened to be written, and that keeps what is in it.
    Updated,
    /// A symbolic link that was read.
    Link,
    /// A library that the program has loaded after it had begun.
    Added,
    /// A function by whose means the program has read what nobody saw. The name is the function's.
    Hidden,
    /// A program that a process is about to become. It has to say that it has begun, or what it does is
    /// not known. The outcome says whether it came to that.
    Executed,
    /// A program has done what cannot be observed. The value is the number of the system call.
    Unseen,
    /// The current directory, which was asked for.
    Directory,
    /// All variables, which were read from the kernel.
    Environment,
}

/// What the program was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    /// It is there.
    There,
    /// There is nothing.
    Absent,
    /// Something else.
    Failed,
}

/// One note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Which process.
    pub process: u32,
    /// What about.
    pub kind: Kind,
    /// What it was told.
    pub outcome: Outcome,
    /// A path, absolute, or the name of a variable.
    pub name: Vec<u8>,
    /// The variable's value, or what else belongs to a kind.
    pub value: Vec<u8>,
    /// Of a program that has begun, whether the kernel reports system calls that it makes past the C
    /// library; of a question, whether it came from a library that was loaded later, such as a proc macro.
    pub mark: bool,
}

/// The process of a program that was started by the C library itself, which does not say its number.
pub const UNKNOWN_PROCESS: u32 = u32::MAX;

/// Why a record says nothing.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Damage {
    /// There were more notes than it has room for.
    #[error("more was asked for than {} MiB hold", RECORD_BYTES_MAX >> 20)]
    Full,
    /// A program ended in the middle of a note, or wrote into the file itself.
    #[error("a note is not whole")]
    Malformed,
}

/// Makes an empty record with room on the disk: a program that writes into a mapped file must
/// not find the disk full.
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

/// Reads a record as far as it is written.
pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let mut bytes = vec![0; HEADER_BYTES];
    file.read_exact(&mut bytes)?;
    let end = number(&bytes, 12).unwrap_or_default().min(RECORD_BYTES_MAX);
    file.take(u64::from(end).saturating_sub(HEADER_BYTES as u64)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The notes of a record, in their order.
pub fn parse(bytes: &[u8]) -> Result<Vec<Note>, Damage> {
    let is_record = bytes.starts_with(MAGIC) && number(bytes, 8) == Some(RECORD_BYTES_MAX);
    let (Some(end), Some(is_full)) = (number(bytes, 12), number(bytes, 16)) else {
        return Err(Damage::Malformed);
    };
    if is_full != 0 {
        return Err(Damage::Full);
    }
    if !is_record || end as usize != bytes.len() {
        return Err(Damage::Malformed);
    }
    let mut notes = Vec::new();
    let mut rest = bytes.get(HEADER_BYTES..).ok_or(Damage::Malformed)?;
    while !rest.is_empty() {
        let (note, len) = parse_note(rest).ok_or(Damage::Malformed)?;
        notes.push(note);
        rest = &rest[len..];
    }
    Ok(notes)
}

/// The note that is here, and its length.
fn parse_note(bytes: &[u8]) -> Option<(Note, usize)> {
    let len = number(bytes, 0)? as usize;
    let note = bytes.get(..len)?;
    let name_end = NOTE_BYTES.checked_add(number(note, 8)? as usize)?;
    let value_end = name_end.checked_add(number(note, 12)? as usize)?;
    let kind = match note.get(16)? {
        1 => Kind::Started,
        2 => Kind::Loaded,
        3 => Kind::Read,
        4 => Kind::Written,
        5 => Kind::Looked,
        6 => Kind::Listed,
        7 => Kind::Variable,
        20 => Kind::Updated,
        21 => Kind::Link,
        22 => Kind::Added,
        23 => Kind::Hidden,
        8 => Kind::Executed,
        9 => Kind::Unseen,
        10 => Kind::Directory,
        11 => Kind::Environment,
        // Zero where the program ended before it had written all of it.
        _ => return None,
    };
    let outcome = match note.get(17)? {
        0 => Outcome::There,
        1 => Outcome::Absent,
        2 => Outcome::Failed,
        _ => return None,
    };
    let mark = *note.get(18)? != 0;
    let name = note.get(NOTE_BYTES..name_end)?.to_vec();
    let value = note.get(name_end..value_end)?.to_vec();
    Some((Note { process: number(note, 4)?, kind, outcome, name, value, mark }, len))
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
                (Kind::Read, Outcome::There, &b"/a"[..], &b""[..]),
                (Kind::Variable, Outcome::Absent, b"A", b""),
                (Kind::Variable, Outcome::There, b"B", b"1=2"),
            ]
        );
        assert!(notes.iter().all(|note| note.process == 7));
        assert_eq!(parse(&record(&[], 0)), Ok(Vec::new()));
    }

    #[test]
    fn key_04_a_part_of_a_record_is_none() {
        assert_eq!(parse(&record(&[&note(3, 0, "/a", "")], 1)), Err(Damage::Full));
        let whole = record(&[&note(3, 0, "/a", ""), &note(3, 0, "/b", "")], 0);
        for len in 0..whole.len() {
            assert_eq!(parse(&whole[..len]), Err(Damage::Malformed), "{len}");
        }
        // The program ended before it had written which kind it is.
        assert_eq!(parse(&record(&[&note(0, 0, "/a", "")], 0)), Err(Damage::Malformed));
        assert_eq!(parse(&record(&[&[0; 32]], 0)), Err(Damage::Malformed));
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(notes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&record(&[&notes], 0));
            let _ = parse(&notes);
        }
    }
}
