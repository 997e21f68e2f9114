//! The file in which memos and facts outlive the daemon.
//!
//! It is a cache of a cache: one that is missing, damaged or of another version is as good
//! as empty, and nobody is told. A checksum over the whole makes that safe without an
//! `fsync`. It is written beside its place and renamed.
//!
//! Format 1: the magic, the version as `u32`, the BLAKE3 of the rest, then memos, facts and
//! crates, each list with its length in front (STO-09).

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
const VERSION: u32 = 1;

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
        read(path).ok().and_then(|bytes| decode(&bytes)).unwrap_or_default()
    }

    /// Writes it, whole or not at all.
    pub(super) fn save(&self, path: &Path) -> io::Result<()> {
        let beside = path.with_extension("new");
        let written = File::create(&beside).and_then(|mut file| file.write_all(&self.encode()));
        let written = written.and_then(|()| fs::rename(&beside, path));
        if written.is_err() {
            // What is left of it is overwritten next time; that it cannot be removed says
            // nothing that the first error does not.
            drop(fs::remove_file(&beside));
        }
        written
    }

    fn encode(&self) -> Vec<u8> {
        let mut body = Writer::default();
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

fn decode(bytes: &[u8]) -> Option<Snapshot> {
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
        snapshot.facts.push((question, Arc::new(Fact { value, depends_on })));
    }
    for _ in 0..reader.u64()? {
        snapshot.crates.push((reader.digest()?, Arc::new(Uses::read(&mut reader)?)));
    }
    Some(snapshot)
}
