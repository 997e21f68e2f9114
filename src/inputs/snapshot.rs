//! The file in which memos and facts outlive the daemon.
//!
//! It is a cache of a cache: one that is missing, damaged or of another version is as good
//! as empty, and nobody is told. A checksum over the whole makes that safe without an
//! `fsync`. It is written beside its place and renamed.
//!
//! What is known by the looks of files is of this start of the system: afterwards devices may be
//! numbered otherwise, and mounts are. What is known by content is good for ever.
//!
//! Format 2: the magic, the version as `u32`, the BLAKE3 of the rest, then the start of the system,
//! memos, facts and crates, each list with its length in front (STO-09).

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use kache_cas::{Digest, DigestFunction, Hash};

use super::bytes::{Reader, Writer};
use super::crates::Uses;
use super::facts::{Fact, Group};
use super::memos::Memo;

const MAGIC: &[u8] = b"kache memos\n";
const VERSION: u32 = 2;

/// The largest file that is read: 200,000 memos take 20 MB.
const SNAPSHOT_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// What is kept.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Snapshot {
    pub(super) memos: Vec<Memo>,
    pub(super) facts: Vec<(Vec<u8>, Arc<Fact>)>,
    pub(super) crates: Vec<(Digest, Arc<Uses>)>,
}

impl Snapshot {
    /// Reads it; empty if there is none that can be read.
    pub(super) fn load(path: &Path) -> Snapshot {
        read(path).ok().and_then(|bytes| decode(&bytes, &boot())).unwrap_or_default()
    }

    /// Writes it, whole or not at all.
    pub(super) fn save(&self, path: &Path) -> io::Result<()> {
        let beside = path.with_extension("new");
        let written = File::create(&beside).and_then(|mut file| file.write_all(&self.encode(&boot())));
        let written = written.and_then(|()| fs::rename(&beside, path));
        if written.is_err() {
            // What is left of it is overwritten next time; that it cannot be removed says
            // nothing that the first error does not.
            drop(fs::remove_file(&beside));
        }
        written
    }

    fn encode(&self, boot: &str) -> Vec<u8> {
        let mut body = Writer::default();
        body.bytes(boot);
        body.u64(self.memos.len() as u64);
        for memo in &self.memos {
            body.stamp(&memo.stamp).digest(&memo.digest);
        }
        body.u64(self.facts.len() as u64);
        for (question, fact) in &self.facts {
            body.bytes(question).bytes(&fact.value).u64(fact.depends_on.len() as u64);
            for group in &fact.depends_on {
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
        let mut whole = Writer(MAGIC.to_owned());
        whole.u32(VERSION).0.extend_from_slice(&DigestFunction::Blake3.hash(&body.0).0);
        whole.0.extend_from_slice(&body.0);
        whole.0
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(SNAPSHOT_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn decode(bytes: &[u8], boot: &str) -> Option<Snapshot> {
    let mut reader = Reader(bytes.strip_prefix(MAGIC)?);
    if reader.u32()? != VERSION {
        return None;
    }
    let (checksum, body) = reader.0.split_at_checked(Hash::LEN)?;
    if DigestFunction::Blake3.hash(body).0 != checksum {
        return None;
    }
    let mut reader = Reader(body);
    let mut snapshot = Snapshot::default();
    let is_of_this_start = reader.bytes()? == boot.as_bytes();
    for _ in 0..reader.u64()? {
        snapshot.memos.push(Memo { stamp: reader.stamp()?, digest: reader.digest()?, sweep: 0 });
    }
    for _ in 0..reader.u64()? {
        let (question, value) = (reader.bytes()?.to_owned(), reader.bytes()?.to_owned());
        let mut depends_on = Vec::new();
        for _ in 0..reader.u64()? {
            let mut group = Group { dir: reader.path()?, entries: Vec::new() };
            for _ in 0..reader.u64()? {
                let name = reader.path()?.into_os_string();
                let stamp = if reader.u32()? == 0 { None } else { Some(reader.stamp()?) };
                group.entries.push((name, stamp));
            }
            depends_on.push(group);
        }
        snapshot.facts.push((question, Arc::new(Fact { value, depends_on, until: None })));
    }
    for _ in 0..reader.u64()? {
        snapshot.crates.push((reader.digest()?, Arc::new(Uses::read(&mut reader)?)));
    }
    Some(if is_of_this_start {
        snapshot
    } else {
        Snapshot { crates: snapshot.crates, ..Snapshot::default() }
    })
}

/// What names this start of the system; empty where it does not say.
fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use kache_cas::DigestFunction;

    use super::*;
    use crate::inputs::stamp::Stamp;

    #[test]
    fn key_05_what_was_known_by_looks_is_forgotten_when_the_system_starts_anew() {
        let stamp = Stamp::of(Path::new("/")).unwrap().unwrap();
        let digest = Digest::of(DigestFunction::Blake3, b"content");
        let fact = Fact::new(b"answer".to_vec(), vec![("/".into(), Some(stamp))]);
        let snapshot = Snapshot {
            memos: vec![Memo { stamp, digest, sweep: 0 }],
            facts: vec![(b"question".to_vec(), Arc::new(fact))],
            crates: vec![(digest, Arc::new(Uses::default()))],
        };
        let written = snapshot.encode("this start");
        assert_eq!(decode(&written, "this start").as_ref(), Some(&snapshot));
        let kept = Snapshot { crates: snapshot.crates, ..Snapshot::default() };
        assert_eq!(decode(&written, "another start"), Some(kept));
    }
}
