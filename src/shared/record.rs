//! The format of a target directory's record on the disk.
//!
//! Each restore appends to the record, so it can be read whenever the daemon is killed: a frame that
//! was cut off is ignored, and so is everything after it. A record of another version counts as absent.
//!
//! Format 1: the magic, the version as `u32`, the path of the target directory; then frames, each after
//! its length and the first bytes of its BLAKE3. A frame holds a path below the target directory and an
//! entry. A frame without an entry says that the file is no longer shared. The last frame of a path
//! counts (STO-09).

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use kache_cas::{Digest, DigestFunction, Hash};

use super::entry::{Attributes, Entry, Inode};

const MAGIC: &[u8] = b"kache shared files\n";
const VERSION: u32 = 1;

/// How many bytes of a frame's hash are stored in front of it.
const CHECK_BYTES: usize = 8;

/// The record of one target directory.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Record {
    /// The path of the target directory when the record was written.
    pub(super) target_dir: PathBuf,
    /// The shared files, by path below the target directory.
    pub(super) entries: HashMap<PathBuf, Entry>,
    /// The number of frames in the file. It may be larger than that of the entries.
    pub(super) frames: usize,
    /// The length of the file up to the end of the last whole frame.
    pub(super) whole_bytes: usize,
}

impl Record {
    /// Sets the entry of a path; `None` removes it.
    pub(super) fn set(&mut self, path: PathBuf, entry: Option<Entry>) {
        match entry {
            Some(entry) => self.entries.insert(path, entry),
            None => self.entries.remove(&path),
        };
    }
}

/// Encodes the beginning of a record.
pub(super) fn header(target_dir: &Path) -> Vec<u8> {
    let mut bytes = MAGIC.to_owned();
    bytes.extend(VERSION.to_le_bytes());
    put_bytes(&mut bytes, target_dir.as_os_str().as_bytes());
    bytes
}

/// Encodes a frame with the new entry of a path; `None` says that the file is no longer shared.
pub(super) fn frame(path: &Path, entry: Option<&Entry>) -> Vec<u8> {
    let mut body = Vec::with_capacity(160);
    put_bytes(&mut body, path.as_os_str().as_bytes());
    if let Some(entry) = entry {
        put_entry(&mut body, entry);
    }
    let mut frame = Vec::with_capacity(16 + body.len());
    frame.extend((body.len() as u64).to_le_bytes());
    frame.extend(&DigestFunction::Blake3.hash(&body).0[..CHECK_BYTES]);
    frame.extend(body);
    frame
}

fn put_entry(body: &mut Vec<u8>, entry: &Entry) {
    body.extend(entry.digest.hash.0);
    let Attributes { size_bytes, modified_ns, mode, uid, gid } = entry.attributes;
    let Inode { device, number } = entry.inode;
    for number in [entry.digest.size_bytes, device, number, entry.born_ns, size_bytes] {
        body.extend(number.to_le_bytes());
    }
    body.extend(modified_ns.to_le_bytes());
    for number in [mode, uid, gid] {
        body.extend(number.to_le_bytes());
    }
}

/// Decodes a record; `None` if it has another version or is no record.
pub(super) fn decode(bytes: &[u8]) -> Option<Record> {
    let mut left = UnreadBytes(bytes);
    (left.take(MAGIC.len())? == MAGIC && left.u32()? == VERSION).then_some(())?;
    let target_dir = PathBuf::from(OsStr::from_bytes(left.framed()?));
    let mut record = Record { target_dir, ..Record::default() };
    loop {
        // The next append begins here, so that a frame that was cut off does not hide the ones after it.
        record.whole_bytes = bytes.len() - left.0.len();
        let Some((path, entry)) = next(&mut left) else { return Some(record) };
        record.set(path, entry);
        record.frames += 1;
    }
}

