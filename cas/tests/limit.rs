//! The limit of the store on disk, measured in bytes on the volume, while many threads write and
//! maintenance runs (STO-06).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use kache_cas::clock::ManualClock;
use kache_cas::encoding::wire_digest;
use kache_cas::leases::UPLOAD_GRACE;
use kache_cas::{AccessKind, ActionKey, Digest, DigestFunction, Sharing, Store, StoreError, StoreSettings};
use kache_proto::reapi::{ActionResult, OutputFile};
use parking_lot::RwLock;

const SHA256: DigestFunction = DigestFunction::Sha256;
const LIMIT_BYTES: u64 = 32 << 20;
const WRITERS: u64 = 6;
const ROUNDS: u64 = 25;

struct Fixture {
    dir: tempfile::TempDir,
    clock: Arc<ManualClock>,
    store: Store,
    /// Held shared during each call of the store. A thread that holds it exclusively can measure
    /// the directory while nothing changes and writers are between two calls.
    measuring: RwLock<()>,
}

impl Fixture {
    fn new() -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::default());
        let settings = StoreSettings {
            limit_bytes: LIMIT_BYTES,
            reserve_bytes: 0,
            clock: clock.clone(),
            ..StoreSettings::new(dir.path().join("store"))
        };
        let store = Store::open(settings).unwrap();
        Fixture { dir, clock, store, measuring: RwLock::new(()) }
    }

    /// Makes a call of the store, while no thread measures.
    fn call<T>(&self, call: impl FnOnce() -> T) -> T {
        let _shared = self.measuring.read();
        call()
    }

    /// Measures while no thread is in a call.
    fn occupied_bytes(&self) -> u64 {
        let _exclusive = self.measuring.write();
        occupied_bytes(&self.dir.path().join("store"))
    }
}

/// Measures a directory with all below it. RocksDB's files may come and go meanwhile.
fn occupied_bytes(path: &Path) -> u64 {
    let Ok(metadata) = fs::symlink_metadata(path) else { return 0 };
    let own = metadata.blocks() * 512;
    let Ok(entries) = fs::read_dir(path) else { return own };
    own + entries.flatten().map(|entry| occupied_bytes(&entry.path())).sum::<u64>()
}

fn blob(name: u64, len: usize) -> (Digest, Bytes) {
    let mut bytes = vec![7; len];
    bytes[..8].copy_from_slice(&name.to_le_bytes());
    (Digest::of(SHA256, &bytes), Bytes::from(bytes))
}

/// One round of a writer: stores a large blob in pieces, small blobs in one call, a file, and a
/// result that names them. Fails if one of them was not stored.
fn write(fixture: &Fixture, name: u64) -> Result<(), StoreError> {
    let Fixture { store, .. } = fixture;
    let (large, bytes) = blob(name, 300_000 + usize::try_from(name % 7).unwrap() * 100_000);
    let mut writer = fixture.call(|| store.blobs().create(&large))?;
    bytes.chunks(65_536).try_for_each(|chunk| fixture.call(|| writer.write(chunk)))?;
    fixture.call(|| writer.commit())?;

    let small: Vec<_> = (0..20).map(|index| blob(name * 100 + index, 2_000)).collect();
    fixture.call(|| store.blobs().insert(&small).into_iter().collect::<Result<(), _>>())?;

    let path = fixture.dir.path().join(format!("in-{name}"));
    fs::write(&path, blob(name + 1_000_000, 200_000).1).unwrap();
    let ingested = fixture.call(|| store.files().ingest(&path, SHA256, Sharing::Private));
    fs::remove_file(&path).unwrap();
    let file = ingested?.0.digest(SHA256).unwrap();

    let output = |(index, digest): (usize, &Digest)| OutputFile {
        path: format!("out/{index}"),
        digest: Some(wire_digest(digest)),
        ..Default::default()
    };
    let named: Vec<_> = small.iter().map(|(digest, _)| *digest).chain([large, file]).collect();
    let output_files = named.iter().enumerate().map(output).collect();
    let result = ActionResult { output_files, ..Default::default() };
    let key = ActionKey { instance: "".into(), function: SHA256, hash: large.hash };
    fixture.call(|| store.actions().put(&key, &result)).map(drop)
}

#[test]
fn sto_06_the_limit_holds_on_disk_under_concurrent_writers() {
    let fixture = Fixture::new();
    let (stop, peak_bytes) = (AtomicBool::new(false), AtomicU64::new(0));
    let stored = thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                peak_bytes.fetch_max(fixture.occupied_bytes(), Ordering::Relaxed);
                thread::sleep(Duration::from_millis(2));
            }
        });
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                if !fixture.call(|| fixture.store.maintain()).unwrap().more_is_due {
                    thread::sleep(Duration::from_millis(2));
                }
            }
        });
        let writer = |writer: u64| {
            let fixture = &fixture;
            move || {
                let mut stored = 0;
                for round in 0..ROUNDS {
                    match write(fixture, writer * 1_000 + round) {
                        Ok(()) => stored += 1,
                        Err(error) => assert!(error.is_no_space(), "{error}"),
                    }
                    fixture.clock.advance(UPLOAD_GRACE / 16);
                }
                stored
            }
        };
        let writers: Vec<_> = (0..WRITERS).map(|index| scope.spawn(writer(index))).collect();
        let stored: u64 = writers.into_iter().map(|writer| writer.join().unwrap()).sum();
        stop.store(true, Ordering::Relaxed);
        stored
    });
    let peak_bytes = peak_bytes.into_inner();
    assert!(peak_bytes <= LIMIT_BYTES, "{peak_bytes} bytes of {LIMIT_BYTES}");
    // A round stores some 0.9 MB, so this many would not have fit without eviction.
    assert!(stored > WRITERS * ROUNDS / 2, "only {stored} of {} rounds were stored", WRITERS * ROUNDS);
    assert!(fixture.store.counters().blobs_evicted > 0);
    let status = fixture.store.status();
    assert!(status.troubles.is_empty(), "{:?}", status.troubles);
    fixture.store.close().unwrap();
}

#[test]
fn sto_04_sto_06_promised_blobs_on_disk_are_kept_although_writers_need_the_room() {
    let fixture = Fixture::new();
    let promised: Vec<_> = (0..40).map(|name| blob(name, 500_000)).collect();
    for (digest, bytes) in &promised {
        fixture.store.blobs().insert(&[(*digest, bytes.clone())]).remove(0).unwrap();
    }
    let digests: Vec<_> = promised.iter().map(|(digest, _)| *digest).collect();
    assert!(!fixture.store.blobs().find_missing(&digests, AccessKind::Promise).unwrap().contains(&true));
    fixture.clock.advance(UPLOAD_GRACE);
    let refused = (100..200u64).filter(|name| write(&fixture, *name).is_err()).count();
    assert!(refused > 0, "there is room for some twenty more only");
    while fixture.store.maintain().unwrap().more_is_due {}
    assert!(!fixture.store.blobs().find_missing(&digests, AccessKind::Peek).unwrap().contains(&true));
    for (digest, bytes) in &promised {
        let content = fixture.store.blobs().open(digest, AccessKind::Use).unwrap().unwrap();
        assert_eq!(content.read_all().unwrap(), bytes);
    }
    assert!(fixture.occupied_bytes() <= LIMIT_BYTES);
}
