//! Tests of `room`: the limit holds while many threads write, and refusals are quick.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::*;
use crate::clock::ManualClock;
use crate::leases::UPLOAD_GRACE;
use crate::memory::MemoryStore;

const SHA256: DigestFunction = DigestFunction::Sha256;
const LIMIT_BYTES: u64 = 256 * 1024;

struct Fixture {
    memory: Arc<MemoryStore>,
    clock: Arc<ManualClock>,
    room: Arc<SharedEvictor<MemoryStore>>,
    meter: Arc<Meter>,
    store: EvictingStore<MemoryStore, MemoryStore>,
}

impl Fixture {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::default());
        let memory = Arc::new(MemoryStore::limited(clock.clone(), LIMIT_BYTES));
        let meter = Arc::new(Meter::default());
        let limits = SizeLimits { limit_bytes: LIMIT_BYTES, reserve_bytes: 0 };
        let room = Arc::new(SharedEvictor::new(memory.clone(), clock.clone(), limits, meter.clone()));
        let store = EvictingStore::new(memory.clone(), room.clone());
        Fixture { memory, clock, room, meter, store }
    }

    fn used_bytes(&self) -> u64 {
        self.memory.usage().unwrap().physical_bytes
    }

    fn write(&self, name: u64, len: usize) -> Result<Digest, StoreError> {
        let (digest, bytes) = blob(name, len);
        let mut writer = self.store.create(&digest)?;
        writer.write(&bytes)?;
        writer.commit().map(|_| digest)
    }
}

fn blob(name: u64, len: usize) -> (Digest, Bytes) {
    let mut bytes = vec![0; len];
    bytes[..8].copy_from_slice(&name.to_le_bytes());
    (Digest::of(SHA256, &bytes), Bytes::from(bytes))
}

#[test]
fn sto_06_a_writer_that_finds_no_room_makes_some() {
    let fixture = Fixture::new();
    for name in 0..1_000 {
        fixture.write(name, 4_000).unwrap();
        fixture.clock.advance(UPLOAD_GRACE);
        assert!(fixture.used_bytes() <= LIMIT_BYTES);
    }
    let counters = fixture.meter.read();
    assert!(counters.blobs_evicted > 900 && counters.bytes_evicted > 900 * 4_000);
    // The same for blobs that come in batches, for files and for results.
    let blobs: Vec<_> = (2_000..2_060).map(|name| blob(name, 4_000)).collect();
    assert!(fixture.store.insert(&blobs).iter().all(Result::is_ok));
    fixture.clock.advance(UPLOAD_GRACE);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    std::fs::write(&path, vec![1; 100_000]).unwrap();
    fixture.store.ingest(&path, SHA256, Sharing::Private).unwrap();
    fixture.clock.advance(UPLOAD_GRACE);
    let key = |hash| ActionKey { instance: "".into(), function: SHA256, hash: Hash(hash) };
    for name in 0..200 {
        let result = ActionResult { stdout_raw: vec![7; 10_000].into(), ..Default::default() };
        fixture.store.put(&key([name; 32]), &result).unwrap();
        fixture.clock.advance(UPLOAD_GRACE);
    }
    assert!(fixture.used_bytes() <= LIMIT_BYTES);
}

#[test]
fn sto_06_the_limit_is_held_under_concurrent_writers() {
    let fixture = Fixture::new();
    let (stop, peak) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                peak.fetch_max(fixture.used_bytes(), Ordering::Relaxed);
                fixture.clock.advance(UPLOAD_GRACE / 50);
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let write = |writer: u64| {
            let fixture = &fixture;
            move || (0..300).filter(|name| fixture.write(writer * 1_000 + name, 9_000).is_ok()).count()
        };
        let writers: Vec<_> = (0..8).map(|writer| scope.spawn(write(writer))).collect();
        let stored: usize = writers.into_iter().map(|writer| writer.join().unwrap()).sum();
        stop.store(true, Ordering::Relaxed);
        assert!(stored > 25, "more than fit at once: {stored}");
    });
    assert!(peak.into_inner() <= LIMIT_BYTES);
}

#[test]
fn sto_04_a_promise_is_not_broken_for_a_writer() {
    let fixture = Fixture::new();
    let promised: Vec<_> = (0..60).map(|name| fixture.write(name, 4_000).unwrap()).collect();
    fixture.memory.find_missing(&promised, AccessKind::Promise).unwrap();
    fixture.clock.advance(UPLOAD_GRACE);
    assert!(fixture.write(100, 100_000).is_err_and(|error| error.is_no_space()));
    let missing = fixture.memory.find_missing(&promised, AccessKind::Peek).unwrap();
    assert!(!missing.contains(&true));

    // The next writers are refused without another search.
    let begun = Stopwatch::start();
    for name in 200..1_200 {
        assert!(fixture.write(name, 100_000).is_err());
    }
    assert!(begun.elapsed() < MAKE_ROOM_MAX * 20, "refusals took {:?}", begun.elapsed());
}

#[test]
fn sto_10_a_read_neither_evicts_nor_waits_for_eviction() {
    let fixture = Fixture::new();
    let digests: Vec<_> = (0..62).map(|name| fixture.write(name, 4_000).unwrap()).collect();
    fixture.clock.advance(UPLOAD_GRACE * 10);
    // Another thread would be in the middle of a step all the while.
    let evicting = fixture.room.evictor.lock();
    for digest in &digests {
        assert!(fixture.store.open(digest, AccessKind::Use).unwrap().is_some());
        assert_eq!(fixture.store.find_missing(&[*digest], AccessKind::Promise).unwrap(), [false]);
        assert!(fixture.store.size_of(SHA256, digest.hash).unwrap().is_some());
    }
    let key = ActionKey { instance: "".into(), function: SHA256, hash: Hash([0; 32]) };
    assert_eq!(fixture.store.get(&key, AccessKind::Promise).unwrap(), None);
    drop(evicting);
    assert_eq!(fixture.meter.read().blobs_evicted, 0);
}

#[test]
fn may_block_is_true_while_writers_have_to_make_room() {
    let fixture = Fixture::new();
    assert!(!fixture.store.may_block());
    for name in 0..100 {
        fixture.write(name, 4_000).unwrap();
        fixture.clock.advance(UPLOAD_GRACE);
    }
    assert!(fixture.store.may_block(), "the last writers had to make room");
    while fixture.room.step().unwrap().more_is_due {}
    assert!(!fixture.store.may_block());
}

#[test]
fn an_error_that_is_not_about_room_is_returned_without_a_second_attempt() {
    let fixture = Fixture::new();
    let attempts = AtomicU64::new(0);
    let outcome = fixture.room.with_room(|| {
        attempts.fetch_add(1, Ordering::Relaxed);
        Err::<(), _>(StoreError::Closing)
    });
    assert!(matches!(outcome, Err(StoreError::Closing)));
    assert_eq!(attempts.into_inner(), 1);
}