/// Decodes the next frame; `None` at the end, and for a frame that is cut off or damaged or whose path
/// leads out of the target directory.
fn next(left: &mut UnreadBytes<'_>) -> Option<(PathBuf, Option<Entry>)> {
    let len = usize::try_from(left.u64()?).ok()?;
    let check = left.take(CHECK_BYTES)?;
    let body = left.take(len)?;
    (DigestFunction::Blake3.hash(body).0[..CHECK_BYTES] == *check).then_some(())?;
    let mut body = UnreadBytes(body);
    let path = PathBuf::from(OsStr::from_bytes(body.framed()?));
    // A damaged record must not lead a repair to a file outside of the target directory.
    let is_below = path.components().all(|part| matches!(part, Component::Normal(_)));
    is_below.then_some(())?;
    if body.0.is_empty() {
        return Some((path, None));
    }
    let hash = Hash(body.take(Hash::LEN)?.try_into().ok()?);
    let digest = Digest::new(DigestFunction::Blake3, hash, body.u64()?);
    let inode = Inode { device: body.u64()?, number: body.u64()? };
    let born_ns = body.u64()?;
    let attributes = Attributes {
        size_bytes: body.u64()?,
        modified_ns: body.u64()?.cast_signed(),
        mode: body.u32()?,
        uid: body.u32()?,
        gid: body.u32()?,
    };
    Some((path, Some(Entry { digest, inode, born_ns, attributes, changed_ns: None })))
}

fn put_bytes(to: &mut Vec<u8>, bytes: &[u8]) {
    to.extend((bytes.len() as u64).to_le_bytes());
    to.extend(bytes);
}

/// The bytes that were not decoded yet. Its functions return `None` if there are too few.
struct UnreadBytes<'a>(&'a [u8]);

impl<'a> UnreadBytes<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take(8)?.try_into().ok().map(u64::from_le_bytes)
    }

    fn framed(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.u64()?).ok()?;
        self.take(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(number: u64) -> Entry {
        Entry {
            digest: Digest::of(DigestFunction::Blake3, &number.to_le_bytes()),
            inode: Inode { device: 1, number },
            born_ns: 9,
            attributes: Attributes { size_bytes: 8, modified_ns: -5, mode: 0o444, uid: 7, gid: 8 },
            changed_ns: None,
        }
    }

    fn written() -> (Vec<u8>, usize) {
        let mut bytes = header(Path::new("/w/target"));
        for (path, number) in [("debug/a", 1), ("debug/b", 2), ("debug/a", 3)] {
            bytes.extend(frame(Path::new(path), Some(&entry(number))));
        }
        bytes.extend(frame(Path::new("debug/d"), Some(&entry(5))));
        bytes.extend(frame(Path::new("debug/d"), None));
        let last = frame(Path::new("debug/c"), Some(&entry(4)));
        bytes.extend(&last);
        (bytes, last.len())
    }

    #[test]
    fn sto_09_a_record_is_read_as_written_and_the_last_frame_of_a_file_counts() {
        let (bytes, _) = written();
        let record = decode(&bytes).unwrap();
        assert_eq!(record.target_dir, Path::new("/w/target"));
        let expected = [("debug/a", 3), ("debug/b", 2), ("debug/c", 4)];
        let expected = expected.map(|(path, number)| (PathBuf::from(path), entry(number)));
        assert_eq!(record.entries, HashMap::from(expected));
        assert_eq!((record.frames, record.whole_bytes), (6, bytes.len()));
    }

    #[test]
    fn sto_01_a_frame_that_was_cut_off_is_ignored() {
        let (bytes, last) = written();
        let whole = bytes.len() - last;
        for cut in 1..=last {
            let record = decode(&bytes[..bytes.len() - cut]).unwrap();
            assert_eq!((record.frames, record.whole_bytes, record.entries.len()), (5, whole, 2), "{cut}");
        }
        let mut damaged = bytes;
        *damaged.last_mut().unwrap() ^= 1;
        assert_eq!(decode(&damaged).unwrap().frames, 5);
    }

    #[test]
    fn sto_09_a_record_of_another_version_is_not_read() {
        let (mut bytes, _) = written();
        bytes[MAGIC.len()] = 2;
        assert_eq!(decode(&bytes), None);
        assert_eq!(decode(b""), None);
    }

    #[test]
    fn a_path_that_leads_out_of_the_target_directory_is_not_read() {
        for path in ["../x", "/etc/x", "a/../../x"] {
            let mut bytes = header(Path::new("/w/target"));
            bytes.extend(frame(Path::new(path), Some(&entry(1))));
            assert_eq!(decode(&bytes).unwrap().entries.len(), 0, "{path}");
        }
    }
}
