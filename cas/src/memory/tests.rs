//! Tests of the promises that only an implementation can keep, not a decorator.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::MemoryStore;
use crate::clock::ManualClock;
use crate::digest::{Digest, DigestFunction, Hash};
use crate::evict::Catalog;
use crate::leases::UPLOAD_GRACE;
use crate::store::{
    AccessKind, ActionCache, ActionKey, BlobStore, FileStamp, Link, LinkedFile, LocalFiles, PlaceOptions,
    Sharing,
};

const SHA256: DigestFunction = DigestFunction::Sha256;

fn store(limit_bytes: u64) -> (MemoryStore, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::default());
    (MemoryStore::limited(clock.clone(), limit_bytes), clock)
}

fn insert(store: &MemoryStore, bytes: &'static [u8]) -> Digest {
    let digest = Digest::of(SHA256, bytes);
    store.insert(&[(digest, Bytes::from_static(bytes))]).remove(0).unwrap();
    digest
}

#[test]
fn sto_04_a_deletion_is_refused_after_an_access_or_a_promise() {
    let (store, clock) = store(u64::MAX);
    let digest = insert(&store, b"blob");
    let entry = || store.blob_entry(&digest).unwrap().unwrap();
    let delete = |expected| store.delete_blob(&entry().names.blake3, expected).unwrap().is_some();
    clock.advance(UPLOAD_GRACE);
    let expected = entry().retention;
    store.find_missing(&[digest], AccessKind::Use).unwrap();
    assert!(!delete(expected), "it was used since");
    store.find_missing(&[digest], AccessKind::Promise).unwrap();
    assert!(!delete(entry().retention), "it is promised");
    clock.advance(Duration::from_secs(24 * 60 * 60));
    let deletions = store.deletions();
    assert!(delete(entry().retention));
    assert_ne!(store.deletions(), deletions);
    assert!(store.open(&digest, AccessKind::Use).unwrap().is_none());

    let key = ActionKey { instance: "".into(), function: SHA256, hash: Hash([1; 32]) };
    store.put(&key, &Default::default()).unwrap();
    let entry = || store.action_entry(&key).unwrap().unwrap();
    let expected = entry().retention;
    clock.advance(Duration::from_secs(1));
    store.get(&key, AccessKind::Use).unwrap();
    assert!(!store.delete_action(&key, expected).unwrap(), "it was used since");
    store.get(&key, AccessKind::Promise).unwrap();
    assert!(!store.delete_action(&key, entry().retention).unwrap(), "it is promised");
    clock.advance(Duration::from_secs(24 * 60 * 60));
    assert!(store.delete_action(&key, entry().retention).unwrap());
}

#[test]
fn sto_04_an_opened_blob_stays_readable_after_its_deletion() {
    let (store, clock) = store(u64::MAX);
    let digest = insert(&store, b"blob");
    let content = store.open(&digest, AccessKind::Use).unwrap().unwrap();
    clock.advance(UPLOAD_GRACE);
    let entry = store.blob_entry(&digest).unwrap().unwrap();
    store.delete_blob(&entry.names.blake3, entry.retention).unwrap().unwrap();
    assert_eq!(content.read_all().unwrap(), "blob");
}

#[test]
fn sto_06_a_writer_reserves_its_room_when_it_begins() {
    let (store, _) = store(10_000);
    let digest = |name: u8| Digest::of(SHA256, &[name; 3_000]);
    let mut writers: Vec<_> = (0..3).map(|name| store.create(&digest(name)).unwrap()).collect();
    assert!(store.create(&digest(3)).is_err_and(|error| error.is_no_space()));
    // A writer that is dropped gives its room back.
    writers.pop();
    let mut writer = store.create(&digest(3)).unwrap();
    writer.write(&[3; 3_000]).unwrap();
    writer.commit().unwrap();
    assert!(store.create(&digest(4)).is_err());
    drop(writers);
    assert!(store.create(&digest(4)).is_ok());
}

#[test]
fn the_same_bytes_under_two_digests_are_stored_once() {
    let (store, _) = store(u64::MAX);
    let bytes = Bytes::from_static(b"the same");
    let names = DigestFunction::ALL.map(|function| Digest::of(function, &bytes));
    store.insert(&[(names[0], bytes.clone())]).remove(0).unwrap();
    assert_eq!(store.find_missing(&names, AccessKind::Peek).unwrap(), [false, true]);
    store.insert(&[(names[1], bytes)]).remove(0).unwrap();
    assert_eq!(store.find_missing(&names, AccessKind::Peek).unwrap(), [false, false]);
    assert_eq!(store.usage().unwrap().blobs, 1);
}

#[test]
fn a_file_is_ingested_and_placed_with_the_mode_and_date_asked_for() {
    let (store, _) = store(u64::MAX);
    let dir = tempfile::tempdir().unwrap();
    let (source, target) = (dir.path().join("in"), dir.path().join("out"));
    std::fs::write(&source, b"bytes").unwrap();
    let (names, linked) = store.ingest(&source, SHA256, Sharing::Hardlink).unwrap();
    let digest = names.digest(SHA256).unwrap();
    assert_eq!((digest, linked.link), (Digest::of(SHA256, b"bytes"), Link::Copy));
    let looks = |path| Some(FileStamp::of(&std::fs::metadata(path).unwrap()));
    assert_eq!(linked.stamp, looks(&source));

    let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    let placing =
        PlaceOptions { mode: 0o755, modified: Some(modified), sharing: Sharing::Private, staging: None };
    let placed = store.place(&digest, &target, &placing).unwrap();
    assert_eq!(placed, Some(LinkedFile { link: Link::Copy, stamp: looks(&target) }));
    assert_eq!(std::fs::read(&target).unwrap(), b"bytes");
    let metadata = std::fs::metadata(&target).unwrap();
    assert_eq!(metadata.modified().unwrap(), modified);
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o7777, 0o755);

    let absent = Digest::of(SHA256, b"absent");
    assert_eq!(store.place(&absent, &target, &placing).unwrap(), None);
    assert_eq!(std::fs::read(&target).unwrap(), b"bytes", "it is as it was");
    assert!(store.place(&digest, &dir.path().join("no/such/dir"), &placing).is_err());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "nothing is left lying about");
}
