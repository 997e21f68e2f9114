//! The snapshot file, in which memos, cached answers and the uses of crates outlive the daemon.
//!
//! A file that is missing, damaged or of another version is read as empty, without an error, because
//! everything in it can be found again. A checksum over the whole file makes that safe without an `fsync`.
//! The file is written under another name and then renamed.
//!
//! Memos and answers are valid only until the system starts again, because stamps contain the numbers of
//! devices and mounts, and these change. The uses of crates and the twins of digests are stored by content and
//! stay valid.
//!
//! Format 4: the magic, the version and the digest function of the keys as `u32`, the BLAKE3 of the rest,
//! then the id of the system's start, memos, answers, crates and twins, each list with its length in front
//! (STO-09).

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use kache_cas::{Digest, DigestFunction, Hash};

use super::bytes::{ByteReader, ByteWriter};
use super::cached_answer::{CachedAnswer, StampedEntries};
use super::crates::CrateUses;
use super::memos::Memo;

const MAGIC: &[u8] = b"kache memos\n";
const VERSION: u32 = 4;

/// The largest file that is read: 200,000 memos take 20 MB.
const SNAPSHOT_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// The content of a snapshot file.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Snapshot {
    pub(super) memos: Vec<Memo>,
    pub(super) answers: Vec<(Vec<u8>, Arc<CachedAnswer>)>,
    pub(super) crates: Vec<(Digest, Arc<CrateUses>)>,
    /// Digests with the hash of the same content in the other function.
    pub(super) twins: Vec<(Digest, Hash)>,
}

impl Snapshot {
    /// Reads a snapshot; an empty one if the file cannot be used, or if its digests are of another function.
    pub(super) fn load(path: &Path, function: DigestFunction) -> Snapshot {
        read(path).ok().and_then(|bytes| decode(&bytes, function, &boot())).unwrap_or_default()
    }

    /// Replaces the file with this snapshot. After an error the old file is still there.
    pub(super) fn save(&self, path: &Path, function: DigestFunction) -> io::Result<()> {
        let beside = path.with_extension("new");
        let written =
            File::create(&beside).and_then(|mut file| file.write_all(&self.encode(function, &boot())));
        let written = written.and_then(|()| fs::rename(&beside, path));
        if written.is_err() {
            // The next save overwrites a file that cannot be removed, so only the first error is returned.
            drop(fs::remove_file(&beside));
        }
        written
    }

    fn encode(&self, function: DigestFunction, boot: &str) -> Vec<u8> {
        let mut body = ByteWriter::default();
        body.bytes(boot);
        body.u64(self.memos.len() as u64);
        for memo in &self.memos {
            body.stamp(&memo.stamp).digest(&memo.digest);
        }
        body.u64(self.answers.len() as u64);
        for (question, answer) in &self.answers {
            body.bytes(question).bytes(&answer.value).u64(answer.depends_on.len() as u64);
            for group in &answer.depends_on {
                body.path(&group.dir).u64(group.entries.len() as u64);
                for (name, stamp) in &group.entries {
                    body.bytes(name.as_bytes());
                    match stamp {
                        None => body.u32(0),
                        Some(stamp) => body.u32(1).stamp(stamp),
                    };
                }
            }
        }
        body.u64(self.crates.len() as u64);
        for (digest, uses) in &self.crates {
            body.digest(digest);
            uses.write(&mut body);
        }
        body.u64(self.twins.len() as u64);
        for (digest, twin) in &self.twins {
            body.digest(digest).0.extend_from_slice(&twin.0);
        }
        let mut whole = ByteWriter(MAGIC.to_owned());
        whole.u32(VERSION).function(function).0.extend_from_slice(&DigestFunction::Blake3.hash(&body.0).0);
        whole.0.extend_from_slice(&body.0);
        whole.0
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(SNAPSHOT_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn decode(bytes: &[u8], function: DigestFunction, boot: &str) -> Option<Snapshot> {
    let mut reader = ByteReader(bytes.strip_prefix(MAGIC)?);
    if reader.u32()? != VERSION || reader.function()? != function {
        return None;
    }
    let (checksum, body) = reader.0.split_at_checked(Hash::LEN)?;
    if DigestFunction::Blake3.hash(body).0 != checksum {
        return None;
    }
    let mut reader = ByteReader(body);
    let mut snapshot = Snapshot::default();
    let is_same_boot = reader.bytes()? == boot.as_bytes();
    for _ in 0..reader.u64()? {
        snapshot.memos.push(Memo { stamp: reader.stamp()?, digest: reader.digest()?, sweep: 0 });
    }
    for _ in 0..reader.u64()? {
        let (question, value) = (reader.bytes()?.to_owned(), reader.bytes()?.to_owned());
        let mut depends_on = Vec::new();
        for _ in 0..reader.u64()? {
            let mut group = StampedEntries { dir: reader.path()?, entries: Vec::new() };
            for _ in 0..reader.u64()? {
                let name = reader.path()?.into_os_string();
                let stamp = if reader.u32()? == 0 { None } else { Some(reader.stamp()?) };
                group.entries.push((name, stamp));
            }
            depends_on.push(group);
        }
        snapshot.answers.push((question, Arc::new(CachedAnswer { value, depends_on, expires: None })));
    }
    for _ in 0..reader.u64()? {
        snapshot.crates.push((reader.digest()?, Arc::new(CrateUses::read(&mut reader)?)));
    }
    for _ in 0..reader.u64()? {
        snapshot.twins.push((reader.digest()?, reader.hash()?));
    }
    Some(match is_same_boot {
        true => snapshot,
        false => Snapshot { crates: snapshot.crates, twins: snapshot.twins, ..Snapshot::default() },
    })
}

/// Returns the id of this start of the system; empty if the system does not tell it.
fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inputs::stamp::Stamp;

    const BLAKE3: DigestFunction = DigestFunction::Blake3;

    #[test]
    fn key_05_memos_and_answers_are_forgotten_when_the_system_restarts() {
        let stamp = Stamp::of(Path::new("/")).unwrap().unwrap();
        let digest = Digest::of(BLAKE3, b"content");
        let answer = CachedAnswer::new(b"answer".to_vec(), vec![("/".into(), Some(stamp))]);
        let snapshot = Snapshot {
            memos: vec![Memo { stamp, digest, sweep: 0 }],
            answers: vec![(b"question".to_vec(), Arc::new(answer))],
            crates: vec![(digest, Arc::new(CrateUses::default()))],
            twins: vec![(digest, Hash([7; 32]))],
        };
        let written = snapshot.encode(BLAKE3, "this start");
        assert_eq!(decode(&written, BLAKE3, "this start").as_ref(), Some(&snapshot));
        let kept = Snapshot { crates: snapshot.crates, twins: snapshot.twins, ..Snapshot::default() };
        assert_eq!(decode(&written, BLAKE3, "another start"), Some(kept));
        assert_eq!(decode(&written, DigestFunction::Sha256, "this start"), None);
    }
}
