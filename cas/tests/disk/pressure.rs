//! Writers that need more room than there is, and readers that must not notice.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use kache_cas::clock::ManualClock;
use kache_cas::disk::{DiskSettings, DiskStore};
use kache_cas::evict::Catalog;
use kache_cas::leases::UPLOAD_GRACE;
use kache_cas::{AccessKind, BlobStore, Digest, Store, StoreError, StoreSettings};
use parking_lot::RwLock;

use crate::support::{BLAKE3, SHA256, bytes, read, write};

const LIMIT_BYTES: u64 = 32 << 20;

fn occupied_bytes(path: &Path) -> u64 {
    // A file may be deleted between the listing and this call.
    let Ok(metadata) = std::fs::symlink_metadata(path) else { return 0 };
    let below = std::fs::read_dir(path).into_iter().flatten().flatten();
    metadata.blocks() * 512 + below.map(|entry| occupied_bytes(&entry.path())).sum::<u64>()
}

/// Stores a blob, but makes no call while another thread holds `measuring` exclusively. That thread
/// may also get the lock between the last byte and the commit.
fn store_one(store: &Store, seed: u64, measuring: &RwLock<()>) -> Result<(Digest, Vec<u8>), StoreError> {
    let size = [900, 4_000, 40_000, 300_000][(seed % 4) as usize] + (seed / 4 % 97) as usize;
    let mut bytes = bytes((seed % 251) as u8, size);
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let digest = Digest::of(BLAKE3, &bytes);
    let writer = {
        let _shared = measuring.read();
        let mut writer = store.blobs().create(&digest)?;
        writer.write(&bytes)?;
        writer
    };
    std::thread::yield_now();
    let _shared = measuring.read();
    writer.commit()?;
    Ok((digest, bytes))
}

#[test]
fn sto_06_the_limit_holds_on_the_disk_while_writers_run() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::default());
    let settings = StoreSettings {
        limit_bytes: LIMIT_BYTES,
        reserve_bytes: 0,
        clock: clock.clone(),
        ..StoreSettings::new(dir.path())
    };
    let store = Store::open(settings).unwrap();
    let measuring = RwLock::new(());
    let (stop, most, written_bytes) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                {
                    let _exclusive = measuring.write();
                    most.fetch_max(occupied_bytes(dir.path()), Ordering::Relaxed);
                }
                store.maintain().unwrap();
                // Leases end, so that blobs may be evicted.
                clock.advance(Duration::from_secs(1_200));
            }
        });
        let writers: Vec<_> = (0..4u64)
            .map(|writer| {
                let (store, written_bytes, measuring) = (&store, &written_bytes, &measuring);
                scope.spawn(move || {
                    let mut refused = 0;
                    for number in 0..400 {
                        match store_one(store, number + writer * 100_000, measuring) {
                            Ok((digest, bytes)) => {
                                written_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                                if let Some(content) = store.blobs().open(&digest, AccessKind::Use).unwrap() {
                                    assert_eq!(content.read_all().unwrap(), bytes);
                                }
                            }
                            Err(error) if error.is_no_space() => refused += 1,
                            Err(error) => panic!("{error}"),
                        }
                    }
                    refused
                })
            })
            .collect();
        let refused: u32 = writers.into_iter().map(|writer| writer.join().unwrap()).sum();
        stop.store(true, Ordering::Relaxed);
        watcher.join().unwrap();
        assert!(refused < 400, "most find room: {refused} of 1600 were refused");
    });
    let (most, written_bytes) = (most.into_inner(), written_bytes.into_inner());
    assert!(written_bytes > 2 * LIMIT_BYTES, "more was written than fits: {written_bytes}");
    assert!(most <= LIMIT_BYTES, "{most} bytes were occupied at most, of {LIMIT_BYTES}");
    assert!(most > LIMIT_BYTES / 2, "and the room was used: {most}");
    let status = store.status();
    assert!(status.physical_bytes <= LIMIT_BYTES && status.troubles.is_empty(), "{status:?}");
    store.close().unwrap();
}

#[test]
fn sto_04_a_promised_blob_is_kept_for_three_hours_while_others_are_written() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::default());
    let settings = StoreSettings {
        limit_bytes: LIMIT_BYTES,
        reserve_bytes: 0,
        clock: clock.clone(),
        ..StoreSettings::new(dir.path())
    };
    let store = Store::open(settings).unwrap();
    let measuring = RwLock::new(());
    let promised: Vec<_> = (0..40).map(|seed| store_one(&store, seed, &measuring).unwrap()).collect();
    let digests: Vec<Digest> = promised.iter().map(|(digest, _)| *digest).collect();
    assert_eq!(store.blobs().find_missing(&digests, AccessKind::Promise).unwrap(), vec![false; 40]);
    for step in 0..200u64 {
        clock.advance(Duration::from_secs(50));
        match store_one(&store, 1_000 + step * 4 + 3, &measuring) {
            Err(error) if !error.is_no_space() => panic!("{error}"),
            _ => {}
        }
        store.maintain().unwrap();
    }
    for (digest, bytes) in &promised {
        let content = store.blobs().open(digest, AccessKind::Peek).unwrap();
        assert_eq!(content.expect("it is promised").read_all().unwrap(), bytes);
    }
    assert!(store.counters().blobs_evicted > 0, "other blobs were evicted");
}

#[test]
fn sto_04_of_a_concurrent_promise_and_deletion_only_one_succeeds() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::default());
    let store =
        DiskStore::open(DiskSettings { clock: clock.clone(), ..DiskSettings::new(dir.path()) }).unwrap();
    let (mut kept, mut deleted) = (0, 0);
    for round in 0..1_000u32 {
        let mut content = bytes(1, [100, 10_000][round as usize % 2]);
        content[..4].copy_from_slice(&round.to_le_bytes());
        let digest = write(&store, [SHA256, BLAKE3][round as usize / 2 % 2], &content);
        clock.advance(UPLOAD_GRACE);
        let seen = store.blob_entry(&digest).unwrap().unwrap();
        let barrier = Barrier::new(2);
        let (is_promised, is_deleted) = std::thread::scope(|scope| {
            let promise = scope.spawn(|| {
                barrier.wait();
                !store.find_missing(&[digest], AccessKind::Promise).unwrap()[0]
            });
            barrier.wait();
            (0..round % 40).for_each(|_| std::hint::spin_loop());
            let freed = store.delete_blob(&seen.names.blake3, seen.retention).unwrap();
            (promise.join().unwrap(), freed.is_some())
        });
        assert!(!(is_promised && is_deleted), "round {round}: what was promised was deleted");
        if is_promised {
            assert_eq!(read(&store, &digest).unwrap(), content);
            kept += 1;
        }
        deleted += u32::from(is_deleted);
    }
    assert!(kept > 0 && deleted > 0, "both happened: {kept} kept, {deleted} deleted");
}
