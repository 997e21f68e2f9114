//! Helpers for the tests of the store on disk.

use std::fs;
use std::path::{Path, PathBuf};

use kache_cas::disk::{DiskSettings, DiskStore};
use kache_cas::evict::Catalog;
use kache_cas::{AccessKind, ActionKey, BlobStore, Digest, DigestFunction};
use kache_proto::reapi::ActionResult;

pub(crate) const BLAKE3: DigestFunction = DigestFunction::Blake3;
pub(crate) const SHA256: DigestFunction = DigestFunction::Sha256;

pub(crate) fn open(dir: &Path) -> DiskStore {
    DiskStore::open(DiskSettings::new(dir)).unwrap()
}

/// Makes bytes that differ for each seed.
pub(crate) fn bytes(seed: u8, len: usize) -> Vec<u8> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[seed]);
    let mut bytes = vec![0; len];
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

pub(crate) fn write(store: &DiskStore, function: DigestFunction, bytes: &[u8]) -> Digest {
    let digest = Digest::of(function, bytes);
    let mut writer = store.create(&digest).unwrap();
    bytes.chunks(10_000).for_each(|piece| writer.write(piece).unwrap());
    writer.commit().unwrap();
    digest
}

pub(crate) fn read(store: &DiskStore, digest: &Digest) -> Option<Vec<u8>> {
    store.open(digest, AccessKind::Use).unwrap().map(|content| content.read_all().unwrap().to_vec())
}

pub(crate) fn is_missing(store: &DiskStore, digest: &Digest) -> bool {
    store.find_missing(&[*digest], AccessKind::Peek).unwrap()[0]
}

/// Returns the path of the blob file that has these bytes.
pub(crate) fn blob_path(dir: &Path, bytes: &[u8]) -> PathBuf {
    let hex = BLAKE3.hash(bytes).to_hex();
    dir.join("blobs").join(&hex[..2]).join(hex)
}

pub(crate) fn files_below(dir: &Path) -> usize {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| if entry.path().is_dir() { files_below(&entry.path()) } else { 1 }).sum()
}

/// Replaces a file by another file, so that the inode changes, too.
pub(crate) fn replace(path: &Path, bytes: &[u8]) {
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

pub(crate) fn key(seed: u8) -> ActionKey {
    ActionKey { instance: "main".into(), function: SHA256, hash: SHA256.hash(&[seed]) }
}

pub(crate) fn result(exit_code: i32) -> ActionResult {
    ActionResult { exit_code, ..Default::default() }
}

/// Makes steps of upkeep until no more is due.
pub(crate) fn upkeep(store: &DiskStore) {
    while store.upkeep().unwrap() {}
}
